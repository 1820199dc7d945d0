"""What all figures share: colours that the colour-blind tell apart, and pictures without axes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.system.names import printable, shorten

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
TOWER_COLOURS = (BLUE, ORANGE)

SMALL, NORMAL = 7, 9

# Matplotlib's own, which has a box for every character.
_NO_GLYPHS = ("Last Resort High-Efficiency",)


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure whose parts make room for each other; it is no part of pyplot and needs no screen."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def show_picture(axes: Axes, pixels: npt.NDArray[Any]) -> None:
    """Fill axes with a picture, and hide their frame, ticks and numbers."""
    axes.imshow(pixels, interpolation="nearest")
    axes.set_axis_off()


def seen_by_net(picture: npt.NDArray[np.uint8], crop: int) -> npt.NDArray[np.uint8]:
    """The centre of an image, uint8 (256, 256, 3), of so many pixels a side, as the net judges it."""
    start = (IMAGE_SIZE - crop) // 2
    return picture[start : start + crop, start : start + crop]


def name_shown(name: str, length: int) -> str:
    """A name as figures show it: at most so many characters, those that no font here has as escapes."""
    known = (char if _family_with(char) is not None else ascii(char)[1:-1] for char in printable(name))
    return shorten("".join(known), length)


def literally(text: str) -> dict[str, Any]:
    """Arguments of Matplotlib's for a text with names in it: a ``$`` begins no formula, and all have a font."""
    further = dict.fromkeys(family for char in text if char != "\n" and (family := _family_with(char)))
    return {
        "parse_math": False,
        "usetex": False,
        "fontfamily": [*font_manager.FontProperties().get_family(), *further],
    }


@cache
def _family_with(char: str) -> str | None:
    """The family of an installed font that has a character; "" where the usual one has it, None where none has."""
    if ord(char) in _characters(font_manager.findfont(font_manager.FontProperties())):
        return ""
    fonts = [font for font in font_manager.fontManager.ttflist if font.style == "normal"]
    found = (font.name for font in fonts if font.name not in _NO_GLYPHS and ord(char) in _characters(font.fname))
    return next(found, None)


@cache
def _characters(path: str) -> frozenset[int]:
    """The characters that a font file has; none where Matplotlib cannot use it."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):  # there is no such file any more, or it has no outlines
        return frozenset()
