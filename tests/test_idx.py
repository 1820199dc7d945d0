"""IDX files, whole and broken, and folders and names that stand for them."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet.data import as_dataset, idx
from pyalexnet.data.idx import FASHION_MNIST_CLASSES, IdxImages
from pyalexnet.data.opening import as_test_dataset, held_out_part
from pyalexnet.errors import DataError

IMAGES, LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"


def content_of(values: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write(path: Path, content: bytes, *, compressed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if compressed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_part(
    folder: Path, part: str, images: npt.NDArray[np.uint8], labels: list[int], *, compressed: bool = False
) -> None:
    write(folder / IMAGES.format(part), content_of(images), compressed=compressed)
    write(folder / LABELS.format(part), content_of(np.array(labels, np.uint8)), compressed=compressed)


@pytest.mark.parametrize("compressed", [False, True])
def test_both_parts_of_a_folder(tmp_path: Path, rng: np.random.Generator, compressed: bool) -> None:
    pixels = rng.integers(0, 256, (5, 28, 20), np.uint8)
    write_part(tmp_path, "train", pixels[:3], [2, 0, 1], compressed=compressed)
    write_part(tmp_path, "t10k", pixels[3:], [1, 1], compressed=compressed)
    training, held_out = as_dataset(tmp_path), held_out_part(str(tmp_path))
    assert isinstance(training, IdxImages)
    assert np.array_equal(training.images, pixels[:3])
    assert training.labels.tolist() == [2, 0, 1]
    assert training.classes == ("0", "1", "2")
    assert training.batch(np.array([1]))[0].shape == (1, 256, 256, 3)
    assert isinstance(held_out, IdxImages)
    assert np.array_equal(held_out.images, pixels[3:])
    assert as_test_dataset(tmp_path).labels.tolist() == [1, 1]


def test_a_folder_without_test_images(tmp_path: Path) -> None:
    write_part(tmp_path, "train", np.zeros((2, 4, 4), np.uint8), [0, 1])
    assert held_out_part(tmp_path) is None
    assert as_test_dataset(tmp_path).labels.tolist() == [0, 1]


GOOD_IMAGES, GOOD_LABELS = content_of(np.ones((2, 3, 4), np.uint8)), content_of(np.array([0, 1], np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (GOOD_LABELS, GOOD_LABELS, "images-idx3-ubyte begins with the bytes 00 00 08 01; .* begins with 00 00 08 03"),
        (GOOD_IMAGES, GOOD_IMAGES, "labels-idx1-ubyte begins with the bytes 00 00 08 03; .* begins with 00 00 08 01"),
        (b"\0\0\x0d" + GOOD_IMAGES[3:], GOOD_LABELS, "images-idx3-ubyte begins with the bytes 00 00 0d 03"),
        (b"", GOOD_LABELS, r"images-idx3-ubyte begins with the bytes \(none\)"),
        (GOOD_IMAGES[:10], GOOD_LABELS, "images-idx3-ubyte is truncated: it has 10 bytes; its header alone takes 16"),
        (GOOD_IMAGES[:-1], GOOD_LABELS, r"images-idx3-ubyte is truncated: it has 39 bytes; .* \(2, 3, 4\), 40 bytes"),
        (GOOD_IMAGES, GOOD_LABELS[:-1], "labels-idx1-ubyte is truncated"),
        (GOOD_IMAGES + b"\0", GOOD_LABELS, "images-idx3-ubyte has bytes behind its end: it has at least 41 bytes"),
        (GOOD_IMAGES, GOOD_LABELS + b"\0", "labels-idx1-ubyte has bytes behind its end"),
        (struct.pack(">4B3I", 0, 0, 8, 3, *3 * [2**32 - 1]), GOOD_LABELS, "it must be at most 4,294,967,296, as"),
        (content_of(np.ones((3, 3, 4), np.uint8)), GOOD_LABELS, r"images-idx3-ubyte and .*: labels has shape \(2,\)"),
        (content_of(np.ones((0, 3, 4), np.uint8)), GOOD_LABELS, r"images-idx3-ubyte and .*: images has shape \(0, 3"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, images: bytes, labels: bytes, message: str) -> None:
    write(tmp_path / IMAGES.format("train"), images)
    write(tmp_path / LABELS.format("train"), labels)
    with pytest.raises(DataError, match=message):
        as_dataset(tmp_path)


@pytest.mark.parametrize("damage", ["no gzip", "cut", "flipped"])
def test_damaged_gzip_is_named(tmp_path: Path, rng: np.random.Generator, damage: str) -> None:
    write_part(tmp_path, "train", rng.integers(0, 256, (9, 8, 8), np.uint8), [0] * 9, compressed=True)
    path = tmp_path / f"{IMAGES.format('train')}.gz"
    content = bytearray(path.read_bytes())
    if damage == "no gzip":
        content = bytearray(GOOD_IMAGES)
    elif damage == "cut":
        del content[100:]
    else:
        content[-12] ^= 0xFF  # in the compressed pixels, before the eight bytes of checksum and size
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read {path}: "):
        as_dataset(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / IMAGES.format("train"), GOOD_IMAGES)
    with pytest.raises(DataError, match=r"has neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte\.gz"):
        as_dataset(tmp_path)


def test_fashion_mnist_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "FASHION_MNIST_FOLDER", tmp_path / "installed")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="apt install dataset-fashion-mnist"):
        as_dataset("fashion-mnist")
    pixels = np.zeros((2, 28, 28), np.uint8)
    write_part(tmp_path / "installed", "train", pixels, [9, 0], compressed=True)
    write_part(tmp_path / "installed", "t10k", pixels, [3, 4], compressed=True)
    training, test = as_dataset("fashion-mnist"), as_test_dataset("fashion-mnist")
    assert training.classes == test.classes == FASHION_MNIST_CLASSES
    assert [training.classes[label] for label in training.labels] == ["ankle boot", "t-shirt/top"]
    assert test.labels.tolist() == [3, 4]


def test_a_path_means_the_folder_also_by_a_data_sets_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_part(tmp_path / "fashion-mnist", "train", np.zeros((2, 4, 4), np.uint8), [0, 1])
    assert as_dataset("./fashion-mnist").classes == ("0", "1")


@pytest.mark.skipif(not idx.FASHION_MNIST_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_debians_fashion_mnist() -> None:
    training, test = as_dataset("fashion-mnist"), as_test_dataset("fashion-mnist")
    assert np.bincount(training.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    # Its first image is an ankle boot, as the authors' README shows.
    assert training.classes[training.labels[0]] == "ankle boot"


@pytest.mark.long
def test_gzip_is_unpacked_no_further_than_its_header_tells(tmp_path: Path) -> None:
    """Zeros that 1 MB of gzip stands for, 1 GB of them, behind a header of 24 bytes."""
    write_part(tmp_path, "train", np.ones((2, 3, 4), np.uint8), [0, 1], compressed=True)
    pack = zlib.compressobj(9, wbits=31)
    start = pack.compress(GOOD_IMAGES[:16])
    zeros = b"".join(pack.compress(bytes(2**20)) for _ in range(1024)) + pack.flush()
    (tmp_path / f"{IMAGES.format('train')}.gz").write_bytes(start + zeros)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="has bytes behind its end: it has at least 41 bytes"):
            as_dataset(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
