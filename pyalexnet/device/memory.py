"""How much memory a net needs on each device, stated before any is taken, and the arenas it then lies in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pyalexnet.device.backend import Device
from pyalexnet.device.native import NativeArray, NativeMemory
from pyalexnet.device.tensor import DTYPES
from pyalexnet.errors import OutOfMemoryError
from pyalexnet.system.machine import available_bytes

# cudaMalloc's own alignment, and enough for any vector access.
_ALIGNMENT_BYTES = 256


class Arena:
    """What one device is to hold: arrays one after the other. First planned, then given memory.

    Attributes:
        device: where the arena will lie.
        total_bytes: bytes planned so far.
        bytes_by_layer: the same, by layer, in the order of first use.
        memory: the native memory that the arrays lie in, once there is any.
    """

    def __init__(self, device: Device) -> None:
        """An empty plan."""
        self.device = device
        self.total_bytes = 0
        self.bytes_by_layer: dict[str, int] = {}
        self.memory: NativeMemory | None = None

    def add(self, layer: str, shape: tuple[int, ...], dtype: str = "float32", strides: tuple[int, ...] = ()) -> Ref:
        """Plan an array; strides in elements, empty for contiguous."""
        extent = shape[0] * strides[0] if strides else math.prod(shape)
        size = -(-extent * DTYPES[dtype].itemsize // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        ref = Ref(self, self.total_bytes, shape, dtype, strides)
        self.total_bytes += size
        self.bytes_by_layer[layer] = self.bytes_by_layer.get(layer, 0) + size
        return ref

    def allocate(self) -> None:
        """Take the planned memory.

        Raises:
            OutOfMemoryError: the device has not that much left.
        """
        self.memory = self.device.native.Memory(self.device.index, self.total_bytes)


@dataclass(frozen=True)
class Ref:
    """An array to be: its place in an arena; strides in elements, empty for contiguous."""

    arena: Arena
    offset_bytes: int
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] = ()

    def part(self, index: int, parts: int) -> Ref:
        """One of equal parts of a contiguous array's last axis."""
        width = self.shape[-1] // parts
        return replace(
            self,
            offset_bytes=self.offset_bytes + index * width * DTYPES[self.dtype].itemsize,
            shape=(*self.shape[:-1], width),
            strides=tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))),
        )

    def row(self, index: int) -> Ref:
        """One of a contiguous matrix."""
        rows, columns = self.shape
        if not 0 <= index < rows:
            raise IndexError(f"index is {index}; it must be from 0 to {rows - 1}")
        offset_bytes = self.offset_bytes + index * columns * DTYPES[self.dtype].itemsize
        return replace(self, offset_bytes=offset_bytes, shape=(columns,))

    def reshaped(self, *shape: int) -> Ref:
        """The memory of a contiguous array in another shape."""
        return replace(self, shape=shape)

    def array(self) -> NativeArray:
        """The native array, once the arena has memory.

        Raises:
            RuntimeError: it has none yet.
        """
        memory = self.arena.memory
        if memory is None:
            raise RuntimeError("the arena has no memory yet; allocate() takes it")
        return memory.array(self.offset_bytes, list(self.shape), self.dtype, list(self.strides))


@dataclass(frozen=True)
class MemoryPlan:
    """The bytes a net needs on each of its devices, layer by layer; ``str()`` gives the table.

    Attributes:
        batch_size: images at a time; 0 for the parameters alone.
        training: whether what the backward pass and the update need is counted too.
        devices: the devices' names.
        bytes_by_layer: for each device, bytes by layer (and ``input``, ``parameters``, ``workspace``, ``spectra`` of
            weights, and ``updates``, which are gradients and momentum).
        limit_bytes: what each device may hold.
        host_limit_bytes: what devices in the computer's own memory may hold together with the program that uses them;
            None for GPUs.
        host_bytes: what that program takes beside the devices, as far as it is told.
    """

    batch_size: int
    training: bool
    devices: tuple[str, ...]
    bytes_by_layer: tuple[dict[str, int], ...]
    limit_bytes: tuple[int, ...]
    host_limit_bytes: int | None = None
    host_bytes: int = 0

    @property
    def total_bytes(self) -> tuple[int, ...]:
        """Bytes needed on each device."""
        return tuple(sum(by_layer.values()) for by_layer in self.bytes_by_layer)

    @property
    def fits(self) -> bool:
        """Whether every device holds what it must, and the computer's memory what it must of all."""
        each = all(need <= limit for need, limit in zip(self.total_bytes, self.limit_bytes, strict=True))
        return each and (self.host_limit_bytes is None or self._together <= self.host_limit_bytes)

    @property
    def _together(self) -> int:
        return sum(self.total_bytes) + self.host_bytes

    @property
    def spare_host_bytes(self) -> int:
        """What the computer's memory has left beside all that."""
        return available_bytes() if self.host_limit_bytes is None else self.host_limit_bytes - self._together

    def require_fit(self) -> None:
        """Refuse a plan that does not fit.

        Raises:
            OutOfMemoryError: with the table that shows why.
        """
        if not self.fits:
            what, smaller = (
                (f"batch_size {self.batch_size} does not fit", "a smaller one, ")
                if self.batch_size
                else ("the parameters alone do not fit", "")
            )
            raise OutOfMemoryError(f"{what}; use {smaller}a higher memory_limit or two devices.\n{self}")

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        purpose = "training" if self.training else "inference"
        totals = zip(self.devices, self.total_bytes, self.limit_bytes, strict=True)
        needs = ", ".join(f"{device} {_mib(need)} of {_mib(limit)} MiB" for device, need, limit in totals)
        return f"<MemoryPlan for {purpose} at batch size {self.batch_size}: {needs}>"

    def _lines(self) -> Iterator[str]:
        purpose = "training" if self.training else "inference"
        yield "Memory in MiB" + (f" for {purpose} at batch size {self.batch_size}" if self.batch_size else "")
        yield f"{'':12}" + "".join(f"{device:>12}" for device in self.devices)
        for layer in dict.fromkeys(layer for by_layer in self.bytes_by_layer for layer in by_layer):
            yield f"{layer:12}" + "".join(f"{_mib(by_layer.get(layer, 0)):>12}" for by_layer in self.bytes_by_layer)
        yield f"{'total':12}" + "".join(f"{_mib(need):>12}" for need in self.total_bytes)
        yield f"{'limit':12}" + "".join(f"{_mib(limit):>12}" for limit in self.limit_bytes)
        if self.host_limit_bytes is not None and (self.host_bytes or len(self.devices) > 1):
            yield f"{'program':12}{_mib(self.host_bytes):>12}"
            yield f"{'together':12}{_mib(self._together):>12}"
            yield f"{'memory left':12}{_mib(self.host_limit_bytes):>12}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f}"
