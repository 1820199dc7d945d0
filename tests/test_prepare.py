"""Preparation of image files: every kind of source and image, broken ones, and processes stopped at any moment."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet import prepare
from pyalexnet.cli import main
from pyalexnet.data import PreparedImages
from pyalexnet.data.images import read_image
from pyalexnet.errors import DataError

CLASSES = ("n01440764", "n01443537", "n02119789")


def decoded(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_image(path)


def picture(rng: np.random.Generator, size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "jpeg", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def tar(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def contents(folder: Path) -> dict[str, str]:
    """Every file's name and checksum."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def quietly(source: Path, destination: Path, **options: object) -> PreparedImages:
    return prepare(source, destination, **{"workers": 1, "shard_size": 4, "progress": False} | options)


@pytest.fixture
def files(rng: np.random.Generator) -> dict[str, dict[str, bytes]]:
    return {
        name: {f"{name}_{number}.JPEG": encoded(picture(rng)) for number in (10, 2, 33)[: 2 + label % 2]}
        for label, name in enumerate(CLASSES)
    }


@pytest.fixture
def folder(files: dict[str, dict[str, bytes]], tmp_path: Path) -> Path:
    return written(tmp_path / "photos", files)


def written(folder: Path, files: dict[str, dict[str, bytes]]) -> Path:
    for name, images in files.items():
        (folder / name).mkdir(parents=True)
        for file, content in images.items():
            (folder / name / file).write_bytes(content)
    return folder


def test_images_lie_in_order_of_class_and_name(folder: Path, tmp_path: Path) -> None:
    prepared = quietly(folder, tmp_path / "out")
    names = sorted(str(file.relative_to(folder)) for file in folder.glob("*/*"))
    assert json.loads((tmp_path / "out" / "names.json").read_text()) == names
    assert prepared.classes == CLASSES
    assert prepared.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    images, _ = prepared.batch(np.arange(7))
    assert np.array_equal(images, np.stack([decoded(folder / name) for name in names]))
    shards = [np.load(tmp_path / "out" / f"images-0000{number}.npy", mmap_mode="r") for number in (0, 1)]
    assert np.array_equal(np.concatenate(shards), images)


def test_manifest_tells_all(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quietly(folder, out)
    manifest = json.loads((out / "manifest.json").read_text())
    found = contents(out)
    assert manifest["images"] == 7
    assert manifest["class_counts"] == [2, 3, 2]
    assert manifest["shards"] == [
        {"file": name, "images": count, "sha256": found[name]}
        for name, count in (("images-00000.npy", 4), ("images-00001.npy", 3))
    ]
    small = {"labels.npy", "names.json", "mean.npy", "covariance.npy", "colour_axes.npy", "report.json"}
    assert manifest["files"] == {name: found[name] for name in small}
    assert set(found) == small | {"manifest.json", "images-00000.npy", "images-00001.npy"}


def test_statistics_are_those_of_all_pixels(folder: Path, tmp_path: Path) -> None:
    prepared = quietly(folder, tmp_path / "out")
    pixels = prepared.batch(np.arange(7))[0].astype(np.float64)
    assert np.array_equal(prepared.statistics.mean, pixels.mean(axis=0).astype(np.float32))
    covariance = np.cov(pixels.reshape(-1, 3).T, bias=True)
    found = np.load(tmp_path / "out" / "covariance.npy")
    assert np.allclose(found, covariance, rtol=1e-12)  # the rounding is NumPy's, which sums 460,000 float64 pixels
    described = json.loads((tmp_path / "out" / "manifest.json").read_text())["colour_covariance"]
    axes = np.array(described["eigenvectors"])
    # Eigenvectors are exact within a few float64 roundings of a 3×3 decomposition.
    assert np.allclose(axes.T @ np.diag(described["eigenvalues"]) @ axes, found, rtol=1e-12)
    colour_axes = prepared.statistics.colour_axes.astype(np.float64)
    assert np.allclose(colour_axes @ colour_axes.T, found @ found / 255**2, rtol=1e-5)  # float32 rounding


def as_train_tar(files: dict[str, dict[str, bytes]], path: Path) -> Path:
    path.write_bytes(tar({f"{name}.tar": tar(images) for name, images in reversed(files.items())}))
    return path


def as_tar_of_folders(files: dict[str, dict[str, bytes]], path: Path) -> Path:
    path.write_bytes(tar({f"./all/{name}/{file}": data for name in files for file, data in files[name].items()}))
    return path


def as_folder_of_tars(files: dict[str, dict[str, bytes]], path: Path) -> Path:
    path.mkdir()
    for name, images in files.items():
        (path / f"{name}.tar").write_bytes(tar(images))
    return path


@pytest.mark.parametrize("pack", [as_train_tar, as_tar_of_folders, as_folder_of_tars])
def test_tars_and_folders_give_the_same_bytes(
    files: dict[str, dict[str, bytes]], folder: Path, tmp_path: Path, pack: Callable[..., Path]
) -> None:
    quietly(folder, tmp_path / "from_folder")
    quietly(pack(files, tmp_path / "source.tar"), tmp_path / "from_tar")
    assert contents(tmp_path / "from_tar") == contents(tmp_path / "from_folder")


def test_workers_do_not_change_the_bytes(folder: Path, tmp_path: Path) -> None:
    (folder / CLASSES[1] / "broken.jpg").write_bytes(b"no image")
    for workers in (1, 2, 3):
        quietly(folder, tmp_path / f"with_{workers}", workers=workers, shard_size=2, on_error="skip")
    assert contents(tmp_path / "with_1") == contents(tmp_path / "with_2") == contents(tmp_path / "with_3")


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    """ILSVRC's validation tar in small: images of brightness 0, 50, 100, 150, not in order."""
    images = {f"val_{number}.JPEG": Image.new("RGB", (30, 30), (50 * number,) * 3) for number in (2, 0, 3, 1)}
    path = tmp_path / "val.tar"
    path.write_bytes(tar({name: encoded(image) for name, image in images.items()}))
    return path


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ("3\n1\n2\n3\n", "b\na\nc\n", [2, 0, 1, 2]),
        ("1\n0\n2\n1\n", "b\na\nc\n", [1, 0, 2, 1]),
        ("c\nb\na\nc\n", "b\na\nc\n", [2, 0, 1, 2]),
        ("c\nb\na\nc\n", None, [2, 1, 0, 2]),
        ("30\n4\n100\n30\n", None, [1, 0, 2, 1]),
        ("val_3.JPEG c\nval_0.JPEG a\nval_2.JPEG b\nval_1.JPEG b\n", "a\nb\nc\n", [0, 1, 1, 2]),
        ("x/val_3.JPEG 2\nx/val_0.JPEG 0\nx/val_2.JPEG 1\nx/val_1.JPEG 1\n", "n00000001\nn00000002\nn00000003", None),
        ("2\n1\n2\n1\n", "n02119789 kit fox\nn01440764 tench\n", [1, 0, 1, 0]),
    ],
)
def test_labels_come_from_a_list(
    validation: Path, tmp_path: Path, labels: str, classes: str | None, expected: list[int] | None
) -> None:
    (tmp_path / "labels.txt").write_text(labels)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    prepared = quietly(
        validation,
        tmp_path / "out",
        labels=tmp_path / "labels.txt",
        classes=tmp_path / "classes.txt" if classes else None,
    )
    assert prepared.labels.tolist() == (expected or [0, 1, 1, 2])
    assert prepared.batch(np.arange(4))[0][:, 0, 0, 0].tolist() == [0, 50, 100, 150]
    if classes:
        assert prepared.classes == tuple(line.split()[0] for line in classes.splitlines())


def test_validation_takes_the_numbers_of_training(folder: Path, validation: Path, tmp_path: Path) -> None:
    quietly(folder, tmp_path / "train")
    (tmp_path / "labels.txt").write_text("n02119789\nn01440764\nn01440764\nn02119789\n")
    prepared = quietly(validation, tmp_path / "val", labels=tmp_path / "labels.txt", classes=tmp_path / "train")
    assert prepared.classes == CLASSES
    assert prepared.labels.tolist() == [2, 0, 0, 2]
    assert json.loads((tmp_path / "val" / "manifest.json").read_text())["class_counts"] == [2, 0, 2]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ("1\n2\n", "a\nb\n", "labels 2 images, but there are 4"),
        ("1\n2\n3\n1\n", "a\nb\n", "has the label 3, but there are 2 classes"),
        ("a\nb\nz\na\n", "a\nb\n", "has the label 'z', which is not among the 2 classes"),
        ("val_0.JPEG a\nval_1.JPEG a\nval_2.JPEG a\nother.JPEG a\n", "a\n", "no label for the image val_3.JPEG"),
        ("a\na\na\na\n", "a\nb\na\n", "names the class 'a' 2 times"),
        ("a\na\na\na\n", "\n", "is empty"),
        ("1\n2\n2\n1\n", "n01440764\nn02119789\n", "numbers classes from 1, as ILSVRC does in an order of its own"),
    ],
)
def test_lists_that_cannot_serve(validation: Path, tmp_path: Path, labels: str, classes: str, message: str) -> None:
    (tmp_path / "labels.txt").write_text(labels)
    (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(DataError, match=message):
        quietly(validation, tmp_path / "out", labels=tmp_path / "labels.txt", classes=tmp_path / "classes.txt")
    assert not (tmp_path / "out").exists()


def cut_tar(files: dict[str, dict[str, bytes]], path: Path) -> None:
    as_train_tar(files, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_tar_between_members(files: dict[str, dict[str, bytes]], path: Path) -> None:
    as_tar_of_folders(files, path)
    with tarfile.open(path) as archive:
        third = archive.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[:third])


def damaged_header(files: dict[str, dict[str, bytes]], path: Path) -> None:
    as_tar_of_folders(files, path)
    with tarfile.open(path) as archive:
        third = archive.getmembers()[3].offset
    content = bytearray(path.read_bytes())
    content[third : third + 100] = b"?" * 100
    path.write_bytes(content)


def compressed_tar(_files: dict[str, dict[str, bytes]], path: Path) -> None:
    with tarfile.open(path, "w:gz"):
        pass


def text_file(_files: dict[str, dict[str, bytes]], path: Path) -> None:
    path.write_text("no archive")


@pytest.mark.parametrize("spoil", [cut_tar, cut_tar_between_members, damaged_header, compressed_tar, text_file])
def test_tars_that_cannot_serve(files: dict[str, dict[str, bytes]], tmp_path: Path, spoil: Callable[..., None]) -> None:
    spoil(files, tmp_path / "source.tar")
    with pytest.raises(DataError, match=r"source\.tar is no tar file, is compressed, or is cut off"):
        quietly(tmp_path / "source.tar", tmp_path / "out")


def test_sources_that_cannot_serve(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is neither a folder nor a file"):
        quietly(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="has no images in folders"):
        quietly(tmp_path / "bare", tmp_path / "out")
    (folder / "hollow").mkdir()
    with pytest.raises(DataError, match="hollow has no images"):
        quietly(folder, tmp_path / "out")
    (folder / "hollow").rmdir()
    with pytest.raises(DataError, match="lies in the source"):
        quietly(folder, folder / "out")
    (tmp_path / "classes.txt").write_text("n02119789")
    with pytest.raises(DataError, match="'n01440764', which is not among the 1 classes given"):
        quietly(folder, tmp_path / "out", classes=tmp_path / "classes.txt")
    with pytest.raises(DataError, match="is no prepared folder"):
        quietly(folder, tmp_path / "out", classes=folder)
    with pytest.raises(ValueError, match="on_error is 'ask'; it must be 'stop' or 'skip'"):
        quietly(folder, tmp_path / "out", on_error="ask")
    with pytest.raises(ValueError, match="shard_size is 0; it must be at least 1"):
        quietly(folder, tmp_path / "out", shard_size=0)
    with pytest.raises(ValueError, match="workers is 0; it must be at least 1"):
        quietly(folder, tmp_path / "out", workers=0)
    for name, wrong in {"workers": "2", "shard_size": 4.0, "progress": 1, "labels": 3, "classes": ["a"]}.items():
        with pytest.raises(TypeError, match=f"^{name} is "):
            quietly(folder, tmp_path / "out", **{name: wrong})
    with pytest.raises(TypeError, match=r"^source is "):
        prepare([folder], tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^destination is ''"):
        prepare(folder, "")
    assert not (tmp_path / "out").exists()


def turned(image: Image.Image) -> dict[str, object]:
    exif = image.getexif()
    exif[0x0112] = 6
    return {"exif": exif}


def odd_images(rng: np.random.Generator) -> dict[str, bytes]:
    """Images of unusual kinds, all of which can be read."""
    image = picture(rng)
    return {
        "animated.gif": encoded(image, "gif", save_all=True, append_images=[picture(rng), picture(rng)]),
        "cmyk.jpg": encoded(image.convert("CMYK")),
        "grey.jpg": encoded(image.convert("L")),
        "misnamed.JPEG": encoded(image, "png"),
        "odd_exif.jpg": encoded(image, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 20),
        "progressive.jpg": encoded(image, progressive=True),
        "sixteen.png": encoded(Image.fromarray(rng.integers(0, 65536, (40, 40), np.uint16)), "png"),
        "turned.jpg": encoded(image, **turned(image)),
        "webp.webp": encoded(image, "webp"),
    }


def huge_png(rng: np.random.Generator) -> bytes:
    """The beginning of a PNG that claims 100,000 × 100,000 pixels."""
    content = bytearray(encoded(picture(rng), "png"))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def broken_images(rng: np.random.Generator) -> dict[str, tuple[bytes, str]]:
    """Files that are no image, and a part of the reason that the report must give."""
    noise = Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8))
    whole, progressive = encoded(noise), encoded(noise, progressive=True)
    return {
        "bomb.png": (huge_png(rng), "MiB to decode"),
        "cut.jpg": (whole[: len(whole) // 2], "truncated"),
        "cut_late.jpg": (whole[:-2000], "truncated"),
        "cut_progressive.jpg": (progressive[: len(progressive) // 2], "truncated"),
        "empty.jpg": (b"", "the file is empty"),
        "float.tiff": (encoded(Image.fromarray(rng.random((20, 20), np.float32)), "tiff"), "floating-point"),
        "text.jpg": (b"<html>404 not found</html>", "no image of a known format"),
    }


def test_odd_images_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    images = odd_images(rng)
    folder = written(tmp_path / "photos", {"odd": images})
    prepared = quietly(folder, tmp_path / "out")
    assert len(prepared) == len(images)
    pixels, _ = prepared.batch(np.arange(len(images)))
    for row, name in enumerate(sorted(images)):
        assert np.array_equal(pixels[row], decoded(folder / "odd" / name)), name
    plain = decoded(folder / "odd" / "misnamed.JPEG").astype(int)
    right_way = np.rot90(pixels[sorted(images).index("turned.jpg")], 1).astype(int)
    # JPEG's loss, a few levels; an image not turned differs by tens.
    assert np.abs(right_way - plain).mean() < 5


def test_broken_images_stop_or_are_listed(tmp_path: Path, rng: np.random.Generator) -> None:
    broken, sound = broken_images(rng), odd_images(rng)
    folder = written(tmp_path / "photos", {"a": {name: data for name, (data, _) in broken.items()}, "b": sound})
    with pytest.raises(DataError, match=r"cannot read the image a/.*on_error='skip' \(--on-error skip\)"):
        quietly(folder, tmp_path / "out", shard_size=5)
    assert not (tmp_path / "out" / "manifest.json").exists()
    prepared = quietly(folder, tmp_path / "out", shard_size=5, on_error="skip")
    assert json.loads((tmp_path / "out" / "names.json").read_text()) == [f"b/{name}" for name in sorted(sound)]
    assert prepared.labels.tolist() == [1] * len(sound)
    expected = np.stack([decoded(folder / "b" / name) for name in sorted(sound)])
    assert np.array_equal(prepared.batch(np.arange(len(sound)))[0], expected)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [entry["name"] for entry in report["skipped"]] == [f"a/{name}" for name in sorted(broken)]
    for entry, name in zip(report["skipped"], sorted(broken), strict=True):
        assert broken[name][1] in entry["reason"]
        assert "0x" not in entry["reason"]  # an address would differ from run to run
    quietly(folder, tmp_path / "again", shard_size=5, on_error="skip")
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_jpegs_cut_anywhere_are_read_whole_or_not_at_all(tmp_path: Path, rng: np.random.Generator) -> None:
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    for options in ({}, {"progressive": True}):
        whole = encoded(noise, **options)
        (tmp_path / "whole.jpg").write_bytes(whole)
        pixels = read_image(tmp_path / "whole.jpg")
        for end in rng.integers(0, len(whole), 60):
            (tmp_path / "cut.jpg").write_bytes(whole[:end])
            with contextlib.suppress(DataError):
                assert np.array_equal(read_image(tmp_path / "cut.jpg"), pixels), (end, len(whole))


def test_files_that_are_no_images_are_listed(folder: Path, tmp_path: Path) -> None:
    (folder / CLASSES[0] / "notes.txt").write_text("not an image")
    (folder / CLASSES[0] / "._a.jpg").write_text("not an image")
    (folder / CLASSES[0] / "inner").mkdir()
    (folder / CLASSES[0] / "lost.jpg").symlink_to("nowhere")
    (folder / "stray.jpg").write_bytes(b"")
    assert len(quietly(folder, tmp_path / "out")) == 7
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {(entry["name"], entry["reason"]) for entry in report["passed_over"]} == {
        (f"{CLASSES[0]}/notes.txt", "its name does not end as that of an image"),
        (f"{CLASSES[0]}/._a.jpg", "its name begins with a dot"),
        (f"{CLASSES[0]}/inner", "it is an empty folder"),
        (f"{CLASSES[0]}/lost.jpg", "it is a link to nothing"),
        ("stray.jpg", "it is in no class's folder"),
    }


def test_files_that_cannot_be_opened_always_stop(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pyalexnet.data.sources.open", refuse, raising=False)
    with pytest.raises(PermissionError, match=f"cannot read {folder}/.*Permission denied"):
        quietly(folder, tmp_path / "out", on_error="skip")


def test_huge_files_are_not_read(folder: Path, tmp_path: Path) -> None:
    with open(folder / CLASSES[0] / "video.jpg", "wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(2**40)  # a terabyte without a block on the disk
    with pytest.raises(
        DataError, match="its 1,048,576 MiB are too many for an image file; it may have at most 640 MiB"
    ):
        quietly(folder, tmp_path / "out")
    assert len(quietly(folder, tmp_path / "other", on_error="skip")) == 7


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    folder = written(tmp_path / "photos", {"a": {"1.jpg": b"x"}})
    with pytest.raises(DataError, match=r"none of the 1 images can be read; the first, a/1\.jpg: "):
        quietly(folder, tmp_path / "out", on_error="skip")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_other_work_is_not_overwritten(folder: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    out = tmp_path / "out"
    quietly(folder, out)
    before = contents(out)
    with pytest.raises(DataError, match="settings: shard_size was 4, is 5"):
        quietly(folder, out, shard_size=5)
    (folder / CLASSES[0] / "more.jpg").write_bytes(encoded(picture(rng)))
    with pytest.raises(DataError, match="source: images was 7, is 8"):
        quietly(folder, out)
    assert contents(out) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="other is not empty and holds no preparation to continue"):
        quietly(folder, tmp_path / "other")
    with pytest.raises(DataError, match="is a file; the destination must be a folder"):
        quietly(folder, tmp_path / "other" / "letter.txt")


class StoppedError(Exception):
    """Ends a preparation at a chosen place."""


def stopped_after(writes: int, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let ``os.pwrite`` work so many times and then fail."""
    left = [writes]
    real = os.pwrite

    def pwrite(*arguments: object) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return real(*arguments)

    monkeypatch.setattr("pyalexnet.data.shard_writer.os.pwrite", pwrite)


@pytest.mark.parametrize("writes", [0, 5, 8, 10])
def test_a_full_disk_leaves_nothing_corrupt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    quietly(folder, tmp_path / "whole", shard_size=2)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stopped_after(writes, patch, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match=f"cannot write {out}.*No space left on device; run this again") as raised:
            quietly(folder, out, shard_size=2)
    assert raised.value.errno == errno.ENOSPC
    left = contents(out)
    assert "manifest.json" not in left
    shards = {name: checksum for name, checksum in left.items() if name.endswith(".npy")}
    assert len(shards) == max(0, writes - 7)  # seven images are written first, then the headers of four shards
    assert shards.items() <= contents(tmp_path / "whole").items()
    quietly(folder, out, shard_size=2)
    assert contents(out) == contents(tmp_path / "whole")


def test_room_is_checked_before(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyalexnet.data.prepare._ROOM_FOR_SMALL_FILES", 2**60)
    with pytest.raises(OSError, match=r"preparing 7 images needs .* bytes, and .* are free"):
        quietly(folder, tmp_path / "out")


def test_damaged_work_is_made_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quietly(folder, tmp_path / "whole", shard_size=2)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stopped_after(9, patch, StoppedError())
        with pytest.raises(StoppedError):
            quietly(folder, out, shard_size=2)
    with open(out / "images-00001.npy", "r+b") as shard:
        shard.seek(1000)
        shard.write(b"!")
    (out / ".progress-00002.json").write_text("{")
    quietly(folder, out, shard_size=2)
    assert contents(out) == contents(tmp_path / "whole")


def test_what_was_skipped_stops_a_later_run_that_asks_to(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / CLASSES[0] / "a.jpg").write_bytes(b"no image")
    with monkeypatch.context() as patch:
        stopped_after(9, patch, StoppedError())  # seven images; the first shard's gap is closed, and it has its header
        with pytest.raises(StoppedError):
            quietly(folder, tmp_path / "out", shard_size=2, on_error="skip")
    assert [file.name for file in (tmp_path / "out").glob(".progress-*.json")] == [".progress-00000.json"]
    with pytest.raises(DataError, match=f"cannot read the image {CLASSES[0]}/a.jpg"):
        quietly(folder, tmp_path / "out", shard_size=2)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough images to be stopped amid."""
    rng = np.random.default_rng(0)
    contents = [encoded(picture(rng, (400, 300))) for _ in range(20)]
    return written(
        tmp_path_factory.mktemp("many") / "photos",
        {name: {f"{number}.jpg": contents[number % 20] for number in range(100)} for name in CLASSES},
    )


@pytest.fixture(scope="module")
def whole(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole") / "out"
    quietly(many, out, shard_size=16)
    return contents(out)


def command(source: Path, out: Path, **options: object) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "pyalexnet.cli", "prepare", str(source), str(out), "--workers", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*arguments, "--shard-size", "16"], **pipes, start_new_session=True, **options)


def wait_for_records(process: subprocess.Popen[str], out: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob(".progress-*.json"))) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def living(session: int) -> int:
    """Number of running processes of a session."""
    count = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session, *_ = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        count += int(its_session) == session and state != "Z"
    return count


@pytest.mark.long
def test_killed_at_any_moment_it_continues_to_the_same_bytes(
    many: Path, whole: dict[str, str], tmp_path: Path, rng: np.random.Generator
) -> None:
    out = tmp_path / "out"
    for kill in range(4):
        process = command(many, out)
        wait_for_records(process, out, 3 * kill + 1)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert "manifest.json" not in contents(out)
        deadline = time.monotonic() + 10
        while living(process.pid):
            assert time.monotonic() < deadline, "workers outlive the process that was killed"
            time.sleep(0.01)
    process = command(many, out)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "are done" in printed
    assert contents(out) == whole


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly(many: Path, whole: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    process = command(many, tmp_path / "out")
    wait_for_records(process, tmp_path / "out", 2)
    os.killpg(process.pid, number)  # as a terminal does
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors == "pyalexnet: interrupted\n"
    assert "images are kept; run this again to continue" in printed
    assert not list((tmp_path / "out").glob(".progress-*.npy"))
    second = command(many, tmp_path / "out")
    second.communicate(timeout=60)
    assert contents(tmp_path / "out") == whole


def test_two_at_once_are_refused(many: Path, tmp_path: Path) -> None:
    process = command(many, tmp_path / "out")
    wait_for_records(process, tmp_path / "out", 1)
    with pytest.raises(OSError, match=r"process \d+ on \S+ is at work in it"):
        quietly(many, tmp_path / "out", shard_size=16)
    process.kill()
    process.communicate()


def test_files_that_may_not_grow_are_a_clear_error(many: Path, tmp_path: Path) -> None:
    def limit_files_to_a_megabyte() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    process = command(many, tmp_path / "out", preexec_fn=limit_files_to_a_megabyte)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"cannot write {tmp_path}/out/" in errors
    assert "File too large" in errors
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".progress.json"}


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    (folder / CLASSES[0] / "broken.jpg").write_bytes(b"no image")
    assert main(["prepare", str(folder), out, "--workers", "1"]) == 2
    assert f"pyalexnet prepare: cannot read the image {CLASSES[0]}/broken.jpg: " in capsys.readouterr().err
    assert main(["prepare", str(folder), out, "--workers", "1", "--on-error", "skip"]) == 0
    printed = capsys.readouterr().out
    assert f"skipped {CLASSES[0]}/broken.jpg: it is no image of a known format" in printed
    assert f"7 images of 3 classes are prepared in {out}" in printed
    assert main(["prepare", out, "--verify"]) == 0
    assert "7 images of 3 classes" in capsys.readouterr().out
    assert main(["prepare", str(folder), out, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["prepare", str(folder)]) == 2
    assert "DEST is missing" in capsys.readouterr().err


def test_where_numbers_may_count_from_0_or_from_1_it_asks(
    validation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("id,label\nval_0,1\nval_1,2\nval_2,1\nval_3,2\n")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    lists = {"labels": tmp_path / "labels.csv", "classes": tmp_path / "classes.txt"}
    with pytest.raises(DataError, match=r"numbers from 1 to 2 for 3 classes.*first_label \(--first-label\)"):
        quietly(validation, tmp_path / "out", **lists)
    assert quietly(validation, tmp_path / "from_0", first_label=0, **lists).labels.tolist() == [1, 2, 1, 2]
    words = ["prepare", str(validation), str(tmp_path / "from_1"), "--quiet", "--workers", "1"]
    options = [word for name, path in lists.items() for word in (f"--{name}", str(path))]
    assert main([*words, *options]) == 2
    assert "--first-label" in capsys.readouterr().err
    assert main([*words, *options, "--first-label", "1"]) == 0
    assert PreparedImages(tmp_path / "from_1").labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="first_label is 2; it must be 0 or 1"):
        quietly(validation, tmp_path / "out", first_label=2, **lists)
    with pytest.raises(ValueError, match="first_label is 1; it must be left out where there are no labels"):
        quietly(validation, tmp_path / "out", first_label=1)


def test_labels_of_images_in_folders(files: dict[str, dict[str, bytes]], folder: Path, tmp_path: Path) -> None:
    lines = [f"x/{name}/{file}\t{number}" for number, name in enumerate(files) for file in files[name]]
    (tmp_path / "train.txt").write_text("\n".join(reversed(lines)))
    prepared = quietly(folder, tmp_path / "out", labels=tmp_path / "train.txt")
    assert prepared.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert prepared.names == sorted(f"{name}/{file}" for name in files for file in files[name])
