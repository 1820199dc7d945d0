"""Data sets of image files: one subfolder a class, perhaps in two parts, or files of no known class."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.data.dataset import digest
from pyalexnet.data.finding import (
    LeftOut,
    describe_left_out,
    has_images,
    list_classes,
    list_images,
    visible_subfolders,
    without_images,
)
from pyalexnet.data.images import read_image
from pyalexnet.errors import DataError
from pyalexnet.system.checks import as_path
from pyalexnet.system.names import printable, require_text

TRAINING_NAMES = ("train", "training")
HELD_OUT_NAMES = ("val", "valid", "validation", "test", "testing")
"""What the folders of a data set's parts are called, in capitals or not; of several the first is meant."""


class ImageFolder:
    """Image files in one subfolder a class, decoded as they are asked for.

    Classes are the subfolders in alphabetical order, images all files below them whose names end as those of images do,
    such as .jpg or .png. Links are followed. Other files and names that begin with a dot are left out.

    Attributes:
        path: the folder.
        classes: the classes' names.
        labels: int32 (len,).
        left_out: what else lies there, with the reason why it is left out.
        remarks: lines that tell of that, and of what the folder was taken for where that may surprise.
        decodes: that each use of an image decodes its file (:func:`pyalexnet.data.kept.keep_decoded`).
    """

    decodes = True

    def __init__(self, path: str | PathLike[str], remarks: Sequence[str] = ()) -> None:
        """List the files below ``path``; none is opened yet.

        Args:
            path: the folder.
            remarks: lines to begin :attr:`remarks` with.

        Raises:
            DataError: there is no such folder, it has no subfolders, one of them has no images or cannot be read, or
                names are equal or no UTF-8; the message names it.
        """
        self.path = as_path("path", path)
        if not is_folder(self.path):
            raise DataError(f"{self.path} is not a folder; it must hold one subfolder of images for each class")
        classes, self.left_out = list_classes(self.path)
        self.classes = tuple(one.name for one in classes)
        self._folders = [one.folder for one in classes]
        self._files = [image for one in classes for image in one.images]
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(one.images) for one in classes])
        self.remarks = [*remarks, *(f"{self.path}: {line}" for line in describe_left_out(self.left_out))]

    @property
    def names(self) -> list[str]:
        """The images' names, "class/file"."""
        return [f"{self.classes[label]}/{file}" for label, file in zip(self.labels, self._files, strict=True)]

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        return np.stack([read_image(self._path(index)) for index in indices]), self.labels[indices]

    def _path(self, index: int) -> str:
        return os.path.join(self.path, self._folders[self.labels[index]], self._files[index])

    def fingerprint(self) -> str:
        """See :class:`pyalexnet.data.Dataset`: names and sizes, which a copy has too, unlike times."""
        try:
            sizes = (os.stat(self._path(index)).st_size for index in range(len(self)))
            return digest(f"{size} {name}" for size, name in zip(sizes, self.names, strict=True))
        except OSError as error:
            raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


class ImageFiles:
    """Image files of no known class, decoded as they are asked for; their labels are -1.

    Attributes:
        names: the files' paths.
        remarks: lines that tell what was left out where they lie.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, files: Sequence[str | PathLike[str]], remarks: Sequence[str] = ()) -> None:
        """Keep the files' paths; none is opened yet."""
        self.names = [fspath(file) for file in files]
        self.remarks = list(remarks)
        self.labels = np.full(len(self.names), -1, np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        return np.stack([read_image(self.names[index]) for index in indices]), self.labels[indices]


def find_image_files(*paths: str | PathLike[str]) -> ImageFiles:
    """Image files themselves, and all image files below folders, in order.

    Raises:
        DataError: there is nothing of a name, a folder cannot be read or has no images, or a name is no UTF-8.
    """
    files: list[str] = []
    left_out: list[LeftOut] = []
    for given in paths:
        path = fspath(given)
        require_text(path, "the path of an image")
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"there is no image {printable(path)}: {reason}") from error
        if not is_folder:
            files.append(path)
            continue
        below = list_images(path)
        if not below.images:
            raise without_images(path)
        files += [os.path.join(path, name) for name in below.images]
        left_out += [LeftOut(os.path.join(path, name), reason) for name, reason in below.left_out]
    return ImageFiles(files, describe_left_out(left_out))


def is_folder(path: Path) -> bool:
    """Whether there is a folder at ``path``.

    Raises:
        DataError: that cannot be found out; the message says why.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise DataError(f"cannot look at {printable(fspath(path))}: {error.strerror}") from error


class FolderParts(NamedTuple):
    """The subfolders that are a data set's parts, and lines that say so."""

    training: Path | None
    held_out: Path | None
    remarks: list[str]


def find_parts(folder: Path, marker: str) -> FolderParts | None:
    """The parts of a data set that lie in folders of their own; None where the subfolders are classes.

    Subfolders called ``train`` and ``val``, ``valid``, ``validation`` or ``test`` are parts where at least one of them
    holds a data set, which is a prepared one or has images in subfolders, and no other folder beside them has images.
    Where they hold images themselves, or lie beside other classes, they are classes like any other.

    Args:
        folder: where they lie.
        marker: the name of the file that a prepared data set has.

    Raises:
        DataError: a folder cannot be read.
    """
    subfolders = visible_subfolders(folder)
    named = [name for name in subfolders if name.casefold() in (*TRAINING_NAMES, *HELD_OUT_NAMES)]
    if not named:
        return None
    parts = [name for name in named if _holds_data(folder / name, marker)]
    others = [name for name in subfolders if name not in named and has_images(folder / name)]
    if not parts or others:
        return None
    training, held_out = (_first(parts, names) for names in (TRAINING_NAMES, HELD_OUT_NAMES))
    taken = [f"{name} is {use}" for name, use in ((training, "learned from"), (held_out, "held out")) if name]
    taken += [f"{name} is not used" for name in parts if name not in (training, held_out)]
    taken += [f"{name} is not used, having no subfolders of images" for name in named if name not in parts]
    return FolderParts(
        folder / training if training else None,
        folder / held_out if held_out else None,
        [f"{printable(fspath(folder))}: {', '.join(taken)}"],
    )


def remark_on_classes(folder: Path) -> Iterator[str]:
    """A line, where classes are called as parts are."""
    named = [name for name in visible_subfolders(folder) if name.casefold() in (*TRAINING_NAMES, *HELD_OUT_NAMES)]
    if named:
        taken = "is a class" if len(named) == 1 else "are classes"
        yield (
            f"{printable(fspath(folder))}: {' and '.join(named)} {taken} like any other; a part of a data set would "
            "have a subfolder for each class, and no other classes beside it"
        )


def _holds_data(folder: Path, marker: str) -> bool:
    return (folder / marker).is_file() or any(has_images(folder / name) for name in visible_subfolders(folder))


def _first(names: Sequence[str], order: Sequence[str]) -> str | None:
    found = [name for wanted in order for name in names if name.casefold() == wanted]
    return found[0] if found else None
