"""The examples run as their users run them, where the libraries are installed that they show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small import SMALL

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_attribution(digits_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("captum.attr", exc_type=ImportError)
    pixels = np.zeros((40, 40), np.uint8)
    pixels[8:32, 18:22] = 255  # a one
    Image.fromarray(pixels).save(tmp_path / "one.png")
    program = f"{SMALL}import runpy; runpy.run_path({str(EXAMPLES / 'attribution.py')!r}, run_name='__main__')"
    command = [sys.executable, "-c", program, digits_run, tmp_path / "one.png", tmp_path / "out.png", "--steps", "8"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    best, sums = finished.stdout.splitlines()
    assert best.endswith("%")
    found, total = (float(text) for text in (sums.split()[5], sums.split()[7]))
    assert found == pytest.approx(total, abs=0.5 * abs(total) + 0.05)  # by the sum of 8 points
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (3 * 227, 227)
        values = np.asarray(picture)
    assert values[:, 227:].any()
