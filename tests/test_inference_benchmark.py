"""The benchmark of the forward pass runs as its users run it, and its JSON is complete."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "inference.py"

NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")


@pytest.mark.parametrize("compared", [False, pytest.param(True, marks=[NEEDS_TORCH, pytest.mark.slow])])
def test_json_has_every_engine(tmp_path: Path, compared: bool) -> None:
    report_file = tmp_path / "report.json"
    how = ["--device", "cpu:0", "--batch", "1,2", "--rounds", "1", *(["--compare", "torch"] if compared else [])]
    finished = subprocess.run(
        [sys.executable, SCRIPT, *how, "--json", report_file], capture_output=True, text=True, timeout=280
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(report_file.read_text())
    assert report["weight_bytes"] == 4 * 60_965_224  # Krizhevsky et al. 2012: 60 million parameters
    assert report["read_gb_per_s"] > 0
    assert [measured["batch"] for measured in report["batches"]] == [1, 2]
    for measured in report["batches"]:
        names = [engine["name"] for engine in measured["engines"]]
        assert names[0] == "pyalexnet"
        assert ("PyTorch, eager" in names) == compared
        assert all(engine["ms"] > 0 and engine["spread_ms"] >= 0 for engine in measured["engines"])
    assert "images/s" in finished.stdout


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--compare", "numpy"], "--compare has numpy; it must be some of torch, onnxruntime, openvino"),
        (["--batch", "0"], "0 is not at least 1"),
    ],
)
def test_wrong_arguments_are_refused(wrong: list[str], message: str) -> None:
    finished = subprocess.run([sys.executable, SCRIPT, *wrong], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 2
    assert message in finished.stderr
