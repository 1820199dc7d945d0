"""How alike layers are: each one's dissimilarity matrix (Kriegeskorte 2008), and a table of layers (Kornblith 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyalexnet.evaluation.choices import MEASURE_NAMES, MEASURES, Measure
from pyalexnet.evaluation.similarity import Matrix, Similarity
from pyalexnet.study.figures.style import NORMAL, SMALL, literally, name_shown, new_figure
from pyalexnet.system.checks import require, shown

_TITLES: dict[Measure, str] = {**MEASURE_NAMES, "rsa": "RSA: Spearman's correlation of dissimilarities"}
_MOST_CLASSES_NAMED = 12
_RDM_INCHES, _MOST_RDM_INCHES, _CELL_INCHES, _LEAST_WIDTH_INCHES = 1.3, 2.0, 0.45, 5.0


def similarity_panel(found: Similarity, measure: Measure = "cka") -> Figure:
    """The layers' dissimilarity matrices above, a net's in a row, and how alike each two layers are below.

    Images stand in the order that they were given, by :func:`pyalexnet.similarity.compare_nets` class by class; colours
    of each matrix go from 0 to its own largest distance.

    Args:
        found: what :func:`pyalexnet.similarity.compare` or :func:`pyalexnet.similarity.compare_nets` returned.
        measure: which of its measures the table shows.

    Raises:
        TypeError: ``found`` is none.
        ValueError: there is no such measure.
    """
    if not isinstance(found, Similarity):
        raise TypeError(f"found is {shown(found)}; it must be a Similarity")
    require(measure in MEASURES, "measure", measure, f"one of {', '.join(map(repr, MEASURES))}")
    nets = [found.rdms, found.other_rdms] if found.of_two_nets else [found.rdms]
    columns = max(map(len, nets))
    width = max(_RDM_INCHES * columns, _LEAST_WIDTH_INCHES)
    heights = [min(width / columns, _MOST_RDM_INCHES)] * len(nets) + [1.0 + _CELL_INCHES * len(found.layers)]
    figure = new_figure(width, sum(heights) + 0.3)
    *above, below = figure.subfigures(len(nets) + 1, 1, height_ratios=heights, squeeze=False)[:, 0]
    for number, (part, rdms) in enumerate(zip(above, nets, strict=True)):
        grid = part.subplots(1, columns, squeeze=False)[0]
        _show_rdms(grid, rdms, found)
        grid[0].set_ylabel("" if len(nets) == 1 else ("the net", "the other")[number], fontsize=NORMAL)
    _show_table(below.subplots(), found, measure)
    return figure


def _show_rdms(grid: Sequence[Axes], rdms: Mapping[str, Matrix], found: Similarity) -> None:
    for axes in grid[len(rdms) :]:
        axes.set_axis_off()
    for axes, (name, matrix) in zip(grid, rdms.items(), strict=False):
        axes.imshow(matrix, cmap="viridis", vmin=0, interpolation="nearest")
        title = f"{name}\nto {matrix.max():.3g}"
        axes.set_title(title, fontsize=SMALL, **literally(title))
        axes.set_xticks([])
        axes.set_yticks([])
    _name_classes(grid[0], found)


def _name_classes(axes: Axes, found: Similarity) -> None:
    """The classes beside the first matrix, each in the middle of its images, where these stand class by class."""
    labels = found.labels
    present, counts = np.unique(labels, return_counts=True)
    if not 1 < len(present) <= _MOST_CLASSES_NAMED or (np.diff(labels) < 0).any() or present[0] < 0:
        return
    axes.set_yticks(np.cumsum(counts) - (counts + 1) / 2)
    names = [name_shown(found.classes[label], 10) for label in present]
    axes.set_yticklabels(names, fontsize=SMALL - 1, **literally("".join(names)))
    axes.tick_params(length=0)


def _show_table(axes: Axes, found: Similarity, measure: Measure) -> None:
    values = found.values[measure]
    axes.imshow(np.clip(values, 0, 1), cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=SMALL, color=colour)
    for names, set_ticks, rotation in (
        (found.other_layers, axes.set_xticks, 45),
        (found.layers, axes.set_yticks, 0),
    ):
        shown = [name_shown(name, 16) for name in names]
        set_ticks(range(len(shown)), shown, fontsize=SMALL, rotation=rotation, **literally("".join(shown)))
    if found.of_two_nets:
        axes.set_xlabel("the other", fontsize=NORMAL)
        axes.set_ylabel("the net", fontsize=NORMAL)
    of_rsa = f" ({found.distance})" if measure == "rsa" else ""
    axes.set_title(f"{_TITLES[measure]}{of_rsa}; {found.count} images", fontsize=NORMAL)
