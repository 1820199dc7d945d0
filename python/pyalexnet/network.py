"""AlexNet: two towers on one device or two, with its parameters, a forward pass and a training step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import (
    IMAGE_SIZE,
    INPUT_CHANNELS,
    INPUT_SIZE,
    TOWERS,
    Conv,
    Linear,
    Options,
    feature_names,
    initial_parameters,
    layers,
    parameter_shapes,
)
from pyalexnet.backend import DEFAULT_DEVICE, Device, get_device
from pyalexnet.memory import Arena, MemoryPlan
from pyalexnet.program import Entry, Knobs, Parameter, Placement, Program
from pyalexnet.tensor import DTYPES, host_array, pinned_array


@dataclass(frozen=True)
class ImageBatch:
    """8-bit images that the device itself crops, mirrors, centres and shifts into the net's input.

    Attributes:
        images: uint8 (N, 256, 256, 3), RGB.
        offsets: int32 (N, 2), row and column of each crop's top left corner.
        flips: uint8 (N,), 1 to mirror left and right.
        shifts: float32 (N, 3), added to every pixel's red, green and blue.
        mean: float32 (256, 256, 3) or (3,), subtracted before.
        scale: what all is multiplied by at the end, above 0.
    """

    images: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int32]
    flips: npt.NDArray[np.uint8]
    shifts: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.images)

    def arrays(self, crop: int = INPUT_SIZE) -> dict[str, npt.NDArray[Any]]:
        """All arrays by name, contiguous and checked, with a mean for every pixel.

        Args:
            crop: height and width of what is taken from each image.

        Raises:
            TypeError: an array has another dtype.
            ValueError: an array has another shape, or a crop would leave its image.
        """
        n, size = len(self.images), IMAGE_SIZE
        if self.offsets.size and not 0 <= self.offsets.min() <= self.offsets.max() <= size - crop:
            raise ValueError(
                f"offsets reach from {self.offsets.min()} to {self.offsets.max()}; crops of {crop} lie inside "
                f"images of {size} only from 0 to {size - crop}"
            )
        return {
            "images": _checked("images", self.images, np.uint8, (n, size, size, INPUT_CHANNELS)),
            "offsets": _checked("offsets", self.offsets, np.int32, (n, 2)),
            "flips": _checked("flips", self.flips, np.uint8, (n,)),
            "shifts": _checked("shifts", self.shifts, np.float32, (n, INPUT_CHANNELS)),
            "mean": _checked(
                "mean",
                np.broadcast_to(self.mean, (size, size, INPUT_CHANNELS)) if self.mean.ndim == 1 else self.mean,
                np.float32,
                (size, size, INPUT_CHANNELS),
            ),
        }


Input = npt.NDArray[np.float32] | ImageBatch


class AlexNet:
    """The net of Krizhevsky, Sutskever and Hinton (NIPS 2012), in two towers, or what the options make of it.

    The towers are placed on one device or on one each. They exchange only before conv3, fc6, fc7 and fc8 and in those
    layers' backward. The bits of a run do not depend on the placement, nor on whether two devices can access each
    other's memory.

    Attributes:
        num_classes: outputs of fc8.
        devices: names of the devices.
        options: the choices on which the sources differ, and what the paper compares its net with.
        shapes: the parameters' names and shapes, as :meth:`parameters` gives them.
        seed: what the initial weights and dropout's masks follow from.
        step: training steps done; dropout draws other masks each step.
        placement: the devices' streams, and the links between them.
        knobs: what the entries of a program read when they run.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        devices: Sequence[str] = (DEFAULT_DEVICE,),
        memory_limit: int | None = None,
        seed: int = 0,
        peer_access: bool = True,
        **options: Any,
    ) -> None:
        """Take the memory for the parameters and fill them.

        Args:
            num_classes: outputs of fc8, at least 2.
            devices: one or two devices of one target, such as ``["cuda:0", "cuda:1"]``; tower 0 lies on the first.
            memory_limit: bytes that the net may take on each device; default: what is free there.
            seed: from 0 to 2**63 - 1.
            peer_access: False never copies from device to device, but through the host.
            options: fields of :class:`pyalexnet.architecture.Options`.

        Raises:
            ValueError: an argument is not as described.
            DeviceNotFoundError: there is no such device.
            OutOfMemoryError: the parameters alone do not fit.
        """
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; it must be at least 2")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed is {seed}; it must be from 0 to 2**63 - 1")
        if memory_limit is not None and memory_limit < 1:
            raise ValueError(f"memory_limit is {memory_limit}; it must be a number of bytes, or None")
        if isinstance(devices, str) or len(devices) not in (1, TOWERS):
            raise ValueError(f"devices is {devices!r}; it must be a list of one or two names, such as ['cpu:0']")
        self.options = Options(**options)
        if len(devices) > self.options.towers:
            raise ValueError(f"devices is {list(devices)}; it must be a list of one name, for a net of one tower")
        self.num_classes = num_classes
        self.shapes = parameter_shapes(num_classes, self.options.towers)
        self.seed = seed
        self.step = 0
        self.devices = tuple(devices)
        self._memory_limit = memory_limit
        self.placement = _place(self.devices, peer_access)
        self._values = tuple(Arena(device) for device in self.placement.devices)
        # Momentum and gradients, which only training takes memory for.
        self._updates = tuple(Arena(device) for device in self.placement.devices)
        self._parameters = _describe_parameters(
            layers(num_classes, self.options.towers), self.placement, self._values, self._updates
        )
        self._programs: dict[tuple[int, bool], Program] = {}
        self._last_step: Program | None = None
        self.knobs = Knobs()

        self._memories: list[Any] = [None] * len(self._values)
        parameters = self._parameter_bytes(False)
        MemoryPlan(0, False, self.devices, parameters, self._limits()).require_fit()
        for arena in self._values:
            arena.allocate()
        for name, value in initial_parameters(num_classes, self.options, seed):
            self._write_parameter(name, "value", value)

    def plan(self, batch_size: int, *, training: bool = True) -> MemoryPlan:
        """The bytes that a batch size needs on each device, layer by layer; takes no memory.

        Args:
            batch_size: images at a time, at least 1.
            training: whether to count what the backward pass needs.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        return self._plan_of(self._describe(batch_size, training=training))

    def forward(self, x: Input) -> npt.NDArray[np.float32]:
        """Logits without dropout.

        Args:
            x: float32 (N, 227, 227, 3), RGB minus the mean; or an :class:`ImageBatch` of crops of 227.

        Returns:
            float32 (N, num_classes); softmax makes probabilities of them.

        Raises:
            TypeError: ``x`` is not float32.
            ValueError: ``x`` has another shape.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        return self.features(x, "fc8")

    def features(self, x: Input, layer: str) -> npt.NDArray[np.float32]:
        """What a layer computes of images, without dropout.

        Args:
            x: as in :meth:`forward`.
            layer: one of :func:`pyalexnet.architecture.feature_names`, such as ``conv1``, ``pool5`` or ``fc7``.

        Returns:
            float32 (N, height, width, channels) or (N, units), the towers side by side.

        Raises:
            TypeError: ``x`` is not float32.
            ValueError: ``x`` has another shape, or there is no such layer.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        names = feature_names(self.options)
        if layer not in names:
            raise ValueError(f"layer is {layer!r}; it must be one of {', '.join(names)}")
        program = self.program(_batch_size(x), training=False)
        self._last_step = None  # its arrays lie in the same memory
        self._upload_input(program, x)
        self._run(program.forward)
        towers = range(1 if layer == "fc8" else self.options.towers)
        parts = [self._download(program.array(names[layer], tower), self.placement.place(tower)) for tower in towers]
        whole: npt.NDArray[np.float32] = np.concatenate(parts, axis=-1)
        return whole

    def train_step(
        self,
        x: Input,
        labels: npt.NDArray[np.integer[Any]],
        *,
        lr: float | Mapping[str, float],
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> float:
        """Forward, backward and one step of gradient descent.

        v ← momentum·v - weight_decay·lr·w - lr·g; w ← w + v, with g the gradient of the mean loss.

        Args:
            x: as in :meth:`forward`.
            labels: integers (N,), from 0 to num_classes - 1.
            lr: learning rate; or rates by layer (``conv1``) and parameter (``conv1.bias``), where a parameter's own
                comes before its layer's, and every parameter must have one. A parameter with rate 0 is frozen:
                neither gradient nor momentum moves it, and its momentum waits.
            momentum: share of the last step that is kept.
            weight_decay: pull of the weights to zero, scaled by the learning rate.

        Returns:
            The batch's mean loss before the step, in nats.

        Raises:
            TypeError: ``x`` is not float32, or ``labels`` are not integers.
            ValueError: a shape, a label or a rate is out of its range.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        for name, value in (("momentum", momentum), ("weight_decay", weight_decay)):
            _require_rate(name, value)
        rates = _rates_by_parameter(lr, self.shapes)
        n = _batch_size(x)
        labels = self._check_labels(labels, n)
        program = self.program(n, training=True)
        self.knobs.lr, self.knobs.momentum, self.knobs.weight_decay = rates, momentum, weight_decay
        self.knobs.seed, self.knobs.step = self.seed, self.step
        self._last_step = program
        self._upload_input(program, x)
        self._upload(program.array("loss.labels"), labels, self.placement.place(0))
        self._run((*program.forward, *program.backward, *program.update))
        losses = self._download(program.array("loss.losses"), self.placement.place(0))
        self._synchronize()
        self.step += 1
        return float(np.mean(losses, dtype=np.float64))

    def last_step(self) -> Program:
        """The program of the last training step, its arrays as that step left them; read them by :meth:`read`.

        Raises:
            RuntimeError: there has been no training step, or its memory has served another batch size or
                :meth:`forward` since.
        """
        if self._last_step is None:
            raise RuntimeError("there is no training step to look at: none was made, or its memory has been used since")
        return self._last_step

    def read(self, array: Any, tower: int = 0) -> npt.NDArray[Any]:
        """A copy in host memory of a program's native array, which lies on that tower's device."""
        return self._download(array, self.placement.place(tower))

    def image_buffers(self, batch_size: int, count: int) -> list[npt.NDArray[np.uint8]]:
        """Arrays for the images of an :class:`ImageBatch`, from which they reach the devices fastest.

        Args:
            batch_size: images of each.
            count: how many.

        Returns:
            uint8 (batch_size, 256, 256, 3) each, in page-locked memory, not initialised.

        Raises:
            CudaError: there is not enough memory that can be locked.
        """
        shape = (batch_size, IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS)
        return [pinned_array(self.placement.devices[0], shape, "uint8") for _ in range(count)]

    def gradients(self) -> dict[str, npt.NDArray[np.float32]]:
        """Gradients of the last training step's mean loss, by parameter name, in the parameters' shapes.

        Raises:
            RuntimeError: there has been no training step.
        """
        if not self._updates[0].memory:
            raise RuntimeError("there are no gradients: no training step has been made")
        return {name: self._read_parameter(name, "gradient") for name in self.shapes}

    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """All weights and biases by name, towers side by side along the last axis, tower 0 first.

        ``conv1.weight`` is (11, 11, 3, 96), ``conv2.weight`` (5, 5, 48, 256), …, ``fc6.weight`` (9216, 4096) with its
        inputs in (row, column, channel) order, ``fc8.bias`` (num_classes,): those of one net with grouped
        convolutions.
        """
        return {name: self._read_parameter(name, "value") for name in self.shapes}

    def momentum(self) -> dict[str, npt.NDArray[np.float32]]:
        """The last update of every parameter, by name and in the shapes of :meth:`parameters`; zeros before a step."""
        if not self._updates[0].memory:
            return {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}
        return {name: self._read_parameter(name, "momentum") for name in self.shapes}

    def load_parameters(
        self,
        parameters: Mapping[str, npt.NDArray[np.float32]],
        momentum: Mapping[str, npt.NDArray[np.float32]] | None = None,
    ) -> None:
        """Replace all weights and biases, and the momentum with them, since it belongs to the old ones.

        Args:
            parameters: names and shapes as :meth:`parameters` gives them, float32.
            momentum: the same of :meth:`momentum`; None for zeros.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing has been replaced then.
            TypeError: an array is not float32; likewise.
            OutOfMemoryError: there is no room for the momentum; likewise.
        """
        self._check_parameters("parameters", parameters)
        if momentum is not None:
            self._check_parameters("momentum", momentum)
            if not self._updates[0].memory:
                self._begin_updates()
        for name, value in parameters.items():
            self._write_parameter(name, "value", value)
        if self._updates[0].memory:
            self._clear_updates()
            for name, value in (momentum or {}).items():
                self._write_parameter(name, "momentum", value)

    def _check_parameters(self, argument: str, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        if values.keys() != self.shapes.keys():
            missing, unknown = self.shapes.keys() - values.keys(), values.keys() - self.shapes.keys()
            raise ValueError(f"{argument} lack {sorted(missing)} and have unknown {sorted(unknown)}")
        for name, shape in self.shapes.items():
            if values[name].dtype != np.float32:
                raise TypeError(f"{argument}: {name} has dtype {values[name].dtype}; it must be float32")
            if values[name].shape != shape:
                raise ValueError(f"{argument}: {name} has shape {values[name].shape}; it must be {shape}")

    # Programs and memory ------------------------------------------------------------------------------------

    def _describe(self, batch_size: int, *, training: bool) -> Program:
        return Program(batch_size, self.num_classes, self.options, self.placement, self._parameters, training=training)

    def program(self, batch_size: int, *, training: bool) -> Program:
        """The program of a batch size, ready to run, on memory that all programs share.

        Raises:
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        key = (batch_size, training)
        if key not in self._programs:
            program = self._describe(batch_size, training=training)
            self._plan_of(program).require_fit()
            if training and not self._updates[0].memory:
                self._begin_updates()
            self._give_memory(program)
            program.build()
            self._programs[key] = program
        return self._programs[key]

    def _begin_updates(self) -> None:
        """Take the memory for momentum and gradients, all zero."""
        for arena in self._updates:
            arena.allocate()
        self._clear_updates()

    def _give_memory(self, program: Program) -> None:
        for place, arena in enumerate(program.arenas):
            memory = self._memories[place]
            if memory is None or memory.bytes < arena.total_bytes:
                self._programs.clear()  # they hold the memory that is too small
                self._last_step = None
                self._memories[place] = memory = None
                arena.allocate()
                self._memories[place] = arena.memory
        for place, arena in enumerate(program.arenas):
            arena.memory = self._memories[place]

    def _plan_of(self, program: Program) -> MemoryPlan:
        by_layer = tuple(
            {**parameters, **arena.bytes_by_layer}
            for parameters, arena in zip(self._parameter_bytes(program.training), program.arenas, strict=True)
        )
        return MemoryPlan(program.batch_size, program.training, self.devices, by_layer, self._limits())

    def _parameter_bytes(self, training: bool) -> tuple[dict[str, int], ...]:
        return tuple(
            {"parameters": values.total_bytes}
            | ({"updates": updates.total_bytes} if training or updates.memory else {})
            for values, updates in zip(self._values, self._updates, strict=True)
        )

    def _limits(self) -> tuple[int, ...]:
        """What the net may hold on each device: what it has there already and what is free, within its limit."""
        limits = []
        for place, device in enumerate(self.placement.devices):
            memories = (self._values[place].memory, self._updates[place].memory, self._memories[place])
            available = device.free_bytes + sum(memory.bytes for memory in memories if memory)
            limits.append(available if self._memory_limit is None else min(available, self._memory_limit))
        return tuple(limits)

    # Work ---------------------------------------------------------------------------------------------------

    def _run(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.run(self.knobs)

    def _synchronize(self) -> None:
        for stream in self.placement.streams:
            stream.synchronize()

    def _upload_input(self, program: Program, x: Input) -> None:
        """Bring the input to each device that has a tower."""
        for place in range(len(self.placement.devices)):
            if isinstance(x, ImageBatch):
                for name, value in x.arrays(self.options.crop).items():
                    self._upload(program.array(f"input.{name}", place), value, place)
            else:
                self._upload(program.array("input.joint", place), np.ascontiguousarray(x), place)
        if isinstance(x, ImageBatch):
            self.knobs.input_scale = x.scale
            self._run(program.prepare)

    def _upload(self, to: Any, value: npt.NDArray[Any], place: int) -> None:
        """Copy in stream order. CUDA has read pageable memory when its copy returns; image_buffers() outlive a step."""
        device = self.placement.devices[place]
        device.native.copy(to, host_array(device, value), self.placement.streams[place])

    def _download(self, array: Any, place: int) -> npt.NDArray[Any]:
        device, stream = self.placement.devices[place], self.placement.streams[place]
        value: npt.NDArray[Any] = np.empty(tuple(array.shape), DTYPES[array.dtype])
        device.native.copy(host_array(device, value), array, stream)
        stream.synchronize()
        return value

    def _check_labels(self, labels: npt.NDArray[np.integer[Any]], n: int) -> npt.NDArray[np.int32]:
        labels = np.asarray(labels)
        if not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(f"labels have dtype {labels.dtype}; they must be integers")
        if labels.shape != (n,):
            raise ValueError(f"labels have shape {labels.shape}; it must be ({n},)")
        wrong = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if len(wrong):
            first = int(wrong[0])
            raise ValueError(
                f"labels[{first}] is {labels[first]}; it must be from 0 to num_classes - 1 = {self.num_classes - 1}"
            )
        return np.ascontiguousarray(labels, np.int32)

    # Parameters ---------------------------------------------------------------------------------------------

    def _read_parameter(self, name: str, kind: str) -> npt.NDArray[np.float32]:
        parts = [
            self._download(getattr(parameters[name], kind).array(), self.placement.place(tower))
            for tower, parameters in enumerate(self._parameters)
            if name in parameters
        ]
        whole: npt.NDArray[np.float32] = np.concatenate(parts, axis=-1)
        return whole

    def _write_parameter(self, name: str, kind: str, value: npt.NDArray[np.float32]) -> None:
        holders = [tower for tower, parameters in enumerate(self._parameters) if name in parameters]
        for tower, part in zip(holders, np.split(value, len(holders), axis=-1), strict=True):
            place = self.placement.place(tower)
            to = getattr(self._parameters[tower][name], kind).array()
            self._upload(to, np.ascontiguousarray(part), place)
            self.placement.streams[place].synchronize()

    def _clear_updates(self) -> None:
        """Set momentum and gradients to zero."""
        for tower, parameters in enumerate(self._parameters):
            for parameter in parameters.values():
                zeros = np.zeros(parameter.value.shape, np.float32)
                for array in (parameter.momentum.array(), parameter.gradient.array()):
                    self._upload(array, zeros, self.placement.place(tower))
        self._synchronize()


def _place(names: Sequence[str], peer_access: bool) -> Placement:
    devices: tuple[Device, ...] = tuple(get_device(name) for name in names)
    if len(set(devices)) != len(devices) or len({device.target for device in devices}) != 1:
        raise ValueError(f"devices is {list(names)}; two devices must be different ones of the same target")
    native = devices[0].native
    streams = tuple(native.Stream(device.index) for device in devices)
    links = (
        (native.Link(streams[1], streams[0], peer_access), native.Link(streams[0], streams[1], peer_access))
        if len(devices) > 1
        else ()
    )
    return Placement(devices, streams, links)


def _describe_parameters(
    of: Sequence[Conv | Linear], placement: Placement, values: Sequence[Arena], updates: Sequence[Arena]
) -> list[dict[str, Parameter]]:
    """Each tower's parameters; fc8's are tower 0's alone."""
    parameters: list[dict[str, Parameter]] = [{} for _ in range(of[0].towers)]
    for layer in of:
        for tower in range(layer.towers if layer.hidden else 1):
            place = placement.place(tower)
            for kind, shape in (
                ("weight", layer.tower_weight_shape),
                ("bias", layer.tower_weight_shape[-1:]),
            ):
                parameters[tower][f"{layer.name}.{kind}"] = Parameter(
                    value=values[place].add(layer.name, shape),
                    momentum=updates[place].add(layer.name, shape),
                    gradient=updates[place].add(layer.name, shape),
                )
    return parameters


def _rates_by_parameter(lr: float | Mapping[str, float], parameters: Collection[str]) -> dict[str, float]:
    if not isinstance(lr, Mapping):
        _require_rate("lr", lr)
        return dict.fromkeys(parameters, lr)
    layer_of = {name: name.split(".")[0] for name in parameters}
    for name, rate in lr.items():
        _require_rate(f"lr[{name!r}]", rate)
        if name not in layer_of and name not in layer_of.values():
            raise ValueError(f"lr has {name!r}; it must name layers such as conv1, or parameters such as conv1.bias")
    if lacking := [name for name, layer in layer_of.items() if name not in lr and layer not in lr]:
        raise ValueError(f"lr has no rate for {', '.join(lacking)}")
    return {name: lr[name] if name in lr else lr[layer] for name, layer in layer_of.items()}


def _require_rate(name: str, value: float) -> None:
    if not (value >= 0 and np.isfinite(value)):
        raise ValueError(f"{name} is {value}; it must be a finite number of at least 0")


def _batch_size(x: Input) -> int:
    if isinstance(x, ImageBatch):
        return len(x)
    dtype, shape = getattr(x, "dtype", type(x).__name__), tuple(getattr(x, "shape", ()))
    if dtype != np.float32:
        raise TypeError(f"x has dtype {dtype}; it must be float32, or an ImageBatch")
    if len(shape) != 4 or shape[0] < 1 or shape[1:] != (INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS):
        raise ValueError(f"x has shape {shape}; it must be (N, {INPUT_SIZE}, {INPUT_SIZE}, {INPUT_CHANNELS})")
    return int(shape[0])


def _checked(name: str, value: npt.NDArray[Any], dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if value.dtype != dtype:
        raise TypeError(f"{name} has dtype {value.dtype}; it must be {np.dtype(dtype)}")
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}; it must be {shape}")
    return np.ascontiguousarray(value)
