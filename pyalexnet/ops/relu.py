"""ReLU and its gradient."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty


def relu(x: ArrayLike, *, device: str | None = None) -> Tensor:
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
    values = Argument.of("x", x)
    on = common_device(device, values)
    y = empty(values.shape, on)
    on.native.relu_forward(y.array, values.native(on), on.stream)
    on.stream.synchronize()
    return y


def relu_backward(dy: ArrayLike, y: ArrayLike, *, device: str | None = None) -> Tensor:
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
    gradient, result = Argument.of("dy", dy), Argument.of("y", y)
    result.require_shape(*gradient.shape)
    on = common_device(device, gradient, result)
    dx = empty(gradient.shape, on)
    on.native.relu_backward(dx.array, gradient.native(on), result.native(on), on.stream)
    on.stream.synchronize()
    return dx
