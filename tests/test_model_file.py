"""Model files: what is written is read back bit by bit, and anything else is refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from pyalexnet.errors import ModelFileError
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import load_model, save_model
from pyalexnet.net.network import AlexNet

OPTIONS = {"bias_init": "caffe", "dropout": 0.25, "pool_before_lrn": True}


@pytest.fixture(scope="module")
def model() -> Classifier:
    net = AlexNet(7, devices=["cpu:0"], seed=3, **OPTIONS)
    net.step = 42
    mean = np.random.default_rng(0).uniform(0, 255, (256, 256, 3)).astype(np.float32)
    return Classifier(net, ("cat", "dog", "größe"), mean)


@pytest.fixture(scope="module")
def saved(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, model)
    return path


def test_all_is_read_back(model: Classifier, saved: Path) -> None:
    loaded = load_model(saved, devices=["cpu:0"])
    assert loaded.classes == model.classes
    assert loaded.net.num_classes == 7
    assert loaded.net.options == model.net.options
    assert loaded.net.step == 42
    np.testing.assert_array_equal(loaded.mean, model.mean)
    expected = model.net.parameters()
    for name, value in loaded.net.parameters().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_other_programs_can_read_it(model: Classifier, saved: Path) -> None:
    tensors = safetensors.numpy.load_file(saved)
    assert tensors.keys() == {*model.net.parameters(), "input.mean"}


def test_memory_limit_is_passed_on(saved: Path) -> None:
    with pytest.raises(MemoryError, match="limit"):
        load_model(saved, devices=["cpu:0"], memory_limit=10**6)


@pytest.mark.parametrize("kept", [0, 5, 1000, 10**6])
def test_cut_short(saved: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.safetensors"
    with open(saved, "rb") as file:
        cut.write_bytes(file.read(kept))
    with pytest.raises(ModelFileError, match=r"cut\.safetensors is no model file or is cut short"):
        load_model(cut)


def test_damaged(saved: Path) -> None:
    def flip_bit() -> None:
        with open(saved, "r+b") as file:
            file.seek(10_000_000)
            byte = file.read(1)[0]
            file.seek(10_000_000)
            file.write(bytes([byte ^ 1]))

    flip_bit()
    try:
        with pytest.raises(ModelFileError, match="is damaged"):
            load_model(saved)
    finally:
        flip_bit()


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_text("a text of more than eight bytes")
    with pytest.raises(ModelFileError, match="is no model file"):
        load_model(path)
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(ModelFileError, match="not one that pyalexnet wrote"):
        load_model(path)


def described(**changes: object) -> str:
    """A description that is as it must be, but for these."""
    about = {"format": 1, "checksum": 0, "classes": ["a", "b"], "num_classes": 2, "options": {}, "step": 1}
    return json.dumps(about | changes)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("no JSON", "unknown.safetensors is no JSON"),
        ("[]", r"unknown.safetensors is \[\]; it must be an object"),
        ("[" * 10**5, "unknown.safetensors is no JSON: recursion limit exceeded"),
        (json.dumps({"format": 2, "checksum": 0}), "has format 2; this pyalexnet reads format 1"),
        (json.dumps({"format": 1, "checksum": 0}), "classes is missing"),
        (described(classes=["a", "a"]), "classes has 'a' 2 times; all must be different"),
        (described(classes=["a", "b", "c"]), "classes has 3 names; it must have at most num_classes, 2"),
        (described(classes="ab"), "classes is 'ab'; it must be a list"),
        (described(num_classes=1), "num_classes is 1; it must be at least 2"),
        (described(num_classes=10**400), r"num_classes is 1000.*; it must fit in 64 bits"),
        (described(step=-5), "step is -5; it must be at least 0"),
        (described(options={"towers": 3}), r"options\.towers is 3; it must be 2 or 1"),
        (described(options={"speed": 3}), r"options\.speed is unknown"),
        (described(options={"dropout": 1.5}), r"options: dropout is 1\.5; it must be"),
        (described(), "conv1.bias is missing; it must be"),
    ],
)
def test_unknown_descriptions(tmp_path: Path, about: str, message: str) -> None:
    path = tmp_path / "unknown.safetensors"
    safetensors.numpy.save_file({}, path, {"pyalexnet": about})
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_model(tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_model(tmp_path)
