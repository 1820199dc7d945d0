"""Local response normalisation across channels, and its gradient."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty
from pyalexnet.system.checks import bounded, flag, number


def lrn(
    x: ArrayLike,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    device: str | None = None,
) -> Tensor:
    """Divide x by (k + alpha · Σ x²)^beta over neighbouring channels (Krizhevsky et al. 2012, section 3.3).

    The sum runs over the channels from i - (size - 1) // 2 to i + size // 2 that exist, which are ``size``: those of an
    even size reach further up, as ONNX's do (PyTorch's reach further down, and Caffe has none). ``alpha`` is not
    divided by ``size``: to match these, which divide, pass alpha / size here.

    The result is right for every finite float32, also where the squares are beyond float32. NaN makes all NaN whose
    window holds it; an infinite x is NaN itself and makes the others 0.

    Args:
        x: float32 array (..., channels), for example NHWC.
        size: channels of a window, at least 1.
        alpha: weight of the squares, 0 or a positive normal number of float32.
        beta: exponent, likewise.
        k: what keeps the base of the power from 0, a positive normal number of float32.
        device: where to compute when ``x`` is not on a device yet.

    Returns:
        Tensor of x's shape.

    Raises:
        TypeError: ``x`` is not a float32 array, ``size`` no integer, or another argument no number.
        ValueError: ``x`` is empty or has no axis, or a number is out of range.
    """
    values = Argument.of("x", x)
    on = common_device(device, values)
    numbers = normalisation(size, alpha, beta, k)
    y = empty(values.shape, on)
    on.native.lrn_forward(y.array, values.native(on), *numbers, on.stream)
    on.stream.synchronize()
    return y


def lrn_backward(
    dy: ArrayLike,
    x: ArrayLike,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    x_from_relu: bool = False,
    device: str | None = None,
) -> Tensor:
    """The gradient of :func:`lrn` by its input, from the input alone: nothing has to be kept from forward.

    Args:
        dy: float32 array of x's shape, the loss's gradient by what :func:`lrn` returned.
        x: float32 array (..., channels), what :func:`lrn` was given.
        size: as given to :func:`lrn`, like ``alpha``, ``beta`` and ``k``.
        alpha: see ``size``.
        beta: see ``size``.
        k: see ``size``.
        x_from_relu: whether ``x`` came out of a ReLU and the gradient by that ReLU's input is wanted: 0 where x is not
            positive.
        device: where to compute when neither array is on a device yet.

    Returns:
        Tensor of x's shape.

    Raises:
        TypeError: an array is not of float32, ``size`` no integer, or another argument no number.
        ValueError: the shapes differ, an array is empty, a number is out of range, or the devices differ.
    """
    gradient, values = Argument.of("dy", dy), Argument.of("x", x)
    gradient.require_shape(*values.shape)
    on = common_device(device, gradient, values)
    numbers, x_from_relu = normalisation(size, alpha, beta, k), flag("x_from_relu", x_from_relu)
    dx = empty(values.shape, on)
    on.native.lrn_backward(dx.array, gradient.native(on), values.native(on), *numbers, x_from_relu, on.stream)
    on.stream.synchronize()
    return dx


def normalisation(size: int, alpha: float, beta: float, k: float) -> tuple[int, float, float, float]:
    """The numbers of a normalisation, which the kernels check the range of.

    Raises:
        TypeError: ``size`` is no integer, or another no number.
    """
    return bounded("size", size), number("alpha", alpha), number("beta", beta), number("k", k)
