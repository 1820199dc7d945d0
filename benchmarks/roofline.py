#!/usr/bin/env python3
"""The least time that a training step can take on a GPU, by its peak and its memory: no GPU is needed, nothing runs.

    python benchmarks/roofline.py --batch 128 --json roofline.json

A kernel takes no less than its multiply-adds at the GPU's peak in the precision, and no less than its bytes at the
bandwidth of the GPU's memory: each input read once, each output written once (Williams, Waterman and Patterson:
Roofline, Communications of the ACM 52, 2009). The kernels' times are added up; what a cache keeps from one kernel to
the next would save more. All arrays are float32 in each precision, and what is no product computes in float32.

Convolutions count as direct sums, which is how others count them and what any kernel of direct sums must do. Those that
the plan of a step computes by spectra, with a fraction of the multiply-adds, stand beneath a second time, as they are
planned: two transforms, the product, and the transform back, each from memory to memory. So a measured step may be
faster than the roofline of direct sums; faster than as planned it may be by what caches keep alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import fsum
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from command_line import parser_of, positive
from pyalexnet.architecture import Options, Precision
from pyalexnet.device.backend import native_module
from pyalexnet.net.costs import Cost, cost_of, spectral_costs
from pyalexnet.net.parameters import Parameters
from pyalexnet.net.placement import Placement
from pyalexnet.net.program import Program
from pyalexnet.net.transfers import Transfers
from pyalexnet.net.weight_spectra import WeightSpectra
from pyalexnet.system.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent
CLASSES = 1000
TARGET = "sim"  # which plans as GPUs do


@dataclass(frozen=True)
class Gpu:
    """What a GPU can do at most, as its vendor states it.

    Attributes:
        name: as it is called here.
        device: as its driver calls it.
        gb_per_s: of its memory, in billions of bytes a second.
        tflops: for each precision that it multiplies in, trillions of operations a second, a multiply-add two of them:
            tensor cores' with dense operands, half of what datasheets state for sparse ones.
        source: where this is from.
    """

    name: str
    device: str
    gb_per_s: float
    tflops: Mapping[str, float]
    source: str


GPUS = (
    Gpu(
        "GTX 580", "GeForce GTX 580", 192.4, {"fp32": 1.581},
        "NVIDIA, GeForce GTX 580, specifications: 512 cores at 1,544 MHz",
    ),
    Gpu("T4", "Tesla T4", 320, {"fp32": 8.1}, "NVIDIA, T4 Tensor Core GPU, datasheet"),
    Gpu(
        "A100", "NVIDIA A100-SXM4-80GB", 2039, {"fp32": 19.5, "tf32": 156, "bf16": 312},
        "NVIDIA, A100 Tensor Core GPU, datasheet: SXM, 80 GB",
    ),
    Gpu(
        "H100", "NVIDIA H100 80GB HBM3", 3352, {"fp32": 66.9, "tf32": 494.7, "bf16": 989.4},
        "NVIDIA, H100 Tensor Core GPU Architecture, whitepaper: SXM5",
    ),
)  # fmt: skip
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")

Key = tuple[str, str]  # a row's name and direction


@dataclass(frozen=True)
class Kernel:
    """What a kernel does at least, and whether that is products, which a precision makes faster."""

    cost: Cost
    is_product: bool

    def least_ms(self, gpu: Gpu, precision: str) -> float:
        """Milliseconds on a GPU that has the precision."""
        flops_per_ms = 1e9 * gpu.tflops[precision if self.is_product else "fp32"]
        return max(self.cost.flops / flops_per_ms, self.cost.bytes / (1e6 * gpu.gb_per_s))


@dataclass(frozen=True)
class Row:
    """A layer's kernels of one direction, all towers together, or those of a whole step.

    Attributes:
        name: as in the tables of times.
        direction: forward, backward or update; ``all`` of the step.
        flops: floating-point operations.
        bytes: of device memory.
        least_ms: milliseconds that the roofline allows, by GPU and precision.
    """

    name: str
    direction: str
    flops: int
    bytes: int
    least_ms: dict[str, dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Count and print; write JSON if asked."""
    options = parse(arguments)
    report = report_of(options.batch)
    if options.json:
        try:
            write_atomically(options.json, (json.dumps(report, indent=2) + "\n").encode())
        except OSError as error:
            raise SystemExit(f"--json: {error.strerror}") from error
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    batch = f"A training step of {options.batch} images"
    tables = [table_of_rows(report, f"{batch} by direct sums: the least ms by the roofline", "layers", "step")]
    if report["by_spectra"]:
        tables.append(table_of_rows(report, f"{batch} as planned, these by spectra", "by_spectra", "step_as_planned"))
    tables += [table_of_shares(report, timing) for timing in timings(options.batch)]
    for table in tables:
        console.print(table, "")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=positive, default=128, help="images a step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args(arguments)


def report_of(batch_size: int) -> dict[str, Any]:
    """All figures of a training step of the paper's net."""
    programs = {precision: described(batch_size, precision) for precision in PRECISIONS}
    direct = {precision: kernels_of(program, as_planned=False) for precision, program in programs.items()}
    planned = {precision: kernels_of(program, as_planned=True) for precision, program in programs.items()}
    rows = [row_of(*key, {precision: direct[precision][key] for precision in PRECISIONS}) for key in direct["fp32"]]
    by_spectra = []
    for key in planned["fp32"]:
        otherwise = {each: planned[each][key] for each in PRECISIONS if planned[each][key] != direct[each][key]}
        if otherwise:
            by_spectra.append(row_of(*key, otherwise))
    return {
        "batch": batch_size,
        "gpus": [asdict(gpu) for gpu in GPUS],
        "layers": [asdict(row) for row in rows],
        "by_spectra": [asdict(row) for row in by_spectra],
        "step": asdict(step_of(direct)),
        "step_as_planned": asdict(step_of(planned)),
    }


def described(batch_size: int, precision: Precision) -> Program:
    """A training step's program, which is not built; only the parameters have memory."""
    placement = Placement.on((f"{TARGET}:0",), peer_access=True)
    options = Options(precision=precision)
    parameters = Parameters(CLASSES, options, placement, Transfers(placement))
    parameters.take_memory()
    spectra = WeightSpectra(placement.devices)
    return Program(
        batch_size, CLASSES, options, placement, parameters.of_tower, spectra, training=True, batch_invariant=False
    )


def kernels_of(program: Program, *, as_planned: bool) -> dict[Key, list[Kernel]]:
    """What each row of a step has to do, by direct sums or as it is planned."""
    native = native_module(TARGET)
    kernels: dict[Key, list[Kernel]] = {}
    for entry in (*program.forward, *program.backward, *program.update):
        plan = entry.arguments.get("plan")
        by_spectra = as_planned and plan is not None and plan.algorithm == "fourier"
        costs = spectral_costs(entry) if by_spectra else (cost_of(entry, native),)
        kernels.setdefault((entry.row, entry.direction), []).extend(Kernel(cost, plan is not None) for cost in costs)
    return kernels


def row_of(name: str, direction: str, kernels: Mapping[str, Sequence[Kernel]]) -> Row:
    """A row of its kernels in each precision; operations and bytes are those in the first."""
    total = sum((kernel.cost for kernel in next(iter(kernels.values()))), Cost(0, 0))
    least_ms = {
        gpu.name: {
            precision: fsum(kernel.least_ms(gpu, precision) for kernel in of_precision)
            for precision, of_precision in kernels.items()
            if precision in gpu.tflops
        }
        for gpu in GPUS
    }
    return Row(name, direction, total.flops, total.bytes, least_ms)


def step_of(kernels: Mapping[str, Mapping[Key, Sequence[Kernel]]]) -> Row:
    """The whole step, one kernel after the other."""
    return row_of("step", "all", {precision: list(chain(*rows.values())) for precision, rows in kernels.items()})


def timings(batch_size: int) -> list[dict[str, Any]]:
    """What layer_timing.py measured of steps of that many images, on GPUs and in precisions that are known here."""
    reports = [json.loads(path.read_text()) for path in sorted(BENCHMARKS.glob("layer_timing*.json"))]
    known = {(gpu.device, precision) for gpu in GPUS for precision in gpu.tflops}
    return [
        report
        for report in reports
        if report["batch"] == batch_size and (report["description"], report.get("precision", "fp32")) in known
    ]


def table_of_rows(report: dict[str, Any], title: str, rows: str, step: str) -> Table:
    """What each layer does, and how long each GPU takes for it at least; rows and step by their names in the report."""
    table = table_with(title, ("layer", "direction"), padding=0)
    columns = [(gpu["name"], precision) for gpu in report["gpus"] for precision in gpu["tflops"]]
    for heading in ("GFLOP", "MB", *(f"{gpu.replace(' ', chr(10))}\n{precision}" for gpu, precision in columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (*report[rows], report[step]):
        least_ms = (row["least_ms"][gpu].get(precision) for gpu, precision in columns)
        cells = ("" if ms is None else milliseconds(ms) for ms in least_ms)
        if row is report[step]:
            table.add_section()
        table.add_row(row["name"], row["direction"], f"{row['flops'] / 1e9:.1f}", f"{row['bytes'] / 1e6:,.0f}", *cells)
    return table


def table_with(title: str, headings: Sequence[str], *, padding: int = 1) -> Table:
    """A table whose first columns are of text."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, padding), pad_edge=False, show_edge=False
    )
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def table_of_shares(report: dict[str, Any], timing: dict[str, Any]) -> Table:
    """How long a GPU took, and what part of that the roofline asks for."""
    gpu = next(gpu.name for gpu in GPUS if gpu.device == timing["description"])
    precision = timing.get("precision", "fp32")
    title = f"{gpu} in {precision}: measured, and the roofline's part of it"
    table = table_with(title, ("layer", "direction"))
    for heading in ("ms", "by direct sums", "as planned"):
        table.add_column(heading, justify="right")

    def add(name: str, direction: str, ms: float, direct: dict[str, Any], planned: dict[str, Any]) -> None:
        parts = (f"{row['least_ms'][gpu][precision] / ms:.0%}" for row in (direct, planned))
        table.add_row(name, direction, milliseconds(ms), *parts)

    layers = {(row["name"], row["direction"]): row for row in report["layers"]}
    by_spectra = {(row["name"], row["direction"]): row for row in report["by_spectra"]}
    for layer in timing["layers"]:
        key = (layer["name"], layer["direction"])
        if key in layers:  # not so what an older step had as a kernel of its own
            otherwise = by_spectra.get(key)
            planned = otherwise if otherwise and precision in otherwise["least_ms"][gpu] else layers[key]
            add(*key, layer["ms"], layers[key], planned)
    table.add_section()
    add("step", "all", timing["step_ms"], report["step"], report["step_as_planned"])
    return table


def milliseconds(ms: float) -> str:
    """Three digits where there are as many in five characters."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 1 else f"{ms:.3f}"


if __name__ == "__main__":
    main()
