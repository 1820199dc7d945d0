"""A program on its way: arrays are planned and entries listed, in the order in which a step does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyalexnet.architecture import TOWERS, Conv, Linear, Options, layers
from pyalexnet.device.memory import Arena, Ref
from pyalexnet.device.native import NativeConvPlan, NativeModule, NativePlan
from pyalexnet.net.entry import EXCHANGE, INPUT, Entry
from pyalexnet.net.parameters import Parameter
from pyalexnet.net.placement import Placement
from pyalexnet.net.step_values import STEP_VALUES_BYTES, part_of_step_values
from pyalexnet.net.weight_spectra import Weights, WeightSpectra


class PlacedParameter(NamedTuple):
    """A parameter's part on a tower; ``name`` is such as ``conv1.weight``, ``place`` the position of its device."""

    name: str
    tower: int
    place: int
    parameter: Parameter


class Draft:
    """What the forward pass, the backward pass and the update are written into.

    Attributes:
        batch_size: images at a time.
        training: whether a backward pass follows.
        batch_invariant: whether an image is to have the same bits alone and in any batch.
        kept: arrays that are asked for though a kernel could do without writing them.
        options: choices on which the sources differ.
        layers: all eight in order.
        arenas: for each device, the plan of its arrays (the parameters lie elsewhere).
        arrays: all arrays by name, such as ``conv1.y``, and tower.
        kept_spectra: the weights whose spectra are kept, beside the arenas.
    """

    def __init__(
        self,
        batch_size: int,
        num_classes: int,
        options: Options,
        placement: Placement,
        parameters: Sequence[dict[str, Parameter]],
        spectra: WeightSpectra,
        *,
        training: bool,
        batch_invariant: bool,
        kept: frozenset[str],
    ) -> None:
        """Nothing planned yet; arguments as of :class:`pyalexnet.net.program.Program`."""
        self.batch_size = batch_size
        self.training = training
        self.batch_invariant = batch_invariant
        self.kept = kept
        self.options = options
        self.layers = layers(num_classes, *options.computed_as)
        self.arenas = tuple(Arena(device) for device in placement.devices)
        self.arrays: dict[tuple[str, int], Ref] = {
            (f"{INPUT}.values", place): arena.add(INPUT, (STEP_VALUES_BYTES,), "uint8")
            for place, arena in enumerate(self.arenas)
        }
        self._placement = placement
        self._parameters = parameters
        self._spectra = spectra
        self.kept_spectra: set[Weights] = set()
        self._direction = ""
        self._entries: list[Entry] = []
        self._workspace_bytes = [1] * len(self.arenas)
        self._workspace_users: list[tuple[Entry, int]] = []

    def entries(self, direction: str, describe: Callable[[Draft], None]) -> list[Entry]:
        """What a function describes, in its order."""
        self._direction, self._entries = direction, []
        describe(self)
        return self._entries

    # What forward and backward both ask ---------------------------------------------------------------------

    @property
    def has_two_devices(self) -> bool:
        """Whether each tower has a device of its own, so that what one computed must be brought to the other."""
        return len(self.arenas) > 1

    def native(self, tower: int) -> NativeModule:
        """The native module of a tower's device."""
        return self._placement.devices[self._placement.place(tower)].native

    @property
    def loss_tower(self) -> int:
        """The tower that has the logits, and so computes the loss."""
        (tower,) = self.layers[-1].computing_towers
        return tower

    @property
    def is_relu(self) -> bool:
        """Whether the nonlinearity is the ReLU, which kernels apply on their way."""
        return self.options.activation == "relu"

    def relu_comes_last(self, layer: Conv) -> bool:
        """Whether a layer's ReLU follows its normalisation and pooling."""
        return self.options.relu1_last and layer.name == "conv1"

    def parameters(self, layer: Conv | Linear, tower: int) -> tuple[Parameter, Parameter]:
        """A layer's weights and biases on a tower."""
        of_tower = self._parameters[tower]
        return of_tower[f"{layer.name}.weight"], of_tower[f"{layer.name}.bias"]

    def all_parameters(self) -> Iterator[PlacedParameter]:
        """Every parameter of every tower, in the layers' order."""
        for layer in self.layers:
            for tower in layer.computing_towers:
                for kind, parameter in zip(("weight", "bias"), self.parameters(layer, tower), strict=True):
                    yield PlacedParameter(f"{layer.name}.{kind}", tower, self._placement.place(tower), parameter)

    def dropout_arguments(self, layer: Linear, tower: int) -> dict[str, Any]:
        """Both towers draw what one undivided layer would."""
        return {
            "row_elements": layer.outputs,
            "first_column": tower * layer.tower_outputs,
            "p": self.options.dropout,
            "draw": self.step_values("draw", layer.name, self._placement.place(tower)),
        }

    def step_values(self, field: str, name: str, place: int) -> Ref:
        """Where a device has some of what changes from step to step; see :func:`part_of_step_values`."""
        return part_of_step_values(self.arrays[f"{INPUT}.values", place], field, name)

    def convolution(self, layer: Conv) -> dict[str, Any]:
        """How a convolution's windows lie, and how it is computed."""
        places = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        algorithm = self.options.conv_algorithm_of(layer)
        if algorithm == "auto" or (algorithm == "fourier" and self.batch_invariant):
            return places
        return {**places, "algorithm": algorithm}

    def forward_convolution(self, layer: Conv) -> dict[str, Any]:
        """The same for the forward pass: where weights stay from pass to pass, their spectra are kept."""
        return {**self.convolution(layer), "keeps_w_spectra": not self.training}

    # Arrays -------------------------------------------------------------------------------------------------

    def new(self, layer: str, name: str, tower: int, shape: tuple[int, ...], dtype: str = "float32") -> Ref:
        """An array on a tower's device, known as ``layer.name``."""
        ref = self.arenas[self._placement.place(tower)].add(layer, shape, dtype)
        self.arrays[f"{layer}.{name}", tower] = ref
        return ref

    def new_w_spectra(self, layer: str, tower: int, plan: NativeConvPlan) -> Ref:
        """Where the spectra of a convolution's weights are kept that its plan asks for, as ``layer.w_spectra``."""
        weights = Weights(layer, tower, plan.algorithm)
        self.kept_spectra.add(weights)
        self.arrays[f"{layer}.w_spectra", tower] = ref = self._spectra.ref_for(
            weights, self._placement.place(tower), plan.w_spectra_bytes // 4
        )
        return ref

    def new_joint(self, layer: str, shape: tuple[int, ...], strides: tuple[int, ...] = ()) -> None:
        """One array a device, known to each tower there as ``layer.joint``."""
        on_device = [arena.add(layer, shape, strides=strides) for arena in self.arenas]
        for tower in range(TOWERS):
            self.arrays[f"{layer}.joint", tower] = on_device[self._placement.place(tower)]

    # Entries ------------------------------------------------------------------------------------------------

    def call(self, layer: str, operation: str, tower: int, *, row: str = "", **arguments: Any) -> Entry:
        """List a launch of a native function on a tower's device.

        Args:
            layer: what it belongs to.
            operation: the function's name.
            tower: which tower's work it is.
            row: as :attr:`Entry.row` has it; by default the layer.
            **arguments: what else it takes, but for its stream.
        """
        place = self._placement.place(tower)
        function = getattr(self.native(tower), operation)
        arguments["stream"] = self._placement.streams[place]
        self._entries.append(Entry(layer, operation, self._direction, tower, function, arguments, row or layer))
        return self._entries[-1]

    @property
    def _product_rule(self) -> dict[str, Any]:
        """What every product's plan is told."""
        rule: dict[str, Any] = {"precision": self.options.precision}
        return {**rule, "batch_invariant": True} if self.batch_invariant else rule

    def call_product(
        self, layer: str, operation: str, tower: int, *, choices: Mapping[str, Any] | None = None, **arguments: Any
    ) -> None:
        """List a convolution or matrix product, or a gradient of one, by its plan and with the workspace that it says.

        Args:
            layer: as in :meth:`call`, like operation and tower.
            operation: as in :meth:`call`.
            tower: as in :meth:`call`.
            choices: what the plan needs to know beside the arrays.
            **arguments: the arrays, and what else the function takes.
        """
        place = self._placement.place(tower)
        plan: NativePlan = getattr(self.native(tower), f"{operation}_plan")(
            **arguments, **(choices or {}), **self._product_rule
        )
        entry = self.call(layer, operation, tower, plan=plan, **arguments)
        self._workspace_bytes[place] = max(self._workspace_bytes[place], plan.workspace_bytes)
        self._workspace_users.append((entry, place))

    def forward_plan(self, layer: Conv, tower: int, x: Ref, w: Ref) -> NativeConvPlan:
        """How a convolution's forward pass is to be computed on a tower's device."""
        return self.native(tower).conv_forward_plan(x=x, w=w, **self.forward_convolution(layer), **self._product_rule)

    def start_exchange(self, layer: Conv | Linear, tower: int, to: Ref, source: Ref) -> None:
        """List the start of a copy to a tower's device from the other's; the towers compute on meanwhile."""
        start = self._placement.links[tower].start
        arguments = {"to": to, "from_": source}
        self._entries.append(Entry(layer.name, "exchange_start", self._direction, tower, start, arguments, EXCHANGE))

    def finish_exchange(self, layer: Conv | Linear, tower: int) -> None:
        """List where the tower's further work waits for what was copied to it."""
        finish = self._placement.links[tower].finish
        self._entries.append(Entry(layer.name, "exchange_finish", self._direction, tower, finish, {}, EXCHANGE))

    def place_workspaces(self) -> None:
        """One workspace a device serves all its kernels, since they run one after the other."""
        workspaces = [
            arena.add("workspace", (size,), "uint8")
            for arena, size in zip(self.arenas, self._workspace_bytes, strict=True)
        ]
        for entry, place in self._workspace_users:
            entry.arguments["workspace"] = workspaces[place]


def row_of(part: str, layer: Conv | Linear) -> str:
    """What tables of times call a part of a layer that has a row of its own, such as ``lrn1``."""
    return f"{part}{layer.name[-1]}"
