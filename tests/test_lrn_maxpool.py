"""LRN and max pooling in one kernel: the bits of the two kernels, and the gradient against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import references
from pyalexnet import AlexNet, ops
from pyalexnet.device.backend import get_device
from pyalexnet.device.native import NativeArray
from pyalexnet.device.tensor import Tensor

Floats = npt.NDArray[np.float32]

POOL = {"kernel": 3, "stride": 2, "padding": 0}
PAPER = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}
# A strong response, so that every term counts.
STRONG = {"size": 5, "alpha": 0.3, "beta": 0.75, "k": 1.0}
# (images, height, width, channels): the towers' maps; the least there is; even sides, whose last row or column no
# window holds; more windows aside and below, and more channels, than a core's thread takes at a time.
SHAPES = [
    (2, 55, 55, 48),
    (2, 27, 27, 128),
    (1, 3, 3, 16),
    (2, 4, 6, 32),
    (3, 8, 3, 16),
    (1, 17, 62, 16),
    (1, 5, 9, 272),
]
KINDS = ["normal", "after a ReLU", "ties", "NaN", "infinite", "huge", "signed zeros"]


def some_x(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Floats:
    """Values of a kind, on which the kernels' ways part."""
    x = rng.standard_normal(shape, dtype=np.float32)
    some = rng.random(shape) < 0.02
    if kind == "after a ReLU":
        x = np.maximum(x, 0)
    elif kind == "ties":
        x = rng.integers(-1, 2, shape).astype(np.float32)
    elif kind == "NaN":
        x[some] = np.nan
    elif kind == "infinite":
        x[some] = np.inf
    elif kind == "huge":
        x[some] = np.float32(3e38)
    elif kind == "signed zeros":
        x = np.where(rng.random(shape) < 0.5, np.float32(0.0), np.float32(-0.0))
    return x


class Case:
    """x, dy and a device; y and dy are the right halves of arrays twice as wide where that is asked for."""

    def __init__(
        self,
        device: str,
        x: Floats,
        dy: Floats,
        numbers: dict[str, Any],
        *,
        x_from_relu: bool = False,
        wide: bool = False,
    ) -> None:
        self.device, self.wide = device, wide
        self.native, self.stream = get_device(device).native, get_device(device).stream
        self.forward = {**numbers, **POOL}
        self.backward = {**self.forward, "x_from_relu": x_from_relu}
        self.numbers, self.x_from_relu = numbers, x_from_relu
        self.x, self.whole_dy = self.tensor(x), self.tensor(np.tile(dy, 2) if wide else dy)
        self.pooled_shape = dy.shape

    def tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return Tensor.from_array(values, device=self.device)

    def part(self, whole: Tensor) -> NativeArray:
        """What of y or dy is used."""
        channels = whole.shape[-1]
        return whole.array.slice_last(channels // 2, channels) if self.wide else whole.array

    def new_y(self) -> Tensor:
        """Where y is written; what is not written stays 7."""
        return self.tensor(np.tile(np.full(self.pooled_shape, 7, np.float32), 2 if self.wide else 1))

    def new_map(self) -> Tensor:
        return self.tensor(np.full(self.x.shape, np.nan, np.float32))

    def apart(self) -> tuple[Floats, Floats]:
        """Y and dx by the kernels of each."""
        y, z, dz, dx = self.new_y(), *(self.new_map() for _ in range(3))
        native, stream = self.native, self.stream
        native.lrn_forward(z.array, self.x.array, **self.numbers, stream=stream)
        native.maxpool_forward(self.part(y), z.array, **POOL, stream=stream)
        native.maxpool_backward(dz.array, self.part(self.whole_dy), z.array, **POOL, x_from_relu=False, stream=stream)
        native.lrn_backward(
            dx.array, dz.array, self.x.array, **self.numbers, x_from_relu=self.x_from_relu, stream=stream
        )
        stream.synchronize()
        return np.array(y), np.array(dx)

    def together(self) -> tuple[Floats, Floats, npt.NDArray[np.uint8]]:
        """y, dx and the winners by the kernels of both."""
        y, dx, winners = self.new_y(), self.new_map(), self.tensor(np.full(self.pooled_shape, 255, np.uint8))
        x, dy = self.x.array, self.part(self.whole_dy)
        self.native.lrn_maxpool_forward(self.part(y), winners.array, x, **self.forward, stream=self.stream)
        self.native.lrn_maxpool_backward(dx.array, dy, winners.array, x, **self.backward, stream=self.stream)
        self.stream.synchronize()
        return np.array(y), np.array(dx), np.array(winners)

    def forward_alone(self) -> Floats:
        """Y where nobody asks for the winners."""
        y = self.new_y()
        self.native.lrn_maxpool_forward(self.part(y), None, self.x.array, **self.forward, stream=self.stream)
        self.stream.synchronize()
        return np.array(y)


def assert_same_bits(a: Floats, b: Floats) -> None:
    """Of equal sign where zero, NaN where NaN."""
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)]))


def pooled(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], (shape[1] - 3) // 2 + 1, (shape[2] - 3) // 2 + 1, shape[3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_are_those_of_two_kernels(
    device: str, rng: np.random.Generator, shape: tuple[int, ...], kind: str
) -> None:
    if shape[1] > 20 and not device.startswith(("cpu", "cuda")):
        shape = (1, shape[1] // 3, shape[2] // 3, shape[3])  # the others take their time
    x, dy = some_x(rng, shape, kind), rng.standard_normal(pooled(shape), dtype=np.float32)
    case = Case(device, x, dy, STRONG, x_from_relu=kind == "after a ReLU")
    (y, dx), (fused_y, fused_dx, winners) = case.apart(), case.together()
    assert_same_bits(fused_y, y)
    assert_same_bits(fused_dx, dx)
    assert_same_bits(case.forward_alone(), y)
    assert winners.max() <= 8


@pytest.mark.parametrize("shape", [(2, 9, 7, 48), (1, 6, 13, 32)], ids=str)
def test_reads_and_writes_slices_of_wider_arrays(device: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x, dy = some_x(rng, shape, "ties"), rng.standard_normal(pooled(shape), dtype=np.float32)
    wide, dense = Case(device, x, dy, STRONG, wide=True), Case(device, x, dy, STRONG)
    (y, dx, winners), (dense_y, dense_dx, dense_winners) = wide.together(), dense.together()
    channels = shape[-1]
    assert (y[..., :channels] == 7).all()
    assert_same_bits(y[..., channels:], dense_y)
    assert_same_bits(dx, dense_dx)
    np.testing.assert_array_equal(winners, dense_winners)
    assert_same_bits(wide.forward_alone(), y)


def test_equals_the_formulas(device: str, rng: np.random.Generator) -> None:
    x = 3 * rng.standard_normal((2, 9, 11, 32), dtype=np.float32)
    dy = rng.standard_normal(pooled(x.shape), dtype=np.float32)
    y, dx, winners = Case(device, x, dy, STRONG).together()
    z = references.lrn(x, **STRONG)
    # The tolerances of tests/test_lrn.py: a few roundings, and powers good to a few units in the last place.
    np.testing.assert_allclose(y, references.max_pool2d(z), rtol=3e-6, atol=3e-6)
    windows = np.lib.stride_tricks.sliding_window_view(z, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(winners, windows.reshape(*dy.shape, 9).argmax(axis=-1))
    dz = references.max_pool2d_backward(dy, z)
    sizes = references.lrn_backward(np.abs(dz), np.abs(x), **STRONG)
    references.assert_difference(dx, references.lrn_backward(dz, x, **STRONG), sizes, 3e-6)


def test_gradient_equals_finite_differences(device: str, rng: np.random.Generator) -> None:
    # Values of a window lie so far apart that no step of the differences changes which one wins.
    x = 0.02 * rng.permutation(5 * 7 * 16).reshape(1, 5, 7, 16).astype(np.float32) + 0.5
    dy = rng.standard_normal((1, 2, 3, 16), dtype=np.float32)
    weak = {**STRONG, "alpha": 0.01}
    _, dx, _ = Case(device, x, dy, weak).together()
    expected = references.numeric_gradient(lambda x: references.max_pool2d(references.lrn(x, **weak)), x, dy)
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-5)


def test_right_where_float32_is_too_small(device: str, rng: np.random.Generator) -> None:
    """Sums of dy beyond float32 too, which backward computes again."""
    x = references.of_all_magnitudes(rng, 35, 16).reshape(1, 5, 7, 16)
    dy = references.of_all_magnitudes(rng, 6, 16).reshape(1, 2, 3, 16)
    case = Case(device, x, dy, STRONG)
    (y, dx), (fused_y, fused_dx, _) = case.apart(), case.together()
    assert_same_bits(fused_y, y)
    assert_same_bits(fused_dx, dx)
    assert np.abs(references.lrn_backward(dy.sum(axis=(1, 2)), x[:, 0, 0], **STRONG)[1]).max() > 1e30


def test_for_the_papers_windows_alone(device: str) -> None:
    on = get_device(device)
    given: dict[str, Any] = {**PAPER, **POOL}
    assert on.native.fits_lrn_maxpool((1, 9, 9, 48), **given)
    others: list[dict[str, Any]] = [
        {"size": 3}, {"beta": 0.5}, {"kernel": 2}, {"stride": 3}, {"padding": 1}, {"x_shape": (1, 9, 9, 50)}
    ]  # fmt: skip
    for other in others:
        arguments = {"x_shape": (1, 9, 9, 48), **given, **other}
        assert not on.native.fits_lrn_maxpool(**arguments), other
        x = Tensor.from_array(np.ones(arguments.pop("x_shape"), np.float32), device=device)
        windows = (arguments["kernel"], arguments["stride"], arguments["padding"])
        y = Tensor.from_array(np.ones(on.native.maxpool_output_shape(x.shape, *windows), np.float32), device=device)
        with pytest.raises(ValueError, match="there is no kernel for LRN of size"):
            on.native.lrn_maxpool_forward(y.array, None, x.array, **arguments, stream=on.stream)
    # alpha and k are any.
    assert on.native.fits_lrn_maxpool((1, 9, 9, 48), **{**given, "alpha": 2e-5, "k": 1.0})


def test_wrong_arrays_are_named(device: str) -> None:
    on = get_device(device)
    x, y, small = (Tensor.from_array(np.ones(shape, np.float32), device=device)
                   for shape in ((1, 5, 5, 16), (1, 2, 2, 16), (1, 2, 1, 16)))  # fmt: skip
    winners = Tensor.from_array(np.ones((1, 2, 2, 8), np.uint8), device=device)
    arguments: dict[str, Any] = {**PAPER, **POOL, "stream": on.stream}
    with pytest.raises(ValueError, match=r"y has shape \(1, 2, 1, 16\); it must be \(1, 2, 2, 16\)"):
        on.native.lrn_maxpool_forward(small.array, None, x.array, **arguments)
    with pytest.raises(ValueError, match=r"winners has shape \(1, 2, 2, 8\); it must be"):
        on.native.lrn_maxpool_forward(y.array, winners.array, x.array, **arguments)
    with pytest.raises(ValueError, match="winners has dtype float32; it must be uint8"):
        on.native.lrn_maxpool_backward(x.array, y.array, y.array, x.array, x_from_relu=False, **arguments)


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, ["conv1", "conv2"]),
        ({"lrn_over": "both"}, ["conv1", "conv2"]),
        ({"relu1_last": True}, ["conv1", "conv2"]),
        ({"activation": "tanh"}, ["conv1", "conv2"]),
        ({"second_lrn": True}, ["conv1"]),
        ({"pool_before_lrn": True}, []),
        ({"pooling": "plain"}, []),
        ({"lrn": False}, []),
    ],
    ids=str,
)
def test_a_net_has_them_in_one_where_nothing_lies_between(options: dict[str, Any], fused: list[str]) -> None:
    program = AlexNet(5, devices=["cpu:0"], **options).program(2, training=True)
    for entries, operation in ((program.forward, "lrn_maxpool_forward"), (program.backward, "lrn_maxpool_backward")):
        assert {entry.layer for entry in entries if entry.operation == operation} == set(fused)
    left = {entry.layer for entry in program.forward if entry.operation == "lrn_forward"}
    assert left == ({"conv1", "conv2"}.difference(fused) if options.get("lrn", True) else set())


def test_the_map_between_is_there_for_who_asks(rng: np.random.Generator) -> None:
    net = AlexNet(5, devices=["cpu:0"], weight_init="source2012")
    x = rng.standard_normal((3, 227, 227, 3), dtype=np.float32) * 60
    assert_same_bits(net.features(x, "pool1"), np.asarray(ops.max_pool2d(net.features(x, "lrn1"))))
