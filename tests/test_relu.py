"""ReLU against NumPy; its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import references
from pyalexnet import ops

# Vectors of every target, their tails, and an AlexNet layer's shape.
SHAPES = [(1,), (3,), (17,), (2, 5, 7), (2, 13, 13, 192)]


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_equals_reference(device: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x = rng.standard_normal(shape, dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(ops.relu(x, device=device)), references.relu(x))


@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_backward_equals_finite_differences(device: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x = rng.standard_normal(shape, dtype=np.float32)
    x[np.abs(x) < 1e-3] = 0.5  # keep away from the kink, where differences mean nothing
    dy = rng.standard_normal(shape, dtype=np.float32)
    dx = ops.relu_backward(dy, ops.relu(x, device=device), device=device)
    # The kernel only copies or zeroes dy; 1e-7 covers the differences' own error.
    np.testing.assert_allclose(
        np.asarray(dx), references.numeric_gradient(references.relu, x, dy), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("shape", [(3, 17), (128, 2048)])
def test_backward_through_dropout_needs_no_mask(device: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
    x.flat[3], x.flat[4], dy.flat[5] = np.nan, np.inf, np.nan
    draw = {"p": 0.25, "seed": 7, "offset": 3}
    y = ops.dropout(ops.relu(x, device=device), **draw)
    in_turn = ops.relu_backward(ops.dropout_backward(dy, **draw, device=device), y)
    assert 0 < np.count_nonzero(np.asarray(in_turn)) < dy.size
    np.testing.assert_array_equal(np.asarray(ops.relu_backward(dy, y, scale=1 / 0.75)), np.asarray(in_turn))


def test_nan_stays_nan(device: str) -> None:
    y = np.asarray(ops.relu(np.array([np.nan, -1.0, 2.0] * 11, np.float32), device=device))
    assert np.isnan(y[::3]).all()
    assert (y[1::3] == 0).all()
    assert (y[2::3] == 2).all()


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="x has dtype float64; it must be float32"):
        ops.relu(x.astype(np.float64), device=device)
    with pytest.raises(TypeError, match="x is a list"):
        ops.relu([1.0], device=device)
    with pytest.raises(ValueError, match=r"x has shape \(0, 3\); it must not be empty"):
        ops.relu(x[:0], device=device)
    with pytest.raises(ValueError, match=r"y has shape \(3, 2\); it must be \(2, 3\)"):
        ops.relu_backward(x, np.ones((3, 2), np.float32), device=device)
