"""The order in which threads and blocks run is not promised, so no result may depend on it, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import ops
from pyalexnet.device.backend import get_device

Results = tuple[npt.NDArray[np.float32], ...]


def _lrn(rng: np.random.Generator, device: str) -> Results:
    dy, x = (rng.standard_normal((40, 48), dtype=np.float32) for _ in range(2))
    return np.asarray(ops.lrn(x, device=device)), np.asarray(ops.lrn_backward(dy, x, device=device))


def _max_pool2d(rng: np.random.Generator, device: str) -> Results:
    x, dy = (rng.standard_normal((3, s, s, 16), dtype=np.float32) for s in (13, 6))
    y, dx = ops.max_pool2d(x, device=device), ops.max_pool2d_backward(dy, x, device=device)
    return np.asarray(y), np.asarray(dx)


def _dropout(rng: np.random.Generator, device: str) -> Results:
    return (np.asarray(ops.dropout(rng.standard_normal((9, 300), dtype=np.float32), seed=5, device=device)),)


def _cross_entropy(rng: np.random.Generator, device: str) -> Results:
    logits, labels = rng.standard_normal((6, 1000), dtype=np.float32), np.arange(6, dtype=np.int32)
    losses, dlogits = ops.cross_entropy(logits, labels, device=device)
    return np.asarray(losses), np.asarray(dlogits), np.asarray(ops.softmax(logits, device=device))


def _lars(rng: np.random.Generator, device: str) -> Results:
    w, v = ops.sgd_step(*rng.standard_normal((3, 70_000), dtype=np.float32), lr=9, trust=0.001, device=device)
    return np.asarray(w), np.asarray(v)


def _sgd_step(rng: np.random.Generator, device: str) -> Results:
    w, v = ops.sgd_step(*rng.standard_normal((3, 5000), dtype=np.float32), lr=0.1, device=device)
    return np.asarray(w), np.asarray(v)


def _prepare_input(rng: np.random.Generator, device: str) -> Results:
    images = rng.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    offsets, flips = rng.integers(0, 8, (3, 2), dtype=np.int32), np.array([0, 1, 1], np.uint8)
    shifts, mean = rng.random((3, 3), dtype=np.float32), rng.random((40, 40, 3), dtype=np.float32)
    return (np.asarray(ops.prepare_input(images, offsets, flips, shifts, mean, crop=33, device=device)),)


@pytest.fixture(params=["cpu:0", "sim:0"])
def host_device(request: pytest.FixtureRequest) -> Iterator[str]:
    """A device whose order can be chosen; afterwards it is the usual one again."""
    yield request.param
    get_device(request.param).native.set_schedule()


@pytest.mark.parametrize(
    "operation",
    [_lrn, _max_pool2d, _dropout, _cross_entropy, _sgd_step, _lars, _prepare_input],
    ids=lambda o: o.__name__[1:],
)
def test_every_order_gives_the_same_bits(
    host_device: str, operation: Callable[[np.random.Generator, str], Results]
) -> None:
    expected = operation(np.random.default_rng(1), host_device)
    for threads, blocks, seed in (
        ("descending", "descending", 0),
        ("random", "random", 1),
        ("random", "random", 2),
    ):
        get_device(host_device).native.set_schedule(threads, blocks, seed)
        for found, usual in zip(operation(np.random.default_rng(1), host_device), expected, strict=True):
            np.testing.assert_array_equal(found, usual)
