"""How often a classifier is right, and what it sees in an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.classifier import Classifier
from pyalexnet.data import DataSource
from pyalexnet.data.augmentation import view_variations
from pyalexnet.data.dataset import as_test_dataset, labels_among
from pyalexnet.data.images import fit_image, read_image
from pyalexnet.data.prefetch import AHEAD, in_batches, prefetch, read_ahead
from pyalexnet.errors import DataError


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        count: number of images.
        top1_error: the part of them whose label is not the most probable class.
        top5_error: the part of them whose label is not among the five most probable classes.
        loss: mean of -log(probability of the label).
    """

    count: int
    top1_error: float
    top5_error: float
    loss: float

    @property
    def accuracy(self) -> float:
        """The part of the images whose label is the most probable class."""
        return 1 - self.top1_error


class Prediction(NamedTuple):
    """A class that an image may show."""

    label: str
    probability: float


def evaluate(
    model: Classifier,
    data: DataSource | None = None,
    *,
    batch_size: int = 64,
    views: int = 1,
    on_images: Callable[[int], None] = lambda _count: None,
) -> Evaluation:
    """Measure a classifier on labelled images.

    Args:
        model: what :func:`pyalexnet.train` or :func:`pyalexnet.load_model` returned.
        data: labelled images, named as for :func:`pyalexnet.train`, with classes of the model's names. Data with a
            held-out part of its own is judged by that part, the digits (default) by what training by default holds out.
        batch_size: images that the net computes at a time.
        views: 1 judges the centre of each image; 5 averages the probabilities over the centre and the four
            corners; 10 over these and their mirror images, as the paper does. Mirror images serve only where left
            and right do not matter: not for writing.
        on_images: called with the number of images done since the last call.

    Raises:
        DataError: the data cannot serve, or has a class that the model does not know.
        ValueError: ``batch_size`` or ``views`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    require_batch_size(batch_size)
    dataset = as_test_dataset(data)
    label_of_class = labels_among(dataset, model.classes)
    losses, ranks = [], []
    batches = in_batches(np.arange(len(dataset)), batch_size)
    buffers = model.net.image_buffers(min(batch_size, len(dataset)), AHEAD + 1)
    for images, labels in read_ahead(dataset, batches, buffers=buffers):
        probabilities = mean_probabilities(model, images, views)
        expected = label_of_class[labels]
        own = probabilities[np.arange(len(labels)), expected]
        losses.append(-np.log(np.maximum(own, np.finfo(own.dtype).tiny)))  # finite where a probability is 0
        ranks.append(_rank(probabilities, expected))
        on_images(len(labels))
    rank = np.concatenate(ranks)
    return Evaluation(
        count=len(rank),
        top1_error=float(np.mean(rank >= 1)),
        top5_error=float(np.mean(rank >= 5)),
        loss=float(np.mean(np.concatenate(losses))),
    )


def predict(
    model: Classifier,
    images: Any,
    *,
    top: int = 5,
    views: int = 1,
    batch_size: int = 64,
) -> list[list[Prediction]]:
    """The most probable classes of images.

    Args:
        model: what :func:`pyalexnet.train` or :func:`pyalexnet.load_model` returned.
        images: paths of image files, or uint8 arrays (H, W) or (H, W, 3); a single path or array may stand
            alone.
        top: how many classes to name for each image.
        views: as in :func:`evaluate`.
        batch_size: images that the net computes at a time.

    Returns:
        For each image its classes, the most probable first.

    Raises:
        DataError: an image cannot be read, or an array is no image.
        ValueError: ``top``, ``views`` or ``batch_size`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    require_batch_size(batch_size)
    if top < 1:
        raise ValueError(f"top is {top}; it must be at least 1")
    return list(_predictions(model, _as_list(images), top, views, batch_size))


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


def require_batch_size(batch_size: int) -> None:
    """Refuse a batch size below 1.

    Raises:
        ValueError: it is.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")


def _predictions(
    model: Classifier, images: Sequence[Any], top: int, views: int, batch_size: int
) -> Iterator[list[Prediction]]:
    def prepare(indices: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        return np.stack([_prepared(images[index]) for index in indices])

    for batch in prefetch(prepare, in_batches(np.arange(len(images)), batch_size)):
        for probabilities in mean_probabilities(model, batch, views):
            best = np.argsort(-probabilities, kind="stable")[:top]
            yield [Prediction(model.class_name(output), float(probabilities[output])) for output in best]


def _as_list(images: Any) -> list[Any]:
    alone = isinstance(images, str | PathLike) or (isinstance(images, np.ndarray) and images.ndim == 2)
    if alone or (isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] == 3):
        return [images]
    return list(images)


def _prepared(image: Any) -> npt.NDArray[np.uint8]:
    if isinstance(image, str | PathLike):
        return read_image(fspath(image))
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise DataError(f"an image has dtype {pixels.dtype}; it must be uint8, pixels from 0 to 255")
    if 0 in pixels.shape or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise DataError(f"an image has shape {pixels.shape}; it must be (H, W) or (H, W, 3)")
    return fit_image(pixels)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # logits that are not finite give NaN, which counts as wrong
        powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _rank(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
    """How many outputs come before the label's: the more probable and, among equals, those of lower index.

    Comparisons are written so that a NaN counts as wrong.
    """
    own = probabilities[np.arange(len(labels)), labels, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    return np.asarray(np.count_nonzero(~(probabilities <= own) | ((probabilities == own) & before), axis=1))
