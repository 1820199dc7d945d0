"""The update rule against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

import references
from pyalexnet import ops

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
        for value in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name} is .*; it must be finite and not negative"):
                ops.sgd_step(x, x, x, device=device, **{**RATES, name: value})
