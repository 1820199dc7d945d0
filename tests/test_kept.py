"""Images that are decoded once and kept: the same as those of the files, and never read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyalexnet.data import ImageArrays, ImageFolder, Subset, split
from pyalexnet.data.dataset import IMAGE_BYTES, fingerprint, image_names
from pyalexnet.data.kept import KeptImages, keep_decoded
from pyalexnet.data.statistics import measure
from pyalexnet.system.machine import available_bytes
from pyalexnet.training import start
from pyalexnet.training.train import train


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six photos each."""
    rng = np.random.default_rng(4)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


class Counted:
    """What an image folder decodes, as it happens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.indices: list[int] = []
        real = ImageFolder.batch

        def batch(folder: ImageFolder, indices: Any) -> Any:
            self.indices += list(indices)
            return real(folder, indices)

        monkeypatch.setattr(ImageFolder, "batch", batch)


@pytest.mark.parametrize("room", [1, 5, 12, 100])
def test_images_are_those_of_the_files(photos: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ImageFolder(photos)
    expected, labels = folder.batch(np.arange(12))
    counted, kept = Counted(monkeypatch), KeptImages(folder, room)
    order = np.random.default_rng(0).permutation(12)
    for indices in (order[:5], order, order[::-1], np.array([3, 3, 0])):
        for _ in range(2):
            images, found = kept.batch(indices)
            np.testing.assert_array_equal(images, expected[indices])
            np.testing.assert_array_equal(found, labels[indices])
    for index in range(12):
        assert (counted.indices.count(index) == 1) == (index < room), index


def test_all_else_is_the_data_sets(photos: Path) -> None:
    folder = ImageFolder(photos, ["a remark"])
    kept = KeptImages(folder, 3)
    assert (kept.classes, len(kept), kept.remarks) == (folder.classes, 12, ["a remark"])
    assert (image_names(kept), fingerprint(kept)) == (image_names(folder), fingerprint(folder))
    np.testing.assert_array_equal(kept.labels, folder.labels)
    for found, expected in zip(vars(measure(kept)).values(), vars(measure(folder)).values(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_only_what_decodes_files_is_kept(photos: Path) -> None:
    folder, arrays = ImageFolder(photos), ImageArrays(np.zeros((4, 8, 8), np.uint8), [0, 0, 1, 1])
    part = Subset(folder, np.array([1, 2]))
    for decoding in (folder, part, Subset(part, np.array([1]))):
        kept = keep_decoded(decoding, 2 * IMAGE_BYTES)
        assert isinstance(kept, KeptImages)
        assert kept.room == min(2, len(decoding))
        assert keep_decoded(decoding, IMAGE_BYTES - 1) is decoding
        assert keep_decoded(decoding, -1) is decoding
    for other in (arrays, split(arrays, 0.5)[0]):
        assert keep_decoded(other, 2**30) is other


SHORT: dict[str, Any] = {"epochs": 3, "batch_size": 3, "validation": 1 / 3, "devices": ["cpu:0"], "progress": False}


@pytest.mark.long
@pytest.mark.parametrize("room", [0, 3 * IMAGE_BYTES, 10 * IMAGE_BYTES, 2**30])
def test_a_run_decodes_once_what_there_is_room_for(photos: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(photos, **SHORT).model.net.parameters() if room == 3 * IMAGE_BYTES else None
    monkeypatch.setattr(start, "_MOST_KEPT_BYTES", room)
    counted = Counted(monkeypatch)
    result = train(photos, **SHORT)
    # Eight to learn from are read for the mean and in three epochs of two batches, four held out in three epochs.
    learned, held_out = min(8, room // IMAGE_BYTES), min(4, max(0, room // IMAGE_BYTES - 8))
    assert len(counted.indices) <= learned + (8 - learned) * 4 + held_out + (4 - held_out) * 3
    assert len(counted.indices) >= learned + held_out + (4 - held_out) * 3
    if room >= 12 * IMAGE_BYTES:
        assert sorted(counted.indices) == list(range(12))
    if plain is not None:
        for name, value in result.model.net.parameters().items():
            np.testing.assert_array_equal(value, plain[name])


def test_room_is_half_of_what_the_plan_leaves(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def keep(dataset: Any, room_bytes: int) -> Any:
        asked.append(room_bytes)
        return dataset

    monkeypatch.setattr(start, "keep_decoded", keep)
    monkeypatch.setattr(start, "_MOST_KEPT_BYTES", 2**60)
    train(photos, **(SHORT | {"epochs": 1}))
    # The net takes some memory to learn, and the program too; other processes come and go.
    assert 0 < asked[0] < (available_bytes() + 2**30) / 2
    monkeypatch.undo()
    monkeypatch.setattr(start, "keep_decoded", keep)
    train(photos, **(SHORT | {"epochs": 1}))
    assert asked[2] <= 4 * 2**30
