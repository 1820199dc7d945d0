"""Memory for results and for what kernels need on the way to them."""

from __future__ import annotations

import numpy as np

from pyalexnet.device.backend import Device
from pyalexnet.device.native import NativeArray
from pyalexnet.device.tensor import Tensor, host_array


def empty(shape: tuple[int, ...], on: Device) -> Tensor:
    """A float32 result on the device."""
    return Tensor.empty(shape, device=str(on))


def workspace(nbytes: int, on: Device) -> Tensor:
    """Scratch memory on the device."""
    return Tensor.empty((max(nbytes, 1),), dtype="uint8", device=str(on))


def settings(on: Device, *numbers: float) -> NativeArray:
    """Numbers of float32, for a launch to take when it is called."""
    with np.errstate(over="ignore"):  # infinities are refused by name
        return host_array(on, np.array(numbers).astype(np.float32))


def draw_of(on: Device, seed: int, offset: int) -> NativeArray:
    """A draw of dropout's, likewise: two numbers of 64 bits."""
    return host_array(on, np.array([seed, offset], np.uint64).view(np.uint8))
