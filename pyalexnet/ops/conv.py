"""Convolution and its gradients."""

from __future__ import annotations

from typing import SupportsIndex, TypedDict

from pyalexnet.architecture import Precision
from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty, workspace
from pyalexnet.ops.algorithms import product_choice
from pyalexnet.system.checks import bounded, extents, flag

_IMAGES = ("batch", "height", "width", "channels")
_WEIGHTS = ("kernel height", "kernel width", "channels / groups", "filters")
_GRADIENT = ("batch", "out height", "out width", "filters")


class _Places(TypedDict):
    """How the windows lie."""

    stride: int
    padding: int
    groups: int


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    relu: bool = False,
    device: str | None = None,
    algorithm: str | None = None,
    precision: Precision = "fp32",
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
        algorithm: one of :func:`pyalexnet.ops.conv_algorithms`; by default the fastest for the shape.
        precision: what products round their operands to, ``fp32``, ``tf32``, ``bf16`` or ``tf32x3``; see
            :class:`pyalexnet.Options`.

    Returns:
        Tensor (batch, out height, out width, filters), out = (extent + 2·padding - kernel) // stride + 1.

    Raises:
        TypeError: an array is not of float32, a number is not an integer, or ``algorithm`` or ``precision`` no
            text.
        ValueError: shapes, stride, padding and groups do not fit together, an array is empty, they lie on different
            devices, there is no such algorithm, or none for the shape, or no such precision on the device.
    """
    images, weights = Argument.of("x", x, shape=_IMAGES), Argument.of("w", w, shape=_WEIGHTS)
    bias = None if b is None else Argument.of("b", b, shape=weights.shape[3:])
    on = common_device(device, images, weights, bias)
    relu = flag("relu", relu)
    places = _places(stride, padding, groups)
    y = empty(tuple(on.native.conv_y_shape(images.shape, weights.shape, **places)), on)
    choice = product_choice(algorithm, precision, on, on.native.conv_algorithms)
    plan = on.native.conv_forward_plan(x=images, w=weights, **places, **choice)
    memory = workspace(plan.workspace_bytes, on)
    on.native.conv_forward(
        plan, y=y.array, x=images.native(on), w=weights.native(on), b=None if bias is None else bias.native(on),
        relu=relu, workspace=memory.array, stream=on.stream,
    )  # fmt: skip
    on.stream.synchronize()
    return y


def conv2d_backward_input(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: tuple[int, int, int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    device: str | None = None,
    algorithm: str | None = None,
    precision: Precision = "fp32",
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
        algorithm: one of :func:`pyalexnet.ops.conv_algorithms`; by default the fastest for the shape.
        precision: what products round their operands to, ``fp32``, ``tf32``, ``bf16`` or ``tf32x3``; see
            :class:`pyalexnet.Options`.

    Returns:
        Tensor of ``input_shape``.

    Raises:
        TypeError: an array is not of float32, a number is not an integer, or ``algorithm`` or ``precision`` no
            text.
        ValueError: shapes, stride, padding and groups do not fit together, an array is empty, they lie on different
            devices, there is no such algorithm, or none for the shape, or no such precision on the device.
    """
    gradient, weights = Argument.of("dy", dy, shape=_GRADIENT), Argument.of("w", w, shape=_WEIGHTS)
    on = common_device(device, gradient, weights)
    x_shape = extents("input_shape", input_shape, 4)
    places = _places(stride, padding, groups)
    gradient.require_shape(*on.native.conv_y_shape(x_shape, weights.shape, **places))
    dx = empty(x_shape, on)
    choice = product_choice(algorithm, precision, on, on.native.conv_algorithms)
    plan = on.native.conv_backward_input_plan(dx=dx, w=weights, **places, **choice)
    memory = workspace(plan.workspace_bytes, on)
    on.native.conv_backward_input(
        plan, dx=dx.array, dy=gradient.native(on), w=weights.native(on), workspace=memory.array, stream=on.stream
    )
    on.stream.synchronize()
    return dx


def conv2d_backward_weight(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    device: str | None = None,
    algorithm: str | None = None,
    precision: Precision = "fp32",
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
        algorithm: one of :func:`pyalexnet.ops.conv_algorithms`; by default the fastest for the shape.
        precision: what products round their operands to, ``fp32``, ``tf32``, ``bf16`` or ``tf32x3``; see
            :class:`pyalexnet.Options`.

    Returns:
        Tensors dw (kernel height, kernel width, channels / groups, filters) and db (filters,).

    Raises:
        TypeError: an array is not of float32, a number is not an integer, or ``algorithm`` or ``precision`` no
            text.
        ValueError: shapes, stride, padding and groups do not fit together, an array is empty, they lie on different
            devices, there is no such algorithm, or none for the shape, or no such precision on the device.
    """
    images, gradient = Argument.of("x", x, shape=_IMAGES), Argument.of("dy", dy, shape=_GRADIENT)
    on = common_device(device, images, gradient)
    places = _places(stride, padding, groups)
    if not 1 <= places["groups"] <= images.shape[3] or images.shape[3] % places["groups"]:
        raise ValueError(f"groups is {groups}; it must divide the {images.shape[3]} channels of x")
    pair = (kernel_size, kernel_size) if isinstance(kernel_size, SupportsIndex) else kernel_size
    w_shape = (*extents("kernel_size", pair, 2), images.shape[3] // places["groups"], gradient.shape[3])
    gradient.require_shape(*on.native.conv_y_shape(images.shape, w_shape, **places))
    dw, db = empty(w_shape, on), empty(w_shape[3:], on)
    choice = product_choice(algorithm, precision, on, on.native.conv_algorithms)
    plan = on.native.conv_backward_weight_plan(x=images, dw=dw, **places, **choice)
    memory = workspace(plan.workspace_bytes, on)
    on.native.conv_backward_weight(
        plan, dw=dw.array, db=db.array, x=images.native(on), dy=gradient.native(on),
        workspace=memory.array, stream=on.stream,
    )  # fmt: skip
    on.stream.synchronize()
    return dw, db


def _places(stride: int, padding: int, groups: int) -> _Places:
    return {
        "stride": bounded("stride", stride),
        "padding": bounded("padding", padding),
        "groups": bounded("groups", groups),
    }
