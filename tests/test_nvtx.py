"""Ranges for NVIDIA's profilers: each layer and direction has one, they nest, and an error closes them.

A stand-in takes NVTX's place, which shows nothing without a profiler.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

import pytest

from pyalexnet import AlexNet
from pyalexnet.cli import main
from pyalexnet.device.native import NativeStream
from pyalexnet.net.timing import Stopwatch, nvtx_ranges

CONVS = [f"conv{n}" for n in range(1, 6)]
FULLY_CONNECTED = ["fc6", "fc7", "fc8"]


class Ranges(ModuleType):
    """What stands for the module: ranges by what was open around them, in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__("nvtx")
        self.open: list[str] = []
        self.opened: list[tuple[str, ...]] = []
        ranges = self

        class Annotation:
            def __init__(self, message: str, domain: str) -> None:
                assert domain == "pyalexnet"
                self.message = message

            def __enter__(self) -> None:
                ranges.open.append(self.message)
                ranges.opened.append(tuple(ranges.open))

            def __exit__(self, *_error: type[BaseException] | BaseException | TracebackType | None) -> None:
                assert ranges.open.pop() == self.message

        self.annotate = Annotation


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> Ranges:
    module = Ranges()
    monkeypatch.setitem(sys.modules, "nvtx", module)
    monkeypatch.setattr(Stopwatch, "measure_peak", lambda _watch: 1.0)
    return module


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]], ids=len)
def test_each_layer_and_direction_has_one_range(ranges: Ranges, devices: list[str]) -> None:
    watch = Stopwatch(AlexNet(10, devices=devices), 2, range_of=nvtx_ranges())
    assert ranges.opened == [("step",)]  # that which warms up
    ranges.opened.clear()
    watch.time_layers(2)
    forward, backward = [*CONVS, *FULLY_CONNECTED], ["loss", *reversed(FULLY_CONNECTED), *reversed(CONVS)]
    once = [
        ("forward",),
        *(("forward", f"{layer} forward") for layer in forward),
        ("backward",),
        *(("backward", f"{layer} backward") for layer in backward),
        ("update",),
        ("update", "update"),
    ]
    assert ranges.opened == 2 * once
    assert ranges.open == []


def test_what_is_launched_is_in_its_layers_range(ranges: Ranges, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(AlexNet(10, devices=["cpu:0", "cpu:1"]), 2, range_of=nvtx_ranges())
    around: list[str] = []

    def note(_watch: Stopwatch, _stream: NativeStream, work: Callable[[], None]) -> float:
        around.append(ranges.open[-1])
        work()
        return 1.0

    monkeypatch.setattr(Stopwatch, "_between_events", note)
    watch.time_layers(1)
    program = watch.program
    launched = [
        entry
        for entry in (*program.forward, *program.backward, *program.update)
        if entry.operation != "exchange_start"  # which is timed where it ends
    ]
    assert around == ["update" if e.layer == "update" else f"{e.layer} {e.direction}" for e in launched]


@pytest.mark.parametrize("broken", [0, 7, 40])
def test_an_error_closes_all_ranges(ranges: Ranges, monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    watch = Stopwatch(AlexNet(10), 2, range_of=nvtx_ranges())
    count = 0

    def fail(_watch: Stopwatch, _stream: NativeStream, work: Callable[[], None]) -> float:
        nonlocal count
        if count == broken:
            assert len(ranges.open) == 2
            raise KeyboardInterrupt
        count += 1
        work()
        return 1.0

    monkeypatch.setattr(Stopwatch, "_between_events", fail)
    with pytest.raises(KeyboardInterrupt):
        watch.time_layers(1)
    assert ranges.open == []


def test_an_error_closes_the_steps_range(ranges: Ranges, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(AlexNet(10), 2, range_of=nvtx_ranges())

    def fail(*_arguments: Any, **_named: Any) -> float:
        assert ranges.open == ["step"]
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(watch.net, "train_step", fail)
    with pytest.raises(RuntimeError, match="the device is gone"):
        watch.time_step()
    assert ranges.open == []


@pytest.mark.parametrize("asked", [True, False])
def test_the_command_marks_where_it_is_asked_to(ranges: Ranges, asked: bool) -> None:
    command = ["time", "--batch-size", "2", "--repeats", "1", "--quiet", "--devices", "cpu:0"]
    assert main([*command, *(["--nvtx"] if asked else [])]) == 0
    assert bool(ranges.opened) == asked
    assert ranges.opened.count(("step",)) == (2 if asked else 0)


def test_the_library_takes_these_ranges() -> None:
    pytest.importorskip("nvtx")
    with nvtx_ranges()("forward"), nvtx_ranges()("conv1 forward"):
        pass
