"""Random shapes where tiles, vectors and slices end, of arrays that lie anywhere: every kernel that walks over tiles.

A few examples here, the same in each run; ``pytest -m slow tests/test_tile_edges.py`` tries many, others each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import references
from pyalexnet import Tensor
from pyalexnet.device.backend import Device, get_device
from pyalexnet.device.native import NativeArray

Floats = npt.NDArray[np.float32]
Draw = Callable[[st.SearchStrategy[Any]], Any]

# Rows, columns and depths of tiles on all targets, of blocks and of what one thread computes (src/device/tile.cuh).
TILE_EDGES = (4, 6, 8, 12, 16, 32, 48, 64, 128, 192, 384)
MULTIPLY_ADDS = 1_500_000  # at most so many an example, that many of them take seconds on simulated threads
FEW, MANY = 20, 1500

tiers = pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(0)])])


@pytest.fixture(params=["cpu:0", "sim:0"])
def on(request: pytest.FixtureRequest) -> Device:
    """A device that can show its memory to NumPy."""
    return get_device(request.param)


def for_each_example(strategy: st.SearchStrategy[Any], examples: int, check: Callable[[Any], None]) -> None:
    """Check examples that a strategy draws; the one that is shown when a check fails is as small as it can be."""
    how = settings(
        max_examples=examples, deadline=None, database=None, derandomize=examples == FEW,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    how(given(strategy)(check))()


def near_an_edge(most: int) -> st.SearchStrategy[int]:
    """A multiple of a tile's extent, or one more or less."""
    near = {unit * times + beside for unit in TILE_EDGES for times in (1, 2, 3) for beside in (-1, 0, 1)}
    return st.sampled_from([1, 2, *sorted(extent for extent in near if extent <= most)])


@dataclass(frozen=True)
class Layout:
    """How an array lies in memory: floats before it, which shift its alignment, and NaNs between pixels and rows."""

    before: int = 0
    between_pixels: int = 0
    between_rows: int = 0


gaps = st.sampled_from([0, 0, 1, 3, 4])
layouts = st.builds(Layout, st.integers(0, 3), gaps, gaps)
pitched = st.builds(Layout, st.integers(0, 3), gaps)
dense = st.builds(Layout, st.integers(0, 3))


def lay_out(on: Device, values: Floats, layout: Layout) -> tuple[NativeArray, Floats]:
    """An array in device memory that ends with it, and its elements as NumPy sees them."""
    strides = [1]
    for axis in range(values.ndim - 1, 0, -1):
        gap = {values.ndim - 1: layout.between_pixels, values.ndim - 2: layout.between_rows}.get(axis, 0)
        strides.insert(0, strides[0] * values.shape[axis] + gap)
    extent = sum((size - 1) * stride for size, stride in zip(values.shape, strides, strict=True)) + 1
    memory = Tensor.empty((layout.before + extent,), device=str(on))
    held = np.asarray(memory)
    held[...] = np.nan
    view = np.lib.stride_tricks.as_strided(held[layout.before :], values.shape, [4 * stride for stride in strides])
    view[...] = values
    address = memory.array.address + 4 * layout.before
    return on.native.borrow(memory, address, "float32", list(values.shape), strides, on.index), view


def result(on: Device, shape: Sequence[int], layout: Layout) -> tuple[NativeArray, Floats]:
    """Where a result is to go, and its elements."""
    return lay_out(on, np.full(shape, np.nan, np.float32), layout)


def workspace(on: Device, plan: Any) -> NativeArray:
    return Tensor.empty((max(plan.workspace_bytes, 1),), dtype="uint8", device=str(on)).array


def normal(*shapes: Sequence[int]) -> list[Floats]:
    rng = np.random.default_rng(2012)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


# ---- convolutions ----


@dataclass(frozen=True)
class Conv:
    """A convolution, and how its arrays lie."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    y: tuple[int, int, int, int]
    stride: int
    padding: int
    groups: int
    x_layout: Layout
    others: Layout
    algorithm: int  # its number, modulo how many the device has
    relu: bool

    @property
    def places(self) -> dict[str, int]:
        return {"stride": self.stride, "padding": self.padding, "groups": self.groups}

    def algorithm_on(self, on: Device) -> str:
        algorithms = ["", *on.native.product_algorithms()]
        return algorithms[self.algorithm % len(algorithms)]


@st.composite
def convolutions(draw: Draw) -> Conv:
    """Rows, columns and terms of the product near edges, as far as the multiply-adds allow."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    taps = kernel[0] * kernel[1] * groups
    pixels = draw(near_an_edge(385))
    filters = draw(near_an_edge(max(2, min(193, MULTIPLY_ADDS // (pixels * taps)))))
    channels = draw(near_an_edge(max(2, min(193, MULTIPLY_ADDS // (pixels * taps * filters)))))
    batch = draw(st.sampled_from([n for n in range(1, 4) if pixels % n == 0]))
    rows = draw(st.sampled_from([n for n in range(1, pixels + 1) if pixels // batch % n == 0]))
    out = rows, pixels // batch // rows
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    # Up to stride - 1 rows and columns of the image are in no window.
    size = [
        max(1, kernel[axis] - 2 * padding, (out[axis] - 1) * stride + kernel[axis] - 2 * padding)
        + draw(st.integers(0, stride - 1))
        for axis in (0, 1)
    ]
    out_rows, out_columns = ((size[axis] + 2 * padding - kernel[axis]) // stride + 1 for axis in (0, 1))
    return Conv(
        (batch, size[0], size[1], channels * groups),
        (*kernel, channels, filters * groups),
        (batch, out_rows, out_columns, filters * groups),
        stride, padding, groups, draw(layouts), draw(dense), draw(st.integers(0, 3)), draw(st.booleans()),
    )  # fmt: skip


@tiers
def test_convolutions(on: Device, examples: int) -> None:
    def check(conv: Conv) -> None:
        x, w, b, dy = normal(conv.x, conv.w, conv.w[3:], conv.y)
        (x_, _), (w_, _), (b_, _) = lay_out(on, x, conv.x_layout), lay_out(on, w, conv.others), lay_out(on, b, Layout())
        y_, y = result(on, conv.y, conv.others)
        how: dict[str, Any] = {**conv.places, "algorithm": conv.algorithm_on(on)}
        plan = on.native.conv_forward_plan(x=x_, w=w_, **how)
        on.native.conv_forward(plan, y_, x_, w_, b_, conv.relu, workspace(on, plan), on.stream)
        on.stream.synchronize()
        expected = references.conv2d(x, w, b, **conv.places)
        references.assert_sums_close(y, references.relu(expected) if conv.relu else expected, w[..., 0].size)

        dx, dw, db = references.conv2d_backward(dy, x, w, **conv.places)
        dy_, _ = lay_out(on, dy, conv.others)
        dx_, found_dx = result(on, conv.x, conv.others)
        plan = on.native.conv_backward_input_plan(dx=dx_, w=w_, **how)
        on.native.conv_backward_input(plan, dx_, dy_, w_, workspace(on, plan), on.stream)
        (dw_, found_dw), (db_, found_db) = result(on, conv.w, conv.others), result(on, b.shape, Layout())
        plan = on.native.conv_backward_weight_plan(x=x_, dw=dw_, **how)
        on.native.conv_backward_weight(plan, dw_, db_, x_, dy_, workspace(on, plan), on.stream)
        on.stream.synchronize()
        references.assert_sums_close(found_dx, dx, w[:, :, 0].size // conv.groups)
        references.assert_sums_close(found_dw, dw, dy[..., 0].size)
        references.assert_sums_close(found_db, db, dy[..., 0].size)

    for_each_example(convolutions(), examples, check)


# ---- fully connected layers; backwards by their input the weights are transposed ----


@st.composite
def linears(draw: Draw) -> tuple[tuple[int, int, int], list[Layout]]:
    """Batch, inputs and outputs; how x, dy, y and the others lie."""
    batch = draw(near_an_edge(385))
    inputs = draw(st.one_of(near_an_edge(min(385, MULTIPLY_ADDS // batch)), st.sampled_from([1023, 1025])))
    outputs = draw(near_an_edge(max(2, min(385, MULTIPLY_ADDS // (batch * inputs)))))
    return (batch, inputs, outputs), [draw(pitched), draw(pitched), draw(pitched), draw(dense)]


@tiers
def test_fully_connected_layers(on: Device, examples: int) -> None:
    def check(case: tuple[tuple[int, int, int], list[Layout]]) -> None:
        (batch, inputs, outputs), (of_x, of_dy, of_y, others) = case
        x, w, b, dy = normal((batch, inputs), (inputs, outputs), (outputs,), (batch, outputs))
        (x_, _), (w_, _), (b_, _) = lay_out(on, x, of_x), lay_out(on, w, others), lay_out(on, b, Layout())
        y_, y = result(on, dy.shape, of_y)
        plan = on.native.linear_forward_plan(x=x_, w=w_)
        on.native.linear_forward(plan, y_, x_, w_, b_, False, workspace(on, plan), on.stream)
        dy_, _ = lay_out(on, dy, of_dy)
        dx_, dx = result(on, x.shape, others)
        plan = on.native.linear_backward_input_plan(dx=dx_, w=w_)
        on.native.linear_backward_input(plan, dx_, dy_, w_, workspace(on, plan), on.stream)
        (dw_, dw), (db_, db) = result(on, w.shape, others), result(on, b.shape, Layout())
        plan = on.native.linear_backward_weight_plan(x=x_, dw=dw_)
        on.native.linear_backward_weight(plan, dw_, db_, x_, dy_, workspace(on, plan), on.stream)
        on.stream.synchronize()
        references.assert_sums_close(y, x.astype(np.float64) @ w + b, inputs)
        references.assert_sums_close(dx, dy.astype(np.float64) @ w.T, outputs)
        references.assert_sums_close(dw, x.T.astype(np.float64) @ dy, batch)
        references.assert_sums_close(db, dy.sum(axis=0, dtype=np.float64), batch)

    for_each_example(linears(), examples, check)


# ---- what walks over channels by vectors ----


@st.composite
def normalisations(draw: Draw) -> tuple[tuple[int, int], dict[str, Any], list[Layout]]:
    """Rows and channels; the formula's numbers; how x, y and dy lie."""
    shape = draw(near_an_edge(65)), draw(near_an_edge(193))
    numbers = {
        "size": draw(st.one_of(st.just(5), st.integers(1, 9))), "alpha": draw(st.sampled_from([1e-4, 0.3])),
        "beta": draw(st.sampled_from([0.75, 0.75, 0.5, 1.3])), "k": draw(st.sampled_from([1.0, 2.0])),
    }  # fmt: skip
    return shape, numbers, [draw(dense), draw(pitched), draw(pitched)]


@tiers
def test_normalisation(on: Device, examples: int) -> None:
    def check(case: tuple[tuple[int, int], dict[str, Any], list[Layout]]) -> None:
        shape, numbers, (of_x, of_y, of_dy) = case
        x, dy = normal(shape, shape)
        (x_, _), (dy_, _) = lay_out(on, x, of_x), lay_out(on, dy, of_dy)
        (y_, y), (dx_, dx) = result(on, shape, of_y), result(on, shape, of_x)
        on.native.lrn_forward(y_, x_, **numbers, stream=on.stream)
        on.native.lrn_backward(dx_, dy_, x_, **numbers, x_from_relu=False, stream=on.stream)
        on.stream.synchronize()
        # The tolerance of tests/test_lrn.py: a few roundings, and powers good to a few units in the last place.
        np.testing.assert_allclose(y, references.lrn(x, **numbers), rtol=3e-6, atol=3e-6)
        sizes = references.lrn_backward(np.abs(dy), np.abs(x), **numbers)
        references.assert_difference(np.array(dx), references.lrn_backward(dy, x, **numbers), sizes, 3e-6)

    for_each_example(normalisations(), examples, check)


@st.composite
def poolings(draw: Draw) -> tuple[tuple[int, int, int, int], dict[str, int], list[Layout]]:
    """Images; windows; how x, y and dy lie."""
    kernel = draw(st.integers(1, 5))
    window = {"kernel": kernel, "stride": draw(st.integers(1, 4)), "padding": draw(st.integers(0, kernel - 1))}
    least = max(1, kernel - 2 * window["padding"])
    size = (draw(st.integers(least, least + 12)) for _ in range(2))
    return (draw(st.integers(1, 2)), *size, draw(near_an_edge(65))), window, [draw(dense), draw(pitched), draw(pitched)]


@tiers
def test_max_pooling(on: Device, examples: int) -> None:
    def check(case: tuple[tuple[int, int, int, int], dict[str, int], list[Layout]]) -> None:
        shape, window, (of_x, of_y, of_dy) = case
        x = np.random.default_rng(math.prod(shape)).integers(-2, 3, shape).astype(np.float32)  # with many ties
        expected = references.max_pool2d(x, **window)
        (dy,) = normal(expected.shape)
        (x_, _), (dy_, _) = lay_out(on, x, of_x), lay_out(on, dy, of_dy)
        (y_, y), (dx_, dx) = result(on, dy.shape, of_y), result(on, shape, of_x)
        on.native.maxpool_forward(y_, x_, **window, stream=on.stream)
        on.native.maxpool_backward(dx_, dy_, x_, **window, x_from_relu=False, stream=on.stream)
        on.stream.synchronize()
        np.testing.assert_array_equal(y, expected)
        # At most kernel² gradients add up in an element, each sum rounding by 6e-8 of it.
        np.testing.assert_allclose(dx, references.max_pool2d_backward(dy, x, **window), rtol=1e-6, atol=3e-6)

    for_each_example(poolings(), examples, check)
