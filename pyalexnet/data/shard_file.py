"""A shard: a NumPy file of prepared images, uint8 (n, 256, 256, 3), read as a whole or some images of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import IMAGE_BYTES
from pyalexnet.data.statistics import ImageSums
from pyalexnet.errors import DataError
from pyalexnet.system.array_file import array_header
from pyalexnet.system.files import open_regular_file

HEADER_BYTES = 128
"""What stands before the pixels: the header of NumPy's file format 1.0, padded to a multiple of 64."""

_ROWS_AT_A_TIME = 32


def shard_header(images: int) -> bytes:
    """What stands before so many images."""
    return array_header(np.uint8, (images, IMAGE_SIZE, IMAGE_SIZE, 3))


def row_offset(row: int) -> int:
    """Where an image's bytes begin; of the row behind the last one, the size of the file."""
    return HEADER_BYTES + row * IMAGE_BYTES


def require_whole(path: Path, images: int) -> None:
    """Refuse a shard that has not the size of so many images or begins otherwise than they do.

    Raises:
        DataError: it is missing, cannot be read or is another; the message says which.
    """
    try:
        with open_regular_file(path, buffering=0) as file:
            size, header = os.fstat(file.fileno()).st_size, file.read(HEADER_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; the folder is not complete") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if size != row_offset(images):
        raise DataError(f"{path} has {size:,} bytes; {images} images need {row_offset(images):,}")
    if header != shard_header(images):
        raise DataError(f"{path} is damaged: its header is not that of {images} images")


def read_rows(path: Path, rows: Sequence[int], images: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Read some images of a shard, each into an array of its own, uint8 (256, 256, 3).

    Raises:
        DataError: the file cannot be read, or has become shorter.
    """
    try:
        with open_regular_file(path, buffering=0) as file:
            for row, image in zip(rows, images, strict=True):
                if os.preadv(file.fileno(), [image.data], row_offset(row)) != IMAGE_BYTES:
                    raise DataError(f"{path} has become shorter: image {row} is missing")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def examine(path: Path, on_images: Callable[[int], None] = lambda _count: None) -> tuple[str, ImageSums]:
    """The SHA-256 of a shard, and the sums over its images.

    Args:
        path: the shard.
        on_images: called with the number of images read since the last call.

    Raises:
        OSError: it cannot be read.
    """
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
