"""A net's weights and biases on its devices, and what moves them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import Options, layers, parameter_shapes
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

    Momentum and gradients take memory once there is training, or a momentum to be loaded. The gradients lie one after
    the other, in the layers' order.

    Attributes:
        shapes: names and shapes, towers side by side along the last axis.
        of_tower: for each tower, the parameters of what it computes, by name.
        has_momentum: whether there is another momentum than zeros.
        gradients_of: the parameters whose gradients are those of a step that led to the present values.
        gradient_shards: of how many shards these are the sum, each of a mean over its images.
        flaw: why the values must not be used; None where they may.
    """

    def __init__(self, num_classes: int, options: Options, placement: Placement, transfers: Transfers) -> None:
        """Plan where they lie; no memory is taken here."""
        towers, *_ = options.computed_as
        self.shapes = parameter_shapes(num_classes, *options.computed_as)
        self.of_tower: list[dict[str, Parameter]] = [{} for _ in range(towers)]
        self.has_momentum = False
        self.gradients_of: Sequence[str] = ()
        self.gradient_shards = 1
        self.flaw: str | None = "the net has no parameters yet: load_parameters() gives it some"
        self._transfers = transfers
        self._values = tuple(Arena(device) for device in placement.devices)
        self._updates = tuple(Arena(device) for device in placement.devices)
        parts = [
            (layer.name, tower, kind, shape)
            for layer in layers(num_classes, *options.computed_as)
            for tower in layer.computing_towers
            for kind, shape in (("weight", layer.tower_weight_shape), ("bias", layer.tower_weight_shape[-1:]))
        ]
        momenta = [self._updates[placement.place(tower)].add(layer, shape) for layer, tower, _, shape in parts]
        self._sums: tuple[Arena, ...] = tuple(Arena(device) for device in placement.devices)
        self._first_gradient_bytes = [arena.total_bytes for arena in self._updates]
        self._layer_gradients: list[dict[str, tuple[int, int]]] = [{} for _ in placement.devices]
        for (layer, tower, kind, shape), momentum in zip(parts, momenta, strict=True):
            place = placement.place(tower)
            before, updates = self.gradient_floats(place), self._updates[place]
            self.of_tower[tower][f"{layer}.{kind}"] = Parameter(
                value=self._values[place].add(layer, shape),
                momentum=momentum,
                gradient=updates.add(layer, shape),
            )
            first, _ = self._layer_gradients[place].get(layer, (before, before))
            self._layer_gradients[place][layer] = first, self.gradient_floats(place)

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

    def begin_sums(self, count: int) -> list[list[Ref]]:
        """Have memory for so many sums of gradients, beside the gradients; by place, where each lies.

        Raises:
            OutOfMemoryError: a device has not that much left; those that were there before are gone then.
        """
        self._sums = tuple(Arena(arena.device) for arena in self._sums)
        kept = [
            [arena.add("sums", (self.gradient_floats(place),)) for _ in range(count)]
            for place, arena in enumerate(self._sums)
        ]
        for arena in self._sums if count else ():
            arena.allocate()
        return kept

    def bytes_needed(self, *, training: bool, kept_sums: int = 0) -> tuple[dict[str, int], ...]:
        """For each device, the bytes of the values and, for training or where there are some, of what moves them.

        Args:
            training: whether there is to be training.
            kept_sums: for how many sums of gradients there is to be room; where there is more, that counts.
        """
        sums = [
            max(arena.total_bytes, kept_sums * 4 * self.gradient_floats(place))
            for place, arena in enumerate(self._sums)
        ]
        return tuple(
            {"parameters": values.total_bytes}
            | ({"updates": updates.total_bytes} if training or updates.memory else {})
            | ({"sums": of_sums} if of_sums else {})
            for values, updates, of_sums in zip(self._values, self._updates, sums, strict=True)
        )

    def held_bytes(self, place: int) -> int:
        """The bytes that are taken on the device at a place."""
        arenas = (self._values[place], self._updates[place], self._sums[place])
        return sum(arena.memory.bytes for arena in arenas if arena.memory)

    # Gradients ----------------------------------------------------------------------------------------------

    def mean_gradients(self) -> dict[str, npt.NDArray[np.float32]]:
        """A copy of all gradients in host memory, by name, of the mean loss of all shards.

        Raises:
            RuntimeError: there has been no training step with the present values.
        """
        if not self.gradients_of:
            raise RuntimeError("there are no gradients: no training step has been made with these parameters")
        shards = np.float32(self.gradient_shards)
        return {name: self.read(name, "gradient") / shards for name in self.gradients_of}

    def gradient_floats(self, place: int) -> int:
        """How many floats all gradients on the device at a place take, with what lies between them."""
        return (self._updates[place].total_bytes - self._first_gradient_bytes[place]) // 4

    def gradients_on(self, place: int) -> Ref:
        """All gradients on the device at a place, as one array, float32 (:meth:`gradient_floats`,)."""
        return Ref(self._updates[place], self._first_gradient_bytes[place], (self.gradient_floats(place),), "float32")

    def layer_gradients_on(self, place: int) -> dict[str, tuple[int, int]]:
        """Where in that array each layer's begin and end, in the layers' order."""
        return self._layer_gradients[place]

    def clear_gradients(self) -> None:
        """Make them zeros, with what lies between them."""
        for place in range(len(self._updates)):
            zeros = Argument("zeros", np.zeros(self.gradient_floats(place), np.float32))
            self._transfers.upload({place: self.gradients_on(place).array()}, zeros)
        self._transfers.synchronize()

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
