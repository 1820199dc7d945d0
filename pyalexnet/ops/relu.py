"""ReLU and its gradient."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty
from pyalexnet.system.checks import number


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


def relu_backward(dy: ArrayLike, y: ArrayLike, *, scale: float = 1.0, device: str | None = None) -> Tensor:
    """The gradient of :func:`relu` by its input: scale · dy where y > 0, else 0.

    With ``scale`` = 1 / (1 - p) it is the gradient by the input of a ReLU and the :func:`~pyalexnet.ops.dropout` behind
    it: what dropout returned is above 0 where both let pass.

    Args:
        dy: float32 array, the loss's gradient by ``y``.
        y: float32 array of the same shape, what :func:`relu`, or dropout behind it, returned.
        scale: a number above 0.
        device: where to compute when neither array is on a device yet.

    Returns:
        Tensor of dy's shape.

    Raises:
        TypeError: an argument is not a float32 array, or ``scale`` is not a number.
        ValueError: the shapes differ, an array is empty, they lie on different devices, or ``scale`` is not above 0
            and finite.
    """
    scale = number("scale", scale)
    gradient, result = Argument.of("dy", dy), Argument.of("y", y)
    result.require_shape(*gradient.shape)
    on = common_device(device, gradient, result)
    dx = empty(gradient.shape, on)
    on.native.relu_backward(dx.array, gradient.native(on), result.native(on), scale, on.stream)
    on.stream.synchronize()
    return dx
