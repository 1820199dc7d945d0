"""A run that is stopped in any way goes on to the very bits of the run that was not."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyalexnet.architecture import Options
from pyalexnet.data import ImageArrays, choice
from pyalexnet.errors import DataError, ModelFileError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.net.model_file import load_model
from pyalexnet.study.report import write_report
from pyalexnet.training.checkpoint import CHECKPOINTS, newest_checkpoint
from pyalexnet.training.fine_tuning import Origin
from pyalexnet.training.recipe import PAPER
from pyalexnet.training.result import TrainingResult
from pyalexnet.training.settings import Settings, differences
from pyalexnet.training.start import _settings_from_now_on
from pyalexnet.training.train import train
from small import SMALL, SMALL_CLI

RNG = np.random.default_rng(0)
LABELS = np.arange(14) % 2
IMAGES = (RNG.integers(0, 100, (14, 8, 8)) + 150 * LABELS[:, None, None]).astype(np.uint8)
EPOCHS, STEPS_AN_EPOCH = 2, 3

SHORT: dict[str, Any] = {
    "batch_size": 4,
    "epochs": EPOCHS,
    "validation": 1 / 7,
    "patience": 1,
    "devices": ["cpu:0"],
    "bias_init": "caffe",
    "lr_layers": {"conv2": 0.0, "fc8": 0.5},
    "warmup": 4,  # more than an epoch's 3 steps
    "progress": False,
}

# What a process does that is killed: train on the same images, with a checkpoint after every step.
PROGRAM = f"""{SMALL}
import json
import numpy as np
import pyalexnet
stored = np.load(sys.argv[1])
print("ready", flush=True)
pyalexnet.train((stored["images"], stored["labels"]), out=sys.argv[2], resume=True, checkpoint_minutes=0,
                **json.loads(sys.argv[3]))
"""


class StoppingArrays(ImageArrays):
    """Images that stop the process's training, as Ctrl-C does, once so many have been read."""

    def __init__(self, after: int) -> None:
        super().__init__(IMAGES, LABELS)
        self.left = after

    def batch(self, indices: Any) -> Any:
        self.left -= len(indices)
        if self.left < 0:
            self.left = 10**9
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)  # the main thread takes signals
        return super().batch(indices)


@pytest.fixture(scope="module")
def whole() -> TrainingResult:
    return train((IMAGES, LABELS), **SHORT)


def assert_same_run(result: TrainingResult, expected: TrainingResult) -> None:
    def without_times(run: TrainingResult) -> list[tuple[Any, ...]]:
        return [(r.epoch, r.steps, r.lr, r.train_loss, r.validation_loss, r.validation_error) for r in run.history]

    assert result.stopped == expected.stopped == "finished"
    assert without_times(result) == without_times(expected)
    assert_same_net(result, expected)


def assert_same_net(result: TrainingResult, expected: TrainingResult) -> None:
    assert result.model.net.step == expected.model.net.step
    np.testing.assert_array_equal(result.model.mean, expected.model.mean)
    for kind in ("parameters", "momentum"):
        found = getattr(result.model.net, kind)()
        for name, value in getattr(expected.model.net, kind)().items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{kind} {name}")


# 14 images are measured first, and two batches of 4 may be prepared ahead of a step.
@pytest.mark.parametrize(
    ("after", "devices"),
    [
        (14, ["cpu:0"]),
        (20, ["cpu:0", "cpu:1"]),
        (26, ["cpu:0"]),
        (30, ["cpu:0", "cpu:1"]),
        (36, ["cpu:0"]),
    ],
)
def test_stopped_and_resumed(tmp_path: Path, whole: TrainingResult, after: int, devices: list[str]) -> None:
    stopped = train(StoppingArrays(after), out=tmp_path, **SHORT)
    assert stopped.stopped == "interrupted"
    assert newest_checkpoint(tmp_path) is not None
    resumed = train((IMAGES, LABELS), out=tmp_path, resume=True, **(SHORT | {"devices": devices}))
    assert_same_run(resumed, whole)


def lines_without_times(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    times = ("time", "images_per_second", "seconds")
    return [{name: value for name, value in line.items() if name not in times} for line in lines]


def kill_until_finished(folder: Path, seconds: random.Random, kills: int) -> int:
    """Start the same run again and again and kill each at a random moment, the last one excepted."""
    data, out = folder / "data.npz", folder / "run"
    np.savez(data, images=IMAGES, labels=LABELS)
    command = [sys.executable, "-c", PROGRAM, str(data), str(out), json.dumps(SHORT)]
    killed = 0
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            try:
                process.wait(seconds.uniform(0.0, 0.8))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return killed


@pytest.mark.parametrize(("seed", "kills"), [(0, 5), pytest.param(1, 60, marks=pytest.mark.slow)])
@pytest.mark.timeout(1200)
def test_killed_at_random(tmp_path: Path, whole: TrainingResult, seed: int, kills: int) -> None:
    killed = kill_until_finished(tmp_path, random.Random(seed), kills)
    assert killed >= 1
    assert_same_run(train((IMAGES, LABELS), out=tmp_path / "run", resume=True, **SHORT), whole)
    train((IMAGES, LABELS), out=tmp_path / "uninterrupted", **SHORT)
    assert lines_without_times(tmp_path / "run") == lines_without_times(tmp_path / "uninterrupted")
    names = {path.name for path in (tmp_path / "run" / CHECKPOINTS).iterdir()}
    assert not any(name.startswith(".") for name in names)
    assert len(names) <= 3  # the last two, and the best


def test_a_second_ctrl_c_stops_at_once_and_spoils_nothing(tmp_path: Path, whole: TrainingResult) -> None:
    data, out = tmp_path / "data.npz", tmp_path / "run"
    np.savez(data, images=IMAGES, labels=LABELS)
    command = [sys.executable, "-c", PROGRAM, str(data), str(out), json.dumps(SHORT)]
    between = random.Random(7)
    stopped = 0
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.readline()
            try:
                process.wait(between.uniform(0.2, 0.8))  # steps, each with a checkpoint, have begun
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                time.sleep(between.uniform(0.0, 0.1))
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=20)
                stopped += process.returncode == -signal.SIGINT  # KeyboardInterrupt came through
    assert stopped >= 1
    assert_same_run(train((IMAGES, LABELS), out=out, resume=True, **SHORT), whole)


def test_sigterm_saves_and_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    from PIL import Image

    for number, (pixels, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = tmp_path / "images" / f"class {label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    command = [*SMALL_CLI, "train", tmp_path / "images", "--out", tmp_path / "run"]
    options = ["--epochs", "1000", "--batch-size", "4", "--devices", "cpu:0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not process.stdout.readline().startswith(b"epoch   1"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 143
    assert b"terminated after" in errors
    assert b"--resume" in errors
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["stopped"] == "terminated"
    newest = newest_checkpoint(tmp_path / "run")
    assert newest is not None
    assert newest.name.endswith(f"step-{run['steps']:08}")


def test_a_folder_is_for_one_run_and_open_to_readers(tmp_path: Path) -> None:
    data, out = tmp_path / "data.npz", tmp_path / "run"
    np.savez(data, images=IMAGES, labels=LABELS)
    command = [sys.executable, "-c", PROGRAM, str(data), str(out), json.dumps(SHORT | {"epochs": 1000})]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not (out / "run.json").exists():
            assert process.poll() is None
            time.sleep(0.05)
        for resume in (True, False):
            with pytest.raises(OSError, match=rf"{out}: process {process.pid} on \S+ is at work in it") as caught:
                train((IMAGES, LABELS), out=out, resume=resume, **SHORT)
            assert caught.value.errno == errno.EBUSY
        model = load_model(out, devices=["cpu:0"])
        assert 0 <= evaluate(model, (IMAGES, LABELS)).top1_error <= 1
        write_report(tmp_path / "report.html", out, timing=False, devices=["cpu:0"])
        assert process.poll() is None
        process.kill()
    stopped = newest_checkpoint(out)
    assert stopped is not None
    epochs = int(stopped.name.split("-")[1])
    resumed = train((IMAGES, LABELS), out=out, resume=True, allow_changes=True, **(SHORT | {"epochs": epochs}))
    assert resumed.stopped == "finished"
    assert not (out / ".lock").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train((IMAGES, LABELS), out=folder, **(SHORT | {"epochs": 1}))
    return folder


def test_a_finished_run_only_comes_back(finished: Path) -> None:
    again = train((IMAGES, LABELS), out=finished, resume=True, progress=False)
    assert again.stopped == "finished"
    assert again.model.net.step == STEPS_AN_EPOCH
    assert again.settings.batch_size == 4  # what is not given is the run's own


def test_a_run_is_not_overwritten(finished: Path) -> None:
    with pytest.raises(FileExistsError, match=r"holds a run with checkpoints; go on with it \(resume=True"):
        train((IMAGES, LABELS), out=finished, **SHORT)


def test_without_a_checkpoint_a_resumed_run_begins(tmp_path: Path) -> None:
    result = train((IMAGES, LABELS), out=tmp_path, resume=True, **(SHORT | {"epochs": 1}))
    assert result.model.net.step == STEPS_AN_EPOCH


def test_changes_are_named_and_need_a_flag(finished: Path) -> None:
    changed = {"epochs": 2, "lr": 0.02, "dropout": 0.25, "progress": False}
    other = (IMAGES[:12], LABELS[:12])
    with pytest.raises(ValueError, match="the run that is resumed had other settings") as caught:
        train(other, out=finished, resume=True, **changed)
    message = str(caught.value)
    for expected in ("epochs was 1 and is 2", "lr was 0.01 and is 0.02", "dropout was 0.0 and is 0.25",
                     "the training data was 12 images", "allow_changes=True"):  # fmt: skip
        assert expected in message
    assert "batch_size" not in message


def test_changes_that_are_allowed(tmp_path: Path) -> None:
    train((IMAGES, LABELS), out=tmp_path, **(SHORT | {"epochs": 1, "preset": "paper"}))
    changed = {
        "epochs": 2,
        "lr": 0.001,
        "batch_size": 3,
        "dropout": 0.0,
        "bias_update": "source2012",
        "conv_algorithm": "direct",
        "precision": "bf16",
    }
    changed |= {"progress": False}
    result = train((IMAGES, LABELS), out=tmp_path, resume=True, allow_changes=True, **changed)
    assert result.model.net.step == STEPS_AN_EPOCH + 4
    assert [record.lr for record in result.history] == [0.008, 0.001]  # the first while it warms up
    assert result.model.net.options.dropout == 0.0
    again = train((IMAGES, LABELS), out=tmp_path, resume=True, progress=False)
    assert again.settings == result.settings


# Another value for each setting and option, by what a resumed run says to it.
FREE: dict[str, Any] = {"devices": ["cpu:0", "cpu:1"]}
BY_FLAG: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 3,
    "shards": 2,
    "lr": 0.02,
    "lr_layers": {"conv1": 0.5},
    "warmup": 5,
    "lars": 0.01,
    "momentum": 0.8,
    "weight_decay": 0.0,
    "patience": 2,
    "seed": 1,
    "reflect": False,
    "colour_noise": 0.0,
    "floor": 0.001,
    "schedule": "0.01@0",
    "colour_noise_scaled": True,
    "dropout": 0.0,
    "bias_update": "source2012",
    "conv_algorithm": "direct",
    "precision": "tf32",
}
NEVER: dict[str, Any] = {
    "init": Origin("model.safetensors", 1),
    "num_classes": 3,
    "subtract_mean": False,
    "preset": "caffe",
    "weight_init": "caffe",
    "bias_init": "paper",
    "lrn_alpha": "caffe",
    "lrn_k": 1.0,
    "lrn_over": "both",
    "pool_before_lrn": True,
    "second_lrn": True,
    "relu1_last": True,
    "crop": 224,
    "conv1_padding": 2,
    "colour_deviation": "imagenet",
    "filters": "2014",
    "activation": "tanh",
    "pooling": "plain",
    "lrn": False,
    "towers": 1,
}


def test_every_setting_and_option_is_of_one_kind() -> None:
    known = {field.name for kind in (Settings, Options) for field in fields(kind)} - {"net_options", "recipe"}
    assert sorted([*FREE, *BY_FLAG, *NEVER]) == sorted(known)


@pytest.fixture(scope="module")
def settings() -> Settings:
    """Those of a run that had what the paper says, but for its biases."""
    recipe = {field.name: getattr(PAPER, field.name) for field in fields(PAPER) if field.name != "validation"}
    return Settings(devices=("cpu:0",), seed=0, num_classes=2, **(recipe | {"net_options": {"bias_init": "caffe"}}))


def asked_for(name: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and the net's options that a user gives who gives this."""
    return ({}, {name: value}) if name in vars(Options()) else ({name: value}, {})


@pytest.mark.parametrize("name", NEVER)
def test_what_no_resumed_run_may_change(settings: Settings, name: str) -> None:
    was = (vars(settings) | vars(Options(**settings.net_options)))[name]
    told = re.escape(f"{name} is {NEVER[name]!r}; it must be {was!r} in a resumed run, as it was")
    with pytest.raises(ValueError, match=told):
        _settings_from_now_on(settings, *asked_for(name, NEVER[name]))
    assert _settings_from_now_on(settings, *asked_for(name, was)).num_classes == 2


@pytest.mark.parametrize("name", BY_FLAG)
def test_what_a_resumed_run_may_change_if_asked_to(settings: Settings, name: str) -> None:
    changed = _settings_from_now_on(settings, *asked_for(name, BY_FLAG[name]))
    assert [change.split()[0] for change in differences(settings, changed)] == [name]


def test_settings_are_refused_before_the_data_are_looked_at(finished: Path) -> None:
    with pytest.raises(ValueError, match="towers is 1; it must be 2 in a resumed run, as it was"):
        train("nowhere", out=finished, resume=True, allow_changes=True, progress=False, towers=1)


def test_other_images_of_the_same_number_are_noticed(tmp_path: Path) -> None:
    others, held_out = IMAGES.copy(), ImageArrays(IMAGES[:2], LABELS[:2])
    others[0, 0, 0] += 1
    train((IMAGES, LABELS), out=tmp_path, **(SHORT | {"epochs": 1, "validation": held_out}))
    again: dict[str, Any] = {"out": tmp_path, "resume": True, "progress": False}
    with pytest.raises(ValueError, match="settings: the training data is other images of the same number"):
        train((others, LABELS), validation=held_out, **again)
    with pytest.raises(ValueError, match="settings: the held-out data is other images of the same number"):
        train((IMAGES, LABELS), validation=(others[:2], LABELS[:2]), **again)


def test_other_classes_are_never_the_same_run(finished: Path) -> None:
    other = ImageArrays(IMAGES, 1 - LABELS, classes=["1", "0"])
    told = r"the data has the classes '1', '0'; in a resumed run they must be .*: '0', '1'"
    with pytest.raises(DataError, match=told):
        train(other, out=finished, resume=True, allow_changes=True, progress=False)


class Unnamed:
    """A data set that tells nothing but what it must."""

    classes = ("0", "1")
    labels = LABELS.astype(np.int32)

    def __len__(self) -> int:
        return len(LABELS)

    def batch(self, indices: Any) -> Any:
        return ImageArrays(IMAGES, LABELS).batch(indices)


def test_what_cannot_be_checked_is_said(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = "the training data may be other images: only their number, classes and labels can be checked\n"
    train((IMAGES, LABELS), out=finished, resume=True)
    assert told not in capsys.readouterr().out
    train(Unnamed(), out=finished, resume=True)
    assert told in capsys.readouterr().out


def test_checkpoints_that_tell_nothing_of_the_images_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of earlier versions."""
    describe = choice.describe_part

    def without_content(dataset: Any) -> dict[str, Any]:
        return {name: value for name, value in describe(dataset).items() if name != "content"}

    with monkeypatch.context() as earlier:
        earlier.setattr(choice, "describe_part", without_content)
        train((IMAGES, LABELS), out=tmp_path, **(SHORT | {"epochs": 1}))
    train((IMAGES, LABELS), out=tmp_path, resume=True, allow_changes=True, epochs=2)
    assert "the training data may be other images: only their number" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the training data is other images"):
        train((IMAGES + 1, LABELS), out=tmp_path, resume=True, progress=False)


def test_arrays_must_be_given_again(finished: Path) -> None:
    with pytest.raises(DataError, match="the run learned from arrays; resuming it needs them"):
        train(out=finished, resume=True, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": None, "resume": True}, "resume is True; it must be False where out names no folder"),
        ({"out": None, "tensorboard": True}, "tensorboard is True; it must be False where out names no folder"),
        ({"keep": 0}, "keep is 0; it must be at least 1"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes is -1.0; it must be at least 0"),
        ({"schedule": "0.01@0", "lr": 0.01}, "lr is 0.01; it must be left out, since the schedule has rates"),
        ({"preset": "resnet"}, "preset is 'resnet'; it must be one of 'paper'"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train((IMAGES, LABELS), **(SHORT | {"patience": None, "out": tmp_path} | changes))


def damaged(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "missing":
        path.unlink()
    elif kind == "pickle":
        path.write_bytes(b"\x80\x04cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


@pytest.mark.parametrize("kind", ["cut short", "missing", "pickle", "one bit"])
@pytest.mark.parametrize("name", ["model.safetensors", "momentum.safetensors", "state.json"])
def test_a_checkpoint_that_is_not_whole_is_refused(finished: Path, name: str, kind: str) -> None:
    newest = newest_checkpoint(finished)
    assert newest is not None
    path = newest / name
    content = path.read_bytes()
    try:
        damaged(path, kind)
        with pytest.raises(ModelFileError, match=rf"{name}.*To go on from the checkpoint before it, remove the folder"):
            train((IMAGES, LABELS), out=finished, resume=True, progress=False)
    finally:
        path.write_bytes(content)


def test_parts_of_two_checkpoints_are_not_one(finished: Path, tmp_path: Path) -> None:
    train((IMAGES, LABELS), out=tmp_path, **(SHORT | {"epochs": 1, "seed": 1}))
    ours, other = newest_checkpoint(finished), newest_checkpoint(tmp_path)
    assert ours is not None
    assert other is not None
    (other / "momentum.safetensors").write_bytes((ours / "momentum.safetensors").read_bytes())
    with pytest.raises(ModelFileError, match=r"momentum\.safetensors is cut short, damaged or of another checkpoint"):
        train((IMAGES, LABELS), out=tmp_path, resume=True, progress=False)
