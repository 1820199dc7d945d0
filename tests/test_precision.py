"""Products whose operands are rounded: which numbers are multiplied, to the bit, and how well they are added up."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

import references
from pyalexnet import AlexNet, ops
from pyalexnet.architecture import Precision
from pyalexnet.device.backend import get_device

Floats = npt.NDArray[np.float32]

ROUNDED = ("tf32", "bf16")
PRECISIONS = (*ROUNDED, "tf32x3")

# Of a product in tf32x3, what is left out of it: see src/device/precision.cuh.
LEFT_OUT = 2.0**-19.6

# Rows, terms and columns: within one instruction, beside and beyond tiles and slices, with sums in parts.
SHAPES = [(1, 1, 1), (16, 8, 8), (5, 17, 9), (129, 31, 65), (128, 48, 128), (131, 1100, 70)]


@pytest.fixture
def tensor_device(device: str) -> str:
    """A device that can multiply in every precision."""
    handle = get_device(device)
    if not handle.native.device_info(handle.index)["tensor_cores"]:
        pytest.skip(f"{device} has no tensor cores")
    return device


def rounded(x: npt.ArrayLike, precision: str) -> Floats:
    """To the nearest number of the precision, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    if precision == "tf32":
        return ((bits + np.uint32(0xFFF) + (bits >> 13 & 1)) & np.uint32(0xFFFFE000)).view(np.float32)
    if precision == "bf16":
        return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.asarray(x, np.float32)


def assert_close(actual: Any, expected: npt.NDArray[Any], size: npt.NDArray[Any], terms: int, precision: str) -> None:
    """Against sums of exact products whose magnitudes add up to ``size``.

    Each of the sums is rounded, or by a GPU's tensor cores cut off (2**-23); where there are parts, they are added too.
    """
    relative = (terms + 16) * 2.0**-23 + (LEFT_OUT if precision == "tf32x3" else 0.0)
    difference = np.abs(np.asarray(actual, float) - expected)
    assert np.all(difference <= relative * size), (difference / size).max()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear(
    tensor_device: str, precision: Precision, shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    rows, terms, columns = shape
    x = rng.standard_normal((rows, terms), dtype=np.float32)
    w = rng.standard_normal((terms, columns), dtype=np.float32)
    dy = rng.standard_normal((rows, columns), dtype=np.float32)
    b = rng.standard_normal(columns, dtype=np.float32)
    how: dict[str, Any] = {"device": tensor_device, "precision": precision}
    a, v, g = (rounded(array, precision).astype(float) for array in (x, w, dy))
    size = abs(a) @ abs(v) + abs(b)
    assert_close(ops.linear(x, w, b, **how).numpy(), a @ v + b, size, terms, precision)
    assert_close(ops.linear_backward_input(dy, w, **how).numpy(), g @ v.T, abs(g) @ abs(v.T), columns, precision)
    dw, db = ops.linear_backward_weight(x, dy, **how)
    assert_close(dw.numpy(), a.T @ g, abs(a.T) @ abs(g), rows, precision)
    assert_close(db.numpy(), g.sum(0), abs(g).sum(0), rows, precision)


CONVOLUTIONS = [
    # x, w, and how they meet: conv1's ragged runs, conv3's maps of 13 pixels, groups, what is no multiple of anything
    ((1, 19, 43, 3), (11, 11, 3, 48), {"stride": 4}),
    ((2, 13, 13, 48), (3, 3, 48, 64), {"padding": 1}),
    ((2, 6, 5, 8), (3, 3, 4, 12), {"padding": 2, "groups": 2}),
    ((1, 5, 7, 3), (3, 2, 3, 5), {"stride": 2, "padding": 1}),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: "x".join(map(str, case[0])))
def test_convolution(
    tensor_device: str,
    precision: Precision,
    case: tuple[tuple[int, ...], tuple[int, ...], dict[str, int]],
    rng: np.random.Generator,
) -> None:
    x = rng.standard_normal(case[0], dtype=np.float32)
    w = rng.standard_normal(case[1], dtype=np.float32)
    places = case[2]
    a, v = rounded(x, precision).astype(float), rounded(w, precision).astype(float)
    y = references.conv2d(a, v, **places)
    dy = rng.standard_normal(y.shape, dtype=np.float32)
    g = rounded(dy, precision).astype(float)
    how: dict[str, Any] = {"device": tensor_device, "precision": precision, "algorithm": "direct", **places}
    terms = int(np.prod(w.shape[:3]))
    assert_close(ops.conv2d(x, w, **how).numpy(), y, references.conv2d(abs(a), abs(v), **places), terms, precision)
    dx, dw, db = references.conv2d_backward(g, a, v, **places)
    dx_size, dw_size, db_size = references.conv2d_backward(abs(g), abs(a), abs(v), **places)
    filters = w.shape[0] * w.shape[1] * w.shape[3]
    actual_dx = ops.conv2d_backward_input(dy, w, x.shape, **how).numpy()
    assert_close(actual_dx, dx, dx_size + 1e-30, filters, precision)
    actual_dw, actual_db = ops.conv2d_backward_weight(x, dy, w.shape[:2], **how)
    pixels = int(np.prod(dy.shape[:3]))
    assert_close(actual_dw.numpy(), dw, dw_size + 1e-30, pixels, precision)
    assert_close(actual_db.numpy(), db, db_size, pixels, precision)


# Ties of tf32 and of bf16, just beside them, the largest number and what rounds to infinity.
EDGES = np.array(
    [1.0, 1 + 2**-11, 1 + 2**-11 - 2**-23, 1 + 2**-11 + 2**-23, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8,
     1 + 2**-8 + 2**-23, 0.0, 2.0**-126, 3.3895314e38, np.finfo(np.float32).max, np.inf],
    np.float32,
)  # fmt: skip


@pytest.mark.parametrize("precision", ROUNDED)
def test_operands_are_rounded_to_the_bit(tensor_device: str, precision: Precision) -> None:
    """By either side of a product with 1, which is exact."""
    edges = np.concatenate([EDGES, -EDGES])[:, None]
    expected = rounded(edges, precision)
    one = np.ones((1, 1), np.float32)
    how: dict[str, Any] = {"device": tensor_device, "precision": precision}
    np.testing.assert_array_equal(ops.linear(edges, one, **how).numpy(), expected)
    np.testing.assert_array_equal(ops.linear(one, np.ascontiguousarray(edges.T), **how).numpy(), expected.T)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex)
def test_nan_stays_nan(tensor_device: str, precision: Precision, bits: int) -> None:
    """A quiet one, as arithmetic gives, whatever its bits: adding to them must not make a number of it."""
    nan = np.array(bits, np.uint32).view(np.float32)
    x, w = np.ones((3, 20), np.float32), np.ones((20, 4), np.float32)
    x[1, 7] = nan
    y = ops.linear(x, w, device=tensor_device, precision=precision).numpy()
    np.testing.assert_array_equal(np.isnan(y), [[False] * 4, [True] * 4, [False] * 4])
    assert (y[[0, 2]] == 20).all()
    w[3, 2] = nan
    y = ops.linear(x, w, device=tensor_device, precision=precision).numpy()
    assert np.isnan(y[:, 2]).all()
    assert (y[0, [0, 1, 3]] == 20).all()


def test_tf32x3_is_as_good_as_float32(tensor_device: str, rng: np.random.Generator) -> None:
    """Over sums of 1000 terms, within twice the error of float32's own products and sums."""
    x = rng.standard_normal((64, 1000), dtype=np.float32)
    w = rng.standard_normal((1000, 64), dtype=np.float32)
    exact = x.astype(float) @ w
    errors = {}
    for precision in get_args(Precision):
        y = ops.linear(x, w, device=tensor_device, precision=precision).numpy()
        errors[precision] = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    assert errors["tf32x3"] < 2 * errors["fp32"]
    assert 1e-4 < errors["tf32"] < 5e-4 < errors["bf16"] < 5e-3


def test_precision_is_checked(device: str) -> None:
    x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    with pytest.raises(TypeError, match="precision is 3; it must be one of fp32, tf32, bf16, tf32x3"):
        ops.linear(x, w, device=device, precision=3)  # type: ignore[arg-type]
    handle = get_device(device)
    if handle.native.device_info(handle.index)["tensor_cores"]:
        with pytest.raises(ValueError, match="precision is 'fp16'; it must be one of fp32, tf32, bf16, tf32x3"):
            ops.linear(x, w, device=device, precision="fp16")  # type: ignore[arg-type]
    else:
        refused = "precision is 'tf32'; on .*, which has no tensor cores for it .*, it must be 'fp32'"
        with pytest.raises(ValueError, match=refused):
            ops.linear(x, w, device=device, precision="tf32")
        with pytest.raises(ValueError, match=refused):
            AlexNet(4, devices=[device], precision="tf32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_net_learns_in_it(precision: Precision, rng: np.random.Generator) -> None:
    """Every product of the net, forward and backward, is of that precision, and the loss falls as in float32."""
    x = rng.integers(0, 256, (4, 227, 227, 3)).astype(np.float32)
    labels = np.arange(4)
    losses = {}
    for each in ("fp32", precision):
        net = AlexNet(4, devices=["cpu:0"], precision=each, conv_algorithm="direct", dropout=0.0)  # type: ignore[arg-type]
        losses[each] = [net.train_step(x, labels, lr=1e-4) for _ in range(3)]
        program = net.program(4, training=True)
        entries = [entry for entry in (*program.forward, *program.backward) if "plan" in entry.arguments]
        assert {entry.arguments["plan"].precision for entry in entries} == {each}
    np.testing.assert_allclose(losses[precision], losses["fp32"], rtol=0.05)
    assert losses[precision] != losses["fp32"]
    assert losses[precision][-1] < losses[precision][0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_image_has_the_same_bits_alone_and_in_a_batch(precision: Precision, rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (5, 227, 227, 3)).astype(np.float32)
    net = AlexNet(4, devices=["cpu:0"], precision=precision)
    together = net.forward(x)
    for i, image in enumerate(x):
        np.testing.assert_array_equal(net.forward(image[None])[0], together[i])
