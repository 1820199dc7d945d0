"""``pyalexnet report``: a run in one HTML file."""

from __future__ import annotations

import argparse

from pyalexnet.cli.arguments import (
    DATA_HELP,
    Skipped,
    add_batch_size,
    add_command,
    add_on_error,
    add_overlap,
    add_placement,
    add_quiet,
    add_views,
)
from pyalexnet.cli.parser import Commands
from pyalexnet.system.progress import Display


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "report",
        run,
        "write all about a run into one HTML file",
        "Write a run's settings, ledger, curves, errors, figures, layer times and memory plan into one HTML file that "
        "needs nothing else.",
    )
    command.add_argument("folder", metavar="RUN", help="a run's folder")
    command.add_argument("out", metavar="FILE.html", help="the file to write")
    command.add_argument("--data", metavar="DATA", help=f"{DATA_HELP} (default: the run's own)")
    command.add_argument("--best", action="store_true", help="show the net of the best epoch instead of the last")
    command.add_argument("--limit", type=int, metavar="N", help="held-out images to judge at most (default: all)")
    command.add_argument("--no-timing", dest="timing", action="store_false", help="do not measure the layers' times")
    add_overlap(command)
    add_on_error(command)
    add_views(command)
    add_batch_size(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Write it."""
    from pyalexnet.study.report import write_report

    skipped = Skipped(options)
    with Display(enabled=not options.quiet) as display:
        write_report(
            options.out,
            options.folder,
            data=options.data,
            best=options.best,
            views=options.views,
            limit=options.limit,
            overlap=options.overlap,
            batch_size=options.batch_size,
            timing=options.timing,
            devices=options.devices,
            memory_limit=options.memory_limit,
            on_error=skipped.on_error,
            on_stage=display.line,
        )
        display.line(f"report: {options.out}")
    return skipped.exit_status()
