"""Short training runs: the loss falls, equal seeds give equal bits, and every way in which a run can end."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from pyalexnet.architecture import Options
from pyalexnet.data import ImageArrays
from pyalexnet.data.opening import require_apart
from pyalexnet.errors import DataError, DivergedError, SaveError
from pyalexnet.net.model_file import load_model
from pyalexnet.net.network import AlexNet
from pyalexnet.system import files
from pyalexnet.training.logs import read_lines
from pyalexnet.training.recipe import PAPER
from pyalexnet.training.record import load_run
from pyalexnet.training.result import TrainingResult
from pyalexnet.training.settings import TrainArguments
from pyalexnet.training.train import train
from small import SMALL_CLI

RNG = np.random.default_rng(0)
LABELS = np.arange(14) % 2
# Dark and bright noise: told apart by their mean alone, so that a few steps suffice.
IMAGES = (RNG.integers(0, 100, (14, 8, 8)) + 150 * LABELS[:, None, None]).astype(np.uint8)

SHORT: dict[str, Any] = {
    "batch_size": 4,
    "epochs": 2,
    "validation": 1 / 7,
    "devices": ["cpu:0"],
    "bias_init": "caffe",
    "progress": False,
}


def short_run(**changes: Any) -> TrainingResult:
    return train((IMAGES, LABELS), **(SHORT | changes))


@pytest.fixture(scope="module")
def result() -> TrainingResult:
    return short_run()


def without_times(result: TrainingResult) -> list[tuple[Any, ...]]:
    return [(r.epoch, r.lr, r.train_loss, r.validation_loss, r.validation_error) for r in result.history]


def assert_same_parameters(one: TrainingResult, other: TrainingResult) -> None:
    expected = other.model.net.parameters()
    for name, value in one.model.net.parameters().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_history_has_a_record_for_each_epoch(result: TrainingResult) -> None:
    assert [record.epoch for record in result.history] == [1, 2]
    assert result.stopped == "finished"
    assert result.model.net.step == 2 * (12 // 4)
    for record in result.history:
        assert record.validation_accuracy == 1 - record.validation_error
        assert record.images_per_second > 0
        assert record.seconds > 0
    assert result.validation_accuracy == result.history[-1].validation_accuracy


@pytest.mark.long
@pytest.mark.usefixtures("full_size")
def test_loss_falls() -> None:
    history = short_run(epochs=4, dropout=0.0, colour_noise=0.0).history
    assert history[-1].train_loss < 0.9 * history[0].train_loss


def test_equal_seeds_give_equal_bits(result: TrainingResult) -> None:
    again = short_run()
    assert without_times(again) == without_times(result)
    assert_same_parameters(again, result)


def test_two_devices_give_the_bits_of_one(result: TrainingResult) -> None:
    two = short_run(devices=["cpu:0", "cpu:1"])
    assert without_times(two) == without_times(result)
    assert_same_parameters(two, result)


def test_another_seed_gives_another_run(result: TrainingResult) -> None:
    assert without_times(short_run(seed=1)) != without_times(result)


def test_dead_relus_are_told_beside_held_out_images(result: TrainingResult, tmp_path: Path) -> None:
    assert_same_parameters(short_run(report_relus=True, out=tmp_path), result)
    lines = [line for line in read_lines(tmp_path / "metrics.jsonl") if line["kind"] == "relus"]
    assert [line["step"] for line in lines] == [3] * 14 + [6] * 14  # of seven layers and two towers


def test_validation_data_of_its_own() -> None:
    held_out = ImageArrays(IMAGES[:3], [1, 1, 0], classes=["1", "0"])  # the same classes in another order
    result = short_run(epochs=1, validation=held_out)
    assert result.model.net.step == 14 // 4
    assert result.history[0].validation_error is not None


def test_without_validation() -> None:
    result = short_run(epochs=1, validation=0)
    assert result.history[0].validation_accuracy is None
    assert result.validation_accuracy is None


def test_out_holds_the_model_and_the_run(tmp_path: Path) -> None:
    result = short_run(epochs=1, out=tmp_path / "run", num_classes=5)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["stopped"] == "finished"
    assert run["settings"]["num_classes"] == 5
    assert run["history"][0]["train_loss"] == result.history[0].train_loss
    loaded = load_model(tmp_path / "run" / "model.safetensors", devices=["cpu:0"])
    assert loaded.classes == ("0", "1")
    assert loaded.net.step == 3
    parameters = result.model.net.parameters()
    for name, value in loaded.net.parameters().items():
        np.testing.assert_array_equal(value, parameters[name])


def test_progress_in_a_log_is_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    short_run(progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "training on 12 images of 2 classes (2 held out), 2 epochs, batch 4, on cpu:0"
    assert lines[1] == (
        "recipe: by size, 12 images of 2 classes (too few for the paper's recipe): lr 0.01 (conv1 ×0.1, conv2 ×0.3, "
        "fc6 ×0.5, fc7 ×0.5, fc8 ×0.05), falling, warm-up 50 steps, dropout 0, weights source2012, biases caffe"
    )
    assert [line.split()[:2] for line in lines[2:4]] == [["epoch", "1"], ["epoch", "2"]]
    assert "accuracy" in lines[2]
    assert "images/s" in lines[2]
    table = [line.split() for line in lines[4:] if line.strip()]
    assert table[0][:3] == ["epoch", "lr", "loss"]
    assert [row[0] for row in table[-2:]] == ["1", "2"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (
            "paper",
            r"the loss is .* at step \d+, in epoch 1, .* At that step the first NaN or infinity is in \w+, tower \d",
        ),
        # The small rates of a warm-up come through an epoch of three steps.
        (None, r"the validation loss is .* at step 3, in epoch 1, with lr [^ ]*\d\. Try"),
    ],
)
def test_divergence_says_when_and_keeps_the_last_good_model(
    preset: str | None, message: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if preset is None:  # which a small net comes through
        request.getfixturevalue("full_size")
    with pytest.raises(DivergedError, match=message) as caught:
        # Standard deviation 0.1, which is known to diverge.
        short_run(preset=preset, weight_init="notes", out=tmp_path)
    result = caught.value.result
    assert result.stopped == "diverged"
    assert result.history == []
    assert result.model.net.step == 0
    for part in (result.model, load_model(tmp_path / "model.safetensors", devices=["cpu:0"])):
        assert all(np.isfinite(value).all() for value in part.net.parameters().values())


@pytest.fixture
def images_folder(tmp_path: Path) -> Iterator[Path]:
    from PIL import Image

    for number, (pixels, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = tmp_path / "images" / f"class {label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "images"


def test_interrupt_keeps_what_was_learned(tmp_path: Path, images_folder: Path) -> None:
    command = [*SMALL_CLI, "train", images_folder, "--out", tmp_path / "run"]
    options = ["--epochs", "1000", "--batch-size", "4", "--devices", "cpu:0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not process.stdout.readline().startswith(b"epoch   1"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted after" in errors
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["stopped"] == "interrupted"
    assert len(run["history"]) >= 1
    model = load_model(tmp_path / "run" / "model.safetensors", devices=["cpu:0"])
    assert model.net.step == run["steps"]


def test_a_folder_that_cannot_be_written_is_told_before_training(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "run"):
        with pytest.raises(OSError, match=f"cannot write to the folder {out}: "):
            short_run(out=out)


@pytest.mark.parametrize("where", [".", "run", "new/run"])
@pytest.mark.parametrize("parts", [[], ["train", "val"]])
def test_a_run_among_the_classes_is_refused(tmp_path: Path, where: str, parts: list[str]) -> None:
    data = tmp_path / "data"
    for folder in (data / part for part in parts or ["."]):
        for label in ("a", "b"):
            (folder / label).mkdir(parents=True)
            Image.fromarray(IMAGES[0]).save(folder / label / "0.png")
    for folder in (data / part for part in parts or ["."]):
        there = sorted(tmp_path.rglob("*"))
        with pytest.raises(
            DataError, match=f"out is {folder / where}, which lies in {folder}, where each folder is a c"
        ):
            train(data, **{**SHORT, "validation": None if parts else 0, "out": folder / where})
        with pytest.raises(DataError, match=f"which lies in {folder}, "):
            train((IMAGES, LABELS), **{**SHORT, "validation": folder, "out": folder / where})
        assert sorted(tmp_path.rglob("*")) == there


def test_a_run_among_the_data_that_is_no_class(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "train" / label).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / "train" / label / "0.png")
    for out in (tmp_path / "train" / "a" / "run", tmp_path / "train" / ".run", tmp_path / "run"):
        require_apart(out, tmp_path, 0.1)
        require_apart(out, "digits", None)


def test_full_disk_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly_full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _path: nearly_full)
    with pytest.raises(OSError, match=r"the run with its checkpoints needs [\d,]+ bytes, and 1,000 are free") as caught:
        short_run(out=tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(SaveError, match="No space left on device; what was there before is unchanged") as caught:
            short_run(out=tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert {path.name for path in tmp_path.rglob("*")} == {"metrics.jsonl", "checkpoints"}
    assert len(caught.value.result.history) == 1
    caught.value.result.save(tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere" / "model.safetensors").net.step == caught.value.result.model.net.step


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 13}, DataError, "batch_size is 13, but there are only 12 training images"),
        ({"lr": -1.0}, ValueError, "lr is -1.0; it must be above 0"),
        ({"lr": float("nan")}, ValueError, "lr is nan; it must be above 0"),
        ({"momentum": 1.0}, ValueError, "momentum is 1.0; it must be at least 0 and below 1"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay is -1.0"),
        ({"patience": -1}, ValueError, "patience is -1; it must be at least 0"),
        (
            {"patience": 2, "validation": 0},
            ValueError,
            "patience is 2; it must be 0 where no images are held out",
        ),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"colour_noise": -1.0}, ValueError, "colour_noise is -1.0"),
        ({"validation": 1.0}, ValueError, "validation is 1.0; it must be at least 0 and below 1"),
        ({"num_classes": 1}, DataError, "num_classes is 1; it must be at least 2"),
        ({"bias_init": "zero"}, ValueError, "bias_init is 'zero'; it must be one of"),
        ({"devices": ["cpu:99"]}, ValueError, "cpu:99"),
        ({"devices": "cpu:0"}, ValueError, "it must be a list of one or two names"),
        ({"memory_limit": 10**6}, MemoryError, "(?s)MiB.*limit"),
        (
            {"unknown_option": 1},
            TypeError,
            "train has no argument 'unknown_option'; the net's options are weight_init, ",
        ),
        ({"epoch": 3}, TypeError, r"train has no argument 'epoch'; did you mean epochs\?"),
        ({"drop_out": 0.5}, TypeError, r"train has no argument 'drop_out'; did you mean dropout\?"),
    ],
)
def test_arguments_that_make_no_sense(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        short_run(**changes)


# What a run was asked, in NumPy's types, and as it must come out.
ASKED: dict[str, tuple[Any, Any]] = {
    "epochs": (np.int64(1), 1),
    "batch_size": (np.uint8(4), 4),
    "shards": (np.int8(2), 2),
    "lr": (np.float32(2**-20), 2**-20),  # small, so that no other value makes it diverge
    "lr_layers": ({np.str_("fc8"): np.float32(0.5), "conv1": np.int64(0)}, {"fc8": 0.5, "conv1": 0.0}),
    "warmup": (np.int16(3), 3),
    "lars": (np.float32(2**-10), 2**-10),
    "patience": (np.array(2), 2),
    "floor": (np.float16(2**-22), 2**-22),
    "momentum": (np.float64(0.5), 0.5),
    "weight_decay": (np.array(0.25), 0.25),
    "seed": (np.uint64(7), 7),
    "num_classes": (np.int32(5), 5),
    "reflect": (np.False_, False),
    "colour_noise": (np.float32(0.25), 0.25),
    "colour_noise_scaled": (np.True_, True),
    "subtract_mean": (np.False_, False),
    "dropout": (np.float32(0.25), 0.25),
    "lrn_k": (np.int64(1), 1.0),
    "lrn": (np.False_, False),
    "crop": (np.int64(224), 224),
    "bias_init": (np.str_("caffe"), "caffe"),
}
OTHERS: dict[str, Any] = {
    "validation": np.float32(1 / 7),
    "checkpoint_minutes": np.float32(15),
    "keep": np.int64(1),
    "memory_limit": np.uint64(2**33),
    "resume": np.True_,
    "allow_changes": np.False_,
    "tensorboard": np.False_,
    "fc_factors": np.True_,
    "report_relus": np.False_,
    "progress": np.False_,
}


def test_every_setting_may_be_numpys(tmp_path: Path) -> None:
    given = {name: numpys for name, (numpys, _) in ASKED.items()}
    result = train((IMAGES, LABELS), out=tmp_path, devices=["cpu:0"], **given, **OTHERS)
    settings = vars(result.settings) | result.settings.net_options
    for name, (_, expected) in ASKED.items():
        assert (settings[name], type(settings[name])) == (expected, type(expected)), name
    read = load_run(tmp_path).settings
    assert read == result.settings
    assert result.settings.schedule == "plateau"  # patience asks for it


CONVERTED = {int, float, bool, Mapping[str, float]}


def test_no_setting_is_left_out_of_these_tests() -> None:
    hints = {name: hint for name, hint in get_type_hints(TrainArguments).items() if name not in vars(Options())}
    converted = {name for name, hint in hints.items() if CONVERTED & {hint, *get_args(hint)}}
    assert converted | {"validation"} == (ASKED.keys() | OTHERS.keys()) - vars(Options()).keys()


@pytest.mark.parametrize("wrong", ["1", 1.5, [1], 1j, True])
@pytest.mark.parametrize("name", [*ASKED, *OTHERS])
def test_a_setting_of_a_wrong_type_is_named_before_anything_is_read(tmp_path: Path, name: str, wrong: Any) -> None:
    expected = ASKED[name][1] if name in ASKED else OTHERS[name].item()
    if type(expected) is type(wrong) or (type(expected) is float and isinstance(wrong, float)):
        pytest.skip("that is its type")
    if name == "validation" and wrong == "1":
        pytest.skip("that is a folder's name")
    with pytest.raises((TypeError, ValueError), match=rf"^{name} is "):
        train(tmp_path / "nowhere", **{name: wrong})


@pytest.mark.parametrize(
    ("name", "wrong"),
    {
        "epochs": 0,
        "lr": 0,
        "momentum": 1,
        "seed": 2**63,
        "num_classes": 0,
        "floor": -1,
        "memory_limit": -1,
        "on_error": "ignore",
        "schedule": "fast",
        "validation": 1.0,
        "devices": "cpu:0",
        "init": "",
        "preset": "resnet",
        "lr_layers": {"fc8": -1},
        "dropout": 1,
        "keep": 0,
        "checkpoint_minutes": -1,
        "out": 5,
        "resume": True,
        "tensorboard": True,
    }.items(),
)
def test_a_setting_out_of_range_is_named_before_anything_is_read(tmp_path: Path, name: str, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^{name}(\['fc8'\])? is .*; it must be "):
        train(tmp_path / "nowhere", **{name: wrong})


def test_what_is_asked_for_wins_over_the_recipe() -> None:
    result = short_run(epochs=1, lr=0.02, floor=0.002, warmup=1, dropout=0.25)
    settings = result.settings
    assert (settings.lr, settings.floor, settings.warmup, settings.schedule) == (0.02, 0.002, 1, "falling")
    assert settings.net_options == {"weight_init": "source2012", "bias_init": "caffe", "dropout": 0.25}
    assert settings.recipe == "by size, 12 images of 2 classes (too few for the paper's recipe)"
    for schedule in ("falling", "poly"):
        with pytest.raises(ValueError, match="patience is 2; it must be left out, since the schedule falls by itself"):
            short_run(schedule=schedule, patience=2)
    with pytest.raises(ValueError, match=r"lr is 0\.1; it must be left out, since the schedule has rates of its own"):
        short_run(schedule="0.01", lr=0.1)


def test_large_batches_preset_takes_other_rates_and_sizes(tmp_path: Path) -> None:
    small = {"batch_size": 4, "epochs": 2, "warmup": 3, "lr": 2.0}
    result = train((IMAGES, LABELS), preset="lars4096", out=tmp_path, progress=False, **small)
    settings = result.settings
    assert (settings.lr, settings.floor, settings.schedule, settings.lars) == (2.0, 0.0, "poly", 0.001)
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [step["lr"] for step in steps if step["kind"] == "step"]
    falling = [2 * (1 - step / len(rates)) ** 2 for step in range(len(rates))]
    warmed = [min(1.0, (step + 1) / 4) for step in range(len(rates))]
    assert rates == pytest.approx([rate * part for rate, part in zip(falling, warmed, strict=True)])
    plateau = train((IMAGES, LABELS), preset="lars4096", patience=2, progress=False, **small | {"epochs": 1}).settings
    assert (plateau.schedule, plateau.patience, plateau.floor) == ("plateau", 2, 0.0)


def test_the_papers_preset_is_the_papers_however_few_images_there_are() -> None:
    result = train((IMAGES, LABELS), preset="paper", batch_size=4, epochs=1, progress=False)
    values = vars(result.settings)
    papers = {setting.name: getattr(PAPER, setting.name) for setting in fields(PAPER) if setting.name in values}
    assert {name: values[name] for name in papers} == papers | {"batch_size": 4, "epochs": 1}
    assert values["recipe"] == "preset paper"


@pytest.mark.long
def test_a_run_at_chance_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    noise, labels = rng.integers(0, 256, (30, 8, 8)).astype(np.uint8), np.arange(30) % 3
    train((noise, labels), out=tmp_path, batch_size=2, epochs=6, validation=0.3, devices=["cpu:0"], lr=1e-6)
    said = capsys.readouterr().out
    events = [line for line in read_lines(tmp_path / "metrics.jsonl") if line["kind"] == "event"]
    at_chance = [event for event in events if event["event"] == "chance"]
    assert [event["step"] for event in at_chance] == [50, 60]  # once, and at the end
    for event in at_chance:
        assert event["text"] in said
        assert "held-out images is no better than always answering the most frequent class, 33.33%" in event["text"]
        assert "leaving out all options gives (lr 0.01, batch_size 8, warmup 50, epochs 60)" in event["text"]
    (stuck,) = (event for event in events if event["event"] == "stuck")
    assert stuck["step"] == 50
    explained = stuck["text"].splitlines()
    assert len(explained) > 2
    assert set(explained) <= set(said.splitlines())


@pytest.mark.long
def test_a_run_that_learns_says_nothing_of_chance(tmp_path: Path) -> None:
    images, labels = np.concatenate([IMAGES] * 2), np.concatenate([LABELS] * 2)
    short = SHORT | {"batch_size": 2, "validation": 0.25, "epochs": 6, "dropout": 0.0, "lr": 0.002}
    result = train((images, labels), out=tmp_path, **short)
    assert result.validation_accuracy == 1
    assert not [line for line in read_lines(tmp_path / "metrics.jsonl") if line.get("event") == "chance"]


def test_an_explosion_is_named(tmp_path: Path) -> None:
    train((IMAGES, LABELS), out=tmp_path, preset="paper", **(SHORT | {"bias_init": "paper", "lr": 0.03, "epochs": 3}))
    events = [line for line in read_lines(tmp_path / "metrics.jsonl") if line["kind"] == "event"]
    told = next(event for event in events if event["event"] == "exploded")
    assert "where guessing gives 0.69: steps with lr 0.03 are too large" in told["text"]


def test_layers_have_rates_of_their_own() -> None:
    initial = AlexNet(2, devices=["cpu:0"], bias_init="caffe").parameters()
    one_step = SHORT | {"epochs": 1, "batch_size": 12, "weight_decay": 0.0, "bias_init": "caffe"}
    same = train((IMAGES, LABELS), **one_step, lr_layers={}).model.net.parameters()
    own = train((IMAGES, LABELS), **one_step, lr_layers={"conv1": 0, "fc8": 0.5, "biases": 4}).model.net.parameters()
    for name, factor in {"conv1.weight": 0, "conv1.bias": 0, "conv2.bias": 4, "fc7.weight": 1, "fc8.bias": 0.5}.items():
        # Powers of two change no digit of the step, but adding it to the parameter rounds once, to half an ulp of it.
        tolerance = np.spacing(np.abs(same[name]).max())
        np.testing.assert_allclose(
            own[name] - initial[name], factor * (same[name] - initial[name]), rtol=0, atol=tolerance * 5
        )
        assert factor == 0 or not np.array_equal(own[name], initial[name]), name


def test_one_class_cannot_be_learned() -> None:
    with pytest.raises(DataError, match="only the class '0'"):
        train((IMAGES, np.zeros(14, int)), **SHORT)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"devices": 0}, TypeError, "devices is 0; it must be a list of one or two names"),
        ({"devices": True}, TypeError, "devices is True; it must be a list of one or two names"),
        ({"devices": ["nope:0"]}, ValueError, r"devices\[0\] is 'nope:0'; it must be one of"),
        ({"devices": ["cpu:0", "cpu:999"]}, ValueError, r"devices\[1\] is 'cpu:999', but cpu has only"),
        ({"schedule": 1}, TypeError, "schedule is 1; it must be 'plateau', 'falling'"),
        ({"schedule": {"lr": 1}}, TypeError, "schedule is {'lr': 1}; it must be 'plateau', 'falling'"),
        (
            {"seed": 2**64},
            ValueError,
            "seed is 18446744073709551616; it must be at least 0 and at most 92233720368547758",
        ),
        (
            {"batch_size": 4, "shards": 3},
            ValueError,
            "batch_size is 4; it must be a multiple of the number of shards, 3",
        ),
        ({"lr": 0.01, "floor": 0.02}, ValueError, r"floor is 0\.02; it must be from 0 to lr = 0\.01"),
        (
            {"schedule": "0.01", "lr": 0.1},
            ValueError,
            r"lr is 0\.1; it must be left out, since the schedule has rates of",
        ),
        ({"validation": ""}, ValueError, "validation is ''; it must be a path"),
        ({"validation": [1]}, TypeError, r"validation is \[1\]; it must be a number"),
        ({"num_classes": -1}, ValueError, "num_classes is -1; it must be at least 1"),
        ({"callbacks": print}, TypeError, r"train has no argument 'callbacks'; did you mean callback\?"),
        ({"batch": 4}, TypeError, r"train has no argument 'batch'; did you mean batch_size\?"),
        (
            {"qqq": 4},
            TypeError,
            "train has no argument 'qqq'; .*; the other arguments are data, validation, callback, ",
        ),
    ],
)
def test_what_makes_no_sense_is_named_before_the_data(
    tmp_path: Path, wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        train(tmp_path / "nowhere", **wrong)


def test_data_held_out_is_named_as_what_it_is() -> None:
    with pytest.raises(TypeError, match=r"^validation is a tuple; it must be a folder's path, a name"):
        train((IMAGES, LABELS), **(SHORT | {"validation": (1, 2, 3)}))


def test_a_folder_in_a_folder_of_its_name_is_pointed_at(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    with pytest.raises(
        DataError, match=r"at least 2 classes\. If 'cat', 'dog' are classes, give the folder 'photos' in it"
    ):
        train(tmp_path, validation=0)
    with pytest.raises(DataError, match=r"the data has only the class 'cat'; it must have at least 2 classes$"):
        train(ImageArrays(np.zeros((4, 8, 8), np.uint8), [0] * 4, ("cat",)), validation=0)


@pytest.mark.slow
@pytest.mark.usefixtures("full_size")
def test_default_run_learns_the_digits() -> None:
    assert train(progress=False).validation_accuracy > 0.9


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("full_size")
def test_own_images_are_learned_with_no_option_given() -> None:
    """Grey parts of two photographs in any light: how bright they are tells next to nothing."""
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(5)
    labels = np.arange(300) % 2
    photographs = [load_sample_image(name).mean(axis=2) for name in ("china.jpg", "flower.jpg")]
    images = []
    for label in labels:
        top, left = rng.integers(0, 427 - 256), rng.integers(0, 640 - 256)
        part = photographs[label][top : top + 256, left : left + 256]
        shade = (part - part.mean()) * rng.uniform(0.5, 1.0) + rng.uniform(90, 160)
        images.append(shade.clip(0, 255).astype(np.uint8))
    brightness = np.array([image.mean() for image in images])
    answers = np.abs(brightness[:, None] - [brightness[labels == label].mean() for label in (0, 1)]).argmin(axis=1)
    by_brightness = np.mean(answers == labels)
    assert by_brightness < 0.7
    result = train((np.stack(images), labels), progress=False)
    assert result.settings.recipe == "by size, 270 images of 2 classes (too few for the paper's recipe)"
    assert result.validation_accuracy > 0.9
