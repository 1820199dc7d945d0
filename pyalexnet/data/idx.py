"""Data sets in IDX files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from pyalexnet.data.arrays import ImageArrays
from pyalexnet.errors import DataError
from pyalexnet.system.checks import as_path, reason_of
from pyalexnet.system.files import open_regular_file

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

FASHION_MNIST_CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

Part = Literal["train", "t10k"]

_UNSIGNED_BYTES = 0x08
_MOST_BYTES = 2**32


class IdxImages(ImageArrays):
    """One part of a folder of IDX files: its training images, ``train-*``, or its test images, ``t10k-*``.

    A part is two files, ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, each perhaps compressed, with
    ``.gz`` behind its name. Both are held in memory: 47 MB for MNIST's 60,000 images of 28×28.
    """

    def __init__(self, folder: str | PathLike[str], part: Part = "train", classes: Sequence[str] | None = None) -> None:
        """Read and check both files.

        Args:
            folder: where the files are.
            part: ``"train"`` or ``"t10k"``.
            classes: names of the classes; by default "0", "1", … up to the largest label.

        Raises:
            DataError: a file is missing, damaged or no IDX file, or the two do not fit together; the message names it.
        """
        images_file, labels_file = (_required_file(as_path("folder", folder), name) for name in _file_names(part))
        images, labels = read_idx(images_file, axes=3), read_idx(labels_file, axes=1)
        try:
            super().__init__(images, labels, classes)
        except DataError as error:
            raise DataError(f"{images_file} and {labels_file.name}: {error}") from error


def fashion_mnist(part: Part = "train") -> IdxImages:
    """Zalando's 60,000 (``"t10k"``: 10,000) greyscale images of clothes, 28×28 pixels, in ten classes.

    Raises:
        DataError: Debian's package dataset-fashion-mnist is not installed, or its files are damaged.
    """
    if not has_idx_part(FASHION_MNIST_FOLDER, part):
        raise DataError(
            f"fashion-mnist is not installed: {FASHION_MNIST_FOLDER} does not hold {' and '.join(_file_names(part))}. "
            "Run: apt install dataset-fashion-mnist, or name the folder that holds these files"
        )
    return IdxImages(FASHION_MNIST_FOLDER, part, FASHION_MNIST_CLASSES)


def has_idx_part(folder: Path, part: Part) -> bool:
    """Whether a folder has the images or the labels of a part, so that it is meant as one."""
    return any(_file(folder, name) for name in _file_names(part))


def read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """The unsigned bytes of an IDX file.

    Args:
        path: the file; compressed by gzip where its name ends in ``.gz``.
        axes: how many axes the file must have.

    Returns:
        uint8, in the shape that the file tells.

    Raises:
        DataError: the file cannot be read, is of another kind, its size is not what its header tells, or that is more
            than 4 GiB.
    """
    magic, header_bytes = bytes([0, 0, _UNSIGNED_BYTES, axes]), 4 + 4 * axes
    try:
        with open_regular_file(path) as file:
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file
            header = stream.read(header_bytes)
            shape = _shape(path, header, magic, axes)
            expected = header_bytes + math.prod(shape)
            if expected > _MOST_BYTES:
                raise DataError(
                    f"{path} tells of {shape}, {expected:,} bytes; it must be at most {_MOST_BYTES:,}, as all are held "
                    "in memory"
                )
            content = _read(stream, expected - header_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or reason_of(error)}") from error
    found = header_bytes + len(content)
    if found != expected:
        kind = "is truncated: it has" if found < expected else "has bytes behind its end: it has at least"
        raise DataError(f"{path} {kind} {found:,} bytes; its header tells of {shape}, {expected:,} bytes")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(path: Path, header: bytes, magic: bytes, axes: int) -> tuple[int, ...]:
    if header[:4] != magic:
        raise DataError(
            f"{path} begins with the bytes {header[:4].hex(' ') or '(none)'}; an IDX file of unsigned bytes with "
            f"{axes} {'axis' if axes == 1 else 'axes'} begins with {magic.hex(' ')}"
        )
    needed = len(magic) + 4 * axes
    if len(header) < needed:
        raise DataError(f"{path} is truncated: it has {len(header)} bytes; its header alone takes {needed}")
    return tuple(map(int, np.frombuffer(header, ">u4", axes, offset=4)))


def _read(stream: BinaryIO, size: int) -> bytes:
    """So many bytes, or all that there are: memory is taken for what comes, not for what is told."""
    content = bytearray()
    while len(content) < size and (block := stream.read(min(size - len(content), 2**20))):
        content += block
    return bytes(content)


def _file_names(part: Part) -> tuple[str, str]:
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"


def _file(folder: Path, name: str) -> Path | None:
    """The plain file of that name or the compressed one, if there is any."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _required_file(folder: Path, name: str) -> Path:
    path = _file(folder, name)
    if path is None:
        raise DataError(f"the folder {folder} has neither {name} nor {name}.gz")
    return path
