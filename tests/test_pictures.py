"""Images as callers hand them over: each kind gives the pixels that the same picture in a file gives."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyalexnet.data.images import read_image
from pyalexnet.data.pictures import listed, prepared
from pyalexnet.device.tensor import Tensor
from pyalexnet.errors import DataError


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (40, 30, 3), np.uint8)


def test_one_picture_in_every_form(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    expected, content = read_image(path), path.read_bytes()
    with open(path, "rb") as file, Image.open(path) as lazy:
        forms = [
            *(path, str(path), content, bytearray(content), memoryview(content), io.BytesIO(content), file, lazy),
            *(Image.fromarray(pixels), pixels, pixels[:, ::-1][:, ::-1], np.asfortranarray(pixels)),
            Tensor.from_array(pixels),
        ]
        for form in [*forms, *forms]:  # what is read once can be read again
            np.testing.assert_array_equal(prepared(form), expected)
            assert [id(one) for one in listed(form)] == [id(form)] or isinstance(form, Tensor)
    file = Image.open(path)
    assert np.array(prepared(file)).any()
    assert file.size == (30, 40), "a caller's image is left as it is"
    file.close()


def test_arrays_of_pytorch(pixels: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    picture = torch.from_numpy(pixels.copy())
    np.testing.assert_array_equal(prepared(picture), prepared(pixels))
    np.testing.assert_array_equal(prepared(picture[..., 0]), prepared(pixels[..., 0]))
    assert len(listed(torch.stack([picture, picture]))) == 2
    with pytest.raises(DataError, match=r"an image has shape \(3, 40, 30\); .* permute\(1, 2, 0\) puts the colours"):
        prepared(picture.permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr", "I"])
def test_pillows_modes_are_those_of_files(mode: str, pixels: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(pixels[..., 0].astype(np.int32) * 257)
    else:
        image = image.convert(mode)
    assert image.mode == mode
    path = tmp_path / f"a.{ {'CMYK': 'jpg', 'YCbCr': 'jpg', 'I': 'tif'}.get(mode, 'png') }"
    image.save(path, quality=100, subsampling=0)
    # A JPEG's pixels differ by its rounding.
    atol = 6 if path.suffix == ".jpg" else 0
    found, expected = prepared(image).astype(int), read_image(path).astype(int)
    np.testing.assert_allclose(found, expected, atol=atol)


def test_pillows_orientation_is_applied(pixels: np.ndarray, tmp_path: Path) -> None:
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 6
    path = tmp_path / "a.png"
    turned.save(path, exif=turned.getexif())
    upright = prepared(np.rot90(pixels, -1))
    np.testing.assert_array_equal(read_image(path), upright)
    with Image.open(path) as image:
        np.testing.assert_array_equal(prepared(image), upright)


def test_a_tiff_that_is_loaded_already(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path)
    with Image.open(path) as image:
        image.load()
        np.testing.assert_array_equal(prepared(image), prepared(pixels))


def test_one_image_and_one_file_in_many_threads(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels).resize((600, 800)).save(path)
    expected = read_image(path)
    for _ in range(3):
        with open(path, "rb") as file, Image.open(path) as image, ThreadPoolExecutor(8) as pool:
            for found in pool.map(prepared, [file, image] * 8):
                np.testing.assert_array_equal(found, expected)


def test_many_are_listed() -> None:
    grey = np.zeros((5, 8, 9), np.uint8)
    assert [one.shape for one in listed(grey)] == [(8, 9)] * 5
    assert [one.shape for one in listed(np.zeros((2, 8, 9, 3), np.uint8))] == [(8, 9, 3)] * 2
    assert [one.shape for one in listed(Tensor.from_array(grey))] == [(8, 9)] * 5
    assert listed(path for path in ("a", "b")) == listed(("a", "b")) == listed(np.array(["a", "b"])) == ["a", "b"]
    assert prepared(np.zeros((8, 9, 1), np.uint8)).shape == (256, 256, 3)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels_are_not_taken_for_images(channels: int) -> None:
    """An RGBA array is no list of as many images as it has rows, each four pixels wide."""
    image = np.zeros((8, 9, channels), np.uint8)
    assert [one.shape for one in listed(image)] == [image.shape]
    if channels > 1:
        hint = r"; \[\.\.\., :3\] leaves the opacity out" if channels == 4 else ""
        with pytest.raises(DataError, match=rf"shape \(8, 9, {channels}\); it must be \(H, W\) or \(H, W, 3\){hint}$"):
            prepared(image)


@pytest.mark.parametrize("images", [None, 5, 1.5, {"cat": "cat.jpg"}, object(), np.uint8(3)])
def test_what_is_no_image_is_named(images: Any) -> None:
    with pytest.raises(TypeError, match=r"images is .*; it must be a path, an open file, .* or a list of such"):
        listed(images)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (5, "an image is 5; it must be a path, an open file"),
        ([[1, 2], [3, 4]], "an image is .*; it must be a path, an open file"),
        (np.zeros((4, 4)), "an image has dtype float64; it must be uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"an image has shape \(4, 4, 4\); it must be"),
        (np.zeros((0, 3), np.uint8), r"an image has shape \(0, 3\)"),
        (b"no image at all", "cannot read an image in 15 bytes: it is no image of a known format"),
        (b"", "cannot read an image in 0 bytes: the file is empty"),
        (io.StringIO("text"), "is open for text; it must be open for bytes"),
        (Image.new("F", (4, 4)), "cannot read the image of Pillow's: its pixels are floating-point numbers"),
    ],
)
def test_what_cannot_be_an_image_is_named(image: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(image)


def test_files_that_fail_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut\x1b.png"
    content = io.BytesIO()
    Image.new("RGB", (64, 64)).save(content, "png")
    path.write_bytes(content.getvalue()[:60])
    with open(path, "rb") as file, pytest.raises(DataError, match=r"cannot read the image .*cut\\x1b\.png"):
        prepared(file)
    with Image.open(path) as image, pytest.raises(DataError, match=r"cannot read the image .*cut\\x1b\.png"):
        prepared(image)
    with pytest.raises(DataError, match="cannot read an image's file: I/O operation on closed file"):
        prepared(file)
