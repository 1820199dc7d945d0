"""How long each layer of a training step takes on a device, and how much of the device that is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from pyalexnet.device.native import NativeArray, NativeStream
from pyalexnet.device.tensor import Tensor
from pyalexnet.net.costs import Cost, cost_of
from pyalexnet.net.entry import Entry
from pyalexnet.net.network import AlexNet
from pyalexnet.system.extras import importing_extra

# What a profiler is to show what happens within a ``with`` block by.
Range: TypeAlias = Callable[[str], AbstractContextManager[Any]]


@dataclass
class Timing:
    """What one row of a table of times has.

    Attributes:
        name: the layer, or the kernel and tower.
        direction: forward, backward or update.
        ms: median of the repeats.
        spread_ms: the width of the middle half of the repeats.
        gflops: billions of floating-point operations a second.
        gb_per_s: billions of bytes of device memory a second.
        peak_fraction: the part of the measured multiply-add peak.
        ms_torch: PyTorch's median, where it was measured and has such a step.
    """

    name: str
    direction: str
    ms: float
    spread_ms: float
    gflops: float
    gb_per_s: float
    peak_fraction: float
    ms_torch: float | None = None


class Stopwatch:
    """A net with a batch of random images, and the clocks of its devices.

    Attributes:
        net: the net; its parameters move by next to nothing.
        description: what its first device is.
        cores: of that device.
    """

    def __init__(self, net: AlexNet, batch_size: int, *, range_of: Range = nullcontext) -> None:
        """Run one step, so that everything is allocated and warm.

        Args:
            net: what is timed.
            batch_size: images a step.
            range_of: what makes a range of a profiler of a name, such as :func:`nvtx_ranges` gives. A whole step is in
                a range ``step``. Where layers are timed, ``forward``, ``backward`` and ``update`` are ranges, and each
                layer is one within.

        Raises:
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        rng = np.random.default_rng(0)
        images = rng.standard_normal((batch_size, 227, 227, 3), dtype=np.float32)
        self.x = Tensor.from_array(images, device=net.devices[0])
        self.labels = rng.integers(0, net.num_classes, batch_size)
        self.net = net
        self._range_of = range_of
        self.device = net.placement.devices[0]
        info = self.device.native.device_info(self.device.index)
        self.description, self.cores = info["name"], info["multiprocessors"]
        self.time_step()
        self.program = net.program(batch_size, training=True)

    def time_step(self) -> float:
        """Milliseconds of one whole training step, from images on the first device to the loss in host memory."""
        start = time.perf_counter()
        with self._range_of("step"):
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

    def time_layers(self, repeats: int, *, by_kernel: bool = False) -> tuple[list[Timing], float]:
        """Each row's time, and the multiply-add peak in GFLOP/s that it is compared with.

        The peak is taken before and after, the better one counts: what else runs on the machine may hold one back.

        Args:
            repeats: measurements of each row.
            by_kernel: whether a row is a kernel and tower, instead of a layer with all its towers and kernels.
        """
        peak_gflops = self.measure_peak()
        times: dict[tuple[str, str], list[float]] = {}
        costs: dict[tuple[str, str], Cost] = {}
        entries = [*self.program.forward, *self.program.backward, *self.program.update]
        for repeat in range(repeats):
            in_this_repeat: dict[tuple[str, str], float] = {}
            for entry, elapsed_ms in self._time_once(entries):
                row = f"{entry.layer} {entry.operation} {entry.tower}" if by_kernel else entry.row
                key = (row, entry.direction)
                in_this_repeat[key] = in_this_repeat.get(key, 0.0) + elapsed_ms
                if repeat == 0:
                    costs[key] = costs.get(key, Cost(0, 0)) + cost_of(entry, self.device.native)
            for key, elapsed_ms in in_this_repeat.items():
                times.setdefault(key, []).append(elapsed_ms)
        peak_gflops = max(peak_gflops, self.measure_peak())
        return [_timing(key, values, costs[key], peak_gflops) for key, values in times.items()], peak_gflops

    def _time_peak(self, sink: NativeArray, rounds: int) -> float:
        native, stream = self.device.native, self.device.stream
        return self._between_events(stream, lambda: native.multiply_add_peak(sink, rounds, stream))

    def _time_once(self, entries: Sequence[Entry]) -> list[tuple[Entry, float]]:
        """Each entry alone between two events; an exchange from its start to its finish, with nothing beside it."""
        timed: list[tuple[Entry, float]] = []
        pending: dict[int, Entry] = {}
        for direction, in_direction in groupby(entries, lambda entry: entry.direction):
            with self._range_of(direction):
                for layer, of_layer in groupby(in_direction, lambda entry: entry.layer):
                    with self._range_of(layer if layer == direction else f"{layer} {direction}"):
                        timed += self._time_each(of_layer, pending)
        return timed

    def _time_each(self, entries: Iterable[Entry], pending: dict[int, Entry]) -> Iterator[tuple[Entry, float]]:
        """The same of some entries; exchanges that have only started stay in ``pending``, by tower."""
        for entry in entries:
            if entry.operation == "exchange_start":
                pending[entry.tower] = entry
                continue
            place = self.net.placement.place(entry.tower)
            stream = self.net.placement.streams[place]

            def run(entry: Entry = entry) -> None:
                if entry.operation == "exchange_finish":
                    pending.pop(entry.tower).run()
                entry.run()

            shown = pending.get(entry.tower, entry) if entry.operation == "exchange_finish" else entry
            yield shown, self._between_events(stream, run)

    def _between_events(self, stream: NativeStream, work: Callable[[], None]) -> float:
        start, end = (self.device.native.Event(stream.device) for _ in range(2))
        stream.record(start)
        work()
        stream.record(end)
        end.synchronize()
        return float(end.elapsed_ms_since(start))


def nvtx_ranges() -> Range:
    """Ranges that NVIDIA's profilers show, in the domain ``pyalexnet``.

    Raises:
        MissingLibraryError: NVTX is not installed.
    """
    with importing_extra():
        import nvtx

    return partial(nvtx.annotate, domain="pyalexnet")


def spread(values: Sequence[float]) -> float:
    """Width of the middle half."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def _timing(key: tuple[str, str], values: list[float], cost: Cost, peak_gflops: float) -> Timing:
    """A row from its repeats."""
    ms = statistics.median(values)
    gflops = cost.flops / ms / 1e6
    return Timing(*key, ms, spread(values), gflops, cost.bytes / ms / 1e6, gflops / peak_gflops)
