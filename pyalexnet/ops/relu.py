"""ReLU and its gradient."""

from __future__ import annotations

from typing import Any

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty


def relu(x: Any, *, device: str | None = None) -> Tensor:
    """max(x, 0), elementwise (Krizhevsky et al. 2012, section 3.1); NaN stays NaN.

    Args:
        x: float32 array of any shape.
        device: where to compute when ``x`` is not on a device yet.

    Returns:
        Tensor of x's shape.

    Raises:
        TypeError: ``x`` is not a float32 array.
        ValueError: ``x`` is empty or on another device than ``device``.
    """
    x = Argument.of("x", x)
    on = common_device(device, x)
    y = empty(x.shape, on)
    on.native.relu_forward(y.array, x.native(on), on.stream)
    on.stream.synchronize()
    return y


def relu_backward(dy: Any, y: Any, *, device: str | None = None) -> Tensor:
    """The gradient of :func:`relu` by its input: dy where y > 0, else 0.

    Args:
        dy: float32 array, the loss's gradient by ``y``.
        y: float32 array of the same shape, what :func:`relu` returned.
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
    on.native.relu_backward(dx.array, dy.native(on), y.native(on), on.stream)
    on.stream.synchronize()
    return dx
