"""Time every layer of AlexNet, forward and backward, the exchange, the optimiser and the whole training step.

    python benchmarks/layer_timing.py --batch 128 --compare torch --json layer_timing.json

Each figure is the median over repeats, after a warm-up, of device time between two events; the spread is that of the
middle half. Percentages are of the multiply-add peak that the same run measured on the same device. PyTorch, if asked
for, computes the same net (grouped convolutions, LRN inside each tower) in eager fp32 on the same device, and its steps
alternate with ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pyalexnet.backend import devices
from pyalexnet.costs import Cost, cost_of
from pyalexnet.network import AlexNet
from pyalexnet.program import Entry

CLASSES = 1000


@dataclass
class Timing:
    """One row of the table.

    ``direction`` is forward, backward or update; ``spread_ms`` the width of the middle half of the repeats;
    ``peak_fraction`` the share of the measured multiply-add peak; torch's figures are None where it was not asked for
    or has no such step.
    """

    name: str
    direction: str
    ms: float
    spread_ms: float
    gflops: float
    gb_per_s: float
    peak_fraction: float
    ms_torch: float | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; write JSON if asked."""
    options = parse(arguments)
    net = AlexNet(CLASSES, devices=options.device)
    bench = Bench(net, options.batch)
    peak_gflops = bench.measure_peak()
    measured = bench.time_entries(options.repeats, by_kernel=options.kernels)
    peak_gflops = max(peak_gflops, bench.measure_peak())  # what else runs on the machine may have held one back
    timings = [timing_of(key, times, cost, peak_gflops) for key, times, cost in measured]
    step_ms = [bench.time_step() for _ in range(options.repeats)]
    step_ms_torch: list[float] = []
    if options.compare == "torch":
        from torch_layers import TorchAlexNet

        torch_net = TorchAlexNet(options.device[0], options.batch, CLASSES, bench.cores)
        if not options.kernels:
            for timing in timings:
                timing.ms_torch = torch_net.time_layer(timing.name, timing.direction, options.repeats)
        torch_net.time_step()
        step_ms = []
        for _ in range(options.repeats):
            step_ms.append(bench.time_step())
            step_ms_torch.append(torch_net.time_step())
    report = {
        "device": ", ".join(options.device),
        "description": bench.description,
        "cores": bench.cores,
        "batch": options.batch,
        "repeats": options.repeats,
        "peak_gflops": peak_gflops,
        "step_ms": statistics.median(step_ms),
        "step_spread_ms": spread(step_ms),
        "step_ms_torch": statistics.median(step_ms_torch) if step_ms_torch else None,
        "step_spread_ms_torch": spread(step_ms_torch) if step_ms_torch else None,
        "layers": [asdict(timing) for timing in timings],
    }
    show(report, timings)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [info.name for info in devices()]
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    default = "cuda:0" if "cuda:0" in names else "cpu:0"
    parser.add_argument("--device", nargs="+", default=[default], choices=names, help="one device, or two")
    parser.add_argument("--batch", type=positive, default=128, help="images a step")
    parser.add_argument("--repeats", type=positive, default=7, help="measurements of each figure")
    parser.add_argument("--compare", choices=["torch"], help="time PyTorch's layers and step too")
    parser.add_argument("--kernels", action="store_true", help="a row a kernel and tower, not a layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    if options.compare == "torch" and importlib.util.find_spec("torch") is None:
        parser.error("--compare torch needs PyTorch: pip install torch")
    return options


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


class Bench:
    """A net with a batch of random images, and the clocks of its devices."""

    def __init__(self, net: AlexNet, batch: int) -> None:
        """Run one step, so that everything is allocated and warm."""
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((batch, 227, 227, 3), dtype=np.float32)
        self.labels = rng.integers(0, CLASSES, batch)
        self.net = net
        self.device = net.placement.devices[0]
        info = self.device.native.device_info(self.device.index)
        self.description, self.cores = info["name"], info["multiprocessors"]
        self.time_step()
        self.program = net.program(batch, training=True)

    def time_step(self) -> float:
        """Milliseconds of one whole training step, from images in host memory to the loss back there."""
        start = time.perf_counter()
        self.net.train_step(self.x, self.labels, lr=1e-6)
        return (time.perf_counter() - start) * 1e3

    def measure_peak(self) -> float:
        """GFLOP/s of multiply-adds in registers on all cores of one device: the best of several launches."""
        native, stream = self.device.native, self.device.stream
        blocks = 8 * self.cores
        sink = native.Memory(self.device.index, 4 * blocks).array(0, [blocks])
        rounds = 1000
        while (elapsed_ms := self._time_peak(sink, rounds)) < 20:
            rounds *= 2
        elapsed_ms = min(self._time_peak(sink, rounds) for _ in range(10))
        stream.synchronize()
        return float(native.multiply_add_peak_cost(blocks, rounds).flops / elapsed_ms / 1e6)

    def _time_peak(self, sink: Any, rounds: int) -> float:
        native, stream = self.device.native, self.device.stream
        return self._between_events(stream, lambda: native.multiply_add_peak(sink, rounds, stream))

    def time_entries(self, repeats: int, *, by_kernel: bool) -> list[tuple[tuple[str, str], list[float], Cost]]:
        """Name and direction, milliseconds of each repeat, and cost of each row.

        A row is a layer and direction, towers and kernels of it added up; or a kernel and tower.
        """
        entries = [*self.program.forward, *self.program.backward, *self.program.update]
        times: dict[tuple[str, str], list[float]] = {}
        costs: dict[tuple[str, str], Cost] = {}
        for repeat in range(repeats):
            in_this_repeat: dict[tuple[str, str], float] = {}
            for entry, elapsed_ms in self._time_once(entries):
                key = (
                    f"{entry.layer} {entry.operation} {entry.tower}" if by_kernel else row_of(entry),
                    entry.direction,
                )
                in_this_repeat[key] = in_this_repeat.get(key, 0.0) + elapsed_ms
                if repeat == 0:
                    costs[key] = costs.get(key, Cost(0, 0)) + cost_of(entry, self.device.native)
            for key, elapsed_ms in in_this_repeat.items():
                times.setdefault(key, []).append(elapsed_ms)
        return [(key, values, costs[key]) for key, values in times.items()]

    def _time_once(self, entries: Sequence[Entry]) -> list[tuple[Entry, float]]:
        """Each entry alone between two events; an exchange from its start to its finish, with nothing beside it."""
        timed = []
        pending: dict[int, Entry] = {}
        for entry in entries:
            if entry.operation == "exchange_start":
                pending[entry.tower] = entry
                continue
            place = self.net.placement.place(entry.tower)
            stream = self.net.placement.streams[place]

            def run(entry: Entry = entry) -> None:
                if entry.operation == "exchange_finish":
                    pending.pop(entry.tower).run(self.net.knobs)
                entry.run(self.net.knobs)

            shown = pending.get(entry.tower, entry) if entry.operation == "exchange_finish" else entry
            timed.append((shown, self._between_events(stream, run)))
        return timed

    def _between_events(self, stream: Any, work: Callable[[], None]) -> float:
        start, end = (self.device.native.Event(stream.device) for _ in range(2))
        stream.record(start)
        work()
        stream.record(end)
        end.synchronize()
        return float(end.elapsed_ms_since(start))


def row_of(entry: Entry) -> str:
    """The table's name of what an entry belongs to: ReLU counts to its convolution or matrix product."""
    number = entry.layer[-1]
    kind = entry.operation.split("_")[0]
    names = {
        "lrn": f"lrn{number}",
        "maxpool": f"pool{number}",
        "dropout": f"dropout{number}",
        "sgd": "update",
    }
    if kind in ("exchange", "add"):
        return "exchange"
    return names.get(kind, entry.layer)


def timing_of(key: tuple[str, str], values: list[float], cost: Cost, peak_gflops: float) -> Timing:
    """A row from its repeats."""
    ms = statistics.median(values)
    gflops = cost.flops / ms / 1e6
    return Timing(*key, ms, spread(values), gflops, cost.bytes / ms / 1e6, gflops / peak_gflops)


def spread(values: Sequence[float]) -> float:
    """Width of the middle half."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def show(report: dict[str, Any], timings: Sequence[Timing]) -> None:
    """The table that a person reads."""
    compared = report["step_ms_torch"] is not None
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
        f"Whole step: {report['step_ms']:.0f} ms ± {report['step_spread_ms']:.0f}, {images_per_s:.1f} images/s"
    )
    if compared:
        ratio = report["step_ms_torch"] / report["step_ms"]
        console.print(
            f"PyTorch:    {report['step_ms_torch']:.0f} ms ± {report['step_spread_ms_torch']:.0f}; "
            f"pyalexnet is {ratio:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
