"""Arrays that a caller hands over: checked by name before anything is copied, then brought to a device.

An operation asks for an :class:`Argument` for each of its arrays, finds their :func:`common_device`, checks how they
fit together, and has them brought there last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.device.backend import DEFAULT_DEVICE, Device, get_device
from pyalexnet.device.foreign import GpuArray, describe
from pyalexnet.device.native import NativeArray
from pyalexnet.device.tensor import Tensor, dtype_name, tensor_of
from pyalexnet.errors import DeviceNotFoundError

# The integers that labels and places may come in; they are computed with as int32.
INTEGERS = ("int32", "int64", "uint8", "int8", "int16", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class Argument:
    """An array that a caller gave, of a right dtype and shape; nothing of it has been copied.

    Attributes:
        name: the argument's.
        data: what it is: a Tensor, NumPy's view of host memory, or an array on a GPU.
    """

    name: str
    data: Tensor | npt.NDArray[Any] | GpuArray

    @classmethod
    def of(
        cls,
        name: str,
        value: object,
        dtype: str | tuple[str, ...] = "float32",
        shape: tuple[int | str, ...] | None = None,
    ) -> Argument:
        """What a caller gave as an array, checked before anything is copied.

        Args:
            name: the argument's, which every message names.
            value: a Tensor, a NumPy array, or an array of PyTorch (parameters too), CuPy or whatever has
                ``__cuda_array_interface__``, ``__dlpack__``, ``__array__``, ``__array_interface__`` or a buffer.
            dtype: the element type it must have, or several; truth values become uint8.
            shape: the extents it must have, a word for each that is free, such as ``("images", 227, 227, 3)``; None
                for any shape.

        Raises:
            TypeError: the value is no array, or one of another dtype.
            ValueError: it is empty, masked or has another shape.
        """
        wanted = (dtype,) if isinstance(dtype, str) else dtype
        given = getattr(value, "dtype", "")
        found = dtype_name(given) if isinstance(given, np.dtype) else str(given)
        if found.startswith("torch.") and found.removeprefix("torch.") not in wanted:
            raise TypeError(f"{name} has dtype {found}; it must be {_either(wanted)}")  # some have no name in NumPy
        data = value if isinstance(value, Tensor) else describe(name, value)
        if dtype_name(data.dtype) not in wanted:
            raise TypeError(f"{name} has dtype {data.dtype}; it must be {_either(wanted)}")
        if isinstance(data, np.ndarray) and data.dtype == bool:
            data = data.view(np.uint8)
        elif isinstance(data, GpuArray) and data.dtype == bool:
            data = replace(data, dtype=np.dtype(np.uint8))
        argument = cls(name, data)
        if 0 in argument.shape:
            raise ValueError(f"{name} has shape {argument.shape}; it must not be empty")
        if shape is not None:
            argument.require_shape(*shape)
        return argument

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, outermost axis first."""
        return self.data.shape

    @property
    def device(self) -> Device | None:
        """Where it lies; None for host memory, from which any device takes it.

        Raises:
            DeviceNotFoundError: on a GPU that the kernels do not run on.
        """
        if isinstance(self.data, np.ndarray):
            return None
        try:
            return self.data.device
        except DeviceNotFoundError as error:
            raise DeviceNotFoundError(f"{self.name} is on a GPU: {error}") from None

    def require_shape(self, *shape: int | str) -> None:
        """Refuse another shape than this; a word stands for any extent.

        Raises:
            ValueError: it has another.
        """
        found = self.shape
        if len(found) == len(shape) and all(
            isinstance(want, str) or want == have for want, have in zip(shape, found, strict=True)
        ):
            return
        wanted = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        axes = f"{len(shape)} {'axis' if len(shape) == 1 else 'axes'}"
        must = f"be {wanted}" if len(found) == len(shape) else f"have {axes} {wanted}"
        raise ValueError(f"{self.name} has shape {found}; it must {must}")

    def host(self) -> npt.NDArray[Any]:
        """The array in host memory: a view of its own, or a copy from a GPU."""
        return self.data if isinstance(self.data, np.ndarray) else self.data.numpy()

    def cut(self, parts: int) -> list[Argument]:
        """It in parts of as many rows, in host memory."""
        return [replace(self, data=part) for part in np.split(self.host(), parts)]

    def on(self, device: Device) -> Tensor:
        """The array on the device, which is its own if it has one (see :func:`common_device`)."""
        return self.data if isinstance(self.data, Tensor) else tensor_of(self.data, device)

    def native(self, device: Device) -> NativeArray:
        """The same as kernels take it."""
        return self.on(device).array

    def indices(self, device: Device, limits: int | npt.NDArray[Any]) -> Tensor:
        """Integers as a Tensor of int32 on the device, each checked to be from 0 to below its limit.

        The check reads them in host memory: they are copied from a GPU for it, and nothing is computed before.

        Args:
            device: as for :meth:`on`.
            limits: one for all, or as many as the last axis has.

        Raises:
            ValueError: naming the first that is out of range.
        """
        values = self.host()
        wrong = np.argwhere((values < 0) | (values >= limits))
        if wrong.size:
            place = tuple(int(i) for i in wrong[0])
            limit = limits if isinstance(limits, int) else limits[place[-1]]
            where = ", ".join(map(str, place))
            raise ValueError(f"{self.name}[{where}] is {values[place]}; it must be from 0 to {limit - 1}")
        if values.dtype == np.int32:
            return self.on(device)
        return tensor_of(values.astype(np.int32), device)


def common_device(device: str | None, *arguments: Argument | None) -> Device:
    """The device an operation computes on: that of its arguments, else the one asked for, else the default.

    Args:
        device: the one asked for, or None.
        arguments: all arrays; None for one that was left out.

    Raises:
        TypeError: ``device`` is no text.
        ValueError: two arguments lie on different devices, or one lies on another device than asked for.
    """
    found = {given.name: given.device for given in arguments if given is not None and given.device is not None}
    if device is not None:
        found["device="] = get_device(device)
    if len(set(found.values())) > 1:
        places = ", ".join(f"{name} is on {on}" for name, on in found.items())
        raise ValueError(f"all arguments must be on one device: {places}")
    return next(iter(found.values()), None) or get_device(DEFAULT_DEVICE)


def _either(dtypes: tuple[str, ...]) -> str:
    return dtypes[0] if len(dtypes) == 1 else f"{', '.join(dtypes[:-1])} or {dtypes[-1]}"
