"""Hyperbolic tangent against NumPy; its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import references
from pyalexnet import ops
from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import Tensor

# Vectors of every target, their tails, and an AlexNet layer's shape.
SHAPES = [(1,), (3,), (17,), (2, 5, 7), (2, 13, 13, 192)]


def assert_within_ulps(found: np.ndarray, expected: np.ndarray, ulps: float) -> None:
    error = np.abs(found - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert (error <= ulps).all(), f"{np.nanmax(error)} units in the last place"


def test_right_within_five_units_in_the_last_place(device: str) -> None:
    magnitudes = np.concatenate([np.logspace(-37, 0, 5000), np.linspace(0.01, 12, 20001), [50, 3e38]])
    x = np.concatenate([magnitudes, -magnitudes]).astype(np.float32)
    # The doublings and the quotient round 4 to 5 times, which the header states as the kernel's accuracy.
    assert_within_ulps(np.asarray(ops.tanh(x, device=device)), np.tanh(x.astype(np.float64)), 5)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_equals_reference(device: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x = 3 * rng.standard_normal(shape, dtype=np.float32)
    assert_within_ulps(np.asarray(ops.tanh(x, device=device)), np.tanh(x.astype(np.float64)), 5)


def test_zero_infinity_and_nan(device: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan] * 7, np.float32)
    np.testing.assert_array_equal(np.asarray(ops.tanh(x, device=device)), [0.0, 0.0, 1.0, -1.0, np.nan] * 7)


@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_backward_equals_finite_differences(device: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x = rng.standard_normal(shape, dtype=np.float32)
    dy = rng.standard_normal(shape, dtype=np.float32)
    dx = ops.tanh_backward(dy, ops.tanh(x, device=device), device=device)
    # 1 - y² loses as many bits as y is near 1 by: a few 1e-7 of dy, which is of size 1 to 4.
    np.testing.assert_allclose(np.asarray(dx), references.numeric_gradient(np.tanh, x, dy), rtol=0, atol=4e-6)


@pytest.mark.parametrize(("columns", "pitch"), [(5, 7), (8, 16), (16, 32), (33, 64)])
def test_rows_may_lie_apart(device: str, rng: np.random.Generator, columns: int, pitch: int) -> None:
    on, rows = get_device(device), 3
    memory = on.native.Memory(on.index, 4 * rows * pitch)
    whole = Tensor(memory.array(0, [rows, pitch], "float32"), on)
    slices = memory.array(0, [rows, columns], "float32", [pitch, 1])
    x = rng.standard_normal((rows, pitch), dtype=np.float32)
    on.native.copy(whole.array, Tensor.from_array(x, device=device).array, on.stream)
    on.native.tanh_forward(slices, slices, on.stream)
    on.stream.synchronize()
    y = np.array(whole)
    np.testing.assert_array_equal(y[:, columns:], x[:, columns:])
    assert_within_ulps(y[:, :columns], np.tanh(x[:, :columns].astype(np.float64)), 5)
    on.native.tanh_backward(slices, slices, slices, on.stream)  # with dy = y
    on.stream.synchronize()
    found = np.array(whole)
    np.testing.assert_array_equal(found[:, columns:], x[:, columns:])
    np.testing.assert_allclose(found[:, :columns], y[:, :columns] * (1 - y[:, :columns] ** 2), rtol=0, atol=2e-7)


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="x has dtype float64; it must be float32"):
        ops.tanh(x.astype(np.float64), device=device)
    with pytest.raises(ValueError, match=r"x has shape \(0, 3\); it must not be empty"):
        ops.tanh(x[:0], device=device)
    with pytest.raises(ValueError, match=r"y has shape \(3, 2\); it must be \(2, 3\)"):
        ops.tanh_backward(x, np.ones((3, 2), np.float32), device=device)
