"""What all figures share: colours that the colour-blind tell apart, and pictures without axes."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8A8A"
TOWER_COLOURS = (BLUE, ORANGE)

SMALL, NORMAL = 7, 9


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure whose parts make room for each other; it is no part of pyplot and needs no screen."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def show_picture(axes: Axes, pixels: npt.NDArray[Any]) -> None:
    """Fill axes with a picture, and hide their frame, ticks and numbers."""
    axes.imshow(pixels, interpolation="nearest")
    axes.set_axis_off()


def shorten(text: str, length: int) -> str:
    """At most so many characters; what is longer ends in an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
