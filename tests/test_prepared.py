"""Reading prepared images: any order, many threads, little memory; and folders that are damaged."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet import prepare
from pyalexnet.cli import main
from pyalexnet.data import Dataset, PreparedImages
from pyalexnet.data.statistics import measure
from pyalexnet.errors import DataError

COUNT = 11


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / "photos" / f"class {number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), np.uint8)).save(path, compress_level=0)
    prepare(folder / "photos", folder / "out", shard_size=4, workers=1, progress=False)
    return folder / "out"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    copy = tmp_path / "out"
    copy.mkdir()
    for file in made.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def pixels_of(folder: Path) -> np.ndarray:
    return np.concatenate([np.load(file) for file in sorted(folder.glob("images-*.npy"))])


def test_any_order_of_images(made: Path, rng: np.random.Generator) -> None:
    prepared, expected = PreparedImages(made), pixels_of(made)
    assert isinstance(prepared, Dataset)
    assert len(prepared) == COUNT
    assert prepared.labels.dtype == np.int32
    for indices in (np.arange(COUNT), rng.permutation(COUNT), rng.integers(-COUNT, COUNT, 40), np.array([], np.intp)):
        images, labels = prepared.batch(indices)
        assert images.dtype == np.uint8
        assert np.array_equal(images, expected[indices])
        assert np.array_equal(labels, prepared.labels[indices])
    with pytest.raises(IndexError):
        prepared.batch(np.array([COUNT]))


def test_many_threads_read_at_once(made: Path, rng: np.random.Generator) -> None:
    prepared, expected = PreparedImages(made), pixels_of(made)
    orders = [rng.permutation(COUNT) for _ in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for order, (images, _) in zip(orders, pool.map(prepared.batch, orders), strict=True):
            assert np.array_equal(images, expected[order])


def test_statistics_are_those_that_training_measures(made: Path) -> None:
    prepared = PreparedImages(made)
    measured = measure(prepared)
    assert np.array_equal(prepared.statistics.mean, measured.mean)
    assert np.array_equal(prepared.statistics.colour_axes, measured.colour_axes)


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:300])


def foreign_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"name": "something else"}')


def changed_manifest(key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {key: value}))

    return change


def remove_shard(folder: Path) -> None:
    (folder / "images-00001.npy").unlink()


def cut_shard(folder: Path) -> None:
    with open(folder / "images-00001.npy", "r+b") as shard:
        shard.truncate(1000)


def change_labels(folder: Path) -> None:
    np.save(folder / "labels.npy", np.zeros(COUNT, np.int32))


def fake_shard_header(folder: Path) -> None:
    with open(folder / "images-00001.npy", "r+b") as shard:
        shard.seek(20)
        shard.write(b"?")


def with_array(name: str, array: np.ndarray) -> Callable[[Path], None]:
    """An array in place of another, with its checksum in the manifest: what lies behind that check is met."""

    def change(folder: Path) -> None:
        np.save(folder / f"{name}.npy", array)
        checksum = hashlib.sha256((folder / f"{name}.npy").read_bytes()).hexdigest()
        files = json.loads((folder / "manifest.json").read_text())["files"]
        changed_manifest("files", files | {f"{name}.npy": checksum})(folder)

    return change


def remove_mean(folder: Path) -> None:
    (folder / "mean.npy").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_manifest, "has no manifest.json; `pyalexnet prepare` writes it when all else is done"),
        (cut_manifest, "manifest.json is no JSON: EOF while parsing"),
        (foreign_manifest, "manifest.json: name is unknown; it must be one of format, version"),
        (changed_manifest("version", 2), "manifest.json has version 2; this pyalexnet reads version 1"),
        (
            changed_manifest("format", "other"),
            "manifest.json: format is 'other'; it must be 'pyalexnet prep",
        ),
        (
            changed_manifest("shards", [{"file": "../x.npy", "images": 1, "sha256": ""}]),
            r"manifest.json: shards\[0\].file is '../x.npy'; it must be a name without a folder",
        ),
        (
            changed_manifest("shards", [{"file": "x.npy", "images": -1, "sha256": ""}]),
            r"manifest.json: shards\[0\].images is -1; it must be at least 0",
        ),
        (
            changed_manifest("shards", [{"file": "x\0.npy", "images": 11, "sha256": ""}]),
            r"manifest.json: shards\[0\].file is 'x\\x00.npy'; it must be a name without a folder",
        ),
        (changed_manifest("shards", []), "manifest.json: the shards' sum of images is 0; it must be 11"),
        (changed_manifest("classes", None), "manifest.json: classes is None; it must be a list"),
        (changed_manifest("classes", ["one"]), r"class_counts is \(4, 4, 3\); it must be one for each class"),
        (changed_manifest("classes", ["a", "b", "a"]), "classes has 'a' 2 times; all must be different"),
        (changed_manifest("class_counts", [4, 4, 4]), "the sum of class_counts is 12; it must be 11"),
        (
            changed_manifest("class_counts", [3, 4, 4]),
            "labels.npy has not as many labels of each class",
        ),
        (changed_manifest("images", 10**400), "manifest.json: images is 1000.*; it must fit in 64 bits"),
        (changed_manifest("files", {}), r"manifest.json: files is \[\]; it must be of labels.npy"),
        (remove_shard, "images-00001.npy is missing"),
        (cut_shard, "images-00001.npy has 1,000 bytes; 4 images need 786,560"),
        (change_labels, "labels.npy is damaged: its checksum is not the one in manifest.json"),
        (fake_shard_header, "images-00001.npy is damaged: its header is not that of 4 images"),
        (with_array("labels", np.array([0, 1, 2] * 3 + [0, -1], np.int32)), "labels.npy has labels from -1 to 2"),
        (with_array("labels", np.array([0, 1, 2] * 3 + [0, 3], np.int32)), "from 0 to 3; they must be from 0 to 2"),
        (with_array("labels", np.zeros(COUNT, np.int64)), "cannot read .*labels.npy: it has 216 bytes"),
        (with_array("mean", np.full((256, 256, 3), np.nan, np.float32)), "mean.npy has values from nan to nan"),
        (
            with_array("mean", np.full((256, 256, 3), -1, np.float32)),
            "values from -1.0 to -1.0; they must be from 0",
        ),
        (with_array("colour_axes", np.full((3, 3), np.inf, np.float32)), "colour_axes.npy has NaN or infinite values"),
        (
            with_array("colour_axes", np.array([["nine", "text", "s"]] * 3, "<U3")),
            "cannot read .*axes.npy: it has 236",
        ),
        (with_array("colour_axes", np.zeros((9, 1), np.float32)), r"colour_axes.npy is damaged: it is no NumPy array"),
        (remove_mean, "cannot read .*mean.npy: No such file"),
    ],
)
def test_damaged_folders_are_refused(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=message):
        PreparedImages(folder)


def test_verify_finds_a_changed_byte(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = PreparedImages(folder)
    seen: list[int] = []
    prepared.verify(seen.append)
    assert sum(seen) == COUNT
    assert main(["prepare", str(folder), "--verify"]) == 0
    with open(folder / "images-00002.npy", "r+b") as shard:
        shard.seek(-1, 2)
        last = shard.read(1)
        shard.seek(-1, 2)
        shard.write(bytes([last[0] ^ 1]))
    with pytest.raises(DataError, match=r"images-00002\.npy is damaged"):
        prepared.verify()
    assert main(["prepare", str(folder), "--verify"]) == 2
    assert "images-00002.npy is damaged" in capsys.readouterr().err


def test_shards_that_vanish_or_shrink_are_named(folder: Path) -> None:
    prepared = PreparedImages(folder)
    cut_shard(folder)
    with pytest.raises(DataError, match=r"images-00001\.npy has become shorter: image 2 is missing"):
        prepared.batch(np.array([0, 6]))
    remove_shard(folder)
    with pytest.raises(DataError, match=r"cannot read .*images-00001\.npy: No such file"):
        prepared.batch(np.array([6]))


READ_ALL = """
import resource, sys
import numpy as np
from pyalexnet.data import PreparedImages

prepared = PreparedImages(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, len(prepared), 32):
    prepared.batch(np.arange(start, min(start + 32, len(prepared))))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    source = tmp_path / "photos" / "a"
    source.mkdir(parents=True)
    for number in range(600):
        Image.new("L", (8, 8), number % 256).save(source / f"{number}.png")
    prepare(tmp_path / "photos", tmp_path / "out", shard_size=200, workers=1, progress=False)
    found = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    # 118 MB of images are read; a batch takes 6 MB, and there are two when the next one begins.
    assert int(found.stdout) * 1024 < 25e6
