"""Every algorithm of a device computes what the others do, and is refused by name where there is none of that name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import pyalexnet
import references
from pyalexnet import ops
from pyalexnet.device.backend import get_device

# Columns that fill no tile, a narrow one, a wide one and more than that.
COLUMNS = [5, 60, 128, 130]


def names(algorithms: Callable[[str], Sequence[str]]) -> list[tuple[str, str]]:
    """Each device with each of its algorithms."""
    here = {info.name for info in pyalexnet.devices()} & {"cpu:0", "sim:0", "cuda:0"}
    return [(device, algorithm) for device in sorted(here) for algorithm in algorithms(device)]


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize(("device", "algorithm"), names(ops.conv_algorithms))
def test_convolution(device: str, algorithm: str, columns: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 9, 8, 12), dtype=np.float32)
    w = rng.standard_normal((3, 3, 12, columns), dtype=np.float32)
    dy = rng.standard_normal((2, 9, 8, columns), dtype=np.float32)
    how = {"device": device, "algorithm": algorithm}
    dx, dw, db = references.conv2d_backward(dy, x, w, padding=1)
    references.assert_sums_close(ops.conv2d(x, w, padding=1, **how), references.conv2d(x, w, padding=1), 108)
    references.assert_sums_close(ops.conv2d_backward_input(dy, w, x.shape, padding=1, **how), dx, 9 * columns)
    actual_dw, actual_db = ops.conv2d_backward_weight(x, dy, 3, padding=1, **how)
    references.assert_sums_close(actual_dw, dw, 144)
    references.assert_sums_close(actual_db, db, 144)


@pytest.mark.parametrize(("device", "algorithm"), names(ops.product_algorithms))
def test_linear(device: str, algorithm: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 1100), dtype=np.float32)  # sums in parts
    w = rng.standard_normal((1100, 70), dtype=np.float32)
    dy = rng.standard_normal((3, 70), dtype=np.float32)
    how = {"device": device, "algorithm": algorithm}
    references.assert_sums_close(ops.linear(x, w, **how), x.astype(float) @ w, 1100)
    references.assert_sums_close(ops.linear_backward_input(dy, w, **how), dy.astype(float) @ w.T, 70)
    dw, db = ops.linear_backward_weight(x, dy, **how)
    references.assert_sums_close(dw, x.T.astype(float) @ dy, 8)
    references.assert_sums_close(db, dy.sum(axis=0, dtype=float), 8)


def test_the_plan_says_what_was_asked_for(device: str) -> None:
    native = get_device(device).native
    for algorithm in ops.product_algorithms(device):
        parts = set()
        for terms in (100, 512, 1024, 5000):  # sums whole on each target, in two parts on one or another, in more
            plan = native.linear_forward_plan(x=np.ones((3, terms)), w=np.ones((terms, 70)), algorithm=algorithm)
            assert (plan.operation, plan.algorithm) == ("linear_forward", algorithm)
            assert str(plan) == (algorithm if plan.parts == 1 else f"{algorithm} in {plan.parts} parts")
            assert plan.workspace_bytes == (0 if plan.parts == 1 else 4 * plan.parts * 3 * 70)
            parts.add(plan.parts)
        assert parts > {1, 2}


def test_a_tile_is_chosen_that_wastes_least(device: str) -> None:
    """Of the tiles in the algorithms' names, the one whose columns reach least beyond the matrix."""
    native = get_device(device).native
    algorithms = set(ops.product_algorithms(device)) - {"direct_128x48"}  # for convolutions' ragged runs alone
    widths = {name: int(name.rpartition("x")[2]) for name in algorithms}
    for columns in (48, 64, 96, 128, 192, 1000):
        plan = native.linear_forward_plan(x=np.ones((128, 64)), w=np.ones((64, columns)))
        wasted = {name: -columns % width for name, width in widths.items()}
        assert wasted[plan.algorithm] == min(wasted.values())


def test_other_names_are_refused(device: str) -> None:
    x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    known = re.escape(", ".join(ops.product_algorithms(device)))
    with pytest.raises(ValueError, match=f"algorithm is 'karatsuba'; on this device it must be one of {known}"):
        ops.linear(x, w, device=device, algorithm="karatsuba")
    with pytest.raises(TypeError, match=f"algorithm is 3; it must be one of {known}"):
        ops.linear(x, w, device=device, algorithm=3)  # type: ignore[arg-type]
    image, kernel = np.ones((1, 3, 3, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    known = re.escape(", ".join(ops.conv_algorithms(device)))
    with pytest.raises(ValueError, match=f"algorithm is 'karatsuba'; on this device it must be one of {known}"):
        ops.conv2d(image, kernel, device=device, algorithm="karatsuba")
    with pytest.raises(TypeError, match=f"algorithm is 3; it must be one of {known}"):
        ops.conv2d(image, kernel, device=device, algorithm=3)  # type: ignore[arg-type]


def test_a_plan_serves_its_own_operation_and_shapes_alone(device: str) -> None:
    on = get_device(device)
    x, w, y, scratch = (
        pyalexnet.Tensor.empty(shape, device=device).array for shape in ((2, 3), (3, 4), (2, 4), (1 << 16,))
    )
    rest = {"w": w, "workspace": scratch, "stream": on.stream}
    backward = on.native.linear_backward_input_plan(dx=x, w=w)
    with pytest.raises(ValueError, match="plan is one of linear_backward_input; it must be one of linear_forward"):
        on.native.linear_forward(backward, y=y, x=x, b=None, relu=False, **rest)
    other = on.native.linear_forward_plan(x=x, w=np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"[wy] has shape \([23], 4\); it must be \([23], 5\)"):
        on.native.linear_forward(other, y=y, x=x, b=None, relu=False, **rest)
