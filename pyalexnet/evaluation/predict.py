"""What a classifier sees in images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.data.augmentation import require_views
from pyalexnet.data.pictures import Pictures, listed, prepared_or_error
from pyalexnet.data.prefetch import batch_count, in_batches, prefetch
from pyalexnet.data.readable import OnError, reported
from pyalexnet.errors import DataError
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.sharing import agree_on, heard_of_first
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import mean_probabilities
from pyalexnet.net.model_file import as_model
from pyalexnet.system.checks import at_least, callback
from pyalexnet.system.ranks import Ranks, join_ranks


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
    batch_size: int = BATCH_SIZE,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> list[list[Prediction]]:
    """The most probable classes of images.

    Processes that a launcher of MPI started share the images; all call this alike, and get the same result.

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
    ranks = join_ranks()
    with ranks.ending_together():
        top, batch_size, views = at_least("top", top, 1), at_least("batch_size", batch_size, 1), require_views(views)
        callback("on_images", on_images)
        on_images = heard_of_first(ranks, on_images)
        model, given = as_model(model, local_rank=ranks.local_rank), listed(images)
        settings = {"top": top, "views": views, "batch_size": batch_size, "on_error": on_error}
        agree_on(ranks, model, given, settings)
        own = _predictions(model, given, top, views, batch_size, ranks)
        predictions: list[list[Prediction]] = []
        with reported(on_error, ranks=ranks) as report:
            for of_round in ranks.in_rounds(own, batch_count(len(given), batch_size)):
                for found in itertools.chain.from_iterable(of_round):
                    if isinstance(found, DataError):
                        report(found)
                    predictions.append([] if isinstance(found, DataError) else found)
                on_images(sum(map(len, of_round)))
        return predictions


def as_images(images: Pictures, name: str = "images") -> npt.NDArray[np.uint8]:
    """Images as :func:`predict` takes them, brought to uint8 (N, 256, 256, 3); messages call the argument by its name.

    Raises:
        DataError: an image cannot be read, or an array is no image; or there is none.
        TypeError: they are no images.
    """
    return np.stack([image for image in readable_images(images, "stop", name) if image is not None])


def readable_images(images: Pictures, on_error: OnError, name: str = "images") -> list[npt.NDArray[np.uint8] | None]:
    """Images as :func:`as_images` brings them, one by one; None for those that cannot be read and are skipped.

    Raises:
        DataError: there is none, or one cannot be read and is to stop.
        TypeError: they are no images.
    """
    given = listed(images, name)
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
    ranks: Ranks,
) -> Iterator[list[list[Prediction] | DataError]]:
    """For each image of this rank's batches its classes, or why it cannot be read."""

    def prepare(indices: npt.NDArray[np.intp]) -> list[npt.NDArray[np.uint8] | DataError]:
        return [prepared_or_error(images[index]) for index in indices]

    batches = list(in_batches(np.arange(len(images)), batch_size))[ranks.rank :: ranks.size]
    for batch in prefetch(prepare, batches):
        readable = [image for image in batch if not isinstance(image, DataError)]
        found = iter(mean_probabilities(model, np.stack(readable), views) if readable else ())
        yield [
            image if isinstance(image, DataError) else _most_probable_classes(model, next(found), top)
            for image in batch
        ]


def _most_probable_classes(model: Classifier, probabilities: npt.NDArray[np.float64], top: int) -> list[Prediction]:
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(model.class_name(output), float(probabilities[output])) for output in best]
