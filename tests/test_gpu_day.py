"""The command for a day with a GPU runs its parts, here on CPU cores, and goes on where one fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

import gpu_day as script
from pyalexnet.architecture import Precision
from pyalexnet.device.backend import Device

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu_day.py"
COPIES = SCRIPT.with_name("copies.py")


def gpu_day(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    finished = subprocess.run(
        [sys.executable, SCRIPT, "--devices", "cpu:0", "--quick", "--without-torch", "--out", out, *arguments],
        capture_output=True, text=True, timeout=290,
    )  # fmt: skip
    return finished.returncode, json.loads((out / "gpu_day.json").read_text()), finished.stdout


def test_parts_leave_figures_and_output(tmp_path: Path) -> None:
    status, report, shown = gpu_day(tmp_path, "--parts", "tests,layers_bf16,copies")
    assert status == 0, shown
    assert [part["name"] for part in report["parts"]] == ["tests", "layers_bf16", "copies"]
    assert [device["name"] for device in report["devices"]] == ["cpu:0"]
    assert all(rate > 0 for rate in json.loads((tmp_path / "copies.json").read_text())["gb_per_s"].values())
    assert json.loads((tmp_path / "layers_bf16.json").read_text())["precision"] == "bf16"
    assert "passed" in (tmp_path / "tests.log").read_text()


def test_a_failure_does_not_end_the_day(tmp_path: Path) -> None:
    (tmp_path / "copies.json").mkdir()  # where that part is to write a file
    status, report, shown = gpu_day(tmp_path, "--parts", "direct,copies")
    assert status == 1
    assert [part["status"] for part in report["parts"]] == ["passed", "failed"]
    assert json.loads((tmp_path / "direct.json").read_text())[-1]["layer"] == "step"
    assert "Is a directory" in report["parts"][1]["last_line"]
    assert "failed" in shown


def test_tests_that_take_seconds_are_among_them(tmp_path: Path) -> None:
    options = script.parse(["--devices", "cpu:0", "--out", str(tmp_path), "--parts", "tests"])
    (tests,) = script.parts(options)
    assert tests.command[tests.command.index("-k") - 2 :][:2] == ("-m", "long or not slow")


@pytest.mark.parametrize(("name", "leaves"), [("layers", "layers{}.json"), ("training", "run{}")])
def test_each_precision_is_a_part_of_its_own(name: str, leaves: str, tmp_path: Path) -> None:
    options = script.parse(["--devices", "cpu:0", "--out", str(tmp_path)])
    parts = {part.name: part for part in script.parts(options)}
    assert tuple(parts) == script.PARTS
    for precision in get_args(Precision):
        suffix = "" if precision == "fp32" else f"_{precision}"
        command = parts[name + suffix].command
        assert command[command.index("--precision") + 1] == precision
        assert str(tmp_path / leaves.format(suffix)) in command
        assert parts[name + suffix].lacks == ""


def test_what_a_gpu_cannot_do_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_device: Device, precision: str) -> None:
        if precision != "fp32":
            raise ValueError(f"precision is '{precision}'; this GPU has no tensor cores for it")

    monkeypatch.setattr(Device, "require_precision", refuse)
    assert script.main(["--devices", "cpu:0", "--out", str(tmp_path), "--parts", "layers_bf16,training_tf32"]) == 0
    outcomes = json.loads((tmp_path / "gpu_day.json").read_text())["parts"]
    assert [(each["name"], each["status"]) for each in outcomes] == [
        ("layers_bf16", "left out"),
        ("training_tf32", "left out"),
    ]
    assert "no tensor cores" in outcomes[0]["last_line"]
    assert "left out" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / "gpu_day.json"]


def test_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.parse(["--parts", "layers_fp16"])
    assert "--parts has layers_fp16; it must be some of tests, layers," in capsys.readouterr().err


def test_copies_go_both_ways(tmp_path: Path) -> None:
    command = [sys.executable, COPIES, "--device", "cpu:0", "cpu:1", "--mib", "1", "--repeats", "2"]
    subprocess.run([*command, "--json", tmp_path / "copies.json"], check=True, capture_output=True)
    rates = json.loads((tmp_path / "copies.json").read_text())["gb_per_s"]
    assert list(rates)[-2:] == ["cpu:1 to cpu:0, straight", "cpu:1 to cpu:0, through the host"]
    assert all(rate > 0 for rate in rates.values())
