"""The model of a step of many ranks holds where a network of known speed lies between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launching import NEEDS_MPI, SEARCHED

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "cluster_check.py"
NAMESPACE = ["unshare", "--net", "--map-root-user", "tc", "qdisc", "add", "dev", "lo", "root", "tbf"]


def has_limited_networks() -> bool:
    if any(shutil.which(tool) is None for tool in ("unshare", "ip", "tc")):
        return False
    tried = [*NAMESPACE, "rate", "1gbit", "burst", "1mb", "latency", "100ms"]
    return subprocess.run(tried, capture_output=True).returncode == 0


@NEEDS_MPI
@pytest.mark.skipif(not has_limited_networks(), reason="needs network namespaces and the token bucket filter")
def test_a_network_of_known_speed_takes_as_long_as_foretold(tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    command = [sys.executable, SCRIPT, "--ranks", "2", "--gbit-per-s", "1.5", "--images", "1", "--json", report_file]
    environment = os.environ | {"PATH": SEARCHED}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(report_file.read_text())["rows"]
    assert [row["network"] for row in rows] == ["shared memory"] * 2 + ["TCP"] * 2 + [1.5] * 2
    limited, by_factors = rows[4:]
    # TCP's own bytes, and a bucket that is full at first: a few hundredths.
    assert limited["bytes_per_s"] == pytest.approx(1.5e9 / 8, rel=0.1)
    # Half of 244 MB twice are most of the step; a tenth of it and what the machine does besides are computed.
    assert limited["waiting_ms"] > 0.7 * limited["foretold_ms"]
    assert limited["measured_ms"] == pytest.approx(limited["foretold_ms"], rel=0.25)
    assert by_factors["measured_ms"] < 0.5 * limited["measured_ms"]
    assert "1.5 Gbit/s" in finished.stdout


def test_one_rank_is_refused() -> None:
    finished = subprocess.run([sys.executable, SCRIPT, "--as-rank"], capture_output=True, text=True, timeout=100)
    assert finished.returncode != 0
    assert "--ranks must be 2 or more" in finished.stderr
