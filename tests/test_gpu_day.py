"""The command for a day with a GPU runs its parts, here on CPU cores, and goes on where one fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu_day.py"
COPIES = SCRIPT.with_name("copies.py")


def gpu_day(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    finished = subprocess.run(
        [sys.executable, SCRIPT, "--devices", "cpu:0", "--quick", "--without-torch", "--out", out, *arguments],
        capture_output=True, text=True, timeout=290,
    )  # fmt: skip
    return finished.returncode, json.loads((out / "gpu_day.json").read_text()), finished.stdout


def test_parts_leave_figures_and_output(tmp_path: Path) -> None:
    status, report, shown = gpu_day(tmp_path, "--parts", "tests,copies")
    assert status == 0, shown
    assert [part["name"] for part in report["parts"]] == ["tests", "copies"]
    assert [device["name"] for device in report["devices"]] == ["cpu:0"]
    assert all(rate > 0 for rate in json.loads((tmp_path / "copies.json").read_text())["gb_per_s"].values())
    assert "passed" in (tmp_path / "tests.log").read_text()


def test_a_failure_does_not_end_the_day(tmp_path: Path) -> None:
    (tmp_path / "copies.json").mkdir()  # where that part is to write a file
    status, report, shown = gpu_day(tmp_path, "--parts", "direct,copies")
    assert status == 1
    assert [part["status"] for part in report["parts"]] == ["passed", "failed"]
    assert json.loads((tmp_path / "direct.json").read_text())[-1]["layer"] == "step"
    assert "Is a directory" in report["parts"][1]["last_line"]
    assert "failed" in shown


def test_copies_go_both_ways(tmp_path: Path) -> None:
    command = [sys.executable, COPIES, "--device", "cpu:0", "cpu:1", "--mib", "1", "--repeats", "2"]
    subprocess.run([*command, "--json", tmp_path / "copies.json"], check=True, capture_output=True)
    rates = json.loads((tmp_path / "copies.json").read_text())["gb_per_s"]
    assert list(rates)[-2:] == ["cpu:1 to cpu:0, straight", "cpu:1 to cpu:0, through the host"]
    assert all(rate > 0 for rate in rates.values())
