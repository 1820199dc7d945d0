"""Convolution and its gradients."""

from __future__ import annotations

from typing import Any

from pyalexnet.ops._arguments import common_device, empty, require_integers, require_ndim, to_device, workspace
from pyalexnet.tensor import Tensor


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    relu: bool = False,
    device: str | None = None,
) -> Tensor:
    """Convolution of images with a bank of filters (Krizhevsky et al. 2012, section 3.5).

    y[n, oy, ox, k] = b[k] + sum over ky, kx, c of x[n, oy·stride + ky - padding, ox·stride + kx - padding, c]
    · w[ky, kx, c, k], where x is zero outside the image; the filters of group g see the g-th part of the channels.

    Args:
        x: float32 (batch, height, width, channels).
        w: float32 (kernel height, kernel width, channels / groups, filters).
        b: float32 (filters,), or None for no bias.
        stride: pixels from one place of the kernel to the next, in both directions.
        padding: zeros around the image on all four sides.
        groups: number of parts that channels and filters are divided into.
        relu: whether max(·, 0) follows.
        device: where to compute when no argument is on a device yet.

    Returns:
        Tensor (batch, out height, out width, filters), out = (extent + 2·padding - kernel) // stride + 1.

    Raises:
        TypeError: an array is not of float32, or a number is not an integer.
        ValueError: shapes, stride, padding and groups do not fit together, an array is empty, or they lie on
            different devices.
    """
    arrays = {"x": x, "w": w} | ({} if b is None else {"b": b})
    on = common_device(device, **arrays)
    x, w = to_device("x", x, on), to_device("w", w, on)
    bias = None if b is None else to_device("b", b, on).array
    require_integers(stride=stride, padding=padding, groups=groups)
    shape = (x.shape, w.shape, stride, padding, groups)
    y = empty(tuple(on.native.conv_y_shape(*shape)), on)
    memory = workspace(on.native.conv_forward_workspace_bytes(*shape), on)
    on.native.conv_forward(y.array, x.array, w.array, bias, *shape[2:], relu, memory.array, on.stream)
    on.stream.synchronize()
    return y


def conv2d_backward_input(
    dy: Any,
    w: Any,
    input_shape: tuple[int, int, int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    device: str | None = None,
) -> Tensor:
    """The gradient of :func:`conv2d` (without ReLU) by its input.

    dx[n, iy, ix, c] = sum over oy, ox, k with iy = oy·stride + ky - padding, ix = ox·stride + kx - padding of
    dy[n, oy, ox, k] · w[ky, kx, c, k].

    Args:
        dy: float32 (batch, out height, out width, filters), the loss's gradient by the convolution's output.
        w: float32 (kernel height, kernel width, channels / groups, filters).
        input_shape: (batch, height, width, channels) of the convolution's x.
        stride: as in :func:`conv2d`, like padding and groups.
        padding: as in :func:`conv2d`.
        groups: as in :func:`conv2d`.
        device: where to compute when no argument is on a device yet.

    Returns:
        Tensor of ``input_shape``.

    Raises:
        TypeError: an array is not of float32, or a number is not an integer.
        ValueError: shapes, stride, padding and groups do not fit together, an array is empty, or they lie on
            different devices.
    """
    on = common_device(device, dy=dy, w=w)
    dy, w = to_device("dy", dy, on), to_device("w", w, on)
    require_integers(stride=stride, padding=padding, groups=groups)
    shape = (input_shape, w.shape, stride, padding, groups)
    memory = workspace(on.native.conv_backward_input_workspace_bytes(*shape), on)
    dx = empty(tuple(input_shape), on)
    on.native.conv_backward_input(dx.array, dy.array, w.array, *shape[2:], memory.array, on.stream)
    on.stream.synchronize()
    return dx


def conv2d_backward_weight(
    x: Any,
    dy: Any,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    device: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradients of :func:`conv2d` (without ReLU) by its weights and its bias.

    dw[ky, kx, c, k] = sum over n, oy, ox of x[n, oy·stride + ky - padding, ox·stride + kx - padding, c]
    · dy[n, oy, ox, k], and db[k] = sum over n, oy, ox of dy[n, oy, ox, k].

    Args:
        x: float32 (batch, height, width, channels), the convolution's input.
        dy: float32 (batch, out height, out width, filters), the loss's gradient by the convolution's output.
        kernel_size: (kernel height, kernel width), or one number for both.
        stride: as in :func:`conv2d`, like padding and groups.
        padding: as in :func:`conv2d`.
        groups: as in :func:`conv2d`.
        device: where to compute when no argument is on a device yet.

    Returns:
        Tensors dw (kernel height, kernel width, channels / groups, filters) and db (filters,).

    Raises:
        TypeError: an array is not of float32, or a number is not an integer.
        ValueError: shapes, stride, padding and groups do not fit together, an array is empty, or they lie on
            different devices.
    """
    on = common_device(device, x=x, dy=dy)
    x, dy = to_device("x", x, on), to_device("dy", dy, on)
    require_ndim(4, x=x, dy=dy)
    require_integers(stride=stride, padding=padding, groups=groups)
    kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
    if len(kernel) != 2:
        raise ValueError(f"kernel_size is {kernel_size}; it must be one or two numbers")
    if groups < 1 or x.shape[3] % groups:
        raise ValueError(f"groups is {groups}; it must divide the {x.shape[3]} channels of x")
    w_shape = (*kernel, x.shape[3] // groups, dy.shape[3])
    shape = (x.shape, w_shape, stride, padding, groups)
    memory = workspace(on.native.conv_backward_weight_workspace_bytes(*shape), on)
    dw, db = empty(w_shape, on), empty(w_shape[3:], on)
    on.native.conv_backward_weight(dw.array, db.array, x.array, dy.array, *shape[2:], memory.array, on.stream)
    on.stream.synchronize()
    return dw, db
