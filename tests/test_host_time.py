"""The benchmark of what a step costs the host runs as its users run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "host_time.py"


@pytest.mark.parametrize("arguments", [["--images", "bytes"], ["--one-by-one"]], ids=str)
def test_tells_the_host_time_of_a_step(arguments: list[str]) -> None:
    command = [sys.executable, SCRIPT, "--steps", "2", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    told = re.search(r"(\d+\.\d+) ms of the host a step, least (\d+\.\d+)$", finished.stdout)
    assert told
    assert 0 < float(told[2]) <= float(told[1])
