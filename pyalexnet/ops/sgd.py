"""Stochastic gradient descent with momentum and weight decay, at a rate that may follow from norms."""

from __future__ import annotations

import math

from annotated_types import Interval

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.backend import Device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.native import NativeArray
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty, settings, workspace
from pyalexnet.system.checks import number_within

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""The paper's, in its section 5."""

RATES = Interval(ge=0, lt=math.inf)
"""Of learning, of decay, of trust."""

MOMENTA = Interval(ge=0, lt=1)
"""With 1, an update would never fade."""


def sgd_step(
    w: ArrayLike,
    v: ArrayLike,
    g: ArrayLike,
    *,
    lr: float,
    momentum: float = MOMENTUM,
    weight_decay: float = WEIGHT_DECAY,
    trust: float | None = None,
    device: str | None = None,
) -> tuple[Tensor, Tensor]:
    """One update as Krizhevsky et al. 2012, section 5 write it; the arguments stay as they are.

    v ← momentum · v - weight_decay · lr · w - lr · g, then w ← w + v.

    With ``trust`` the rate follows from Euclidean norms: lr · trust · ‖w‖ / (‖g‖ + weight_decay · ‖w‖) takes the place
    of lr, unless w or g is all zeros (layer-wise adaptive rate scaling, LARS, of You, Gitman and Ginsburg 2017).

    Args:
        w: float32 array of any shape, the weights.
        v: float32 array of the same shape, their momentum.
        g: float32 array of the same shape, the mean loss's gradient by ``w``.
        lr: learning rate, not negative.
        momentum: share of ``v`` that stays, at least 0 and below 1.
        weight_decay: not negative.
        trust: not negative; None for a rate that is ``lr``.
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
    rates = settings(
        on,
        number_within("lr", lr, RATES),
        number_within("momentum", momentum, MOMENTA),
        number_within("weight_decay", weight_decay, RATES),
    )
    new_w, new_v, native_g = _copy(weights, on), _copy(velocity, on), gradient.native(on)
    if trust is not None:
        rates = _scaled(new_w.array, native_g, rates, number_within("trust", trust, RATES), on)
    on.native.sgd_step([new_w.array], [new_v.array], [native_g], [rates], on.stream)
    on.stream.synchronize()
    return new_w, new_v


def _scaled(w: NativeArray, g: NativeArray, rates: NativeArray, trust: float, on: Device) -> NativeArray:
    """The rates on the device, of which the first follows from norms; not synchronised."""
    scaled = empty(tuple(rates.shape), on)
    sums = workspace(on.native.lars_rates_workspace_bytes(w=[w]), on)
    on.native.lars_rates([w], [g], [rates], [scaled.array], settings(on, trust), sums.array, on.stream)
    return scaled.array


def _copy(source: Argument, on: Device) -> Tensor:
    copied = empty(source.shape, on)
    on.native.copy(copied.array, source.native(on), on.stream)
    return copied
