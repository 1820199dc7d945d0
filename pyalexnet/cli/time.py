"""``pyalexnet time``: how long each layer of a training step takes here."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from contextlib import nullcontext

from pyalexnet.architecture import Options
from pyalexnet.cli.arguments import add_command, add_placement, add_quiet
from pyalexnet.cli.output import add_output, print_tables, require_outputs, table_of, write_rows
from pyalexnet.cli.parser import Commands
from pyalexnet.device.backend import DEFAULT_DEVICE
from pyalexnet.net.network import AlexNet
from pyalexnet.net.timing import Stopwatch, Timing, nvtx_ranges, spread
from pyalexnet.system.checks import at_least
from pyalexnet.system.progress import Display


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "time",
        run,
        "measure how long each layer of a training step takes",
        "Measure a training step of random images layer by layer, and as a whole, in the paper's net of 1000 classes. "
        "Each figure is the median over the repeats, its spread the width of their middle half; shares of the peak are "
        "of the multiply-adds that the device makes in registers, measured too.",
    )
    command.add_argument("--batch-size", type=int, default=128, metavar="N", help="(default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, metavar="N", help="(default: %(default)s)")
    command.add_argument("--kernels", action="store_true", help="a row a kernel and tower, not a layer")
    command.add_argument(
        "--conv-algorithm",
        default=Options().conv_algorithm,
        metavar="NAME",
        help="how convolutions are computed: auto, direct, fourier or winograd (default: %(default)s)",
    )
    command.add_argument(
        "--precision",
        default=Options().precision,
        metavar="NAME",
        help="what products round to: fp32, tf32, bf16 or tf32x3 (default: %(default)s)",
    )
    command.add_argument(
        "--nvtx", action="store_true", help="mark steps and layers for NVIDIA's profilers (the extra 'profile')"
    )
    add_output(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Measure and show."""
    repeats, batch_size = at_least("repeats", options.repeats, 1), at_least("batch_size", options.batch_size, 1)
    require_outputs(options.output)
    range_of = nvtx_ranges() if options.nvtx else nullcontext
    net = AlexNet(
        devices=options.devices or (DEFAULT_DEVICE,),
        memory_limit=options.memory_limit,
        conv_algorithm=options.conv_algorithm,
        precision=options.precision,
    )
    with Display(enabled=not options.quiet) as display:
        display.stage("one step to warm up")
        watch = Stopwatch(net, batch_size, range_of=range_of)
        display.stage("layers")
        timings, peak_gflops = watch.time_layers(repeats, by_kernel=options.kernels)
        display.stage("whole steps")
        steps_ms = [watch.time_step() for _ in range(repeats)]
    if options.format == "table" and options.output is None:
        show(watch, batch_size, timings, peak_gflops, steps_ms)
    else:
        write_rows([*map(row_of, timings), step_row(timings, peak_gflops, steps_ms)], options.format, options.output)
    return 0


def show(
    watch: Stopwatch, batch_size: int, timings: Sequence[Timing], peak_gflops: float, steps_ms: Sequence[float]
) -> None:
    """The table that a person reads."""
    headings = ("layer", "direction", "ms", "± ms", "GFLOP/s", "GB/s", "of peak")
    rows = [
        (
            *(timing.name, timing.direction, f"{timing.ms:.2f}", f"{timing.spread_ms:.2f}"),
            *(f"{timing.gflops:,.0f}", f"{timing.gb_per_s:.1f}", f"{timing.peak_fraction:.0%}"),
        )
        for timing in timings
    ]
    step_ms = statistics.median(steps_ms)
    print_tables(
        table_of(headings, rows, text=range(2)),
        f"a step of {batch_size} images on {', '.join(watch.net.devices)} ({watch.description}): {step_ms:,.1f} ms "
        f"± {spread(steps_ms):,.1f}, {1e3 * batch_size / step_ms:,.1f} images/s",
        f"multiply-adds in registers: {peak_gflops:,.0f} GFLOP/s",
    )


def row_of(timing: Timing) -> dict[str, object]:
    """A row as programs read it."""
    return {
        "layer": timing.name,
        "direction": timing.direction,
        "ms": timing.ms,
        "spread_ms": timing.spread_ms,
        "gflops": timing.gflops,
        "gb_per_s": timing.gb_per_s,
        "peak_fraction": timing.peak_fraction,
    }


def step_row(timings: Sequence[Timing], peak_gflops: float, steps_ms: Sequence[float]) -> dict[str, object]:
    """The whole step, in which kernels follow each other without a pause, as one more row."""
    step_ms = statistics.median(steps_ms)
    gflops = sum(timing.gflops * timing.ms for timing in timings) / step_ms
    gb_per_s = sum(timing.gb_per_s * timing.ms for timing in timings) / step_ms
    return row_of(Timing("step", "all", step_ms, spread(steps_ms), gflops, gb_per_s, gflops / peak_gflops))
