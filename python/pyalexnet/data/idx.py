"""Data sets in IDX files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyalexnet.data.arrays import ImageArrays
from pyalexnet.errors import DataError

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
        images_file, labels_file = (_required_file(Path(folder), name) for name in _file_names(part))
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
        DataError: the file cannot be read, is of another kind, or its size is not what its header tells.
    """
    content = _content(path)
    magic, header_bytes = bytes([0, 0, _UNSIGNED_BYTES, axes]), 4 + 4 * axes
    if content[:4] != magic:
        raise DataError(
            f"{path} begins with the bytes {content[:4].hex(' ') or '(none)'}; an IDX file of unsigned bytes with "
            f"{axes} {'axis' if axes == 1 else 'axes'} begins with {magic.hex(' ')}"
        )
    if len(content) < header_bytes:
        raise DataError(f"{path} is truncated: it has {len(content)} bytes; its header alone takes {header_bytes}")
    shape = tuple(map(int, np.frombuffer(content, ">u4", axes, offset=4)))
    expected = header_bytes + math.prod(shape)
    if len(content) != expected:
        kind = "is truncated" if len(content) < expected else "has bytes behind its end"
        raise DataError(f"{path} {kind}: it has {len(content)} bytes; its header tells of {shape}, {expected} bytes")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


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
