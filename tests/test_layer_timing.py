"""The benchmark runs as its users run it, and its JSON is complete."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "layer_timing.py"


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]])
def test_json_has_every_layer(tmp_path: Path, devices: list[str]) -> None:
    report_file = tmp_path / "report.json"
    command = [sys.executable, SCRIPT, "--device", *devices, "--batch", "2", "--repeats", "2", "--json", report_file]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(report_file.read_text())
    assert report["device"] == ", ".join(devices)
    assert report["batch"] == 2
    assert report["peak_gflops"] > 0
    assert report["step_ms"] > 0
    assert report["best_torch"] is None
    found = {(layer["name"], layer["direction"]) for layer in report["layers"]}
    names = [f"conv{n}" for n in range(1, 6)] + ["lrn1", "lrn2", "pool1", "pool2", "pool5", "fc6", "fc7", "fc8"]
    assert found >= {(name, direction) for name in names for direction in ("forward", "backward")}
    assert found >= {("exchange", "backward"), ("update", "update"), ("loss", "backward")}
    for layer in report["layers"]:
        assert layer["ms"] > 0
        assert math.isfinite(layer["gflops"])
        # An event costs time, so a layer cannot be faster than the peak, beyond the peak's own noise.
        assert 0 <= layer["peak_fraction"] < 1.2
        assert layer["ms_torch"] is None
    assert "Whole step" in finished.stdout


def test_wrong_arguments_are_refused() -> None:
    finished = subprocess.run([sys.executable, SCRIPT, "--batch", "0"], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 2
    assert "0 is not at least 1" in finished.stderr
