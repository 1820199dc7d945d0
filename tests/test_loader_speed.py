"""The benchmark of the loader runs as its users run it, and its JSON is complete."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "loader_speed.py"

NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")


@pytest.mark.parametrize("compared", [False, pytest.param(True, marks=NEEDS_TORCH)])
def test_json_has_both_sources(tmp_path: Path, compared: bool) -> None:
    report_file = tmp_path / "report.json"
    sizes = ["--device", "cpu:0", "--images", "8", "--batch", "4", "--repeats", "2", "--workers", "1"]
    compare = ["--compare", "torch"] if compared else []
    finished = subprocess.run(
        [sys.executable, SCRIPT, *sizes, *compare, "--json", report_file], capture_output=True, text=True, timeout=280
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(report_file.read_text())
    assert [speed["source"] for speed in report["speeds"]] == ["shards", "jpeg"]
    for speed in report["speeds"]:
        assert len(speed["images_per_s"]) == 2
        assert min(speed["images_per_s"]) <= speed["median"] <= max(speed["images_per_s"])
        assert speed["spread"] >= 0
        assert len(speed["images_per_s_torch"]) == (2 if compared else 0)
        assert speed["ratio"] == (speed["median"] / speed["median_torch"] if compared else None)
    assert "shards" in finished.stdout
    assert ("PyTorch" in finished.stdout) == compared


def test_wrong_arguments_are_refused() -> None:
    command = [sys.executable, SCRIPT, "--images", "3", "--batch", "2"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 2
    assert "--images is 3; it must be at least two batches, 4" in finished.stderr
