"""The update rule against NumPy in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import references
from pyalexnet import ops
from pyalexnet.device import backend
from pyalexnet.device.tensor import Tensor, host_array
from pyalexnet.ops._memory import settings

RATES = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


@pytest.mark.parametrize("shape", [(1,), (3,), (17,), (3, 3, 192, 20), (4096,)])
@pytest.mark.parametrize("rates", [RATES, {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.3}])
def test_step_equals_reference(
    device: str, rng: np.random.Generator, shape: tuple[int, ...], rates: dict[str, float]
) -> None:
    w, v, g = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
    new = ops.sgd_step(w, v, g, device=device, **rates)
    for found, expected in zip(new, references.sgd_step(w, v, g, **rates), strict=True):
        # Four roundings of numbers of about 1, each of at most 6e-8 of them.
        np.testing.assert_allclose(np.asarray(found), expected, rtol=3e-7, atol=3e-7)


def test_arguments_stay_as_they_are(device: str, rng: np.random.Generator) -> None:
    arrays = [rng.standard_normal(64, dtype=np.float32) for _ in range(3)]
    before = [array.copy() for array in arrays]
    ops.sgd_step(*arrays, device=device, **RATES)
    for array, copied in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copied)


def test_nothing_moves_without_a_rate(device: str, rng: np.random.Generator) -> None:
    w, v, g = (rng.standard_normal(100, dtype=np.float32) for _ in range(3))
    new_w, new_v = ops.sgd_step(w, v, g, lr=0.0, momentum=0.0, device=device)
    np.testing.assert_array_equal(np.asarray(new_w), w)
    np.testing.assert_array_equal(np.asarray(new_v), np.zeros(100))


def test_nan_stays_where_it_is(device: str) -> None:
    g = np.zeros(100, np.float32)
    g[33] = np.nan
    for found in ops.sgd_step(g * 0 + 1, np.zeros(100, np.float32), g, device=device, **RATES):
        # g * 0 carries the NaN into w as well: at 33 alone.
        assert np.flatnonzero(np.isnan(np.asarray(found))).tolist() == [33]


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="g has dtype float64"):
        ops.sgd_step(x, x, x.astype(np.float64), lr=0.1, device=device)
    with pytest.raises(ValueError, match=r"v has shape \(3, 2\); it must be \(2, 3\)"):
        ops.sgd_step(x, x.reshape(3, 2), x, lr=0.1, device=device)
    with pytest.raises(TypeError, match="lr is None; it must be a number"):
        ops.sgd_step(x, x, x, lr=None, device=device)  # type: ignore[arg-type]
    for name in RATES:
        wanted = "below 1" if name == "momentum" else "finite"
        for value in (-0.1, np.nan, np.inf, *([1, 1.5] if name == "momentum" else [])):
            with pytest.raises(ValueError, match=f"^{name} is .*; it must be at least 0 and {wanted}$"):
                ops.sgd_step(x, x, x, device=device, **{**RATES, name: value})


# Many arrays in one step ------------------------------------------------------------------------------------------

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 64, 1000, 4097, 30001)


class Placed:
    """Arrays of w, v and g on a device, each some floats behind an address that is aligned."""

    def __init__(self, device: str, rng: np.random.Generator, lengths: Sequence[int], offsets: Sequence[int]) -> None:
        self.on = backend.get_device(device)
        self.lengths = lengths
        self.lr = [0.5 / (number + 1) for number in range(len(lengths))]
        self.weight_decay = [0.1 * (number % 3) for number in range(len(lengths))]
        # By number and kind: where the array begins in its part of the memory.
        self.starts = [[offsets[(number + kind) % len(offsets)] for kind in range(3)] for number in range(len(lengths))]
        self.values = [[rng.standard_normal(length, dtype=np.float32) for _ in range(3)] for length in lengths]

    def steps(self, *groups: Sequence[int]) -> list[list[bytes]]:
        """The bytes of w and v of all arrays after a step for each group of them."""
        arrays = [[self._place(*placed) for placed in zip(*pair, strict=True)] for pair in self._pairs()]
        for group in groups:
            w, v, g = ([arrays[number][kind].array for number in group] for kind in range(3))
            rates = [settings(self.on, self.lr[number], 0.9, self.weight_decay[number]) for number in group]
            self.on.native.sgd_step(w, v, g, rates, self.on.stream)
        self.on.stream.synchronize()
        return [[np.asarray(array).tobytes() for array in (w, v)] for w, v, _ in arrays]

    def references(self) -> list[tuple[np.ndarray, np.ndarray]]:
        rates = zip(self.lr, self.weight_decay, strict=True)
        return [
            references.sgd_step(*values, lr=lr, momentum=0.9, weight_decay=weight_decay)
            for values, (lr, weight_decay) in zip(self.values, rates, strict=True)
        ]

    def _pairs(self) -> Iterator[tuple[list[np.ndarray], list[int]]]:
        return zip(self.values, self.starts, strict=True)

    def _place(self, value: np.ndarray, start: int) -> Tensor:
        memory = self.on.native.Memory(self.on.index, 4 * (start + len(value)))
        array = memory.array(4 * start, [len(value)])
        self.on.native.copy(array, host_array(self.on, value), self.on.stream)
        self.on.stream.synchronize()
        return Tensor(array, self.on)


@pytest.mark.parametrize("offsets", [(0,), (1,), (0, 0, 3), (0, 1, 2, 4)], ids=str)
def test_a_step_of_many_arrays_has_the_bits_of_one_for_each(
    device: str, rng: np.random.Generator, offsets: tuple[int, ...]
) -> None:
    placed = Placed(device, rng, LENGTHS, offsets)
    together = placed.steps(range(len(LENGTHS)))
    assert together == placed.steps(*([number] for number in range(len(LENGTHS))))
    for found, expected in zip(together, placed.references(), strict=True):
        for part, reference in zip(found, expected, strict=True):
            # As above.
            np.testing.assert_allclose(np.frombuffer(part, np.float32), reference, rtol=3e-7, atol=3e-7)


def launches(device: str) -> int:
    """How often the kernel was launched so far; skips where nobody counts."""
    native: Any = backend.get_device(device).native
    if not hasattr(native, "launch_counts"):
        pytest.skip("a GPU does not count launches")
    counts = native.launch_counts()
    return sum(count for name, count in counts.items() if "sgd_step" in name)


def test_more_arrays_than_a_launch_takes_are_several_launches(device: str, rng: np.random.Generator) -> None:
    most = backend.get_device(device).native.sgd_arrays_a_launch()
    assert most >= 32, "those of the whole net on one device"
    for count, expected in ((1, 1), (most, 1), (most + 1, 2), (2 * most + 3, 3)):
        placed = Placed(device, rng, [1 + number % 7 for number in range(count)], (0, 1))
        alone = placed.steps(*([number] for number in range(count)))
        before = launches(device)
        assert placed.steps(range(count)) == alone
        assert launches(device) - before == expected


def test_wrong_lists_of_arrays_are_refused_before_anything_moves(device: str, rng: np.random.Generator) -> None:
    on = backend.get_device(device)
    x = Tensor.from_array(rng.standard_normal(8, dtype=np.float32), device=device)
    y = Tensor.from_array(rng.standard_normal((2, 4), dtype=np.float32), device=device)
    before = np.array(x)

    def step(*arrays: Tensor, lr: list[float], weight_decay: float = 0.0, g: Tensor | None = None) -> None:
        w = [array.array for array in arrays]
        of_g = w if g is None else [*w[:-1], g.array]
        on.native.sgd_step(w, w, of_g, [settings(on, rate, 0.9, weight_decay) for rate in lr], on.stream)

    with pytest.raises(ValueError, match=r"lr\[1\] is -1; it must be finite and not negative"):
        step(x, x, lr=[0.1, -1.0])
    with pytest.raises(ValueError, match=r"weight_decay\[0\] is nan; it must be"):
        step(x, x, lr=[0.1, 0.1], weight_decay=np.nan)
    with pytest.raises(ValueError, match=r"g has shape \(2, 4\); it must be \(8,\)"):
        step(x, x, lr=[0.1, 0.1], g=y)
    with pytest.raises(ValueError, match="w, v, g and rates have 2, 2, 2 and 1 items"):
        step(x, x, lr=[0.1])
    with pytest.raises(ValueError, match="there are no arrays"):
        step(lr=[])
    with pytest.raises(ValueError, match=r"rates has shape \(8,\); it must be \(3,\), contiguous"):
        on.native.sgd_step([x.array], [x.array], [x.array], [x.array], on.stream)
    on.stream.synchronize()
    np.testing.assert_array_equal(np.asarray(x), before)
