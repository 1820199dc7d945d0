"""AlexNet: two towers on one device or two, with its parameters, a forward pass and a training step."""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import (
    IMAGE_SIZE,
    INPUT_CHANNELS,
    INPUT_SIZE,
    Conv,
    Linear,
    Options,
    as_options,
    feature_names,
    initial_parameters,
    layers,
    parameter_shapes,
)
from pyalexnet.device.arguments import INTEGERS, Argument
from pyalexnet.device.backend import DEFAULT_DEVICE
from pyalexnet.device.memory import Arena, MemoryPlan
from pyalexnet.device.tensor import DTYPES, Tensor, host_array, pinned_array
from pyalexnet.errors import CudaError, DeviceNotFoundError
from pyalexnet.net.entry import Entry, StepValues
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.parameters import Parameter
from pyalexnet.net.placement import Placement, device_names
from pyalexnet.net.program import Program
from pyalexnet.net.update import as_rate, rates_by_parameter
from pyalexnet.system.checks import at_least, flag, integer, require, shown
from pyalexnet.system.machine import available_bytes

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

_ARGUMENTS = ("num_classes", "devices", "memory_limit", "seed", "peer_access")  # beside the options


def _one_at_a_time(
    method: Callable[Concatenate[AlexNet, Given], Returned],
) -> Callable[Concatenate[AlexNet, Given], Returned]:
    """Let threads into a net's methods one after the other, since all of these use the same memory and streams."""

    @functools.wraps(method)
    def alone(self: AlexNet, /, *args: Given.args, **named: Given.kwargs) -> Returned:
        self._require_own_process()  # first: in a fork, the thread that holds the lock may be gone
        with self._lock:
            return method(self, *args, **named)

    return alone


class AlexNet:
    """The net of Krizhevsky, Sutskever and Hinton (NIPS 2012), in two towers, or what the options make of it.

    The towers are placed on one device or on one each. They exchange only before conv3, fc6, fc7 and fc8 and in those
    layers' backward. The bits of a run do not depend on the placement, nor on whether two devices can access each
    other's memory.

    Threads may share a net: its methods let in one after the other, and :meth:`exclusive` keeps others out from one
    call to the next. Several nets compute side by side, on one device too. ``copy`` and ``pickle`` make a net of its
    own with the same parameters, momentum, step and arguments, on devices of the same names. A net does not survive a
    fork of its process: start others by ``spawn``, as ``multiprocessing`` calls it.

    Attributes:
        num_classes: outputs of fc8.
        devices: names of the devices.
        options: the choices on which the sources differ, and what the paper compares its net with.
        shapes: the parameters' names and shapes, as :meth:`parameters` gives them.
        seed: what the initial weights and dropout's masks follow from.
        step: training steps done; dropout draws other masks each step.
        placement: the devices' streams, and the links between them.
        step_values: what the entries of a program read when they run.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        devices: Iterable[str] = (DEFAULT_DEVICE,),
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
            TypeError: an argument is of another type than described, or there is no such option.
            ValueError: an argument is not as described.
            DeviceNotFoundError: there is no such device.
            OutOfMemoryError: the parameters alone do not fit.
        """
        self._set_up(num_classes, devices, memory_limit, seed, peer_access, options)
        for name, value in initial_parameters(self.num_classes, self.options, self.seed):
            self._write_parameter(name, "value", Argument(name, value))

    def _set_up(
        self,
        num_classes: int,
        devices: Iterable[str],
        memory_limit: int | None,
        seed: int,
        peer_access: bool,
        options: Mapping[str, Any],
    ) -> None:
        """All that :meth:`__init__` does but fill the parameters."""
        self.num_classes = at_least("num_classes", num_classes, 2)
        self.seed = integer("seed", seed)
        require(0 <= self.seed < 2**63, "seed", seed, "from 0 to 2**63 - 1")
        self._memory_limit = as_memory_limit(memory_limit)
        self._peer_access = flag("peer_access", peer_access)
        self.devices = device_names(devices)
        self.options = Options(**as_options(options, "AlexNet", _ARGUMENTS))
        towers = self.options.towers
        wanted = "a list of one name, for a net of one tower"
        require(len(self.devices) <= towers, "devices", list(self.devices), wanted)
        self.shapes = parameter_shapes(self.num_classes, towers)
        self.step = 0
        self.placement = Placement.on(self.devices, peer_access=self._peer_access)
        self.step_values = StepValues()
        self._values = tuple(Arena(device) for device in self.placement.devices)
        # Momentum and gradients, which only training takes memory for.
        self._updates = tuple(Arena(device) for device in self.placement.devices)
        self._has_momentum = self._has_gradients = False
        self._parameters = _describe_parameters(
            layers(self.num_classes, towers), self.placement, self._values, self._updates
        )
        self._programs: dict[tuple[int, bool], Program] = {}
        self._memories: list[Any] = [None] * len(self._values)
        self._last_step: Program | None = None
        # What was broken off while it wrote the parameters.
        self._broken_off: str | None = None
        self._process = os.getpid()
        self._lock = threading.RLock()
        # The arrays' uses are counted: each thread remembers its own last one, and that of its last training step.
        self._uses = 0
        self._thread = threading.local()

        parameters = self._parameter_bytes(False)
        MemoryPlan(0, False, self.devices, parameters, self._limits(), self._host_limit()).require_fit()
        for arena in self._values:
            arena.allocate()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other threads out of the net for as long as a ``with`` block takes; they wait.

        What :meth:`last_step` and :meth:`read` are to tell of a :meth:`train_step` belongs into one block with it.

        Raises:
            RuntimeError: the net was made in a process of which this is a fork.
        """
        self._require_own_process()
        with self._lock:
            yield

    @_one_at_a_time
    def plan(self, batch_size: int, *, training: bool = True) -> MemoryPlan:
        """The bytes that a batch size needs on each device, layer by layer; takes no memory.

        Args:
            batch_size: images at a time, at least 1.
            training: whether to count what the backward pass needs.

        Raises:
            TypeError: ``batch_size`` is no integer, or ``training`` no truth value.
            ValueError: ``batch_size`` is below 1.
        """
        return self._plan_of(self._describe(*_program_key(batch_size, training)))

    @overload
    def forward(self, x: Any, *, as_tensor: Literal[False] = False) -> npt.NDArray[np.float32]: ...
    @overload
    def forward(self, x: Any, *, as_tensor: Literal[True]) -> Tensor: ...

    def forward(self, x: Any, *, as_tensor: bool = False) -> npt.NDArray[np.float32] | Tensor:
        """Logits without dropout.

        Args:
            x: float32 (N, 227, 227, 3), RGB minus the mean; or an :class:`ImageBatch`. An array of NumPy, PyTorch
                (parameters too) or CuPy, a Tensor, or whatever else has ``__cuda_array_interface__`` or ``__dlpack__``.
                Of a GPU's array no copy passes through the host where the net computes on that GPU; other GPUs' arrays
                are refused.
            as_tensor: whether the result stays on the net's first device, for PyTorch, CuPy and others to read without
                a copy.

        Returns:
            float32 (N, num_classes), of which softmax makes probabilities: a NumPy array or, with ``as_tensor``, a
            Tensor. Either is the caller's own: no later call changes it, and the net's memory limit does not count it.

        Raises:
            TypeError: ``x`` is no array of float32.
            ValueError: ``x`` has another shape, or lies on a GPU that is none of the net's.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        return self._features(x, "fc8", flag("as_tensor", as_tensor))

    @overload
    def features(self, x: Any, layer: str, *, as_tensor: Literal[False] = False) -> npt.NDArray[np.float32]: ...
    @overload
    def features(self, x: Any, layer: str, *, as_tensor: Literal[True]) -> Tensor: ...

    def features(self, x: Any, layer: str, *, as_tensor: bool = False) -> npt.NDArray[np.float32] | Tensor:
        """What a layer computes of images, without dropout.

        Args:
            x: as in :meth:`forward`.
            layer: one of :func:`pyalexnet.architecture.feature_names`, such as ``conv1``, ``pool5`` or ``fc7``.
            as_tensor: as in :meth:`forward`.

        Returns:
            float32 (N, height, width, channels) or (N, units), the towers side by side; as in :meth:`forward`.

        Raises:
            TypeError: ``x`` is no array of float32.
            ValueError: ``x`` has another shape or lies on a GPU that is none of the net's, or there is no such layer.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        return self._features(x, layer, flag("as_tensor", as_tensor))

    def require_layer(self, layer: str) -> str:
        """Refuse what :meth:`features` knows no layer by.

        Returns:
            The name of a program's array.

        Raises:
            TypeError: ``layer`` is no text.
            ValueError: there is no such layer.
        """
        names = feature_names(self.options)
        wanted = f"one of {', '.join(names)}"
        if not isinstance(layer, str):
            raise TypeError(f"layer is {shown(layer)}; it must be {wanted}")
        require(layer in names, "layer", layer, wanted)
        return names[layer]

    @_one_at_a_time
    def _features(self, x: Any, layer: str, as_tensor: bool) -> npt.NDArray[np.float32] | Tensor:
        name = self.require_layer(layer)
        arrays = self._input(x)
        n = _count(arrays)
        self._require_whole()
        program = self.program(n, training=False)
        with self._work():
            self._upload_input(program, x, arrays)
            self._run(program.forward)
            number = int(layer[-1])  # an LRN or pooling has that of its convolution
            towers = layers(self.num_classes, self.options.towers)[number - 1].computing_towers
            parts = [program.array(name, tower) for tower in towers]
            return self._joined(parts) if as_tensor else self._downloaded(parts)

    def _downloaded(self, parts: list[Any]) -> npt.NDArray[np.float32]:
        """The towers' arrays side by side in host memory."""
        values = [self._download(part, self.placement.place(tower)) for tower, part in enumerate(parts)]
        whole: npt.NDArray[np.float32] = np.concatenate(values, axis=-1)
        return whole

    def _joined(self, parts: list[Any]) -> Tensor:
        """The towers' arrays side by side on the first device."""
        device, stream = self.placement.devices[0], self.placement.streams[0]
        *outer, width = parts[0].shape
        whole = Tensor.empty((*outer, len(parts) * width), device=str(device))
        for tower, part in enumerate(parts):
            to = whole.array.slice_last(tower * width, (tower + 1) * width)
            if self.placement.place(tower) == 0:
                device.native.copy(to, part, stream)
            else:
                self.placement.links[0].start(to, part)
                self.placement.links[0].finish()
        self._synchronize()
        return whole

    @_one_at_a_time
    def train_step(
        self,
        x: Any,
        labels: Any,
        *,
        lr: float | Mapping[str, float],
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> float:
        """Forward, backward and one step of gradient descent.

        v ← momentum·v - weight_decay·lr·w - lr·g; w ← w + v, with g the gradient of the mean loss.

        Args:
            x: as in :meth:`forward`.
            labels: integers (N,) of any size, from 0 to num_classes - 1: an array, as ``x`` may be one, or a list.
            lr: learning rate; or rates by layer (``conv1``) and parameter (``conv1.bias``), where a parameter's own
                comes before its layer's, and every parameter must have one. A parameter with rate 0 is frozen:
                neither gradient nor momentum moves it, and its momentum waits.
            momentum: share of the last step that is kept.
            weight_decay: pull of the weights to zero, scaled by the learning rate.

        Returns:
            The batch's mean loss before the step, in nats.

        Raises:
            TypeError: ``x`` is no array of float32, ``labels`` are not integers, or a rate is no number.
            ValueError: a shape, a label or a rate is out of its range, or an array lies on a GPU that is none of the
                net's.
            OutOfMemoryError: the batch does not fit; the message has the plan.
            KeyboardInterrupt: of Ctrl-C; the step is then done whole and counted in :attr:`step`, or not at all.
        """
        rates = rates_by_parameter(lr, self.shapes)
        momentum, weight_decay = as_rate("momentum", momentum), as_rate("weight_decay", weight_decay)
        arrays = self._input(x)
        n = _count(arrays)
        labels = self._check_labels(labels, n)
        self._require_whole()
        program = self.program(n, training=True)
        tower = program.loss_tower
        self.step_values.lr, self.step_values.momentum, self.step_values.weight_decay = rates, momentum, weight_decay
        self.step_values.seed, self.step_values.step = self.seed, self.step
        self._has_gradients = False
        with self._work():
            self._upload_input(program, x, arrays)
            self._upload(program.array("loss.labels", tower), labels, self.placement.place(tower))
            self._run((*program.forward, *program.backward))
            self._update(program)
            try:
                losses = self._download(program.array("loss.losses", tower), self.placement.place(tower))
                self._synchronize()
            except CudaError:
                self._broken_off = "train_step()"
                raise
        self._last_step, self._thread.step = program, self._uses
        return float(np.mean(losses, dtype=np.float64))

    def _update(self, program: Program) -> None:
        """Queue the update and count the step: all of it, unless the device refuses."""
        broken_off = partial(setattr, self, "_broken_off")
        self._run(
            program.update,
            first=(partial(broken_off, "train_step()"),),
            then=(
                partial(setattr, self, "step", self.step + 1),
                partial(setattr, self, "_has_gradients", True),
                partial(broken_off, None),
            ),
        )

    @_one_at_a_time
    def last_step(self) -> Program:
        """The program of the last training step, its arrays as that step left them; read them by :meth:`read`.

        Raises:
            RuntimeError: there has been no training step, its memory has served another batch size or :meth:`forward`
                since, or the last step was another thread's and not the calling one's, which has made one before.
        """
        if self._last_step is None:
            raise RuntimeError("there is no training step to look at: none was made, or its memory has been used since")
        if getattr(self._thread, "step", self._uses) != self._uses:
            raise RuntimeError(
                "the last training step was another thread's: hold exclusive() from train_step() to the last read()"
            )
        self._thread.use = self._uses
        return self._last_step

    @_one_at_a_time
    def read(self, array: Any, tower: int = 0) -> npt.NDArray[Any]:
        """A copy in host memory of a program's native array, which lies on that tower's device.

        Raises:
            TypeError: ``array`` is no native array, or ``tower`` no integer.
            ValueError: there is no such tower.
            RuntimeError: another thread has used the net since the calling one did, or since it asked for
                :meth:`last_step`: the array is no longer what it was.
        """
        towers = self.options.towers
        require(0 <= integer("tower", tower) < towers, "tower", tower, "0 or 1" if towers > 1 else "0")
        if not isinstance(array, self.placement.devices[0].native.Array):
            raise TypeError(f"array is {shown(array)}; it must be an array of a program")
        if getattr(self._thread, "use", self._uses) != self._uses:
            raise RuntimeError(
                "another thread has used the arrays since this one last did: hold exclusive() from there to read()"
            )
        return self._download(array, self.placement.place(tower))

    def image_buffers(self, batch_size: int, count: int) -> list[npt.NDArray[np.uint8]]:
        """Arrays for the images of an :class:`ImageBatch`, from which they reach the devices fastest.

        Args:
            batch_size: images of each.
            count: how many.

        Returns:
            uint8 (batch_size, 256, 256, 3) each, in page-locked memory, not initialised.

        Raises:
            TypeError: an argument is no integer.
            ValueError: an argument is below 1.
            CudaError: there is not enough memory that can be locked.
        """
        batch_size, count = at_least("batch_size", batch_size, 1), at_least("count", count, 1)
        shape = (batch_size, IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS)
        return [pinned_array(self.placement.devices[0], shape, "uint8") for _ in range(count)]

    @_one_at_a_time
    def gradients(self) -> dict[str, npt.NDArray[np.float32]]:
        """Gradients of the last training step's mean loss, by parameter name, in the parameters' shapes.

        Raises:
            RuntimeError: there has been no training step with the present parameters.
        """
        if not self._has_gradients:
            raise RuntimeError("there are no gradients: no training step has been made with these parameters")
        return {name: self._read_parameter(name, "gradient") for name in self.shapes}

    @_one_at_a_time
    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """All weights and biases by name, towers side by side along the last axis, tower 0 first.

        ``conv1.weight`` is (11, 11, 3, 96), ``conv2.weight`` (5, 5, 48, 256), …, ``fc6.weight`` (9216, 4096) with its
        inputs in (row, column, channel) order, ``fc8.bias`` (num_classes,): those of one net with grouped
        convolutions.

        Raises:
            RuntimeError: a step or a loading was broken off halfway; see the message.
        """
        self._require_whole()
        return {name: self._read_parameter(name, "value") for name in self.shapes}

    @_one_at_a_time
    def momentum(self) -> dict[str, npt.NDArray[np.float32]]:
        """The last update of every parameter, by name and in the shapes of :meth:`parameters`; zeros before a step.

        Raises:
            RuntimeError: a step or a loading was broken off halfway; see the message.
        """
        self._require_whole()
        if not self._has_momentum:
            return {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}
        return {name: self._read_parameter(name, "momentum") for name in self.shapes}

    @_one_at_a_time
    def load_parameters(
        self,
        parameters: Mapping[str, Any],
        momentum: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace all weights and biases, and the momentum with them, since it belongs to the old ones.

        Args:
            parameters: names and shapes as :meth:`parameters` gives them, float32; arrays of any kind that
                :meth:`forward` takes.
            momentum: the same of :meth:`momentum`; None for zeros.

        Raises:
            ValueError: a name is missing or unknown, a shape differs, or an array lies on a GPU that is none of the
                net's; nothing has been replaced then.
            TypeError: something is no array of float32; likewise.
            OutOfMemoryError: there is no room for the momentum; likewise.
        """
        values = self._checked_parameters("parameters", parameters)
        updates = None if momentum is None else self._checked_parameters("momentum", momentum)
        if updates is not None:
            self._begin_updates()
        self._broken_off = "load_parameters()"
        for name, value in values.items():
            self._write_parameter(name, "value", value)
        if self._has_momentum:
            self._clear_updates()
            for name, value in (updates or {}).items():
                self._write_parameter(name, "momentum", value)
        self._broken_off = None

    def _checked_parameters(self, argument: str, values: Mapping[str, Any]) -> dict[str, Argument]:
        if not isinstance(values, Mapping):
            raise TypeError(f"{argument} is {shown(values)}; it must have arrays by name")
        if values.keys() != self.shapes.keys():
            missing, unknown = self.shapes.keys() - values.keys(), values.keys() - self.shapes.keys()
            raise ValueError(f"{argument} lack {sorted(missing)} and have unknown {sorted(map(str, unknown))}")
        return {
            name: self._reachable(Argument.of(f"{argument}: {name}", values[name], shape=shape))
            for name, shape in self.shapes.items()
        }

    # Copies -------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        default = Options()
        changed = {name: value for name, value in asdict(self.options).items() if value != getattr(default, name)}
        named = {"devices": list(self.devices), "seed": self.seed, **changed}
        arguments = ", ".join((str(self.num_classes), *(f"{name}={value!r}" for name, value in named.items())))
        count = sum(int(np.prod(shape)) for shape in self.shapes.values())
        return f"<AlexNet({arguments}): {count:,} parameters, step {self.step}>"

    def __copy__(self) -> AlexNet:
        return self.__deepcopy__({})

    def __deepcopy__(self, _memo: dict[int, Any]) -> AlexNet:
        return _restored(*self._content())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, self._content()

    @_one_at_a_time
    def _content(self) -> tuple[Any, ...]:
        """What :func:`_restored` makes an equal net of."""
        arguments = {
            "num_classes": self.num_classes,
            "devices": self.devices,
            "memory_limit": self._memory_limit,
            "seed": self.seed,
            "peer_access": self._peer_access,
            "options": asdict(self.options),
        }
        return type(self), arguments, self.step, self.parameters(), self.momentum() if self._has_momentum else None

    # Programs and memory ------------------------------------------------------------------------------------

    def _describe(self, batch_size: int, training: bool) -> Program:
        return Program(batch_size, self.num_classes, self.options, self.placement, self._parameters, training=training)

    @_one_at_a_time
    def program(self, batch_size: int, *, training: bool) -> Program:
        """The program of a batch size, ready to run, on memory that all programs share.

        Raises:
            TypeError: ``batch_size`` is no integer, or ``training`` no truth value.
            ValueError: ``batch_size`` is below 1.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        key = _program_key(batch_size, training)
        if key not in self._programs:
            program = self._describe(*key)
            self._plan_of(program).require_fit()
            if program.training:
                self._begin_updates()
            self._give_memory(program)
            program.build()
            self._programs[key] = program
        return self._programs[key]

    def _begin_updates(self) -> None:
        """Take the memory for momentum and gradients, all zero, unless that is done."""
        if self._has_momentum:
            return
        try:
            for arena in self._updates:
                arena.allocate()
            self._clear_updates()
        except BaseException:
            for arena in self._updates:
                arena.memory = None
            raise
        self._has_momentum = True

    def _give_memory(self, program: Program) -> None:
        for place, arena in enumerate(program.arenas):
            memory = self._memories[place]
            if memory is None or memory.bytes < arena.total_bytes:
                self._begin_use()
                self._programs.clear()  # they hold the memory that is too small
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
        limits, host_limit = self._limits(), self._host_limit()
        return MemoryPlan(program.batch_size, program.training, self.devices, by_layer, limits, host_limit)

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
            available = device.free_bytes + self._held_bytes(place)
            limits.append(available if self._memory_limit is None else min(available, self._memory_limit))
        return tuple(limits)

    def _host_limit(self) -> int | None:
        """Likewise on all devices together, where they lie in the computer's own memory."""
        if self.placement.devices[0].target == "cuda":
            return None
        return available_bytes() + sum(map(self._held_bytes, range(len(self.placement.devices))))

    def _held_bytes(self, place: int) -> int:
        memories = (self._values[place].memory, self._updates[place].memory, self._memories[place])
        return sum(memory.bytes for memory in memories if memory)

    # Work ---------------------------------------------------------------------------------------------------

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"the net was made in process {self._process}, of which this one is a fork: devices do not survive "
                "that. Start processes by 'spawn', or make and load nets in the process that uses them"
            )

    def _require_whole(self) -> None:
        if self._broken_off:
            raise RuntimeError(
                f"{self._broken_off} was broken off halfway: some parameters are old and some new. "
                "load_parameters() makes the net whole again"
            )

    def _begin_use(self) -> None:
        """From here on the arrays are the calling thread's; what others have seen there is gone."""
        self._last_step = None
        self._uses += 1
        self._thread.use = self._uses

    @contextmanager
    def _work(self) -> Iterator[None]:
        """A use of the arrays; when it is broken off, nothing of it runs on, and the next one can begin."""
        self._begin_use()
        try:
            yield
        except BaseException:
            for link in self.placement.links:
                with suppress(ValueError, CudaError):  # where no exchange had begun
                    link.finish()
            with suppress(CudaError):
                self._synchronize()
            raise

    def _run(
        self,
        entries: Iterable[Entry],
        *,
        first: Iterable[partial[None]] = (),
        then: Iterable[partial[None]] = (),
    ) -> None:
        """Queue the entries' work, in between two other lists of calls.

        Python heeds signals between its own instructions only. All calls are one of them here, so that Ctrl-C comes
        before or after them.
        """
        work = (call for entry in entries if (call := entry.call(self.step_values)))
        deque(map(partial.__call__, [*first, *work, *then]), maxlen=0)

    def _synchronize(self) -> None:
        for stream in self.placement.streams:
            stream.synchronize()

    def _input(self, x: Any) -> dict[str, Argument]:
        """What the net is to look at, by the names of a program's arrays; the first tells how many images there are."""
        if isinstance(x, ImageBatch):
            arrays = x.arguments(self.options.crop)
        else:
            arrays = {"joint": Argument.of("x", x, shape=("N", INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS))}
        return {name: self._reachable(array) for name, array in arrays.items()}

    def _upload_input(self, program: Program, x: Any, arrays: dict[str, Argument]) -> None:
        """Bring the input to each device that has a tower."""
        for place in range(len(self.placement.devices)):
            for name, array in arrays.items():
                self._upload(program.array(f"input.{name}", place), array, place)
        if isinstance(x, ImageBatch):
            self.step_values.input_scale = float(x.scale)
            self._run(program.prepare)

    def _reachable(self, array: Argument) -> Argument:
        """Refuse an array on a GPU that is none of the net's."""
        device = array.device
        if device is not None and device.target == "cuda" and device not in self.placement.devices:
            where = " or ".join(self.devices)
            raise ValueError(f"{array.name} is on {device}; it must be on {where}, as the net is, or in host memory")
        return array

    def _source(self, array: Argument, place: int) -> Any:
        """The array as a native one that the device at a place can copy from."""
        device = self.placement.devices[place]
        if device.target == "cuda" and array.device == device:
            return array.native(device)
        return host_array(device, np.ascontiguousarray(array.host()))

    def _upload(self, to: Any, value: Argument, place: int) -> None:
        """Copy in stream order. CUDA has read pageable memory when its copy returns; other memory outlives the step."""
        self.placement.devices[place].native.copy(to, self._source(value, place), self.placement.streams[place])

    def _download(self, array: Any, place: int) -> npt.NDArray[Any]:
        device, stream = self.placement.devices[place], self.placement.streams[place]
        value: npt.NDArray[Any] = np.empty(tuple(array.shape), DTYPES[array.dtype])
        device.native.copy(host_array(device, value), array, stream)
        stream.synchronize()
        return value

    def _check_labels(self, labels: Any, n: int) -> Argument:
        """Labels as int32 in host memory."""
        given = Argument.of("labels", _array_of(labels), INTEGERS, (n,))
        values = given.host()
        wrong = np.flatnonzero((values < 0) | (values >= self.num_classes))
        if len(wrong):
            first = int(wrong[0])
            raise ValueError(
                f"labels[{first}] is {values[first]}; it must be from 0 to num_classes - 1 = {self.num_classes - 1}"
            )
        return Argument("labels", values.astype(np.int32))

    # Parameters ---------------------------------------------------------------------------------------------

    def _read_parameter(self, name: str, kind: str) -> npt.NDArray[np.float32]:
        parts = [
            self._download(getattr(parameters[name], kind).array(), self.placement.place(tower))
            for tower, parameters in enumerate(self._parameters)
            if name in parameters
        ]
        whole: npt.NDArray[np.float32] = np.concatenate(parts, axis=-1)
        return whole

    def _write_parameter(self, name: str, kind: str, value: Argument) -> None:
        holders = [tower for tower, parameters in enumerate(self._parameters) if name in parameters]
        for part, tower in enumerate(holders):
            place = self.placement.place(tower)
            device, stream = self.placement.devices[place], self.placement.streams[place]
            to = getattr(self._parameters[tower][name], kind).array()
            width = to.shape[-1]
            device.native.copy(to, self._source(value, place).slice_last(part * width, (part + 1) * width), stream)
            stream.synchronize()

    def _clear_updates(self) -> None:
        """Set momentum and gradients to zero."""
        self._has_gradients = False
        for tower, parameters in enumerate(self._parameters):
            for parameter in parameters.values():
                zeros = Argument("zeros", np.zeros(parameter.value.shape, np.float32))
                for array in (parameter.momentum.array(), parameter.gradient.array()):
                    self._upload(array, zeros, self.placement.place(tower))
        self._synchronize()


def _restored(
    kind: type[AlexNet],
    arguments: dict[str, Any],
    step: int,
    parameters: dict[str, npt.NDArray[np.float32]],
    momentum: dict[str, npt.NDArray[np.float32]] | None,
) -> AlexNet:
    """A net of what :meth:`AlexNet._content` gave.

    Raises:
        DeviceNotFoundError: it was on a device that is not here.
        OutOfMemoryError: there is no room for it.
    """
    net = kind.__new__(kind)
    try:
        net._set_up(**arguments)
    except DeviceNotFoundError as error:
        raise DeviceNotFoundError(
            f"{error}. The net was pickled there: save it with pyalexnet.save_model, which load_model(path, "
            "devices=...) reads onto any devices"
        ) from error
    net.load_parameters(parameters, momentum)
    net.step = step
    return net


def as_memory_limit(memory_limit: int | None) -> int | None:
    """What a net may take on each device, in bytes.

    Raises:
        TypeError: it is neither an integer nor None.
        ValueError: it is below 1.
    """
    if memory_limit is None:
        return None
    found = integer("memory_limit", memory_limit)
    require(found >= 1, "memory_limit", memory_limit, "a number of bytes, or None")
    return found


def _describe_parameters(
    of: tuple[Conv | Linear, ...], placement: Placement, values: tuple[Arena, ...], updates: tuple[Arena, ...]
) -> list[dict[str, Parameter]]:
    """The parameters of what each tower computes."""
    parameters: list[dict[str, Parameter]] = [{} for _ in range(of[0].towers)]
    for layer in of:
        for tower in layer.computing_towers:
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


def _program_key(batch_size: int, training: bool) -> tuple[int, bool]:
    return at_least("batch_size", batch_size, 1), flag("training", training)


def _array_of(labels: Any) -> Any:
    """Labels in a list or tuple as an array; anything else as it is."""
    if not isinstance(labels, list | tuple):
        return labels
    try:
        return np.array(labels)
    except ValueError as error:  # lists of different lengths
        raise TypeError(f"labels is {shown(labels)}; it must be a list of integers") from error


def _count(arrays: dict[str, Argument]) -> int:
    """How many images an input has."""
    return next(iter(arrays.values())).shape[0]
