"""Units of a layer, each with the parts of images that excite it most: as in Zeiler & Fergus 2014, figure 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pyalexnet.architecture import Crop
from pyalexnet.data import DataSource
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.evaluation.strongest import StrongestImages
from pyalexnet.net.receptive_field import Region
from pyalexnet.study.figures.style import (
    NORMAL,
    SMALL,
    TOWER_COLOURS,
    literally,
    name_shown,
    new_figure,
    seen_by_net,
)
from pyalexnet.system.checks import each_of_kind, require, shown

_OUTSIDE = 217  # a light grey, which strokes on paper do not have


def unit_rows(found: Sequence[StrongestImages], data: DataSource, *, crop: Crop = 227) -> Figure:
    """A row for each unit: of the images that excite it most, the part that it sees where it is most active.

    All parts of a row are of one scale; what lies outside of the view that the net has of an image is light grey. Above
    each stands the image's class, where it has one, and the unit's activation.

    Args:
        found: what :func:`pyalexnet.find_strongest` returned.
        data: where it looked, to take the pictures from, named as there.
        crop: pixels a side that the net sees of an image, as its options have it.

    Raises:
        DataError: an image cannot be read.
        TypeError: an argument is of another type.
        ValueError: there are no units.
    """
    if isinstance(found, StrongestImages) or not isinstance(found, Sequence):
        raise TypeError(f"found is {shown(found)}; it must be a list of what find_strongest found")
    each_of_kind("found", found, StrongestImages)
    require(len(found) > 0, "found", found, "of one unit or more")
    dataset = as_test_dataset(data)
    columns = max(len(unit.images) for unit in found)
    figure = new_figure(0.95 * columns + 0.6, 1.25 * len(found))
    grid = figure.subplots(len(found), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for row, unit in zip(grid, found, strict=True):
        row[0].set_ylabel(f"{unit.layer}\nunit {unit.unit}", fontsize=NORMAL, color=TOWER_COLOURS[unit.tower])
        pictures, _ = dataset.batch(np.array([image.index for image in unit.images], np.intp))
        for axes, picture, image in zip(row, pictures, unit.images, strict=False):
            axes.imshow(part_seen(picture, unit.field.square(*image.position), crop), interpolation="nearest")
            title = "\n".join(filter(None, [name_shown(image.label, 14), f"{image.activation:.3g}"]))
            axes.set_title(title, fontsize=SMALL, **literally(title))
    return figure


def part_seen(picture: npt.NDArray[np.uint8], square: Region, crop: int) -> npt.NDArray[np.uint8]:
    """A square of the view that the net has of an image; light grey where it reaches beyond.

    Args:
        picture: uint8 (256, 256, 3).
        square: in pixels of the net's input.
        crop: height and width of the view, which is the picture's centre.

    Returns:
        uint8 of the square's height and width, and 3 colours.
    """
    view = seen_by_net(picture, crop)
    part = np.full((square.bottom - square.top, square.right - square.left, view.shape[2]), _OUTSIDE, np.uint8)
    top, left, bottom, right = (min(max(edge, 0), crop) for edge in square)
    inside = np.s_[top - square.top : bottom - square.top, left - square.left : right - square.left]
    part[inside] = view[top:bottom, left:right]
    return part
