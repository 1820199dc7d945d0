"""A run's learning curves: loss and error over its steps, the changes of the learning rate marked."""

from __future__ import annotations

from os import PathLike

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyalexnet.study.figures.style import BLUE, GREY, NORMAL, ORANGE, SMALL, new_figure
from pyalexnet.training.record import RunRecord, StepLog, as_run

# The training loss is shown as a mean over this part of the steps.
_SMOOTHED_PART = 1 / 100

# More changes of the rate than this are not written beside their lines.
_RATES_WRITTEN = 8


def learning_curves(run: RunRecord | str | PathLike[str]) -> Figure:
    """Training and held-out loss above, held-out error below; a dotted line where the learning rate changes.

    Args:
        run: a run's folder, or what :func:`pyalexnet.load_run` found in it.

    Raises:
        DataError: the folder holds no run, or a file of it is damaged; the message names it.
        TypeError: ``run`` is neither.
    """
    run = as_run(run)
    figure = new_figure(7.5, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.4, 1])
    _show_losses(above, run)
    _show_error(below, run)
    for axes in (above, below):
        _mark_rates(axes, run.log, written=axes is above)
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    below.set_xlabel("steps", fontsize=NORMAL)
    below.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return figure


def smoothed(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """The mean of each value and those before it, as many as the window holds."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: npt.NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _show_losses(axes: Axes, run: RunRecord) -> None:
    log = run.log
    if len(log.steps):
        window = max(1, round(len(log.steps) * _SMOOTHED_PART))
        axes.plot(log.steps, log.losses, color=BLUE, alpha=0.2, linewidth=0.6)
        label = "training" if window == 1 else f"training, mean of {window} steps"
        axes.plot(log.steps, smoothed(log.losses, window), color=BLUE, linewidth=1.4, label=label)
    else:
        axes.plot(
            [record.steps for record in run.history],
            [record.train_loss for record in run.history],
            color=BLUE,
            marker="o",
            markersize=4,
            label="training, mean of each epoch",
        )
    measured = [(record.steps, record.validation_loss) for record in run.history if record.validation_loss is not None]
    if measured:
        axes.plot(*zip(*measured, strict=True), color=ORANGE, marker="o", markersize=4, label="held out")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("loss", fontsize=NORMAL)
    axes.legend(fontsize=SMALL, frameon=False)


def _show_error(axes: Axes, run: RunRecord) -> None:
    measured = [
        (record.steps, 100 * record.validation_error) for record in run.history if record.validation_error is not None
    ]
    axes.set_ylabel("held-out error (%)", fontsize=NORMAL)
    if not measured:
        axes.text(0.5, 0.5, "no images were held out", ha="center", transform=axes.transAxes, fontsize=NORMAL)
        return
    steps, errors = zip(*measured, strict=True)
    axes.plot(steps, errors, color=ORANGE, marker="o", markersize=4)
    best = int(np.argmin(errors))
    axes.annotate(
        f"{errors[best]:.2f}%",
        (steps[best], errors[best]),
        xytext=(0, 6),
        textcoords="offset points",
        ha="right" if steps[best] > run.steps / 2 else "left",
        fontsize=SMALL,
    )
    axes.set_ylim(bottom=0)


def _mark_rates(axes: Axes, log: StepLog, *, written: bool) -> None:
    changes = np.flatnonzero(np.diff(log.rates)) + 1
    for place in changes:
        axes.axvline(log.steps[place], color=GREY, linestyle=":", linewidth=1)
        if written and len(changes) <= _RATES_WRITTEN:
            axes.annotate(
                f"lr {log.rates[place]:g}",
                (log.steps[place], 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
                fontsize=SMALL,
                color=GREY,
            )
