"""The benchmark runs as its users run it, and its JSON is complete; shares of the peak follow from costs and times.

No two times are compared: on a busy machine either may be any number of times longer.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyalexnet import AlexNet
from pyalexnet.device.native import NativeStream
from pyalexnet.device.tensor import Tensor
from pyalexnet.net.costs import cost_of
from pyalexnet.net.timing import Stopwatch

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "layer_timing.py"


# The paper's net: how many outputs each convolution and matrix product has for an image, and of how many products each
# is the sum.
FORWARD = {
    "conv1": (55 * 55 * 96, 11 * 11 * 3),
    "conv2": (27 * 27 * 256, 5 * 5 * 48),
    "conv3": (13 * 13 * 384, 3 * 3 * 256),
    "conv4": (13 * 13 * 384, 3 * 3 * 192),
    "conv5": (13 * 13 * 256, 3 * 3 * 192),
    "fc6": (4096, 6 * 6 * 256),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]])
def test_json_has_every_layer(tmp_path: Path, devices: list[str]) -> None:
    report_file = tmp_path / "report.json"
    command = [sys.executable, SCRIPT, "--device", *devices, "--batch", "2", "--repeats", "2", "--json", report_file]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(report_file.read_text())
    assert report["device"] == ", ".join(devices)
    assert report["batch"] == 2
    assert report["peak_gflops"] > 0
    assert report["step_ms"] > 0
    assert report["best_torch"] is None
    found = {(layer["name"], layer["direction"]) for layer in report["layers"]}
    names = [f"conv{n}" for n in range(1, 6)] + ["lrnpool1", "lrnpool2", "pool5", "fc6", "fc7", "fc8"]
    assert found >= {(name, direction) for name in names for direction in ("forward", "backward")}
    assert found >= {("exchange", "backward"), ("update", "update"), ("loss", "backward")}
    for layer in report["layers"]:
        assert layer["ms"] > 0
        assert math.isfinite(layer["gflops"])
        assert layer["peak_fraction"] == pytest.approx(layer["gflops"] / report["peak_gflops"])
        assert layer["ms_torch"] is None
    forward = {layer["name"]: layer for layer in report["layers"] if layer["direction"] == "forward"}
    for name, (outputs, products) in FORWARD.items():
        flops = 2 * report["batch"] * outputs * products
        assert forward[name]["gflops"] * forward[name]["ms"] * 1e6 == pytest.approx(flops)
    products = sum(outputs * products for outputs, products in FORWARD.values())
    outputs, of_conv1 = FORWARD["conv1"]  # there is no gradient by the net's input
    flops = 2 * report["batch"] * (3 * products - outputs * of_conv1)
    assert report["direct_gflop"] * 1e9 == pytest.approx(flops)
    assert "Whole step" in finished.stdout
    assert "Direct sums alone, at that peak" in finished.stdout


def test_wrong_arguments_are_refused() -> None:
    finished = subprocess.run([sys.executable, SCRIPT, "--batch", "0"], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 2
    assert "0 is not at least 1" in finished.stderr


class Clock:
    """What stands for the events of a stopwatch: each work is done, and took as long as it is said to."""

    def __init__(self, *elapsed_ms: float) -> None:
        self.left = list(elapsed_ms)

    def __call__(self, _stream: NativeStream, work: Callable[[], None]) -> float:
        work()
        return self.left.pop(0)


def test_the_peak_is_the_best_of_several_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(AlexNet(10), 1)
    # 1000 rounds are too short to measure by, 2000 are not: ten launches of these follow.
    clock = Clock(10, 21, 30, 25, 40, 24, 25, 22, 35, 25, 90, 25)
    monkeypatch.setattr(watch, "_between_events", clock)
    flops = watch.device.native.multiply_add_peak_cost(8 * watch.cores, 2000).flops
    assert watch.measure_peak() == pytest.approx(flops / 22e-3 / 1e9)
    assert not clock.left


def test_the_peak_counts_the_multiply_adds_that_are_made() -> None:
    rounds, sink = 30_000, Tensor.empty((1,))
    native, stream = sink.device.native, sink.device.stream
    native.multiply_add_peak(sink.array, rounds, stream)
    stream.synchronize()
    # Each chain of x = 0.999 x + 0.5 ends at 500; a block's are summed.
    chains = round(sink.item() / 500)
    assert native.multiply_add_peak_cost(1, rounds).flops == 2 * chains * rounds


def test_shares_of_the_peak_follow_from_costs_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(AlexNet(10, devices=["cpu:0", "cpu:1"]), 2)
    peaks = iter((50.0, 200.0))
    monkeypatch.setattr(watch, "measure_peak", lambda: next(peaks))
    entries = [*watch.program.forward, *watch.program.backward, *watch.program.update]
    timed = [entry for entry in entries if entry.operation != "exchange_start"]
    first, second, third = ([factor * (place + 1) for place in range(len(timed))] for factor in (1.0, 2.0, 9.0))
    monkeypatch.setattr(watch, "_between_events", Clock(*first, *second, *third))
    timings, peak = watch.time_layers(3)
    assert peak == 200
    for timing in timings:
        row = (timing.name, timing.direction)
        assert timing.ms == sum(
            ms for entry, ms in zip(timed, second, strict=True) if (entry.row, entry.direction) == row
        )
        costs = [cost_of(entry, watch.device.native) for entry in entries if (entry.row, entry.direction) == row]
        flops = sum(cost.flops for cost in costs)
        assert timing.gflops == pytest.approx(flops / timing.ms / 1e6)
        assert timing.peak_fraction == pytest.approx(timing.gflops / 200)
