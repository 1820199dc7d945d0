"""A net's weights and biases on its devices, and what moves them."""

from __future__ import annotations

from dataclasses import dataclass

from pyalexnet.device.memory import Ref


@dataclass(frozen=True)
class Parameter:
    """One parameter of one tower: value, momentum and gradient."""

    value: Ref
    momentum: Ref
    gradient: Ref
