"""Emoji as a colour data set: the pictures of a font, in the groups that the Unicode standard sorts them into."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from pyalexnet.data.images import decode_image
from pyalexnet.errors import DataError
from pyalexnet.system.extras import importing_extra
from pyalexnet.system.files import open_regular_file

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""Where Debian's package fonts-noto-color-emoji puts its font."""

LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
"""Where Debian's package unicode-data puts Unicode's list of emoji, with their groups and names."""

Part = Literal["train", "test"]

_HELD_OUT = 5  # one family of so many

_GROUP = re.compile(r"# group: (.+)")
_EMOJI = re.compile(r"([0-9A-F ]+?) *; fully-qualified +# \S+ E\S+ (.+)")
_SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))

# In these words differ the names of pictures that are otherwise the same: who is shown, in which colour, turned where.
_VARYING_WORDS = frozenset(
    (
        *("man", "men", "woman", "women", "person", "people", "boy", "girl", "child", "adult"),
        *("red", "orange", "yellow", "green", "blue", "purple", "brown", "pink", "grey", "black", "white"),
        *("left", "right", "up", "down", "leftwards", "rightwards", "upwards", "downwards"),
    )
)
_THUMBNAIL_SIZE = 16
_LIKE = 6  # of 255: two thumbnails that differ by less, on the mean, are of variants of one picture


class Emoji:
    """The pictures of Noto Color Emoji, 136×128 pixels, in Unicode's groups such as "Food & Drink".

    Those that differ from another in the skin's tone alone are left out: with them more than half of all were people.
    About a fifth is held out. Variants of one picture, by their names or by their looks, are held out together or not
    at all: a man and a woman of one profession, a heart in nine colours, a clock at 24 times, flags that are the same.
    """

    decodes = True  # see pyalexnet.data.kept

    def __init__(self, part: Part = "train") -> None:
        """Read the font and Unicode's list.

        Args:
            part: ``"train"``, or ``"test"`` for what is held out.

        Raises:
            DataError: Debian's packages fonts-noto-color-emoji and unicode-data are not installed, or their files
                cannot serve; the message names them.
        """
        every, held_out = _all_emoji(FONT, LIST)
        chosen = [emoji for emoji, out in zip(every, held_out, strict=True) if out == (part == "test")]
        self.classes = tuple(dict.fromkeys(emoji.group for emoji in every))
        self.labels = np.array([self.classes.index(emoji.group) for emoji in chosen], np.int32)
        self.names = [emoji.name for emoji in chosen]
        self._emoji = chosen

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`; the emoji are on white."""
        pictures = (io.BytesIO(self._emoji[index].picture) for index in indices)
        return np.stack([decode_image(picture) for picture in pictures]), self.labels[indices]


class _Listed(NamedTuple):
    """What Unicode says of an emoji."""

    characters: tuple[int, ...]
    name: str
    group: str


class _Emoji(NamedTuple):
    name: str
    group: str
    picture: bytes  # PNG


@lru_cache(maxsize=1)
def _all_emoji(font: Path, emoji_list: Path) -> tuple[list[_Emoji], list[bool]]:
    """The listed emoji that the font has a picture of, in Unicode's order, and which of them are held out.

    Raises:
        DataError: a file is missing or cannot serve; the message names it.
    """
    if missing := [str(path) for path in (font, emoji_list) if not path.is_file()]:
        raise DataError(
            f"emoji is not installed: there is no {' and no '.join(missing)}. "
            "Run: apt install fonts-noto-color-emoji unicode-data"
        )
    listed = _read_list(emoji_list)
    pictures = _read_pictures(font, [emoji.characters for emoji in listed])
    every = [
        _Emoji(emoji.name, emoji.group, picture)
        for emoji, picture in zip(listed, pictures, strict=True)
        if picture is not None
    ]
    if not every:
        raise DataError(f"{font} has a picture of none of the {len(listed)} emoji in {emoji_list}")
    return every, _held_out(every)


def _read_list(path: Path) -> list[_Listed]:
    """Unicode's emoji, without skins' tones."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    listed, group = [], ""
    for line in lines:
        if heading := _GROUP.fullmatch(line):
            group = heading[1]
        elif emoji := _EMOJI.fullmatch(line):
            characters = tuple(int(number, 16) for number in emoji[1].split())
            if _SKIN_TONES.isdisjoint(characters):
                listed.append(_Listed(characters, emoji[2], group))
    return listed


def _read_pictures(path: Path, emoji: Iterable[Sequence[int]]) -> list[bytes | None]:
    """A font's pictures of emoji, given their characters, as PNG; None for those that it has none of."""
    with importing_extra():
        from fontTools.ttLib import TTFont

    try:
        with open_regular_file(path) as file, TTFont(file, lazy=True) as font:
            glyph_of = font.getBestCmap()
            bitmaps = font["CBDT"].strikeData[0]
            ligatures = {
                (first, *ligature.Component): ligature.LigGlyph
                for lookup in font["GSUB"].table.LookupList.Lookup
                for subtable in lookup.SubTable
                for first, beginning_so in getattr(subtable, "ligatures", {}).items()
                for ligature in beginning_so
            }
            pictures = []
            for characters in emoji:
                # A character without a glyph is the one that asks for colour where there is a plain form too.
                glyphs = tuple(glyph_of[character] for character in characters if character in glyph_of)
                name = glyphs[0] if len(glyphs) == 1 else ligatures.get(glyphs)
                pictures.append(bytes(bitmaps[name].imageData) if name in bitmaps else None)
            return pictures
    except MemoryError:  # it says nothing about the font
        raise
    except Exception as error:  # fontTools raises whatever a broken font makes it stumble over
        raise DataError(f"cannot read {path} as a font of colour bitmaps: {error!r}") from error


def _held_out(every: Sequence[_Emoji]) -> list[bool]:
    """Whether each emoji is held out: by the name of its family's first, so that new families move no other."""
    first: dict[int, str] = {}
    families = [first.setdefault(family, emoji.name) for emoji, family in zip(every, _families(every), strict=True)]
    return [hashlib.sha256(family.encode()).digest()[0] % _HELD_OUT == 0 for family in families]


def _families(every: Sequence[_Emoji]) -> npt.NDArray[np.int32]:
    """The family of each emoji: those that share a name but for what varies, or look alike, and all linked by such."""
    from scipy.sparse.csgraph import connected_components  # here, since SciPy takes a moment
    from scipy.spatial.distance import pdist, squareform

    numbers = np.unique([_family_name(emoji.name) for emoji in every], return_inverse=True)[1]
    thumbnails = np.stack([_thumbnail(emoji).ravel() for emoji in every])
    differences = squareform(pdist(thumbnails, "cityblock")) / thumbnails.shape[1]
    akin = (differences < _LIKE) | (numbers[:, None] == numbers)
    families: npt.NDArray[np.int32] = connected_components(akin, directed=False)[1]
    return families


def _family_name(name: str) -> str:
    """An emoji's name without what varies: "firefighter" of "woman firefighter", "heart" of "red heart"."""
    kind, *_ = name.partition(": ")
    if kind == "flag":
        return name
    return " ".join(word for word in re.split(r"[\s-]", kind) if word not in _VARYING_WORDS)


def _thumbnail(emoji: _Emoji) -> npt.NDArray[np.float64]:
    """An emoji's colours on white, the mean of each field of a grid: float64 (16, 16, 3).

    No library's resampling is in it, so that every version finds the same families.
    """
    try:
        with Image.open(io.BytesIO(emoji.picture), formats=("PNG",)) as image:
            pixels = np.asarray(image.convert("RGBA"), np.int64)
    except MemoryError:  # it says nothing about the picture
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them stumble over
        raise DataError(f"cannot read the picture of {emoji.name!r} in {FONT}: {error}") from error
    colours, opacity = pixels[..., :3], pixels[..., 3:]
    on_white = colours * opacity + 255 * (255 - opacity)
    height, width = opacity.shape[:2]
    rows, columns = (np.arange(_THUMBNAIL_SIZE) * side // _THUMBNAIL_SIZE for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(on_white, rows, axis=0), columns, axis=1)
    areas = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    means: npt.NDArray[np.float64] = sums / (255 * areas[..., None])
    return means
