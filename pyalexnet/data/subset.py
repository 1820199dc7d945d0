"""Some images of a data set: a part held out, a sample, or any others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyalexnet.data.checked import checked
from pyalexnet.data.dataset import Dataset, digest, fingerprint, image_names, remarks_on
from pyalexnet.errors import DataError
from pyalexnet.system.checks import at_least

_SPLIT_SEED = 2012


class Subset:
    """Some images of a data set."""

    def __init__(self, dataset: Dataset, indices: npt.NDArray[np.intp]) -> None:
        """Keep the images of ``indices``, intp (n,), in this order."""
        self.dataset = checked(dataset)
        self.indices = indices
        self.labels = self.dataset.labels[indices]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the whole data set."""
        return self.dataset.classes

    @property
    def names(self) -> list[str]:
        """The images' names in the whole data set."""
        names = image_names(self.dataset)
        return [names[index] for index in self.indices]

    @property
    def remarks(self) -> list[str]:
        """Those on the whole data set."""
        return remarks_on(self.dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        return self.dataset.batch(self.indices[indices])

    def fingerprint(self) -> str | None:
        """See :class:`pyalexnet.data.Dataset`."""
        whole = fingerprint(self.dataset)
        return None if whole is None else digest([whole, self.indices.astype("<i8")])


def whole(dataset: Dataset) -> Dataset:
    """What a data set is a part of, however often it was divided; itself, where it is no part."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def split(dataset: Dataset, fraction: float) -> tuple[Subset, Subset]:
    """Most of a data set, and a fraction of every class held out; always the same images.

    Raises:
        DataError: nothing would be left on one side, or the data set cannot serve.
    """
    dataset = checked(dataset)
    held_out = np.zeros(len(dataset), bool)
    rng = np.random.default_rng(_SPLIT_SEED)
    for label in range(len(dataset.classes)):
        members = rng.permutation(np.flatnonzero(dataset.labels == label))
        held_out[members[: round(fraction * len(members))]] = True
    count = np.count_nonzero(held_out)
    if count in (0, len(dataset)):
        raise DataError(
            f"validation is {fraction}, which holds out {count} of {len(dataset)} images; some must be on either side; "
            "0 holds none out"
        )
    return Subset(dataset, np.flatnonzero(~held_out)), Subset(dataset, np.flatnonzero(held_out))


def sample(dataset: Dataset, count: int, *, seed: int = 0) -> npt.NDArray[np.intp]:
    """The indices of some images, at random, but the classes by turns; the same seed gives the same ones.

    Args:
        dataset: what they are taken of.
        count: how many; all where there are not more.
        seed: at least 0.

    Raises:
        TypeError: one of these is no integer.
        ValueError: ``count`` is below 1 or ``seed`` below 0.
    """
    count, seed = at_least("count", count, 1), at_least("seed", seed, 0)
    rng = np.random.default_rng([seed, _SPLIT_SEED])
    order = rng.permutation(len(dataset))
    labels = dataset.labels[order]
    turn = np.empty(len(order), np.intp)  # an image's number among those of its class
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    chosen: npt.NDArray[np.intp] = order[np.argsort(turn, kind="stable")[:count]]
    return chosen
