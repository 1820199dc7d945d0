#!/usr/bin/env python3
"""Show how much memory traffic each kernel of a training step makes, counted by the interpreter of PTX.

    tools/traffic.py                      a step of the paper's net at batch 2, its two towers together
    tools/traffic.py --batch 4 --layers conv2 fc8

Columns are what moves in global memory, in sectors of 32 bytes, and in shared memory, in wavefronts; beside each
number stands how many times the ideal it is: bytes wanted / 32, and no bank conflicts. src/ptx/traffic.h has the rules
by which both are counted. What caches hold back is not known here.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np

from pyalexnet.device.native import NativeTraffic, PtxModule
from pyalexnet.net.network import AlexNet

CLASSES = 1000
DEVICE = "ptx:0"
WAYS = ("global_loads", "global_stores", "shared_loads", "shared_stores")
Row = tuple[str, str, str]  # direction, layer, kernel
Sums = dict[str, tuple[int, int]]  # moved and ideal, each way


def main() -> None:
    """Run a step, count another one kernel by kernel, and print the table."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--batch", type=int, default=2, help="images in the step (%(default)s)")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="conv1 ... fc8, input, loss; all by default")
    options = parser.parse_args()

    net = AlexNet(CLASSES, devices=[DEVICE])
    print(f"A training step at batch {options.batch}: sectors, wavefronts, and how many times the ideal")
    print(table(measure(net, options.batch, options.layers)))


def measure(net: AlexNet, batch_size: int, layers: Sequence[str] | None = None) -> dict[Row, Sums]:
    """What each kernel of each layer moves in a training step, of all its launches together, in the step's order."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch_size, 227, 227, 3), dtype=np.float32)
    net.train_step(images, rng.integers(0, net.num_classes, batch_size), lr=1e-6)  # so that all arrays have values
    program = net.program(batch_size, training=True)
    native = cast(PtxModule, net.placement.devices[0].native)
    rows: dict[Row, Sums] = {}
    native.count_traffic(True)
    try:
        for entry in (*program.forward, *program.backward, *program.update):
            if layers is None or entry.layer in layers:
                entry.run()
                native.synchronize_device(net.placement.devices[0].index)
                add_launches(rows, entry.direction, entry.layer, native.take_traffic())
    finally:
        native.count_traffic(False)
    return rows


def add_launches(rows: dict[Row, Sums], direction: str, layer: str, launches: Iterable[NativeTraffic]) -> None:
    """Add what these launches moved to the rows of their kernels."""
    for launch in launches:
        sums = rows.setdefault((direction, layer, short_name(launch["kernel"])), {})
        for way in WAYS:
            _, moved, ideal = launch[way]  # type: ignore[literal-required]
            before = sums.get(way, (0, 0))
            sums[way] = before[0] + moved, before[1] + ideal


def short_name(kernel: str) -> str:
    """A kernel's name without namespaces, template arguments and the word that all have in common."""
    name = re.sub(r"<.*", "", kernel).split()[-1].split("::")[-1]
    return name.removesuffix("_kernel")


def table(rows: dict[Row, Sums]) -> str:
    """The rows at 80 columns, a direction after the other."""
    lines = [f"{'':32}{'global memory':>24}{'shared memory':>24}", f"{'':32}" + f"{'loads':>12}{'stores':>12}" * 2]
    previous = ""
    for (direction, layer, kernel), sums in rows.items():
        if direction != previous:
            lines.append(direction)
            previous = direction
        cells = "".join(cell(*sums[way]) for way in WAYS)
        lines.append(f"{layer:6}{kernel[:25]:26}{cells}".rstrip())
    return "\n".join(lines)


def cell(moved: int, ideal: int) -> str:
    """What moved and how many times the ideal it is, or nothing where nothing moves."""
    return f"{count_text(moved):>6}{moved / ideal:6.2f}" if moved else " " * 12


def count_text(count: int) -> str:
    """In at most five characters."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.{1 if count < 99.95 * size else 0}f}{unit}"
    return str(count)


if __name__ == "__main__":
    main()
