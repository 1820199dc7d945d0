"""Images with the net's five most probable classes as bars: figure 4 (left) of Krizhevsky et al. 2012."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyalexnet.data.pictures import Pictures
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.predict import Prediction, as_images, predict
from pyalexnet.net.classifier import Classifier
from pyalexnet.study.figures.style import (
    BLUE,
    GREY,
    NORMAL,
    ORANGE,
    SMALL,
    literally,
    name_shown,
    new_figure,
    show_picture,
)
from pyalexnet.system.checks import one_each
from pyalexnet.system.ranks import working_alone

_COLUMNS = 4
_TOP = 5


def prediction_panel(
    model: Classifier | str | PathLike[str],
    images: Pictures,
    labels: Sequence[str] | None = None,
    *,
    views: int = 1,
    batch_size: int = BATCH_SIZE,
) -> Figure:
    """Each image above its five most probable classes, the right one in orange where it is known.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        images: as :func:`pyalexnet.predict` takes them; the paper shows eight.
        labels: the class of each image.
        views: crops by which each is judged, as in :func:`pyalexnet.evaluate`.
        batch_size: images that the net computes at a time.

    Raises:
        DataError: an image cannot be read.
        TypeError: an argument is of another type.
        ValueError: there are not as many labels as images.
    """
    pixels = as_images(images)
    if labels is not None:
        one_each("labels", labels, len(pixels), "image", "names", str)
    with working_alone():
        predictions = predict(model, pixels, top=_TOP, views=views, batch_size=batch_size)
    columns = min(_COLUMNS, len(pixels))
    rows = -(-len(pixels) // columns)
    figure = new_figure(1.9 * columns, 2.9 * rows)
    grid = figure.subplots(2 * rows, columns, height_ratios=[1.9, 1] * rows, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (picture, found) in enumerate(zip(pixels, predictions, strict=True)):
        above, below = grid[2 * (number // columns) : 2 * (number // columns) + 2, number % columns]
        label = None if labels is None else labels[number]
        show_picture(above, picture)
        if label is not None:
            title = name_shown(label, 24)
            above.set_title(title, fontsize=NORMAL, **literally(title))
        _show_bars(below, found, label)
    return figure


def _show_bars(axes: Axes, found: Sequence[Prediction], label: str | None) -> None:
    axes.set_axis_on()
    places = range(len(found))
    unlike = GREY if label is not None else BLUE
    colours = [ORANGE if prediction.label == label else unlike for prediction in found]
    axes.barh(places, [prediction.probability for prediction in found], color=colours, alpha=0.55, height=0.85)
    for place, prediction in zip(places, found, strict=True):
        text = f"{name_shown(prediction.label, 18)}  {prediction.probability:.1%}"
        axes.text(0.02, place, text, va="center", fontsize=SMALL, **literally(text))
    axes.set_xlim(0, 1)
    axes.set_ylim(_TOP - 0.4, -0.6)  # the most probable on top
    axes.set_xticks([])
    axes.set_yticks([])
