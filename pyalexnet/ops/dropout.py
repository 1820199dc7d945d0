"""Dropout from a counter-based generator, and its gradient."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import draw_of, empty
from pyalexnet.system.checks import bounded, number


def dropout(x: ArrayLike, *, p: float = 0.5, seed: int, offset: int = 0, device: str | None = None) -> Tensor:
    """Zero elements at random, scale the others by 1 / (1 - p) (Krizhevsky et al. 2012, section 4.2).

    An element is dropped with probability p. Whether it is follows from ``seed``, ``offset`` and its place
    in the array alone: number i reads the 32-bit word i % 4 of Philox4x32-10 (Salmon et al. 2011), whose key
    is the seed and whose counter is (i // 4, offset), and is kept when that word is at least p · 2**32. So
    the draw is the same on every device and in every run, and backward draws it again instead of storing a
    mask.

    Args:
        x: float32 array of any shape with at least one axis.
        p: from 0 (nothing is dropped) to below 1.
        seed: from 0 to 2⁶⁴ - 1.
        offset: which draw of the seed, from 0 to 2⁶⁴ - 1.
        device: where to compute when ``x`` is not on a device yet.

    Returns:
        Tensor of x's shape.

    Raises:
        TypeError: ``x`` is not a float32 array, ``p`` no number, or ``seed`` or ``offset`` no integer.
        ValueError: ``x`` is empty or has no axis, or a number is out of range.
    """
    values = Argument.of("x", x)
    on = common_device(device, values)
    p, *draw = _draw(p, seed, offset)
    y = empty(values.shape, on)
    on.native.dropout_forward(y.array, values.native(on), p, draw_of(on, *draw), _row_elements(values), 0, on.stream)
    on.stream.synchronize()
    return y


def dropout_backward(dy: ArrayLike, *, p: float = 0.5, seed: int, offset: int = 0, device: str | None = None) -> Tensor:
    """The gradient of :func:`dropout` by its input: dy / (1 - p) where the element was kept, else 0.

    Args:
        dy: float32 array of x's shape, the loss's gradient by what :func:`dropout` returned.
        p: as given to :func:`dropout`, like ``seed`` and ``offset``.
        seed: see ``p``.
        offset: see ``p``.
        device: where to compute when ``dy`` is not on a device yet.

    Returns:
        Tensor of dy's shape.

    Raises:
        TypeError: ``dy`` is not a float32 array, ``p`` no number, or ``seed`` or ``offset`` no integer.
        ValueError: ``dy`` is empty or has no axis, or a number is out of range.
    """
    gradient = Argument.of("dy", dy)
    on = common_device(device, gradient)
    p, *draw = _draw(p, seed, offset)
    dx = empty(gradient.shape, on)
    on.native.dropout_backward(
        dx.array, gradient.native(on), p, draw_of(on, *draw), _row_elements(gradient), 0, on.stream
    )
    on.stream.synchronize()
    return dx


def _draw(p: float, seed: int, offset: int) -> tuple[float, int, int]:
    return number("p", p), bounded("seed", seed, 0, 2**64 - 1), bounded("offset", offset, 0, 2**64 - 1)


def _row_elements(x: Argument) -> int:
    return x.shape[-1] if x.shape else 1
