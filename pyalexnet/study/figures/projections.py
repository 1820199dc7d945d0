"""What in images excites units: the pictures beside the patches of Zeiler & Fergus 2014, figure 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyalexnet.architecture import Crop
from pyalexnet.data.pictures import Pictures
from pyalexnet.evaluation.predict import as_images
from pyalexnet.evaluation.projection import Projection
from pyalexnet.net.receptive_field import Region
from pyalexnet.study.figures.style import SMALL, TOWER_COLOURS, new_figure, seen_by_net, show_picture
from pyalexnet.system.checks import one_each

_BRIGHTEST = 99.5  # per cent of a picture's values that are not cut off


def projection_panel(images: Pictures, found: Sequence[Sequence[Projection]], *, crop: Crop = 227) -> Figure:
    """The part of each image that the net sees, and beside it for each unit what it sees of it, above its projection.

    A frame of the tower's colour stands around each unit's part of the image. Projections are grey where nothing came
    back, and each has its own scale, red, green and blue alike.

    Args:
        images: as :func:`pyalexnet.predict` takes them.
        found: what :func:`pyalexnet.project_units` found in them.
        crop: pixels a side that the net sees of an image, as its options have it.

    Raises:
        DataError: an image cannot be read.
        TypeError: an argument is of another type.
        ValueError: there are not as many lists of projections as images.
    """
    pixels = as_images(images)
    one_each("found", found, len(pixels), "image", kind=Sequence)
    columns = 1 + max(map(len, found))
    figure = new_figure(1.35 * columns, 2.95 * len(pixels))
    grid = figure.subplots(2 * len(pixels), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (picture, projections) in enumerate(zip(pixels, found, strict=True)):
        above, below = grid[2 * number : 2 * number + 2]
        view = seen_by_net(picture, crop)
        for axes in above:
            axes.set_anchor("S")  # parts of different heights stand close to their projections
        for axes in below:
            axes.set_anchor("N")
        show_picture(above[0], view)
        for upper, lower, projection in zip(above[1:], below[1:], projections, strict=False):
            region = Region(*(min(edge, crop) for edge in projection.region))
            inside = np.s_[region.top : region.bottom, region.left : region.right]
            colour = TOWER_COLOURS[projection.tower]
            _frame(above[0], region, colour)
            show_picture(upper, view[inside])
            title = f"{projection.layer} unit {projection.unit}\n{projection.activation:.3g}"
            upper.set_title(title, fontsize=SMALL, color=colour)
            show_picture(lower, as_picture(projection.pixels[inside]))
    return figure


def as_picture(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Values of either sign as a picture: 0 becomes grey, 0.5, and all but the largest lie within 0 to 1.

    Args:
        values: float32 (height, width, 3).
    """
    scale = np.percentile(np.abs(values), _BRIGHTEST) or np.abs(values).max() or 1.0
    return np.asarray(np.clip(0.5 + 0.5 * values / scale, 0, 1), np.float32)


def _frame(axes: Axes, region: Region, colour: str) -> None:
    width, height = region.right - region.left, region.bottom - region.top
    axes.add_patch(
        Rectangle((region.left - 0.5, region.top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=1)
    )
