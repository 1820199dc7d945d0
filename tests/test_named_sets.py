"""The script that judges a run of a named set runs as its users run it, and its JSON has what the tables need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from small import SMALL

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "named_sets.py"


def test_json_has_what_the_tables_need(digits_run: Path, tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    program = f"{SMALL}import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    command = [sys.executable, "-c", program, digits_run, "--json", report_file]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(report_file.read_text())
    assert report["data"] == "digits"
    assert (report["training_images"], report["epochs"], report["planned_epochs"]) == (191, 1, 1)
    assert report["seconds"] > 0
    assert list(report["errors"]) == ["1", "5"]  # digits have no mirror images
    for errors in report["errors"].values():
        assert errors["images"] == 49
        assert errors["top1_interval"][0] <= errors["top1_error"] <= errors["top1_interval"][1]
    assert [tower["tower"] for tower in report["filters"]] == [0, 1]
    for tower in report["filters"]:
        assert 0 < tower["median"] < 1
        assert (tower["learned_median"] is None) == (tower["learned"] == 0)
        assert tower["learned"] <= tower["filters"] == 48
    assert "views 1: test accuracy" in finished.stdout
