"""A folder of images that ``pyalexnet prepare`` has brought to 256×256: how it is laid out, and the data set in it.

The images lie in order in shards, NumPy files of uint8 (n, 256, 256, 3), of which the manifest tells names, numbers of
images and checksums. Labels, image names and statistics lie beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.statistics import ImageSums, Statistics
from pyalexnet.errors import DataError

MANIFEST_FILE = "manifest.json"
FORMAT, FORMAT_VERSION = "pyalexnet prepared images", 1

LABELS_FILE, NAMES_FILE, REPORT_FILE = "labels.npy", "names.json", "report.json"
MEAN_FILE, COVARIANCE_FILE, COLOUR_AXES_FILE = "mean.npy", "covariance.npy", "colour_axes.npy"

HEADER_BYTES = 128
"""What stands before the pixels of a shard: the header of NumPy's file format 1.0, padded to a multiple of 64."""

IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3

_ROWS_AT_A_TIME = 32


@dataclass(frozen=True)
class Shard:
    """One file of images.

    Attributes:
        file: its name within the prepared folder.
        images: how many it has.
        sha256: checksum of the whole file, as sha256sum prints it.
    """

    file: str
    images: int
    sha256: str


class PreparedImages:
    """The images that ``pyalexnet prepare`` has written, read from disk as they are asked for.

    Only labels and statistics are kept in memory. Images are read, not mapped: pages of mapped files would count
    as the process's own memory, up to the size of the data.

    Attributes:
        path: the folder.
        classes: the classes' names.
        labels: int32 (len,).
        statistics: mean image and colour axes of all images.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Read the manifest, and check all files' sizes and the small files' checksums.

        Raises:
            DataError: the folder is not prepared, or a file is missing or damaged; the message names it.
        """
        self.path = Path(path)
        manifest = read_manifest(self.path)
        self.classes = tuple(manifest["classes"])
        self.shards = [Shard(**shard) for shard in manifest["shards"]]
        for shard in self.shards:
            self._require_size(shard)
        checksums = manifest["files"]
        self.labels: npt.NDArray[np.int32] = self._array(LABELS_FILE, checksums)
        self.statistics = Statistics(self._array(MEAN_FILE, checksums), self._array(COLOUR_AXES_FILE, checksums))
        self._starts = np.cumsum([0, *(shard.images for shard in self.shards)])
        if self._starts[-1] != len(self.labels):
            raise DataError(f"{self.path} has {self._starts[-1]} images, but {len(self.labels)} labels")
        if self.labels.max() >= len(self.classes):
            raise DataError(
                f"{self.path} is damaged: it has the label {self.labels.max()}, but {len(self.classes)} classes"
            )

    @property
    def names(self) -> list[str]:
        """The images' names, "class/file" or "file", read from disk each time."""
        return list(map(str, json.loads(_read(self.path / NAMES_FILE))))

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        labels = self.labels[indices]
        indices = np.arange(len(self))[indices]  # counts negative ones from the end and refuses those out of range
        images = np.empty((len(indices), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(numbers):
            path = self.path / self.shards[number].file
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror}") from error
            try:
                for position in np.flatnonzero(numbers == number):
                    row = int(indices[position] - self._starts[number])
                    _read_row(descriptor, row, images[position], path)
            finally:
                os.close(descriptor)
        return images, labels

    def verify(self, on_images: Callable[[int], None] = lambda _count: None) -> None:
        """Read all shards and compare their checksums; the small files are checked on opening.

        Args:
            on_images: called with the number of images checked since the last call.

        Raises:
            DataError: a shard is damaged; the message names it.
            OSError: a shard cannot be read.
        """
        for shard in self.shards:
            checksum, _ = examine(self.path / shard.file, on_images)
            if checksum != shard.sha256:
                raise DataError(f"{self.path / shard.file} is damaged: its checksum is not the one in {MANIFEST_FILE}")

    def _require_size(self, shard: Shard) -> None:
        path, needed = self.path / shard.file, HEADER_BYTES + shard.images * IMAGE_BYTES
        if not path.is_file():
            raise DataError(f"{path} is missing; the folder is not complete")
        if path.stat().st_size != needed:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; {shard.images} images need {needed:,}")

    def _array(self, file: str, checksums: dict[str, str]) -> Any:
        path = self.path / file
        content = _read(path)
        if hashlib.sha256(content).hexdigest() != checksums[file]:
            raise DataError(f"{path} is damaged: its checksum is not the one in {MANIFEST_FILE}")
        return np.load(path, allow_pickle=False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        DataError: there is none, or it is none of this format; the message says why.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no {MANIFEST_FILE}; `pyalexnet prepare` writes it when all else is done"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is no manifest of prepared images")
    if manifest.get("version") != FORMAT_VERSION:
        raise DataError(f"{path} has version {manifest.get('version')} of the format; this one reads {FORMAT_VERSION}")
    if not _is_sound(manifest):
        raise DataError(f"{path} is damaged: its classes, shards or files are not as they must be")
    return manifest


def examine(path: Path, on_images: Callable[[int], None] = lambda _count: None) -> tuple[str, ImageSums]:
    """The SHA-256 of a shard, and the sums over its images."""
    checksum, sums = hashlib.sha256(), ImageSums()
    with open(path, "rb", buffering=0) as file:
        checksum.update(file.read(HEADER_BYTES))
        while content := file.read(_ROWS_AT_A_TIME * IMAGE_BYTES):
            checksum.update(content)
            whole = len(content) // IMAGE_BYTES
            images = np.frombuffer(content, np.uint8, whole * IMAGE_BYTES)
            sums.add(images.reshape(whole, IMAGE_SIZE, IMAGE_SIZE, 3))
            on_images(whole)
    return checksum.hexdigest(), sums


def _read_row(descriptor: int, row: int, image: npt.NDArray[np.uint8], path: Path) -> None:
    try:
        count = os.preadv(descriptor, [image.data], HEADER_BYTES + row * IMAGE_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if count != IMAGE_BYTES:
        raise DataError(f"{path} has become shorter: image {row} is missing")


def _is_sound(manifest: dict[str, Any]) -> bool:
    try:
        names = [shard["file"] for shard in manifest["shards"]] + [LABELS_FILE, MEAN_FILE, COLOUR_AXES_FILE]
        return (
            all(isinstance(name, str) for name in manifest["classes"])
            and all(Path(name).name == name for name in names)
            and all(set(shard) == {"file", "images", "sha256"} for shard in manifest["shards"])
            and all(isinstance(shard["images"], int) and shard["images"] >= 0 for shard in manifest["shards"])
            and all(isinstance(manifest["files"][name], str) for name in (LABELS_FILE, MEAN_FILE, COLOUR_AXES_FILE))
        )
    except (KeyError, TypeError):
        return False
