"""The script that fine-tunes runs as its users run it, and its JSON has what the table needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from small import SMALL

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "fine_tuning.py"


@pytest.mark.slow
def test_json_has_what_the_table_needs(tmp_path: Path) -> None:
    program = f"{SMALL}import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    arguments = ["--only", "digits", "--draws", "1", "--json", tmp_path / "report.json"]
    command = [sys.executable, "-c", program, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    (found,) = json.loads((tmp_path / "report.json").read_text())["transfers"]
    assert (found["name"], found["classes"], found["a_class"], found["before"]["classes"]) == ("digits", 5, 2, 5)
    assert [result["way"] for result in found["results"]] == ["from scratch", "--init", "--init, convolutions frozen"]
    for result in found["results"]:
        assert result["steps"] == 60
        assert 0 <= result["accuracy"] <= 1
