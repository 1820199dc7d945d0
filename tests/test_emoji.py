"""The emoji of a font: what is read, what belongs together, what a missing or broken file is told."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17
from fontTools.ttLib.tables.E_B_L_C_ import BitmapSizeTable, SbitLineMetrics, Strike, eblc_index_sub_table_1
from PIL import Image

from pyalexnet.data import as_dataset, emoji
from pyalexnet.data.emoji import Emoji
from pyalexnet.data.opening import as_test_dataset, held_out_part
from pyalexnet.errors import DataError

DEBIANS = emoji.FONT, emoji.LIST

LIST = """\
# emoji-test.txt
# group: Smileys & Emotion

# subgroup: face-smiling
1F600                ; fully-qualified     # 😀 E1.0 grinning face
263A FE0F            ; fully-qualified     # ☺️ E0.6 smiling face
263A                 ; unqualified         # ☺ E0.6 smiling face

# group: People & Body
1F44B 1F3FB          ; fully-qualified     # 👋🏻 E1.0 waving hand: light skin tone
1F468 200D 1F692     ; fully-qualified     # 👨‍🚒 E4.0 man firefighter
# group: Component
1F3FB                ; component           # 🏻 E1.0 light skin tone
# group: Food & Drink
1F34F                ; fully-qualified     # 🍏 E0.6 green apple
1FADC                ; fully-qualified     # 🫜 E16.0 root vegetable
"""

Picture = Image.Image
Characters = tuple[int, ...]


def plain(colour: Sequence[int]) -> Picture:
    return Image.new("RGBA", (136, 128), tuple(colour))


def noise(seed: int) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 17, 3), np.uint8)
    return Image.fromarray(pixels).resize((136, 128), Image.Resampling.NEAREST)


def png(picture: Picture) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def write_font(path: Path, pictures: Mapping[Characters, bytes]) -> None:
    """A font as Noto Color Emoji is one: a picture a glyph, and a glyph of its own for what several characters make."""
    plain_characters = {character for emoji in pictures for character in emoji} - {0xFE0F}
    emoji_of_several = [emoji for emoji in pictures if len(set(emoji) - {0xFE0F}) > 1]
    order = [".notdef", *(glyph((character,)) for character in sorted(plain_characters)), *map(glyph, emoji_of_several)]
    builder = FontBuilder(1024, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap({character: glyph((character,)) for character in plain_characters})
    rules = (f"sub {' '.join(glyph((part,)) for part in emoji)} by {glyph(emoji)};" for emoji in emoji_of_several)
    addOpenTypeFeaturesFromString(builder.font, f"feature ccmp {{ sub .notdef by .notdef; {' '.join(rules)} }} ccmp;")
    data, places = newTable("CBDT"), newTable("CBLC")
    data.version = places.version = 3.0
    data.strikeData = [{glyph(emoji): bitmap(builder, picture) for emoji, picture in pictures.items()}]
    index = eblc_index_sub_table_1(b"", builder.font)
    index.names = [name for name in order if name in data.strikeData[0]]
    index.indexFormat, index.imageFormat = 1, 17
    places.strikes = [strike(index)]
    builder.font["CBDT"], builder.font["CBLC"] = data, places
    builder.font.save(path)


def glyph(emoji: Characters) -> str:
    return "_".join(f"u{character:X}" for character in emoji if character != 0xFE0F)


def bitmap(builder: FontBuilder, picture: bytes) -> cbdt_bitmap_format_17:
    made = cbdt_bitmap_format_17(b"", builder.font)
    made.imageData, made.metrics = picture, SmallGlyphMetrics()
    for name in ("height", "width", "BearingX", "BearingY", "Advance"):
        setattr(made.metrics, name, 0)
    return made


def strike(index: eblc_index_sub_table_1) -> Strike:
    made, size, line = Strike(), BitmapSizeTable(), SbitLineMetrics()
    names = "ascender descender widthMax caretSlopeNumerator caretSlopeDenominator caretOffset minOriginSB minAdvanceSB"
    for name in [*names.split(), "maxBeforeBL", "minAfterBL", "pad1", "pad2"]:
        setattr(line, name, 0)
    size.colorRef = size.startGlyphIndex = size.endGlyphIndex = 0
    size.ppemX = size.ppemY = 109
    size.bitDepth, size.flags, size.hori, size.vert = 32, 1, line, line
    made.bitmapSizeTable, made.indexSubTables = size, [index]
    return made


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places where the files are not yet."""
    monkeypatch.setattr(emoji, "FONT", tmp_path / "NotoColorEmoji.ttf")
    monkeypatch.setattr(emoji, "LIST", tmp_path / "emoji-test.txt")


def install(pictures: Mapping[Characters, Picture], text: str = LIST) -> None:
    write_font(emoji.FONT, {characters: png(picture) for characters, picture in pictures.items()})
    emoji.LIST.write_text(text, encoding="utf-8")


def listed(*names: str) -> str:
    """A list of emoji of these names, in one group."""
    lines = (f"{0x1F600 + n:X} ; fully-qualified # x E1.0 {name}" for n, name in enumerate(names))
    return "\n".join(["# group: All", *lines])


def families(pictures: Sequence[Picture], names: Sequence[str]) -> list[list[str]]:
    every = [emoji._Emoji(name, "All", png(picture)) for name, picture in zip(names, pictures, strict=True)]
    found = emoji._families(every)
    return [[name for name, family in zip(names, found, strict=True) if family == number] for number in set(found)]


def test_emoji_are_read_with_their_groups_names_and_pictures() -> None:
    pictures = {
        (0x1F600,): plain((255, 0, 0, 255)),
        (0x263A, 0xFE0F): plain((0, 255, 0, 255)),
        (0x1F44B, 0x1F3FB): plain((1, 1, 1, 255)),
        (0x1F468, 0x200D, 0x1F692): plain((0, 0, 255, 255)),
        (0x1F34F,): plain((0, 0, 0, 0)),
    }
    install(pictures)
    found = {}
    for part in (Emoji(), Emoji("test")):
        assert part.classes == ("Smileys & Emotion", "People & Body", "Food & Drink")
        pixels, labels = part.batch(np.arange(len(part))) if len(part) else (np.empty((0, 256, 256, 3)), [])
        assert list(labels) == part.labels.tolist()
        assert len(part) == len(set(part.names)) == len(part.names)
        for name, label, image in zip(part.names, labels, pixels, strict=True):
            assert image.shape == (256, 256, 3)
            found[name] = part.classes[label], tuple(image[128, 128].tolist())
    # Without the skin's tone, the unqualified spelling, and the vegetable that the font has no picture of.
    assert found == {
        "grinning face": ("Smileys & Emotion", (255, 0, 0)),
        "smiling face": ("Smileys & Emotion", (0, 255, 0)),
        "man firefighter": ("People & Body", (0, 0, 255)),
        "green apple": ("Food & Drink", (255, 255, 255)),
    }


def test_emoji_by_name() -> None:
    names = [f"thing number {chr(97 + n)}" for n in range(26)]
    install({(0x1F600 + n,): noise(n) for n in range(26)}, listed(*names))
    training, held_out = as_dataset("emoji"), held_out_part("emoji")
    assert isinstance(training, Emoji)
    assert isinstance(held_out, Emoji)
    assert sorted([*training.names, *held_out.names]) == names
    assert training.names == sorted(training.names)  # Unicode's order
    assert 1 <= len(held_out) < len(training)
    test = as_test_dataset("emoji")
    assert isinstance(test, Emoji)
    assert test.names == held_out.names


def test_the_split_does_not_change_with_what_else_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"thing number {chr(97 + n)}" for n in range(26)]
    pictures = {(0x1F600 + n,): noise(n) for n in range(26)}
    install(pictures, listed(*names))
    before = Emoji("test").names
    monkeypatch.setattr(emoji, "LIST", tmp_path / "longer.txt")
    install({**pictures, (0x1F61A,): noise(26)}, listed(*names, "another thing"))
    assert [name for name in Emoji("test").names if name != "another thing"] == before


def test_names_that_differ_in_who_which_colour_or_which_way_are_one_family() -> None:
    names = [
        *("man firefighter", "woman firefighter", "firefighter"),
        *("kiss: woman, man", "kiss: man, man"),
        *("red heart", "blue heart"),
        *("up-right arrow", "down arrow"),
        *("flag: Chad", "flag: Peru"),
        *("grinning face", "face"),
    ]
    found = families([noise(n) for n in range(len(names))], names)
    together = [names[0:3], names[3:5], names[5:7], names[7:9], *([name] for name in names[9:])]
    assert sorted(found) == sorted(together)


def test_pictures_that_look_alike_are_one_family_and_so_are_links_in_a_chain() -> None:
    def grey(value: int) -> Picture:
        return plain((value, value, value, 255))

    pictures = [grey(100), grey(105), grey(110), grey(116), noise(1), noise(1), noise(2)]
    names = ["a", "b", "c", "d", "e", "f", "g"]
    assert sorted(families(pictures, names)) == [["a", "b", "c"], ["d"], ["e", "f"], ["g"]]


def test_what_is_transparent_looks_white() -> None:
    colours = [(255, 0, 0, 0), (0, 0, 255, 0), (255, 255, 255, 255), (255, 0, 0, 255), (255, 0, 0, 128)]
    assert sorted(families([plain(colour) for colour in colours], list("abcde"))) == [["a", "b", "c"], ["d"], ["e"]]


def test_families_are_never_parted() -> None:
    names = [f"{who} number {chr(97 + n)}" for n in range(26) for who in ("man", "woman")]
    install({(0x1F600 + n,): noise(n) for n in range(52)}, listed(*names))
    training, held_out = Emoji(), Emoji("test")
    for part in (training, held_out):
        assert len(part) > 0
        assert {name[-1] for name in part.names if name.startswith("man")} == {
            name[-1] for name in part.names if name.startswith("woman")
        }


def test_what_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(DataError, match=f"no {emoji.FONT} and no {emoji.LIST}. Run: apt install fonts-noto.* unicode"):
        as_dataset("emoji")
    install({(0x1F600,): noise(1)})
    emoji.FONT.unlink()
    with pytest.raises(DataError, match=rf"there is no {emoji.FONT}\. Run: apt install"):
        held_out_part("emoji")


@pytest.mark.parametrize("content", [b"", b"no font", b"\x00\x01\x00\x00" + bytes(8)])
def test_a_broken_font_is_named(content: bytes) -> None:
    install({(0x1F600,): noise(1)})
    emoji.FONT.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read {emoji.FONT} as a font of colour bitmaps: "):
        Emoji()


def test_a_broken_picture_is_named() -> None:
    install({(0x1F600,): noise(1)})
    write_font(emoji.FONT, {(0x1F600,): png(noise(1))[:100]})
    with pytest.raises(DataError, match=f"cannot read the picture of 'grinning face' in {emoji.FONT}: "):
        Emoji()


def test_a_list_that_cannot_serve_is_named() -> None:
    install({(0x1F600,): noise(1)}, "# nothing")
    with pytest.raises(DataError, match=f"{emoji.FONT} has a picture of none of the 0 emoji in {emoji.LIST}"):
        Emoji()
    emoji.LIST.write_bytes(b"\xff")
    with pytest.raises(DataError, match=f"cannot read {emoji.LIST}: "):
        Emoji()


@pytest.mark.skipif(
    not all(path.is_file() for path in DEBIANS),
    reason="needs Debian's packages fonts-noto-color-emoji and unicode-data",
)
def test_debians_emoji(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in zip(("FONT", "LIST"), DEBIANS, strict=True):
        monkeypatch.setattr(emoji, name, path)
    training, held_out = Emoji(), Emoji("test")
    assert len(training.classes) == 9
    assert len(training) + len(held_out) >= 1800
    share = np.bincount(held_out.labels) / (np.bincount(training.labels) + np.bincount(held_out.labels))
    assert (share > 0.1).all()
    assert (share < 0.3).all()
    group = {name: training.classes[label] for name, label in zip(training.names, training.labels, strict=True)}
    group |= {name: training.classes[label] for name, label in zip(held_out.names, held_out.labels, strict=True)}
    assert group["grinning face"] == "Smileys & Emotion"
    assert group["flag: Wales"] == "Flags"  # of seven characters
    assert group["woman firefighter"] == "People & Body"
    for family in (
        ("firefighter", "man firefighter", "woman firefighter"),
        ("red heart", "green heart", "black heart"),
        ("twelve-thirty", "six-thirty"),
        ("flag: Norway", "flag: Bouvet Island"),
    ):
        assert len({name in held_out.names for name in family}) == 1
