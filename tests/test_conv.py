"""Convolution against naive float64 NumPy; its gradients against finite differences too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import references
from pyalexnet import Tensor, ops
from pyalexnet.device.backend import get_device


@dataclass(frozen=True)
class Case:
    """A convolution: shapes of x and w, and how they meet."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def how(self) -> dict[str, int]:
        return {"stride": self.stride, "padding": self.padding, "groups": self.groups}

    def __str__(self) -> str:
        x, w = "x".join(map(str, self.x)), "x".join(map(str, self.w))
        return f"{x}-{w}-s{self.stride}-p{self.padding}-g{self.groups}"


SMALL = [
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((2, 5, 7, 3), (3, 2, 3, 5), padding=1),  # nothing is a multiple of a vector
    Case((2, 6, 5, 4), (3, 3, 2, 6), stride=2, padding=1, groups=2),
    Case((1, 4, 4, 4), (2, 2, 1, 4), stride=3, groups=4),  # depthwise; a stride beyond the kernel
    Case((1, 5, 5, 2), (3, 3, 2, 3), padding=4),  # more padding than the kernel reaches
    Case((2, 4, 3, 5), (1, 1, 5, 3), stride=2),
    Case((1, 7, 4, 4), (5, 2, 2, 4), stride=3, padding=4, groups=2),  # the image begins at phase 1 of quotient 1
]
ALEXNET_LIKE = [
    Case((2, 35, 39, 3), (11, 11, 3, 48), stride=4),  # conv1, smaller
    Case((2, 15, 15, 48), (5, 5, 48, 128), padding=2),  # conv2, smaller
    Case((2, 13, 13, 256), (3, 3, 256, 192), padding=1),  # conv3
    Case((1, 13, 13, 64), (3, 3, 32, 96), padding=1, groups=2),
]
# A row of tiles and its tail in each direction, on every target; sums cut into parts.
TAILS = [
    Case((1, 16, 17, 20), (3, 3, 20, 130), padding=1),
    Case((1, 9, 9, 250), (1, 1, 250, 33)),
    Case((3, 20, 20, 5), (4, 4, 5, 7), stride=2, padding=3),
    Case((3, 31, 41, 3), (6, 6, 3, 96), stride=2),  # runs of 18 floats, none beyond the image, two blocks of columns
]


def arrays(case: Case, rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    x = rng.standard_normal(case.x, dtype=np.float32)
    w = rng.standard_normal(case.w, dtype=np.float32)
    b = rng.standard_normal(case.w[3], dtype=np.float32)
    y = references.conv2d(x[:1], w, **case.how)
    return x, w, b, rng.standard_normal((case.x[0], *y.shape[1:]), dtype=np.float32)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("case", SMALL + ALEXNET_LIKE + TAILS, ids=str)
def test_forward_equals_reference(device: str, rng: np.random.Generator, case: Case, relu: bool) -> None:
    x, w, b, _ = arrays(case, rng)
    expected = references.conv2d(x, w, b, **case.how)
    if relu:
        expected = references.relu(expected)
    y = ops.conv2d(x, w, b, **case.how, relu=relu, device=device)
    references.assert_sums_close(y, expected, w[..., 0].size)


@pytest.mark.parametrize("case", SMALL + ALEXNET_LIKE + TAILS, ids=str)
def test_backward_equals_reference(device: str, rng: np.random.Generator, case: Case) -> None:
    x, w, _, dy = arrays(case, rng)
    dx, dw, db = references.conv2d_backward(dy, x, w, **case.how)
    references.assert_sums_close(
        ops.conv2d_backward_input(dy, w, x.shape, **case.how, device=device),
        dx,
        w[:, :, 0].size // case.groups,
    )
    actual_dw, actual_db = ops.conv2d_backward_weight(x, dy, w.shape[:2], **case.how, device=device)
    references.assert_sums_close(actual_dw, dw, dy[..., 0].size)
    references.assert_sums_close(actual_db, db, dy[..., 0].size)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_backward_equals_finite_differences(device: str, rng: np.random.Generator, case: Case) -> None:
    x, w, b, dy = arrays(case, rng)
    dx = references.numeric_gradient(lambda x: references.conv2d(x, w, b, **case.how), x, dy)
    dw = references.numeric_gradient(lambda w: references.conv2d(x, w, b, **case.how), w, dy)
    db = references.numeric_gradient(lambda b: references.conv2d(x, w, b, **case.how), b, dy)
    # Sums of at most 200 terms: the differences' own error, 1e-9, is far below the rounding of float32.
    references.assert_sums_close(ops.conv2d_backward_input(dy, w, x.shape, **case.how, device=device), dx, 200)
    actual_dw, actual_db = ops.conv2d_backward_weight(x, dy, w.shape[:2], **case.how, device=device)
    references.assert_sums_close(actual_dw, dw, 200)
    references.assert_sums_close(actual_db, db, 200)


def test_without_bias(device: str, rng: np.random.Generator) -> None:
    case = SMALL[1]
    x, w, _, _ = arrays(case, rng)
    y = ops.conv2d(x, w, **case.how, device=device)
    references.assert_sums_close(y, references.conv2d(x, w, **case.how), w[..., 0].size)


@pytest.mark.parametrize("case", [SMALL[2], *ALEXNET_LIKE, TAILS[0]], ids=str)
def test_repeats_bit_for_bit(device: str, rng: np.random.Generator, case: Case) -> None:
    x, w, b, dy = arrays(case, rng)

    def results() -> list[bytes]:
        y = ops.conv2d(x, w, b, **case.how, device=device)
        dx = ops.conv2d_backward_input(dy, w, x.shape, **case.how, device=device)
        dw, db = ops.conv2d_backward_weight(x, dy, w.shape[:2], **case.how, device=device)
        return [np.asarray(result).tobytes() for result in (y, dx, dw, db)]

    first = results()
    assert all(results() == first for _ in range(3))


@pytest.mark.parametrize("filters", [8, 48])
def test_nan_stays_in_what_sees_it(device: str, rng: np.random.Generator, filters: int) -> None:
    x = rng.standard_normal((1, 19, 19, 3), dtype=np.float32)
    w = rng.standard_normal((3, 3, 3, filters), dtype=np.float32)
    x[0, 9, 9, 1] = np.nan
    y = np.asarray(ops.conv2d(x, w, relu=True, device=device))
    expected = np.zeros((17, 17), bool)
    expected[7:10, 7:10] = True
    np.testing.assert_array_equal(np.isnan(y[0]).all(axis=-1), expected)
    np.testing.assert_array_equal(np.isnan(y[0]).any(axis=-1), expected)


def test_nan_of_a_gradient_reaches_one_phase_beyond_its_window_at_most(device: str, rng: np.random.Generator) -> None:
    dy = rng.standard_normal((1, 9, 9, 4), dtype=np.float32)
    w = rng.standard_normal((5, 5, 3, 4), dtype=np.float32)
    dy[0, 3, 4, 1] = np.nan  # which saw 5 rows from 3 * 2 on; 2 phases of 3 taps are 6
    dx = np.asarray(ops.conv2d_backward_input(dy, w, (1, 21, 21, 3), stride=2, device=device))
    assert np.isnan(dx[0, 6:11, 8:13]).all()
    dx[0, 6:12, 8:14] = 0
    assert np.isfinite(dx).all()


def test_nan_stays_in_the_weights_that_saw_it(device: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 21, 21, 3), dtype=np.float32)
    dy = rng.standard_normal((1, 17, 17, 48), dtype=np.float32)
    x[0, 2, 3, 1] = np.nan  # seen by taps (0, 0) to (2, 3)
    dw, db = (np.asarray(each) for each in ops.conv2d_backward_weight(x, dy, 5, device=device))
    expected = np.zeros((5, 5, 3), bool)
    expected[:3, :4, 1] = True
    np.testing.assert_array_equal(np.isnan(dw).all(axis=-1), expected)
    np.testing.assert_array_equal(np.isnan(dw).any(axis=-1), expected)
    assert np.isfinite(db).all()


def test_a_gpu_reads_conv1_word_by_word() -> None:
    """Its runs are 33 floats, no whole quads, and 48 columns are a tile of their own."""
    native = get_device("sim:0").native
    words = "direct_128x48"

    def plans(channels: int, filters: int, padding: int) -> set[str]:
        x, w = np.empty((128, 227, 227, channels)), np.empty((11, 11, channels, filters))
        how = {"stride": 4, "padding": padding, "groups": 1}
        return {
            native.conv_forward_plan(x=x, w=w, **how).algorithm,
            native.conv_backward_weight_plan(x=x, dw=w, **how).algorithm,
        }

    assert plans(3, 48, padding=0) == plans(3, 96, padding=0) == {words}
    assert plans(3, 128, padding=0) == {"direct_128x128"}
    assert words not in plans(3, 48, padding=2) | plans(4, 48, padding=0)


@pytest.mark.parametrize("algorithm", ["direct", "fourier"])
@pytest.mark.parametrize("padding_floats", [0, 3])
@pytest.mark.parametrize("channels", [8, 6])  # all of the last vector, and a part of it
def test_input_may_lie_in_a_wider_array(
    device: str, rng: np.random.Generator, channels: int, padding_floats: int, algorithm: str
) -> None:
    """As a tower reads its half of the channels, and conv1 an image with padded rows."""
    case = Case((2, 12, 12, channels), (3, 3, channels, 16), padding=1)
    x, w, b, dy = arrays(case, rng)
    row = 12 * 20 + padding_floats
    wide = np.full(4 + 2 * 12 * row, np.nan, np.float32)
    view = np.lib.stride_tricks.as_strided(wide[4:], x.shape, (12 * row * 4, row * 4, 20 * 4, 4))
    view[...] = x
    held = Tensor.from_array(wide, device=device)
    on = held.device
    native = on.native
    strides = [12 * row, row, 20, 1]
    strided = native.borrow(held, held.array.address + 16, "float32", list(x.shape), strides, on.index)
    places = {"stride": 1, "padding": 1, "groups": 1}
    forward = native.conv_forward_plan(x=x, w=w, **places, algorithm=algorithm)
    backward = native.conv_backward_weight_plan(x=x, dw=w, **places, algorithm=algorithm)
    needed = max(forward.workspace_bytes, backward.workspace_bytes, 1)
    scratch = Tensor.empty((needed,), dtype="uint8", device=device)
    y, dw = Tensor.empty(dy.shape, device=device), Tensor.empty(w.shape, device=device)
    w_, b_, dy_ = (Tensor.from_array(array, device=device) for array in (w, b, dy))
    native.conv_forward(forward, y.array, strided, w_.array, b_.array, False, scratch.array, on.stream)
    native.conv_backward_weight(backward, dw.array, None, strided, dy_.array, scratch.array, on.stream)
    on.stream.synchronize()
    how: dict[str, Any] = {"padding": 1, "device": device, "algorithm": algorithm}
    dense_dw, _ = ops.conv2d_backward_weight(x, dy, (3, 3), **how)
    np.testing.assert_array_equal(np.asarray(y), np.asarray(ops.conv2d(x, w, b, **how)))
    np.testing.assert_array_equal(np.asarray(dw), np.asarray(dense_dw))


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("message", "arguments", "how"),
    [
        (r"x has shape \(6, 6, 4\); it must have 4 axes", (ones(6, 6, 4), ones(3, 3, 4, 8)), {}),
        (r"w has shape \(3, 3, 4\); it must have 4 axes", (ones(2, 6, 6, 4), ones(3, 3, 4)), {}),
        (r"w has shape \(3, 3, 3, 8\); for x of shape .* must be 4", (ones(2, 6, 6, 4), ones(3, 3, 3, 8)), {}),
        (r"w has shape \(7, 7, 4, 8\); its kernel must fit", (ones(2, 6, 6, 4), ones(7, 7, 4, 8)), {}),
        (r"x has shape \(0, 6, 6, 4\); it must not be empty", (ones(0, 6, 6, 4), ones(3, 3, 4, 8)), {}),
        (r"b has shape \(4,\); it must be \(8,\)", (ones(2, 6, 6, 4), ones(3, 3, 4, 8), ones(4)), {}),
        ("stride is 0; it must be", (ones(2, 6, 6, 4), ones(3, 3, 4, 8)), {"stride": 0}),
        ("padding is -1; it must be", (ones(2, 6, 6, 4), ones(3, 3, 4, 8)), {"padding": -1}),
        ("groups is 0; it must divide the 4 channels", (ones(2, 6, 6, 4), ones(3, 3, 4, 8)), {"groups": 0}),
        ("groups is 2; it must divide the 7 filters", (ones(2, 6, 6, 4), ones(3, 3, 2, 7)), {"groups": 2}),
    ],
)
def test_wrong_arguments_are_named(device: str, message: str, arguments: Any, how: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=message):
        ops.conv2d(*arguments, **how, device=device)


def test_wrong_gradient_arguments_are_named(device: str) -> None:
    x, w, dy = ones(2, 6, 6, 4), ones(3, 3, 4, 8), ones(2, 4, 4, 8)
    with pytest.raises(TypeError, match="w has dtype float64; it must be float32"):
        ops.conv2d_backward_input(dy, w.astype(np.float64), x.shape, device=device)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4, 4, 8\); it must be \(2, 6, 6, 8\)"):
        ops.conv2d_backward_input(dy, w, x.shape, padding=1, device=device)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4, 4, 8\); it must be \(2, 2, 2, 8\)"):
        ops.conv2d_backward_weight(x, dy, 5, device=device)
    with pytest.raises(ValueError, match="groups is 3; it must divide the 4 channels"):
        ops.conv2d_backward_weight(x, dy, 3, groups=3, device=device)
    with pytest.raises(ValueError, match=r"kernel_size is \(3, 3, 3\); it must be"):
        ops.conv2d_backward_weight(x, dy, (3, 3, 3), device=device)
    for changed in ({"stride": (2, 2)}, {"padding": 0.5}, {"groups": "1"}):
        for call in (
            lambda changed: ops.conv2d(x, w, device=device, **changed),
            lambda changed: ops.conv2d_backward_input(dy, w, x.shape, device=device, **changed),
            lambda changed: ops.conv2d_backward_weight(x, dy, 3, device=device, **changed),
        ):
            with pytest.raises(TypeError, match=r"(stride|padding|groups) is .*; it must be an integer"):
                call(changed)
