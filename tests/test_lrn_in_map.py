"""Normalisation within a map against the formula in NumPy; its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import references
from pyalexnet import ops

# The 2012 code's numbers; then a strong response, so that every term counts; then other windows and exponents.
SOURCE2012 = {"size": 5, "alpha": 4e-5, "beta": 0.75, "k": 1.0}
STRONG = {"size": 5, "alpha": 0.05, "beta": 0.75, "k": 1.0}
OTHERS = [
    {"size": 1, "alpha": 0.3, "beta": 0.75, "k": 1.0},
    {"size": 4, "alpha": 0.1, "beta": 0.75, "k": 1.0},
    {"size": 3, "alpha": 0.2, "beta": 0.5, "k": 0.5},
    {"size": 5, "alpha": 0.2, "beta": 1.3, "k": 2.0},
    {"size": 99, "alpha": 0.02, "beta": 0.75, "k": 2.0},
    {"size": 5, "alpha": 0.3, "beta": 0.0, "k": 2.0},
]
# Sums of up to 25 squares, powers and roots good to a few units in the last place of float32 (6e-8).
TOLERANCE = {"rtol": 5e-6, "atol": 5e-6}


@pytest.mark.parametrize("shape", [(2, 7, 6, 16), (1, 3, 9, 20), (3, 1, 1, 5), (1, 27, 27, 128)])
@pytest.mark.parametrize("numbers", [SOURCE2012, STRONG])
def test_forward_equals_reference(
    device: str, rng: np.random.Generator, shape: tuple[int, ...], numbers: dict[str, float]
) -> None:
    x = 3 * rng.standard_normal(shape, dtype=np.float32)
    y, scale = ops.lrn_in_map(x, device=device, **numbers)
    np.testing.assert_allclose(np.asarray(y), references.lrn_in_map(x, **numbers), **TOLERANCE)
    expected = references.lrn_in_map_scale(x, numbers["size"], numbers["alpha"], numbers["k"])
    np.testing.assert_allclose(np.asarray(scale), expected, rtol=3e-6)


@pytest.mark.parametrize("numbers", [STRONG, *OTHERS])
@pytest.mark.parametrize("channels", [3, 16])
def test_backward_equals_finite_differences(
    device: str, rng: np.random.Generator, channels: int, numbers: dict[str, float]
) -> None:
    x = rng.standard_normal((2, 4, 5, channels), dtype=np.float32)
    dy = rng.standard_normal(x.shape, dtype=np.float32)
    y, scale = ops.lrn_in_map(x, device=device, **numbers)
    np.testing.assert_allclose(np.asarray(y), references.lrn_in_map(x, **numbers), **TOLERANCE)
    dx = ops.lrn_in_map_backward(dy, x, scale, device=device, **numbers)
    expected = references.numeric_gradient(lambda x: references.lrn_in_map(x, **numbers), x, dy)
    np.testing.assert_allclose(np.asarray(dx), expected, **TOLERANCE)


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("numbers", [SOURCE2012, STRONG, {"size": 2, "alpha": 0.2, "beta": 0.5, "k": 0.5}])
def test_right_over_the_whole_range(
    device: str, rng: np.random.Generator, channels: int, numbers: dict[str, float]
) -> None:
    ladder = np.geomspace(1.2e-38, 3.4028e38, 24).astype(np.float32).reshape(6, 4)[None, :, :, None]
    x = np.concatenate([references.of_all_magnitudes(rng, 2, 6, 4, channels), ladder.repeat(channels, 3)])
    y, scale = ops.lrn_in_map(x, device=device, **numbers)
    np.testing.assert_allclose(np.asarray(y), references.lrn_in_map(x, **numbers), rtol=5e-6, atol=2.4e-38)
    for dy in (rng.standard_normal(x.shape, dtype=np.float32), references.of_all_magnitudes(rng, *x.shape)):
        dx = np.asarray(ops.lrn_in_map_backward(dy, x, scale, device=device, **numbers))
        sizes = references.lrn_in_map_backward(np.abs(dy), np.abs(x), **numbers)
        references.assert_difference(dx, references.lrn_in_map_backward(dy, x, **numbers), sizes, 5e-6)


def test_nan_reaches_its_neighbours_only(device: str) -> None:
    x = np.zeros((2, 9, 9, 4), np.float32)
    x[1, 4, 0, 2] = np.nan
    y = np.asarray(ops.lrn_in_map(x, device=device)[0])
    reached = np.zeros_like(x, dtype=bool)
    reached[1, 2:7, :3, 2] = True
    np.testing.assert_array_equal(np.isnan(y), reached)
    assert (y[~reached] == 0).all()


def test_repeats_bit_for_bit(device: str, rng: np.random.Generator) -> None:
    x, dy = (rng.standard_normal((2, 9, 9, 20), dtype=np.float32) for _ in range(2))
    _, scale = ops.lrn_in_map(x, device=device)
    first, again = (np.asarray(ops.lrn_in_map_backward(dy, x, scale, device=device)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((1, 2, 2, 4), np.float32)
    with pytest.raises(TypeError, match="x has dtype float64; it must be float32"):
        ops.lrn_in_map(x.astype(np.float64), device=device)
    with pytest.raises(ValueError, match=r"x has shape \(2, 4\); it must .*images, height, width, channels"):
        ops.lrn_in_map(x[0, 0], device=device)
    with pytest.raises(ValueError, match=r"scale has shape \(1, 2, 4, 2\); it must be \(1, 2, 2, 4\)"):
        ops.lrn_in_map_backward(x, x, x.reshape(1, 2, 4, 2), device=device)
    for name, value in (("size", 0), ("alpha", -1.0), ("beta", np.nan), ("k", 0.0)):
        with pytest.raises(ValueError, match=f"{name} is {value:g}; it must be"):
            ops.lrn_in_map(x, device=device, **{name: value})
        with pytest.raises(ValueError, match=f"{name} is"):
            ops.lrn_in_map_backward(x, x, x, device=device, **{name: value})
