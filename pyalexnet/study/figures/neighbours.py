"""Images, each with the ones nearest to it in a layer's outputs: figure 4 (right) of Krizhevsky et al. 2012."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pyalexnet.data import DataSource
from pyalexnet.data.opening import as_dataset
from pyalexnet.data.pictures import Pictures
from pyalexnet.evaluation.neighbours import Neighbour
from pyalexnet.evaluation.predict import as_images
from pyalexnet.study.figures.style import NORMAL, SMALL, literally, name_shown, new_figure, show_picture
from pyalexnet.system.checks import one_each


def neighbour_rows(
    queries: Pictures, found: Sequence[Sequence[Neighbour]], data: DataSource, labels: Sequence[str] | None = None
) -> Figure:
    """A row for each query: the query itself, then its neighbours, the nearest first.

    Args:
        queries: images as :func:`pyalexnet.predict` takes them.
        found: what :func:`pyalexnet.find_neighbours` found for them.
        data: where it looked, to take the pictures from.
        labels: the class of each query.

    Raises:
        DataError: an image cannot be read.
        TypeError: an argument is of another type.
        ValueError: there are not as many lists or labels as queries.
    """
    pixels = as_images(queries, "queries")
    one_each("found", found, len(pixels), "query", kind=Sequence)
    if labels is not None:
        one_each("labels", labels, len(pixels), "query", kind=str)
    dataset = as_dataset(data)
    columns = 1 + max(map(len, found))
    figure = new_figure(1.15 * columns, 1.45 * len(pixels))
    grid = figure.subplots(len(pixels), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (row, query, near) in enumerate(zip(grid, pixels, found, strict=True)):
        show_picture(row[0], query)
        title = "query" if labels is None else name_shown(labels[number], 16)
        row[0].set_title(title, fontsize=NORMAL, weight="bold", **literally(title))
        pictures, _ = dataset.batch(np.array([neighbour.index for neighbour in near], np.intp))
        for axes, picture, neighbour in zip(row[1:], pictures, near, strict=False):
            show_picture(axes, picture)
            title = f"{name_shown(neighbour.label, 16)}\n{neighbour.distance:.1f}"
            axes.set_title(title, fontsize=SMALL, **literally(title))
    return figure
