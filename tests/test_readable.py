"""Images that cannot be read: found in one pass, named, and left out as if they had never been there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pyalexnet
from pyalexnet.cli import main
from pyalexnet.data import ImageArrays, ImageFolder, Subset
from pyalexnet.data.choice import choose_data
from pyalexnet.data.dataset import image_names
from pyalexnet.data.prepare import prepare
from pyalexnet.data.readable import find_unreadable, readable
from pyalexnet.errors import DataError

BROKEN = ("cat/03.png", "cat/11.jpg", "dog/00.png")


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Twelve images a class, of which three are broken: cut, empty, a text."""
    folder = tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            kind = "jpg" if number == 11 else "png"
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / name / f"{number:02}.{kind}")
    whole = folder / BROKEN[0]
    whole.write_bytes(whole.read_bytes()[:300])
    (folder / BROKEN[1]).write_bytes(b"")
    (folder / BROKEN[2]).write_text("no image")
    return folder


@pytest.fixture
def cleaned(photos: Path, tmp_path: Path) -> Path:
    """The same folder without the broken ones."""
    folder = tmp_path / "cleaned"
    shutil.copytree(photos, folder)
    for name in BROKEN:
        (folder / name).unlink()
    return folder


@pytest.fixture
def model() -> pyalexnet.Classifier:
    net = pyalexnet.AlexNet(2, devices=["cpu:0"], seed=3)
    return pyalexnet.Classifier(net, ("cat", "dog"), np.zeros((256, 256, 3), np.float32))


def test_what_is_left_is_as_if_the_others_had_not_been(photos: Path, cleaned: Path) -> None:
    errors: list[DataError] = []
    seen: list[int] = []
    kept = readable(ImageFolder(photos), errors.append, on_images=seen.append)
    assert sum(seen) == 24
    assert [str(photos / name) in str(error) for name, error in zip(BROKEN, errors, strict=True)] == [True] * 3
    expected = ImageFolder(cleaned)
    assert image_names(kept) == expected.names
    assert np.array_equal(kept.labels, expected.labels)
    everything = np.arange(21)
    assert np.array_equal(kept.batch(everything)[0], expected.batch(everything)[0])
    with pytest.raises(DataError, match="cannot read the image"):
        ImageFolder(photos).batch(np.arange(24))


def test_skip_warns_and_stop_reads_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ImageFolder(photos)
    with pytest.warns(UserWarning, match=r"3 images are left out:\ncannot read the image .*cat/03\.png"):
        assert len(readable(dataset, "skip")) == 21
    monkeypatch.setattr(ImageFolder, "batch", None)
    assert readable(dataset, "stop") is dataset
    with pytest.raises(ValueError, match="on_error is 'ask'; it must be 'stop' or 'skip'"):
        readable(dataset, "ask")  # type: ignore[arg-type]


def test_what_holds_no_files_is_not_read(cleaned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(cleaned, tmp_path / "set", progress=False)
    arrays = ImageArrays(np.zeros((2, 8, 8), np.uint8), [0, 1])
    for dataset in (prepared, arrays):
        monkeypatch.setattr(type(dataset), "batch", None)
        part = Subset(dataset, np.array([1]))
        assert readable(part, "skip") is part


def test_none_at_all_is_an_error(photos: Path) -> None:
    for file in photos.glob("*/*"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the 24 images can be read; the first: .*cat/00\.png"):
        readable(ImageFolder(photos), "skip")


def test_mistakes_of_a_users_data_set_are_not_skipped() -> None:
    class Users:
        classes, labels = ("a", "b"), np.array([0, 1, 0])
        wrong = False

        def __len__(self) -> int:
            return 3

        def batch(self, indices: Any) -> Any:
            if 1 in indices:
                raise DataError("image 1 is lost")
            return np.zeros((len(indices), 256, 256, 3), float if self.wrong else np.uint8), self.labels[indices]

    users = Users()
    assert {index: str(error) for index, error in find_unreadable(Subset(users, np.arange(3))).items()} == {
        1: "image 1 is lost"
    }
    users.wrong = True
    with pytest.raises(DataError, match="images of dtype float64"):
        find_unreadable(Subset(users, np.arange(3)))


def test_a_choice_leaves_out_before_it_holds_out_and_does_so_again(
    photos: Path, cleaned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, expected = choose_data(photos, 0.25, 0.1, on_error="skip"), choose_data(cleaned, 0.25, 0.1)
    assert set(chosen.description["unreadable"]["data"]) == set(BROKEN)
    for part in ("training", "held_out"):
        assert image_names(getattr(chosen, part)) == image_names(getattr(expected, part))
    assert "unreadable" not in expected.description
    json.dumps(chosen.description)
    monkeypatch.setattr(ImageFolder, "batch", None)  # what is known is not looked for
    again = choose_data(photos, 0.25, 0.1, unreadable=chosen.description["unreadable"])
    assert again.description == chosen.description
    assert image_names(again.training) == image_names(chosen.training)


def test_a_held_out_part_of_its_own_is_looked_at_too(photos: Path, cleaned: Path) -> None:
    chosen = choose_data(cleaned, photos, 0.1, on_error="skip")
    assert chosen.held_out is not None
    assert len(chosen.held_out) == 21
    assert set(chosen.description["unreadable"]) == {"validation"}


def test_evaluation_features_and_neighbours_leave_out(photos: Path, cleaned: Path, model: Any) -> None:
    errors: list[DataError] = []
    found = pyalexnet.evaluate(model, photos, on_error=errors.append)
    assert len(errors) == 3
    assert found.loss == pyalexnet.evaluate(model, cleaned).loss
    with pytest.warns(UserWarning, match="3 images are left out"):
        features = pyalexnet.extract_features(model, photos, on_error="skip")
    assert list(features.names) == ImageFolder(cleaned).names
    near = pyalexnet.find_neighbours(model, [photos / "cat" / "00.png"], photos, count=2, on_error=errors.append)
    assert near[0][0].name == "cat/00.png"
    for use in (pyalexnet.evaluate, pyalexnet.extract_features):
        with pytest.raises(DataError, match=r"cannot read the image .*cat/03\.png"):
            use(model, photos)


def test_a_run_is_that_of_the_cleaned_folder(photos: Path, cleaned: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "epochs": 1, "batch_size": 4, "lr": 0.001, "validation": 0.25, "devices": ["cpu:0"], "progress": False,
    }  # fmt: skip
    skipping = pyalexnet.train(photos, on_error="skip", out=tmp_path / "run", **options)
    plain = pyalexnet.train(cleaned, **options)
    assert skipping.history[0].train_loss == plain.history[0].train_loss
    assert skipping.history[0].validation_loss == plain.history[0].validation_loss
    resumed = pyalexnet.train(out=tmp_path / "run", resume=True, progress=False, devices=["cpu:0"])
    assert resumed.data == skipping.data


def test_commands_name_what_they_skip(
    photos: Path, model: pyalexnet.Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(tmp_path / "model.safetensors"), tmp_path / "out"
    pyalexnet.save_model(file, model)
    broken = str(photos / BROKEN[0])
    for words in (
        ["evaluate", file, str(photos)],
        ["features", file, str(photos), f"{out}.npz"],
        ["neighbours", file, str(photos), str(photos / "cat")],
        ["figure", "predictions", file, f"{out}.png", broken, str(photos / "cat" / "00.png")],
        ["figure", "neighbours", file, str(photos), f"{out}.png", broken, str(photos / "cat" / "00.png")],
        ["predict", file, str(photos)],
    ):
        assert main(words) == 2, words
        assert f"cannot read the image {photos}/" in capsys.readouterr().err
        assert main([*words, "--on-error", "skip"]) == 2, words
        said = capsys.readouterr().err
        assert f"pyalexnet {words[0]}: skipped: cannot read the image {broken}: " in said
        assert said.count(f"skipped: cannot read the image {broken}: ") == 1
        assert f"pyalexnet {words[0]}: {1 if 'predictions' in words else 3} image" in said
