"""Time every layer of AlexNet, forward and backward, the exchange, the optimiser and the whole training step.

    python benchmarks/layer_timing.py --batch 128 --compare torch --json layer_timing.json

Each figure is the median over repeats, after a warm-up, of device time between two events; the spread is that of the
middle half. Percentages are of the multiply-add peak in float32 that the same run measured on the same device. PyTorch,
if asked for, computes the same net there in the same precision (bf16 by autocast, tf32x3 in float32): each layer eager
(grouped convolutions, LRN inside each tower), and the whole step eager and compiled, in both memory formats, each in a
process of its own and in turn with ours. The fastest is the peer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from command_line import one_of, parser_of, positive
from pyalexnet.architecture import Precision
from pyalexnet.cli.parser import is_device
from pyalexnet.device.backend import devices
from pyalexnet.net.costs import cost_of
from pyalexnet.net.network import AlexNet
from pyalexnet.net.timing import Stopwatch, Timing, spread
from torch_ways import TORCH_WAYS
from workers import Worker, WorkerError

CLASSES = 1000
PAUSE_S = 0.3  # in which the threads of the last step before ours stop spinning


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; write JSON if asked."""
    options = parse(arguments)
    net = AlexNet(CLASSES, devices=options.device, precision=options.precision)
    watch = Stopwatch(net, options.batch)
    timings, peak_gflops = watch.time_layers(options.repeats, by_kernel=options.kernels)
    step_ms, torch_ms = time_steps(options, watch, timings)
    best = min(torch_ms, key=lambda way: statistics.median(torch_ms[way]), default=None)
    report = {
        "device": ", ".join(options.device),
        "description": watch.description,
        "cores": watch.cores,
        "batch": options.batch,
        "precision": options.precision,
        "repeats": options.repeats,
        "peak_gflops": peak_gflops,
        "direct_gflop": direct_gflop(watch),
        "step_ms": statistics.median(step_ms),
        "step_spread_ms": spread(step_ms),
        "torch_steps": [
            {"way": way, "ms": statistics.median(values), "spread_ms": spread(values)}
            for way, values in torch_ms.items()
        ],
        "best_torch": best,
        "layers": [asdict(timing) for timing in timings],
    }
    show(report, timings)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def direct_gflop(watch: Stopwatch) -> float:
    """Operations of a step's convolutions and matrix products, in 10^9, computed as direct sums."""
    entries = (*watch.program.forward, *watch.program.backward)
    return sum(cost_of(entry, watch.device.native).flops for entry in entries if "plan" in entry.arguments) / 1e9


def time_steps(
    options: argparse.Namespace, watch: Stopwatch, timings: Sequence[Timing]
) -> tuple[list[float], dict[str, list[float]]]:
    """Milliseconds of our steps and of PyTorch's in each way, in turn; PyTorch's layers are noted in ``timings``."""
    compared = options.compare == "torch"
    given = (options.device[0], options.batch, CLASSES, watch.cores, options.precision)
    if compared and not options.kernels:
        with Worker(torch_layers_of, given, options.repeats) as worker:
            for timing in timings:
                timing.ms_torch = worker.ask(timing.name, timing.direction)
    step_ms: list[float] = []
    torch_ms: dict[str, list[float]] = {}
    with ExitStack() as running:
        workers = {}
        # Compiling and warming up side by side saves minutes.
        starting = {way: Worker(torch_step_of, way, given) for way in options.ways if compared}
        for way, worker in starting.items():
            try:
                workers[way] = running.enter_context(worker)
            except WorkerError as error:  # the other ways are peers still
                print(f"PyTorch, {way}: not measured: {error}", file=sys.stderr)
        for _ in range(options.repeats):
            time.sleep(PAUSE_S)
            step_ms.append(watch.time_step())
            for way, worker in workers.items():
                torch_ms.setdefault(way, []).append(worker.ask())
    return step_ms, torch_ms


def torch_layers_of(given: tuple[str, int, int, int, str], repeats: int) -> Callable[[str, str], float | None]:
    """What measures PyTorch's layers in milliseconds."""
    import torch_layers

    layers = torch_layers.TorchLayers(*given)
    return lambda name, direction: layers.time_layer(name, direction, repeats)


def torch_step_of(way: str, given: tuple[str, int, int, int, str]) -> Callable[[], float]:
    """What measures PyTorch's step in milliseconds."""
    import torch_layers

    return torch_layers.TorchStep(way, *given).time


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [info.name for info in devices()]
    parser = parser_of(__doc__)
    default = "cuda:0" if "cuda:0" in names else "cpu:0"

    parser.add_list("--device", one_of(names), continues=is_device, default=[default], help="one device, or two")
    parser.add_argument("--batch", type=positive, default=128, help="images a step")
    parser.add_argument("--repeats", type=positive, default=7, help="measurements of each figure")
    parser.add_argument("--compare", choices=["torch"], help="time PyTorch's layers and step too")
    parser.add_list(
        "--ways", one_of(list(TORCH_WAYS)), continues=TORCH_WAYS.__contains__, default=list(TORCH_WAYS),
        help="how PyTorch's step is run",
    )  # fmt: skip
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="of the operands of products")
    parser.add_argument("--kernels", action="store_true", help="a row a kernel and tower, not a layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    if options.compare == "torch" and importlib.util.find_spec("torch") is None:
        parser.error("--compare torch needs PyTorch: pip install torch")
    return options


def show(report: dict[str, Any], timings: Sequence[Timing]) -> None:
    """The table that a person reads."""
    compared = report["best_torch"] is not None
    table = Table(title=f"AlexNet, batch {report['batch']}, on {report['device']} ({report['description']})")
    table.add_column("layer")
    table.add_column("direction")
    columns = ["ms", "± ms", "GFLOP/s", "GB/s", "% of peak"] + (["PyTorch ms", "speed-up"] if compared else [])
    for column in columns:
        table.add_column(column, justify="right")
    for t in timings:
        cells = [
            f"{t.ms:.2f}",
            f"{t.spread_ms:.2f}",
            f"{t.gflops:.1f}",
            f"{t.gb_per_s:.1f}",
            f"{t.peak_fraction:.0%}",
        ]
        if compared:
            cells += [f"{t.ms_torch:.2f}", f"{t.ms_torch / t.ms:.2f}×"] if t.ms_torch else ["", ""]
        table.add_row(t.name, t.direction, *cells)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    images_per_s = 1e3 * report["batch"] / report["step_ms"]
    console.print(f"Multiply-add peak, measured: {report['peak_gflops']:.0f} GFLOP/s")
    console.print(
        f"Whole step: {report['step_ms']:.1f} ms ± {report['step_spread_ms']:.1f}, {images_per_s:.1f} images/s"
    )
    if report["precision"] == "fp32":
        limit_ms = 1e3 * report["direct_gflop"] / report["peak_gflops"]
        part = report["step_ms"] / limit_ms
        console.print(f"Direct sums alone, at that peak: {limit_ms:.1f} ms; a step takes {part:.2f} of that")
    for step in report["torch_steps"]:
        ratio = step["ms"] / report["step_ms"]
        times = f"{step['ms']:.1f} ms ± {step['spread_ms']:.1f}"
        console.print(f"PyTorch, {step['way']}: {times}; pyalexnet is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
