"""How often a classifier is right: what it answers, batch by batch, and what is counted of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.data.augmentation import view_variations
from pyalexnet.data.dataset import Dataset, labels_among
from pyalexnet.data.prefetch import AHEAD, batch_count, in_batches, read_ahead
from pyalexnet.net.classifier import Classifier
from pyalexnet.system.ranks import ALONE, Ranks

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
    """What judging a classifier by labelled images found.

    Attributes:
        views: crops by which each image was judged.
        loss: mean of -log(probability of the label).
        classes: the model's classes.
        confusion: int64 (classes, outputs): images of a class (row) for which an output (column) was the most probable.
        top5_wrong: int64 (classes,): images of each class that was not among the five most probable.
        trained_on: how many of the images the model learned from; None where that was not found out.
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


class Judged(NamedTuple):
    """A batch of images and what a classifier takes them for.

    Attributes:
        indices: intp (n,), which images of the data set they are.
        images: uint8 (n, 256, 256, 3).
        probabilities: float64 (n, outputs).
        labels: int32 (n,), the outputs that are right.
    """

    indices: npt.NDArray[np.intp]
    images: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int32]


def judge(
    model: Classifier,
    dataset: Dataset,
    *,
    batch_size: int,
    views: int = 1,
    on_images: Callable[[int], None] = lambda _count: None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Count errors and losses on labelled images.

    Ranks share the images, and each comes to the whole, to the bits of one that judges all of them.

    Args:
        model: the classifier.
        dataset: the images, with classes of the model's names.
        batch_size: images that the net computes at a time.
        views: as in :func:`pyalexnet.evaluate`.
        on_images: called with the number of images done since the last call, by all ranks together.
        ranks: those that share the images, each with the same model and data.

    Raises:
        DataError: an image cannot be read, or the model does not know a class.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    tally = Tally(model)
    judged = judged_batches(model, dataset, batch_size, views, ranks)
    own = (Answers.of(batch.probabilities, batch.labels) for batch in judged)
    for of_round in ranks.in_rounds(own, batch_count(len(dataset), batch_size)):
        for found in of_round:
            tally.count_answers(found)
        on_images(sum(len(found.labels) for found in of_round))
    return tally.evaluation(views)


def judged_batches(
    model: Classifier, dataset: Dataset, batch_size: int, views: int, ranks: Ranks = ALONE
) -> Iterator[Judged]:
    """What a classifier takes a data set's images for, in order, or a rank's part; arguments as of :func:`judge`."""
    label_of_class = labels_among(dataset, model.classes)
    batches = list(in_batches(np.arange(len(dataset)), batch_size))[ranks.rank :: ranks.size]
    buffers = model.net.image_buffers(min(batch_size, len(dataset)), AHEAD + 1)
    for indices, (images, labels) in zip(batches, read_ahead(dataset, batches, buffers=buffers), strict=True):
        yield Judged(indices, images, mean_probabilities(model, images, views), label_of_class[labels])


def mean_probabilities(model: Classifier, images: npt.NDArray[np.uint8], views: int = 1) -> npt.NDArray[np.float64]:
    """Each output's softmax, averaged over the views.

    Args:
        model: the classifier.
        images: uint8 (N, 256, 256, 3).
        views: as in :func:`pyalexnet.evaluate`.

    Returns:
        float64 (N, outputs).
    """
    variations = view_variations(len(images), views, model.net.options.crop)
    logits = model.net.forward_views([model.input_batch(images, view) for view in variations])
    return np.asarray(np.mean(list(map(_softmax, logits)), axis=0))


class Answers(NamedTuple):
    """What is counted of a batch's images.

    Attributes:
        labels: int32 (n,), the outputs that are right.
        answers: intp (n,), the outputs that count as the net's answers.
        top5_wrong: bool (n,), whether the right one is not among the five most probable.
        losses: float64 (n,), -log(probability of the label).
    """

    labels: npt.NDArray[np.int32]
    answers: npt.NDArray[np.intp]
    top5_wrong: npt.NDArray[np.bool_]
    losses: npt.NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int32]) -> Answers:
        """What images' probabilities, float64 (n, outputs), answer."""
        own, rank = probabilities[np.arange(len(labels)), labels], _rank(probabilities, labels)
        losses = -np.log(np.maximum(own, np.finfo(own.dtype).tiny))  # finite where a probability is 0
        return cls(labels, _answer(probabilities, labels, rank), rank >= 5, losses)

    def only(self, chosen: npt.NDArray[np.bool_]) -> Answers:
        """Those of some of the images, bool (n,)."""
        return Answers(self.labels[chosen], self.answers[chosen], self.top5_wrong[chosen], self.losses[chosen])


class Tally:
    """Errors and losses of the images judged so far."""

    def __init__(self, model: Classifier) -> None:
        self.classes = model.classes
        self.confusion = np.zeros((len(model.classes), model.net.num_classes), np.int64)
        self.top5_wrong = np.zeros(len(model.classes), np.int64)
        self.losses: list[npt.NDArray[np.float64]] = []

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    def count_answers(self, found: Answers) -> None:
        """Count images by what they were taken for."""
        self.losses.append(found.losses)
        np.add.at(self.confusion, (found.labels, found.answers), 1)
        np.add.at(self.top5_wrong, found.labels, found.top5_wrong)

    def evaluation(
        self,
        views: int,
        *,
        trained_on: int | None = None,
        not_checked: str = "",
        unseen: Evaluation | None = None,
    ) -> Evaluation:
        """What came out; at least one image must have been counted."""
        loss = float(np.mean(np.concatenate(self.losses)))
        return Evaluation(views, loss, self.classes, self.confusion, self.top5_wrong, trained_on, not_checked, unseen)


def wilson_interval(successes: int, count: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927), at :data:`CONFIDENCE`; from 0 to 1 where nothing was counted.

    Args:
        successes: what was counted.
        count: of how many.
    """
    if count == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, spread = successes / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt((share * (1 - share) + spread / 4) * spread) / (1 + spread)
    low = 0.0 if successes == 0 else centre - half
    return Interval(low, 1.0 if successes == count else centre + half)


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
