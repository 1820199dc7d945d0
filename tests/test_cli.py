"""The command as a shell runs it: what it prints, where, and its exit status."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyalexnet
from pyalexnet.cli import main
from pyalexnet.training.recipe import recipe_for
from small import HIDDEN_UNITS, SMALL_CLI

SMALL = ["--epochs", "1", "--batch-size", "4", "--devices", "cpu:0", "--bias-init", "caffe"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, brightness in {"dark": 0, "bright": 150}.items():
        (folder / label).mkdir()
        for number in range(10):
            pixels = (rng.integers(0, 100, (20, 30, 3)) + brightness).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "run"
    assert main(["train", str(photos), "--out", str(out), *SMALL]) == 0
    return out


def shell(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*SMALL_CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_train_writes_a_model_and_the_run(run: Path) -> None:
    assert sorted(os.listdir(run)) == [
        "best.safetensors",
        "checkpoints",
        "metrics.jsonl",
        "model.safetensors",
        "run.json",
    ]
    described = json.loads((run / "run.json").read_text())
    assert described["settings"]["net_options"] == recipe_for(16, 2).net_options | {"bias_init": "caffe"}
    assert described["settings"]["reflect"] is True
    assert len(described["history"]) == 1


def test_evaluate_prints_errors(run: Path, photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "errors.json"
    assert main(["evaluate", str(run), str(photos), "--devices", "cpu:0", "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "20 images, 1 view each" in printed
    assert "top-5 error   0.00%" in printed
    assert "class (row) taken for" in printed
    found = json.loads(report.read_text())
    assert found["images"] == sum(one["images"] for one in found["classes"]) == 20
    assert np.sum(found["confusion"]) == 20
    assert found["top1_interval"][0] <= found["top1_error"] <= found["top1_interval"][1]


@pytest.fixture
def prediction(run: Path, photos: Path) -> list[str]:
    return ["predict", str(run / "model.safetensors"), str(photos / "dark" / "0.jpg"), "--devices", "cpu:0"]


def test_predict_writes_a_table(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)  # a table has no room for the whole paths of test runs
    assert main(["predict", str(run / "model.safetensors"), "dark/0.jpg", "--devices", "cpu:0", "--views", "10"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "dark/0.jpg" in line]
    assert [row[1] for row in rows] == ["1", "2"]
    assert {row[2] for row in rows} == {"bright", "dark"}
    assert sum(float(row[3].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.02)


def test_predict_writes_json_and_csv(prediction: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*prediction, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main([*prediction, "--format", "csv", "--output", str(tmp_path / "found.csv")]) == 0
    assert capsys.readouterr().out == ""
    with open(tmp_path / "found.csv", newline="") as file:
        again = list(csv.DictReader(file))
    assert [(row["image"], row["label"], str(row["probability"])) for row in rows] == [
        (row["image"], row["label"], row["probability"]) for row in again
    ]
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-6)


def test_predict_takes_folders_and_skips_what_is_broken(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jpg").write_bytes((photos / "dark" / "0.jpg").read_bytes())
    (tmp_path / "b.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image either, and not named as one")
    command = ["predict", str(run), str(tmp_path), "--devices", "cpu:0", "--top", "1", "--format", "json"]
    assert main(command) == 2
    assert f"cannot read the image {tmp_path}/b.jpg" in capsys.readouterr().err
    assert main([*command, "--on-error", "skip"]) == 2
    shown = capsys.readouterr()
    assert [row["image"] for row in json.loads(shown.out)] == [f"{tmp_path}/deep/a.jpg"]
    assert f"skipped: cannot read the image {tmp_path}/b.jpg" in shown.err


def test_features_and_neighbours(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query, file = str(photos / "dark" / "3.jpg"), str(tmp_path / "fc6.npz")
    assert main(["features", str(run), str(photos), file, "--layer", "fc6", "--devices", "cpu:0"]) == 0
    assert np.load(file)["features"].shape == (20, HIDDEN_UNITS)
    capsys.readouterr()
    outputs = []
    for where in (file, str(photos)):
        search = ["neighbours", str(run), where, query, "--layer", "fc6", "--count", "3", "--format", "json"]
        assert main([*search, "--devices", "cpu:0"]) == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0] == outputs[1]
    assert [row["rank"] for row in outputs[0]] == [1, 2, 3]
    assert outputs[0][0]["image"] == "dark/3.jpg"
    # The same image, in a batch of another size, whose sums round otherwise.
    assert outputs[0][0]["distance"] < 1e-3 * outputs[0][1]["distance"]


def test_figures_are_written(run: Path, photos: Path, tmp_path: Path) -> None:
    at = ["--devices", "cpu:0"]
    for name, arguments in {
        "filters": [run, tmp_path / "filters.png", *at],
        "units": [run, photos, tmp_path / "units.png", "--layer", "conv2", "--units", "3,99", "--count", "2", *at],
        "occlusion": [run, tmp_path / "occlusion.png", "--from", photos, "--sample", "1", "--stride", "90", *at],
        "deconv": [
            run,
            tmp_path / "deconv.png",
            photos / "dark" / "3.jpg",
            "--layer",
            "conv3",
            "--rule",
            "guided",
            *at,
        ],
        "predictions": [run, tmp_path / "predictions.png", "--from", photos, "--sample", "3", *at],
        "neighbours": [run, photos, tmp_path / "neighbours.svg", photos / "dark", "--count", "2", *at],
        "curves": [run, tmp_path / "curves.pdf"],
    }.items():
        assert main(["figure", name, *map(str, arguments)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "filters.png",
        "units.png",
        "occlusion.png",
        "deconv.png",
        "predictions.png",
        "neighbours.svg",
        "curves.pdf",
    }


@pytest.mark.parametrize("kernels", [False, True])
def test_layers_are_timed(kernels: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["time", "--batch-size", "2", "--repeats", "1", "--devices", "cpu:0", *(["--kernels"] if kernels else [])]
    assert main([*command, "--format", "json", "--output", str(tmp_path / "times.json")]) == 0
    *rows, step = json.loads((tmp_path / "times.json").read_text())
    expected = "conv2 conv_forward 1" if kernels else "conv2"
    assert (expected, "forward") in {(row["layer"], row["direction"]) for row in rows}
    assert step["layer"] == "step"
    assert all(row["ms"] > 0 for row in (*rows, step))
    assert main(command) == 0
    assert "images/s" in capsys.readouterr().out


def test_devices_are_listed() -> None:
    result = shell("devices", env={**os.environ, "COLUMNS": "120"})
    assert result.returncode == 0
    for info in pyalexnet.devices():
        assert info.name in result.stdout


def test_python_runs_the_package_as_the_command() -> None:
    for module in ("pyalexnet", "pyalexnet.cli"):
        result = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("pyalexnet ")


def test_help_explains_every_command() -> None:
    shown = shell("--help")
    assert shown.returncode == 0
    commands = (
        *("prepare", "train", "evaluate", "predict", "features", "neighbours", "similarity"),
        *("figure", "report", "ablate", "layers", "time", "devices"),
    )
    for command in commands:
        assert f"pyalexnet {command}" in shown.stdout
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("pyalexnet ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "/nowhere"], "/nowhere is not a folder"),
        (["train", "--devices", "tpu:0"], "'tpu:0'"),
        (["train", "--devices", "cpu:0,sim:0"], "two devices must be of the same target"),
        (["train", "--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["train", "--validation", "/nowhere"], "/nowhere is not a folder"),
        (["train", "--out", "/dev/null/run"], "Not a directory"),
        (["evaluate", "/nowhere.safetensors"], "there is no model file /nowhere.safetensors"),
        (["predict", __file__, __file__], "is no model file"),
        (["predict", "model", "/nowhere.jpg"], "there is no image /nowhere.jpg"),
        (["features", "model", "/nowhere", "out.npz"], "/nowhere is not a folder"),
        (["neighbours", "model", "/nowhere", "/nowhere.jpg"], "there is no image /nowhere.jpg"),
        (["figure", "curves", "/nowhere", "out.png"], "/nowhere holds no run: there is no run.json in it"),
        (["figure", "predictions", "model", "out.png"], "there is no model file model"),
        (["figure", "occlusion", "model", "out.jpg"], "path is 'out.jpg'; its name must end in .png, .svg, .pdf"),
        (["features", "model", "out.npz", "--files"], "DATA is missing; with --files it must be an image file"),
        (["report", "/nowhere", "out.html"], "/nowhere holds no run: there is no run.json in it"),
        (["ablate", "digits", "--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["ablate", "digits", "--devices", "cpu:0,cpu:1"], "it must be one device"),
        (["time", "--batch-size", "0"], "batch_size is 0; it must be at least 1"),
        (["time", "--repeats", "-1"], "repeats is -1; it must be at least 1"),
        (["time", "--conv-algorithm", "fast"], "conv_algorithm is 'fast'; it must be one of"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"pyalexnet {arguments[0]}: ")
    assert message in errors
    assert "[Errno" not in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["walk"], "invalid choice"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--memory-limit", "3 apples"], "'3 apples' is no size"),
        (["train", "--bias-init", "zero"], "--bias-init"),
        (["evaluate", "model", "--views", "7"], "--views"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_unreadable_image_is_named(photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((photos / "dark" / "0.jpg").read_bytes()[:300])
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "0.jpg").write_bytes(broken.read_bytes())
    result = shell("train", tmp_path / "data", "--validation", "0", "--batch-size", "1", "--devices", "cpu:0")
    assert result.returncode == 2
    assert result.stderr.startswith(f"pyalexnet train: cannot read the image {tmp_path}/data/a/0.jpg: ")
    assert "Traceback" not in result.stderr


def test_memory_limit_too_small_shows_the_plan(photos: Path) -> None:
    result = shell("train", photos, *SMALL, "--memory-limit", "50MiB")
    assert result.returncode == 1
    assert "MiB" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="/nowhere is not a folder"):
        main(["train", "/nowhere", "--debug"])
    assert capsys.readouterr().err == ""


def test_file_that_grows_too_large_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    def limit_files_to_a_megabyte() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    result = shell("train", photos, "--out", tmp_path, *SMALL, preexec_fn=limit_files_to_a_megabyte)
    assert result.returncode == 1
    assert f"cannot write {tmp_path}/checkpoints/epoch-002" in result.stderr
    assert "File too large" in result.stderr
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "/nowhere", "/nowhere", "--output"],
        ["evaluate", "/nowhere", "--json"],
        ["neighbours", "/nowhere", "/nowhere", "--output"],
        ["similarity", "/nowhere", "--rdms"],
        ["similarity", "/nowhere", "--figure"],
        ["similarity", "/nowhere", "--output"],
        ["figure", "filters", "/nowhere"],
        ["figure", "curves", "/nowhere"],
        ["report", "/nowhere"],
        ["time", "--devices", "cpu:999", "--output"],
        ["ablate", "/nowhere", "--out"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[-1:]),
)
def test_a_file_that_cannot_be_written_is_refused_before_all_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "no_folder" / ("out.npz" if "--rdms" in arguments else "out.png")
    assert main([*arguments, str(out)]) == 2
    assert f": cannot write {out}: No such file or directory\n" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_cut_short_is_an_error(unbuffered: str, tmp_path: Path) -> None:
    def limit_files_to_a_page() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = [sys.executable, "-m", "pyalexnet", "layers", "--format", "json"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open(tmp_path / "layers.json", "wb") as file:
        result = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env=environment,
            preexec_fn=limit_files_to_a_page,
        )
    assert (result.returncode, result.stderr) == (1, "pyalexnet layers: File too large\n")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["FIFO", "device", "folder"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "FILE.safetensors"],
        ["predict", "FILE.safetensors", __file__],
        ["train", "PHOTOS", "--schedule", "FILE.json"],
        ["prepare", "PHOTOS/dark", "SET", "--labels", "FILE.txt"],
        ["prepare", "PHOTOS", "SET", "--classes", "FILE.txt"],
        ["ablate", "PHOTOS", "--out", "FILE.json"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[-2:-1]),
)
def test_what_is_no_file_is_refused_and_not_waited_for(
    arguments: list[str], kind: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"FILE": tmp_path / "it", "PHOTOS": photos, "SET": tmp_path / "set"}
    words = [re.sub("|".join(places), lambda found: str(places[found[0]]), word) for word in arguments]
    path = next(Path(word) for word in words if word.startswith(str(tmp_path / "it")))
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert str(path) in shown
