"""What every operation does with its arguments before a kernel sees them."""

from __future__ import annotations

import operator
from typing import Any, SupportsFloat, SupportsIndex

from pyalexnet.backend import DEFAULT_DEVICE, Device, get_device
from pyalexnet.tensor import DTYPES, Tensor


def common_device(device: str | None, **arrays: Any) -> Device:
    """The device an operation computes on: that of its Tensors, else the one asked for, else the default.

    Raises:
        ValueError: two arguments lie on different devices, or one lies on another device than asked for.
    """
    found = {name: array.device for name, array in arrays.items() if isinstance(array, Tensor)}
    for name, array in arrays.items():
        if name not in found and hasattr(array, "__cuda_array_interface__"):
            found[name] = Tensor.from_array(array).device
    if device is not None:
        found["device="] = get_device(device)
    if len(set(found.values())) > 1:
        places = ", ".join(f"{name} is on {on}" for name, on in found.items())
        raise ValueError(f"all arguments must be on one device: {places}")
    return next(iter(found.values())) if found else get_device(DEFAULT_DEVICE)


def to_device(name: str, data: Any, on: Device, dtype: str = "float32") -> Tensor:
    """The argument as a Tensor of the given dtype on the device.

    Raises:
        TypeError: the argument is no array of that dtype.
        ValueError: the argument is empty.
    """
    found = getattr(data, "dtype", None)
    if found is None:
        raise TypeError(f"{name} is a {type(data).__name__}; it must be an array of {dtype}")
    if str(found).removeprefix("torch.") != dtype:
        raise TypeError(f"{name} has dtype {found}; it must be {DTYPES[dtype]}")
    if 0 in data.shape:
        raise ValueError(f"{name} has shape {tuple(data.shape)}; it must not be empty")
    return Tensor.from_array(data, device=str(on))


def empty(shape: tuple[int, ...], on: Device) -> Tensor:
    """A float32 result on the device."""
    return Tensor.empty(shape, device=str(on))


def unsigned(name: str, value: Any) -> int:
    """An integer of 64 bits without a sign, such as a seed.

    Raises:
        TypeError: the value is not an integer.
        ValueError: it does not fit.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be an integer") from None
    if not 0 <= number < 2**64:
        raise ValueError(f"{name} is {number}; it must be from 0 to 2**64 - 1")
    return number


def require_integers(**values: Any) -> None:
    """Raise TypeError naming the first of the values that is not an integer."""
    for name, value in values.items():
        if not isinstance(value, SupportsIndex):
            raise TypeError(f"{name} is {value!r}; it must be an integer")


def require_numbers(**values: Any) -> None:
    """Raise TypeError naming the first of the values that is not a number."""
    for name, value in values.items():
        if not isinstance(value, SupportsFloat):
            raise TypeError(f"{name} is {value!r}; it must be a number")


def workspace(nbytes: int, on: Device) -> Tensor:
    """Scratch memory on the device."""
    return Tensor.empty((max(nbytes, 1),), dtype="uint8", device=str(on))


def require_ndim(ndim: int, **tensors: Tensor) -> None:
    """Raise ValueError naming the first of the tensors that has not ``ndim`` axes."""
    for name, tensor in tensors.items():
        if tensor.ndim != ndim:
            raise ValueError(f"{name} has shape {tensor.shape}; it must have {ndim} axes")
