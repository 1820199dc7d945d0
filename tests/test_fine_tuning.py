"""Training that begins with a model: what is taken from it, what is new, and what does not go with it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyalexnet.data import ImageArrays
from pyalexnet.data.digits import TEST_FRACTION
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.conversion import convert, load_model
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import save_model
from pyalexnet.net.network import AlexNet
from pyalexnet.training.fine_tuning import InitialModel, Origin
from pyalexnet.training.recipe import DIGITS, fine_tuning, recipe_and_data, recipe_for
from pyalexnet.training.record import load_run
from pyalexnet.training.train import train
from small import SMALL_CLI

RNG = np.random.default_rng(0)
LABELS = np.arange(14) % 2
IMAGES = (RNG.integers(0, 100, (14, 8, 8)) + 150 * LABELS[:, None, None]).astype(np.uint8)
CATS = ImageArrays(IMAGES, LABELS, classes=["cat", "dog"])
THREE = ImageArrays(IMAGES, np.arange(14) % 3, classes=["a", "b", "c"])

# Options that differ from all recipes, and from the paper.
OPTIONS: dict[str, Any] = {"lrn_k": 1.0, "lrn_alpha": "caffe", "bias_init": "caffe", "pool_before_lrn": True}
SHORT: dict[str, Any] = {"batch_size": 4, "epochs": 1, "validation": 1 / 7, "devices": ["cpu:0"], "progress": False}
FROZEN: dict[str, Any] = {"lr_layers": {"conv1-fc8": 0}}


@pytest.fixture(scope="module")
def model() -> Classifier:
    """A net with weights that no recipe begins with, of the classes cat and dog."""
    net = AlexNet(2, devices=["cpu:0"], seed=5, **OPTIONS)
    net.load_parameters({name: value * np.float32(1.25) for name, value in net.parameters().items()})
    mean = RNG.integers(100, 120, (256, 256, 3)).astype(np.float32)
    return Classifier(net, ("cat", "dog"), mean)


@pytest.fixture(scope="module")
def model_file(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "cats.safetensors"
    save_model(path, model)
    return path


def assert_equal(found: dict[str, Any], expected: dict[str, Any], *, but: tuple[str, ...] = ()) -> None:
    for name, value in expected.items():
        if name.split(".")[0] not in but:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_with_the_same_classes_all_is_taken(
    model: Classifier, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(CATS, init=model_file, **(SHORT | FROZEN | {"progress": True}))
    assert_equal(result.model.net.parameters(), model.net.parameters())
    np.testing.assert_array_equal(result.model.mean, model.mean)
    assert vars(result.model.net.options) | {"weight_init": "paper", "dropout": 0.5} == vars(model.net.options)
    assert "all layers, fc8 too: same classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "outputs", "reason"),
    [
        (THREE, {}, "it has 3 outputs, the model 2"),
        (CATS, {"num_classes": 5}, "it has 5 outputs, the model 2"),
        (ImageArrays(IMAGES, LABELS, classes=["dog", "cat"]), {}, "the data has other classes than the model"),
    ],
)
def test_with_other_classes_fc8_is_new(
    model: Classifier, model_file: Path, capsys: pytest.CaptureFixture[str], data: Any, outputs: Any, reason: str
) -> None:
    """As the recipe begins it: the same as of a net from scratch with that seed."""
    result = train(data, init=model_file, seed=3, **(SHORT | FROZEN | outputs | {"progress": True}))
    net, settings = result.model.net, result.settings
    assert_equal(net.parameters(), model.net.parameters(), but=("fc8",))
    scratch = AlexNet(settings.num_classes, devices=["cpu:0"], seed=3, **settings.net_options)
    assert_equal(
        net.parameters(), scratch.parameters(), but=("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    )
    np.testing.assert_array_equal(result.model.mean, model.mean)
    assert f"all layers but fc8, which is new: {reason}" in capsys.readouterr().out
    assert "fine-tuning, else by size" in settings.recipe


def test_a_new_fc8_learns_faster(model: Classifier) -> None:
    for data, outputs, factors in (
        (THREE, {}, {"fc8": 10.0}),
        (CATS, {"num_classes": 5}, {"fc8": 10.0}),
        (CATS, {}, {}),
    ):
        assert train(data, init=model, **SHORT, **outputs).settings.lr_layers == factors


def test_outputs_beyond_the_classes_are_taken_too(model: Classifier) -> None:
    wide = Classifier(AlexNet(7, devices=["cpu:0"], seed=5), ("cat", "dog"), model.mean)
    result = train(CATS, init=wide, **SHORT, **FROZEN)
    assert result.settings.num_classes == 7
    assert_equal(result.model.net.parameters(), wide.net.parameters())


def test_frozen_layers_keep_their_bits_and_others_learn(model: Classifier) -> None:
    """Weight decay does not touch them either."""
    result = train(THREE, init=model, **SHORT, lr_layers={"conv1-conv5": 0, "fc7": 0, "fc8": 10}, weight_decay=0.5)
    found, before = result.model.net.parameters(), model.net.parameters()
    assert_equal(found, before, but=("fc6", "fc8"))
    for name in ("fc6.weight", "fc6.bias"):
        assert not np.array_equal(found[name], before[name])
    momentum = result.model.net.momentum()
    assert not any(momentum[f"{layer}.weight"].any() for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc7"))


def test_any_format_will_do(model: Classifier, model_file: Path, tmp_path: Path) -> None:
    origins = []
    for name, to in (("torch.safetensors", "pytorch"), ("model.onnx", None), ("model.caffemodel", None)):
        convert(model_file, tmp_path / name, to=to)
        if name.endswith(".caffemodel"):
            with pytest.raises(ModelFileError, match=r"has no mean image; it must .*pyalexnet convert .* --mean"):
                train(CATS, init=tmp_path / name, **SHORT)
            continue
        result = train(CATS, init=tmp_path / name, **SHORT, **FROZEN)
        assert_equal(result.model.net.parameters(), model.net.parameters())
        origins.append(result.settings.init)
    assert origins[0] == origins[1] == InitialModel.read(model).origin


def test_another_programs_model_serves_with_a_mean_given(model: Classifier, model_file: Path, tmp_path: Path) -> None:
    convert(model_file, tmp_path / "model.caffemodel")
    given = load_model(tmp_path / "model.caffemodel", mean=(120, 110, 100), devices=["cpu:0"])
    result = train(CATS, init=given, **SHORT, **FROZEN)
    np.testing.assert_array_equal(result.model.mean[0, 0], [120, 110, 100])
    assert_equal(result.model.net.parameters(), model.net.parameters(), but=("fc8",))  # it has no classes
    assert result.settings.init is not None
    assert result.settings.init.path is None


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"lrn_k": 2.0}, r"lrn_k is 2\.0; it must be 1\.0, as init, .*cats\.safetensors \([0-9a-f]{8}\), has it"),
        ({"towers": 1}, "towers is 1; it must be 2, as init, .*, has it"),
        ({"crop": 224}, "crop is 224; it must be 227, as init, .*, has it"),
        ({"preset": "paper"}, "lrn_alpha of preset paper is 'paper'; it must be 'caffe', as init, .*, has it"),
        (
            {"preset": "notes", "lrn_alpha": "caffe", "lrn_k": 1.0, "pool_before_lrn": True},
            "subtract_mean of preset notes is False; it must be True, as init, .*, has a mean image",
        ),
        ({"subtract_mean": False}, "subtract_mean is False; it must be True, as init, .*, has a mean image"),
    ],
)
def test_what_contradicts_the_model_names_both(model_file: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        train("nowhere", init=model_file, **SHORT, **asked)


def test_what_agrees_with_the_model_may_be_said(model_file: Path) -> None:
    options = {"pool_before_lrn": True, "weight_init": "source2012", "bias_init": "paper"}
    result = train(CATS, init=model_file, preset="caffe", **SHORT, **options)
    assert (result.settings.recipe, result.settings.lr) == ("preset caffe", 0.01)
    assert result.model.net.options.weight_init == "source2012"  # of what is new


def test_a_model_of_raw_pixels_stays_one(model: Classifier) -> None:
    raw = Classifier(model.net, ("cat", "dog"), np.zeros_like(model.mean))
    result = train(CATS, init=raw, **SHORT)
    assert not result.settings.subtract_mean
    assert not result.model.mean.any()
    with pytest.raises(ValueError, match=r"subtract_mean is True; it must be False, as init, a model .*no mean image"):
        train(CATS, init=raw, subtract_mean=True, **SHORT)


def test_what_is_no_model_is_named(tmp_path: Path, model: Classifier) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no model file .*nowhere"):
        train(CATS, init=tmp_path / "nowhere", **SHORT)
    (tmp_path / "text.safetensors").write_text("no model")
    with pytest.raises(ModelFileError, match=r"text\.safetensors is no model file: its header has"):
        train(CATS, init=tmp_path / "text.safetensors", **SHORT)
    for wrong in (1.5, model.net):
        with pytest.raises(TypeError, match=r"init is .*; it must be a Classifier, a run's folder or a model file"):
            train(CATS, init=wrong, **SHORT)


def test_the_model_is_not_written_over(model: Classifier, tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", model)
    for init in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(ValueError, match=r"out is .*; it must be another folder than that of init"):
            train(CATS, init=init, out=tmp_path, **SHORT)


# The record, and going on ----------------------------------------------------------------------------------------


def test_the_record_says_where_a_run_began(model_file: Path, tmp_path: Path) -> None:
    result = train(THREE, init=model_file, out=tmp_path, **SHORT, lr_layers={"conv1-conv3": 0})
    settings = load_run(tmp_path).settings
    assert settings == result.settings
    assert settings.init is not None
    assert settings.init.path == str(model_file)
    assert settings.init.checksum == InitialModel.read(model_file).origin.checksum
    assert settings.lr_layers == {"conv1": 0.0, "conv2": 0.0, "conv3": 0.0}
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["init"]["path"] == str(model_file)


def test_a_run_goes_on_bit_for_bit_and_without_the_model(model: Classifier, tmp_path: Path) -> None:
    save_model(tmp_path / "begin.safetensors", model)
    asked = SHORT | {"epochs": 2, "lr_layers": {"conv1-conv4": 0, "fc8": 10}, "init": tmp_path / "begin.safetensors"}
    whole = train(THREE, **asked)
    stopped = train(THREE, out=tmp_path / "run", callback=lambda event: event.step == 4 and event.stop(), **asked)
    assert stopped.stopped == "interrupted"
    # The same model in another file is the same.
    (tmp_path / "begin.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no model file .*begin\.safetensors"):
        train(THREE, out=tmp_path / "run", resume=True, **asked)
    resumed = train(THREE, out=tmp_path / "run", resume=True, **(asked | {"init": tmp_path / "moved.safetensors"}))
    assert resumed.settings == whole.settings
    assert resumed.settings.init is not None
    assert resumed.settings.init.path == str(tmp_path / "begin.safetensors")
    assert_equal(resumed.model.net.parameters(), whole.model.net.parameters())
    assert_equal(resumed.model.net.momentum(), whole.model.net.momentum())
    np.testing.assert_array_equal(resumed.model.mean, model.mean)


def test_another_model_is_refused_when_a_run_goes_on(model: Classifier, tmp_path: Path) -> None:
    train(CATS, init=model, out=tmp_path / "run", **SHORT)
    parameters = model.net.parameters()
    parameters["fc8.bias"] = parameters["fc8.bias"] + np.float32(1)
    net = AlexNet(2, devices=["cpu:0"], **OPTIONS)
    net.load_parameters(parameters)
    other = replace(model, net=net)
    told = r"init is a model \([0-9a-f]{8}\); it must be a model \([0-9a-f]{8}\) in a resumed run, as it was"
    with pytest.raises(ValueError, match=told):
        train(CATS, init=other, out=tmp_path / "run", resume=True, allow_changes=True, **SHORT)
    with pytest.raises(ValueError, match="lr_layers was none and is conv1 0, conv2 0"):
        train(CATS, out=tmp_path / "run", resume=True, lr_layers={"conv1-conv2": 0}, progress=False)
    with pytest.raises(ValueError, match="lr_layers has 'conv2-conv1'; it must be biases, or one of conv1, "):
        train("nowhere", lr_layers={"conv2-conv1": 0})  # before anything is read


def test_a_run_from_scratch_gets_no_model_later(model: Classifier, tmp_path: Path) -> None:
    train(CATS, out=tmp_path, **SHORT)
    with pytest.raises(ValueError, match=r"init is a model \([0-9a-f]{8}\); it must be None in a resumed run"):
        train(CATS, init=model, out=tmp_path, resume=True, **SHORT)


# The recipe ------------------------------------------------------------------------------------------------------


def test_fine_tuning_changes_rates_alone() -> None:
    for recipe in (recipe_for(300, 2), recipe_for(10**7, 1000), DIGITS):
        tuned = fine_tuning(recipe, new_outputs=True)
        assert (tuned.lr, tuned.lr_layers, tuned.schedule) == (0.001, {"fc8": 10.0}, "falling")
        assert tuned.warmup == 50
        rates = {name: getattr(recipe, name) for name in ("lr", "lr_layers", "schedule", "warmup")}
        assert replace(tuned, **rates) == recipe
        assert fine_tuning(recipe, new_outputs=False).lr_layers == {}


def test_the_recipe_is_chosen_as_others_are() -> None:
    classes = tuple(map(str, range(10)))
    recipe, name, chosen = recipe_and_data("digits", None, None, initial_classes=("cat", "dog"))
    assert (recipe, name) == (fine_tuning(DIGITS, new_outputs=True), "fine-tuning, else that of digits")
    assert chosen.held_out is not None
    assert len(chosen.held_out) == pytest.approx(TEST_FRACTION * 240, abs=5)
    assert recipe_and_data("digits", None, None, initial_classes=classes)[0] == fine_tuning(DIGITS, new_outputs=False)
    assert recipe_and_data("digits", None, "caffe", initial_classes=classes)[1] == "preset caffe"
    assert recipe_and_data(CATS, 0, None, initial_classes=())[1].startswith("fine-tuning, else by size, 14 images")


def test_origins_compare_by_parameters() -> None:
    assert Origin("run", 1) == Origin("elsewhere", 1)
    assert Origin("run", 1) != Origin("run", 2)
    assert repr(Origin("run", 255)) == "run (000000ff)"


# The command -----------------------------------------------------------------------------------------------------


def test_the_command(model_file: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> tuple[int, str]:
        command = [
            *SMALL_CLI,
            "train",
            "digits",
            "--epochs",
            "1",
            "--batch-size",
            "48",
            "--quiet",
            "--devices",
            "cpu:0",
        ]
        done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=280)
        return done.returncode, done.stderr

    assert said("--init", model_file, "--lr-layers", "conv1-conv5=0,fc8=10", "--out", tmp_path / "run") == (0, "")
    assert load_run(tmp_path / "run").settings.lr_layers["conv5"] == 0
    for arguments, told in (
        (("--init", tmp_path / "none"), f"there is no model file {tmp_path / 'none'}"),
        (("--init", model_file, "--activation", "tanh"), "activation is 'tanh'; it must be 'relu', as init, "),
        (("--lr-layers", "conv5-conv1=0"), "lr_layers has 'conv5-conv1'; it must be biases, or one of conv1, "),
        (("--lr-layers", "conv1-conv3=0,conv2=1"), "lr_layers has conv2 twice; it must have each layer once"),
        (("--lr-layers", "conv1-conv3=-1"), "lr_layers['conv1-conv3'] is -1.0; it must be at least 0 and finite"),
        (("--lr-layers", "conv1-conv9=0"), "lr_layers has 'conv1-conv9'; it must be biases, or one of conv1, "),
    ):
        status, stderr = said(*arguments)
        assert status == 2
        assert told in stderr
        assert "Traceback" not in stderr
