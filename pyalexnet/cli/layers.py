"""``pyalexnet layers``: what each layer takes, holds and computes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pyalexnet.architecture import Options
from pyalexnet.cli.arguments import add_command, add_declared, readable
from pyalexnet.cli.output import add_output, print_tables, table_of, write_rows
from pyalexnet.cli.parser import Commands
from pyalexnet.net.layer_table import LayerRow, layer_table
from pyalexnet.system.declaration import arguments_of

# The options by which layers differ in shape or kind.
_OPTIONS = ("pool_before_lrn", "second_lrn", "relu1_last", "activation", "pooling", "lrn", "towers", "filters")


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "layers",
        run,
        "list each layer's shapes, parameters and multiply-adds",
        "List what each layer of the net takes, holds and computes in the forward pass, from the architecture alone: "
        "shapes, windows, groups, multiply-adds, parameters, and bytes in float32. Multiply-adds are those of "
        "convolutions and matrix products. CSV and JSON have all of it, each extent in a field of its own.",
    )
    command.add_argument("--classes", type=int, default=1000, metavar="N", help="outputs (default: %(default)s)")
    command.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images at a time (default: %(default)s)"
    )
    command.add_argument("--by-tower", action="store_true", help="a row a tower, not one for both")
    add_output(command)
    group = command.add_argument_group("the net, where its sources differ or the paper compares (see docs/ledger.md)")
    arguments, default = arguments_of(Options), Options()
    for name in _OPTIONS:
        add_declared(group, arguments[name], readable(getattr(default, name)))


def run(options: argparse.Namespace) -> int:
    """Make the table and show it."""
    chosen = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    rows = layer_table(options.classes, batch_size=options.batch_size, by_tower=options.by_tower, **chosen)
    if options.format == "table" and options.output is None:
        _show(rows, options.batch_size, by_tower=options.by_tower)
    else:
        write_rows([_record(row) for row in rows], options.format, options.output)
    return 0


def _show(rows: Sequence[LayerRow], batch_size: int, *, by_tower: bool) -> None:
    """The table that a person reads: shapes of one image, sizes of all."""
    headings = ("layer", "tower" if by_tower else "groups", "output", "window", "then")
    cells = [
        (
            *(row.name, _known(row.tower if by_tower else row.groups)),
            _extents(row.output_shape[1:]),
            "" if row.kernel is None else f"{row.kernel}/{row.stride}/{row.padding}",
            *(row.nonlinearity, f"{row.multiply_adds:,}", f"{row.parameters:,}"),
        )
        for row in rows
    ]
    images = "1 image" if batch_size == 1 else f"{batch_size:,} images"
    print_tables(
        table_of((*headings, "multiply-adds", "parameters"), cells, text=[0, 4]),
        f"{images}: {sum(row.multiply_adds for row in rows):,} multiply-adds; {sum(row.parameters for row in rows):,} "
        f"parameters in {sum(row.weight_bytes for row in rows):,} bytes",
        "window: kernel/stride/padding on each side",
    )


def _record(row: LayerRow) -> dict[str, object]:
    """A row as programs read it: flat, what is fully connected as a picture of one pixel."""
    extents: dict[str, object] = {}
    for side, shape in (("input", row.input_shape), ("output", row.output_shape)):
        height, width = shape[1:3] if len(shape) == 4 else (1, 1)
        extents |= {f"{side}_height": height, f"{side}_width": width, f"{side}_channels": shape[-1]}
    return {
        "layer": row.name,
        "kind": row.kind,
        "tower": row.tower,
        "batch_size": row.input_shape[0],
        **extents,
        "kernel": row.kernel,
        "stride": row.stride,
        "padding": row.padding,
        "groups": row.groups,
        "nonlinearity": row.nonlinearity,
        "multiply_adds": row.multiply_adds,
        "parameters": row.parameters,
        "weight_bytes": row.weight_bytes,
        "input_bytes": row.input_bytes,
        "output_bytes": row.output_bytes,
    }


def _known(number: int | None) -> str:
    return "" if number is None else str(number)


def _extents(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
