"""A folder of images that ``pyalexnet prepare`` has brought to 256×256: how it is laid out, and the data set in it.

The images lie in order in shards, NumPy files of uint8 (n, 256, 256, 3), of which the manifest tells names, numbers of
images and checksums. Labels, image names and statistics lie beside them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Len, MinLen

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import digest
from pyalexnet.data.statistics import ImageSums, Statistics
from pyalexnet.errors import DataError
from pyalexnet.system.array_file import array_from, array_header
from pyalexnet.system.checks import require
from pyalexnet.system.files import open_regular_file, read_regular_file
from pyalexnet.system.json_file import JsonFormat, require_distinct

MANIFEST_FILE = "manifest.json"
FORMAT, FORMAT_VERSION = "pyalexnet prepared images", 1

LABELS_FILE, NAMES_FILE, REPORT_FILE = "labels.npy", "names.json", "report.json"
MEAN_FILE, COVARIANCE_FILE, COLOUR_AXES_FILE = "mean.npy", "covariance.npy", "colour_axes.npy"
_SMALL_FILES = (LABELS_FILE, NAMES_FILE, MEAN_FILE, COVARIANCE_FILE, COLOUR_AXES_FILE, REPORT_FILE)

HEADER_BYTES = 128
"""What stands before the pixels of a shard: the header of NumPy's file format 1.0, padded to a multiple of 64."""

IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3

_ROWS_AT_A_TIME = 32


_Count = Annotated[int, Ge(0)]
_Three = Annotated[tuple[float, ...], Len(3, 3)]


@dataclass(frozen=True)
class Shard:
    """One file of images.

    Attributes:
        file: its name within the prepared folder.
        images: how many it has.
        sha256: checksum of the whole file, as sha256sum prints it.
    """

    file: str
    images: _Count
    sha256: str


@dataclass(frozen=True)
class Plan:
    """All that the bytes of a prepared folder depend on.

    Attributes:
        format: :data:`FORMAT`.
        version: :data:`FORMAT_VERSION`.
        settings: how the images were brought to their size, and how many a shard has.
        source: how many images and classes there were, and a checksum of their names, labels and sizes.
        versions: of the packages that decoded the images.
    """

    format: Literal["pyalexnet prepared images"]
    version: int
    settings: dict[str, int | str]
    source: dict[str, int | str]
    versions: dict[str, str | None]


@dataclass(frozen=True)
class ColourCovariance:
    """The covariance of red, green and blue over all pixels.

    Attributes:
        eigenvalues: in rising order.
        eigenvectors: in their order.
    """

    eigenvalues: _Three
    eigenvectors: Annotated[tuple[_Three, ...], Len(3, 3)]


@dataclass(frozen=True)
class Manifest(Plan):
    """What ``manifest.json`` tells of a prepared folder.

    Attributes:
        images: how many there are.
        skipped: how many could not be read.
        passed_over: how many files were no images.
        classes: the classes' names.
        class_counts: how many images each has.
        colour_covariance: of all images.
        shards: the images' files.
        files: each other file's SHA-256.
    """

    images: Annotated[int, Ge(1)]
    skipped: _Count
    passed_over: _Count
    classes: Annotated[tuple[str, ...], MinLen(1)]
    class_counts: tuple[_Count, ...]
    colour_covariance: ColourCovariance
    shards: tuple[Shard, ...]
    files: dict[str, str]

    def __post_init__(self) -> None:
        """Check what the fields are to each other.

        Raises:
            ValueError: numbers of images differ, a file is missing or lies elsewhere, or a name is there twice.
        """
        require_distinct("classes", self.classes)
        require_distinct("shards", [shard.file for shard in self.shards])
        for number, shard in enumerate(self.shards):
            inside = Path(shard.file).name == shard.file and "\0" not in shard.file
            require(inside, f"shards[{number}].file", shard.file, "a name without a folder")
        require(self.files.keys() == set(_SMALL_FILES), "files", sorted(self.files), f"of {', '.join(_SMALL_FILES)}")
        in_shards, in_classes = sum(shard.images for shard in self.shards), sum(self.class_counts)
        require(in_shards == self.images, "the shards' sum of images", in_shards, f"{self.images}, as images says")
        require(len(self.class_counts) == len(self.classes), "class_counts", self.class_counts, "one for each class")
        require(in_classes == self.images, "the sum of class_counts", in_classes, f"{self.images}, as images says")


MANIFEST_FORMAT = JsonFormat(Manifest, 64 * 2**20, DataError, version=("version", FORMAT_VERSION))
PLAN_FORMAT = JsonFormat(Plan, 2**20, DataError, version=("version", FORMAT_VERSION))

_MOST_SMALL_BYTES = 2**33

# A name is a class's and a file's, of up to 255 bytes each, and JSON may need six for one.
_MOST_NAME_BYTES = 2 * 255 * 6 + 8


def names_format(images: int) -> JsonFormat[list[str]]:
    """The format of so many images' names."""
    return JsonFormat(list[str], 2**10 + images * _MOST_NAME_BYTES, DataError)


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
        self._manifest = manifest = read_manifest(self.path)
        self.classes = manifest.classes
        self.shards = list(manifest.shards)
        for shard in self.shards:
            self._require_whole(shard)
        self._starts = np.cumsum([0, *(shard.images for shard in self.shards)])
        self.labels: npt.NDArray[np.int32] = self._array(LABELS_FILE, np.int32, (manifest.images,))
        least, most = self.labels.min(), self.labels.max()
        if least < 0 or most >= len(self.classes):
            raise DataError(
                f"{self.path / LABELS_FILE} has labels from {least} to {most}; they must be from 0 to "
                f"{len(self.classes) - 1}, as there are {len(self.classes)} classes"
            )
        if np.bincount(self.labels, minlength=len(self.classes)).tolist() != list(manifest.class_counts):
            raise DataError(f"{self.path / LABELS_FILE} has not as many labels of each class as {MANIFEST_FILE} tells")
        self.statistics = Statistics(
            self._array(MEAN_FILE, np.float32, (IMAGE_SIZE, IMAGE_SIZE, 3)),
            self._array(COLOUR_AXES_FILE, np.float32, (3, 3)),
        )
        mean = self.statistics.mean
        if not (mean.min() >= 0 and mean.max() <= 255):
            raise DataError(
                f"{self.path / MEAN_FILE} has values from {mean.min()} to {mean.max()}; they must be from 0 to 255"
            )
        if not np.isfinite(self.statistics.colour_axes).all():
            raise DataError(f"{self.path / COLOUR_AXES_FILE} has NaN or infinite values; all must be finite")

    @property
    def names(self) -> list[str]:
        """The images' names, "class/file" or "file", read from disk each time.

        Raises:
            DataError: they are missing or damaged.
        """
        path, names_are = self.path / NAMES_FILE, names_format(len(self))
        names = names_are.parse(self._checked(NAMES_FILE, names_are.max_bytes), str(path))
        if len(names) != len(self):
            raise DataError(f"{path} has {len(names)} names; it must have {len(self)}, one for each image")
        return names

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
                file = open_regular_file(path, buffering=0)
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror or error}") from error
            with file:
                for position in np.flatnonzero(numbers == number):
                    row = int(indices[position] - self._starts[number])
                    _read_row(file.fileno(), row, images[position], path)
        return images, labels

    def fingerprint(self) -> str:
        """See :class:`pyalexnet.data.Dataset`: the checksums of shards and labels, which the manifest has."""
        return digest([*(shard.sha256 for shard in self.shards), self._manifest.files[LABELS_FILE]])

    def verify(self, on_images: Callable[[int], None] = lambda _count: None) -> None:
        """Read all files and compare their checksums.

        Args:
            on_images: called with the number of images checked since the last call.

        Raises:
            DataError: a file is damaged; the message names it.
            OSError: a shard cannot be read.
        """
        for name in _SMALL_FILES:
            self._checked(name, _MOST_SMALL_BYTES)
        for shard in self.shards:
            checksum, _ = examine(self.path / shard.file, on_images)
            if checksum != shard.sha256:
                raise DataError(f"{self.path / shard.file} is damaged: its checksum is not the one in {MANIFEST_FILE}")

    def _require_whole(self, shard: Shard) -> None:
        """Refuse a shard that has not its images' size or begins otherwise than they do."""
        path, needed = self.path / shard.file, HEADER_BYTES + shard.images * IMAGE_BYTES
        try:
            with open_regular_file(path, buffering=0) as file:
                size, header = os.fstat(file.fileno()).st_size, file.read(HEADER_BYTES)
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing; the folder is not complete") from error
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        if size != needed:
            raise DataError(f"{path} has {size:,} bytes; {shard.images} images need {needed:,}")
        if header != array_header(np.uint8, (shard.images, IMAGE_SIZE, IMAGE_SIZE, 3)):
            raise DataError(f"{path} is damaged: its header is not that of {shard.images} images")

    def _array(self, file: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Any:
        size = HEADER_BYTES + math.prod(shape) * np.dtype(dtype).itemsize
        try:
            return array_from(self._checked(file, size), dtype, shape)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{self.path / file} is damaged: {error}") from error

    def _checked(self, file: str, max_bytes: int) -> bytes:
        """The content of a small file, whose checksum must be the manifest's."""
        path = self.path / file
        try:
            content = read_regular_file(path, max_bytes)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != self._manifest.files[file]:
            raise DataError(f"{path} is damaged: its checksum is not the one in {MANIFEST_FILE}")
        return content


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder.

    Raises:
        DataError: there is none, or it is none of this format; the message says why.
    """
    path = folder / MANIFEST_FILE
    try:
        return MANIFEST_FORMAT.read(path)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no {MANIFEST_FILE}; `pyalexnet prepare` writes it when all else is done"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def examine(path: Path, on_images: Callable[[int], None] = lambda _count: None) -> tuple[str, ImageSums]:
    """The SHA-256 of a shard, and the sums over its images."""
    checksum, sums = hashlib.sha256(), ImageSums()
    with open_regular_file(path, buffering=0) as file:
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
