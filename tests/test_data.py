"""Data sets, their split and order, variations, statistics and preparation in the background."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet.data import Digits, ImageArrays, arrays, as_dataset, split
from pyalexnet.data.augmentation import epoch_order, epoch_variations, view_variations
from pyalexnet.data.dataset import digest, fingerprint, labels_among
from pyalexnet.data.opening import as_test_dataset, held_out_part
from pyalexnet.data.prefetch import AHEAD, in_batches, prefetch, read_ahead
from pyalexnet.data.prepare import prepare
from pyalexnet.data.prepared import PreparedImages
from pyalexnet.data.statistics import measure
from pyalexnet.data.subset import Subset
from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import pinned_array
from pyalexnet.errors import DataError

pytestmark = pytest.mark.usefixtures("full_size")

AXES = np.diag([30.0, 10.0, 1.0]).astype(np.float32)


def variations(**changes: object) -> object:
    arguments = {"seed": 1, "epoch": 1, "reflect": True, "colour_noise": 0.1, "colour_axes": AXES}
    return epoch_variations(2000, **(arguments | changes))


def test_digits_are_real_images_of_ten_classes() -> None:
    digits = Digits()
    assert len(digits) == 1797
    assert digits.classes == tuple("0123456789")
    images, labels = digits.batch(np.array([0, 1796]))
    assert images.shape == (2, 256, 256, 3)
    assert images.dtype == np.uint8
    assert labels.tolist() == [0, 8]
    # A ring: dark in the middle of the zero, bright on its stroke.
    assert images[0, 128, 128, 0] < 60
    assert images[0, 128, 80, 0] > 150


def test_split_is_fixed_stratified_and_complete() -> None:
    digits = Digits()
    training, held_out = split(digits, 0.2)
    assert sorted([*training.indices, *held_out.indices]) == list(range(len(digits)))
    for label in range(10):
        part = np.mean(held_out.labels == label) * len(held_out) / np.sum(digits.labels == label)
        assert abs(part - 0.2) < 0.5 / 170  # rounding to whole images, of at least 174 a class
    assert np.array_equal(split(digits, 0.2)[1].indices, held_out.indices)
    assert np.array_equal(held_out.batch(np.array([3]))[0], digits.batch(held_out.indices[3:4])[0])


@pytest.mark.parametrize("shape", [(4, 1, 1), (4, 8, 8), (4, 300, 20, 3), (4, 256, 256, 3), (4, 28, 28, 1)])
def test_arrays_of_any_size_become_256(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    pixels = rng.integers(0, 256, shape, np.uint8)
    dataset = as_dataset((pixels, [0, 2, 1, 0]))
    images, labels = dataset.batch(np.array([2, 0]))
    assert images.shape == (2, 256, 256, 3)
    assert labels.tolist() == [1, 0]
    assert dataset.classes == ("0", "1", "2")
    if shape[1:] == (256, 256, 3):
        assert np.array_equal(images, pixels[[2, 0]])


def test_central_square_is_kept() -> None:
    wide = np.zeros((1, 256, 600), np.uint8)
    wide[:, :, 172 : 172 + 256] = np.arange(256)
    images, _ = ImageArrays(wide, [0]).batch(np.array([0]))
    assert np.array_equal(images[0, 0, :, 0], np.arange(256))


def test_enlarging_is_bicubic(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (1, 8, 8), np.uint8)
    images, _ = ImageArrays(pixels, [0]).batch(np.array([0]))
    expected = np.asarray(Image.fromarray(pixels[0]).resize((256, 256), Image.Resampling.BICUBIC))
    assert np.array_equal(images[0], np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8)), [0, 1], "images has dtype float64; it must be uint8"),
        (np.zeros((2, 8), np.uint8), [0, 1], r"images has shape \(2, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), [0, 1], r"images has shape \(2, 8, 8, 4\)"),
        (np.zeros((0, 8, 8), np.uint8), [], r"images has shape \(0, 8, 8\)"),
        (np.zeros((2, 8, 8), np.uint8), [0], r"labels has shape \(1,\); it must be \(2,\)"),
        (np.zeros((2, 8, 8), np.uint8), [0.0, 1.0], "labels has dtype float64"),
        (np.zeros((2, 8, 8), np.uint8), [0, -1], "labels go from -1 to 0"),
    ],
)
def test_arrays_that_cannot_serve(images: object, labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageArrays(images, labels)


def test_names_and_kinds_that_cannot_serve() -> None:
    pixels = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(DataError, match="classes has 1 names, but labels go up to 1"):
        ImageArrays(pixels, [0, 1], classes=["a"])
    with pytest.raises(TypeError, match="data is a int"):
        as_dataset(3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"holds out 0 of 2 images; .*; 0 holds none out"):
        split(ImageArrays(pixels, [0, 1]), 0.1)


def write_photos(folder: Path, *classes: str) -> Path:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (300, 280), (number, 20, 30)).save(folder / name / "a.png")
    return folder


def test_digits_by_name_are_judged_by_what_training_holds_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(as_dataset("digits"), Digits)
    assert held_out_part("digits") is None
    held_out = split(Digits(), 0.2)[1]
    assert np.array_equal(as_test_dataset("digits").labels, held_out.labels)
    assert len(as_test_dataset(Digits())) == 1797


def test_a_folder_by_the_name_of_a_data_set_is_named_by_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "digits", "one", "two")
    assert isinstance(as_dataset("digits"), Digits)
    assert len(as_test_dataset("digits")) == len(split(Digits(), 0.2)[1])
    for path in ("./digits", "digits/", Path("digits"), tmp_path / "digits"):
        assert as_dataset(path).classes == ("one", "two")


def test_a_prepared_folder_and_one_that_has_two(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", "cat", "dog")
    alone, both = tmp_path / "alone", tmp_path / "both"
    for destination in (alone, both / "train"):
        prepare(photos, destination, progress=False)
    for folder in (alone, both):
        dataset = as_dataset(folder)
        assert isinstance(dataset, PreparedImages)
        assert dataset.batch(np.array([1, 0]))[0][:, 0, 0].tolist() == [[1, 20, 30], [0, 20, 30]]
        assert held_out_part(folder) is None
        assert len(as_test_dataset(folder)) == 2
    prepare(write_photos(tmp_path / "more", "dog"), both / "val", progress=False)
    assert len(as_dataset(both)) == 2
    assert as_test_dataset(both).classes == ("dog",)


def test_a_plain_folder_has_no_held_out_part(tmp_path: Path) -> None:
    assert as_dataset(write_photos(tmp_path, "cat", "dog")).classes == ("cat", "dog")
    assert held_out_part(tmp_path) is None
    assert held_out_part((np.zeros((2, 8, 8), np.uint8), [0, 1])) is None


def test_places_without_data_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="nowhere is not a folder, nor the name of a data set: 'digits', 'emoji', 'fashion-mnist'"
    ):
        as_dataset(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        held_out_part(tmp_path / "file")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(DataError, match=r"holds no data: neither manifest.json .* train-images-idx3-ubyte.* subfolder"):
        as_dataset(tmp_path)


def test_labels_are_matched_by_name() -> None:
    pixels = np.zeros((2, 8, 8), np.uint8)
    dataset = ImageArrays(pixels, [0, 1], classes=["cat", "dog"])
    assert labels_among(dataset, ["ape", "dog", "cat"]).tolist() == [2, 1]
    with pytest.raises(DataError, match="'dog'; the net knows only 'ape', 'cat'"):
        labels_among(dataset, ["ape", "cat"])


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order = epoch_order(1000, seed=3, epoch=2)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, epoch_order(1000, seed=3, epoch=2))
    assert not np.array_equal(order, epoch_order(1000, seed=3, epoch=1))
    assert not np.array_equal(order, epoch_order(1000, seed=2, epoch=2))


def test_variations_depend_on_seed_and_epoch_alone() -> None:
    drawn, again, other = variations(), variations(), variations(epoch=2)
    for name in ("offsets", "flips", "shifts"):
        assert np.array_equal(getattr(drawn, name), getattr(again, name))
        assert not np.array_equal(getattr(drawn, name), getattr(other, name))


def test_variations_cover_their_range() -> None:
    drawn = variations()
    assert {*drawn.offsets.flat} == set(range(30))
    assert abs(drawn.flips.mean() - 0.5) < 0.05  # 4.5 standard errors of a fair coin thrown 2000 times
    # 0.1 · 30 within 5 relative standard errors 1 / sqrt(2 · 2000)
    assert np.allclose(drawn.shifts.std(axis=0), [3.0, 1.0, 0.1], rtol=5 / np.sqrt(4000))
    assert not variations(reflect=False).flips.any()
    assert not variations(colour_noise=0.0).shifts.any()


def test_scaled_colour_noise_divides_by_one_plus_its_strength() -> None:
    plain, scaled = variations(), variations(colour_noise_scaled=True)
    assert plain.scale == plain[np.arange(3)].scale == 1.0
    assert scaled.scale == scaled[np.arange(3)].scale == 1 / 1.1
    assert np.array_equal(plain.shifts, scaled.shifts)  # the division is for the whole image, and comes later
    assert variations(colour_noise=0.0, colour_noise_scaled=True).scale == 1.0


def test_ten_views_are_five_places_and_their_mirror_images() -> None:
    views = view_variations(3, 10)
    places = [(*view.offsets[0], view.flips[0]) for view in views]
    expected = [(14, 14), (0, 0), (0, 29), (29, 0), (29, 29)]
    assert places == [(*place, flip) for flip in (0, 1) for place in expected]
    assert all(view.offsets.shape == (3, 2) and not view.shifts.any() for view in views)
    assert [len(view_variations(3, views)) for views in (1, 5)] == [1, 5]
    assert not any(view.flips.any() for view in view_variations(3, 5))
    with pytest.raises(ValueError, match="views is 2; it must be one of 1, 5, 10"):
        view_variations(3, 2)


def test_statistics_equal_numpy(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (70, 256, 256, 3), np.uint8)
    pixels[..., 1] = pixels[..., 0] // 2  # two colours that vary together
    seen: list[int] = []
    found = measure(ImageArrays(pixels, np.zeros(70, int)), seen.append)
    assert sum(seen) == 70
    assert np.array_equal(found.mean, pixels.mean(axis=0, dtype=np.float64).astype(np.float32))
    covariance = np.cov(pixels.reshape(-1, 3).T / 255, bias=True)
    # axes · variances, so that axes axesᵀ = 255² · covariance²; fp32 rounding of the axes
    assert np.allclose(found.colour_axes @ found.colour_axes.T, 255**2 * covariance @ covariance, rtol=1e-5)


def test_prefetch_keeps_the_order() -> None:
    def slower_at_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0.0)
        return item

    assert list(prefetch(slower_at_first, range(20), threads=4)) == list(range(20))


def test_prefetch_raises_in_place_and_ends_its_threads() -> None:
    def fails_at_three(item: int) -> int:
        if item == 3:
            raise DataError("broken")
        return item

    before = threading.active_count()
    results = prefetch(fails_at_three, range(10), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="broken"):
        next(results)
    assert threading.active_count() == before


def test_prefetch_runs_only_so_far_ahead() -> None:
    started: list[int] = []
    results = prefetch(started.append, range(100), threads=2)
    next(results)
    results.close()
    assert len(started) <= 3


def test_in_batches() -> None:
    indices = np.arange(7)
    assert [part.tolist() for part in in_batches(indices, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [part.tolist() for part in in_batches(indices, 3, drop_last=True)] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("buffered", [False, True])
def test_batches_are_read_ahead_in_order(buffered: bool) -> None:
    dataset = ImageArrays(np.arange(50, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8), np.arange(50))
    order = np.random.default_rng(3).permutation(50)
    buffers = [np.empty((8, 256, 256, 3), np.uint8) for _ in range(AHEAD + 1)] if buffered else []
    seen, homes = [], set()
    for images, labels in read_ahead(dataset, in_batches(order, 8), buffers=buffers, threads=3):
        time.sleep(0.01)  # batches behind this one are read meanwhile
        assert (images == labels[:, None, None, None]).all()
        seen += labels.tolist()
        homes.add(images.ctypes.data)
    assert seen == order.tolist()
    if buffered:
        assert homes == {buffer.ctypes.data for buffer in buffers}


def test_pinned_arrays_hold_what_is_written(device: str) -> None:
    array = pinned_array(get_device(device), (3, 5, 7), "int32")
    assert array.shape == (3, 5, 7)
    assert array.flags.c_contiguous
    array[...] = np.arange(105).reshape(3, 5, 7)
    part = array[1]
    del array  # the memory lives as long as a view of it
    assert part.tolist() == np.arange(35, 70).reshape(5, 7).tolist()


def test_fingerprints_of_folders_follow_the_files_and_not_their_place(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", "cat", "dog", "fox")
    first = fingerprint(as_dataset(photos))
    moved = shutil.copytree(photos, tmp_path / "elsewhere", copy_function=shutil.copy)  # with other times
    assert fingerprint(as_dataset(moved)) == first
    (moved / "cat" / "a.png").rename(moved / "cat" / "b.png")
    assert fingerprint(as_dataset(moved)) != first
    (moved / "cat" / "b.png").rename(moved / "cat" / "a.png")
    assert fingerprint(as_dataset(moved)) == first
    Image.new("RGB", (310, 280)).save(moved / "cat" / "a.png")
    assert fingerprint(as_dataset(moved)) != first


def test_fingerprints_of_prepared_folders_follow_their_content(tmp_path: Path) -> None:
    for name, source in (("first", "photos"), ("again", "elsewhere")):
        prepare(write_photos(tmp_path / source, "cat", "dog"), tmp_path / name, progress=False)
    first = fingerprint(as_dataset(tmp_path / "first"))
    assert fingerprint(as_dataset(tmp_path / "again")) == first
    Image.new("RGB", (300, 280), "white").save(tmp_path / "photos" / "cat" / "a.png")
    prepare(tmp_path / "photos", tmp_path / "other", progress=False)
    assert fingerprint(as_dataset(tmp_path / "other")) != first


def test_fingerprints_of_arrays_and_parts(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (40, 8, 8), np.uint8)

    def found(images: np.ndarray) -> str | None:
        return fingerprint(ImageArrays(images, np.arange(40) % 2))

    first = found(images)
    assert found(images[::-1][::-1]) == first
    images[21, 0, 0] ^= 1
    assert found(images) != first
    monkeypatch.setattr(arrays, "_FINGERPRINT_BYTES", 20 * 64)  # every second image
    second = found(images)
    images[21, 0, 0] ^= 1
    assert found(images) == second
    images[20, 0, 0] ^= 1
    assert found(images) != second
    dataset = ImageArrays(images, np.arange(40) % 2)
    parts = {fingerprint(Subset(dataset, np.array(indices))) for indices in ([0, 1], [1, 0], [0, 1, 2])}
    assert len(parts | {fingerprint(dataset)}) == 4


def test_data_sets_of_others_are_known_by_their_names_if_at_all() -> None:
    class Plain:
        classes = ("one", "two")
        labels = np.zeros(2, np.int32)

        def __len__(self) -> int:
            return 2

    class Named(Plain):
        names = ("a", "b")

    assert fingerprint(Named()) == digest(["a", "b"]) != digest(["ab"])  # type: ignore[arg-type]
    assert fingerprint(Plain()) is None  # type: ignore[arg-type]
    assert fingerprint(Subset(Plain(), np.array([0]))) is None  # type: ignore[arg-type]
