"""Max pooling against NumPy, ties and NaNs included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import references
from pyalexnet import AlexNet, ops
from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import Tensor

# (height, width, channels), (kernel, stride, padding): the paper's window at odd and even sizes and for every
# way that channels fill vectors; then windows without overlap, with gaps, padded, or as large as the image; last
# those with all but a row or a column in the padding.
CASES = [
    ((13, 13, 128), (3, 2, 0)),
    ((27, 27, 48), (3, 2, 0)),
    ((5, 8, 96), (3, 2, 0)),
    ((6, 4, 7), (3, 2, 0)),
    ((3, 3, 5), (3, 2, 0)),
    ((9, 7, 1), (3, 2, 0)),
    ((7, 6, 3), (2, 2, 0)),
    ((7, 9, 16), (2, 3, 0)),
    ((8, 7, 16), (3, 1, 1)),
    ((8, 9, 16), (3, 2, 1)),
    ((9, 8, 3), (5, 2, 2)),
    ((6, 7, 16), (3, 1, 0)),
    ((4, 5, 20), (1, 2, 0)),
    ((2, 1, 3), (4, 1, 2)),
    ((6, 5, 16), (3, 1, 2)),
    ((7, 4, 3), (5, 3, 4)),
    ((1, 2, 16), (4, 2, 3)),
]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[tuple[int, ...], dict[str, int]]:
    size, (kernel, stride, padding) = request.param
    return (2, *size), {"kernel": kernel, "stride": stride, "padding": padding}


def test_forward_equals_reference(
    device: str, rng: np.random.Generator, case: tuple[tuple[int, ...], dict[str, int]]
) -> None:
    shape, window = case
    x = rng.standard_normal(shape, dtype=np.float32)
    y = np.asarray(ops.max_pool2d(x, device=device, **window))
    np.testing.assert_array_equal(y, references.max_pool2d(x, **window))


def test_backward_equals_reference(
    device: str, rng: np.random.Generator, case: tuple[tuple[int, ...], dict[str, int]]
) -> None:
    shape, window = case
    # Few values and a NaN now and then, so that most windows have ties and some have several NaNs.
    x = rng.integers(-2, 3, shape).astype(np.float32)
    x[rng.random(shape) < 0.05] = np.nan
    dy = rng.standard_normal(references.max_pool2d(x, **window).shape, dtype=np.float32)
    y = np.asarray(ops.max_pool2d(x, device=device, **window))
    dx = np.asarray(ops.max_pool2d_backward(dy, x, device=device, **window))
    np.testing.assert_array_equal(y, references.max_pool2d(x, **window))
    # At most kernel² gradients add up in an element, each sum rounding by 6e-8 of it.
    expected = references.max_pool2d_backward(dy, x, **window)
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=3e-6)


def test_backward_equals_finite_differences(device: str, rng: np.random.Generator) -> None:
    # All values lie 0.1 apart: no step of the differences changes which one wins.
    x = 0.1 * rng.permutation(5 * 7 * 16).reshape(1, 5, 7, 16).astype(np.float32)
    dy = rng.standard_normal((1, 2, 3, 16), dtype=np.float32)
    dx = np.asarray(ops.max_pool2d_backward(dy, x, device=device))
    expected = references.numeric_gradient(references.max_pool2d, x, dy)
    # Differences of sums of 1e2 with steps of 1e-6 are good to about 1e-6.
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "padding"), [(7, 0), (48, 0), (16, 1)])
def test_backward_goes_on_through_a_relu(device: str, rng: np.random.Generator, channels: int, padding: int) -> None:
    x = np.maximum(rng.standard_normal((2, 9, 8, channels), dtype=np.float32), 0)
    geometry = {"padding": padding, "device": device}
    dy = rng.standard_normal(ops.max_pool2d(x, **geometry).shape, dtype=np.float32)
    apart = ops.relu_backward(ops.max_pool2d_backward(dy, x, **geometry), x, device=device)
    np.testing.assert_array_equal(ops.max_pool2d_backward(dy, x, x_from_relu=True, **geometry), np.asarray(apart))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [(13, 13, 128), (3, 3, 16), (4, 6, 32), (9, 8, 48), (5, 37, 16)], ids=str)
def test_winners_serve_backward_as_x_does(
    device: str, rng: np.random.Generator, size: tuple[int, ...], relu: bool
) -> None:
    x = rng.integers(-2, 3, (2, *size)).astype(np.float32)  # with many ties
    x[rng.random(x.shape) < 0.05] = np.nan
    x = np.maximum(x, 0) if relu else x
    on, window = get_device(device), {"kernel": 3, "stride": 2, "padding": 0}
    expected = ops.max_pool2d(x, device=device)
    dy = rng.standard_normal(expected.shape, dtype=np.float32)
    x_there, dy_there = (Tensor.from_array(each, device=device) for each in (x, dy))
    y, dx = Tensor.empty(dy.shape, device=device), Tensor.from_array(np.full_like(x, 7), device=device)
    winners = Tensor.from_array(np.full(dy.shape, 100, np.uint8), device=device)
    on.native.maxpool_forward_with_winners(
        y.array, winners.array, x_there.array, **window, x_from_relu=relu, stream=on.stream
    )
    on.native.maxpool_backward_by_winners(dx.array, dy_there.array, winners.array, **window, stream=on.stream)
    on.stream.synchronize()
    np.testing.assert_array_equal(np.array(y), np.asarray(expected))
    by_x = np.asarray(ops.max_pool2d_backward(dy, x, x_from_relu=relu, device=device))
    np.testing.assert_array_equal(np.array(dx), by_x)
    assert ((np.array(winners) == 255) == (relu & ~(np.array(y) > 0))).all()  # nothing goes back there


def test_winners_are_kept_of_the_papers_windows_alone(device: str) -> None:
    on = get_device(device)
    assert on.native.keeps_winners((1, 9, 9, 48), 3, 2, 0)
    for channels, *window in ((50, 3, 2, 0), (48, 2, 2, 0), (48, 3, 1, 0), (48, 3, 2, 1)):
        shape = (1, 9, 9, channels)
        assert not on.native.keeps_winners(shape, *window)
        x = Tensor.from_array(np.ones(shape, np.float32), device=device)
        pooled = on.native.maxpool_output_shape(shape, *window)
        y, winners = (Tensor.from_array(np.ones(pooled, dtype), device=device) for dtype in (np.float32, np.uint8))
        with pytest.raises(ValueError, match="winners are not kept of pooling with kernel"):
            on.native.maxpool_forward_with_winners(y.array, winners.array, x.array, *window, False, on.stream)
        with pytest.raises(ValueError, match="winners are not kept of pooling with kernel"):
            on.native.maxpool_backward_by_winners(x.array, y.array, winners.array, *window, on.stream)


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, ["conv5"]), ({"pool_before_lrn": True}, ["conv1", "conv2", "conv5"]), ({"pooling": "plain"}, [])],
    ids=str,
)
def test_a_net_keeps_winners_where_it_goes_back(options: dict[str, Any], kept: list[str]) -> None:
    net = AlexNet(5, devices=["cpu:0"], **options)
    program = net.program(2, training=True)
    for entries, operation in (
        (program.forward, "maxpool_forward_with_winners"), (program.backward, "maxpool_backward_by_winners")
    ):  # fmt: skip
        assert sorted({entry.layer for entry in entries if entry.operation == operation}) == kept
    assert "winners" not in str(net.program(2, training=False))


def test_minus_infinity_has_a_winner(device: str) -> None:
    x = np.full((1, 5, 5, 16), -np.inf, np.float32)
    assert (np.asarray(ops.max_pool2d(x, device=device)) == -np.inf).all()
    dx = np.asarray(ops.max_pool2d_backward(np.ones((1, 2, 2, 16), np.float32), x, device=device))
    assert np.argwhere(dx[0, :, :, 0]).tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


@pytest.mark.parametrize("padding", [0, 1])
def test_repeats_bit_for_bit(device: str, rng: np.random.Generator, padding: int) -> None:
    x = rng.standard_normal((3, 13, 13, 48), dtype=np.float32)
    dy = rng.standard_normal(references.max_pool2d(x, padding=padding).shape, dtype=np.float32)
    first, again = (np.asarray(ops.max_pool2d_backward(dy, x, padding=padding, device=device)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("padding", [0, 1])
def test_more_than_caches_hold_has_the_bits_of_a_part(rng: np.random.Generator, padding: int) -> None:
    x = rng.standard_normal((64, 27, 27, 100), dtype=np.float32)  # 18.7 MB, of which dx is as much
    windows = {"kernel": 3, "stride": 2, "padding": padding, "device": "cpu:0"}
    dy = rng.standard_normal(np.shape(ops.max_pool2d(x, **windows)), dtype=np.float32)
    dx = np.asarray(ops.max_pool2d_backward(dy, x, x_from_relu=True, **windows))
    for part in (slice(0, 3), slice(61, 64)):
        of_part = ops.max_pool2d_backward(dy[part], x[part], x_from_relu=True, **windows)
        np.testing.assert_array_equal(dx[part], np.asarray(of_part))


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((1, 4, 6, 3), np.float32)
    with pytest.raises(TypeError, match="x has dtype int32; it must be float32"):
        ops.max_pool2d(x.astype(np.int32), device=device)
    with pytest.raises(ValueError, match=r"x has shape \(4, 6, 3\); it must have 4 axes"):
        ops.max_pool2d(x[0], device=device)
    with pytest.raises(ValueError, match="must not be empty"):
        ops.max_pool2d(x[:, :0], device=device)
    with pytest.raises(ValueError, match="kernel is 0; it must be from 1"):
        ops.max_pool2d(x, kernel=0, device=device)
    with pytest.raises(ValueError, match="stride is -1; it must be from 1"):
        ops.max_pool2d(x, stride=-1, device=device)
    with pytest.raises(ValueError, match="padding is 3; it must be from 0 to below the kernel of 3"):
        ops.max_pool2d(x, padding=3, device=device)
    with pytest.raises(ValueError, match="kernel is 5; it must not be larger than the image of 4 × 6"):
        ops.max_pool2d(x, kernel=5, device=device)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 2, 3\); it must be \(1, 1, 2, 3\)"):
        ops.max_pool2d_backward(np.ones((1, 2, 2, 3), np.float32), x, device=device)
    with pytest.raises(TypeError, match=r"kernel is \(3, 3\); it must be an integer"):
        ops.max_pool2d(x, kernel=(3, 3), device=device)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"stride is 1\.5; it must be an integer"):
        ops.max_pool2d_backward(x, x, stride=1.5, device=device)  # type: ignore[arg-type]
