"""The images of the run that a model is of: what it is judged by where nothing else is named, and what it learned from.

An image was *trained on* if it is one of the run's training images: by its place where both are parts of the same data,
which costs nothing; else by content, the 256×256 pixels that a net's crops are taken from. That finds copies in other
folders, under other names and in prepared sets, but not pictures cut or compressed anew. It reads every training image
once, about as long as a tenth of an epoch takes, and is left undone where there are over :data:`MOST_COMPARED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyalexnet.data import Dataset, ImageArrays, Subset
from pyalexnet.data.choice import DataChoice, DataDescription, choose_data, data_as_before, data_changes
from pyalexnet.data.dataset import image_names
from pyalexnet.data.prefetch import shared_out
from pyalexnet.errors import DataError
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.origin import DataOrigin
from pyalexnet.system.ranks import ALONE, Ranks
from pyalexnet.training.record import load_data_description

MOST_COMPARED = 10_000
"""Training images whose contents are looked at without being asked to: half a minute for photographs on two cores."""

_PART = 8  # images that a thread reads at a time


@dataclass(frozen=True)
class TrainedOn:
    """Which images of a data set a model learned from.

    Attributes:
        places: bool (N,), for each image of the data set; None where contents tell.
        contents: the training images'; None where places tell.
        not_checked: why neither is known; "" where it is.
    """

    places: npt.NDArray[np.bool_] | None = None
    contents: frozenset[bytes] | None = None
    not_checked: str = ""

    def among(self, indices: npt.NDArray[np.intp], images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """For some images of the data set whether the model learned from them; never where that is not known.

        Args:
            indices: their places, intp (n,).
            images: their pixels, uint8 (n, 256, 256, 3).

        Returns:
            bool (n,).
        """
        if self.places is not None:
            return self.places[indices]
        if self.contents is not None:
            return np.array([content in self.contents for content in _contents(images)], bool)
        return np.zeros(len(indices), bool)


def data_of_run(model: Classifier) -> DataChoice:
    """The images of the run that a model is of, as they were chosen then.

    Raises:
        DataError: they are not known, not there, or have changed; the message says which.
    """
    about = _description(model)
    if about["source"] is None:
        raise DataError("the run learned from arrays, which have no name")
    try:
        chosen = choose_data(*data_as_before(None, None, about), 0.0, unreadable=about.get("unreadable"))
    except (DataError, OSError) as error:
        raise DataError(f"the run's images are not where they were: {error}") from error
    if changes := data_changes(about, chosen.description):
        raise DataError(f"the run's images in {about['source']} have changed: {'; '.join(changes)}")
    return chosen


def held_out_images(model: Classifier) -> Dataset:
    """The images that the run held out, to judge its model by.

    Raises:
        DataError: there are none, or :func:`data_of_run` does not find them.
    """
    return _or_asked_for(lambda: _required(data_of_run(model).held_out))


def held_out_name(model: Classifier) -> str:
    """What :func:`held_out_images` are, in words, without paths.

    Raises:
        DataError: they are not known.
    """
    return DataOrigin.of(_description(model)).held_out_name


def training_images(model: Classifier) -> Dataset:
    """The images that the run learned from, to look at or to search in.

    Raises:
        DataError: :func:`data_of_run` does not find them.
    """
    return _or_asked_for(lambda: data_of_run(model).training)


def trained_on(
    model: Classifier,
    judged: Dataset,
    *,
    asked: bool | None = None,
    on_stage: Callable[[str, int], None] = lambda _stage, _count: None,
    on_images: Callable[[int], None] = lambda _count: None,
    ranks: Ranks = ALONE,
) -> TrainedOn:
    """Find out which images of a data set a model learned from; ranks share the reading, and all come to the same.

    Args:
        model: the model.
        judged: the data set.
        asked: whether to find out; None: unless over :data:`MOST_COMPARED` training images would have to be read.
        on_stage: called with what begins, if that takes time, and how many images it will go through.
        on_images: called with the number of images done since the last call, by all ranks together.
        ranks: who share the reading, each with the same model and data set.

    Raises:
        ValueError: the training images are others on another rank, or are not there.
    """
    known = _without_reading(model, judged, asked)
    if isinstance(known, TrainedOn):
        ranks.agree({"what the model learned from": known.not_checked})
        return known
    ranks.agree({"what the model learned from": known.description["training"]})
    training = known.training
    on_stage("reading the training images", len(training))

    def contents_or_error(part: npt.NDArray[np.intp]) -> list[bytes] | DataError:
        try:
            return list(_contents(training.batch(part)[0]))
        except DataError as error:
            return error

    found: set[bytes] = set()
    for contents in shared_out(contents_or_error, len(training), _PART, on_images=on_images, ranks=ranks):
        if isinstance(contents, DataError):
            return TrainedOn(not_checked=str(contents))
        found.update(contents)
    return TrainedOn(contents=frozenset(found))


def _without_reading(model: Classifier, judged: Dataset, asked: bool | None) -> TrainedOn | DataChoice:
    """What is known without reading images, or why nothing is; else the run's images, which are to be read."""
    if asked is False:
        return TrainedOn(not_checked="it was not asked for")
    try:
        chosen = data_of_run(model)
    except DataError as error:
        return TrainedOn(not_checked=str(error))
    data, indices = _whole(judged)
    for part, is_training in ((chosen.training, True), (chosen.held_out, False)):
        if part is not None and _is_same(data, _whole(part)[0]):
            places = np.zeros(len(data), bool)
            if is_training:
                places[_whole(part)[1]] = True
            return TrainedOn(places=places[indices])
    count = len(chosen.training)
    if asked is None and count > MOST_COMPARED:
        return TrainedOn(not_checked=f"{count:,} training images would have to be read")
    return chosen


def _description(model: Classifier) -> DataDescription:
    about = model.learned_from
    if isinstance(about, Path):
        about = load_data_description(about)
        if tuple(about["training"]["classes"]) != model.classes:
            raise DataError(f"{model.learned_from} holds the run of a model with other classes")
    if about is None:
        raise DataError("it is not known what the model learned from")
    return about


def _or_asked_for(find: Callable[[], Dataset]) -> Dataset:
    try:
        return find()
    except DataError as error:
        raise DataError(f"data is not given, and the run's own images cannot serve: {error}. Name the data") from error


def _required(held_out: Dataset | None) -> Dataset:
    if held_out is None:
        raise DataError("it held out none")
    return held_out


def _whole(dataset: Dataset) -> tuple[Dataset, npt.NDArray[np.intp]]:
    """The data set that a part is of, and the places of the part's images in it."""
    if not isinstance(dataset, Subset):
        return dataset, np.arange(len(dataset))
    whole, places = _whole(dataset.dataset)
    return whole, places[dataset.indices]


def _is_same(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets have the same images at the same places, as far as that shows without reading any."""
    if one is other:
        return True
    if isinstance(one, ImageArrays) and isinstance(other, ImageArrays):
        return np.array_equal(one.images, other.images)
    paths = [getattr(dataset, "path", None) for dataset in (one, other)]
    return (
        None not in paths
        and type(one) is type(other)
        and Path(str(paths[0])).resolve() == Path(str(paths[1])).resolve()
        and image_names(one) == image_names(other)
    )


def _contents(images: npt.NDArray[np.uint8]) -> Iterable[bytes]:
    """What tells images apart, but for chance, which will not come about."""
    return (blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images)
