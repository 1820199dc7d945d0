"""The command as a shell runs it: what it prints, where, and its exit status."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyalexnet
from pyalexnet.cli import main

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
    command = [sys.executable, "-m", "pyalexnet.cli", *map(str, arguments)]
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
    assert described["settings"]["net_options"] == {"bias_init": "caffe"}
    assert described["settings"]["reflect"] is True
    assert len(described["history"]) == 1


def test_evaluate_prints_errors(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run / "model.safetensors"), str(photos), "--devices", "cpu:0"]) == 0
    printed = capsys.readouterr().out
    assert "20 images, 1 view each" in printed
    assert "top-5 error   0.00%" in printed


def test_predict_names_classes(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(photos / "dark" / "0.jpg")
    model = str(run / "model.safetensors")
    assert main(["predict", model, image, image, "--views", "10", "--devices", "cpu:0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[3] == image
    assert {line.split()[1] for line in lines[1:3]} == {"bright", "dark"}
    assert sum(float(line.split()[0].rstrip("%")) for line in lines[1:3]) == pytest.approx(100, abs=0.02)


def test_devices_are_listed() -> None:
    result = shell("devices", env={**os.environ, "COLUMNS": "120"})
    assert result.returncode == 0
    for info in pyalexnet.devices():
        assert info.name in result.stdout


def test_help_explains_every_command() -> None:
    shown = shell("--help")
    assert shown.returncode == 0
    for command in ("train", "evaluate", "predict", "devices"):
        assert f"pyalexnet {command}" in shown.stdout
        assert shell(command, "--help").returncode == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("pyalexnet ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "/nowhere"], "/nowhere is not a folder"),
        (["train", "--devices", "tpu:0"], "'tpu:0'"),
        (["train", "--devices", "cpu:0,cpu:0"], "different"),
        (["train", "--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["train", "--validation", "/nowhere"], "/nowhere is not a folder"),
        (["train", "--out", "/dev/null/run"], "Not a directory"),
        (["evaluate", "/nowhere.safetensors"], "there is no model file /nowhere.safetensors"),
        (["predict", __file__, "a.jpg"], "is no model file"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"pyalexnet {arguments[0]}: ")
    assert message in errors
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
    result = shell("train", photos, *SMALL, "--memory-limit", "500MiB")
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
