"""The benchmark of cores and batches runs as its users run it, and draws what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "scaling.py"


def test_measures_writes_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report_file, picture = tmp_path / "report.json", tmp_path / "figure.svg"
    small = ["--cores", "1", "--batch", "1,2", "--layers-batch", "1", "--rounds", "1"]
    command = [sys.executable, SCRIPT, *small, "--json", report_file, "--figure", picture]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(report_file.read_text())
    assert [(step["cores"], step["batch"]) for step in report["steps"]] == [(1, 1), (1, 2)]
    assert all(step["ms"] > 0 and step["spread_ms"] == 0 for step in report["steps"])
    layers = {f"conv{number} {direction}" for number in (2, 3, 4, 5) for direction in ("forward", "backward")}
    for algorithm in ("direct", "winograd", "fourier"):
        assert layers <= report["layers"][algorithm].keys()
    assert "ms an image" in finished.stdout
    assert picture.read_text().startswith("<?xml")
    again = tmp_path / "again.png"
    subprocess.run([sys.executable, SCRIPT, "--from", report_file, "--figure", again], check=True, capture_output=True)
    assert again.stat().st_size > 1000
