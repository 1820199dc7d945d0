"""``pyalexnet devices``: where a net can run."""

from __future__ import annotations

import argparse

from pyalexnet.cli.arguments import add_command
from pyalexnet.cli.output import print_tables, table_of
from pyalexnet.cli.parser import Commands
from pyalexnet.device.backend import devices


def add(commands: Commands) -> None:
    """Add the command."""
    add_command(commands, "devices", run, "list the devices that a net can run on")


def run(_options: argparse.Namespace) -> int:
    """List them."""
    rows = [
        (
            info.name,
            info.description,
            info.instruction_set,
            " ".join(info.peers),
            str(info.cores),
            f"{_gib(info.free_bytes)} / {_gib(info.total_bytes)} GiB",
        )
        for info in devices()
    ]
    headings = ("device", "description", "instructions", "peers", "cores", "memory free / total")
    print_tables(table_of(headings, rows, text=range(4)))
    return 0


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f}"
