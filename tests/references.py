"""Naive float64 NumPy references: the formulas, written to be read, not to be fast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def assert_sums_close(actual: npt.ArrayLike, expected: npt.ArrayLike, terms: int) -> None:
    """Within the rounding of float32 sums of `terms` products of N(0, 1) numbers.

    A sum of n such products has the size sqrt(n); each of its n roundings is at most 2^-24 of a partial sum, and
    independent ones add up to 2^-24 · n/2 at most, far less on blocks. 8 covers the largest of 10^6 elements.
    """
    tolerance = 8 * 2.0**-24 * max(terms, 8)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance)


def relu(x: Array) -> Array:
    return np.where(x < 0, 0.0, x)


def conv2d(x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0, groups: int = 1) -> Array:
    x, w = x.astype(np.float64), w.astype(np.float64)
    batch, height, width, channels = x.shape
    kernel_height, kernel_width, group_channels, filters = w.shape
    out_height = (height + 2 * padding - kernel_height) // stride + 1
    out_width = (width + 2 * padding - kernel_width) // stride + 1
    padded = np.zeros((batch, height + 2 * padding, width + 2 * padding, channels))
    padded[:, padding : padding + height, padding : padding + width] = x
    y = np.zeros((batch, out_height, out_width, filters))
    group_filters = filters // groups
    for group in range(groups):
        seen = padded[..., group * group_channels : (group + 1) * group_channels]
        these = slice(group * group_filters, (group + 1) * group_filters)
        for out_y in range(out_height):
            for out_x in range(out_width):
                rows = slice(out_y * stride, out_y * stride + kernel_height)
                columns = slice(out_x * stride, out_x * stride + kernel_width)
                y[:, out_y, out_x, these] = np.einsum("nyxc,yxck->nk", seen[:, rows, columns], w[..., these])
    return y if b is None else y + b


def conv2d_backward(
    dy: Array, x: Array, w: Array, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[Array, Array, Array]:
    """The gradients (dx, dw, db) of conv2d: each term of each sum once, taken apart."""
    dy, x, w = dy.astype(np.float64), x.astype(np.float64), w.astype(np.float64)
    batch, height, width, channels = x.shape
    kernel_height, kernel_width, group_channels, filters = w.shape
    padded = np.zeros((batch, height + 2 * padding, width + 2 * padding, channels))
    padded[:, padding : padding + height, padding : padding + width] = x
    padded_dx, dw = np.zeros_like(padded), np.zeros_like(w)
    group_filters = filters // groups
    for group in range(groups):
        of_group = slice(group * group_channels, (group + 1) * group_channels)
        these = slice(group * group_filters, (group + 1) * group_filters)
        for out_y in range(dy.shape[1]):
            for out_x in range(dy.shape[2]):
                rows = slice(out_y * stride, out_y * stride + kernel_height)
                columns = slice(out_x * stride, out_x * stride + kernel_width)
                here = dy[:, out_y, out_x, these]
                padded_dx[:, rows, columns, of_group] += np.einsum("nk,yxck->nyxc", here, w[..., these])
                dw[..., these] += np.einsum("nyxc,nk->yxck", padded[:, rows, columns, of_group], here)
    dx = padded_dx[:, padding : padding + height, padding : padding + width]
    return dx, dw, dy.sum(axis=(0, 1, 2))


def numeric_gradient(function: Callable[[Array], Array], x: Array, dy: Array, step: float = 1e-6) -> Array:
    """Gradient of sum(function(x) * dy) by x, by central differences in float64.

    The error is of the order step² · f''' + eps/step, about 1e-9 for well-scaled smooth functions.
    """
    x = x.astype(np.float64).copy()
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        middle = x[index]
        x[index] = middle + step
        above = np.sum(function(x) * dy)
        x[index] = middle - step
        below = np.sum(function(x) * dy)
        x[index] = middle
        gradient[index] = (above - below) / (2 * step)
    return gradient


def lrn(x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """The first maximum in row-major order, or the first NaN, takes the gradient, as np.argmax finds it."""
    channels = x.shape[-1]
    y = np.empty(x.shape)
    for i in range(channels):
        window = x[..., max(0, i - (size - 1) // 2) : min(channels, i + size // 2 + 1)]
        y[..., i] = x[..., i] / (k + alpha * np.sum(np.square(window, dtype=np.float64), axis=-1)) ** beta
    return y


def lrn_backward(
    dy: Array, x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> tuple[Array, Array]:
    """The gradient's two terms, which are to be subtracted, by the formula: differences do not reach large numbers."""
    channels = x.shape[-1]
    dy, x = dy.astype(np.float64), x.astype(np.float64)
    windows = [slice(max(0, i - (size - 1) // 2), min(channels, i + size // 2 + 1)) for i in range(channels)]
    s = np.stack([k + alpha * np.sum(x[..., window] ** 2, axis=-1) for window in windows], axis=-1)
    spread = np.zeros_like(x)
    for j, window in enumerate(windows):
        spread[..., window] += (dy[..., j] * x[..., j] * s[..., j] ** (-beta - 1))[..., None]
    return dy * s**-beta, 2 * alpha * beta * x * spread


def lrn_in_map_backward(
    dy: Array, x: Array, size: int = 5, alpha: float = 4e-5, beta: float = 0.75, k: float = 1.0
) -> tuple[Array, Array]:
    """The gradient's two terms, which are to be subtracted."""
    _, height, width, _ = x.shape
    before, behind = (size - 1) // 2, size // 2
    dy, x = dy.astype(np.float64), x.astype(np.float64)
    s = lrn_in_map_scale(x, size, alpha, k)
    terms, spread = dy * x * s ** (-beta - 1), np.zeros_like(x)
    for row, column in np.ndindex(height, width):
        columns = slice(max(0, column - before), column + behind + 1)
        spread[:, max(0, row - before) : row + behind + 1, columns] += terms[:, row, None, column, None]
    return dy * s**-beta, 2 * alpha * beta * x * spread


def lrn_in_map_scale(x: Array, size: int, alpha: float, k: float) -> Array:
    """K + alpha times the squares' sum over the pixels around, channel by channel."""
    _, height, width, _ = x.shape
    before, behind = (size - 1) // 2, size // 2
    squares = np.square(x, dtype=np.float64)
    scale = np.empty(x.shape)
    for row, column in np.ndindex(height, width):
        rows = slice(max(0, row - before), row + behind + 1)
        window = squares[:, rows, max(0, column - before) : column + behind + 1]
        scale[:, row, column] = k + alpha * window.sum(axis=(1, 2))
    return scale


def lrn_in_map(x: Array, size: int = 5, alpha: float = 4e-5, beta: float = 0.75, k: float = 1.0) -> Array:
    return x / lrn_in_map_scale(x, size, alpha, k) ** beta


def _pool_windows(
    shape: tuple[int, ...], kernel: int, stride: int, padding: int
) -> list[tuple[int, int, slice, slice]]:
    """Each window's place in the output, and the rows and columns of the image that it holds."""
    _, height, width, _ = shape

    def inside(o: int, extent: int) -> slice:
        return slice(max(0, o * stride - padding), min(extent, o * stride - padding + kernel))

    rows = range((height + 2 * padding - kernel) // stride + 1)
    columns = range((width + 2 * padding - kernel) // stride + 1)
    return [(oy, ox, inside(oy, height), inside(ox, width)) for oy in rows for ox in columns]


def max_pool2d(x: Array, kernel: int = 3, stride: int = 2, padding: int = 0) -> Array:
    windows = _pool_windows(x.shape, kernel, stride, padding)
    y = np.empty((x.shape[0], windows[-1][0] + 1, windows[-1][1] + 1, x.shape[3]))
    for oy, ox, rows, columns in windows:
        y[:, oy, ox] = x[:, rows, columns].max(axis=(1, 2))
    return y


def max_pool2d_backward(dy: Array, x: Array, kernel: int = 3, stride: int = 2, padding: int = 0) -> Array:
    """The first maximum in row-major order, or the first NaN, takes the gradient: np.argmax's rule too."""
    dx = np.zeros(x.shape)
    for oy, ox, rows, columns in _pool_windows(x.shape, kernel, stride, padding):
        window = x[:, rows, columns]
        for n, c in np.ndindex(x.shape[0], x.shape[3]):
            winner = np.unravel_index(np.argmax(window[n, :, :, c]), window.shape[1:3])
            dx[n, rows.start + winner[0], columns.start + winner[1], c] += dy[n, oy, ox, c]
    return dx


def philox(counters: npt.NDArray[np.uint32], key: int) -> npt.NDArray[np.uint32]:
    """Philox4x32-10 of counters (n, 4) with a 64-bit key (Salmon et al. 2011)."""
    words = counters.astype(np.uint64).T
    key0, key1 = key & 0xFFFFFFFF, key >> 32
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        product0, product1 = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = np.stack(
            [
                (product1 >> np.uint64(32)) ^ words[1] ^ np.uint64(key0),
                product1 & low,
                (product0 >> np.uint64(32)) ^ words[3] ^ np.uint64(key1),
                product0 & low,
            ]
        )
        key0, key1 = (key0 + 0x9E3779B9) & 0xFFFFFFFF, (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return words.T.astype(np.uint32)


def dropout_kept(elements: npt.NDArray[np.uint64], p: float, seed: int, offset: int) -> npt.NDArray[np.bool_]:
    """Whether the elements of those numbers are kept."""
    group = elements // np.uint64(4)
    counters = np.stack(
        [
            group & np.uint64(0xFFFFFFFF),
            group >> np.uint64(32),
            np.full_like(group, offset & 0xFFFFFFFF),
            np.full_like(group, offset >> 32),
        ],
        axis=1,
    ).astype(np.uint32)
    draws = philox(counters, seed)[np.arange(len(elements)), elements % np.uint64(4)]
    return draws >= p * 2.0**32


def softmax(x: Array) -> Array:
    exponentials = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, labels: npt.NDArray[np.int32]) -> Array:
    """Each row's loss."""
    x = logits.astype(np.float64)
    maximum = x.max(axis=1)
    return np.log(np.exp(x - maximum[:, None]).sum(axis=1)) + maximum - x[np.arange(len(x)), labels]


def sgd_step(
    w: Array, v: Array, g: Array, lr: float, momentum: float, weight_decay: float, trust: float | None = None
) -> tuple[Array, Array]:
    w, v, g = (array.astype(np.float64) for array in (w, v, g))
    norms = [np.linalg.norm(array) for array in (w, g)]
    if trust is not None and all(norms):
        lr *= float(trust * norms[0] / (norms[1] + weight_decay * norms[0]))
    v = momentum * v - weight_decay * lr * w - lr * g
    return w + v, v


def prepare_input(
    images: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int32],
    flips: npt.NDArray[np.uint8],
    shifts: Array,
    mean: Array | None,
    crop: int,
    scale: float = 1.0,
    size: int | None = None,
) -> Array:
    out = np.zeros((len(images), size or crop, size or crop, 3))
    for to, image, (y, x), flip, shift in zip(out, images, offsets, flips, shifts, strict=True):
        whole = image.astype(np.float64) - (0.0 if mean is None else mean)
        part = whole[y : y + crop, x : x + crop]
        to[:crop, :crop] = ((part[:, ::-1] if flip else part) + shift) * scale
    return out


def of_all_magnitudes(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Everything that float32 holds as a normal number, of both signs, and zeros."""
    values = 10 ** rng.uniform(-37.9, 38.5, shape) * rng.choice([-1, 1], shape)
    values[rng.random(shape) < 0.1] = 0
    return values.astype(np.float32)


def assert_difference(
    found: npt.NDArray[np.float32], terms: tuple[Array, Array], sizes: tuple[Array, Array], tolerance: float
) -> None:
    """Assert that a result is the difference of two terms, with an error that is small beside their sizes.

    What is beyond float32 must be infinite; products below its normal numbers may have been taken for 0 on the way.
    """
    expected = terms[0] - terms[1]
    with np.errstate(over="ignore"):
        finite = np.isfinite(expected.astype(np.float32))
    np.testing.assert_array_equal(np.isfinite(found), finite)
    bound = tolerance * (sizes[0] + sizes[1]) + 3e-32
    assert (np.abs(found - expected) <= bound)[finite].all()
