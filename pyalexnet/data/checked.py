"""What comes from outside as a data set, checked and converted where it comes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.errors import DataError, ImageError
from pyalexnet.system.names import distinct_classes

if TYPE_CHECKING:
    from pyalexnet.data.dataset import Dataset

_MOST_CLASSES = 1_000_000


class CheckedDataset:
    """A user's data set, whose classes and labels are as they must be, and whose batches are looked at one by one.

    Attributes:
        dataset: the user's.
        classes: its classes' names.
        labels: int32 (len,).
        names: what its images are called; only where it has names.
        fingerprint: what tells it from other data sets; only where it has such a method.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Check all but the images.

        Raises:
            DataError: the classes, the labels, the names or their numbers cannot serve; the message says which.
        """
        self.dataset = dataset
        count = len(dataset)
        if count < 1:
            raise DataError("the data set has no images; it must have at least one")
        self.classes = checked_classes(dataset.classes)
        self.labels = checked_labels(dataset.labels, count)
        if self.labels.max() >= len(self.classes):
            raise DataError(f"classes has {len(self.classes)} names, but labels go up to {self.labels.max()}")
        names = getattr(dataset, "names", None)
        if names is not None:
            self.names = list(map(str, names))
            if len(self.names) != count:
                raise DataError(f"names has {len(self.names)} names; it must have {count}, one for each image")
        if hasattr(dataset, "fingerprint"):
            self.fingerprint = dataset.fingerprint

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`.

        Raises:
            DataError: what the user's data set returned is not what it must be.
            ImageError: an image cannot be read.
        """
        try:
            found: object = self.dataset.batch(indices)
        except DataError as error:  # as the protocol has it: an image cannot be read
            raise ImageError(str(error)) from error
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise DataError(f"the data set's batch() returned a {type(found).__name__}; it must be (images, labels)")
        images = host_array(found[0], "the images that the data set's batch() returned")
        shape = (len(indices), IMAGE_SIZE, IMAGE_SIZE, 3)
        if images.dtype != np.uint8 or images.shape != shape:
            raise DataError(
                f"the data set's batch() returned images of dtype {images.dtype} and shape {images.shape}; they must "
                f"be uint8, pixels from 0 to 255, of shape {shape}"
            )
        labels, expected = host_array(found[1], "the labels that the data set's batch() returned"), self.labels[indices]
        if not np.array_equal(labels, expected):
            raise DataError(
                f"the data set's batch() returned other labels than its labels[indices] for {len(indices)} images: "
                f"{_beginning(labels)}, not {_beginning(expected)}"
            )
        return images, expected


def checked(dataset: Dataset) -> Dataset:
    """A data set that keeps its word: one of this package itself, another behind checks.

    Raises:
        DataError: its classes, labels or names cannot serve.
    """
    # By its type's home, since a class that a user derives from one of this package's may do anything.
    return dataset if type(dataset).__module__.startswith("pyalexnet.") else CheckedDataset(dataset)


def checked_classes(classes: object) -> tuple[str, ...]:
    """The names of classes, distinct and in NFC.

    Raises:
        DataError: they are no sequence of distinct texts.
    """
    if isinstance(classes, str | bytes) or not isinstance(classes, Iterable):
        raise DataError(f"classes is {classes!r}; it must be a sequence of names")
    names = list(classes)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise DataError(f"classes has {wrong[0]!r} among its names; all must be texts")
    return distinct_classes(map(str, names), "classes")


def checked_labels(data: object, count: int) -> npt.NDArray[np.int32]:
    """Labels as int32 (count,), from 0 on.

    Raises:
        DataError: they are none, or there are more or fewer.
    """
    labels = host_array(data, "labels")
    if labels.shape != (count,):
        raise DataError(f"labels has shape {labels.shape}; it must be ({count},), one for each image")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"labels has dtype {labels.dtype}; it must be an integer type")
    if labels.min() < 0 or labels.max() > _MOST_CLASSES:
        raise DataError(f"labels go from {labels.min()} to {labels.max()}; they must count classes from 0")
    return labels.astype(np.int32)


def host_array(data: object, name: str) -> npt.NDArray[Any]:
    """An array of NumPy's, CuPy's or PyTorch's, or a list, as NumPy's.

    Raises:
        DataError: it cannot become one; the message begins with ``name``.
    """
    if hasattr(data, "detach"):  # PyTorch's
        data = data.detach().cpu()
    elif hasattr(data, "__cuda_array_interface__") and hasattr(data, "get"):  # CuPy's
        data = data.get()
    try:
        return np.asarray(data)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} cannot become an array: {error}") from error


def _beginning(labels: npt.NDArray[np.generic]) -> str:
    shown = ", ".join(map(str, labels.ravel()[:8].tolist()))
    return f"[{shown}, …]" if labels.size > 8 else f"[{shown}]"
