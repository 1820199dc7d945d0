"""A data set of image files: one subfolder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyalexnet.data.images import IMAGE_SUFFIXES, read_image
from pyalexnet.errors import DataError


class ImageFolder:
    """Image files in one subfolder a class, decoded as they are asked for.

    Classes are the subfolders in alphabetical order, images the files in them whose names end as those of images do,
    such as .jpg or .png; other files and names that begin with a dot are passed over.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """List the files below ``path``; none is opened yet.

        Raises:
            DataError: there is no such folder, it has no subfolders, or one of them has no images.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(f"{self.path} is not a folder; it must hold one subfolder of images for each class")
        self.classes = tuple(_subfolders(self.path))
        if not self.classes:
            raise DataError(f"the folder {self.path} has no subfolders; it must hold one for each class")
        self.names: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            found = _image_files(self.path / name)
            self.names += [f"{name}/{file}" for file in found]
            labels += [label] * len(found)
        self.labels = np.array(labels, np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        images = np.stack([read_image(self.path / self.names[index]) for index in indices])
        return images, self.labels[indices]


class ImageFiles:
    """Image files of no known class, decoded as they are asked for; their labels are -1."""

    classes: tuple[str, ...] = ()

    def __init__(self, files: Sequence[str | PathLike[str]]) -> None:
        """Keep the files' paths; none is opened yet."""
        self.names = [fspath(file) for file in files]
        self.labels = np.full(len(self.names), -1, np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        return np.stack([read_image(self.names[index]) for index in indices]), self.labels[indices]


def _subfolders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _image_files(path: Path) -> list[str]:
    names = sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
    )
    if not names:
        raise DataError(f"the folder {path} has no images; it must hold files that end in {', '.join(IMAGE_SUFFIXES)}")
    return names
