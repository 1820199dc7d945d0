"""What a classifier sees in images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.data.augmentation import require_views
from pyalexnet.data.pictures import Pictures, listed, prepared_or_error
from pyalexnet.data.prefetch import in_batches, prefetch
from pyalexnet.data.readable import OnError, reported
from pyalexnet.errors import DataError
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import mean_probabilities
from pyalexnet.net.model_file import as_model
from pyalexnet.system.checks import at_least, callback


class Prediction(NamedTuple):
    """A class that an image may show."""

    label: str
    probability: float


def predict(
    model: Classifier | str | PathLike[str],
    images: Pictures,
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
        views: as in :func:`pyalexnet.evaluate`.
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


def as_images(images: Pictures) -> npt.NDArray[np.uint8]:
    """Images as :func:`predict` takes them, brought to uint8 (N, 256, 256, 3).

    Raises:
        DataError: an image cannot be read, or an array is no image; or there is none.
        TypeError: they are no images.
    """
    return np.stack([image for image in readable_images(images, "stop") if image is not None])


def readable_images(images: Pictures, on_error: OnError) -> list[npt.NDArray[np.uint8] | None]:
    """Images as :func:`as_images` brings them, one by one; None for those that cannot be read and are skipped.

    Raises:
        DataError: there is none, or one cannot be read and is to stop.
        TypeError: they are no images.
    """
    given = listed(images)
    if not given:
        raise DataError("there are no images; there must be at least one")
    found: list[npt.NDArray[np.uint8] | None] = []
    with reported(on_error, depth=2) as report:
        for image in map(prepared_or_error, given):
            if isinstance(image, DataError):
                report(image)
            found.append(None if isinstance(image, DataError) else image)
    return found


def _predictions(
    model: Classifier,
    images: Sequence[object],
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
