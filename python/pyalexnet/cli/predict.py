"""``pyalexnet predict``: what images show."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pyalexnet.cli.arguments import (
    add_batch_size,
    add_command,
    add_model,
    add_placement,
    add_quiet,
    add_views,
    open_model,
)
from pyalexnet.cli.output import add_output, write_rows
from pyalexnet.cli.status import WRONG_INPUT
from pyalexnet.data.folder import find_image_files
from pyalexnet.errors import DataError
from pyalexnet.evaluation import predict
from pyalexnet.progress import Display


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "predict", run, "name what images show")
    add_model(command)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    command.add_argument("--top", type=int, default=5, metavar="N", help="classes to name (default: %(default)s)")
    add_views(command)
    add_batch_size(command)
    add_output(command)
    command.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what an image does that cannot be read; those skipped are named, and the exit status is "
        f"{WRONG_INPUT} (default: %(default)s)",
    )
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Predict, and write a row for each image and class."""
    files = find_image_files(*options.images)
    model = open_model(options)
    errors: list[DataError] = []
    with Display(enabled=not options.quiet, on_stderr=True) as display:
        display.lines(files.remarks)
        display.begin("predicting", len(files))
        found = predict(
            model,
            files.names,
            top=options.top,
            views=options.views,
            batch_size=options.batch_size,
            on_error=errors.append if options.on_error == "skip" else None,
            on_images=display.advance,
        )
    rows = [
        {"image": file, "rank": rank, "label": label, "probability": probability}
        for file, predictions in zip(files.names, found, strict=True)
        for rank, (label, probability) in enumerate(predictions, start=1)
    ]
    write_rows(rows, options.format, options.output)
    for error in errors:
        print(f"pyalexnet predict: skipped: {error}", file=sys.stderr)
    return WRONG_INPUT if errors else 0
