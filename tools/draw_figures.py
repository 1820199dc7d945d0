#!/usr/bin/env python3
"""Draw the pictures of README.md and docs/ from the runs that are given, and make them small.

pyalexnet train fashion-mnist --out fashion
pyalexnet train digits --out digits
pyalexnet train emoji --out emoji_run
tools/draw_figures.py --fashion fashion --digits digits --emoji emoji_run
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pyalexnet.cli import main as pyalexnet

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
_COLOURS = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures of the runs that are given.

    Returns:
        The exit status of the first figure that failed, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--fashion", metavar="RUN", help="a run that learned Fashion-MNIST: predictions, neighbours")
    parser.add_argument(
        "--digits", metavar="RUN", help="a run that learned the digits: curves, units, deconv, occlusion"
    )
    parser.add_argument("--emoji", metavar="RUN", help="a run that learned the emoji: filters")
    options = parser.parse_args(arguments)
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name, run, rest in (
        ("predictions", options.fashion, ["{}", "--from", "fashion-mnist", "--seed", "4"]),
        ("neighbours", options.fashion, ["fashion-mnist", "{}", "--seed", "1", "--sample", "4"]),
        ("curves", options.digits, ["{}"]),
        ("units", options.digits, ["{}", "--count", "6", "--quiet"]),
        ("deconv", options.digits, ["{}", "--quiet"]),
        ("occlusion", options.digits, ["{}", "--grey", "0", "--quiet"]),
        ("filters", options.emoji, ["{}"]),
    ):
        if run is None:
            continue
        path = FIGURES / f"{name}.png"
        status = pyalexnet(["figure", name, run, *(part.format(path) for part in rest)])
        if status:
            return status
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        content = io.BytesIO()
        small.save(content, "png", optimize=True)
        if len(content.getvalue()) < path.stat().st_size:  # soft greys are smaller as they are
            path.write_bytes(content.getvalue())
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
