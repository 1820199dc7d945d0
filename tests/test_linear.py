"""The fully connected layer against float64 NumPy; its gradients against finite differences too."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import references
from pyalexnet import ops

SMALL = [(1, 1, 1), (3, 10, 7), (5, 16, 8)]
# batch, inputs, outputs: tails of every target's tiles; sums cut into parts; AlexNet's proportions; one row, of terms
# that are no whole fours.
LARGE = [(20, 300, 130), (130, 64, 250), (2, 3000, 70), (128, 1024, 512), (1, 4096, 1000), (1, 1027, 300), (1, 3, 200)]


def arrays(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    batch, inputs, outputs = shape
    extents = [(batch, inputs), (inputs, outputs), (outputs,), (batch, outputs)]
    x, w, b, dy = (rng.standard_normal(extent, dtype=np.float32) for extent in extents)
    return x, w, b, dy


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SMALL + LARGE)
def test_forward_equals_reference(
    device: str, rng: np.random.Generator, shape: tuple[int, int, int], relu: bool
) -> None:
    x, w, b, _ = arrays(shape, rng)
    expected = x.astype(np.float64) @ w + b
    if relu:
        expected = references.relu(expected)
    references.assert_sums_close(ops.linear(x, w, b, relu=relu, device=device), expected, shape[1])


@pytest.mark.parametrize("shape", SMALL + LARGE)
def test_backward_equals_reference(device: str, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    x, w, _, dy = arrays(shape, rng)
    batch, _, outputs = shape
    references.assert_sums_close(ops.linear_backward_input(dy, w, device=device), dy.astype(np.float64) @ w.T, outputs)
    dw, db = ops.linear_backward_weight(x, dy, device=device)
    references.assert_sums_close(dw, x.T.astype(np.float64) @ dy, batch)
    references.assert_sums_close(db, dy.sum(axis=0, dtype=np.float64), batch)


@pytest.mark.parametrize("shape", SMALL)
def test_backward_equals_finite_differences(device: str, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    x, w, b, dy = arrays(shape, rng)
    dx = references.numeric_gradient(lambda x: x @ w + b, x, dy)
    dw = references.numeric_gradient(lambda w: x @ w + b, w, dy)
    db = references.numeric_gradient(lambda b: x @ w + b, b, dy)
    # The differences' own error, 1e-9, is far below the rounding of float32.
    references.assert_sums_close(ops.linear_backward_input(dy, w, device=device), dx, shape[2])
    actual_dw, actual_db = ops.linear_backward_weight(x, dy, device=device)
    references.assert_sums_close(actual_dw, dw, shape[0])
    references.assert_sums_close(actual_db, db, shape[0])


def test_without_bias(device: str, rng: np.random.Generator) -> None:
    x, w, _, _ = arrays((3, 10, 7), rng)
    references.assert_sums_close(ops.linear(x, w, device=device), x.astype(np.float64) @ w, 10)


@pytest.mark.parametrize("shape", [(3, 10, 7), *LARGE])
def test_repeats_bit_for_bit(device: str, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    x, w, b, dy = arrays(shape, rng)

    def results() -> list[bytes]:
        dw, db = ops.linear_backward_weight(x, dy, device=device)
        y, dx = ops.linear(x, w, b, device=device), ops.linear_backward_input(dy, w, device=device)
        return [np.asarray(result).tobytes() for result in (y, dx, dw, db)]

    first = results()
    assert all(results() == first for _ in range(3))


def test_wrong_arguments_are_named(device: str) -> None:
    x, w, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32), np.ones(3, np.float32)
    with pytest.raises(TypeError, match="x has dtype int32; it must be float32"):
        ops.linear(x.astype(np.int32), w, device=device)
    with pytest.raises(ValueError, match=r"x has shape \(3,\); it must have 2 axes"):
        ops.linear(b, w, device=device)
    with pytest.raises(ValueError, match=r"w has shape \(4, 3\); it must be \(3, outputs\)"):
        ops.linear(x, np.ones((4, 3), np.float32), device=device)
    with pytest.raises(ValueError, match=r"b has shape \(3,\); it must be \(4,\)"):
        ops.linear(x, w, b, device=device)
    with pytest.raises(ValueError, match=r"w has shape \(0, 4\); it must not be empty"):
        ops.linear(x, w[:0], device=device)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 3\); it must be \(batch, 4\)"):
        ops.linear_backward_input(x, w, device=device)
    with pytest.raises(ValueError, match=r"dy has shape \(3, 4\); it must be \(2, outputs\)"):
        ops.linear_backward_weight(x, w, device=device)


@pytest.mark.parametrize("outputs", [2112, 2100], ids=["aligned", "ragged"])
def test_a_gradient_that_no_cache_holds_has_the_bits_of_its_parts(rng: np.random.Generator, outputs: int) -> None:
    inputs = 2100  # dw takes 17.6 MB, beyond what cores leave in their caches
    x, dy = (rng.standard_normal((3, extent), dtype=np.float32) for extent in (inputs, outputs))
    parts = [ops.linear_backward_weight(x, part, device="cpu:0") for part in np.array_split(dy, 4, axis=1)]
    whole = ops.linear_backward_weight(x, dy, device="cpu:0")
    for found, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(
            np.asarray(found), np.concatenate([np.asarray(part) for part in of_parts], axis=-1)
        )


BEHIND_THE_WEIGHTS = """
import numpy as np
from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import Tensor

on, (inputs, outputs), large_page = get_device("cpu:0"), (64, 516), 2 << 20
native = on.native
rng = np.random.default_rng(0)
w = rng.standard_normal((inputs, outputs), dtype=np.float32)
at_the_end = native.Memory(on.index, large_page).array(large_page - w.nbytes, w.shape)
native.copy(at_the_end, Tensor.from_array(w, device="cpu:0").array, on.stream)
algorithms = set()
for rows in range(1, 25):
    x = rng.standard_normal((rows, inputs), dtype=np.float32)
    y, source = Tensor.empty((rows, outputs), device="cpu:0"), Tensor.from_array(x, device="cpu:0")
    plan = native.linear_forward_plan(x=source.array, w=at_the_end)
    algorithms.add(plan.algorithm)
    assert plan.algorithm.startswith("direct_wide_1x" if rows == 1 else "direct_wide"), (rows, plan.algorithm)
    workspace = Tensor.empty((max(1, plan.workspace_bytes // 4),), device="cpu:0")
    native.linear_forward(plan, y.array, source.array, at_the_end, None, False, workspace.array, on.stream)
    on.stream.synchronize()
    # 64 products of about 1, whose sums round by 6e-8 of some 10 at a time.
    np.testing.assert_allclose(np.asarray(y), x.astype(float) @ w, rtol=0, atol=64 * 6e-7)
assert algorithms == {name for name in native.product_algorithms() if name.startswith("direct_wide")}, algorithms
"""


def test_few_rows_read_nothing_behind_the_weights() -> None:
    """Which lie at the end of a mapping of their own, so that who reads on ends by a signal."""
    finished = subprocess.run([sys.executable, "-c", BEHIND_THE_WEIGHTS], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
