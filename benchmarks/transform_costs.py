"""Time convolutions by direct sums, by tiles and by spectra, and say what an element of their transforms costs.

    python benchmarks/transform_costs.py --json benchmarks/transform_costs.json

The rules that choose between them compare multiply-adds, those of direct sums with those of a transform's products and
so many for each element that is written and read: ``fourier_multiply_adds`` and ``winograd_multiply_adds`` in
``src/kernels`` have the constants that this prints. Layers are those of one tower, the algorithms take turns, and a
figure is the median over the rounds. ``PYALEXNET_CPU_ISA=x86_64_v3`` measures an older instruction set.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from command_line import parser_of, positive
from pyalexnet import Tensor
from pyalexnet.architecture import Conv, layers
from pyalexnet.device.backend import devices, get_device

ALGORITHMS = ("direct", "winograd", "fourier")
PASSES = ("forward", "forward, weights kept", "gradient by x", "gradient by w")
LEAST_S = 0.02  # of one measurement, in calls


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    options = parse(arguments)
    (device,) = (info for info in devices() if info.name == options.device)
    rows = [
        {"layer": layer.name, "batch": batch, "pass": of_pass, "algorithms": found}
        for layer in layers(1000)
        if isinstance(layer, Conv) and layer.stride == 1
        for batch in options.batch
        for of_pass, found in measure(layer, batch, options.device, options.rounds)
    ]
    report = {"device": device.name, "description": device.description, "rounds": options.rounds, "rows": rows}
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    names = [info.name for info in devices()]
    parser.add_argument("--device", choices=names, default="cpu:0", help="where to compute")
    batches = [1, 2, 4, 8, 16, 32, 64, 128]
    parser.add_list("--batch", positive, continues=str.isdigit, default=batches, help="images at a time")
    parser.add_argument("--rounds", type=positive, default=5, help="turns of each algorithm")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args(arguments)


def measure(layer: Conv, batch: int, device: str, rounds: int) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """For each pass, by each algorithm that there is: its time, and what an element of its transforms costs."""
    convolution = Convolution(layer, batch, device)
    direct_multiply_adds = batch * layer.output_size**2 * int(np.prod(layer.tower_weight_shape))
    of_element: dict[str, float] = {}
    direct_ms: dict[str, float] = {}
    for of_pass in PASSES:
        calls = {
            algorithm: convolution.call(algorithm, of_pass)
            for algorithm in ALGORITHMS
            if (algorithm, layer.kernel) != ("winograd", 5) and (algorithm != "direct" or "kept" not in of_pass)
        }
        times = in_turns(calls, rounds)
        direct_ms[of_pass] = times["direct"] if "direct" in times else direct_ms["forward"]
        found = {}
        for algorithm, ms in times.items():
            found[algorithm] = {"ms": ms}
            if algorithm == "direct":
                continue
            elements, products = convolution.elements(algorithm), convolution.products(algorithm)
            moved = ms / direct_ms[of_pass] * direct_multiply_adds - products
            if "kept" in of_pass:
                maps = of_element[algorithm] * (elements["x"] + elements["y"])
                found[algorithm]["multiply_adds_a_kept_element"] = (moved - maps) / elements["w"]
            else:
                cost = found[algorithm]["multiply_adds_an_element"] = moved / sum(elements.values())
                of_element.setdefault(algorithm, cost)
        yield of_pass, found


class Convolution:
    """A layer's arrays for one tower, and the calls that compute with them; workspaces are there before."""

    def __init__(self, layer: Conv, batch: int, device: str) -> None:
        """Random arrays, and others for results."""
        rng = np.random.default_rng(0)

        def pair(*shape: int) -> tuple[Tensor, Tensor]:
            values = rng.standard_normal(shape, dtype=np.float32)
            return Tensor.from_array(values, device=device), Tensor.empty(shape, device=device)

        self._on = get_device(device)
        self._places = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        w_shape, size, out = layer.tower_weight_shape, layer.size, layer.output_size
        self._x, self._dx = pair(batch, size, size, layer.tower_channels)
        self._dy, self._y = pair(batch, out, out, layer.tower_filters)
        self._w, self._dw = pair(*w_shape)
        self._b, self._db = pair(layer.tower_filters)
        self._channels, self._filters = layer.tower_channels, layer.tower_filters

    def elements(self, algorithm: str) -> dict[str, int]:
        """Of the transforms of x, y and w."""
        plan = self._forward_plan(algorithm, kept=True)
        x = plan.x_spectra_bytes // 4
        return {"x": x, "y": x * self._filters // self._channels, "w": plan.w_spectra_bytes // 4}

    def products(self, algorithm: str) -> int:
        """Multiply-adds of the transforms."""
        return self.elements(algorithm)["x"] * self._filters

    def call(self, algorithm: str, of_pass: str) -> Callable[[], None]:
        """What computes a pass and waits for it."""
        native, stream = self._on.native, self._on.stream
        x, w, b, y, dx, dy, dw, db = (
            each.array for each in (self._x, self._w, self._b, self._y, self._dx, self._dy, self._dw, self._db)
        )
        how = {**self._places, "algorithm": algorithm}
        kept: dict[str, Any] = {}
        if of_pass.startswith("forward"):
            plan = self._forward_plan(algorithm, kept="kept" in of_pass)
            if plan.w_spectra_bytes:
                spectra = self._bytes(plan.w_spectra_bytes, "float32")
                native.conv_w_spectra(plan, spectra.array, w, stream)
                kept = {"w_spectra": spectra.array}
            scratch = self._bytes(plan.workspace_bytes)
            return self._waited(lambda: native.conv_forward(plan, y, x, w, b, True, scratch.array, stream, **kept))
        if of_pass == "gradient by x":
            plan = native.conv_backward_input_plan(dx=dx, w=w, **how)
            scratch = self._bytes(plan.workspace_bytes)
            return self._waited(lambda: native.conv_backward_input(plan, dx, dy, w, scratch.array, stream))
        plan = native.conv_backward_weight_plan(x=x, dw=dw, **how)
        scratch = self._bytes(plan.workspace_bytes)
        return self._waited(lambda: native.conv_backward_weight(plan, dw, db, x, dy, scratch.array, stream))

    def _forward_plan(self, algorithm: str, *, kept: bool) -> Any:
        return self._on.native.conv_forward_plan(
            x=self._x.array, w=self._w.array, **self._places, algorithm=algorithm, keeps_w_spectra=kept
        )

    def _bytes(self, count: int, dtype: str = "uint8") -> Tensor:
        extent = max(count, 4) // (4 if dtype == "float32" else 1)
        return Tensor.empty((extent,), dtype=dtype, device=str(self._on))

    def _waited(self, call: Callable[[], Any]) -> Callable[[], None]:
        def waited() -> None:
            call()
            self._on.stream.synchronize()

        return waited


def in_turns(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The median milliseconds of each call, of turns that take long enough to be measured."""
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, round(LEAST_S / seconds_of(call, 1)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(1e3 * seconds_of(call, counts[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def seconds_of(call: Callable[[], None], count: int) -> float:
    """One call's, of so many."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def show(report: dict[str, Any]) -> None:
    """The tables that a person reads."""
    console = Console()
    table = Table(title=f"Convolutions of one tower on {report['device']} ({report['description']}), ms")
    for column in ("layer", "images", "pass", *ALGORITHMS):
        table.add_column(column, justify="right" if column in ("images", *ALGORITHMS) else "left")
    for row in report["rows"]:
        times = [f"{row['algorithms'][name]['ms']:.2f}" if name in row["algorithms"] else "" for name in ALGORITHMS]
        table.add_row(row["layer"], str(row["batch"]), row["pass"], *times)
    console.print(table)
    for name in ALGORITHMS[1:]:
        for key, what in (
            ("multiply_adds_an_element", "an element of its transforms"),
            ("multiply_adds_a_kept_element", "one of weights that are kept"),
        ):
            costs = [row["algorithms"][name][key] for row in report["rows"] if key in row["algorithms"].get(name, {})]
            low, _, high = statistics.quantiles(costs, n=4) if len(costs) > 1 else costs * 3
            console.print(
                f"{name}: {what} costs {statistics.median(costs):.0f} multiply-adds (the middle half {low:.0f} to "
                f"{high:.0f})."
            )


if __name__ == "__main__":
    main()
