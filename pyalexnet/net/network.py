"""AlexNet: two towers on one device or two, with its parameters, a forward pass and a training step."""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import Self, Unpack

from pyalexnet.architecture import (
    IMAGE_SIZE,
    INPUT_CHANNELS,
    SEEDS,
    OptionArguments,
    Options,
    activation_names,
    as_options,
    initial_parameters,
    layers,
)
from pyalexnet.device.arguments import Argument
from pyalexnet.device.backend import DEFAULT_DEVICE
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.memory import MemoryPlan
from pyalexnet.device.native import NativeArray, NativeGraph
from pyalexnet.device.tensor import Tensor, pinned_array
from pyalexnet.errors import CudaError, DeviceNotFoundError
from pyalexnet.net.entry import Entry
from pyalexnet.net.forward import OTHERWISE_NOT_WRITTEN
from pyalexnet.net.gradient_sums import GradientSums, Traffic
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.inputs import Input, InputArrays, as_labels
from pyalexnet.net.parameters import Parameters, half_written
from pyalexnet.net.placement import Placement, device_names
from pyalexnet.net.program import Program
from pyalexnet.net.programs import Programs, Purpose, as_memory_limit
from pyalexnet.net.shards import Shards, as_shards
from pyalexnet.net.step_values import StepValues
from pyalexnet.net.transfers import Transfers
from pyalexnet.net.update import as_rate, rates_by_parameter
from pyalexnet.ops.sgd import MOMENTA, MOMENTUM, WEIGHT_DECAY
from pyalexnet.system.checks import at_least, flag, integer, integer_within, number_within, require, shown

Given = ParamSpec("Given")
Returned = TypeVar("Returned")
Collected = TypeVar("Collected")

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


# What forward(), features() and train_step() look at.
Images: TypeAlias = ArrayLike | ImageBatch


class AlexNet:
    """The net of Krizhevsky, Sutskever and Hinton (NIPS 2012), in two towers, or what the options make of it.

    The towers are placed on one device or on one each. They exchange only before conv3, fc6, fc7 and fc8 and in those
    layers' backward. The bits of a run do not depend on the placement, nor on whether two devices can access each
    other's memory. What :meth:`forward` and :meth:`features` compute of an image has the same bits alone and in any
    batch, unless they are told that it need not; what a training step computes follows from the whole batch.

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
        step_values: what changes from step to step, as the last one had it.
        captures: whether the work of a step, or of :meth:`forward`, is captured as a CUDA graph and launched in one
            call from the second time on. The bits are the same.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        devices: Iterable[str] = (DEFAULT_DEVICE,),
        memory_limit: int | None = None,
        seed: int = 0,
        peer_access: bool = True,
        **options: Unpack[OptionArguments],
    ) -> None:
        """Take the memory for the parameters and fill them.

        Args:
            num_classes: outputs of fc8, at least 2.
            devices: one or two devices of one target, such as ``["cuda:0", "cuda:1"]``; tower 0 lies on the first. The
                same GPU twice computes the towers at the same time, each with memory and a stream of its own.
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
        self._parameters.fill(initial_parameters(self.num_classes, self.options, self.seed))

    @classmethod
    def unfilled(
        cls,
        num_classes: int,
        *,
        devices: Iterable[str],
        memory_limit: int | None,
        **options: Unpack[OptionArguments],
    ) -> Self:
        """A net whose parameters are about to be loaded, so that none are drawn; before, it does not compute.

        Args:
            num_classes: as in :meth:`__init__`, like the arguments that follow.
            devices: see there.
            memory_limit: see there.
            options: see there.

        Raises:
            TypeError: as in :meth:`__init__`, like the errors that follow.
            ValueError: see there.
            DeviceNotFoundError: see there.
            OutOfMemoryError: see there.
        """
        net = cls.__new__(cls)
        net._set_up(num_classes, devices, memory_limit, 0, True, options)
        return net

    def _set_up(
        self,
        num_classes: int,
        devices: Iterable[str],
        memory_limit: int | None,
        seed: int,
        peer_access: bool,
        options: OptionArguments,
    ) -> None:
        """All that :meth:`__init__` does but fill the parameters."""
        self.num_classes = at_least("num_classes", num_classes, 2)
        self.seed = integer_within("seed", seed, SEEDS)
        self._memory_limit = as_memory_limit(memory_limit)
        self._peer_access = flag("peer_access", peer_access)
        self.devices = device_names(devices)
        self.options = Options(**as_options(options, "AlexNet", _ARGUMENTS))
        towers, groups, _ = self.options.computed_as
        which = "whose LRN is over both towers" if groups > 1 else "of one tower"
        require(len(self.devices) <= towers, "devices", list(self.devices), f"a list of one name, for a net {which}")
        self.step = 0
        self.captures = True
        self.placement = Placement.on(self.devices, peer_access=self._peer_access)
        for device in self.placement.devices:
            device.require_precision(self.options.precision)
        self.step_values = StepValues(self.placement.devices[0], self.options)
        self._transfers = Transfers(self.placement)
        self._inputs = InputArrays(self._transfers, len(self.devices))
        self._parameters = Parameters(self.num_classes, self.options, self.placement, self._transfers)
        self.shapes = self._parameters.shapes
        self._programs = Programs(self.num_classes, self.placement, self._parameters, self._memory_limit)
        self._sums: GradientSums | None = None
        self._last_step: Program | None = None
        self._process = os.getpid()
        self._lock = threading.RLock()
        # The arrays' uses are counted: each thread remembers its own last one, and that of its last training step.
        self._uses = 0
        self._thread = threading.local()

        self._programs.plan_without().require_fit()
        self._parameters.take_memory()

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
    def plan(
        self, batch_size: int, *, training: bool = True, batch_invariant: bool = True, shards: int | Shards = 1
    ) -> MemoryPlan:
        """The bytes that a batch size needs on each device, layer by layer; takes no memory.

        Args:
            batch_size: images at a time, at least 1: of a step this net's part.
            training: whether to count what the backward pass needs.
            batch_invariant: as in :meth:`forward`; a training step never is.
            shards: as in :meth:`train_step`.

        Raises:
            TypeError: ``batch_size`` or ``shards`` is no integer, or another argument no truth value.
            ValueError: ``batch_size`` is below 1, or no multiple of this net's shards.
        """
        purpose = _purpose(training, batch_invariant)
        shards = as_shards(shards)
        program = self._programs.describe(_shard_size("batch_size", batch_size, shards), self.options, purpose)
        return self._programs.plan(program, kept_sums=shards.kept_sums)

    @overload
    def forward(
        self, x: Images, *, as_tensor: Literal[False] = False, batch_invariant: bool = True
    ) -> npt.NDArray[np.float32]: ...
    @overload
    def forward(self, x: Images, *, as_tensor: Literal[True], batch_invariant: bool = True) -> Tensor: ...

    def forward(
        self, x: Images, *, as_tensor: bool = False, batch_invariant: bool = True
    ) -> npt.NDArray[np.float32] | Tensor:
        """Logits without dropout.

        Args:
            x: float32 (N, 227, 227, 3), RGB minus the mean; or an :class:`ImageBatch`. An array of NumPy, PyTorch
                (parameters too) or CuPy, a Tensor, or whatever else has ``__cuda_array_interface__`` or ``__dlpack__``.
                Of a GPU's array no copy passes through the host where the net computes on that GPU; other GPUs' arrays
                are refused.
            as_tensor: whether the result stays on the net's first device, for PyTorch, CuPy and others to read without
                a copy.
            batch_invariant: whether an image is to have the same bits alone and in any batch. False computes batches of
                two images and more faster, by what suits the batch; spectra of weights are kept for it, 160 MB a tower.

        Returns:
            float32 (N, num_classes), of which softmax makes probabilities: a NumPy array or, with ``as_tensor``, a
            Tensor. Either is the caller's own: no later call changes it, and the net's memory limit does not count it.

        Raises:
            TypeError: ``x`` is no array of float32.
            ValueError: ``x`` has another shape, or lies on a GPU that is none of the net's.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        return self._collected(x, "fc8", flag("as_tensor", as_tensor), flag("batch_invariant", batch_invariant))

    def forward_views(
        self, views: Sequence[ImageBatch], *, batch_invariant: bool = True
    ) -> list[npt.NDArray[np.float32]]:
        """The logits of several views of the same images, which reach the devices once.

        Args:
            views: batches that share their ``images``.
            batch_invariant: as in :meth:`forward`.

        Returns:
            For each view what :meth:`forward` gives.

        Raises:
            TypeError: a view is no :class:`ImageBatch`, or has an array of another dtype than it must have.
            ValueError: the views do not share their images, or one is not as described there.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        for number, view in enumerate(views):
            if not isinstance(view, ImageBatch):
                raise TypeError(f"views[{number}] is {shown(view)}; it must be an ImageBatch")
            if view.images is not views[0].images:
                raise ValueError(f"views[{number}] has images of its own; they must be those of views[0]")
        collect = self._transfers.download_columns
        found = self._activations(views, ["fc8"], collect, flag("batch_invariant", batch_invariant))
        return [of_view["fc8"] for of_view in found]

    @overload
    def features(
        self, x: Images, layer: str, *, as_tensor: Literal[False] = False, batch_invariant: bool = True
    ) -> npt.NDArray[np.float32]: ...
    @overload
    def features(self, x: Images, layer: str, *, as_tensor: Literal[True], batch_invariant: bool = True) -> Tensor: ...

    def features(
        self, x: Images, layer: str, *, as_tensor: bool = False, batch_invariant: bool = True
    ) -> npt.NDArray[np.float32] | Tensor:
        """What a layer computes of images, without dropout.

        Args:
            x: as in :meth:`forward`.
            layer: one of :func:`pyalexnet.architecture.activation_names`, such as ``conv1``, ``pool5``, ``fc7``, or
                ``fc7_pre``, what fc7's nonlinearity is given.
            as_tensor: as in :meth:`forward`.
            batch_invariant: as in :meth:`forward`.

        Returns:
            float32 (N, height, width, channels) or (N, units), the towers side by side; as in :meth:`forward`.

        Raises:
            TypeError: ``x`` is no array of float32.
            ValueError: ``x`` has another shape or lies on a GPU that is none of the net's, or there is no such layer.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        return self._collected(x, layer, flag("as_tensor", as_tensor), flag("batch_invariant", batch_invariant))

    @overload
    def activations(
        self, x: Images, layers: Sequence[str], *, as_tensor: Literal[False] = False, batch_invariant: bool = True
    ) -> dict[str, npt.NDArray[np.float32]]: ...
    @overload
    def activations(
        self, x: Images, layers: Sequence[str], *, as_tensor: Literal[True], batch_invariant: bool = True
    ) -> dict[str, Tensor]: ...

    def activations(
        self, x: Images, layers: Sequence[str], *, as_tensor: bool = False, batch_invariant: bool = True
    ) -> dict[str, npt.NDArray[np.float32]] | dict[str, Tensor]:
        """What several layers compute of images, in one forward pass; each is what :meth:`features` gives, bit for bit.

        Args:
            x: as in :meth:`forward`.
            layers: names as :meth:`features` takes them.
            as_tensor: as in :meth:`forward`.
            batch_invariant: as in :meth:`forward`.

        Returns:
            By name, in the order given, what :meth:`features` gives.

        Raises:
            TypeError: ``x`` is no array of float32, or ``layers`` no list of names.
            ValueError: ``x`` has another shape or lies on a GPU that is none of the net's, there is no such layer, or
                none is named.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        self.require_layers(layers)
        batch_invariant = flag("batch_invariant", batch_invariant)
        if flag("as_tensor", as_tensor):
            return self._activations([x], layers, self._transfers.join_columns, batch_invariant)[0]
        return self._activations([x], layers, self._transfers.download_columns, batch_invariant)[0]

    def require_layers(self, layers: Sequence[str], argument: str = "layers") -> None:
        """Refuse what :meth:`activations` does not take for layers.

        Args:
            layers: their names.
            argument: what messages call them.

        Raises:
            TypeError: they are no list of names.
            ValueError: there is no such layer, or none is named.
        """
        if isinstance(layers, str) or not isinstance(layers, Sequence):
            raise TypeError(f"{argument} is {shown(layers)}; it must be a list of names")
        require(len(layers) > 0, argument, layers, "one name or more")
        for place, layer in enumerate(layers):
            self.require_layer(layer, f"{argument}[{place}]")

    def require_layer(self, layer: str, argument: str = "layer") -> str:
        """Refuse what :meth:`features` knows no layer by.

        Args:
            layer: its name.
            argument: what messages call it.

        Returns:
            The name of a program's array.

        Raises:
            TypeError: ``layer`` is no text.
            ValueError: there is no such layer.
        """
        names = activation_names(self.options)
        wanted = f"one of {', '.join(names)}"
        if not isinstance(layer, str):
            raise TypeError(f"{argument} is {shown(layer)}; it must be {wanted}")
        require(layer in names, argument, layer, wanted)
        return names[layer]

    def _collected(
        self, x: Images, layer: str, as_tensor: bool, batch_invariant: bool
    ) -> npt.NDArray[np.float32] | Tensor:
        if as_tensor:
            return self._activations([x], [layer], self._transfers.join_columns, batch_invariant)[0][layer]
        return self._activations([x], [layer], self._transfers.download_columns, batch_invariant)[0][layer]

    @_one_at_a_time
    def _activations(
        self,
        views: Sequence[Images],
        names: Sequence[str],
        collect: Callable[[Mapping[int, NativeArray]], Collected],
        batch_invariant: bool,
    ) -> list[dict[str, Collected]]:
        """What layers compute of each view of the same images, collected from their towers, by name."""
        arrays = {name: self.require_layer(name) for name in names}
        inputs = [self._input(view) for view in views]
        self._parameters.require_whole()
        if not inputs:
            return []
        kept = frozenset(array for array in arrays.values() if array.endswith(OTHERWISE_NOT_WRITTEN))
        program = self._program(inputs[0].count, Purpose(False, batch_invariant, kept))
        towers = {layer.name: layer.computing_towers for layer in layers(self.num_classes, *self.options.computed_as)}
        layer_of = {name: array.partition(".")[0] for name, array in arrays.items()}
        deepest = max(layer_of.values(), key=list(towers).index)
        found: list[dict[str, Collected]] = []
        with self._work():
            for given in inputs:
                self._upload(program, given, already_there=("images",) if found else ())
                prepares, spectra = given.scale is not None, self._programs.spectra
                current = spectra.current & program.kept_spectra
                entries = _with_input(program, program.forward_up_to(deepest, current), prepares=prepares)
                graph = self._graph(program, (prepares, deepest, current), entries)
                _at_once([partial(graph.launch)] if graph else _calls(entries))
                spectra.note_made(entries)
                found.append(
                    {
                        name: collect({tower: program.array(array, tower) for tower in towers[layer_of[name]]})
                        for name, array in arrays.items()
                    }
                )
            self._transfers.synchronize()  # a device that holds nothing of the result may have failed all the same
        return found

    @_one_at_a_time
    def train_step(
        self,
        x: Images,
        labels: ArrayLike | Sequence[int],
        *,
        lr: float | Mapping[str, float],
        momentum: float = MOMENTUM,
        weight_decay: float = WEIGHT_DECAY,
        lars: float | None = None,
        shards: int | Shards = 1,
    ) -> float:
        """Forward, backward and one step of gradient descent.

        v ← momentum·v - weight_decay·lr·w - lr·g; w ← w + v, with g the gradient of the mean loss.

        Args:
            x: as in :meth:`forward`; with several ranks, this one's part of the batch.
            labels: integers (N,) of any size, from 0 to num_classes - 1: an array, as ``x`` may be one, or a list.
            lr: learning rate; or rates by layer (``conv1``) and parameter (``conv1.bias``), where a parameter's own
                comes before its layer's, and every parameter must have one. A parameter with rate 0 is frozen:
                neither gradient, weight decay nor momentum moves it, and its momentum waits. Where the lowest layers
                are frozen, nothing goes back through them.
            momentum: share of the last step that is kept, at least 0 and below 1.
            weight_decay: pull of the weights to zero, scaled by the learning rate.
            lars: scale each parameter's rate by lars·‖w‖ / (‖g‖ + weight_decay·‖w‖), with the norms of what a tower has
                of it (layer-wise adaptive rate scaling, You et al. 2017; ``ops.sgd_step`` has the whole rule). None
                leaves the rates as they are.
            shards: in how many parts of as many images the batch is computed, one after the other, or by several ranks
                (:class:`pyalexnet.net.shards.Shards`). The gradients of the parts are added up in an order that follows
                from their number alone, and each has dropout masks of its own: the bits depend on the number of shards,
                but not on that of ranks.

        Returns:
            The batch's mean loss before the step, in nats; that of all ranks.

        Raises:
            TypeError: ``x`` is no array of float32, ``labels`` are not integers, or a rate is no number.
            ValueError: a shape, a label or a rate is out of its range, an array lies on a GPU that is none of the
                net's, or the number of images is no multiple of that of this net's shards.
            OutOfMemoryError: the batch does not fit; the message has the plan.
            KeyboardInterrupt: of Ctrl-C; the step is then done whole and counted in :attr:`step`, or not at all.
        """
        shards = as_shards(shards)
        rates = rates_by_parameter(lr, self.shapes)
        momentum = number_within("momentum", momentum, MOMENTA)
        weight_decay = as_rate("weight_decay", weight_decay)
        trust = None if lars is None else as_rate("lars", lars)
        given = self._input(x)
        classes = as_labels(labels, given.count, self.num_classes)
        self._parameters.require_whole()
        size = _shard_size("the number of images", given.count, shards)
        program = self._program(size, Purpose(training=True, batch_invariant=False))
        sums = None if shards.count == 1 else self._sums_of(shards, program)
        self.step_values.set_rates(rates, momentum, weight_decay, shards.count, trust)
        self._parameters.gradients_of = ()
        with self._work():
            if sums is None:
                losses = self._run_step(program, given, classes)
            else:
                losses = self._run_sharded_step(program, given, classes, sums)
        self._last_step, self._thread.step = program, self._uses
        return float(np.add.reduce(losses, dtype=np.float64)) / len(losses)

    def _run_step(self, program: Program, given: Input, classes: Argument) -> npt.NDArray[np.float32]:
        """Make a step of one pass over the whole batch; its images' losses."""
        self._upload_step(program, given, classes, shard=0)
        prepares = given.scale is not None
        frozen, follows_norms = self.step_values.frozen, self.step_values.follows_norms
        gradients = _gradients(program, frozen, prepares=prepares)
        update = program.update_without(frozen, follows_norms=follows_norms)
        graph = self._graph(program, (prepares, frozen, follows_norms), (*gradients, *update))
        if not graph:
            _at_once(_calls(gradients))
        self._count_step(
            [partial(graph.launch)] if graph else _calls(update), program.gradients_without(frozen), shards=1
        )
        return self._after_update(partial(self._losses, program))

    def _run_sharded_step(
        self, program: Program, given: Input, classes: Argument, sums: GradientSums
    ) -> npt.NDArray[np.float32]:
        """Make a step of this net's shards, one after the other, and what other ranks have; all images' losses."""
        prepares, shards = given.scale is not None, sums.shards
        frozen = self.step_values.frozen
        passes = sums.begin(_gradients(program, frozen, prepares=prepares))
        parts = zip(given.cut(shards.per_rank), classes.cut(shards.per_rank), strict=True)
        losses = []
        for number, (part, of_part) in enumerate(parts):
            self._upload_step(program, part, of_part, shard=shards.own.first + number)
            if number == shards.per_rank - 1 and sums.is_between_ranks:
                sums.run_last(passes)
            else:
                graph = self._graph(program, (prepares, frozen, "gradients", shards.sends_factors), passes)
                _at_once([partial(graph.launch)] if graph else _calls(passes))
                sums.fold(number)
            losses.append(self._losses(program))  # now nothing reads the part any more
        of_ranks = shards.ranks.gather(np.concatenate(losses))
        update = _calls(program.update_without(frozen, follows_norms=self.step_values.follows_norms))
        self._count_step(update, program.gradients_without(frozen), shards=shards.count)
        self._after_update(self._transfers.synchronize)
        return np.concatenate(of_ranks)

    def _count_step(self, update: Iterable[partial[None]], gradients_of: Sequence[str], *, shards: int) -> None:
        """Queue the update, and count the step: as a whole, unless the device refuses.

        Args:
            update: what moves the parameters.
            gradients_of: the parameters whose gradients the step has computed.
            shards: of how many shards these are the sum.
        """
        set_parameters = partial(setattr, self._parameters)
        _at_once(
            [
                partial(set_parameters, "flaw", half_written("train_step()")),
                partial(self._programs.spectra.forget),
                *update,
                partial(setattr, self, "step", self.step + 1),
                partial(set_parameters, "gradients_of", gradients_of),
                partial(set_parameters, "gradient_shards", shards),
                partial(set_parameters, "flaw", None),
            ]
        )

    def _after_update(self, wait: Callable[[], Returned]) -> Returned:
        """What waits for a step's end; where the device has failed, the parameters are half written."""
        try:
            found = wait()
            self._transfers.synchronize()
        except CudaError:
            self._parameters.flaw = half_written("train_step()")
            raise
        return found

    def _upload_step(self, program: Program, given: Input, classes: Argument, *, shard: int) -> None:
        """Bring a shard to the devices, and what dropout is to draw for it."""
        self.step_values.set_step(self.seed, self.step, shard)
        self._upload(program, given)
        tower = program.loss_tower
        self._transfers.upload({self.placement.place(tower): program.array("loss.labels", tower)}, classes)

    def _losses(self, program: Program) -> npt.NDArray[np.float32]:
        """Those of the images of the last pass."""
        tower = program.loss_tower
        return self._transfers.download(program.array("loss.losses", tower), self.placement.place(tower))

    def _sums_of(self, shards: Shards, program: Program) -> GradientSums:
        """What adds up the shards' gradients."""
        if self._sums is None or self._sums.shards != shards:
            self._sums = None
            self._programs.plan(program, kept_sums=shards.kept_sums).require_fit()
            self._parameters.gradients_of = ()
            self._sums = GradientSums(self._parameters, self.placement, shards)
        return self._sums

    @property
    def traffic(self) -> Traffic:
        """What went between the ranks in the steps so far, of the last number of shards."""
        return Traffic() if self._sums is None else self._sums.traffic

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
        self._programs.spectra.trust_no_more()
        return self._last_step

    @_one_at_a_time
    def read(self, array: NativeArray, tower: int = 0) -> npt.NDArray[Any]:
        """A copy in host memory of a program's native array, which lies on that tower's device.

        Raises:
            TypeError: ``array`` is no native array, or ``tower`` no integer.
            ValueError: there is no such tower.
            RuntimeError: another thread has used the net since the calling one did, or since it asked for
                :meth:`last_step`: the array is no longer what it was.
        """
        towers, *_ = self.options.computed_as
        require(0 <= integer("tower", tower) < towers, "tower", tower, "0 or 1" if towers > 1 else "0")
        if not isinstance(array, self.placement.devices[0].native.Array):
            raise TypeError(f"array is {shown(array)}; it must be an array of a program")
        if getattr(self._thread, "use", self._uses) != self._uses:
            raise RuntimeError(
                "another thread has used the arrays since this one last did: hold exclusive() from there to read()"
            )
        return self._transfers.download(array, self.placement.place(tower))

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

        Those below the lowest layer that the step moved are not computed, and not among them; a step with a rate of 0
        for all parameters has all gradients.

        Raises:
            RuntimeError: there has been no training step with the present parameters.
        """
        return self._parameters.mean_gradients()

    @_one_at_a_time
    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """All weights and biases by name, towers side by side along the last axis, tower 0 first.

        ``conv1.weight`` is (11, 11, 3, 96), ``conv2.weight`` (5, 5, 48, 256), …, ``fc6.weight`` (9216, 4096) with its
        inputs in (row, column, channel) order, ``fc8.bias`` (num_classes,): those of one net with grouped
        convolutions.

        Raises:
            RuntimeError: a step or a loading was broken off halfway; see the message.
        """
        self._parameters.require_whole()
        return self._parameters.read_all("value")

    @_one_at_a_time
    def momentum(self) -> dict[str, npt.NDArray[np.float32]]:
        """The last update of every parameter, by name and in the shapes of :meth:`parameters`; zeros before a step.

        Raises:
            RuntimeError: a step or a loading was broken off halfway; see the message.
        """
        self._parameters.require_whole()
        if not self._parameters.has_momentum:
            return {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}
        return self._parameters.read_all("momentum")

    @_one_at_a_time
    def load_parameters(
        self,
        parameters: Mapping[str, ArrayLike],
        momentum: Mapping[str, ArrayLike] | None = None,
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
        values = self._parameters.checked("parameters", parameters)
        updates = None if momentum is None else self._parameters.checked("momentum", momentum)
        self._programs.spectra.forget()
        self._parameters.load(values, updates)

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

    def __deepcopy__(self, _memo: dict[int, object]) -> AlexNet:
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
        momentum = self.momentum() if self._parameters.has_momentum else None
        return type(self), arguments, self.step, self.parameters(), momentum

    # Programs -----------------------------------------------------------------------------------------------

    @_one_at_a_time
    def program(self, batch_size: int, *, training: bool, batch_invariant: bool = True) -> Program:
        """The program of a batch size, ready to run, on memory that all programs share.

        Args:
            batch_size: images at a time, at least 1.
            training: whether it has a backward pass and an update.
            batch_invariant: as in :meth:`forward`; a training step never is.

        Raises:
            TypeError: ``batch_size`` is no integer, or another argument no truth value.
            ValueError: ``batch_size`` is below 1.
            OutOfMemoryError: the batch does not fit; the message has the plan.
        """
        purpose = _purpose(training, batch_invariant)
        if purpose.training:
            self._programs.spectra.trust_no_more()
        return self._program(batch_size, purpose)

    def _program(self, batch_size: int, purpose: Purpose) -> Program:
        batch_size = at_least("batch_size", batch_size, 1)
        program = self._programs.find(batch_size, purpose)
        if program is None:
            program = self._programs.describe(batch_size, self.options, purpose)
            self._programs.plan(program).require_fit()
            if purpose.training:
                self._parameters.begin_updates()
            if not self._programs.have_room_for(program):
                self._begin_use()
                self._inputs.turn_to(None)
            self._programs.add(program, purpose)
        self._inputs.turn_to(program)  # who asked for it may run its entries
        return program

    # Work ---------------------------------------------------------------------------------------------------

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"the net was made in process {self._process}, of which this one is a fork: devices do not survive "
                "that. Start processes by 'spawn', or make and load nets in the process that uses them"
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
            self._programs.spectra.forget()
            self.placement.finish_exchanges()
            self.placement.wait_for_all_work()
            raise

    def _input(self, x: Images) -> Input:
        given = Input.of(x, self.options.crop)
        for array in given.arrays.values():
            self._transfers.require_reachable(array)
        return given

    def _upload(self, program: Program, given: Input, *, already_there: Collection[str] = ()) -> None:
        """Bring a batch, and what changes from step to step, to each device that has a tower."""
        self._inputs.upload(program, given, already_there=already_there)
        if given.scale is not None:
            self.step_values.set_scale(given.scale)
        for place, (device, stream) in enumerate(zip(self.placement.devices, self.placement.streams, strict=True)):
            device.native.copy(program.array("input.values", place), self.step_values.array, stream)

    def _graph(self, program: Program, key: Hashable, entries: Iterable[Entry]) -> NativeGraph | None:
        return program.graph(key, entries) if self.captures else None


def _with_input(program: Program, entries: Sequence[Entry], *, prepares: bool) -> Sequence[Entry]:
    """Entries of a program, and before them those that make the input, where that is of 8-bit images."""
    return (*program.prepare, *entries) if prepares else entries


def _gradients(program: Program, frozen: frozenset[str], *, prepares: bool) -> Sequence[Entry]:
    """The entries of a training program up to the gradients of what is not frozen."""
    return _with_input(program, (*program.forward, *program.backward_without(frozen)), prepares=prepares)


def _shard_size(name: str, images: int, shards: Shards) -> int:
    """How many images each of a net's shards has.

    Raises:
        TypeError: ``images`` is no integer.
        ValueError: it is below 1, or no multiple of the number of shards; the message calls it by the name.
    """
    images = at_least(name, images, 1)
    require(images % shards.per_rank == 0, name, images, f"a multiple of the number of shards, {shards.per_rank}")
    return images // shards.per_rank


def _calls(entries: Iterable[Entry]) -> Iterator[partial[None]]:
    return (entry.call() for entry in entries)


def _at_once(calls: Iterable[partial[None]]) -> None:
    """Make calls of native functions, to queue work.

    Python heeds signals between its own instructions only. All calls are one of them here, so that Ctrl-C comes
    before or after them.
    """
    deque(map(partial.__call__, calls), maxlen=0)


def _purpose(training: bool, batch_invariant: bool) -> Purpose:
    """What a program is for, checked.

    Raises:
        TypeError: an argument is no truth value.
    """
    training, batch_invariant = flag("training", training), flag("batch_invariant", batch_invariant)
    return Purpose(training, batch_invariant and not training)


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
