"""conv1's filters, tower 0 above tower 1: figure 3 of Krizhevsky et al. 2012, with a measure of their colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import as_model
from pyalexnet.study.figures.style import GREY, NORMAL, SMALL, TOWER_COLOURS, new_figure, show_picture

RANDOM_COLOUR_INDEX = float(np.sqrt(2 / 3))
"""What random weights come to: two of the three directions of a colour are away from grey."""

LEARNED = 0.25
"""From which smoothness on a filter counts as learned; 363 random weights come to 0 ± 0.04."""

_COLUMNS = 16
_GAP = 1  # pixels between filters
_WHITE = 1.0


@dataclass(frozen=True)
class ColourIndex:
    """How colourful a tower's filters are.

    Attributes:
        tower: 0 or 1.
        values: the index of each filter.
        learned: whether each has learned, so that its index tells of more than the random weights that it began with.
    """

    tower: int
    values: tuple[float, ...]
    learned: tuple[bool, ...]

    @property
    def median(self) -> float:
        """The filters' median."""
        return float(np.median(self.values))

    @property
    def learned_count(self) -> int:
        """How many filters have learned."""
        return sum(self.learned)

    @property
    def learned_median(self) -> float:
        """The median of the filters that have learned; NaN where none has."""
        values = np.array(self.values)[np.array(self.learned)]
        return float(np.median(values)) if len(values) else float("nan")


def colour_index(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """How far each filter is from grey: the part of its norm that is not the same in red, green and blue.

    A filter w is grey + chroma, with grey its mean over the three colours. The index is ‖chroma‖ / ‖w‖: 0 for a filter
    that looks at brightness alone, 1 for one that looks at differences of colours alone, and about 0.82, the square
    root of two thirds, for random weights.

    Args:
        weights: float32 (height, width, 3, filters).

    Returns:
        float64 (filters,); NaN for a filter of zeros.
    """
    w = weights.astype(np.float64)
    chroma = w - w.mean(axis=2, keepdims=True)
    with np.errstate(invalid="ignore"):
        index: npt.NDArray[np.float64] = np.linalg.norm(chroma.reshape(-1, w.shape[-1]), axis=0) / np.linalg.norm(
            w.reshape(-1, w.shape[-1]), axis=0
        )
    return index


def smoothness(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """How much alike a filter's neighbouring weights are: the mean of their products over the mean of the squares.

    It is about 0 for random weights and 1 for equal ones, and in a sum of both it is the smooth part's share of the
    squares.

    Args:
        weights: float32 (height, width, 3, filters).

    Returns:
        float64 (filters,); NaN for a filter of zeros.
    """
    w = weights.astype(np.float64)
    beside, below = w[:, 1:] * w[:, :-1], w[1:] * w[:-1]
    with np.errstate(invalid="ignore"):
        alike: npt.NDArray[np.float64] = (beside.mean(axis=(0, 1, 2)) + below.mean(axis=(0, 1, 2))) / (
            2 * np.square(w).mean(axis=(0, 1, 2))
        )
    return alike


def colour_by_tower(model: Classifier | str | PathLike[str]) -> list[ColourIndex]:
    """The colour index of conv1's filters, and which of them have learned, tower by tower.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
    """
    model = as_model(model)
    weights = model.net.parameters()["conv1.weight"]
    towers = model.net.options.towers
    index, learned = np.split(colour_index(weights), towers), np.split(smoothness(weights) >= LEARNED, towers)
    return [ColourIndex(tower, tuple(index[tower].tolist()), tuple(learned[tower].tolist())) for tower in range(towers)]


def filter_pictures(model: Classifier | str | PathLike[str]) -> Figure:
    """conv1's filters as pictures, tower 0 above tower 1, and the colour index of each.

    Each filter is stretched to the whole range from black to white by itself. The index of one that has not learned is
    drawn as a ring.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
    """
    model = as_model(model)
    towers = colour_by_tower(model)
    pictures = np.split(model.net.parameters()["conv1.weight"], len(towers), axis=-1)
    figure = new_figure(7.5, 1.75 * len(towers) + 1.6)
    rows = figure.subplots(len(towers) + 1, 1, height_ratios=[1.75] * len(towers) + [1.3])
    for axes, tower, weights in zip(rows, towers, pictures, strict=False):
        show_picture(axes, mosaic(weights))
        axes.set_title(_title(tower), fontsize=NORMAL, loc="left", color=TOWER_COLOURS[tower.tower])
    _show_index(rows[-1], towers)
    return figure


def mosaic(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Filters (height, width, 3, n) side by side in rows, each stretched to 0 … 1, on white."""
    height, width, colours, count = weights.shape
    rows = -(-count // _COLUMNS)
    picture = np.full((rows * (height + _GAP) - _GAP, _COLUMNS * (width + _GAP) - _GAP, colours), _WHITE)
    for number in range(count):
        one = weights[..., number].astype(np.float64)
        low, high = one.min(), one.max()
        top, left = number // _COLUMNS * (height + _GAP), number % _COLUMNS * (width + _GAP)
        picture[top : top + height, left : left + width] = (one - low) / (high - low) if high > low else 0.5
    return picture


def _title(tower: ColourIndex) -> str:
    title = f"tower {tower.tower}: median colour index {tower.median:.2f}"
    if not tower.learned_count:
        return f"{title}; none of {len(tower.values)} filters has learned"
    return f"{title}; {tower.learned_median:.2f} of the {tower.learned_count} of {len(tower.values)} that have learned"


def _show_index(axes: Axes, towers: Sequence[ColourIndex]) -> None:
    for tower in towers:
        colour, height = TOWER_COLOURS[tower.tower], len(towers) - 1 - tower.tower
        values, learned = np.array(tower.values), np.array(tower.learned)
        axes.scatter(values[learned], np.full(tower.learned_count, height), s=14, alpha=0.5, linewidths=0, color=colour)
        rings = values[~learned]
        axes.scatter(rings, np.full(len(rings), height), s=14, alpha=0.5, facecolors="none", edgecolors=colour)
        axes.plot([tower.median] * 2, height + np.array([-0.35, 0.35]), color=colour, linewidth=2)
    axes.axvline(RANDOM_COLOUR_INDEX, color=GREY, linestyle=":", linewidth=1)
    axes.annotate(
        "random",
        (RANDOM_COLOUR_INDEX, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -3),
        textcoords="offset points",
        va="top",
        fontsize=SMALL,
        color=GREY,
    )
    axes.set_yticks(range(len(towers)), [f"tower {tower.tower}" for tower in reversed(towers)], fontsize=SMALL)
    axes.set_ylim(-0.6, len(towers) - 0.4)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel("colour index of each filter: 0 grey, 1 colour alone", fontsize=NORMAL)
    axes.spines[["top", "right"]].set_visible(False)
