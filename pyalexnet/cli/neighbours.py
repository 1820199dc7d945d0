"""``pyalexnet neighbours``: the images most like others."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyalexnet.cli.arguments import (
    DATA_HELP,
    OWN_TRAINING,
    Skipped,
    add_batch_size,
    add_command,
    add_layer,
    add_model,
    add_on_error,
    add_placement,
    add_quiet,
    open_model,
)
from pyalexnet.cli.output import add_output, require_outputs, write_rows
from pyalexnet.cli.parser import Commands
from pyalexnet.data.dataset import remarks_on
from pyalexnet.data.folder import find_image_files
from pyalexnet.data.readable import readable
from pyalexnet.evaluation.features import FeatureFile
from pyalexnet.evaluation.neighbours import find_neighbours, where_to_look
from pyalexnet.system.progress import Display


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "neighbours",
        run,
        "find the images most like others",
        "Find the images of DATA that are nearest to each query, by the Euclidean distance between a layer's outputs.",
    )
    add_model(command)
    command.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help=f"{DATA_HELP}; or a file that features wrote, which is faster (default: {OWN_TRAINING})",
    )
    command.add_argument("queries", nargs="+", metavar="QUERY", help="image files, or folders of them")
    command.add_argument("--count", type=int, default=6, metavar="N", help="neighbours each (default: %(default)s)")
    add_layer(command)
    add_batch_size(command)
    add_on_error(command)
    add_output(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Search, and write a row for each query and neighbour."""
    require_outputs(options.output)
    data, queries = options.data, options.queries
    if data is not None and Path(data).is_file() and Path(data).suffix != ".npz":  # an image, and so the first query
        data, queries = None, [data, *queries]
    skipped, found_files = Skipped(options), find_image_files(*queries)
    model = open_model(options)
    where = where_to_look(model, data)
    with Display(enabled=not options.quiet, on_stderr=True) as display:
        display.lines([*found_files.remarks, *remarks_on(where)])
        if not isinstance(where, FeatureFile):
            where = readable(where, skipped.on_error, on_stage=display.begin, on_images=display.advance)
        display.begin("searching", len(where.labels))
        found = find_neighbours(
            model,
            found_files.names,
            where,
            count=options.count,
            layer=options.layer,
            batch_size=options.batch_size,
            on_error=skipped.on_error,
            on_images=display.advance,
        )
    rows = [
        {
            "query": file,
            "rank": rank,
            "image": near.name,
            "label": near.label,
            "index": near.index,
            "distance": near.distance,
        }
        for file, nearest in zip(found_files.names, found, strict=True)
        for rank, near in enumerate(nearest, start=1)
    ]
    write_rows(rows, options.format, options.output)
    return skipped.exit_status()
