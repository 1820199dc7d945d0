"""Image files of every kind, whole and broken, large and small."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pyalexnet.data.images import DECODING_BYTES, decode_image, read_image
from pyalexnet.errors import DataError


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def plain(mode: str, colour: object, size: tuple[int, int] = (300, 280)) -> Image.Image:
    return Image.new(mode, size, colour)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def decoded(content: bytes) -> np.ndarray:
    return decode_image(io.BytesIO(content))


def upper_half_white(size: tuple[int, int] = (256, 256)) -> Image.Image:
    image = Image.new("RGB", size, "black")
    image.paste("white", (0, 0, size[0], size[1] // 2))
    return image


def white_side(pixels: np.ndarray) -> str:
    means = {"up": pixels[:100], "down": pixels[-100:], "left": pixels[:, :100], "right": pixels[:, -100:]}
    return max(means, key=lambda side: means[side].mean())


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("rgb.png", plain("RGB", (10, 20, 30)), (10, 20, 30)),
        ("grey.png", plain("L", 77), (77, 77, 77)),
        ("bilevel.png", plain("1", 1), (255, 255, 255)),
        ("palette.png", plain("RGB", (200, 0, 0)).quantize(4), (200, 0, 0)),
        ("clear.png", plain("RGBA", (10, 20, 30, 0)), (255, 255, 255)),
        ("half_clear_grey.png", plain("LA", (0, 51)), (204, 204, 204)),
        ("sixteen_bit.png", plain("I;16", 257 * 100), (100, 100, 100)),
        ("grey.jpg", plain("L", 77), (77, 77, 77)),
        ("cmyk.jpg", plain("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        ("tiny.png", plain("RGB", (1, 2, 3), (1, 1)), (1, 2, 3)),
        ("long.png", plain("RGB", (1, 2, 3), (4000, 3)), (1, 2, 3)),
    ],
)
def test_every_kind_becomes_rgb(tmp_path: Path, name: str, image: Image.Image, expected: tuple[int, int, int]) -> None:
    pixels = read_image(save(tmp_path / name, image))
    assert pixels.shape == (256, 256, 3)
    assert pixels.dtype == np.uint8
    # JPEG's quantisation of a plain colour is off by a level or two; PNG's values are exact.
    assert np.abs(pixels.astype(int) - expected).max() <= (2 if name.endswith("jpg") else 0)


def test_sixteen_bit_values_keep_their_order(tmp_path: Path) -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257)[None].repeat(256, axis=0)
    pixels = read_image(save(tmp_path / "ramp.png", Image.fromarray(ramp)))
    assert np.array_equal(pixels[0, :, 0], np.arange(256))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = plain("RGB", "black", (256, 256))
    image.paste("white", (0, 0, 256, 128))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the upper half comes to the right
    pixels = read_image(save(tmp_path / "turned.jpg", image, exif=exif))
    assert pixels[:, 200:].min() > 250
    assert pixels[:, :56].max() < 5


def test_large_photographs_are_scaled_down(tmp_path: Path, rng: np.random.Generator) -> None:
    small = rng.integers(0, 256, (8, 10, 3), np.uint8)
    photograph = Image.fromarray(small).resize((2500, 2000), Image.Resampling.BICUBIC)
    pixels = read_image(save(tmp_path / "large.jpg", photograph, quality=95))
    central = photograph.resize((256, 256), Image.Resampling.BICUBIC, box=(250, 0, 2250, 2000))
    # JPEG's loss, and a first reduction by averages; a mistake in place or scale shows as tens of levels.
    assert np.abs(pixels.astype(int) - np.asarray(central)).mean() < 2


@pytest.mark.parametrize("kind", ["cut.jpg", "cut.png", "text.png", "empty.jpg", "missing.jpg", "folder.png"])
def test_broken_files_are_named(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    path = tmp_path / kind
    if kind.startswith("cut"):
        save(path, Image.fromarray(rng.integers(0, 256, (300, 300, 3), np.uint8)))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "text.png":
        path.write_text("no image")
    elif kind == "empty.jpg":
        path.touch()
    elif kind == "folder.png":
        path.mkdir()
    with pytest.raises(DataError, match=f"cannot read the image {path}: "):
        read_image(path)


def test_damaged_files_never_crash(tmp_path: Path, rng: np.random.Generator) -> None:
    for suffix in ("png", "jpg"):
        whole = save(tmp_path / f"whole.{suffix}", Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)))
        content = bytearray(whole.read_bytes())
        for _ in range(50):
            damaged = content.copy()
            for place in rng.integers(0, len(content), 10):
                damaged[place] = rng.integers(0, 256)
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(damaged)
            with contextlib.suppress(DataError):
                assert read_image(path).shape == (256, 256, 3)


def exif_block(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    """EXIF's first list with these entries: tag, kind, count, value."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    fields = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value))
        for tag, kind, count, value in entries
    )
    return b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, len(entries)) + fields + bytes(4)


SIDES = {1: "up", 2: "up", 3: "down", 4: "down", 5: "left", 6: "right", 7: "right", 8: "left"}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("size", [(256, 256), (2960, 2900)])
@pytest.mark.parametrize("orientation", SIDES)
def test_all_orientations(kind: str, size: tuple[int, int], orientation: int) -> None:
    image = upper_half_white(size)
    exif = image.getexif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"webp": {"lossless": True, "method": 0}, "png": {"compress_level": 1}}.get(kind, {})
    assert white_side(decoded(encoded(image, kind, exif=exif, **options))) == SIDES[orientation]


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_beside_broken_exif_counts(order: str) -> None:
    broken = [(0x010F, 2, 2**31, 2**31), (0x8769, 4, 1, 2**32 - 1), (0x9999, 99, 2**32 - 1, 0)]
    for entries in ([*broken, (0x0112, 3, 1, 6)], [(0x0112, 3, 1, 6), *broken], [(0x0112, 4, 1, 6)]):
        block = exif_block(*entries, order=order)
        assert white_side(decoded(encoded(upper_half_white(), "jpeg", exif=block))) == "right"


def test_no_corruption_of_exif_loses_a_photograph(rng: np.random.Generator) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0131] = 6, "a maker of cameras", "a program"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a comment"
    block = bytearray(b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0"))
    whole = encoded(upper_half_white(), "jpeg", exif=bytes(block))
    start, found = whole.index(block), set()
    for _ in range(500):
        content = bytearray(whole)
        for place in rng.integers(start + 6, start + len(block), rng.integers(1, 6)):
            content[place] = rng.integers(0, 256)
        found.add(white_side(decoded(bytes(content))))
    assert "right" in found


def test_the_orientation_of_other_programs() -> None:
    image, info = upper_half_white(), PngImagePlugin.PngInfo()
    block = exif_block((0x0112, 3, 1, 6))
    info.add_text("Raw profile type exif", f"\nexif\n    {len(block)}\n{block.hex()}")
    assert white_side(decoded(encoded(image, "png", pnginfo=info))) == "right"
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="3"/>')
    assert white_side(decoded(encoded(image, "png", pnginfo=info))) == "down"
    assert white_side(decoded(encoded(image, "png", exif=exif_block((0x0112, 3, 1, 77))))) == "up"


def test_only_the_documented_formats_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = upper_half_white()
    for kind in ("jpeg", "mpo", "png", "gif", "bmp", "tiff", "webp", "ppm"):
        assert white_side(decoded(encoded(image, kind))) == "up", kind
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\n: > {ran}\n")
    (tmp_path / "gs").chmod(0o755)
    for kind in ("eps", "pdf", "icns", "ico", "tga", "pcx", "jpeg2000", "dds", "sgi"):
        with pytest.raises(DataError, match="it is no image of a known format"):
            decoded(encoded(image, kind))
    assert not ran.exists()


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"cannot read the image .*pipe\.jpg: it is a FIFO"):
        read_image(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="zero: it is a device"):
        read_image("/dev/zero")
    with pytest.raises(DataError, match="File name too long"):
        read_image(tmp_path / ("a" * 5000))
    with pytest.raises(DataError, match="null byte"):
        read_image("a\0b.jpg")


def png(width: int, height: int, bits: int, colour: int, rows: bytes = b"") -> bytes:
    """A PNG of one colour, 0, of any size in little time; ``rows`` in place of all its rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, parts = zlib.compressobj(1), []
    row = bytes(1 + -(-width * bits * {0: 1, 2: 3, 6: 4}[colour] // 8))
    if rows:
        parts.append(packer.compress(rows))
    else:
        at_once = max(1, 2**20 // len(row))
        parts += [packer.compress(row * min(at_once, height - start)) for start in range(0, height, at_once)]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", b"".join(parts) + packer.flush())
        + chunk(b"IEND", b"")
    )


PEAK = """
import resource, sys
from pyalexnet.data.images import read_image
from pyalexnet.errors import DataError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
try:
    print(read_image(sys.argv[1]).mean())
except DataError as error:
    print(error)
print(peak() - before)
"""


def peak_bytes(path: Path) -> tuple[str, int]:
    """What reading an image gave or said, and how far it raised a process's memory."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", PEAK, str(path)], capture_output=True, text=True)
    assert done.stderr == ""
    said, peak = done.stdout.splitlines()
    return said, int(peak)


# Beside the picture itself: a band of 2²⁰ pixels in five copies of 4 bytes, its 16-bit values, and the libraries.
SMALL_COPIES = 80 * 2**20


@pytest.mark.parametrize(
    ("size", "bits", "colour", "stored"),
    [((9000, 9000), 1, 0, 1), ((5000, 8000), 16, 0, 2), ((6000, 5000), 8, 6, 4), ((3_000_000, 20), 8, 0, 1)],
)
def test_memory_is_that_of_the_picture_once(
    tmp_path: Path, size: tuple[int, int], bits: int, colour: int, stored: int
) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(*size, bits, colour))
    said, peak = peak_bytes(path)
    assert said == ("255.0" if colour == 6 else "0.0")  # what is transparent is white
    assert peak < size[0] * size[1] * stored + SMALL_COPIES


def test_what_would_take_too_much_is_refused_by_its_header(tmp_path: Path) -> None:
    side = int((DECODING_BYTES / 4) ** 0.5) + 1
    for name, content in {
        "bomb.png": png(side, side, 8, 6, rows=b"\0"),
        "bomb.gif": b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0, 0, 0) + b",\0\0\0\0\x60\xea\x60\xea\0\x08\0",
        "bomb.bmp": encoded(plain("RGB", 0, (8, 8)), "bmp")[:18] + struct.pack("<ii", side, side)
        + encoded(plain("RGB", 0, (8, 8)), "bmp")[26:],
        "bomb.ppm": f"P6 {side} {side} 255\n".encode(),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        said, peak = peak_bytes(tmp_path / name)
        assert "MiB to decode; it may take at most 640 MiB" in said, (name, said)
        assert peak < 2**24, name  # a hundredth of the pictures


@pytest.mark.long
def test_a_large_jpeg_is_decoded_small(tmp_path: Path) -> None:
    content = bytearray(encoded(plain("RGB", (10, 200, 30), (64, 64)), "jpeg", quality=20))
    image = Image.new("L", (12000, 12000), 90)
    path = save(tmp_path / "photo.jpg", image)
    said, peak = peak_bytes(path)
    assert abs(float(said) - 90) < 1
    assert peak < 12000 * 12000 // 4
    # All coefficients of a progressive one are kept: at this size they would take 24 GB.
    progressive = bytearray(encoded(plain("RGB", 0, (64, 64)), "jpeg", progressive=True))
    for whole, fits in ((content, True), (progressive, False)):
        frame = whole.index(b"\xff\xc0" if fits else b"\xff\xc2")
        whole[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
        path.write_bytes(whole)
        said, peak = peak_bytes(path)
        assert ("MiB to decode" in said) is not fits, said
        assert peak < (65000 // 8) ** 2 * 4 + SMALL_COPIES


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_large_and_small_pictures_are_treated_alike(
    mode: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    smooth = Image.fromarray(rng.integers(0, 256, (5, 6, 4), np.uint8), "RGBA").resize((1300, 1205))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(smooth.convert("L")).astype(np.uint16) * 257)
    elif mode == "P":
        image = smooth.convert("RGB").quantize(64)
    else:
        image = smooth.convert("RGB").convert(mode) if mode in ("CMYK", "1") else smooth.convert(mode)
    content = encoded(image, "tiff" if mode == "CMYK" else "png")
    usual = decoded(content).astype(int)
    monkeypatch.setattr("pyalexnet.data.images._MANY_PIXELS", 2**20)
    monkeypatch.setattr("pyalexnet.data.images._BAND_PIXELS", 2**17)
    # Averages of 2×2 pixels before a smooth resampling change little, but much where single pixels are black or white.
    assert np.abs(decoded(content) - usual).mean() < (8 if mode == "1" else 2)


@pytest.mark.parametrize("size", [(1, 60000), (60000, 1), (2, 3), (1, 1), (4_000_000, 3)])
def test_narrow_and_tiny_pictures(size: tuple[int, int]) -> None:
    assert (decoded(encoded(plain("L", 9, size), "png")) == 9).all()


def test_metadata_without_end_are_refused_or_passed_over() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "a" * 100_000_000, zip=True)
    for options in ({"pnginfo": info}, {"icc_profile": bytes(100_000_000)}):
        with pytest.raises(DataError, match="too large"):
            decoded(encoded(plain("L", 9), "png", **options))
    assert (decoded(encoded(plain("RGB", (9, 9, 9)), "jpeg", icc_profile=bytes(10_000_000))) == 9).all()


def test_tiffs_of_any_content_are_read_or_refused(rng: np.random.Generator) -> None:
    noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        whole = encoded(noise, "tiff", compression=compression)
        tags = whole.index(struct.pack("<HHII", 256, 4, 1, 40)) if struct.pack("<HHII", 256, 4, 1, 40) in whole else 8
        for _ in range(60):
            content = bytearray(whole)
            for place in rng.integers(tags, min(tags + 200, len(whole)), 3):
                content[place] = rng.integers(0, 256)
            with warnings.catch_warnings(), contextlib.suppress(DataError):
                warnings.simplefilter("ignore")
                assert decoded(bytes(content)).shape == (256, 256, 3)
