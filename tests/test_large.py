"""Arrays of more than 2**31 elements: the last ones are found, not those that a 32-bit index would wrap to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import ops

SHAPE = (1, 8192, 16400, 16)
LAST = np.arange(1, 17, dtype=np.float32)


@pytest.fixture(scope="module")
def zeros_but_the_last_pixel() -> npt.NDArray[np.float32]:
    """Pages of zeros that nothing writes take no memory, so 8 GiB are no burden to read."""
    try:
        x = np.zeros(SHAPE, np.float32)
    except MemoryError:
        pytest.skip("this machine does not lend 8 GiB of address space")
    assert x.size > 2**31
    x[0, -1, -1] = LAST
    return x


def test_pooling(zeros_but_the_last_pixel: npt.NDArray[np.float32]) -> None:
    y = np.asarray(ops.max_pool2d(zeros_but_the_last_pixel, kernel=2, stride=2))
    np.testing.assert_array_equal(y[0, -1, -1], LAST)
    assert np.count_nonzero(y) == len(LAST)


@pytest.mark.long
def test_convolution(zeros_but_the_last_pixel: npt.NDArray[np.float32]) -> None:
    w = np.ones((1, 1, 16, 1), np.float32)
    y = np.asarray(ops.conv2d(zeros_but_the_last_pixel, w))
    assert y[0, -1, -1, 0] == LAST.sum()
    assert np.count_nonzero(y) == 1
    dw, db = ops.conv2d_backward_weight(zeros_but_the_last_pixel, np.ones_like(y), (1, 1))
    np.testing.assert_array_equal(np.asarray(dw).ravel(), LAST)
    assert np.asarray(db)[0] == pytest.approx(y.size, rel=1e-6)
