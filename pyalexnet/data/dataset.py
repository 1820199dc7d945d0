"""What training asks of a data set, and what is told of any: names, remarks, a fingerprint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.errors import DataError
from pyalexnet.system.names import as_class

IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3
"""What an image of a batch takes in memory."""


@runtime_checkable
class Dataset(Protocol):
    """Labelled images, prepared a batch at a time; ``batch`` is called from several threads at once.

    A data set may have ``names`` too, what its images are called, and a method ``fingerprint()``, a text by which a
    resumed run knows the same images again, wherever they lie; without one it knows them by their names.
    """

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


def name_of_label(label: int, classes: Sequence[str]) -> str:
    """What an image's label stands for; "" where it has none, which is -1."""
    return classes[label] if label >= 0 else ""


def image_names(dataset: Dataset) -> list[str]:
    """What a data set's images are called: by its ``names``, where it has such, else by their numbers."""
    names = getattr(dataset, "names", None)
    return list(map(str, range(len(dataset)) if names is None else names))


def remarks_on(*datasets: object) -> list[str]:
    """Lines that tell what was left out where data sets lie, and what they were taken for, each line once."""
    return list(dict.fromkeys(line for dataset in datasets for line in getattr(dataset, "remarks", ())))


def fingerprint(dataset: Dataset) -> str | None:
    """A text that other images, or the same in another order, do not have; None where a data set cannot tell."""
    own = getattr(dataset, "fingerprint", None)
    if own is not None:
        found: str | None = own()
        return found
    names = getattr(dataset, "names", None)
    return None if names is None else digest(map(str, names))


def digest(parts: Iterable[str | npt.NDArray[np.generic]]) -> str:
    """A checksum of texts and arrays in their order, for fingerprints."""
    checksum = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = os.fsencode(part) if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
        checksum.update(len(content).to_bytes(8, "little"))
        checksum.update(content)
    return checksum.hexdigest()


def labels_among(dataset: Dataset, classes: Sequence[str]) -> npt.NDArray[np.int32]:
    """For every class of the data set, its index in ``classes``: int32 (len(dataset.classes),). Names count in NFC.

    Raises:
        DataError: the data set has a class that is not in ``classes``.
    """
    index = {as_class(name): number for number, name in enumerate(classes)}
    names = list(map(as_class, dataset.classes))
    unknown = [name for name in names if name not in index]
    if unknown:
        raise DataError(f"the data has the class {unknown[0]!r}; the net knows only {shortened(classes)}")
    return np.array([index[name] for name in names], np.int32)


def shortened(names: Sequence[str]) -> str:
    """Names for a message, of many the first."""
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
