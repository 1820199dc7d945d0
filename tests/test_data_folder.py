"""Image files of every kind, whole and broken, and folders of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet.data import ImageFolder
from pyalexnet.data.images import read_image
from pyalexnet.errors import DataError


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def plain(mode: str, colour: object, size: tuple[int, int] = (300, 280)) -> Image.Image:
    return Image.new(mode, size, colour)


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


def test_subfolders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "b.PNG", plain("RGB", (2, 2, 2)), format="png")
    save(tmp_path / "dog" / "a.jpeg", plain("RGB", (1, 1, 1)), format="jpeg")
    save(tmp_path / "cat" / "c.png", plain("RGB", (3, 3, 3)))
    (tmp_path / "cat" / "notes.txt").write_text("passed over")
    (tmp_path / "cat" / ".hidden.png").write_text("passed over")
    (tmp_path / ".cache").mkdir()
    dataset = ImageFolder(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.names == ["cat/c.png", "dog/a.jpeg", "dog/b.PNG"]
    images, labels = dataset.batch(np.array([2, 0]))
    assert labels.tolist() == [1, 0]
    assert images[:, 0, 0, 0].tolist() == [2, 3]


def test_folders_that_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no subfolders"):
        ImageFolder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="cat has no images"):
        ImageFolder(tmp_path)
