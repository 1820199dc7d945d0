"""Softmax and cross entropy against NumPy; the gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import references
from pyalexnet import ops
from pyalexnet.device.tensor import Tensor

SHAPES = [(1, 1), (2, 3), (5, 7), (3, 257), (128, 1000)]
# Exponentials and sums of up to 1000 terms in float32, whose roundings (6e-8 each) partly cancel.
TOLERANCE = {"rtol": 5e-6, "atol": 1e-7}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_softmax_equals_reference(device: str, rng: np.random.Generator, shape: tuple[int, int], scale: float) -> None:
    x = scale * rng.standard_normal(shape, dtype=np.float32)
    np.testing.assert_allclose(np.asarray(ops.softmax(x, device=device)), references.softmax(x), **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_equal_reference(device: str, rng: np.random.Generator, shape: tuple[int, int]) -> None:
    logits = 10 * rng.standard_normal(shape, dtype=np.float32)
    labels = rng.integers(0, shape[1], shape[0], dtype=np.int32)
    losses, dlogits = (np.asarray(t) for t in ops.cross_entropy(logits, labels, device=device))
    # A loss is a difference of numbers up to 80, each rounded by 6e-8 of it.
    np.testing.assert_allclose(losses, references.cross_entropy(logits, labels), rtol=1e-6, atol=1e-5)
    one_hot = np.eye(shape[1])[labels]
    np.testing.assert_allclose(
        dlogits, (references.softmax(logits) - one_hot) / shape[0], rtol=5e-6, atol=1e-6 / shape[0]
    )


def test_gradient_equals_finite_differences(device: str, rng: np.random.Generator) -> None:
    logits = rng.standard_normal((4, 9), dtype=np.float32)
    labels = np.array([0, 8, 3, 3], np.int32)
    _, dlogits = ops.cross_entropy(logits, labels, device=device)
    expected = references.numeric_gradient(lambda x: references.cross_entropy(x, labels), logits, np.full(4, 0.25))
    np.testing.assert_allclose(np.asarray(dlogits), expected, rtol=5e-6, atol=1e-7)


def test_equal_logits_give_the_logarithm_of_their_number(device: str) -> None:
    losses, _ = ops.cross_entropy(np.full((2, 1000), 7.0, np.float32), np.array([0, 999], np.int32), device=device)
    np.testing.assert_allclose(np.asarray(losses), np.log(1000), rtol=1e-6)


def test_large_logits_do_not_overflow(device: str) -> None:
    x = np.array([[1e30, 1.0, -1e30], [1e4, 1e4, -1e4]], np.float32)
    np.testing.assert_array_equal(np.asarray(ops.softmax(x, device=device)), [[1, 0, 0], [0.5, 0.5, 0]])
    losses, _ = ops.cross_entropy(x, np.array([0, 2], np.int32), device=device)
    np.testing.assert_allclose(np.asarray(losses), [0, 2e4 + np.log(2)], rtol=1e-6)


def test_nan_fills_its_row_only(device: str) -> None:
    x = np.zeros((3, 300), np.float32)
    x[1, 299] = np.nan
    y = np.asarray(ops.softmax(x, device=device))
    losses, dlogits = (np.asarray(t) for t in ops.cross_entropy(x, np.zeros(3, np.int32), device=device))
    for result in (y, dlogits, losses):
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[[0, 2]]).all()


def test_impossible_labels_are_named_and_their_rows_are_nan(device: str) -> None:
    logits = np.zeros((3, 4), np.float32)
    for label in (4, -1, 2**31 - 1, -(2**31)):
        labels = np.array([0, label, 1], np.int32)
        with pytest.raises(ValueError, match=rf"labels\[1\] is {label}; it must be from 0 to 3"):
            ops.cross_entropy(logits, labels, device=device)
        on = Tensor.from_array(logits, device=device)
        losses, dlogits = (Tensor.empty(shape, device=device) for shape in ((3,), (3, 4)))
        on.device.native.cross_entropy(
            losses.array,
            dlogits.array,
            on.array,
            Tensor.from_array(labels, device=device).array,
            on.device.stream,
        )
        on.device.stream.synchronize()
        for result in (np.asarray(losses), np.asarray(dlogits)):
            assert np.isnan(result[1]).all()
            assert np.isfinite(result[[0, 2]]).all()


def test_repeats_bit_for_bit(device: str, rng: np.random.Generator) -> None:
    logits = rng.standard_normal((16, 1000), dtype=np.float32)
    labels = rng.integers(0, 1000, 16, dtype=np.int32)
    runs = [[np.asarray(t) for t in ops.cross_entropy(logits, labels, device=device)] for _ in range(3)]
    for losses, dlogits in runs[1:]:
        np.testing.assert_array_equal(losses, runs[0][0])
        np.testing.assert_array_equal(dlogits, runs[0][1])


def test_wrong_arguments_are_named(device: str) -> None:
    logits = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"x has shape \(3,\); it must have 2 axes"):
        ops.softmax(logits[0], device=device)
    with pytest.raises(TypeError, match="logits has dtype float64"):
        ops.cross_entropy(logits.astype(np.float64), np.zeros(2, np.int32), device=device)
    with pytest.raises(TypeError, match="labels has dtype float64; it must be int32"):
        ops.cross_entropy(logits, np.zeros(2), device=device)
    with pytest.raises(ValueError, match=r"labels has shape \(3,\); it must be \(2,\)"):
        ops.cross_entropy(logits, np.zeros(3, np.int32), device=device)
    with pytest.raises(ValueError, match=r"logits has shape .* it must not be empty"):
        ops.cross_entropy(logits[:, :0], np.zeros(2, np.int32), device=device)


def test_exponentials_are_good_to_two_units_in_the_last_place(device: str) -> None:
    # Of a row whose maximum is 0 and whose other exponentials vanish beside it, softmax is the exponential itself.
    count = 200_001 if device.startswith(("cpu", "cuda")) else 2_001  # what is simulated takes its time
    differences = np.linspace(-87, -25, count, dtype=np.float32)
    x = np.stack([np.zeros_like(differences), differences], axis=1)
    y = np.asarray(ops.softmax(x, device=device))[:, 1]
    exact = np.exp(differences.astype(np.float64))
    # The device's exponential and the scale, 1 / (1 + 1e-11), each round by one unit at most beside the 2.
    assert (np.abs(y - exact) <= 3 * np.spacing(exact.astype(np.float32))).all()
    tiny = np.asarray(ops.softmax(np.array([[0, -200, -np.inf, -1e30]], np.float32), device=device))
    np.testing.assert_array_equal(tiny, [[1, 0, 0, 0]])


@pytest.mark.parametrize("columns", [3, 300, 1000])
def test_the_gradient_may_take_the_place_of_the_logits(device: str, rng: np.random.Generator, columns: int) -> None:
    logits = 10 * rng.standard_normal((5, columns), dtype=np.float32)
    labels = rng.integers(0, columns, 5, dtype=np.int32)
    losses, dlogits = (np.asarray(t) for t in ops.cross_entropy(logits, labels, device=device))
    inout, found = Tensor.from_array(logits, device=device), Tensor.empty((5,), device=device)
    on = inout.device
    on.native.cross_entropy(
        found.array, inout.array, inout.array, Tensor.from_array(labels, device=device).array, on.stream
    )
    on.stream.synchronize()
    np.testing.assert_array_equal(np.asarray(found), losses)
    np.testing.assert_array_equal(np.asarray(inout), dlogits)
