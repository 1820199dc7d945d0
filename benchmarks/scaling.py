"""Time a training step against the cores and the batch, and the convolutions by each algorithm; draw both.

    python benchmarks/scaling.py --json benchmarks/scaling.json --figure docs/figures/scaling.png
    python benchmarks/scaling.py --from benchmarks/scaling.json --figure scaling.svg

Each number of CPU cores has a process of its own; steps of all of them and of all batches take turns. A figure is the
median over the rounds, its spread that of the middle half. Drawing needs Matplotlib: pip install '.[figures]'.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from command_line import parser_of, positive
from pyalexnet.net.network import AlexNet
from pyalexnet.net.timing import Stopwatch, spread
from pyalexnet.system.machine import usable_cores
from workers import Worker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLASSES = 1000
NAMES = {"direct": "direct sums", "winograd": "by tiles", "fourier": "by spectra"}
WITH_A_CHOICE = ("conv2", "conv3", "conv4", "conv5")  # of stride 1; conv2, whose kernels are 5 x 5, has no tiles


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure or read, print, write and draw."""
    options = parse(arguments)
    report = json.loads(options.source.read_text()) if options.source else measure(options)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.figure:
        draw(report, options.figure)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    every = usable_cores()
    powers = [1 << i for i in range(every.bit_length()) if 1 << i < every]
    parser.add_list("--cores", positive, continues=str.isdigit, default=[*powers, every], help="CPU cores to use")
    parser.add_list(
        "--batch", positive, continues=str.isdigit, default=[4, 8, 16, 32, 64, 128, 256], help="images a step"
    )
    parser.add_argument("--layers-batch", type=positive, default=128, help="images for the times of convolutions")
    parser.add_argument("--rounds", type=positive, default=5, help="measurements of each figure")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="measure nothing, read this JSON")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw them there: .png, .svg or .pdf")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Steps by cores and batch, and the convolutions by algorithm on most cores."""
    times: dict[tuple[int, int], list[float]] = {
        (cores, batch): [] for cores in options.cores for batch in options.batch
    }
    with ExitStack() as running:
        workers = {
            cores: running.enter_context(Worker(steps_of, options.batch, environment=on_cores(cores)))
            for cores in options.cores
        }
        for _ in range(options.rounds):
            for (cores, batch), values in times.items():
                values.append(workers[cores].ask(batch))
    most = max(options.cores)
    layers = {}
    for algorithm in NAMES:
        with Worker(layers_of, options.layers_batch, algorithm, environment=on_cores(most)) as worker:
            description, layers[algorithm] = worker.ask(options.rounds)
    return {
        "description": description,
        "layers_batch": options.layers_batch,
        "layers_cores": most,
        "layers": layers,
        "steps": [
            {"cores": cores, "batch": batch, "ms": statistics.median(values), "spread_ms": spread(values)}
            for (cores, batch), values in times.items()
        ],
    }


def on_cores(cores: int) -> dict[str, str]:
    """What a process reads when it starts, to compute on so many cores."""
    return {"PYALEXNET_NUM_THREADS": str(cores)}


def steps_of(batches: Sequence[int]) -> Callable[[int], float]:
    """What measures a step of each batch in milliseconds."""
    net = AlexNet(CLASSES, devices=["cpu:0"])
    # The largest first: the others' arrays then lie in its memory.
    watches = {batch: Stopwatch(net, batch) for batch in sorted(batches, reverse=True)}

    def measure_step(batch: int) -> float:
        watches[batch].time_step()  # the first after another batch finds caches as that one left them
        return watches[batch].time_step()

    return measure_step


def layers_of(batch: int, algorithm: str) -> Callable[[int], tuple[str, dict[str, float]]]:
    """What measures the layers by an algorithm, in milliseconds, and names the device."""
    watch = Stopwatch(AlexNet(CLASSES, devices=["cpu:0"], conv_algorithm=algorithm), batch)

    def measure_layers(repeats: int) -> tuple[str, dict[str, float]]:
        timings, _ = watch.time_layers(repeats)
        return watch.description, {f"{timing.name} {timing.direction}": timing.ms for timing in timings}

    return measure_layers


def show(report: dict[str, Any]) -> None:
    """The tables that a person reads."""
    console = Console()
    table = Table(title=f"AlexNet's training step on {report['description']}")
    for column in ("cores", "batch", "ms", "± ms", "ms an image", "images/s"):
        table.add_column(column, justify="right")
    for step in report["steps"]:
        an_image = step["ms"] / step["batch"]
        table.add_row(
            *(str(step["cores"]), str(step["batch"]), f"{step['ms']:.0f}", f"{step['spread_ms']:.0f}"),
            *(f"{an_image:.2f}", f"{1e3 / an_image:.1f}"),
        )
    console.print(table)
    table = Table(title=f"Convolutions of {report['layers_batch']} images on {report['layers_cores']} cores, ms")
    for column in ("layer", *NAMES, "best ratio"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in rows_with_a_choice(report):
        times = [report["layers"][algorithm][row] for algorithm in NAMES]
        table.add_row(row, *(f"{ms:.1f}" for ms in times), f"{times[0] / min(times):.2f}×")
    console.print(table)


def rows_with_a_choice(report: dict[str, Any]) -> list[str]:
    """The layers and directions in which the algorithms differ."""
    return [row for row in report["layers"]["direct"] if row.split()[0] in WITH_A_CHOICE]


def draw(report: dict[str, Any], path: Path) -> None:
    """Times of the convolutions on the left, of the step on the right."""
    from pyalexnet.study.figures.save import save_figure
    from pyalexnet.study.figures.style import SMALL, new_figure

    figure = new_figure(8.6, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    draw_layers(left, report)
    draw_steps(right, report)
    for axes in (left, right):
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.legend(fontsize=SMALL, frameon=False)
        axes.set_ylim(bottom=0)
    save_figure(figure, path)


def draw_layers(axes: Axes, report: dict[str, Any]) -> None:
    """A bar for each algorithm of a layer and direction; conv2 has none by tiles."""
    from pyalexnet.study.figures.style import BLUE, GREEN, NORMAL, ORANGE

    rows = sorted(rows_with_a_choice(report), key=lambda row: (row.split()[0], "backward" in row))
    width = 0.27
    for place, (algorithm, colour) in enumerate(zip(NAMES, (ORANGE, GREEN, BLUE), strict=True)):
        bars = {x: report["layers"][algorithm][row] for x, row in enumerate(rows)
                if algorithm != "winograd" or not row.startswith("conv2")}  # fmt: skip
        axes.bar([x + (place - 1) * width for x in bars], list(bars.values()), width, color=colour,
                 label=NAMES[algorithm])  # fmt: skip
    axes.set_xticks(range(len(rows)), [row.replace(" ", "\n") for row in rows])
    axes.set_ylabel(f"ms for {report['layers_batch']} images, {report['layers_cores']} cores", fontsize=NORMAL)


def draw_steps(axes: Axes, report: dict[str, Any]) -> None:
    """Milliseconds an image against the batch, a line for each number of cores."""
    from matplotlib import colormaps

    from pyalexnet.study.figures.style import NORMAL

    cores = sorted({step["cores"] for step in report["steps"]})
    for number, count in enumerate(cores):
        steps = sorted((s for s in report["steps"] if s["cores"] == count), key=lambda step: int(step["batch"]))
        batches = [step["batch"] for step in steps]
        an_image, half_spread = ([step[key] / step["batch"] for step in steps] for key in ("ms", "spread_ms"))
        axes.errorbar(batches, an_image, yerr=[value / 2 for value in half_spread], marker="o", markersize=3,
                      color=colormaps["viridis"](number / max(1, len(cores))), linewidth=1.4, capsize=2,
                      label=f"{count} core{'s' if count > 1 else ''}")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xlabel("images a step", fontsize=NORMAL)
    axes.set_ylabel("ms an image", fontsize=NORMAL)


if __name__ == "__main__":
    main()
