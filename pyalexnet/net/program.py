"""One batch size's program: every kernel and exchange of a step in order, and where their arrays lie.

A program is described once for a batch size, then run step after step. Describing it takes no memory: it yields the
plan of each device's arena. Building it lays the arrays out and binds them to the work. Each entry is one launch, or
one end of an exchange, with the layer, direction and tower it belongs to, so that the benchmark can time and a reader
can list exactly what a training step does.

Two towers meet only before conv3, fc6, fc7 and fc8, and in those layers' backward. The inputs of these layers are
joint arrays: tower 0's channels, then tower 1's. On one device the towers share a joint array and each writes its
half. On two devices each has one, writes its half of it, and the other half comes over a link. Towers run the same
kernels on the same shapes wherever they are, and sums over towers are always tower 0 + tower 1, so the bits do not
depend on the placement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from pyalexnet.architecture import (
    IMAGE_SIZE,
    INPUT_CHANNELS,
    INPUT_SIZE,
    SECOND_LRN,
    TOWERS,
    Conv,
    Linear,
    Options,
    layers,
)
from pyalexnet.device.backend import Device
from pyalexnet.device.memory import Arena, Ref

# Each row of the input is padded to a multiple of 4 floats, so that conv1 can load 16 bytes at a time.
_INPUT_ROW_FLOATS = -(-INPUT_SIZE * INPUT_CHANNELS // 4) * 4
_INPUT_STRIDES = (INPUT_SIZE * _INPUT_ROW_FLOATS, _INPUT_ROW_FLOATS, INPUT_CHANNELS, 1)

# Work without a layer of its own: the input's preparation and the loss.
INPUT, LOSS = "input", "loss"
# Rows of tables of times that several layers share.
EXCHANGE, UPDATE = "exchange", "update"


@dataclass
class StepValues:
    """What changes from step to step; the entries read it when they run; ``lr`` is by parameter name."""

    lr: Mapping[str, float] = field(default_factory=dict)
    momentum: float = 0.0
    weight_decay: float = 0.0
    input_scale: float = 1.0
    seed: int = 0
    step: int = 0


@dataclass(frozen=True)
class Placement:
    """Which device each tower computes on.

    Attributes:
        devices: one device or two.
        streams: the compute stream of each device.
        links: on two devices, for each tower the link that brings it the other tower's arrays; else empty.
    """

    devices: tuple[Device, ...]
    streams: tuple[Any, ...]
    links: tuple[Any, ...]

    def place(self, tower: int) -> int:
        """The position in ``devices`` of a tower's device."""
        return tower % len(self.devices)


@dataclass(frozen=True)
class Parameter:
    """One parameter of one tower: value, momentum and gradient."""

    value: Ref
    momentum: Ref
    gradient: Ref


class Entry:
    """One launch, or one end of an exchange, of a program.

    Attributes:
        layer: ``conv1`` … ``fc8``, ``input`` or ``loss``.
        operation: the native function's name, or ``exchange_start`` and ``exchange_finish``.
        direction: ``forward``, ``backward`` or ``update``.
        tower: 0 or 1; for an exchange, the tower that receives.
        arguments: what the function takes: Refs before binding, native arrays after it, functions of the StepValues.
        row: what tables of times call the part of the layer that it belongs to: ``conv1``, ``lrn1``, ``pool1``, …;
            a nonlinearity belongs to its convolution or matrix product.
    """

    def __init__(
        self,
        layer: str,
        operation: str,
        direction: str,
        tower: int,
        function: Callable[..., None],
        arguments: dict[str, Any],
        row: str,
    ) -> None:
        """Describe one call."""
        self.layer = layer
        self.operation = operation
        self.direction = direction
        self.tower = tower
        self.arguments = arguments
        self.row = row
        self._function = function

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.arguments.items() if _is_array(value))
        return f"{self.direction:8}  {self.layer:6}  tower {self.tower}  {self.operation}({shapes})"

    def __repr__(self) -> str:
        return f"<Entry: {' '.join(str(self).split())}>"

    def bind(self) -> None:
        """Replace Refs by the arrays that lie there; their arenas must have memory."""
        for name, value in self.arguments.items():
            if isinstance(value, Ref):
                self.arguments[name] = value.array()

    def call(self, values: StepValues) -> partial[None] | None:
        """What queues the work on its stream; None for an update with a rate of 0: frozen ones keep their bits."""
        arguments = {name: value(values) if callable(value) else value for name, value in self.arguments.items()}
        return None if arguments.get("lr") == 0 else partial(self._function, **arguments)

    def run(self, values: StepValues) -> None:
        """Queue the work on its stream."""
        if call := self.call(values):
            call()


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape")


class Program:
    """The arrays and the order of work of one batch size, for training or for inference alone.

    Attributes:
        batch_size: images at a time.
        training: whether there is a backward pass.
        arenas: for each device, the plan of its arrays (the parameters lie elsewhere).
        prepare: the entries that make the input of 8-bit images, for callers who have such.
        forward: the entries that compute logits; with dropout when training.
        backward: the entries that compute the loss and all gradients.
        update: the entries that apply them.

    ``str()`` gives the entries after ``prepare``, one a line.
    """

    def __init__(
        self,
        batch_size: int,
        num_classes: int,
        options: Options,
        placement: Placement,
        parameters: Sequence[dict[str, Parameter]],
        *,
        training: bool,
    ) -> None:
        """Describe the work; no memory is taken here.

        Args:
            batch_size: images at a time.
            num_classes: outputs of fc8.
            options: choices on which the sources differ.
            placement: the towers' devices.
            parameters: for each tower, its parameters by name.
            training: whether to describe the backward pass and the update too.
        """
        self.batch_size = batch_size
        self.training = training
        self.arenas = tuple(Arena(device) for device in placement.devices)
        self.prepare: list[Entry] = []
        self.forward: list[Entry] = []
        self.backward: list[Entry] = []
        self.update: list[Entry] = []
        self._layers = layers(num_classes, options.towers)
        self._options = options
        self._placement = placement
        self._parameters = parameters
        self._refs: dict[tuple[str, int], Ref] = {}
        self._workspace_bytes = [1] * len(self.arenas)
        self._workspace_users: list[tuple[Entry, int]] = []

        self._direction, self._entries = "forward", self.prepare
        self._describe_input()
        self._entries = self.forward
        self._describe_forward()
        if training:
            self._direction, self._entries = "backward", self.backward
            self._describe_backward()
            self._direction, self._entries = "update", self.update
            self._describe_update()
        self._place_workspaces()

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.forward, *self.backward, *self.update)))

    def __repr__(self) -> str:
        purpose = "training" if self.training else "inference"
        counts = f"{len(self.forward)} forward, {len(self.backward)} backward, {len(self.update)} update"
        return f"<Program for {purpose} at batch size {self.batch_size}: entries {counts}>"

    def build(self) -> None:
        """Bind the entries to their arrays; the arenas must have their memory by now."""
        for entry in (*self.prepare, *self.forward, *self.backward, *self.update):
            entry.bind()

    def array(self, name: str, tower: int = 0) -> Any:
        """The native array of that name, for example ``("conv1.y", 0)``, once the arenas have memory."""
        return self._refs[name, tower].array()

    # Forward ------------------------------------------------------------------------------------------------

    def _describe_input(self) -> None:
        """Each device makes its own input: towers that share one read the same."""
        n = self.batch_size
        self._new_joint(INPUT, "input.joint", (n, INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS), _INPUT_STRIDES)
        for place in range(len(self.arenas)):
            self._emit(
                INPUT, "prepare_input", place,
                out=self._refs["input.joint", place],
                images=self._new(INPUT, "images", place, (n, IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS), "uint8"),
                offsets=self._new(INPUT, "offsets", place, (n, 2), "int32"),
                flips=self._new(INPUT, "flips", place, (n,), "uint8"),
                shifts=self._new(INPUT, "shifts", place, (n, INPUT_CHANNELS)),
                mean=self._new(INPUT, "mean", place, (IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS)),
                crop=self._options.crop,
                scale=lambda values: values.input_scale,
            )  # fmt: skip

    def _describe_forward(self) -> None:
        source = INPUT
        joint_outputs = {layer.name for layer, following in pairwise(self._layers) if following.sees_both}
        for layer in self._layers:
            if source in joint_outputs:
                self._exchange_halves(layer, f"{source}.joint")
            for tower in layer.computing_towers:
                x = self._refs[f"{source}.joint" if layer.sees_both else f"{source}.out", tower]
                self._describe_layer(layer, tower, x, joint=layer.name in joint_outputs)
            source = layer.name

    def _describe_layer(self, layer: Conv | Linear, tower: int, x: Ref, *, joint: bool) -> None:
        self._refs[f"{layer.name}.x", tower] = x
        if joint and (f"{layer.name}.joint", tower) not in self._refs:
            self._new_joint(layer.name, f"{layer.name}.joint", self._joint_shape(layer))
        out = self._refs[f"{layer.name}.joint", tower].part(tower, layer.towers) if joint else None
        if isinstance(layer, Conv):
            self._describe_convolution(layer, tower, x, out)
        else:
            self._describe_linear(layer, tower, x, out)

    def _describe_convolution(self, layer: Conv, tower: int, x: Ref, out: Ref | None) -> None:
        """Convolution with its nonlinearity, then LRN and pooling in the order that the options say."""
        n, size, filters = self.batch_size, layer.output_size, layer.tower_filters
        steps, relu_last = self._options.steps_after(layer), self._relu_comes_last(layer)
        y = self._new(layer.name, "y", tower, (n, size, size, filters))
        weight, bias = self._parameters_of(layer, tower)
        self._emit(
            layer.name, "conv_forward", tower, workspace=True, y=y, x=x, w=weight.value, b=bias.value,
            relu=self._is_relu and not relu_last, **_geometry(layer),
        )  # fmt: skip
        if not self._is_relu:
            self._emit(layer.name, "tanh_forward", tower, y=y, x=y)
        for step in steps:
            x, size = y, layer.pooled_size if step == "pool" else size
            y = out if out and step == steps[-1] else self._new(layer.name, step, tower, (n, size, size, filters))
            self._describe_step(layer, step, tower, x, y)
            self._refs[f"{layer.name}.{step}.x", tower] = x
            self._refs[f"{layer.name}.{step}.y", tower] = y
        if relu_last:
            self._emit(layer.name, "relu_forward", tower, y=y, x=y)
        self._refs[f"{layer.name}.out", tower] = y

    def _describe_step(self, layer: Conv, step: str, tower: int, x: Ref, y: Ref) -> None:
        """Pooling or a normalisation, from x to y."""
        if step == "lrn":
            self._emit(layer.name, "lrn_forward", tower, part="lrn", y=y, x=x, **self._options.lrn_arguments)
        elif step == "lrn_in_map":
            scale = self._new(layer.name, "scale", tower, x.shape)
            self._emit(layer.name, "lrn_in_map_forward", tower, part="lrn", y=y, scale=scale, x=x, **SECOND_LRN)
        else:
            self._emit(layer.name, "maxpool_forward", tower, part="pool", y=y, x=x, **self._options.pool_arguments)

    def _describe_linear(self, layer: Linear, tower: int, x: Ref, out: Ref | None) -> None:
        """Matrix product; in hidden layers with its nonlinearity, and with dropout when training."""
        y = out or self._new(layer.name, "y", tower, (self.batch_size, layer.tower_outputs))
        weight, bias = self._parameters_of(layer, tower)
        has_dropout = bool(layer.hidden and self.training and self._options.dropout)
        # ReLU's backward finds what it needs behind the dropout, tanh's does not.
        inner = self._new(layer.name, "tanh", tower, y.shape) if has_dropout and not self._is_relu else y
        self._emit(
            layer.name, "linear_forward", tower, workspace=True,
            y=inner, x=x.reshaped(self.batch_size, layer.inputs), w=weight.value, b=bias.value,
            relu=layer.hidden and self._is_relu,
        )  # fmt: skip
        if layer.hidden and not self._is_relu:
            self._emit(layer.name, "tanh_forward", tower, y=inner, x=inner)
        if has_dropout:
            arguments = self._dropout_arguments(layer, tower)
            self._emit(layer.name, "dropout_forward", tower, part="dropout", y=y, x=inner, **arguments)
        self._refs[f"{layer.name}.y", tower] = inner
        self._refs[f"{layer.name}.out", tower] = y

    @property
    def _is_relu(self) -> bool:
        return self._options.activation == "relu"

    def _relu_comes_last(self, layer: Conv) -> bool:
        return self._options.relu1_last and layer.name == "conv1"

    def _exchange_halves(self, layer: Conv | Linear, joint: str) -> None:
        """Bring each tower of the layer the half of its joint input that the other tower computed."""
        if len(self.arenas) == 1:
            return
        for tower in layer.computing_towers:
            other = 1 - tower
            to, source = (self._refs[joint, side].part(other, layer.towers) for side in (tower, other))
            self._exchange_start(layer, tower, to, source)
        for tower in layer.computing_towers:
            self._exchange_finish(layer, tower)

    # Backward -----------------------------------------------------------------------------------------------

    def _describe_backward(self) -> None:
        """From the loss back to conv1; every tower's gradient by its layer's output is handed on."""
        logits = self._refs["fc8.out", 0]
        losses = self._new(LOSS, "losses", 0, (self.batch_size,))
        labels = self._new(LOSS, "labels", 0, (self.batch_size,), "int32")
        dlogits = self._new(LOSS, "dlogits", 0, logits.shape)
        self._emit(LOSS, "cross_entropy", 0, losses=losses, dlogits=dlogits, logits=logits, labels=labels)
        dout = [dlogits]
        for layer in reversed(self._layers):
            dy = [self._describe_activation_backward(layer, tower, dout[tower]) for tower in layer.computing_towers]
            dout = self._describe_product_backward(layer, dy)

    def _describe_activation_backward(self, layer: Conv | Linear, tower: int, dout: Ref) -> Ref:
        """From the gradient by a layer's output to that by its convolution or matrix product."""
        if isinstance(layer, Conv):
            return self._describe_steps_backward(layer, tower, dout)
        if layer.hidden:
            if self._options.dropout:
                arguments = self._dropout_arguments(layer, tower)
                self._emit(layer.name, "dropout_backward", tower, part="dropout", dx=dout, dy=dout, **arguments)
            self._describe_nonlinearity_backward(layer, tower, dout, self._refs[f"{layer.name}.y", tower])
        return dout

    def _describe_steps_backward(self, layer: Conv, tower: int, dy: Ref) -> Ref:
        """Back through pooling and LRN; the one that follows the ReLU goes on through it, as it reads its output."""
        steps = self._options.steps_after(layer)
        relu_follows = self._is_relu and not self._relu_comes_last(layer)
        if self._relu_comes_last(layer):
            self._describe_nonlinearity_backward(layer, tower, dy, self._refs[f"{layer.name}.out", tower])
        for step in reversed(steps):
            x = self._refs[f"{layer.name}.{step}.x", tower]
            dx = self._new(layer.name, f"d{step}", tower, x.shape)
            through_relu = relu_follows and step == steps[0]
            arguments: dict[str, Any] = {"dx": dx, "dy": dy, "x": x}
            if step == "lrn":
                arguments |= {"x_from_relu": through_relu, **self._options.lrn_arguments}
                self._emit(layer.name, "lrn_backward", tower, part="lrn", **arguments)
            elif step == "lrn_in_map":
                scale = self._refs[f"{layer.name}.scale", tower]
                terms = self._new(layer.name, "terms", tower, x.shape)
                arguments |= {"scale": scale, "terms": terms, **SECOND_LRN}
                self._emit(layer.name, "lrn_in_map_backward", tower, part="lrn", **arguments)
            else:
                arguments |= {"x_from_relu": through_relu, **self._options.pool_arguments}
                self._emit(layer.name, "maxpool_backward", tower, part="pool", **arguments)
            dy = dx
        if not self._is_relu or (relu_follows and not steps):
            self._describe_nonlinearity_backward(layer, tower, dy, self._refs[f"{layer.name}.y", tower])
        return dy

    def _describe_nonlinearity_backward(self, layer: Conv | Linear, tower: int, dy: Ref, y: Ref) -> None:
        """Back through the ReLU or tanh that gave y, in place."""
        self._emit(layer.name, f"{self._options.activation}_backward", tower, dx=dy, dy=dy, y=y)

    def _describe_product_backward(self, layer: Conv | Linear, dy: list[Ref]) -> list[Ref]:
        """Gradients by input, weights and biases; returns those by the previous layer's outputs.

        The gradient by the input comes first, so that its exchange runs while the gradient by the weights is
        computed.
        """
        needs_dx = layer.name != "conv1"
        dx = [self._describe_input_gradient(layer, tower, dy[tower]) for tower in layer.computing_towers if needs_dx]
        meets = needs_dx and layer.sees_both and layer.towers > 1
        received = self._start_gradient_exchange(layer, dx) if meets else []
        for tower in layer.computing_towers:
            self._describe_weight_gradient(layer, tower, dy[tower])
        return self._sum_halves(layer, dx, received) if meets else dx

    def _describe_input_gradient(self, layer: Conv | Linear, tower: int, dy: Ref) -> Ref:
        x = self._refs[f"{layer.name}.x", tower]
        weight, _ = self._parameters_of(layer, tower)
        dx = self._new(layer.name, "dx", tower, x.shape)
        if isinstance(layer, Conv):
            self._emit(
                layer.name, "conv_backward_input", tower, workspace=True,
                dx=dx, dy=dy, w=weight.value, **_geometry(layer),
            )  # fmt: skip
        else:
            self._emit(
                layer.name, "linear_backward_input", tower, workspace=True,
                dx=dx.reshaped(self.batch_size, layer.inputs), dy=dy, w=weight.value,
            )  # fmt: skip
        return dx

    def _describe_weight_gradient(self, layer: Conv | Linear, tower: int, dy: Ref) -> None:
        x = self._refs[f"{layer.name}.x", tower]
        weight, bias = self._parameters_of(layer, tower)
        if isinstance(layer, Conv):
            self._emit(
                layer.name, "conv_backward_weight", tower, workspace=True,
                dw=weight.gradient, db=bias.gradient, x=x, dy=dy, **_geometry(layer),
            )  # fmt: skip
        else:
            self._emit(
                layer.name, "linear_backward_weight", tower, workspace=True,
                dw=weight.gradient, db=bias.gradient, x=x.reshaped(self.batch_size, layer.inputs), dy=dy,
            )  # fmt: skip

    def _start_gradient_exchange(self, layer: Conv | Linear, dx: list[Ref]) -> list[Ref]:
        """For each tower, the other tower's part of the gradient by this tower's half of the joint input."""
        if len(self.arenas) == 1:
            return [dx[1 - tower if len(dx) > 1 else 0].part(tower, TOWERS) for tower in range(TOWERS)]
        received = []
        for tower in range(TOWERS) if len(dx) > 1 else (1,):
            source = dx[1 - tower].part(tower, TOWERS)
            received.append(self._new(layer.name, "received", tower, source.shape))
            self._exchange_start(layer, tower, received[-1], source)
        return received

    def _sum_halves(self, layer: Conv | Linear, dx: list[Ref], received: list[Ref]) -> list[Ref]:
        """For each tower, the gradient by its half of the joint input: tower 0's part plus tower 1's."""
        if len(self.arenas) > 1:
            for tower in range(TOWERS) if len(dx) > 1 else (1,):
                self._exchange_finish(layer, tower)
        if len(dx) == 1:  # fc8: tower 0 alone computes it
            return [dx[0].part(0, TOWERS), received[-1]]
        sums = []
        for tower in range(TOWERS):
            own = dx[tower].part(tower, TOWERS)
            parts = (own, received[tower]) if tower == 0 else (received[tower], own)
            sums.append(self._new(layer.name, "sum", tower, own.shape))
            self._emit(layer.name, "add_slices", tower, part=EXCHANGE, out=sums[-1], a=parts[0], b=parts[1])
        return sums

    # Update -------------------------------------------------------------------------------------------------

    def _describe_update(self) -> None:
        for layer in self._layers:
            for tower in layer.computing_towers:
                for kind, parameter in zip(("weight", "bias"), self._parameters_of(layer, tower), strict=True):
                    plain = kind == "weight" or self._options.bias_update == "paper"
                    self._emit(
                        layer.name, "sgd_step", tower, part=UPDATE,
                        w=parameter.value, v=parameter.momentum, g=parameter.gradient,
                        lr=partial(_learning_rate, name=f"{layer.name}.{kind}", factor=1 if plain else 2),
                        momentum=lambda values: values.momentum,
                        weight_decay=_weight_decay if plain else 0.0,
                    )  # fmt: skip

    # Arrays and entries -------------------------------------------------------------------------------------

    def _parameters_of(self, layer: Conv | Linear, tower: int) -> tuple[Parameter, Parameter]:
        parameters = self._parameters[tower]
        return parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]

    def _joint_shape(self, layer: Conv | Linear) -> tuple[int, ...]:
        if isinstance(layer, Conv):
            return (self.batch_size, layer.pooled_size, layer.pooled_size, layer.filters)
        return (self.batch_size, layer.outputs)

    def _dropout_arguments(self, layer: Linear, tower: int) -> dict[str, Any]:
        """Both towers draw what one undivided layer would; each step and layer has an offset of its own."""
        names = [other.name for other in self._layers]
        number, layer_count = names.index(layer.name), len(names)
        return {
            "row_elements": layer.outputs,
            "first_column": tower * layer.tower_outputs,
            "p": self._options.dropout,
            "seed": lambda values: values.seed,
            "offset": lambda values: values.step * layer_count + number,
        }

    def _new(self, layer: str, name: str, tower: int, shape: tuple[int, ...], dtype: str = "float32") -> Ref:
        ref = self.arenas[self._placement.place(tower)].add(layer, shape, dtype)
        self._refs[f"{layer}.{name}", tower] = ref
        return ref

    def _new_joint(self, layer: str, name: str, shape: tuple[int, ...], strides: tuple[int, ...] = ()) -> None:
        """One array a device, known to each tower there."""
        on_device = [arena.add(layer, shape, strides=strides) for arena in self.arenas]
        for tower in range(TOWERS):
            self._refs[name, tower] = on_device[self._placement.place(tower)]

    def _emit(
        self, layer: str, operation: str, tower: int, *, part: str = "", workspace: bool = False, **arguments: Any
    ) -> None:
        place = self._placement.place(tower)
        native = self._placement.devices[place].native
        arguments["stream"] = self._placement.streams[place]
        if not part:
            row = layer
        elif part in (EXCHANGE, UPDATE):
            row = part
        else:
            row = f"{part}{layer[-1]}"
        entry = Entry(layer, operation, self._direction, tower, getattr(native, operation), arguments, row)
        self._entries.append(entry)
        if workspace:
            needed = int(getattr(native, f"{operation}_workspace_bytes")(**arguments))
            self._workspace_bytes[place] = max(self._workspace_bytes[place], needed)
            self._workspace_users.append((entry, place))

    def _exchange_start(self, layer: Conv | Linear, tower: int, to: Ref, source: Ref) -> None:
        start = self._placement.links[tower].start
        arguments = {"to": to, "from_": source}
        self._entries.append(Entry(layer.name, "exchange_start", self._direction, tower, start, arguments, EXCHANGE))

    def _exchange_finish(self, layer: Conv | Linear, tower: int) -> None:
        finish = self._placement.links[tower].finish
        self._entries.append(Entry(layer.name, "exchange_finish", self._direction, tower, finish, {}, EXCHANGE))

    def _place_workspaces(self) -> None:
        """One workspace a device serves all its kernels, since they run one after the other."""
        workspaces = [
            arena.add("workspace", (size,), "uint8")
            for arena, size in zip(self.arenas, self._workspace_bytes, strict=True)
        ]
        for entry, place in self._workspace_users:
            entry.arguments["workspace"] = workspaces[place]


def _geometry(layer: Conv) -> dict[str, Any]:
    return {"stride": layer.stride, "padding": layer.padding, "groups": 1}


def _learning_rate(values: StepValues, *, name: str, factor: int) -> float:
    return factor * values.lr[name]


def _weight_decay(values: StepValues) -> float:
    return values.weight_decay
