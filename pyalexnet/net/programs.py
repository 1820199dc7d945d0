"""The programs of a net: what memory each needs, and the memory that all of them share."""

from __future__ import annotations

from dataclasses import dataclass

from pyalexnet.architecture import Options
from pyalexnet.device.backend import Device
from pyalexnet.device.memory import MemoryPlan
from pyalexnet.device.native import NativeMemory
from pyalexnet.net.parameters import Parameters
from pyalexnet.net.placement import Placement
from pyalexnet.net.program import Program
from pyalexnet.net.weight_spectra import WeightSpectra
from pyalexnet.system.checks import at_least
from pyalexnet.system.machine import available_bytes


@dataclass(frozen=True)
class Purpose:
    """What a program is for; attributes as of :class:`pyalexnet.net.program.Program`."""

    training: bool
    batch_invariant: bool
    kept: frozenset[str] = frozenset()


class Programs:
    """The programs that a net has run so far, by batch size and purpose.

    They lie in the same memory, as only one runs at a time: that of the largest so far.

    Attributes:
        spectra: of weights, which all of them share.
    """

    def __init__(
        self, num_classes: int, placement: Placement, parameters: Parameters, memory_limit: int | None
    ) -> None:
        """None yet.

        Args:
            num_classes: outputs of fc8.
            placement: the towers' devices.
            parameters: what the programs compute with.
            memory_limit: bytes that net and programs may take on each device; None for what is free there.
        """
        self._num_classes = num_classes
        self._placement = placement
        self._parameters = parameters
        self._memory_limit = memory_limit
        self.spectra = WeightSpectra(placement.devices)
        self._ready: dict[tuple[int, Purpose], Program] = {}
        self._memories: list[NativeMemory | None] = [None] * len(placement.devices)

    def describe(self, batch_size: int, options: Options, purpose: Purpose) -> Program:
        """A program that takes no memory yet."""
        return Program(
            batch_size,
            self._num_classes,
            options,
            self._placement,
            self._parameters.of_tower,
            self.spectra,
            training=purpose.training,
            batch_invariant=purpose.batch_invariant,
            kept=purpose.kept,
        )

    def find(self, batch_size: int, purpose: Purpose) -> Program | None:
        """The program that is ready to run, if there is one."""
        return self._ready.get((batch_size, purpose))

    def have_room_for(self, program: Program) -> bool:
        """Whether the memory that the programs share is large enough."""
        return all(
            memory is not None and memory.bytes >= arena.total_bytes
            for memory, arena in zip(self._memories, program.arenas, strict=True)
        )

    def add(self, program: Program, purpose: Purpose) -> None:
        """Make a program ready to run for a purpose; where it needs more memory than there is, the others go.

        Nobody else may hold one of those then, since it would hold the memory that is too small.

        Raises:
            OutOfMemoryError: a device has not that much left.
        """
        for place, arena in enumerate(program.arenas):
            memory = self._memories[place]
            if memory is None or memory.bytes < arena.total_bytes:
                self._ready.clear()
                self._memories[place] = memory = None
                arena.allocate()
                self._memories[place] = arena.memory
        self.spectra.take_memory(program.kept_spectra)
        for place, arena in enumerate(program.arenas):
            arena.memory = self._memories[place]
        program.build()
        self._ready[program.batch_size, purpose] = program

    def plan(self, program: Program, *, kept_sums: int = 0) -> MemoryPlan:
        """What the parameters and a program need, and so many sums of gradients beside."""
        parameters = self._parameters.bytes_needed(training=program.training, kept_sums=kept_sums)
        spectra = self.spectra.bytes_needed(program.kept_spectra)
        by_layer = tuple(
            {**of_parameters, **of_spectra, **arena.bytes_by_layer}
            for of_parameters, of_spectra, arena in zip(parameters, spectra, program.arenas, strict=True)
        )
        return self._plan(program.batch_size, program.training, by_layer)

    def plan_without(self) -> MemoryPlan:
        """What the parameters alone need."""
        return self._plan(0, False, self._parameters.bytes_needed(training=False))

    def _plan(self, batch_size: int, training: bool, by_layer: tuple[dict[str, int], ...]) -> MemoryPlan:
        placement = self._placement
        names: dict[Device, str] = {}
        on_devices: dict[Device, dict[str, int]] = {}
        for device, name, layers in zip(placement.devices, placement.names, by_layer, strict=True):
            names.setdefault(device, name)
            held = on_devices.setdefault(device, {})
            for layer, size_bytes in layers.items():
                held[layer] = held.get(layer, 0) + size_bytes
        limits, host_limit = tuple(map(self._limit, on_devices)), self._host_limit()
        return MemoryPlan(batch_size, training, tuple(names.values()), tuple(on_devices.values()), limits, host_limit)

    def _limit(self, device: Device) -> int:
        """What the net may hold on a device: what it has there already and what is free, within its limit."""
        places = [place for place, each in enumerate(self._placement.devices) if each == device]
        available = device.free_bytes + sum(map(self._held_bytes, places))
        return available if self._memory_limit is None else min(available, self._memory_limit)

    def _host_limit(self) -> int | None:
        """Likewise on all devices together, where they lie in the computer's own memory."""
        if self._placement.devices[0].target == "cuda":
            return None
        return available_bytes() + sum(map(self._held_bytes, range(len(self._placement.devices))))

    def _held_bytes(self, place: int) -> int:
        memory = self._memories[place]
        beside = self._parameters.held_bytes(place) + self.spectra.held_bytes(place)
        return beside + (memory.bytes if memory else 0)


def as_memory_limit(memory_limit: int | None) -> int | None:
    """What a net may take on each device, in bytes.

    Raises:
        TypeError: it is neither an integer nor None.
        ValueError: it is below 1.
    """
    if memory_limit is None:
        return None
    return at_least("memory_limit", memory_limit, 1)
