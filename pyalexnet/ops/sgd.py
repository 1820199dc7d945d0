"""Stochastic gradient descent with momentum and weight decay."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.backend import Device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty, settings
from pyalexnet.system.checks import number


def sgd_step(
    w: ArrayLike,
    v: ArrayLike,
    g: ArrayLike,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    device: str | None = None,
) -> tuple[Tensor, Tensor]:
    """One update as Krizhevsky et al. 2012, section 5 write it; the arguments stay as they are.

    v ← momentum · v - weight_decay · lr · w - lr · g, then w ← w + v.

    Args:
        w: float32 array of any shape, the weights.
        v: float32 array of the same shape, their momentum.
        g: float32 array of the same shape, the mean loss's gradient by ``w``.
        lr: learning rate, not negative.
        momentum: share of ``v`` that stays, not negative.
        weight_decay: not negative.
        device: where to compute when no array is on a device yet.

    Returns:
        The new ``w`` and ``v``.

    Raises:
        TypeError: an array is not of float32, or a rate is no number.
        ValueError: the shapes differ, an array is empty, a number is out of range, or the devices differ.
    """
    weights = Argument.of("w", w)
    velocity, gradient = Argument.of("v", v, shape=weights.shape), Argument.of("g", g, shape=weights.shape)
    on = common_device(device, weights, velocity, gradient)
    rates = settings(on, number("lr", lr), number("momentum", momentum), number("weight_decay", weight_decay))
    new_w, new_v = _copy(weights, on), _copy(velocity, on)
    on.native.sgd_step([new_w.array], [new_v.array], [gradient.native(on)], [rates], on.stream)
    on.stream.synchronize()
    return new_w, new_v


def _copy(source: Argument, on: Device) -> Tensor:
    copied = empty(source.shape, on)
    on.native.copy(copied.array, source.native(on), on.stream)
    return copied
