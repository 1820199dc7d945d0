"""Tensor: an array on one device that NumPy, CuPy and PyTorch can read without a copy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.backend import DEFAULT_DEVICE, Device, get_device

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "int32": np.dtype(np.int32),
    "uint8": np.dtype(np.uint8),
}

_DLPACK_CPU, _DLPACK_CUDA, _DLPACK_CUDA_MANAGED = 1, 2, 13


class Tensor:
    """An n-dimensional array of float32, int32 or uint8 on a device.

    ``np.asarray(tensor)`` reads it: without a copy where the device's memory is the host's (``cpu``, ``sim``),
    through a copy from a GPU. ``__cuda_array_interface__`` (``cuda``) and DLPack hand it to CuPy, PyTorch and
    others without a copy. Make one with :meth:`from_array` or :meth:`empty`.
    """

    __slots__ = ("array", "device")

    def __init__(self, array: Any, device: Device) -> None:
        """Wrap a native array; for users, :meth:`from_array` and :meth:`empty` are the ways in."""
        self.array = array
        self.device = device

    @classmethod
    def empty(cls, shape: tuple[int, ...], *, dtype: str = "float32", device: str = DEFAULT_DEVICE) -> Tensor:
        """New memory of the given shape; its content is undefined.

        Raises:
            ValueError: an extent below 1, or an unknown dtype.
            OutOfMemoryError: the device's memory limit is met.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
        if any(extent < 1 for extent in shape):
            raise ValueError(f"shape is {tuple(shape)}; every extent must be at least 1")
        on = get_device(device)
        memory = on.native.Memory(on.index, math.prod(shape) * DTYPES[dtype].itemsize)
        return cls(memory.array(0, list(shape), dtype), on)

    @classmethod
    def from_array(cls, data: Any, *, device: str | None = None) -> Tensor:
        """The data as a Tensor, without a copy where it already lies in the device's memory.

        Args:
            data: a Tensor, a NumPy array, or anything with ``__cuda_array_interface__``, ``__dlpack__`` or
                ``__array_interface__``; float32, int32 or uint8. Host arrays that are not contiguous, not aligned to 16
                bytes or read-only are copied.
            device: where to put host data (default ``cpu:0``); data of a GPU stays on its GPU.

        Raises:
            TypeError: the dtype is another one, or the data is no array.
            ValueError: the data lies on another device than the one asked for, or is not contiguous on a GPU.
        """
        if isinstance(data, Tensor):
            if device is not None and data.device != get_device(device):
                raise ValueError(f"the tensor is on {data.device}; it must be on {device}")
            return data
        if hasattr(data, "__cuda_array_interface__"):
            return _from_cuda_array(data, device)
        if hasattr(data, "__dlpack_device__") and not isinstance(data, np.ndarray):
            kind = data.__dlpack_device__()[0]
            if kind in (_DLPACK_CUDA, _DLPACK_CUDA_MANAGED):
                return _from_cuda_dlpack(data, device)
        return _from_host_array(data, get_device(device or DEFAULT_DEVICE))

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, outermost axis first."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type, as NumPy names it."""
        return DTYPES[self.array.dtype]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.array.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.array.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def numpy(self) -> npt.NDArray[Any]:
        """The elements as a NumPy array: the same memory on ``cpu`` and ``sim``, a copy from ``cuda``."""
        if self._in_host_memory:
            return np.asarray(_Described(self, self._interface()))
        host = np.empty(self.shape, self.dtype)
        on = self.device
        on.native.copy(host_array(on, host), self.array, on.stream)
        on.stream.synchronize()
        return host

    def __len__(self) -> int:
        if not self.array.shape:
            raise TypeError("len() of a Tensor without axes")
        return int(self.array.shape[0])

    def __repr__(self) -> str:
        return f"Tensor(shape={self.shape}, dtype={self.array.dtype}, device={self.device})"

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False and not self._in_host_memory:
            raise ValueError(f"a tensor on {self.device} cannot be read by NumPy without a copy")
        return np.array(self.numpy(), dtype=dtype, copy=copy if copy else None)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        if not self._in_host_memory:
            raise AttributeError(f"__array_interface__: {self.device} is not host memory")
        return self._interface()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self._in_host_memory:
            raise AttributeError(f"__cuda_array_interface__: {self.device} is not a CUDA device")
        return self._interface()

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule; every operation is complete when it returns, so no stream has to wait.

        Raises:
            BufferError: ``dl_device`` is another device than the tensor's.
        """
        kind, index = self.__dlpack_device__()
        if dl_device not in (None, (kind, index)):
            raise BufferError(f"dl_device is {dl_device}; a tensor on {self.device} is handed out as {(kind, index)}")
        return (self._copied() if copy else self).array.to_dlpack(kind)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_DLPACK_CPU, 0) if self._in_host_memory else (_DLPACK_CUDA, self.device.index)

    def _copied(self) -> Tensor:
        on = self.device
        copied = Tensor.empty(self.shape, dtype=self.array.dtype, device=str(on))
        on.native.copy(copied.array, self.array, on.stream)
        on.stream.synchronize()
        return copied

    @property
    def _in_host_memory(self) -> bool:
        return self.device.target != "cuda"

    def _interface(self) -> dict[str, Any]:
        itemsize = self.dtype.itemsize
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.array.address, False),
            "strides": tuple(stride * itemsize for stride in self.array.strides),
            "version": 3,
        }


class _Described:
    """What np.asarray reads and then keeps as the base of its view, so that the memory stays."""

    def __init__(self, tensor: Tensor, interface: dict[str, Any]) -> None:
        self.tensor = tensor
        self.__array_interface__ = interface


def _from_host_array(data: Any, on: Device) -> Tensor:
    host = np.asarray(data)
    _require_dtype(host.dtype)
    host = np.asarray(host, order="C")
    # A Tensor can be written to through NumPy and DLPack: what is read-only must not lie under one.
    borrowable = host.size and host.ctypes.data % 16 == 0 and host.flags.writeable
    if on.target != "cuda" and borrowable:
        strides = [stride // host.itemsize for stride in host.strides]
        array = on.native.borrow(host, host.ctypes.data, host.dtype.name, list(host.shape), strides, on.index)
        return Tensor(array, on)
    tensor = Tensor.empty(host.shape, dtype=host.dtype.name, device=str(on))
    on.native.copy(tensor.array, host_array(on, host), on.stream)
    on.stream.synchronize()
    return tensor


def host_array(on: Device, host: npt.NDArray[Any]) -> Any:
    """A contiguous NumPy array as a native array in host memory."""
    strides = [stride // host.itemsize for stride in host.strides]
    return on.native.borrow(host, host.ctypes.data, host.dtype.name, list(host.shape), strides, -1)


def pinned_array(on: Device, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """A NumPy array in page-locked memory, which the device copies from and to at full speed; not initialised.

    Args:
        on: the device.
        shape: the array's shape, without zeros.
        dtype: the name of one of :data:`DTYPES`.

    Raises:
        CudaError: there is not enough memory that can be locked.
    """
    memory = on.native.PinnedMemory(math.prod(shape) * DTYPES[dtype].itemsize)
    return np.frombuffer(memory, DTYPES[dtype]).reshape(shape)


def _from_cuda_array(data: Any, device: str | None) -> Tensor:
    described = data.__cuda_array_interface__
    dtype = np.dtype(described["typestr"])
    _require_dtype(dtype)
    address, shape = described["data"][0], described["shape"]
    on = get_device(f"cuda:{_cuda_device_of(data)}")
    _require_asked(on, device)
    strides = described.get("strides")
    if strides is None:
        array_strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    else:
        array_strides = [stride // dtype.itemsize for stride in strides]
    on.native.synchronize_device(on.index)  # whatever its library still computes on it
    return _require_usable(
        Tensor(on.native.borrow(data, address, dtype.name, list(shape), array_strides, on.index), on)
    )


def _cuda_device_of(data: Any) -> int:
    if hasattr(data, "__dlpack_device__"):
        return int(data.__dlpack_device__()[1])
    return int(getattr(getattr(data, "device", None), "id", 0))


def _from_cuda_dlpack(data: Any, device: str | None) -> Tensor:
    on = get_device(f"cuda:{data.__dlpack_device__()[1]}")
    _require_asked(on, device)
    array = on.native.from_dlpack(data.__dlpack__(), data.__dlpack_device__()[0])
    on.native.synchronize_device(on.index)
    return _require_usable(Tensor(array, on))


def _require_dtype(dtype: np.dtype[Any]) -> None:
    if dtype not in DTYPES.values():
        raise TypeError(f"the array has dtype {dtype}; it must be {', '.join(DTYPES)}")


def _require_asked(on: Device, device: str | None) -> None:
    if device is not None and get_device(device) != on:
        raise ValueError(f"the array is on {on}; it must be on {device}")


def _require_usable(tensor: Tensor) -> Tensor:
    if not tensor.array.contiguous:
        raise ValueError(f"the array of shape {tensor.shape} on {tensor.device} is not contiguous; copy it first")
    return tensor
