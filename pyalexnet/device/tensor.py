"""Tensor: an array on one device that NumPy, CuPy and PyTorch can read without a copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from pyalexnet.device.backend import DEFAULT_DEVICE, Device, get_device
from pyalexnet.device.foreign import ArrayLike, GpuArray, describe
from pyalexnet.device.native import NativeArray
from pyalexnet.system.checks import extents, require

if TYPE_CHECKING:
    from typing_extensions import CapsuleType

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "int32": np.dtype(np.int32),
    "uint8": np.dtype(np.uint8),
}

_DLPACK_CPU, _DLPACK_CUDA = 1, 2


class Tensor(NDArrayOperatorsMixin):
    """An n-dimensional array of float32, int32 or uint8 on a device.

    ``np.asarray(tensor)`` reads it: without a copy where the device's memory is the host's (``cpu``, ``sim``),
    through a copy from a GPU. ``__cuda_array_interface__`` (``cuda``) and DLPack hand it to CuPy, PyTorch and
    others without a copy. Make one with :meth:`from_array` or :meth:`empty`.

    Indices, operators and NumPy's functions see it as :meth:`numpy` does and give NumPy arrays: ``tensor[0]`` is a view
    of the same memory on ``cpu`` and ``sim``, and of a copy from ``cuda``.
    """

    __slots__ = ("array", "device")

    def __init__(self, array: NativeArray, device: Device) -> None:
        """Wrap a native array; for users, :meth:`from_array` and :meth:`empty` are the ways in."""
        self.array = array
        self.device = device

    @classmethod
    def empty(cls, shape: tuple[int, ...], *, dtype: str = "float32", device: str = DEFAULT_DEVICE) -> Tensor:
        """New memory of the given shape; its content is undefined.

        Raises:
            TypeError: an extent is no integer, or ``device`` no text.
            ValueError: an extent below 1, more bytes than 63 bits count, or an unknown dtype.
            OutOfMemoryError: the device's memory limit is met.
        """
        require(isinstance(dtype, str) and dtype in DTYPES, "dtype", dtype, f"one of {', '.join(DTYPES)}")
        whole = extents("shape", shape)
        nbytes = math.prod(whole) * DTYPES[dtype].itemsize
        require(nbytes < 2**63, "shape", whole, "of fewer than 2**63 bytes")
        on = get_device(device)
        return cls(on.native.Memory(on.index, nbytes).array(0, list(whole), dtype), on)

    @classmethod
    def from_array(cls, data: ArrayLike, *, device: str | None = None) -> Tensor:
        """The data as a Tensor, without a copy where it already lies in the device's memory.

        Args:
            data: a Tensor, a NumPy array, or an array of PyTorch (parameters too), CuPy or whatever has
                ``__cuda_array_interface__``, ``__dlpack__``, ``__array__``, ``__array_interface__`` or a buffer;
                float32, int32 or uint8. Host arrays that are not contiguous, not aligned to their elements or
                read-only are copied, and so are arrays of a GPU that are read-only.
            device: where to put host data (default ``cpu:0``); data of a GPU stays on its GPU.

        Raises:
            TypeError: the dtype is another one, or the data is no array.
            ValueError: the data is empty, masked, on another device than the one asked for, or on a GPU and not
                contiguous.
        """
        if isinstance(data, Tensor):
            if device is not None and data.device != get_device(device):
                raise ValueError(f"the tensor is on {data.device}; it must be on {device}")
            return data
        found = describe("data", data)
        if found.dtype not in DTYPES.values():
            raise TypeError(f"data has dtype {found.dtype}; it must be {', '.join(DTYPES)}")
        if not isinstance(found, GpuArray):
            return tensor_of(found, get_device(device or DEFAULT_DEVICE))
        if device is not None and found.device != get_device(device):
            raise ValueError(f"data is on {found.device}; it must be on {device}")
        return tensor_of(found, found.device)

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

    def item(self) -> int | float:
        """The only element, as a number of Python's.

        Raises:
            ValueError: there are others.
        """
        number: int | float = self.numpy().item()
        return number

    def tolist(self) -> Any:
        """All elements as nested lists of Python's numbers."""
        return self.numpy().tolist()

    def __len__(self) -> int:
        if not self.array.shape:
            raise TypeError("len() of a Tensor without axes")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.numpy())

    def __getitem__(self, index: Any) -> Any:
        return self.numpy()[index]

    def __setitem__(self, index: Any, value: npt.ArrayLike) -> None:
        host = self.numpy()
        host[index] = value
        if not self._in_host_memory:
            self._fill(host)

    def __contains__(self, value: object) -> bool:
        return value in self.numpy()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    __hash__ = None  # type: ignore[assignment]  # == compares element by element, as NumPy's arrays do

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **how: Any) -> Any:
        out = how.pop("out", ())
        if out:
            how["out"] = tuple(part.numpy() if isinstance(part, Tensor) else part for part in out)
        result = getattr(ufunc, method)(*(part.numpy() if isinstance(part, Tensor) else part for part in inputs), **how)
        for part, written in zip(out, how.get("out", ()), strict=True):
            if isinstance(part, Tensor) and not part._in_host_memory:
                part._fill(written)
        return out[0] if len(out) == 1 else out or result

    def __reduce__(self) -> tuple[Callable[[npt.NDArray[Any], str], Tensor], tuple[npt.NDArray[Any], str]]:
        return _restored, (np.array(self.numpy()), str(self.device))

    def __repr__(self) -> str:
        # A GPU is not asked for values: its context may be what is being looked into.
        about = f"shape={self.shape}, dtype={self.array.dtype}, device={self.device}"
        if not self._in_host_memory:
            return f"Tensor({about})"
        values = np.array2string(self.numpy().reshape(-1), separator=", ", threshold=6, edgeitems=3)
        return f"Tensor({about}, values={values})"

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False and not self._in_host_memory:
            raise ValueError(f"a tensor on {self.device} cannot be read by NumPy without a copy")
        return np.array(self.numpy(), dtype=dtype, copy=copy if copy else None)

    @property
    def __array_interface__(self) -> dict[str, object]:
        if not self._in_host_memory:
            raise AttributeError(f"__array_interface__: {self.device} is not host memory")
        return self._interface()

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        if self._in_host_memory:
            raise AttributeError(f"__cuda_array_interface__: {self.device} is not a CUDA device")
        return self._interface()

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType:
        """A DLPack capsule; every operation is complete when it returns, so no stream has to wait.

        It is one of DLPack 1 for a consumer that says by ``max_version`` that it reads these, an old one for others.

        Raises:
            BufferError: ``dl_device`` is another device than the tensor's.
        """
        kind, index = self.__dlpack_device__()
        if dl_device not in (None, (kind, index)):
            raise BufferError(f"dl_device is {dl_device}; a tensor on {self.device} is handed out as {(kind, index)}")
        versioned = max_version is not None and max_version[0] >= 1
        return (self._copied() if copy else self).array.to_dlpack(kind, versioned=versioned, copied=bool(copy))

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_DLPACK_CPU, 0) if self._in_host_memory else (_DLPACK_CUDA, self.device.index)

    def _fill(self, host: npt.NDArray[Any]) -> None:
        on = self.device
        on.native.copy(self.array, host_array(on, np.asarray(host, order="C")), on.stream)
        on.stream.synchronize()

    def _copied(self) -> Tensor:
        on = self.device
        copied = Tensor.empty(self.shape, dtype=self.array.dtype, device=str(on))
        on.native.copy(copied.array, self.array, on.stream)
        on.stream.synchronize()
        return copied

    @property
    def _in_host_memory(self) -> bool:
        return self.device.target != "cuda"

    def _interface(self) -> dict[str, object]:
        itemsize = self.dtype.itemsize
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.array.address, False),
            "strides": tuple(stride * itemsize for stride in self.array.strides),
            "version": 3,
        }


def _restored(values: npt.NDArray[Any], device: str) -> Tensor:
    return Tensor.from_array(values, device=device)


class _Described:
    """What np.asarray reads and then keeps as the base of its view, so that the memory stays."""

    def __init__(self, tensor: Tensor, interface: dict[str, object]) -> None:
        self.tensor = tensor
        self.__array_interface__ = interface


def tensor_of(data: npt.NDArray[Any] | GpuArray, device: Device) -> Tensor:
    """An array of a dtype that Tensors have, on the device, which is its own if it lies on a GPU.

    What is read-only is copied: through a Tensor it could be written to.
    """
    if isinstance(data, GpuArray):
        tensor = Tensor(data.native(data.dtype.name, data.shape), device)
        return tensor._copied() if data.read_only else tensor
    if device.target in ("cpu", "sim") and data.flags.carray:  # ptx checks accesses, and knows its own memory only
        return Tensor(_borrowed(device, data, device.index), device)
    tensor = Tensor.empty(data.shape, dtype=data.dtype.name, device=str(device))
    device.native.copy(tensor.array, host_array(device, np.asarray(data, order="C")), device.stream)
    device.stream.synchronize()
    return tensor


def host_array(on: Device, host: npt.NDArray[Any]) -> NativeArray:
    """A contiguous NumPy array as a native array in host memory."""
    return _borrowed(on, host, -1)


def _borrowed(on: Device, host: npt.NDArray[Any], index: int) -> NativeArray:
    strides = [stride // host.itemsize for stride in host.strides]
    address = host.__array_interface__["data"][0]
    return on.native.borrow(host, address, dtype_name(host.dtype), list(host.shape), strides, index)


@lru_cache(maxsize=64)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """``str(dtype)``, which NumPy puts together each time."""
    return str(dtype)


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
    return np.frombuffer(memoryview(memory), DTYPES[dtype]).reshape(shape)
