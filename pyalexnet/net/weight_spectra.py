"""The spectra of convolutions' weights, which inference keeps from pass to pass for as long as the weights stay.

They follow from a layer's weights and from the algorithm alone, so that all batch sizes that take the same one share
them, and lie in memory of their own, which no program overwrites.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pyalexnet.device.backend import Device
from pyalexnet.device.memory import Arena, Ref
from pyalexnet.net.entry import Entry

# The operation that makes them.
MAKES_SPECTRA = "conv_w_spectra"


class Weights(NamedTuple):
    """A convolution's weights on a tower, as an algorithm transforms them."""

    layer: str
    tower: int
    algorithm: str

    @classmethod
    def of(cls, entry: Entry) -> Weights:
        """Those whose spectra an entry makes."""
        return cls(entry.layer, entry.tower, entry.arguments["plan"].algorithm)


class WeightSpectra:
    """Where they lie, for a net on some devices.

    Attributes:
        current: of which weights they are those of the present values.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        """None yet."""
        self.current: frozenset[Weights] = frozenset()
        self._devices = devices
        self._trusted = True
        self._kept: dict[Weights, tuple[int, Arena, Ref]] = {}

    def ref_for(self, weights: Weights, place: int, floats: int) -> Ref:
        """Where some weights' spectra are to lie, on the device at a place; no memory is taken."""
        if weights not in self._kept:
            arena = Arena(self._devices[place])
            self._kept[weights] = place, arena, arena.add("spectra", (floats,))
        return self._kept[weights][2]

    def take_memory(self, needed: Collection[Weights]) -> None:
        """Have memory for the spectra of some weights.

        Raises:
            OutOfMemoryError: a device has not that much left.
        """
        for weights in needed:
            _, arena, _ = self._kept[weights]
            if arena.memory is None:
                arena.allocate()

    def bytes_needed(self, needed: Collection[Weights]) -> tuple[dict[str, int], ...]:
        """For each device, the bytes of the spectra that are there, and of those that are needed."""
        return tuple({"spectra": size} if (size := self._bytes(place, needed)) else {} for place in self._places)

    def held_bytes(self, place: int) -> int:
        """The bytes that are taken on the device at a place."""
        return self._bytes(place, ())

    # Whether they are current -------------------------------------------------------------------------------

    def note_made(self, entries: Iterable[Entry]) -> None:
        """Some entries of a program have been queued: the spectra that they make are those of the present values."""
        if self._trusted:
            self.current |= {Weights.of(entry) for entry in entries if entry.operation == MAKES_SPECTRA}

    def forget(self) -> None:
        """The values change, or it is unknown whether the spectra were made."""
        self.current = frozenset()

    def trust_no_more(self) -> None:
        """Someone else may change the values from now on, and does not tell: all are made anew in each pass."""
        self._trusted = False
        self.forget()

    @property
    def _places(self) -> range:
        return range(len(self._devices))

    def _bytes(self, place: int, needed: Collection[Weights]) -> int:
        return sum(
            arena.total_bytes
            for weights, (at, arena, _) in self._kept.items()
            if at == place and (arena.memory or weights in needed)
        )
