"""Folders of image files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet.data import ImageFolder, as_dataset
from pyalexnet.data.dataset import image_names, remarks_on
from pyalexnet.data.folder import find_image_files
from pyalexnet.data.opening import as_test_dataset, held_out_part
from pyalexnet.data.prepare import prepare
from pyalexnet.errors import DataError


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def plain(mode: str, colour: object, size: tuple[int, int] = (300, 280)) -> Image.Image:
    return Image.new(mode, size, colour)


def test_subfolders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "b.PNG", plain("RGB", (2, 2, 2)), format="png")
    save(tmp_path / "dog" / "a.jpeg", plain("RGB", (1, 1, 1)), format="jpeg")
    save(tmp_path / "cat" / "c.png", plain("RGB", (3, 3, 3)))
    (tmp_path / "cat" / "notes.txt").write_text("passed over")
    (tmp_path / "cat" / ".hidden.png").write_text("passed over")
    (tmp_path / ".cache").mkdir()
    dataset = ImageFolder(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.remarks == [
        f"{tmp_path}: left out, its name begins with a dot: .cache, cat/.hidden.png",
        f"{tmp_path}: left out, its name does not end as that of an image: cat/notes.txt",
    ]
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


def test_nested_images_are_named_from_the_class_on(tmp_path: Path) -> None:
    save(tmp_path / "store" / "b.png", plain("RGB", (5, 5, 5)))
    save(tmp_path / "photos" / "cafe\u0301" / "2012" / "a.png", plain("RGB", (4, 4, 4)))
    (tmp_path / "photos" / "bar").symlink_to(tmp_path / "store")
    dataset = ImageFolder(tmp_path / "photos")
    assert dataset.names == ["bar/b.png", "caf\xe9/2012/a.png"]
    assert dataset.batch(np.array([1, 0]))[0][:, 0, 0, 0].tolist() == [4, 5]
    assert dataset.remarks == []


def parts_of(folder: Path) -> tuple[list[str] | None, list[str] | None, list[str]]:
    """The names of the images to learn from, and of those held out; and what is said of it."""
    training, held_out = as_dataset(folder), held_out_part(folder)
    return image_names(training), held_out and image_names(held_out), remarks_on(training, held_out)


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "valid"), ("TRAIN", "Validation"), ("train", "test")])
def test_a_folder_in_two_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    for part in names:
        save(tmp_path / part / "cat" / f"{part}.png", plain("RGB", (1, 1, 1)))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    training, held_out, remarks = parts_of(tmp_path)
    assert training == [f"cat/{names[0]}.png"]
    assert held_out == [f"cat/{names[1]}.png"]
    assert remarks == [f"{tmp_path}: {names[0]} is learned from, {names[1]} is held out"]
    assert as_test_dataset(tmp_path).names == held_out


def test_of_several_held_out_parts_val_is_meant(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        save(tmp_path / part / "cat" / f"{part}.png", plain("RGB", (1, 1, 1)))
    save(tmp_path / "testing" / "flat.png", plain("RGB", (1, 1, 1)))
    training, held_out, remarks = parts_of(tmp_path)
    assert (training, held_out) == (["cat/train.png"], ["cat/val.png"])
    assert remarks == [
        f"{tmp_path}: train is learned from, val is held out, test is not used, testing is not used, having no "
        "subfolders of images"
    ]


def test_a_part_may_be_prepared(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "cat" / "a.png", plain("RGB", (1, 1, 1)))
    prepare(tmp_path / "photos", tmp_path / "both" / "train", progress=False)
    save(tmp_path / "both" / "val" / "cat" / "b.png", plain("RGB", (2, 2, 2)))
    training, held_out, remarks = parts_of(tmp_path / "both")
    assert (training, held_out) == (["cat/a.png"], ["cat/b.png"])
    assert remarks == [f"{tmp_path / 'both'}: train is learned from, val is held out"]


def test_classes_that_are_called_as_parts_are(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a.png", plain("RGB", (1, 1, 1)))
    save(tmp_path / "val" / "b.png", plain("RGB", (1, 1, 1)))
    assert parts_of(tmp_path) == (
        ["train/a.png", "val/b.png"],
        None,
        [
            f"{tmp_path}: train and val are classes like any other; a part of a data set would have a subfolder for "
            "each class, and no other classes beside it"
        ],
    )
    save(tmp_path / "vehicles" / "train" / "steam" / "a.png", plain("RGB", (1, 1, 1)))
    save(tmp_path / "vehicles" / "car" / "b.png", plain("RGB", (1, 1, 1)))
    training, held_out, (remark,) = parts_of(tmp_path / "vehicles")
    assert (training, held_out) == (["car/b.png", "train/steam/a.png"], None)
    assert "train is a class like any other" in remark


def test_a_part_to_judge_by_alone(tmp_path: Path) -> None:
    save(tmp_path / "val" / "cat" / "a.png", plain("RGB", (1, 1, 1)))
    assert as_test_dataset(tmp_path).names == ["cat/a.png"]
    with pytest.raises(DataError, match="val is held out; there is no train to learn from"):
        as_dataset(tmp_path)


def test_preparation_refuses_parts_and_takes_what_training_takes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        save(tmp_path / "photos" / part / "cat" / "inner" / "a.png", plain("RGB", (1, 1, 1)))
    with pytest.raises(DataError, match="val is held out; prepare each of them as a source of its own"):
        prepare(tmp_path / "photos", tmp_path / "out", progress=False)
    prepared = prepare(tmp_path / "photos" / "val", tmp_path / "out", progress=False)
    assert prepared.names == ImageFolder(tmp_path / "photos" / "val").names == ["cat/inner/a.png"]


def test_image_files_and_folders_of_them(tmp_path: Path) -> None:
    one = save(tmp_path / "one.png", plain("RGB", (1, 1, 1)))
    two = save(tmp_path / "more" / "inner" / "two.png", plain("RGB", (2, 2, 2)))
    (tmp_path / "more" / "a.txt").touch()
    found = find_image_files(one, tmp_path / "more")
    assert found.names == [str(one), str(two)]
    assert found.remarks == [f"left out, its name does not end as that of an image: {tmp_path / 'more' / 'a.txt'}"]
    assert found.batch(np.array([1, 0]))[0][:, 0, 0, 0].tolist() == [2, 1]
    for wrong, reason in {
        tmp_path / "nowhere.png": "there is no image .*nowhere.png: No such file or directory",
        tmp_path / ("a" * 5000): "there is no image .*: File name too long",
        os.fsdecode(b"\xff.png"): r"the path of an image is '\\xff.png', which is no UTF-8",
        "a\0.png": r"there is no image a\\x00.png: embedded null byte",
    }.items():
        with pytest.raises(DataError, match=reason):
            find_image_files(wrong)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError, match="hollow has no images"):
        find_image_files(tmp_path / "hollow")


def test_paths_of_data_that_cannot_be(tmp_path: Path) -> None:
    for wrong, reason in {
        "a" * 5000: "cannot look at a+: File name too long",
        os.fsdecode(b"\xff"): r"data is '\\xff', which is no UTF-8",
    }.items():
        with pytest.raises(DataError, match=reason):
            as_dataset(wrong)
    with pytest.raises(ValueError, match=r"^data is 'a\\x00b'; it must be a path without NUL$"):
        as_dataset("a\0b")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="is not a folder"):
        as_dataset(tmp_path / "loop")
