"""The benchmark of ranks runs as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from launching import NEEDS_MPI, SEARCHED

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "cluster.py"


@NEEDS_MPI
def test_measures_and_writes(tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    small = ["--ranks", "1,2", "--batch-size", "2", "--shards", "2", "--steps", "1", "--fc-factors"]
    command = [sys.executable, SCRIPT, *small, "--json", report_file]
    environment = os.environ | {"PATH": SEARCHED}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(report_file.read_text())
    alone, shared, by_factors = report["runs"]
    gradients = sum(report["bytes_by_layer"].values())
    assert gradients == 4 * 60_965_224  # the paper's parameters
    assert (alone["ranks"], alone["sent_bytes"], alone["messages"]) == (1, 0, 0)
    # Half of each layer's gradients twice; arrays begin at multiples of 256 bytes.
    assert gradients <= shared["sent_bytes"] <= gradients + 32 * 256
    assert shared["messages"] == 16
    # Of one image, what fc6 to fc8 take in and the gradients of what they give; and the convolutions' as before.
    factors = 4 * (9216 + 4096 + 4096 + 4096 + 4096 + 1000)
    convolutions = sum(size for layer, size in report["bytes_by_layer"].items() if layer.startswith("conv"))
    assert factors + convolutions <= by_factors["sent_bytes"] <= factors + convolutions + 32 * 256
    assert by_factors["messages"] == 1 + 10
    for run in (shared, by_factors):
        assert 0 < run["waiting_ms"] <= run["under_way_ms"]
    assert alone["checksums"] == shared["checksums"] == by_factors["checksums"]
    assert "hidden" in finished.stdout
