"""Images beside their occlusion maps: figure 6, (a) and (d), of Zeiler & Fergus 2014."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyalexnet.data.pictures import Pictures
from pyalexnet.evaluation.occlusion import OcclusionMap
from pyalexnet.evaluation.predict import as_images
from pyalexnet.study.figures.style import (
    NORMAL,
    ORANGE,
    SMALL,
    literally,
    name_shown,
    new_figure,
    seen_by_net,
    show_picture,
)
from pyalexnet.system.checks import one_each

_COLUMNS = 2  # pairs in a row


def occlusion_panel(images: Pictures, found: Sequence[OcclusionMap]) -> Figure:
    """The part of each image that the net sees, and beside it the class's probability by the place of the square.

    A cell of a map lies where the square's middle was, and colours go from 0 to 1 in all of them; the frame in the
    image's corner has the square's size.

    Args:
        images: as :func:`pyalexnet.predict` takes them.
        found: what :func:`pyalexnet.occlusion_maps` found for them.

    Raises:
        DataError: an image cannot be read.
        TypeError: an argument is of another type.
        ValueError: there are not as many maps as images.
    """
    pixels = as_images(images)
    one_each("found", found, len(pixels), "image", kind=OcclusionMap)
    pairs = min(_COLUMNS, len(pixels))
    rows = -(-len(pixels) // pairs)
    figure = new_figure(3.9 * pairs + 0.5, 2.15 * rows)
    grid = figure.subplots(rows, 2 * pairs, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (picture, occluded) in enumerate(zip(pixels, found, strict=True)):
        left, right = grid[number // pairs, 2 * (number % pairs) : 2 * (number % pairs) + 2]
        show_picture(left, seen_by_net(picture, occluded.crop))
        _frame_square(left, occluded.size)
        title = f"{name_shown(occluded.label, 18)}  {occluded.probability:.1%}"
        left.set_title(title, fontsize=NORMAL, **literally(title))
        side = occluded.stride * len(occluded.probabilities)
        drawn = right.imshow(
            occluded.probabilities, cmap="viridis", vmin=0, vmax=1, extent=(0, side, side, 0), interpolation="nearest"
        )
        right.set_xlim(0, occluded.crop)
        right.set_ylim(occluded.crop, 0)
        right.set_title(f"lowest  {occluded.probabilities.min():.1%}", fontsize=NORMAL)
    bar = figure.colorbar(drawn, ax=grid, shrink=0.8, pad=0.01)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label("probability of the class", fontsize=SMALL)
    return figure


def _frame_square(axes: Axes, size: int) -> None:
    axes.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False, edgecolor=ORANGE, linewidth=1))
