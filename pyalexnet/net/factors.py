"""What the gradients of fully connected layers' weights are products of, on their way between the ranks.

Of n images such a gradient is dw = xᵀ·dy: n rows of the layer's inputs and n of its outputs' gradients take the place
of inputs · outputs numbers. Ranks that send each other these factors (sufficient factor broadcasting, Xie et al. 2014)
send 106 kB an image to each other rank, for fc6 to fc8 of 1,000 classes, whose gradients are 235 MB. Each rank then
computes the products of all shards, one after the other, and adds them up as a process alone does: by the same launches
and in the same order, so to the same bits.

A shard's factors are one message. Those of all shards lie in the host's memory, and one shard's at a time on the
devices, beside what the rank's own last shard left there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyalexnet.device.native import NativeEvent
from pyalexnet.device.tensor import Tensor, host_array, pinned_array
from pyalexnet.net.entry import Entry
from pyalexnet.net.placement import Placement
from pyalexnet.net.shards import Shards
from pyalexnet.system.ranks import MpiRanks

if TYPE_CHECKING:
    from mpi4py import MPI

Floats = npt.NDArray[np.float32]

# What computes the gradient of a fully connected layer's weights.
_PRODUCT = "linear_backward_weight"

# Of a factor: its layer, the product's argument, the towers that take it, and its shape.
_Factor = tuple[str, str, tuple[int, ...], tuple[int, int]]


def is_product(entry: Entry) -> bool:
    """Whether an entry computes the gradient of a fully connected layer's weights."""
    return entry.operation == _PRODUCT


def factors_of(products: Iterable[Entry]) -> list[_Factor]:
    """What some products are computed of: towers see the same inputs of a layer, and have outputs of their own.

    Args:
        products: a layer's one after the other.
    """
    found: list[_Factor] = []
    for layer, grouped in groupby(products, key=lambda product: product.layer):
        of_layer = list(grouped)
        towers = tuple(product.tower for product in of_layer)
        found.append((layer, "x", towers, tuple(of_layer[0].arguments["x"].shape)))
        found += [(layer, "dy", (product.tower,), tuple(product.arguments["dy"].shape)) for product in of_layer]
    return found


@dataclass(frozen=True)
class _Section:
    """Where a factor lies: in a shard's message, and on the devices by place."""

    layer: str
    name: str
    towers: tuple[int, ...]
    part: slice
    shape: tuple[int, int]
    on_devices: dict[int, Tensor]


class Factors:
    """All shards' factors, on this rank, and what computes gradients of them.

    Attributes:
        kinds: which they are, as :func:`factors_of` tells them.
        message_bytes: of one shard.
    """

    def __init__(self, placement: Placement, shards: Shards, ranks: MpiRanks, tag: int, kinds: list[_Factor]) -> None:
        """Take memory.

        Args:
            placement: the towers' devices.
            shards: how the batch is cut.
            ranks: who takes part.
            tag: of the messages.
            kinds: which factors they are.

        Raises:
            OutOfMemoryError: a device has not that much left.
            CudaError: there is not enough memory that can be locked.
        """
        self.kinds = kinds
        self._placement, self._shards, self._ranks, self._tag = placement, shards, ranks, tag
        self._sections: list[_Section] = []
        first = 0
        for layer, name, towers, shape in kinds:
            places = dict.fromkeys(map(placement.place, towers))
            on_devices = {place: Tensor.empty(shape, device=str(placement.devices[place])) for place in places}
            part = slice(first, first + shape[0] * shape[1])
            self._sections.append(_Section(layer, name, towers, part, shape, on_devices))
            first = part.stop
        self._messages: list[Floats] = [
            pinned_array(placement.devices[0], (first,), "float32") for _ in range(shards.count)
        ]
        self.message_bytes = self._messages[0].nbytes

    def download(self, shard: int, products: Sequence[Entry]) -> list[NativeEvent]:
        """Queue the copies of a shard's factors to the host, from where its passes leave them.

        Returns:
            What has happened on each device once they are there.
        """
        arguments = {(product.layer, product.tower): product.arguments for product in products}
        for section in self._sections:
            tower = section.towers[0]
            place = self._placement.place(tower)
            device, stream = self._placement.devices[place], self._placement.streams[place]
            host = host_array(device, self._messages[shard][section.part].reshape(section.shape))
            device.native.copy(host, arguments[section.layer, tower][section.name], stream)
        events = []
        for device, stream in zip(self._placement.devices, self._placement.streams, strict=True):
            events.append(device.native.Event(device.index))
            stream.record(events[-1])
        return events

    def start_receiving(self) -> list[MPI.Request]:
        """Begin to receive what the other ranks compute of a step."""
        return [
            self._ranks.start_receiving(self._messages[shard], rank, self._tag)
            for rank in range(self._ranks.size)
            if rank != self._ranks.rank
            for shard in range(*self._shards.of_rank(rank))
        ]

    def start_sending(self, shard: int) -> list[MPI.Request]:
        """Begin to send a shard of this rank's to all others; it is in the host's memory."""
        others = [(self._ranks.rank + distance) % self._ranks.size for distance in range(1, self._ranks.size)]
        return [self._ranks.start_sending(self._messages[shard], other, self._tag) for other in others]

    def multiply(self, shard: int, products: Iterable[Entry]) -> None:
        """Queue a layer's products of a shard, whose factors are in the host's memory."""
        for product in products:
            place = self._placement.place(product.tower)
            device, stream = self._placement.devices[place], self._placement.streams[place]
            factors = {}
            for section in self._sections:
                if section.layer == product.layer and product.tower in section.towers:
                    factors[section.name] = section.on_devices[place].array
                    host = host_array(device, self._messages[shard][section.part].reshape(section.shape))
                    device.native.copy(factors[section.name], host, stream)
            product.call(**factors)()
