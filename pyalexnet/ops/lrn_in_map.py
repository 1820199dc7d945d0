"""Local response normalisation within a map, over pixels instead of channels, and its gradient."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty
from pyalexnet.ops.lrn import normalisation

_IMAGES = ("images", "height", "width", "channels")


def lrn_in_map(
    x: ArrayLike,
    *,
    size: int = 5,
    alpha: float = 4e-5,
    beta: float = 0.75,
    k: float = 1.0,
    device: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Divide x by (k + alpha · Σ x²)^beta over the pixels around, channel by channel (the 2012 code's cnorm2).

    The sum runs over the pixels that exist from (size - 1) // 2 rows and columns above and left of one to size // 2
    below and right of it. ``alpha`` is not divided by the window's pixels; the 2012 code divides its 0.001 by 25.

    The result is right for every finite float32, as that of :func:`pyalexnet.ops.lrn` is; bases of powers that are
    beyond float32 are infinite, and backward computes them again.

    Args:
        x: float32 array (images, height, width, channels).
        size: rows and columns of a window, at least 1.
        alpha: weight of the squares, 0 or a positive normal number of float32.
        beta: exponent, likewise.
        k: what keeps the base of the power from 0, a positive normal number of float32.
        device: where to compute when ``x`` is not on a device yet.

    Returns:
        The result, a Tensor of x's shape, and the bases of the powers, another, for :func:`lrn_in_map_backward`.

    Raises:
        TypeError: ``x`` is not a float32 array, ``size`` no integer, or another argument no number.
        ValueError: ``x`` is empty or has not four axes, or a number is out of range.
    """
    images = Argument.of("x", x, shape=_IMAGES)
    on = common_device(device, images)
    numbers = normalisation(size, alpha, beta, k)
    y, scale = empty(images.shape, on), empty(images.shape, on)
    on.native.lrn_in_map_forward(y.array, scale.array, images.native(on), *numbers, on.stream)
    on.stream.synchronize()
    return y, scale


def lrn_in_map_backward(
    dy: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    *,
    size: int = 5,
    alpha: float = 4e-5,
    beta: float = 0.75,
    k: float = 1.0,
    device: str | None = None,
) -> Tensor:
    """The gradient of :func:`lrn_in_map` by its input.

    Args:
        dy: float32 array of x's shape, the loss's gradient by the first result of :func:`lrn_in_map`.
        x: float32 array (images, height, width, channels), what it was given.
        scale: its second result.
        size: as given to it, like ``alpha``, ``beta`` and ``k``.
        alpha: see ``size``.
        beta: see ``size``.
        k: see ``size``.
        device: where to compute when no array is on a device yet.

    Returns:
        Tensor of x's shape.

    Raises:
        TypeError: an array is not of float32, ``size`` no integer, or another argument no number.
        ValueError: the shapes differ, an array is empty, a number is out of range, or the devices differ.
    """
    images = Argument.of("x", x, shape=_IMAGES)
    gradient, bases = Argument.of("dy", dy, shape=images.shape), Argument.of("scale", scale, shape=images.shape)
    on = common_device(device, gradient, images, bases)
    numbers = normalisation(size, alpha, beta, k)
    dx, terms = empty(images.shape, on), empty(images.shape, on)
    arrays = (dx.array, terms.array, gradient.native(on), images.native(on), bases.native(on))
    on.native.lrn_in_map_backward(*arrays, *numbers, on.stream)
    on.stream.synchronize()
    return dx
