"""The examples run as their users run them, where the libraries are installed that they show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet import Classifier
from pyalexnet.evaluation.features import activations_of
from pyalexnet.evaluation.predict import as_images
from small import SMALL

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


# What five layers' products of up to 9216 terms round: by the root of their number in units of the last place.
ROUNDING = 5 * np.sqrt(9216) * np.finfo(np.float32).eps


def run(example: str, *arguments: str | Path) -> list[str]:
    """The lines that an example prints, on small nets."""
    program = f"{SMALL}import runpy; runpy.run_path({str(EXAMPLES / example)!r}, run_name='__main__')"
    finished = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=280, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


def picture_of_a_one(path: Path, column: int = 18) -> Path:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[8:32, column : column + 4] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_attribution(digits_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("captum.attr", exc_type=ImportError)
    one = picture_of_a_one(tmp_path / "one.png")
    best, sums = run("attribution.py", digits_run, one, tmp_path / "out.png", "--steps", "8")
    assert best.endswith("%")
    found, total = (float(text) for text in (sums.split()[5], sums.split()[7]))
    assert found == pytest.approx(total, abs=0.5 * abs(total) + 0.05)  # by the sum of 8 points
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (3 * 227, 227)
        values = np.asarray(picture)
    assert values[:, 227:].any()


def test_perceptual_distance(digits_run: Path, digits_model: Classifier, tmp_path: Path) -> None:
    require("lpips")
    ones = [picture_of_a_one(tmp_path / f"{column}.png", column) for column in (4, 18, 20)]
    lines = [line.split() for line in run("perceptual_distance.py", digits_run, ones[0], *ones)]
    assert [Path(name) for _, name in lines] == ones
    same, far, farther = (float(distance) for distance, _ in lines)
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5"]
    seen = activations_of(digits_model, as_images(ones), layers)
    expected = [sum(distance(seen[name][0], seen[name][i]) for name in layers) for i in (1, 2)]
    assert same == 0
    assert min(expected) > 0.1
    np.testing.assert_allclose([far, farther], expected, rtol=0, atol=1e-4)  # four decimals are printed


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The mean over places of how far apart outputs of length 1 are, squared: of float32 (height, width, channels)."""
    one, other = (
        values / (np.linalg.norm(values, axis=-1, keepdims=True) + 1e-10) for values in (one.astype(np.float64), other)
    )
    return float(np.square(one - other).sum(axis=-1).mean())


def test_extract_activations(digits_run: Path, digits_model: Classifier, tmp_path: Path) -> None:
    require("thingsvision")
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for column in (4, 20):
            picture_of_a_one(tmp_path / "photos" / label / f"{column}.png", column + ord(label) % 7)
    out = tmp_path / "out"
    run("extract_activations.py", digits_run, tmp_path / "photos", out, "--layers", "pool5", "fc7", "--batch-size", "3")
    names = (out / "file_names.txt").read_text().split()
    assert len(names) == 4
    for layer, expected in activations_of(digits_model, as_images(names), ["pool5", "fc7"]).items():
        found = np.load(out / layer / "features.npy")
        flat = expected.transpose(0, 3, 1, 2).reshape(4, -1) if expected.ndim == 4 else expected
        assert found.dtype == np.float32
        assert np.ptp(flat, axis=0).any()
        np.testing.assert_allclose(found, flat, rtol=0, atol=ROUNDING * np.abs(flat).max(), err_msg=layer)


def require(library: str) -> None:
    """Skip the test where a library cannot be imported, which is tried in a process of its own: some end it."""
    tried = subprocess.run([sys.executable, "-c", f"import {library}"], capture_output=True, text=True, check=False)
    if tried.returncode:
        told = tried.stderr.strip().splitlines()
        pytest.skip(f"{library} cannot be imported: {told[-1] if told else f'exit status {tried.returncode}'}")
