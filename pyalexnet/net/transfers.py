"""Copies between host memory and a net's devices, each in the order of its device's stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.device.arguments import Argument
from pyalexnet.device.native import NativeArray
from pyalexnet.device.tensor import DTYPES, Tensor, host_array
from pyalexnet.net.placement import Placement


class Transfers:
    """What brings arrays to the devices of a placement and back, whole or each tower its columns."""

    def __init__(self, placement: Placement) -> None:
        """Of that placement, on its streams."""
        self._placement = placement

    def require_reachable(self, array: Argument) -> Argument:
        """Refuse an array on a GPU that is none of the net's.

        Raises:
            ValueError: it lies there; the message names the array.
        """
        device = array.device
        if device is not None and device.target == "cuda" and device not in self._placement.devices:
            where = " or ".join(dict.fromkeys(self._placement.names))
            raise ValueError(f"{array.name} is on {device}; it must be on {where}, as the net is, or in host memory")
        return array

    def upload(self, to: Mapping[int, NativeArray], value: Argument) -> None:
        """Copy a value to arrays by the place that each lies at.

        CUDA has read pageable memory when its copy returns; other memory outlives the step.
        """
        for place, source in self._sources(value, to).items():
            self._placement.devices[place].native.copy(to[place], source, self._placement.streams[place])

    def download(self, array: NativeArray, place: int) -> npt.NDArray[Any]:
        """A copy of an array that lies at a place, once all work before has been done there."""
        device, stream = self._placement.devices[place], self._placement.streams[place]
        value: npt.NDArray[Any] = np.empty(tuple(array.shape), DTYPES[array.dtype])
        device.native.copy(host_array(device, value), array, stream)
        stream.synchronize()
        return value

    def upload_columns(self, towers: Mapping[int, NativeArray], value: Argument) -> None:
        """Copy to each tower's array its columns of a value that has all towers' side by side; wait until it is there.

        Args:
            towers: the arrays by tower, in the order of the columns.
            value: what they are to hold.
        """
        sources = self._sources(value, map(self._placement.place, towers))
        for tower, to, first, last in _columns(towers):
            place = self._placement.place(tower)
            columns = sources[place].slice_last(first, last)
            self._placement.devices[place].native.copy(to, columns, self._placement.streams[place])
        self.synchronize()

    def download_columns(self, towers: Mapping[int, NativeArray]) -> npt.NDArray[np.float32]:
        """The towers' arrays side by side in host memory."""
        parts = [self.download(array, self._placement.place(tower)) for tower, array in towers.items()]
        whole: npt.NDArray[np.float32] = np.concatenate(parts, axis=-1)
        return whole

    def join_columns(self, towers: Mapping[int, NativeArray]) -> Tensor:
        """The towers' arrays side by side on the first device, in memory of their own."""
        device, stream = self._placement.devices[0], self._placement.streams[0]
        *outer, _ = next(iter(towers.values())).shape
        width = sum(array.shape[-1] for array in towers.values())
        joined = Tensor.empty((*outer, width), device=str(device))
        for tower, array, first, last in _columns(towers):
            to = joined.array.slice_last(first, last)
            if self._placement.place(tower) == 0:
                device.native.copy(to, array, stream)
            else:
                self._placement.links[0].start(to, array)
                self._placement.links[0].finish()
        self.synchronize()
        return joined

    def synchronize(self) -> None:
        """Wait until the devices have done all that was asked of them."""
        for stream in self._placement.streams:
            stream.synchronize()

    def _sources(self, value: Argument, places: Iterable[int]) -> dict[int, NativeArray]:
        """By place, a native array that the device there can copy from: a GPU's own, or one in host memory for all."""
        sources: dict[int, NativeArray] = {}
        host: npt.NDArray[Any] | None = None
        for place in set(places):
            device = self._placement.devices[place]
            if device.target == "cuda" and value.device == device:
                sources[place] = value.native(device)
            else:
                host = np.ascontiguousarray(value.host()) if host is None else host
                sources[place] = host_array(device, host)
        return sources


def _columns(towers: Mapping[int, NativeArray]) -> Iterator[tuple[int, NativeArray, int, int]]:
    """Each tower with its array, and the first and behind the last of the columns that it has of all."""
    first = 0
    for tower, array in towers.items():
        last = first + array.shape[-1]
        yield tower, array, first, last
        first = last
