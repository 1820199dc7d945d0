"""Images as a caller hands them over, one or many: paths, files, bytes, Pillow's and arrays of any library."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from pyalexnet.data.images import decode_image, fit_image, fit_picture, read_image
from pyalexnet.device.foreign import ArrayLike, describe
from pyalexnet.device.tensor import Tensor
from pyalexnet.errors import DataError
from pyalexnet.system.checks import shown
from pyalexnet.system.names import printable

# An image as a caller may have it, and images, of which a single one may stand alone.
Picture: TypeAlias = str | PathLike[str] | IO[bytes] | Image.Image | ArrayLike
Pictures: TypeAlias = Picture | Iterable[Picture]

KINDS = "a path, an open file, its bytes, an image of Pillow's, a uint8 array (H, W) or (H, W, 3)"
"""What an image may be, in words."""

# An array of three axes whose last is no longer is one image with its channels, not many of such a width.
_MOST_CHANNELS = 4

# Two threads must neither read one file nor load one image of Pillow's at the same time.
_one_at_a_time = threading.Lock()


def listed(images: Any, name: str = "images") -> list[object]:
    """Images one by one; a single one may stand alone.

    Args:
        images: an image of one of the :data:`KINDS`, or any number of these in a list, a generator or an array.
        name: the argument's, for messages.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(images, str | PathLike | bytes | bytearray | memoryview | Image.Image) or hasattr(images, "read"):
        return [images]
    if isinstance(images, Tensor):
        images = images.numpy()
    shape = getattr(images, "shape", None)
    if isinstance(shape, tuple) and (len(shape) == 2 or (len(shape) == 3 and shape[2] <= _MOST_CHANNELS)):
        return [images]
    try:
        if isinstance(images, Mapping):
            raise TypeError
        return list(images)
    except TypeError:
        raise TypeError(f"{name} is {shown(images)}; it must be {KINDS}, or a list of such") from None


def prepared(image: object) -> npt.NDArray[np.uint8]:
    """An image as :func:`pyalexnet.data.images.read_image` prepares a file.

    Args:
        image: of one of the :data:`KINDS`.

    Returns:
        uint8 (256, 256, 3).

    Raises:
        DataError: it cannot be read, or is no image; the message says which and why.
    """
    if isinstance(image, str | PathLike):
        return read_image(fspath(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return _decoded(image, f"an image in {len(image):,} bytes")
    if isinstance(image, Image.Image):
        with _one_at_a_time:
            return fit_picture(image)
    if hasattr(image, "read"):
        return _decoded(_content(image), f"the image {printable(str(getattr(image, 'name', 'of an open file')))}")
    return fit_image(_pixels(image))


def prepared_or_error(image: object) -> npt.NDArray[np.uint8] | DataError:
    """As :func:`prepared`, but what it would raise is returned."""
    try:
        return prepared(image)
    except DataError as error:
        return error


def _content(file: Any) -> bytes:
    with _one_at_a_time:
        try:
            if file.seekable():
                file.seek(0)
            content = file.read()
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read an image's file: {error}") from error
    if not isinstance(content, bytes):
        raise DataError("an image's file is open for text; it must be open for bytes, as by open(path, 'rb')")
    return content


def _decoded(content: bytes | bytearray | memoryview, what: str) -> npt.NDArray[np.uint8]:
    try:
        return decode_image(io.BytesIO(content))
    except DataError as error:
        raise DataError(f"cannot read {what}: {error}") from error


def _pixels(array: object) -> npt.NDArray[np.uint8]:
    """An array's uint8 (H, W) or (H, W, 3) in host memory."""
    try:
        found = array.numpy() if isinstance(array, Tensor) else describe("an image", array)
    except TypeError as error:
        raise DataError(f"an image is {shown(array)}; it must be {KINDS}") from error
    if found.dtype != np.uint8:
        raise DataError(f"an image has dtype {found.dtype}; it must be uint8, pixels from 0 to 255")
    shape = found.shape
    if 0 in shape or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        hint = ""
        if len(shape) == 3 and shape[2] == _MOST_CHANNELS:
            hint = "; [..., :3] leaves the opacity out"
        elif len(shape) == 3 and shape[0] == 3:
            hint = "; permute(1, 2, 0) puts the colours last"
        raise DataError(f"an image has shape {shape}; it must be (H, W) or (H, W, 3){hint}")
    pixels: npt.NDArray[np.uint8] = found if isinstance(found, np.ndarray) else found.numpy()
    return pixels[..., 0] if shape[2:] == (1,) else pixels
