"""Results as tables to read, or as JSON or CSV for programs; on standard output or in a file."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pyalexnet.files import write_atomically

FORMATS = ("table", "json", "csv")

_FILE_COLUMNS = 110


def add_output(command: Any) -> None:
    """Which format, and where to."""
    command.add_argument("--format", choices=FORMATS, default="table", help="(default: %(default)s)")
    command.add_argument("--output", metavar="FILE", help="write there (default: standard output)")


def write_rows(rows: Sequence[Mapping[str, Any]], kind: str, output: str | PathLike[str] | None) -> None:
    """Write records that have the same fields, in one of :data:`FORMATS`."""
    write_text({"table": _as_table, "json": as_json, "csv": _as_csv}[kind](rows), output)


def write_text(text: str, output: str | PathLike[str] | None) -> None:
    """Write a text that ends in a new line."""
    if output is None:
        sys.stdout.write(text)
    else:
        write_atomically(output, text.encode())


def as_json(content: Any) -> str:
    """Strict JSON, indented."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def table_of(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, title: str = "") -> Table:
    """A table whose first columns are set flush left, the others right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=number >= left)
    for row in rows:
        table.add_row(*row)
    return table


def print_tables(*parts: Table | str) -> None:
    """Show tables and lines on standard output, as wide as its terminal."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    for part in parts:
        console.print(part)


def _as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[_cell(name, value) for name, value in row.items()] for row in rows]
    text = [isinstance(value, str) for value in rows[0].values()] if rows else []
    file = io.StringIO()
    console = Console(file=file, highlight=False, markup=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    left = text.index(False) if False in text else len(text)
    console.print(table_of(list(rows[0]) if rows else [], cells, left=left))
    return file.getvalue()


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2%}" if name in ("probability", "accuracy") else f"{value:.4g}"
    return str(value)
