"""Hyperbolic tangent and its gradient."""

from __future__ import annotations

from typing import Any

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty


def tanh(x: Any, *, device: str | None = None) -> Tensor:
    """The hyperbolic tangent, elementwise (Krizhevsky et al. 2012, section 3.1, compare ReLU with it); NaN stays NaN.

    Args:
        x: float32 array of any shape.
        device: where to compute when ``x`` is not on a device yet.

    Returns:
        Tensor of x's shape, right within 5 units in the last place.

    Raises:
        TypeError: ``x`` is not a float32 array.
        ValueError: ``x`` is empty or on another device than ``device``.
    """
    x = Argument.of("x", x)
    on = common_device(device, x)
    y = empty(x.shape, on)
    on.native.tanh_forward(y.array, x.native(on), on.stream)
    on.stream.synchronize()
    return y


def tanh_backward(dy: Any, y: Any, *, device: str | None = None) -> Tensor:
    """The gradient of :func:`tanh` by its input: dy · (1 - y²).

    Args:
        dy: float32 array, the loss's gradient by ``y``.
        y: float32 array of the same shape, what :func:`tanh` returned.
        device: where to compute when neither array is on a device yet.

    Returns:
        Tensor of dy's shape.

    Raises:
        TypeError: an argument is not a float32 array.
        ValueError: the shapes differ, an array is empty, or they lie on different devices.
    """
    dy, y = Argument.of("dy", dy), Argument.of("y", y)
    y.require_shape(*dy.shape)
    on = common_device(device, dy, y)
    dx = empty(dy.shape, on)
    on.native.tanh_backward(dx.array, dy.native(on), y.native(on), on.stream)
    on.stream.synchronize()
    return dx
