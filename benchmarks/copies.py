"""Time copies: between host memory and a device, and between two devices, straight and through the host.

    python benchmarks/copies.py --device cuda:0,cuda:1 --json copies.json

A figure is the median over the repeats, in billions of bytes a second. What crosses the host in a training step on two
devices are the activations and gradients of conv3 and of fc6 to fc8: 22 MB each way for 128 images before conv3.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from command_line import one_of, parser_of, positive
from pyalexnet.cli.parser import is_device
from pyalexnet.device.backend import devices, get_device
from pyalexnet.device.native import NativeArray
from pyalexnet.device.tensor import Tensor, host_array, pinned_array
from pyalexnet.net.placement import Placement


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; write JSON if asked."""
    options = parse(arguments)
    count = options.mib * 2**20 // 4
    copies = between_host_and(options.device[0], count)
    if len(options.device) > 1:
        copies |= between(tuple(options.device), count)
    rates = {what: 4 * count / median_s(copy, options.repeats) / 1e9 for what, copy in copies.items()}
    report = {"devices": options.device, "mib": options.mib, "repeats": options.repeats, "gb_per_s": rates}
    table = Table(title=f"Copies of {options.mib} MiB")
    table.add_column("what")
    table.add_column("GB/s", justify="right")
    for what, rate in rates.items():
        table.add_row(what, f"{rate:.1f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def between_host_and(name: str, count: int) -> dict[str, Callable[[], object]]:
    """Copies to a device and from it, of memory that is page-locked and of memory that is not."""
    device = get_device(name)
    on_device = Tensor.empty((count,), device=name)
    pageable, pinned = np.ones(count, np.float32), pinned_array(device, (count,), "float32")
    pinned[:] = 1.0

    def copy(target: NativeArray, source: NativeArray) -> None:
        device.native.copy(target, source, device.stream)
        device.stream.synchronize()

    return {
        f"pageable memory to {name}": lambda: copy(on_device.array, host_array(device, pageable)),
        f"page-locked memory to {name}": lambda: copy(on_device.array, host_array(device, pinned)),
        f"{name} to page-locked memory": lambda: copy(host_array(device, pinned), on_device.array),
    }


def between(names: tuple[str, ...], count: int) -> dict[str, Callable[[], object]]:
    """Copies from the second device to the first, by a net's links."""
    source, target = (Tensor.empty((1, count), device=name) for name in reversed(names))
    found: dict[str, Callable[[], object]] = {}
    for straight in (True, False):
        placement = Placement.on(names, peer_access=straight)
        link = placement.links[0]
        if straight and not link.peer:
            continue

        def copy(placement: Placement = placement) -> None:
            placement.links[0].start(target.array, source.array)
            placement.links[0].finish()
            for stream in placement.streams:
                stream.synchronize()

        found[f"{names[1]} to {names[0]}, {'straight' if straight else 'through the host'}"] = copy
    return found


def median_s(copy: Callable[[], object], repeats: int) -> float:
    """Seconds of a copy, after one to warm up."""
    copy()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        copy()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [info.name for info in devices()]
    parser = parser_of(__doc__)

    gpus = [name for name in names if name.startswith("cuda")]
    parser.add_list(
        "--device", one_of(names), continues=is_device, default=(gpus or ["cpu:0", "cpu:1"])[:2], help="one or two"
    )
    parser.add_argument("--mib", type=positive, default=64, help="size of a copy")
    parser.add_argument("--repeats", type=positive, default=9, help="measurements of each figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
