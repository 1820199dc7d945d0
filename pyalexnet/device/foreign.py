"""Arrays of other libraries: what they are and where they lie, before anything of them is copied.

NumPy arrays and what NumPy can read lie in host memory. Arrays on a GPU describe themselves by
``__cuda_array_interface__`` (CuPy, PyTorch, Numba, …) or hand over a DLPack capsule (these and JAX, …).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from pyalexnet.device.backend import Device, get_device
from pyalexnet.device.native import NativeArray
from pyalexnet.errors import DeviceNotFoundError
from pyalexnet.system.checks import shown

# DLPack's numbers for kinds of memory; pinned memory is the host's.
_HOST_KINDS = (1, 3, 11)
_CUDA_KINDS = (2, 13)

_TYPE_LETTERS = {0: "i", 1: "u", 2: "f"}  # by DLPack's type codes

_NEWEST_INTERFACE = 3
_NEWEST_DLPACK = (1, 0)


class HasArray(Protocol):
    """What NumPy asks for an array, as a Tensor."""

    def __array__(self) -> npt.NDArray[Any]: ...


class HasArrayInterface(Protocol):
    """What describes its memory in the host."""

    @property
    def __array_interface__(self) -> Mapping[str, Any]: ...


class HasCudaArrayInterface(Protocol):
    """What describes its memory on a GPU, as arrays of CuPy, PyTorch and Numba."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]: ...


class HasDlpack(Protocol):
    """What hands its memory over in a capsule, as arrays of JAX."""

    def __dlpack__(self) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


# What is taken for an array wherever one is asked for; NumPy's arrays are some of them.
ArrayLike: TypeAlias = HasArray | HasArrayInterface | HasCudaArrayInterface | HasDlpack | Buffer


@dataclass(frozen=True)
class GpuArray:
    """An array in a GPU's memory.

    Attributes:
        owner: keeps the memory.
        address: of the first element.
        dtype: element type.
        shape: extents.
        strides: in bytes; None for those of a contiguous array.
        read_only: whether its library forbids writing to it.
        index: the GPU's number, None where its library does not tell.
    """

    owner: object
    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    read_only: bool
    index: int | None = None

    @functools.cached_property
    def device(self) -> Device:
        """The GPU, done with whatever the array's library was still computing on it.

        Raises:
            DeviceNotFoundError: the kernels do not run on it here.
            ValueError: the address lies in no GPU's memory.
        """
        index = get_device("cuda:0").native.device_of(self.address) if self.index is None else self.index
        found = get_device(f"cuda:{index}")
        found.native.synchronize_device(index)
        return found

    def native(self, dtype: str, shape: tuple[int, ...]) -> NativeArray:
        """Its memory as a native array; a type and shape other than its own must have as many bytes."""
        on, strides = self.device, [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return on.native.borrow(self.owner, self.address, dtype, list(shape), strides, on.index)

    def numpy(self) -> npt.NDArray[Any]:
        """A copy in host memory."""
        on, host = self.device, np.empty(math.prod(self.shape) * self.dtype.itemsize, np.uint8)
        to = on.native.borrow(host, host.ctypes.data, "uint8", [host.size], [1], -1)
        on.native.copy(to, self.native("uint8", host.shape), on.stream)
        on.stream.synchronize()
        return host.view(self.dtype).reshape(self.shape)


def describe(name: str, value: object) -> npt.NDArray[Any] | GpuArray:
    """An array of NumPy or of another library, by NumPy's view of its memory or by what it says of itself.

    PyTorch's tensors and parameters are taken without their history: no gradient flows back through a kernel.

    Args:
        name: the argument's, for messages.
        value: what was given as an array.

    Raises:
        TypeError: the value is no array, or lies in memory that is neither the host's nor a GPU's of CUDA.
        ValueError: it is masked, or on a GPU and not contiguous or not aligned to its elements.
        DeviceNotFoundError: it is on a GPU, and there is no module for GPUs here.
    """
    try:
        found = _read(value)
    except MemoryError:
        raise
    except DeviceNotFoundError as error:
        raise DeviceNotFoundError(f"{name} is on a GPU: {error}") from None
    except Exception as error:
        raise TypeError(f"{name} is {_kind(value)} that cannot be read as an array: {error}") from error
    if found is None:
        raise TypeError(f"{name} is {_kind(value)}; it must be an array")
    if isinstance(found, GpuArray):
        _check(name, found)
    elif np.ma.is_masked(found):
        raise ValueError(f"{name} is a masked array; it must have a value everywhere: fill or compress it first")
    return found


def _kind(value: object) -> str:
    if value is None or isinstance(value, str | bytes | bool | int | float | complex):
        return shown(value)
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _read(value: Any) -> npt.NDArray[Any] | GpuArray | None:
    """None for what is no array. What other libraries' attributes raise goes through."""
    if isinstance(value, np.ndarray):
        return value
    if getattr(value, "requires_grad", False):
        value = value.detach()
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        return _by_interface(value, interface)
    kind = int(value.__dlpack_device__()[0]) if hasattr(value, "__dlpack_device__") else _HOST_KINDS[0]
    if kind in _CUDA_KINDS:
        return _by_capsule(value)
    if kind not in _HOST_KINDS:
        raise TypeError(f"it is on a device of DLPack's type {kind}, neither the host nor a GPU of CUDA")
    if _readable_by_numpy(value):
        return np.asarray(value)
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else None


def _readable_by_numpy(value: Any) -> bool:
    if any(hasattr(value, way) for way in ("__array__", "__array_interface__", "__array_struct__")):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    return not isinstance(value, bytes)  # a text, though it has a buffer


def _by_interface(value: object, interface: Mapping[str, Any]) -> GpuArray:
    if not 0 <= interface["version"] <= _NEWEST_INTERFACE:
        raise ValueError(f"its __cuda_array_interface__ has version {interface['version']}; 0 to 3 are known")
    if interface.get("mask") is not None:
        raise ValueError("its __cuda_array_interface__ has a mask")
    address, read_only = interface["data"]
    strides = interface.get("strides")
    return GpuArray(
        value,
        int(address),
        np.dtype(interface["typestr"]),
        tuple(int(extent) for extent in interface["shape"]),
        None if strides is None else tuple(int(stride) for stride in strides),
        bool(read_only),
    )


def _by_capsule(value: Any) -> GpuArray:
    index = int(value.__dlpack_device__()[1])
    native = get_device(f"cuda:{index}").native
    try:
        capsule = value.__dlpack__(max_version=_NEWEST_DLPACK)
    except TypeError:  # from before DLPack had versions
        capsule = value.__dlpack__()
    held = native.from_dlpack(capsule)
    if held.type_code not in _TYPE_LETTERS or held.type_lanes != 1:
        raise TypeError(f"its DLPack type code is {held.type_code}, with {held.type_bits} bits")
    dtype = np.dtype(f"{_TYPE_LETTERS[held.type_code]}{held.type_bits // 8}")
    strides = tuple(stride * dtype.itemsize for stride in held.strides)
    return GpuArray(held, held.address, dtype, tuple(held.shape), strides, held.read_only, index)


def _check(name: str, array: GpuArray) -> None:
    shape, itemsize = array.shape, array.dtype.itemsize
    expected = tuple(math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape)))
    strides = expected if array.strides is None else array.strides
    if len(strides) != len(shape) or any(
        extent != 1 and stride != wanted for extent, stride, wanted in zip(shape, strides, expected, strict=True)
    ):
        raise ValueError(f"{name} of shape {shape} has strides of {strides} bytes; on a GPU it must be contiguous")
    if array.address % itemsize:
        raise ValueError(f"{name} is at address {array.address}; it must be at a multiple of {itemsize}")
