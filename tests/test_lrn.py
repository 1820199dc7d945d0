"""LRN against the formula in NumPy; its gradient against finite differences."""

from __future__ import annotations

import re

import numpy as np
import pytest

import references
from pyalexnet import ops
from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import Tensor

# Channels that fill vectors of every target (the paper's towers among them), and some that do not.
CHANNELS = [1, 3, 5, 7, 16, 20, 48, 96, 128]
PAPER = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}
# A strong response, so that every term counts; then even and very wide windows, and other exponents.
STRONG = {"size": 5, "alpha": 0.3, "beta": 0.75, "k": 1.0}
OTHERS = [
    {"size": 1, "alpha": 0.3, "beta": 0.75, "k": 1.0},
    {"size": 4, "alpha": 0.3, "beta": 0.75, "k": 1.0},
    {"size": 3, "alpha": 0.2, "beta": 0.5, "k": 0.5},
    {"size": 5, "alpha": 0.2, "beta": 1.3, "k": 2.0},
    {"size": 99, "alpha": 0.1, "beta": 0.75, "k": 2.0},
    {"size": 5, "alpha": 0.3, "beta": 0.0, "k": 2.0},
]
# A few roundings in the sum, and powers and roots good to a few units in the last place of float32 (6e-8).
TOLERANCE = {"rtol": 3e-6, "atol": 3e-6}


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("numbers", [PAPER, STRONG])
def test_forward_equals_reference(
    device: str, rng: np.random.Generator, channels: int, numbers: dict[str, float]
) -> None:
    x = 3 * rng.standard_normal((2, 3, 5, channels), dtype=np.float32)
    y = ops.lrn(x, device=device, **numbers)
    np.testing.assert_allclose(np.asarray(y), references.lrn(x, **numbers), **TOLERANCE)


@pytest.mark.parametrize("numbers", OTHERS)
@pytest.mark.parametrize("channels", [3, 16])
def test_other_windows_and_powers(
    device: str, rng: np.random.Generator, channels: int, numbers: dict[str, float]
) -> None:
    x = rng.standard_normal((2, channels), dtype=np.float32)
    dy = rng.standard_normal(x.shape, dtype=np.float32)
    y, dx = ops.lrn(x, device=device, **numbers), ops.lrn_backward(dy, x, device=device, **numbers)
    np.testing.assert_allclose(np.asarray(y), references.lrn(x, **numbers), **TOLERANCE)
    expected = references.numeric_gradient(lambda x: references.lrn(x, **numbers), x, dy)
    np.testing.assert_allclose(np.asarray(dx), expected, **TOLERANCE)


@pytest.mark.parametrize("channels", CHANNELS)
def test_backward_equals_finite_differences(device: str, rng: np.random.Generator, channels: int) -> None:
    x = rng.standard_normal((2, channels), dtype=np.float32)
    dy = rng.standard_normal(x.shape, dtype=np.float32)
    dx = ops.lrn_backward(dy, x, device=device, **STRONG)
    expected = references.numeric_gradient(lambda x: references.lrn(x, **STRONG), x, dy)
    np.testing.assert_allclose(np.asarray(dx), expected, **TOLERANCE)


@pytest.mark.parametrize("channels", [5, 16, 48])
def test_backward_reads_dy_out_of_a_wider_array(device: str, rng: np.random.Generator, channels: int) -> None:
    x = rng.standard_normal((6, channels), dtype=np.float32)
    both = rng.standard_normal((6, 2 * channels), dtype=np.float32)
    on, x_there = get_device(device), Tensor.from_array(x, device=device)
    half = Tensor.from_array(both, device=device).array.slice_last(channels, 2 * channels)
    dx = Tensor.empty(x.shape, device=device)
    on.native.lrn_backward(dx.array, half, x_there.array, *STRONG.values(), False, on.stream)
    on.stream.synchronize()
    dense = ops.lrn_backward(both[:, channels:].copy(), x, device=device, **STRONG)
    np.testing.assert_array_equal(np.asarray(dx), np.asarray(dense))


@pytest.mark.parametrize("shape", [(2, 55, 55, 48), (2, 27, 27, 128)])
def test_alexnet_layers_along_a_direction(device: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x, dy, direction = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
    y, dx = ops.lrn(x, device=device, **STRONG), ops.lrn_backward(dy, x, device=device, **STRONG)
    np.testing.assert_allclose(np.asarray(y), references.lrn(x, **STRONG), **TOLERANCE)
    step = 1e-5
    above, below = (references.lrn(x + sign * step * direction.astype(np.float64), **STRONG) for sign in (1, -1))
    expected = np.sum((above - below) * dy) / (2 * step)
    # Errors of 3e-6 an element add up like a random walk over the elements.
    bound = 3e-6 * np.sqrt(x.size)
    assert abs(np.sum(np.asarray(dx, np.float64) * direction) - expected) <= bound


@pytest.mark.parametrize("channels", [7, 48])
def test_backward_goes_on_through_a_relu(device: str, rng: np.random.Generator, channels: int) -> None:
    x = np.maximum(rng.standard_normal((5, channels), dtype=np.float32), 0)
    dy = rng.standard_normal((5, channels), dtype=np.float32)
    apart = ops.relu_backward(ops.lrn_backward(dy, x, device=device), x, device=device)
    np.testing.assert_array_equal(ops.lrn_backward(dy, x, x_from_relu=True, device=device), np.asarray(apart))


@pytest.mark.parametrize("channels", [16, 7])
@pytest.mark.parametrize("numbers", [PAPER, STRONG, {"size": 3, "alpha": 0.2, "beta": 0.5, "k": 0.5}])
def test_right_over_the_whole_range(
    device: str, rng: np.random.Generator, channels: int, numbers: dict[str, float]
) -> None:
    # All magnitudes in one window, then neighbours of one magnitude, the largest included, then one of it alone.
    ladder = np.geomspace(1.2e-38, 3.4028e38, 40).astype(np.float32)[:, None]
    alone = ladder * (np.arange(channels) % 6 == 1)
    x = np.concatenate([references.of_all_magnitudes(rng, 200, channels), ladder.repeat(channels, 1), alone])
    x = x.astype(np.float32)
    y = np.asarray(ops.lrn(x, device=device, **numbers))
    np.testing.assert_allclose(y, references.lrn(x, **numbers), rtol=3e-6, atol=2.4e-38)
    for dy in (rng.standard_normal(x.shape, dtype=np.float32), references.of_all_magnitudes(rng, *x.shape)):
        dx = np.asarray(ops.lrn_backward(dy, x, device=device, **numbers))
        sizes = references.lrn_backward(np.abs(dy), np.abs(x), **numbers)
        references.assert_difference(dx, references.lrn_backward(dy, x, **numbers), sizes, 3e-6)


@pytest.mark.parametrize(
    "numbers",
    [
        {"size": 5, "alpha": 1e-30, "beta": 0.75, "k": 1e-30},
        {"size": 5, "alpha": 1e30, "beta": 0.75, "k": 1.2e-38},
        {"size": 5, "alpha": 3e38, "beta": 0.75, "k": 3e38},
        {"size": 5, "alpha": 0.0, "beta": 0.75, "k": 1e-20},
        {"size": 3, "alpha": 1e-3, "beta": 4.0, "k": 1e-6},
    ],
)
def test_right_with_extreme_numbers(device: str, rng: np.random.Generator, numbers: dict[str, float]) -> None:
    x, dy = (references.of_all_magnitudes(rng, 100, 16) for _ in range(2))
    numbers |= {name: float(np.float32(numbers[name])) for name in ("alpha", "k")}
    y = np.asarray(ops.lrn(x, device=device, **numbers))
    expected = references.lrn(x, **numbers)
    references.assert_difference(y, (expected, 0 * expected), (np.abs(expected), 0 * expected), 3e-6)
    dx = np.asarray(ops.lrn_backward(dy, x, device=device, **numbers))
    sizes = references.lrn_backward(np.abs(dy), np.abs(x), **numbers)
    references.assert_difference(dx, references.lrn_backward(dy, x, **numbers), sizes, 3e-6)


def test_infinity_and_nan_give_what_the_formula_makes_of_them(device: str) -> None:
    for channels in (48, 7):
        x = np.ones((2, channels), np.float32)
        x[0, 3] = np.inf
        x[1, 3] = np.nan
        y = np.asarray(ops.lrn(x, device=device))
        assert np.flatnonzero(np.isnan(y[0])).tolist() == [3]
        assert (y[0, [1, 2, 4, 5]] == 0).all()
        assert (y[0, 6:] > 0).all()
        assert np.flatnonzero(np.isnan(y[1])).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("channels", [16, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 5])
def test_windows_of_every_size_are_onnx_s(device: str, rng: np.random.Generator, channels: int, size: int) -> None:
    """(size - 1) // 2 channels before, size // 2 behind: an impulse shows how far a window reaches."""
    x = np.zeros((1, channels), np.float32)
    x[0, 3] = 1
    numbers = {"size": size, "alpha": 1.0, "beta": 0.75, "k": 1.0}
    ones = np.ones_like(x)
    reached = [
        i for i in range(channels) if np.asarray(ops.lrn(x + 1e-3 * ones, device=device, **numbers))[0, i] < 9e-4
    ]
    expected = [i for i in range(channels) if i - (size - 1) // 2 <= 3 <= i + size // 2 and i != 3]
    assert reached == expected
    dy = rng.standard_normal((4, channels), dtype=np.float32)
    x = rng.standard_normal((4, channels), dtype=np.float32)
    dx = np.asarray(ops.lrn_backward(dy, x, device=device, **numbers))
    np.testing.assert_allclose(
        dx, references.numeric_gradient(lambda x: references.lrn(x, **numbers), x, dy), **TOLERANCE
    )


def test_zero_stays_zero_and_nan_reaches_its_neighbours_only(device: str) -> None:
    x = np.zeros((3, 48), np.float32)
    x[1, 0] = x[1, 20] = np.nan
    y = np.asarray(ops.lrn(x, device=device))
    assert (y[[0, 2]] == 0).all()
    assert np.flatnonzero(np.isnan(y[1])).tolist() == [0, 1, 2, 18, 19, 20, 21, 22]


@pytest.mark.parametrize("channels", [48, 7])
def test_repeats_bit_for_bit(device: str, rng: np.random.Generator, channels: int) -> None:
    x, dy = (rng.standard_normal((4, 9, 9, channels), dtype=np.float32) for _ in range(2))
    first, again = (np.asarray(ops.lrn_backward(dy, x, device=device)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((2, 4), np.float32)
    with pytest.raises(TypeError, match="x has dtype float64; it must be float32"):
        ops.lrn(x.astype(np.float64), device=device)
    with pytest.raises(ValueError, match=r"x has shape \(0, 4\); it must not be empty"):
        ops.lrn(x[:0], device=device)
    with pytest.raises(ValueError, match=r"dy has shape \(4, 2\); it must be \(2, 4\)"):
        ops.lrn_backward(x.reshape(4, 2), x, device=device)
    with pytest.raises(ValueError, match="x is a scalar; it must have at least one axis"):
        ops.lrn(x[0, 0], device=device)
    with pytest.raises(TypeError, match=r"size is 2\.5; it must be an integer"):
        ops.lrn(x, size=2.5, device=device)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="beta is 'large'; it must be a number"):
        ops.lrn_backward(x, x, beta="large", device=device)  # type: ignore[arg-type]
    for name, values in (
        ("size", [0, -3]),
        ("alpha", [-1.0, np.nan, np.inf, 1e-40, 1e39]),
        ("beta", [-0.5, np.nan]),
        ("k", [0.0, -2.0, np.nan, 1e-40, 1e39]),
    ):
        for value in values:
            with pytest.raises(ValueError, match=f"{name} is {re.escape(f'{value:g}')}; it must be"):
                ops.lrn(x, device=device, **{name: value})
            with pytest.raises(ValueError, match=f"{name} is"):
                ops.lrn_backward(x, x, device=device, **{name: value})
