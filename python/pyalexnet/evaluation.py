"""How often a classifier is right, and what it sees in an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.checks import at_least, callback, flag
from pyalexnet.classifier import Classifier
from pyalexnet.data import DataSource
from pyalexnet.data.augmentation import require_views, view_variations
from pyalexnet.data.dataset import as_test_dataset, labels_among
from pyalexnet.data.pictures import listed, prepared, prepared_or_error
from pyalexnet.data.prefetch import AHEAD, in_batches, prefetch, read_ahead
from pyalexnet.data.readable import OnError, readable, reported
from pyalexnet.errors import DataError
from pyalexnet.model_file import as_model
from pyalexnet.own_data import held_out_images, trained_on

CONFIDENCE = 0.95
"""Of the intervals around errors: how often such an interval holds the true error."""


class Interval(NamedTuple):
    """The range that holds the true value with a probability of :data:`CONFIDENCE`."""

    low: float
    high: float


@dataclass(frozen=True)
class ClassResult:
    """Errors among the images of one class; NaN where there are none.

    Attributes:
        name: the class.
        count: its images.
        top1_error: the part of them for which another class was the most probable.
        top5_error: the part of them for which it was not among the five most probable.
        top1_interval: around ``top1_error``.
        top5_interval: around ``top5_error``.
    """

    name: str
    count: int
    top1_error: float
    top5_error: float
    top1_interval: Interval
    top5_interval: Interval


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        views: crops by which each image was judged.
        loss: mean of -log(probability of the label).
        classes: the model's classes.
        confusion: int64 (classes, outputs): images of a class (row) for which an output (column) was the most probable.
        top5_wrong: int64 (classes,): images of each class that was not among the five most probable.
        trained_on: how many of the images the model learned from (:mod:`pyalexnet.own_data`); None where that was not
            found out.
        not_checked: why it was not; "" where it was.
        unseen: the same of the images alone that the model did not learn from, where it learned from some of them.
    """

    views: int
    loss: float
    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    top5_wrong: npt.NDArray[np.int64]
    trained_on: int | None = None
    not_checked: str = ""
    unseen: Evaluation | None = None

    def __repr__(self) -> str:
        if not self.count:
            return "<Evaluation of no images>"
        return (
            f"<Evaluation of {self.count:,} images of {len(self.classes)} classes, views {self.views}: top-1 error "
            f"{self.top1_error:.2%}, top-5 error {self.top5_error:.2%}, loss {self.loss:.4f}>"
        )

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def top1_error(self) -> float:
        """The part of the images whose label is not the most probable class."""
        return self._top1_wrong / self.count

    @property
    def top5_error(self) -> float:
        """The part of the images whose label is not among the five most probable classes."""
        return int(self.top5_wrong.sum()) / self.count

    @property
    def top1_interval(self) -> Interval:
        """Around :attr:`top1_error`."""
        return wilson_interval(self._top1_wrong, self.count)

    @property
    def top5_interval(self) -> Interval:
        """Around :attr:`top5_error`."""
        return wilson_interval(int(self.top5_wrong.sum()), self.count)

    @property
    def accuracy(self) -> float:
        """The part of the images whose label is the most probable class."""
        return 1 - self.top1_error

    def by_class(self) -> list[ClassResult]:
        """The errors class by class, in the model's order."""
        results = []
        for label, name in enumerate(self.classes):
            count, top5_wrong = int(self.confusion[label].sum()), int(self.top5_wrong[label])
            top1_wrong = count - int(self.confusion[label, label])
            results.append(
                ClassResult(
                    name=name,
                    count=count,
                    top1_error=top1_wrong / count if count else math.nan,
                    top5_error=top5_wrong / count if count else math.nan,
                    top1_interval=wilson_interval(top1_wrong, count),
                    top5_interval=wilson_interval(top5_wrong, count),
                )
            )
        return results

    @property
    def overlap(self) -> str:
        """In words, how many of the images the model learned from."""
        if self.trained_on is None:
            return f"whether the model was trained on some of these images was not checked: {self.not_checked}"
        number = f"{self.trained_on:,}" if self.trained_on else "none"
        return f"{number} of {self.count:,} images {'was' if self.trained_on == 1 else 'were'} trained on"

    @property
    def _top1_wrong(self) -> int:
        return self.count - int(np.trace(self.confusion))


class Prediction(NamedTuple):
    """A class that an image may show."""

    label: str
    probability: float


def evaluate(
    model: Classifier | str | PathLike[str],
    data: DataSource | None = None,
    *,
    batch_size: int = 64,
    views: int = 1,
    overlap: bool | None = None,
    on_error: OnError = "stop",
    on_stage: Callable[[str, int], None] = lambda _stage, _count: None,
    on_images: Callable[[int], None] = lambda _count: None,
) -> Evaluation:
    """Measure a classifier on labelled images.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        data: labelled images, named as for :func:`pyalexnet.train`, with classes of the model's names; of data with a
            held-out part of its own that part, of ``"digits"`` what training by default holds out. By default the
            images that the model's own run held out.
        batch_size: images that the net computes at a time.
        views: 1 judges the centre of each image; 5 averages the probabilities over the centre and the four
            corners; 10 over these and their mirror images, as the paper does. Mirror images serve only where left
            and right do not matter: not for writing.
        overlap: whether to find out which of the images the model learned from. That may take reading all of its
            training images; None: if there are not over :data:`pyalexnet.own_data.MOST_COMPARED` to be read.
        on_error: what an image does that cannot be read: ``"stop"`` raises; with ``"skip"`` all such are found first,
            and left out with a warning that names them; or what is to be called with the error of each.
        on_stage: called with what begins and how many images it will go through.
        on_images: called with the number of images done since the last call.

    Raises:
        DataError: the data cannot serve, or has a class that the model does not know; or there is no ``data``, and the
            run's own held-out images are not known, not there or not as they were.
        ValueError: ``batch_size`` or ``views`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    batch_size, views = at_least("batch_size", batch_size, 1), require_views(views)
    overlap = None if overlap is None else flag("overlap", overlap)
    callback("on_stage", on_stage)
    callback("on_images", on_images)
    model = as_model(model)
    dataset = held_out_images(model) if data is None else as_test_dataset(data)
    dataset = readable(dataset, on_error, on_stage=on_stage, on_images=on_images)
    label_of_class = labels_among(dataset, model.classes)
    known = trained_on(model, dataset, asked=overlap, on_stage=on_stage, on_images=on_images)
    everything, unseen = _Tally(model), _Tally(model)
    batches = list(in_batches(np.arange(len(dataset)), batch_size))
    buffers = model.net.image_buffers(min(batch_size, len(dataset)), AHEAD + 1)
    on_stage("evaluating", len(dataset))
    for indices, (images, labels) in zip(batches, read_ahead(dataset, batches, buffers=buffers), strict=True):
        probabilities, expected = mean_probabilities(model, images, views), label_of_class[labels]
        everything.add(probabilities, expected)
        new = ~known.among(indices, images)
        unseen.add(probabilities[new], expected[new])
        on_images(len(labels))
    if known.not_checked:
        return everything.evaluation(views, not_checked=known.not_checked)
    learned = everything.count - unseen.count
    apart = unseen.evaluation(views, trained_on=0) if learned and unseen.count else None
    return everything.evaluation(views, trained_on=learned, unseen=apart)


def wilson_interval(successes: int, count: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927), at :data:`CONFIDENCE`; from 0 to 1 where nothing was counted.

    Args:
        successes: what was counted.
        count: of how many.
    """
    from scipy.stats import binomtest  # here, since it takes half a second

    if count == 0:
        return Interval(0.0, 1.0)
    found = binomtest(successes, count).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def predict(
    model: Classifier | str | PathLike[str],
    images: Any,
    *,
    top: int = 5,
    views: int = 1,
    batch_size: int = 64,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> list[list[Prediction]]:
    """The most probable classes of images.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        images: images, each a path, an open file or its bytes, an image of Pillow's, or a uint8 array (H, W) or
            (H, W, 3) of NumPy, PyTorch, CuPy or the like; a single one may stand alone.
        top: how many classes to name for each image.
        views: as in :func:`evaluate`.
        batch_size: images that the net computes at a time.
        on_error: what an image does that cannot be read: ``"stop"`` raises; with ``"skip"`` it has no classes, and a
            warning counts and names all such; with a function likewise, which is called with the error of each instead.
        on_images: called with the number of images done since the last call.

    Returns:
        For each image its classes, the most probable first.

    Raises:
        DataError: an image cannot be read, or an array is no image, and ``on_error`` is ``"stop"``.
        TypeError: an argument is of another type.
        ValueError: ``top``, ``views`` or ``batch_size`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    top, batch_size, views = at_least("top", top, 1), at_least("batch_size", batch_size, 1), require_views(views)
    callback("on_images", on_images)
    model, given = as_model(model), listed(images)
    with reported(on_error) as report:
        return list(_predictions(model, given, top, views, batch_size, report, on_images))


def as_images(images: Any) -> npt.NDArray[np.uint8]:
    """Images as :func:`predict` takes them, brought to uint8 (N, 256, 256, 3).

    Raises:
        DataError: an image cannot be read, or an array is no image; or there is none.
        TypeError: they are no images.
    """
    given = listed(images)
    if not given:
        raise DataError("there are no images; there must be at least one")
    return np.stack([prepared(image) for image in given])


def mean_probabilities(model: Classifier, images: npt.NDArray[np.uint8], views: int = 1) -> npt.NDArray[np.float64]:
    """Each output's softmax, averaged over the views.

    Args:
        model: the classifier.
        images: uint8 (N, 256, 256, 3).
        views: as in :func:`evaluate`.

    Returns:
        float64 (N, outputs).
    """
    variations = view_variations(len(images), views, model.net.options.crop)
    by_view = [_softmax(model.net.forward(model.input_batch(images, view))) for view in variations]
    return np.asarray(np.mean(by_view, axis=0))


class _Tally:
    """Errors and losses of the images judged so far."""

    def __init__(self, model: Classifier) -> None:
        self.classes = model.classes
        self.confusion = np.zeros((len(model.classes), model.net.num_classes), np.int64)
        self.top5_wrong = np.zeros(len(model.classes), np.int64)
        self.losses: list[npt.NDArray[np.float64]] = []

    @property
    def count(self) -> int:
        return int(self.confusion.sum())

    def add(self, probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int32]) -> None:
        """Count images by their probabilities, float64 (n, outputs), and labels, int32 (n,)."""
        own = probabilities[np.arange(len(labels)), labels]
        self.losses.append(-np.log(np.maximum(own, np.finfo(own.dtype).tiny)))  # finite where a probability is 0
        rank = _rank(probabilities, labels)
        np.add.at(self.confusion, (labels, _answer(probabilities, labels, rank)), 1)
        np.add.at(self.top5_wrong, labels, rank >= 5)

    def evaluation(self, views: int, **overlap: Any) -> Evaluation:
        """What came out; at least one image must have been counted."""
        loss = float(np.mean(np.concatenate(self.losses)))
        return Evaluation(views, loss, self.classes, self.confusion, self.top5_wrong, **overlap)


def _predictions(
    model: Classifier,
    images: Sequence[Any],
    top: int,
    views: int,
    batch_size: int,
    report: Callable[[DataError], None],
    on_images: Callable[[int], None],
) -> Iterator[list[Prediction]]:
    def prepare(indices: npt.NDArray[np.intp]) -> list[npt.NDArray[np.uint8] | DataError]:
        return [prepared_or_error(images[index]) for index in indices]

    for batch in prefetch(prepare, in_batches(np.arange(len(images)), batch_size)):
        for error in batch:
            if isinstance(error, DataError):
                report(error)
        readable = [image for image in batch if not isinstance(image, DataError)]
        found = iter(mean_probabilities(model, np.stack(readable), views) if readable else ())
        for image in batch:
            yield [] if isinstance(image, DataError) else _most_probable_classes(model, next(found), top)
        on_images(len(batch))


def _most_probable_classes(model: Classifier, probabilities: npt.NDArray[np.float64], top: int) -> list[Prediction]:
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(model.class_name(output), float(probabilities[output])) for output in best]


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # logits that are not finite give NaN, which counts as wrong
        powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _answer(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int32], rank: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """The output that counts as the net's answer: the label's where that is first, never where it is not."""
    others = np.nan_to_num(probabilities, nan=-1.0)
    others[np.arange(len(labels)), labels] = -2.0
    return np.where(rank == 0, labels, others.argmax(axis=1))


def _rank(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
    """How many outputs come before the label's: the more probable and, among equals, those of lower index.

    Comparisons are written so that a NaN counts as wrong.
    """
    own = probabilities[np.arange(len(labels)), labels, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    return np.asarray(np.count_nonzero(~(probabilities <= own) | ((probabilities == own) & before), axis=1))
