"""A net's weights and biases on its devices, and what moves them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import layers, parameter_shapes
from pyalexnet.device.arguments import Argument
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.memory import Arena, Ref
from pyalexnet.device.native import NativeArray
from pyalexnet.net.placement import Placement
from pyalexnet.net.transfers import Transfers
from pyalexnet.system.checks import shown

Kind = Literal["value", "momentum", "gradient"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of one tower: value, momentum and gradient."""

    value: Ref
    momentum: Ref
    gradient: Ref


class Parameters:
    """All parameters of a net, each on the devices of the towers that compute with it.

    Momentum and gradients take memory once there is training, or a momentum to be loaded.

    Attributes:
        shapes: names and shapes, towers side by side along the last axis.
        of_tower: for each tower, the parameters of what it computes, by name.
        has_momentum: whether there is another momentum than zeros.
        gradients_of: the parameters whose gradients are those of a step that led to the present values.
        flaw: why the values must not be used; None where they may.
    """

    def __init__(self, num_classes: int, towers: int, groups: int, placement: Placement, transfers: Transfers) -> None:
        """Plan where they lie; no memory is taken here."""
        self.shapes = parameter_shapes(num_classes, towers, groups)
        self.of_tower: list[dict[str, Parameter]] = [{} for _ in range(towers)]
        self.has_momentum = False
        self.gradients_of: Sequence[str] = ()
        self.flaw: str | None = "the net has no parameters yet: load_parameters() gives it some"
        self._transfers = transfers
        self._values = tuple(Arena(device) for device in placement.devices)
        self._updates = tuple(Arena(device) for device in placement.devices)
        for layer in layers(num_classes, towers, groups):
            for tower in layer.computing_towers:
                values, updates = (arenas[placement.place(tower)] for arenas in (self._values, self._updates))
                shape = layer.tower_weight_shape
                for kind, part in (("weight", shape), ("bias", shape[-1:])):
                    self.of_tower[tower][f"{layer.name}.{kind}"] = Parameter(
                        value=values.add(layer.name, part),
                        momentum=updates.add(layer.name, part),
                        gradient=updates.add(layer.name, part),
                    )

    # Memory -------------------------------------------------------------------------------------------------

    def take_memory(self) -> None:
        """Take the memory for the values.

        Raises:
            OutOfMemoryError: a device has not that much left.
        """
        for arena in self._values:
            arena.allocate()

    def begin_updates(self) -> None:
        """Have memory for momentum and gradients, the momentum all zero, unless there is one.

        Raises:
            OutOfMemoryError: a device has not that much left; nothing is taken on another one then.
        """
        if not self.has_momentum:
            self._take_memory_for_updates()
            self._clear_momentum()
            self.has_momentum = True

    def _take_memory_for_updates(self) -> None:
        if all(arena.memory for arena in self._updates):
            return
        try:
            for arena in self._updates:
                arena.allocate()
        except BaseException:
            for arena in self._updates:
                arena.memory = None
            raise

    def bytes_needed(self, *, training: bool) -> tuple[dict[str, int], ...]:
        """For each device, the bytes of the values and, for training or where there are some, of what moves them."""
        return tuple(
            {"parameters": values.total_bytes}
            | ({"updates": updates.total_bytes} if training or updates.memory else {})
            for values, updates in zip(self._values, self._updates, strict=True)
        )

    def held_bytes(self, place: int) -> int:
        """The bytes that are taken on the device at a place."""
        return sum(arena.memory.bytes for arena in (self._values[place], self._updates[place]) if arena.memory)

    # Values -------------------------------------------------------------------------------------------------

    def require_whole(self) -> None:
        """Refuse values that are not all of one state.

        Raises:
            RuntimeError: they are not; the message says why.
        """
        if self.flaw:
            raise RuntimeError(self.flaw)

    def checked(self, argument: str, values: Mapping[str, ArrayLike]) -> dict[str, Argument]:
        """Arrays by name for all parameters, as a caller gave them; nothing has been copied.

        Raises:
            TypeError: something is no array of float32.
            ValueError: a name is missing or unknown, a shape differs, or an array lies on a GPU that is none of the
                net's.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"{argument} is {shown(values)}; it must have arrays by name")
        if values.keys() != self.shapes.keys():
            missing, unknown = self.shapes.keys() - values.keys(), values.keys() - self.shapes.keys()
            raise ValueError(f"{argument} lack {sorted(missing)} and have unknown {sorted(map(str, unknown))}")
        return {
            name: self._transfers.require_reachable(Argument.of(f"{argument}: {name}", values[name], shape=shape))
            for name, shape in self.shapes.items()
        }

    def fill(self, values: Iterable[tuple[str, npt.NDArray[np.float32]]]) -> None:
        """Give all parameters their first values, which may be made one after the other."""
        for name, value in values:
            self.write(name, "value", Argument(name, value))
        self.flaw = None

    def load(self, values: Mapping[str, Argument], momentum: Mapping[str, Argument] | None) -> None:
        """Replace all values and the momentum, by zeros where none is given.

        Raises:
            OutOfMemoryError: there is no room for the momentum; nothing has been replaced then.
        """
        if momentum is not None:
            self._take_memory_for_updates()
        self.flaw = half_written("load_parameters()")
        self.gradients_of = ()
        for name, value in values.items():
            self.write(name, "value", value)
        if momentum is not None:
            for name, value in momentum.items():
                self.write(name, "momentum", value)
            self.has_momentum = True
        elif self.has_momentum:
            self._clear_momentum()
        self.flaw = None

    def read_all(self, kind: Kind) -> dict[str, npt.NDArray[np.float32]]:
        """A copy of all parameters in host memory, by name."""
        return {name: self.read(name, kind) for name in self.shapes}

    def read(self, name: str, kind: Kind) -> npt.NDArray[np.float32]:
        """A copy of a parameter in host memory."""
        return self._transfers.download_columns(self._arrays(name, kind))

    def write(self, name: str, kind: Kind, value: Argument) -> None:
        """Replace a parameter."""
        self._transfers.upload_columns(self._arrays(name, kind), value)

    def _clear_momentum(self) -> None:
        for name, shape in self.shapes.items():
            self.write(name, "momentum", Argument("zeros", np.zeros(shape, np.float32)))

    def _arrays(self, name: str, kind: Kind) -> dict[int, NativeArray]:
        """The native arrays that hold a parameter, by the towers that compute with it."""
        return {
            tower: getattr(parameters[name], kind).array()
            for tower, parameters in enumerate(self.of_tower)
            if name in parameters
        }


def half_written(by: str) -> str:
    """What is wrong with parameters as long as a method writes them."""
    state = "some parameters are old and some new"
    return f"{by} was broken off halfway: {state}. load_parameters() makes the net whole again"
