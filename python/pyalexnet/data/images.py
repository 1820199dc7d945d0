"""From a picture of any kind to the 256×256 RGB pixels that crops are taken from."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.errors import DataError

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp"),
    *(".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"),
)
"""How the names of image files end, in lower case."""

_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def find_image_files(path: str | PathLike[str]) -> list[Path]:
    """An image file itself, or all files below a folder whose names end as those of images do, in order.

    Raises:
        DataError: there is nothing of that name, or the folder has no images.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"there is no image {path}")
        return [path]
    found = sorted(file for file in path.rglob("*") if _is_image_file(file))
    if not found:
        raise DataError(f"the folder {path} has no images; it must hold files that end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def _is_image_file(file: Path) -> bool:
    return file.name.lower().endswith(IMAGE_SUFFIXES) and not file.name.startswith(".") and file.is_file()


def read_image(path: str | PathLike[str]) -> npt.NDArray[np.uint8]:
    """An image file as :func:`fit_image` prepares it.

    Greyscale, palette, CMYK and 16-bit images become 8-bit RGB; transparent parts show white; an EXIF
    orientation is applied.

    Returns:
        uint8 (256, 256, 3).

    Raises:
        DataError: the file is missing, broken or no image; the message names it.
    """
    try:
        return decode_image(path)
    except DataError as error:
        raise DataError(f"cannot read the image {path}: {error}") from error


def decode_image(file: str | PathLike[str] | BinaryIO) -> npt.NDArray[np.uint8]:
    """:func:`read_image` of an open file or a path, with errors that give the reason alone.

    Raises:
        DataError: the file is missing, broken or no image; the same bytes give the same message.
    """
    try:
        with Image.open(file) as image:
            # Photographs far larger than needed are decoded at a half, a quarter or an eighth of their size.
            image.draft("RGB", (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
            return _fit(_to_rgb(ImageOps.exif_transpose(image)))
    except MemoryError:  # it says nothing about the image
        raise
    except UnidentifiedImageError as error:
        raise DataError("it is no image of a known format, or its beginning is damaged") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them stumble over
        raise DataError(_reason(error)) from error


def fit_image(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The central square of an image, resized to 256×256: shorter side to 256, the middle kept.

    Args:
        pixels: uint8 (H, W) greyscale or (H, W, 3) RGB, of any size.

    Returns:
        uint8 (256, 256, 3).
    """
    if pixels.shape == (IMAGE_SIZE, IMAGE_SIZE, 3):
        return pixels
    return _fit(Image.fromarray(np.ascontiguousarray(pixels)))


def _fit(image: Image.Image) -> npt.NDArray[np.uint8]:
    square = ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.array(square.convert("RGB"))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        # convert() would cut every value at 255: 65535 becomes 255 by a division by 257.
        values = np.asarray(image, np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise DataError("its pixels are floating-point numbers, for which there is no common range")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        return Image.alpha_composite(white, transparent).convert("RGB")
    return image.convert("RGB")


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
