"""A folder of images that ``pyalexnet prepare`` has brought to 256×256, as a data set.

The images lie in order in shards, NumPy files of uint8 (n, 256, 256, 3), of which the manifest tells names, numbers of
images and checksums. Labels, image names and statistics lie beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from os import PathLike

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import digest
from pyalexnet.data.manifest import (
    COLOUR_AXES_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    MEAN_FILE,
    NAMES_FILE,
    SMALL_FILES,
    read_manifest,
)
from pyalexnet.data.shard_file import examine, read_rows, require_whole
from pyalexnet.data.statistics import Statistics
from pyalexnet.errors import DataError
from pyalexnet.system.array_file import Scalar, array_file_bytes, array_from
from pyalexnet.system.checks import as_path
from pyalexnet.system.files import read_regular_file
from pyalexnet.system.json_file import JsonFormat

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
        self.path = as_path("path", path)
        self._manifest = manifest = read_manifest(self.path)
        self.classes = manifest.classes
        self.shards = list(manifest.shards)
        for shard in self.shards:
            require_whole(self.path / shard.file, shard.images)
        self._starts = np.cumsum([0, *(shard.images for shard in self.shards)])
        self.labels = self._array(LABELS_FILE, np.int32, (manifest.images,))
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
        path, form = self.path / NAMES_FILE, names_format(len(self))
        names = form.parse(self._checked(NAMES_FILE, form.max_bytes), str(path))
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
            positions = np.flatnonzero(numbers == number)
            rows = (indices[positions] - self._starts[number]).tolist()
            read_rows(self.path / self.shards[number].file, rows, [images[position] for position in positions])
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
        for name in SMALL_FILES:
            self._checked(name, _MOST_SMALL_BYTES)
        for shard in self.shards:
            checksum, _ = examine(self.path / shard.file, on_images)
            if checksum != shard.sha256:
                raise DataError(f"{self.path / shard.file} is damaged: its checksum is not the one in {MANIFEST_FILE}")

    def _array(self, file: str, dtype: type[Scalar], shape: tuple[int, ...]) -> npt.NDArray[Scalar]:
        content = self._checked(file, array_file_bytes(dtype, shape))
        try:
            return array_from(content, dtype, shape)
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
