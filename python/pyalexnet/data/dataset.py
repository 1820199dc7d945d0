"""What training asks of a data set, and how one is made and split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from pyalexnet.data.checked import checked
from pyalexnet.data.names import as_class, printable, require_text
from pyalexnet.errors import DataError

_SPLIT_SEED = 2012


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


DataSource: TypeAlias = Dataset | str | PathLike[str] | tuple[Any, Any]


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


def digest(parts: Iterable[str | npt.NDArray[Any]]) -> str:
    """A checksum of texts and arrays in their order, for fingerprints."""
    checksum = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = os.fsencode(part) if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
        checksum.update(len(content).to_bytes(8, "little"))
        checksum.update(content)
    return checksum.hexdigest()


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
        """See :meth:`Dataset.batch`."""
        return self.dataset.batch(self.indices[indices])

    def fingerprint(self) -> str | None:
        """See :class:`Dataset`."""
        whole = fingerprint(self.dataset)
        return None if whole is None else digest([whole, self.indices.astype("<i8")])


def as_dataset(data: DataSource) -> Dataset:
    """A data set from what a user names; where it comes in two parts, the one to train on.

    Args:
        data: a data set; a pair ``(images, labels)`` of arrays, as :class:`pyalexnet.data.ImageArrays` takes them; a
            name such as ``"digits"`` or ``"emoji"``; or a folder: one that ``pyalexnet prepare`` has written; one of
            IDX files, the pair ``train-*`` and perhaps the pair ``t10k-*``; one with a subfolder of image files for
            each class; or one that has a ``train`` of the first or the last kind and perhaps a ``val``, ``valid``,
            ``validation`` or ``test`` of either. A folder by the name of a data set is named by a path: ``"./digits"``.

    Raises:
        DataError: there is no such folder or name, or what is there cannot serve; the message says why.
        TypeError: ``data`` is none of these.
    """
    from pyalexnet.data.arrays import ImageArrays

    if isinstance(data, str | PathLike):
        return _parts(data).training()
    if isinstance(data, tuple) and len(data) == 2:
        return ImageArrays(*data)
    if isinstance(data, Dataset):
        return checked(data)
    raise TypeError(
        f"data is a {type(data).__name__}; it must be a folder's path, a name ({shortened(list(_NAMED))}), a pair "
        "(images, labels) or a Dataset"
    )


def held_out_part(data: DataSource) -> Dataset | None:
    """The images that come with the data but not for training on: a folder's ``val``, or its ``t10k-*`` files.

    Args:
        data: as in :func:`as_dataset`.

    Returns:
        The held-out part; None where the data has none of its own.

    Raises:
        DataError: there is no such folder or name, or the held-out part cannot serve; the message says why.
    """
    open_held_out = _parts(data).held_out if isinstance(data, str | PathLike) else None
    return open_held_out() if open_held_out else None


def as_test_dataset(data: DataSource) -> Dataset:
    """What a classifier is judged by: the held-out part where the data has one of its own, else all of it.

    Of the digits it is what :func:`pyalexnet.train` by default holds out, unless they are given as a data set.

    Args:
        data: as in :func:`as_dataset`.

    Raises:
        DataError: there is no such folder or name, or what is there cannot serve; the message says why.
        TypeError: ``data`` is of none of the kinds that :func:`as_dataset` takes.
    """
    from pyalexnet.data.digits import TEST_FRACTION, Digits

    held_out = held_out_part(data)
    if held_out is not None:
        return held_out
    dataset = as_dataset(data)
    return split(dataset, TEST_FRACTION)[1] if isinstance(dataset, Digits) and dataset is not data else dataset


class _Parts(NamedTuple):
    """How to open the parts of a data set."""

    training: Callable[[], Dataset]
    held_out: Callable[[], Dataset] | None = None


def _parts(data: str | PathLike[str]) -> _Parts:
    from pyalexnet.data.folder import is_folder

    if is_name(data):
        return _NAMED[fspath(data)]()
    path = Path(data)
    require_text(fspath(path), "data")
    if is_folder(path):
        return _folder_parts(path)
    raise DataError(f"{path} is not a folder, nor the name of a data set: {shortened(list(_NAMED))}")


def _folder_parts(path: Path) -> _Parts:
    from pyalexnet.data.finding import visible_subfolders
    from pyalexnet.data.folder import ImageFolder, find_parts, remark_on_classes
    from pyalexnet.data.idx import IdxImages, has_idx_part
    from pyalexnet.data.prepared import MANIFEST_FILE, PreparedImages

    if (path / MANIFEST_FILE).is_file():
        return _Parts(partial(PreparedImages, path))
    if has_idx_part(path, "train"):
        has_held_out = has_idx_part(path, "t10k")
        return _Parts(partial(IdxImages, path, "train"), partial(IdxImages, path, "t10k") if has_held_out else None)
    if not visible_subfolders(path):
        raise DataError(
            f"the folder {printable(fspath(path))} holds no data: neither {MANIFEST_FILE} or train/{MANIFEST_FILE}, as "
            "pyalexnet prepare writes them, nor train-images-idx3-ubyte[.gz], nor a subfolder of images for each class"
        )
    parts = find_parts(path, MANIFEST_FILE)
    if parts is None:
        return _Parts(lambda: ImageFolder(path, list(remark_on_classes(path))))

    def opened(part: Path) -> Dataset:
        return PreparedImages(part) if (part / MANIFEST_FILE).is_file() else ImageFolder(part, parts.remarks)

    def missing() -> Dataset:
        raise DataError(f"{parts.remarks[0]}; there is no train to learn from")

    return _Parts(
        partial(opened, parts.training) if parts.training else missing,
        partial(opened, parts.held_out) if parts.held_out else None,
    )


def _digits_parts() -> _Parts:
    from pyalexnet.data.digits import Digits

    return _Parts(Digits)


def _fashion_mnist_parts() -> _Parts:
    from pyalexnet.data.idx import fashion_mnist

    return _Parts(fashion_mnist, partial(fashion_mnist, "t10k"))


def _emoji_parts() -> _Parts:
    from pyalexnet.data.emoji import Emoji

    return _Parts(Emoji, partial(Emoji, "test"))


_NAMED = {"digits": _digits_parts, "emoji": _emoji_parts, "fashion-mnist": _fashion_mnist_parts}


def is_name(data: object) -> bool:
    """Whether a user's word names a data set, whatever folders there are where the program runs."""
    return isinstance(data, str) and data in _NAMED


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
            f"validation is {fraction}, which holds out {count} of {len(dataset)} images; some must be on either side"
        )
    return Subset(dataset, np.flatnonzero(~held_out)), Subset(dataset, np.flatnonzero(held_out))


def sample(dataset: Dataset, count: int, *, seed: int = 0) -> npt.NDArray[np.intp]:
    """The indices of some images, at random, but the classes by turns; the same seed gives the same ones.

    Args:
        dataset: what they are taken of.
        count: how many; all where there are not more.
        seed: at least 0.

    Raises:
        ValueError: ``count`` is below 1 or ``seed`` below 0.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    rng = np.random.default_rng([seed, _SPLIT_SEED])
    order = rng.permutation(len(dataset))
    labels = dataset.labels[order]
    turn = np.empty(len(order), np.intp)  # an image's number among those of its class
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    chosen: npt.NDArray[np.intp] = order[np.argsort(turn, kind="stable")[:count]]
    return chosen


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
