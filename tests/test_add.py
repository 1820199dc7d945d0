"""Sums of slices: exact, and nothing beside them is touched."""

from __future__ import annotations

import numpy as np
import pytest

from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import Tensor


@pytest.mark.parametrize(("columns", "first", "width"), [(8, 4, 4), (384, 192, 192), (7, 0, 7), (10, 4, 5), (3, 0, 1)])
def test_slices_are_summed(device: str, rng: np.random.Generator, columns: int, first: int, width: int) -> None:
    on = get_device(device)
    a, b = (rng.standard_normal((5, 3, columns), dtype=np.float32) for _ in range(2))
    out = np.full((5, 3, columns), 7.0, np.float32)
    tensors = [Tensor.from_array(array, device=device) for array in (out, a, b)]
    on.native.add_slices(*(t.array.slice_last(first, first + width) for t in tensors), on.stream)
    on.stream.synchronize()
    expected = np.full_like(out, 7.0)
    expected[..., first : first + width] = (a + b)[..., first : first + width]
    np.testing.assert_array_equal(tensors[0].numpy(), expected)


def test_wrong_shapes_are_named(device: str) -> None:
    on = get_device(device)
    a, b = (Tensor.from_array(np.ones(shape, np.float32), device=device) for shape in ((2, 3), (3, 2)))
    with pytest.raises(ValueError, match=r"b has shape \(3, 2\); it must be \(2, 3\)"):
        on.native.add_slices(a.array, a.array, b.array, on.stream)
