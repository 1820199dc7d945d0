"""From a picture of any kind to the 256×256 RGB pixels that crops are taken from.

What a picture takes in memory is known from its header, and one that would take too much is refused before a pixel of
it is decoded. Of one that is far larger than 256×256 no second copy is made: JPEG's decoder makes it smaller itself,
and others become RGB and smaller a band of rows at a time.
"""

from __future__ import annotations

import contextlib
import re
import struct
import threading
from os import PathLike, fspath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.errors import DataError, ImageError
from pyalexnet.system.files import open_regular_file
from pyalexnet.system.names import printable

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp"),
    *(".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"),
)
"""How the names of image files end, in lower case."""

DECODING_BYTES = 640 * 2**20
"""What decoding a picture may take: 167 million pixels in colour, 671 million of 8-bit grey; JPEGs take far less."""


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG whose resolution nobody asks for, so that no warning of damaged EXIF data comes from the search for it."""

    def _read_dpi_from_exif(self) -> None:
        pass


# How a file of each format begins, and what opens it. Pillow knows many more formats, of which some run programs.
_FORMATS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _Jpeg),  # MPO is a JPEG with others behind it
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    (re.compile(rb"P[1-6]\s"), PpmImagePlugin.PpmImageFile),
)
_SIGNATURE_BYTES = 16

# Pictures that take more than this are decoded one after the other, whatever the number of threads.
_MUCH = 64 * 2**20
_one_at_a_time = threading.Lock()

# A picture of more pixels is made smaller before anything else: the copies that the rest makes take 20 bytes a pixel.
_MANY_PIXELS = 2**23
_BAND_PIXELS = 2**20

_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_BYTES_A_PIXEL = {"1": 1, "L": 1, "P": 1} | dict.fromkeys(_SIXTEEN_BIT_MODES[1:], 2)  # in Pillow's memory; others 4
_WEBP_BYTES_A_PIXEL = 16  # libwebp's two canvases, its result and Pillow's copy

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_START_OF_SCAN = 0xFFDA  # a marker in a JPEG
_NO_COMPRESSION = 1  # in a TIFF
_EXIF_LONG = 4  # an unsigned integer of 32 bits; orientations have 16
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def read_image(path: str | PathLike[str]) -> npt.NDArray[np.uint8]:
    """An image file as :func:`fit_image` prepares it.

    Greyscale, palette, CMYK and 16-bit images become 8-bit RGB; transparent parts show white; an EXIF
    orientation is applied.

    Returns:
        uint8 (256, 256, 3).

    Raises:
        ImageError: the file is missing, broken, no image or no regular file, or takes too much memory; the message
            names it.
    """
    try:
        with open_regular_file(path) as file:
            return decode_image(file)
    except DataError as error:
        reason: object = error
    except (OSError, ValueError) as error:
        reason = _reason(error)
    raise ImageError(f"cannot read the image {printable(fspath(path))}: {reason}")


def decode_image(file: BinaryIO) -> npt.NDArray[np.uint8]:
    """:func:`read_image` of an open file, with errors that give the reason alone.

    Raises:
        DataError: the file is broken or no image, or takes too much memory; the same bytes give the same message.
    """
    try:
        with _opened(file) as image:
            coefficients = _coefficient_bytes(image)
            # Photographs far larger than needed are decoded at a half, a quarter or an eighth of their size.
            image.draft("RGB", (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
            needed = _decoding_bytes(image) + coefficients
            if needed > DECODING_BYTES:
                raise DataError(
                    f"its {image.width:,} × {image.height:,} pixels take {needed / 2**20:,.0f} MiB to decode; it may "
                    f"take at most {DECODING_BYTES / 2**20:,.0f} MiB"
                )
            with _one_at_a_time if needed > _MUCH else contextlib.nullcontext():
                if isinstance(image, TiffImagePlugin.TiffImageFile):
                    # Pillow would compare the size of a TIFF with a limit of its own, which is the whole process's.
                    image.im = Image.new(image.mode, getattr(image, "_tile_size", image.size)).im
                image.load()
                return _fit(_upright_rgb(image))
    except (MemoryError, DataError):  # memory says nothing about the image
        raise
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


def fit_picture(image: Image.Image) -> npt.NDArray[np.uint8]:
    """An image of Pillow's, of any mode, as :func:`read_image` prepares a file; it is loaded, and else left as it is.

    Returns:
        uint8 (256, 256, 3).

    Raises:
        DataError: its file is broken, or its pixels are no colours.
    """
    try:
        image.load()
        return _fit(_upright_rgb(image))
    except MemoryError:
        raise
    except Exception as error:
        name = printable(str(getattr(image, "filename", "") or "of Pillow's"))
        raise DataError(f"cannot read the image {name}: {_reason(error)}") from error


def _fit(image: Image.Image) -> npt.NDArray[np.uint8]:
    square = ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.array(square.convert("RGB"))


def _opened(file: BinaryIO) -> ImageFile.ImageFile:
    """The image in a file, its header read. Unlike Pillow's own function it leaves the size to be judged here."""
    beginning = file.read(_SIGNATURE_BYTES)
    if not beginning:
        raise DataError("the file is empty")
    file.seek(0)
    for signature, kind in _FORMATS:
        if signature.match(beginning):
            try:
                return kind(file)
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                raise DataError(f"its beginning is damaged: {_reason(error)}") from error
    raise DataError("it is no image of a known format, or its beginning is damaged")


# What a picture takes ------------------------------------------------------------------------------------------------


def _decoding_bytes(image: ImageFile.ImageFile) -> int:
    """What Pillow and the library below it take to decode an image, by its header."""
    pixels = image.width * image.height
    stored = pixels * _BYTES_A_PIXEL.get(image.mode, 4)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        turned = image.tag_v2.get(ExifTags.Base.Orientation, 1) != 1  # which Pillow does in a copy
        return stored * (2 if turned else 1) + _strip_bytes(image)
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return pixels * _WEBP_BYTES_A_PIXEL
    if isinstance(image, PpmImagePlugin.PpmImageFile | BmpImagePlugin.BmpImageFile):
        return 2 * stored  # those of their decoders that are written in Python collect all bytes first
    return stored


def _coefficient_bytes(image: ImageFile.ImageFile) -> int:
    """What a JPEG takes that does not come row by row: all its coefficients, of two bytes, at its full size."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.tile:
        return 0
    file: Any = image.fp
    place, colours = file.tell(), len(image.layer)  # behind the first scan's header
    header = struct.pack(">HHB", _START_OF_SCAN, 6 + 2 * colours, colours)
    file.seek(max(0, place - 8 - 2 * colours))
    all_at_once = file.read(len(header)) == header
    file.seek(place)
    if all_at_once and not image.info.get("progressive"):
        return 0
    largest = max((across * down for _, across, down, _ in image.layer), default=1)
    samples = sum(across * down for _, across, down, _ in image.layer) / max(largest, 1)
    return int(2 * image.width * image.height * samples)


def _strip_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """What the largest part of a TIFF that is decompressed at a time takes."""
    tags = image.tag_v2
    if tags.get(TiffImagePlugin.COMPRESSION, _NO_COMPRESSION) == _NO_COMPRESSION:
        return 0
    width = tags.get(TiffImagePlugin.TILEWIDTH, image.width)
    height = tags.get(TiffImagePlugin.TILELENGTH, min(tags.get(TiffImagePlugin.ROWSPERSTRIP, 2**32), image.height))
    bits = sum(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    return int(width) * int(height) * int(bits) // 8


# Upright, in RGB and not too large -----------------------------------------------------------------------------------


def _upright_rgb(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    rgb = _to_rgb(image) if image.width * image.height <= _MANY_PIXELS else _reduced(image)
    return rgb.transpose(turn) if turn is not None else rgb


def _orientation(image: Image.Image) -> int:
    """How the picture is turned by its EXIF, or else its XMP, data; 1 for not at all, also where they are damaged.

    A TIFF is upright once Pillow has loaded it.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    exif = image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:  # as ImageMagick writes it into a PNG
        with contextlib.suppress(ValueError):
            exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    found = None if exif is None else _exif_orientation(exif)
    if found is None:
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        match = _XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
        found = int(match[1]) if match else 1
    return found


def _exif_orientation(exif: bytes) -> int | None:
    """The orientation among the entries of EXIF's first list, however damaged the others are."""
    block = exif.removeprefix(b"Exif\0\0")
    order = ">" if block[:2] == b"MM" else "<"
    with contextlib.suppress(struct.error):  # it ends before its entries do
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, place)
            if tag == ExifTags.Base.Orientation:
                width = "I" if kind == _EXIF_LONG else "H"
                return int(struct.unpack_from(f"{order}{width}", block, place + 8)[0])
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        # convert() would cut every value at 255: 65535 becomes 255 by a division by 257.
        values = np.asarray(image).astype(np.int32).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DataError("its pixels are floating-point numbers, for which there is no common range")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        return Image.alpha_composite(white, transparent).convert("RGB")
    return image.convert("RGB")


def _reduced(image: Image.Image) -> Image.Image:
    """The central square in RGB, made smaller by averages of whole pixels to at least twice the size that is needed."""
    side = min(image.size)
    factor = max(1, side // (2 * IMAGE_SIZE))
    side -= side % factor
    left, top = (image.width - side) // 2, (image.height - side) // 2
    small = Image.new("RGB", (side // factor, side // factor))
    rows = factor * max(1, _BAND_PIXELS // (factor * side))
    for start in range(0, side, rows):
        band = image.crop((left, top + start, left + side, top + min(start + rows, side)))
        small.paste(_to_rgb(band).reduce(factor), (0, start // factor))
    return small


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
