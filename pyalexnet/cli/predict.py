"""``pyalexnet predict``: what images show."""

from __future__ import annotations

import argparse

from pyalexnet.cli.arguments import (
    Skipped,
    add_batch_size,
    add_command,
    add_model,
    add_on_error,
    add_placement,
    add_quiet,
    add_views,
    open_model,
)
from pyalexnet.cli.output import add_output, display_for, require_outputs, write_rows
from pyalexnet.cli.parser import Commands
from pyalexnet.data.folder import find_image_files
from pyalexnet.evaluation.predict import predict
from pyalexnet.system.ranks import join_ranks


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "predict", run, "name what images show")
    add_model(command)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    command.add_argument("--top", type=int, default=5, metavar="N", help="classes to name (default: %(default)s)")
    add_views(command)
    add_batch_size(command)
    add_output(command)
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Predict, and write a row for each image and class."""
    require_outputs(options.output)
    files = find_image_files(*options.images)
    model = open_model(options)
    skipped = Skipped(options)
    with display_for(options, on_stderr=True) as display:
        display.lines(files.remarks)
        display.begin("predicting", len(files))
        found = predict(
            model,
            files.names,
            top=options.top,
            views=options.views,
            batch_size=options.batch_size,
            on_error=skipped.on_error,
            on_images=display.advance,
        )
    rows = [
        {"image": file, "rank": rank, "label": label, "probability": probability}
        for file, predictions in zip(files.names, found, strict=True)
        for rank, (label, probability) in enumerate(predictions, start=1)
    ]
    join_ranks().from_first(lambda: write_rows(rows, options.format, options.output))
    return skipped.exit_status()
