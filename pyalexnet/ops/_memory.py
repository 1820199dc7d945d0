"""Memory for results and for what kernels need on the way to them."""

from __future__ import annotations

from pyalexnet.device.backend import Device
from pyalexnet.device.tensor import Tensor


def empty(shape: tuple[int, ...], on: Device) -> Tensor:
    """A float32 result on the device."""
    return Tensor.empty(shape, device=str(on))


def workspace(nbytes: int, on: Device) -> Tensor:
    """Scratch memory on the device."""
    return Tensor.empty((max(nbytes, 1),), dtype="uint8", device=str(on))
