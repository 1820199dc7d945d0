"""What a model is judged by where nothing is named, and which images it is said to have learned from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pyalexnet
from pyalexnet.data import Digits, ImageArrays, ImageFolder, Subset, as_dataset
from pyalexnet.data.choice import choose_data
from pyalexnet.data.dataset import image_names
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.data.prepare import prepare
from pyalexnet.errors import DataError
from pyalexnet.evaluation import own_data
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.evaluation.features import extract_features
from pyalexnet.evaluation.neighbours import find_neighbours
from pyalexnet.evaluation.own_data import data_of_run, held_out_images, trained_on, training_images
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import load_model, save_model
from pyalexnet.net.network import AlexNet

CLASSES = ("black", "white")
EACH, HELD_OUT = 10, 4  # images of a class, and how many of all a fifth is


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(EACH):
            pixels = (rng.integers(0, 100, (40, 50, 3)) + 150 * label).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def net() -> AlexNet:
    return AlexNet(2, devices=["cpu:0"], weight_init="source2012")


def learned(net: AlexNet, data: Any, validation: Any = 0.2) -> Classifier:
    """A model that says that it learned from some data."""
    chosen = choose_data(data, validation, 0.1)
    return Classifier(net, CLASSES, np.zeros((256, 256, 3), np.float32), learned_from=chosen.description)


def known_in(model: Classifier, data: Any) -> set[str]:
    """The names of the images that a model is said to have learned from."""
    dataset = as_test_dataset(data)
    everything = np.arange(len(dataset))
    known = trained_on(model, dataset)
    assert known.not_checked == ""
    found = known.among(everything, dataset.batch(everything)[0])
    return {name for name, learned in zip(image_names(dataset), found, strict=True) if learned}


def test_a_model_is_judged_by_what_its_run_held_out(net: AlexNet, photos: Path) -> None:
    model = learned(net, photos)
    names = held_out_images(model).names
    assert len(names) == HELD_OUT
    assert set(names) | set(training_images(model).names) == set(ImageFolder(photos).names)
    whole, own = evaluate(model, photos), evaluate(model)
    assert (own.count, own.trained_on, own.unseen) == (HELD_OUT, 0, None)
    assert own.overlap == "none of 4 images were trained on"
    assert (whole.count, whole.trained_on) == (2 * EACH, 2 * EACH - HELD_OUT)
    assert whole.overlap == "16 of 20 images were trained on"
    assert whole.unseen is not None
    np.testing.assert_array_equal(whole.unseen.confusion, own.confusion)
    np.testing.assert_array_equal(whole.unseen.top5_wrong, own.top5_wrong)
    assert whole.unseen.loss == pytest.approx(own.loss, rel=1e-5)  # sums of batches of another size


def test_held_out_data_of_their_own(net: AlexNet, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "others")
    model = learned(net, photos, tmp_path / "others")
    assert held_out_images(model).names == ImageFolder(photos).names
    assert known_in(model, tmp_path / "others") == set()  # the run itself keeps them apart
    assert known_in(model, photos) == set(ImageFolder(photos).names)


def test_fewer_images_held_out_than_learned_from(net: AlexNet, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "few")
    for name in CLASSES:
        for file in sorted((tmp_path / "few" / name).iterdir())[2:]:
            file.unlink()
    assert known_in(learned(net, photos, tmp_path / "few"), tmp_path / "few") == set()


def test_features_and_neighbours_are_those_of_the_training_images(net: AlexNet, photos: Path) -> None:
    model = learned(net, photos)
    features = extract_features(model, layer="fc8")
    assert list(features.names) == training_images(model).names
    nearest = find_neighbours(model, photos / features.names[3], layer="fc8", count=1)[0][0]
    assert nearest.name == features.names[3]


def test_images_named_by_place_are_told_apart_without_reading_any(
    net: AlexNet, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = learned(net, photos)
    training = set(training_images(model).names)
    monkeypatch.setattr(own_data, "_contents", None)
    for data in (ImageFolder(photos), as_dataset(photos / ".." / "photos"), Subset(ImageFolder(photos), np.arange(7))):
        places = trained_on(model, data).places
        names = data.names if isinstance(data, Subset) else ImageFolder(photos).names
        assert places is not None
        assert places.tolist() == [name in training for name in names]


@pytest.mark.parametrize("how", ["copied", "renamed", "prepared", "as arrays", "among others"])
def test_copies_are_known_by_their_content(net: AlexNet, photos: Path, tmp_path: Path, how: str) -> None:
    model = learned(net, photos)
    copy: Any = tmp_path / "copy"
    expected = set(training_images(model).names)
    if how == "prepared":
        prepare(photos, copy, progress=False)
    elif how == "as arrays":
        images, labels = ImageFolder(photos).batch(np.arange(2 * EACH))
        copy = ImageArrays(images, labels, CLASSES)
        expected = {str(index) for index, name in enumerate(ImageFolder(photos).names) if name in expected}
    else:
        shutil.copytree(photos, copy)
    if how == "renamed":
        for file in sorted(copy.rglob("*.jpg")):
            file.rename(file.with_name(f"{file.stem}-again.jpg"))
        expected = {name.replace(".jpg", "-again.jpg") for name in expected}
    if how == "among others":
        for number in range(5):
            Image.new("RGB", (30, 30), (number, 0, 0)).save(copy / "black" / f"new-{number}.png")
    assert known_in(model, copy) == expected


def test_other_images_are_not_said_to_be_trained_on(net: AlexNet, photos: Path) -> None:
    others = np.random.default_rng(7).integers(0, 256, (3, 20, 20, 3), np.uint8)
    assert known_in(learned(net, photos), (others, [0, 1, 1])) == set()


def test_many_training_images_are_read_only_if_asked_for(
    net: AlexNet, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "MOST_COMPARED", 15)
    model = learned(net, photos)
    shutil.copytree(photos, tmp_path / "copy")
    copy = as_dataset(tmp_path / "copy")
    found = evaluate(model, Subset(copy, np.arange(3)))
    assert (found.trained_on, found.unseen) == (None, None)
    reason = "16 training images would have to be read"
    assert found.overlap == f"whether the model was trained on some of these images was not checked: {reason}"
    stages: list[Any] = []
    done: list[int] = []
    known = trained_on(model, copy, asked=True, on_stage=lambda *stage: stages.append(stage), on_images=done.append)
    assert len(known.contents or ()) == 16
    assert stages == [("reading the training images", 16)]
    assert sum(done) == 16
    assert trained_on(model, as_dataset(photos), asked=False).not_checked == "it was not asked for"


def test_what_is_not_known_is_said(net: AlexNet, photos: Path, tmp_path: Path) -> None:
    bare = Classifier(net, CLASSES, np.zeros((256, 256, 3), np.float32))
    arrays = learned(net, ImageFolder(photos))
    none_held_out = learned(net, photos, 0)
    path = tmp_path / "bare.safetensors"
    save_model(path, bare)
    for model, reason in (
        (bare, "it is not known what the model learned from"),
        (arrays, "the run learned from arrays, which have no name"),
        (none_held_out, "it held out none"),
        (load_model(path, devices=["cpu:0"]), f"{tmp_path} holds no run: there is no run.json in it"),
    ):
        with pytest.raises(DataError, match="data is not given, and the run's own images cannot serve: ") as caught:
            evaluate(model)
        assert reason in str(caught.value)
        assert trained_on(model, as_dataset(photos)).not_checked == ("" if model is none_held_out else reason)


def test_images_that_moved_or_changed_are_named(net: AlexNet, photos: Path) -> None:
    model = learned(net, photos)
    (photos / "black" / "0.jpg").unlink()
    with pytest.raises(DataError, match=rf"the run's images in {photos} have changed: the training data was 16 images"):
        held_out_images(model)
    assert "have changed" in trained_on(model, as_dataset(photos)).not_checked
    photos.rename(photos.with_name("elsewhere"))
    with pytest.raises(DataError, match=rf"the run's images are not where they were: {photos} is not a folder"):
        training_images(model)


def test_a_training_image_that_cannot_be_read(net: AlexNet, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    model = learned(net, photos)
    broken = photos / training_images(model).names[2]
    broken.write_bytes(bytes(broken.stat().st_size))  # as large as before, so that it is found when it is read
    assert f"cannot read the image {broken}" in trained_on(model, as_dataset(tmp_path / "copy")).not_checked


def test_the_run_is_found_beside_a_model_file(digits_run: Path, tmp_path: Path) -> None:
    described = json.loads((digits_run / "run.json").read_text())["data"]
    (checkpoint,) = (digits_run / "checkpoints").iterdir()
    for place in (digits_run, digits_run / "best.safetensors", checkpoint):
        model = load_model(place, devices=["cpu:0"])
        assert data_of_run(model).description == described
    for name in ("run.json", "best.safetensors"):
        shutil.copy(digits_run / name, tmp_path)
    other = json.loads((tmp_path / "run.json").read_text())
    for part in ("training", "held_out"):
        other["data"][part]["classes"][0] = "zero"
    (tmp_path / "run.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match="holds the run of a model with other classes"):
        data_of_run(load_model(tmp_path / "best.safetensors", devices=["cpu:0"]))
    del other["data"]["source"]
    (tmp_path / "run.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match=r"run\.json: data.source is missing"):
        data_of_run(load_model(tmp_path / "best.safetensors", devices=["cpu:0"]))


def test_a_trained_model_knows_its_images() -> None:
    digits = Digits()
    few = Subset(digits, np.flatnonzero(digits.labels < 2)[:8])
    result = pyalexnet.train(few, epochs=1, batch_size=4, validation=0, devices=["cpu:0"], progress=False)
    assert result.model.learned_from == result.data
    with pytest.raises(DataError, match="the run learned from arrays"):
        evaluate(result.model)
