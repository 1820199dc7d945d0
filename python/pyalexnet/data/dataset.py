"""What training asks of a data set, and how one is made and split."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from pyalexnet.errors import DataError

_SPLIT_SEED = 2012


@runtime_checkable
class Dataset(Protocol):
    """Labelled images, prepared a batch at a time; ``batch`` is called from several threads at once."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; a label is an index into them."""

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The label of every image, int32 (len,)."""

    def __len__(self) -> int:
        """Number of images."""

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """The images of these indices, uint8 (n, 256, 256, 3), and their labels, int32 (n,).

        Raises:
            DataError: an image cannot be read.
        """


DataSource: TypeAlias = Dataset | str | PathLike[str] | tuple[Any, Any]


class Subset:
    """Some images of a data set."""

    def __init__(self, dataset: Dataset, indices: npt.NDArray[np.intp]) -> None:
        """Keep the images of ``indices``, intp (n,), in this order."""
        self.dataset = dataset
        self.indices = indices
        self.labels = dataset.labels[indices]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the whole data set."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`Dataset.batch`."""
        return self.dataset.batch(self.indices[indices])


def as_dataset(data: DataSource) -> Dataset:
    """A data set from what a user names.

    Args:
        data: a folder with one subfolder a class, a pair ``(images, labels)`` of arrays, or a data set.

    Raises:
        DataError: the folder or the arrays cannot serve; the message says why.
        TypeError: ``data`` is none of these.
    """
    from pyalexnet.data.arrays import ImageArrays
    from pyalexnet.data.folder import ImageFolder

    if isinstance(data, str | PathLike):
        return ImageFolder(data)
    if isinstance(data, tuple) and len(data) == 2:
        return ImageArrays(*data)
    if isinstance(data, Dataset):
        return data
    raise TypeError(
        f"data is a {type(data).__name__}; it must be a folder's path, a pair (images, labels) or a Dataset"
    )


def split(dataset: Dataset, fraction: float) -> tuple[Subset, Subset]:
    """Most of a data set, and a fraction of every class held out; always the same images.

    Raises:
        DataError: nothing would be left on one side.
    """
    held_out = np.zeros(len(dataset), bool)
    rng = np.random.default_rng(_SPLIT_SEED)
    for label in range(len(dataset.classes)):
        members = rng.permutation(np.flatnonzero(dataset.labels == label))
        held_out[members[: round(fraction * len(members))]] = True
    count = np.count_nonzero(held_out)
    if count in (0, len(dataset)):
        raise DataError(
            f"validation is {fraction}, which holds out {count} of {len(dataset)} images; some must be on either side"
        )
    return Subset(dataset, np.flatnonzero(~held_out)), Subset(dataset, np.flatnonzero(held_out))


def labels_among(dataset: Dataset, classes: Sequence[str]) -> npt.NDArray[np.int32]:
    """For every class of the data set, its index in ``classes``: int32 (len(dataset.classes),).

    Raises:
        DataError: the data set has a class that is not in ``classes``.
    """
    index = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in dataset.classes if name not in index]
    if unknown:
        raise DataError(f"the data has the class {unknown[0]!r}; the net knows only {_shortened(classes)}")
    return np.array([index[name] for name in dataset.classes], np.int32)


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
