"""The benchmark of the ways of convolutions runs as its users run it, and reckons as the rules do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "transform_costs.py"


def test_measures_and_writes(tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    command = [sys.executable, SCRIPT, "--batch", "1,2", "--rounds", "1", "--json", report_file]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(report_file.read_text())["rows"]
    assert len(rows) == 4 * 2 * 4  # layers, batches and passes
    for row in rows:
        expected = {"direct", "winograd", "fourier"}
        if row["layer"] == "conv2":
            expected -= {"winograd"}
        if row["pass"] == "forward, weights kept":
            expected -= {"direct"}
        assert row["algorithms"].keys() == expected, row
        assert all(found["ms"] > 0 for found in row["algorithms"].values())
    for name in ("winograd", "fourier"):
        assert f"{name}: an element of its transforms costs" in finished.stdout


def test_elements_and_products_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import transform_costs
    from pyalexnet.architecture import CONVOLUTIONS

    conv3 = transform_costs.Convolution(CONVOLUTIONS[2], 2, "cpu:0")
    # 49 tiles of 16 numbers, or 292 of a map; from plane to plane there is up to a line and a half more.
    for algorithm, planes, rows in (("winograd", 16, 2 * 49), ("fourier", 292, 2)):
        found = conv3.elements(algorithm)
        for name, count in (("x", rows * 256), ("y", rows * 192), ("w", 256 * 192)):
            assert planes * count <= found[name] <= planes * (count + 32) + 64
        assert conv3.products(algorithm) == found["x"] * 192
