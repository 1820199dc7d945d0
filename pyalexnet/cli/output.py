"""Results as tables to read, or as JSON or CSV for programs; on standard output or in a file.

What comes from outside, such as the names of classes and files, is shown as it is where that harms nobody, and else:

- in a terminal, control characters, escape sequences and what changes the direction of writing are shown escaped;
- in CSV, a text that a spreadsheet would take for a formula has an apostrophe before it, and all texts are in quotes;
- in JSON, all that is not ASCII is escaped.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from pyalexnet.cli.parser import CommandParser
from pyalexnet.system.files import require_writable, write_atomically
from pyalexnet.system.names import printable
from pyalexnet.system.progress import Display
from pyalexnet.system.ranks import join_ranks

FORMATS = ("table", "json", "csv")

_FILE_COLUMNS = 110

# What spreadsheets take for a formula's beginning, also in the full width of Chinese and Japanese.
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


def add_output(command: CommandParser) -> None:
    """Which format, and where to."""
    command.add_argument("--format", choices=FORMATS, default="table", help="(default: %(default)s)")
    command.add_argument("--output", metavar="FILE", help="write there (default: standard output)")


def require_outputs(*paths: str | None) -> None:
    """Refuse files that cannot be written, before the work whose results they are to hold; None is no file.

    Raises:
        OSError: one cannot be; of ranks the first one tries, which alone writes.
    """
    for path in paths:
        if path is not None:
            join_ranks().from_first(partial(require_writable, path))


def write_rows(rows: Sequence[Mapping[str, object]], kind: str, output: str | PathLike[str] | None) -> None:
    """Write records that have the same fields, in one of :data:`FORMATS`."""
    write_text({"table": _as_table, "json": as_json, "csv": as_csv}[kind](rows), output)


def write_text(text: str, output: str | PathLike[str] | None) -> None:
    """Write a text that ends in a new line; what was no text where it came from, such as a file's name, is escaped."""
    content = text.encode(errors="backslashreplace")
    if output is None:
        known = content.decode()
        sys.stdout.write("\n".join(map(printable, known.split("\n"))) if sys.stdout.isatty() else known)
    else:
        write_atomically(output, content)


def as_json(content: object) -> str:
    """Strict JSON, indented."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Comma-separated values: texts in quotes, and an apostrophe before what a spreadsheet would compute."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows({name: _csv_cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def display_for(options: argparse.Namespace, *, on_stderr: bool = False) -> Display:
    """What shows a command's course unless it is to be quiet: of ranks the first one's, in lines.

    A launcher's terminal may be a file.
    """
    ranks = join_ranks()
    return Display(enabled=ranks.is_first and not options.quiet, live=ranks.size == 1, on_stderr=on_stderr)


def say(text: str) -> None:
    """Show a line on standard output."""
    print(printable(text))


def table_of(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, text: Collection[int], title: str = ""
) -> Table:
    """A table.

    Args:
        headings: of the columns.
        rows: the cells.
        text: which columns are of text: flush left, and on several lines where there is no room. The others are of
            figures: flush right, and never cut.
        title: what stands above it.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=printable(title) or None, title_justify="left")
    for number, heading in enumerate(headings):
        if number in text:
            table.add_column(printable(heading), overflow="fold")
        else:
            table.add_column(printable(heading), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def print_tables(*parts: Table | str) -> None:
    """Show tables and lines on standard output, as wide as its terminal."""
    console = _console(sys.stdout)
    for part in parts:
        console.print(printable(part) if isinstance(part, str) else part)


def columns() -> int:
    """How many characters a line of standard output holds."""
    return _console(sys.stdout).width


class _PipeConsole(Console):
    """A console that leaves it to its program what happens where nobody reads on."""

    def on_broken_pipe(self) -> None:
        """Raise what has come: Rich would end the program."""
        raise


def _console(file: TextIO) -> Console:
    is_launched = join_ranks().size > 1  # by what may write into a file what it takes as a terminal does
    known = "COLUMNS" in os.environ or (sys.stdout.isatty() and not is_launched)
    return _PipeConsole(
        file=file,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if known else _FILE_COLUMNS,
        force_terminal=False if is_launched else None,
    )


def _as_table(rows: Sequence[Mapping[str, object]]) -> str:
    cells = [[_cell(name, value) for name, value in row.items()] for row in rows]
    values = list(rows[0].values()) if rows else []
    text = [number for number, value in enumerate(values) if isinstance(value, str)]
    file = io.StringIO()
    console = _console(file)
    console.width = columns()
    console.print(table_of(list(rows[0]) if rows else [], cells, text=text))
    return file.getvalue()


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    value = value.replace("\0", r"\x00")  # which CSV cannot hold
    return f"'{value}" if value.startswith(_BEGINS_FORMULA) else value


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2%}" if name in ("probability", "accuracy") else f"{value:.4g}"
    return str(value)
