#!/usr/bin/env python3
"""Draw the pictures of README.md and docs/ from runs of this project, and make them small.

pyalexnet train fashion-mnist --out fashion
pyalexnet train digits --out digits
tools/draw_figures.py fashion digits
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pyalexnet.cli import main as pyalexnet

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
_COLOURS = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw all.

    Returns:
        The exit status of the first figure that failed, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("fashion", help="the folder of a run that learned Fashion-MNIST")
    parser.add_argument("digits", help="the folder of a run that learned the digits")
    options = parser.parse_args(arguments)
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name, command in {
        "filters": ["filters", options.fashion, "{}"],
        "predictions": ["predictions", options.fashion, "{}", "--from", "fashion-mnist", "--seed", "4"],
        "neighbours": ["neighbours", options.fashion, "fashion-mnist", "{}", "--seed", "1", "--sample", "4"],
        "curves": ["curves", options.digits, "{}"],
    }.items():
        path = FIGURES / f"{name}.png"
        status = pyalexnet(["figure", *(part.format(path) for part in command)])
        if status:
            return status
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
