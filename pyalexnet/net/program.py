"""One batch size's program: every kernel and exchange of a step in order, and where their arrays lie.

A program is described once for a batch size, then run step after step. Describing it takes no memory: it yields the
plan of each device's arena. Building it lays the arrays out and binds them to the work. Each entry is one launch, or
one end of an exchange, with the layer, direction and tower it belongs to, so that the benchmark can time and a reader
can list exactly what a training step does. What each pass does is told in the file of its name: ``forward.py``,
``backward.py`` and ``update.py``.

Two towers meet only before conv3, fc6, fc7 and fc8, and in those layers' backward. The inputs of these layers are
joint arrays: tower 0's channels, then tower 1's. On one device the towers share a joint array and each writes its
half. On two devices each has one, writes its half of it, and the other half comes over a link. Towers run the same
kernels on the same shapes wherever they are, and sums over towers are always tower 0 + tower 1, so the bits do not
depend on the placement.

In training, how sums are cut, and which convolutions go by tiles or spectra, follows from the batch size, for speed. In
inference it follows from one image's shapes, so that an image's bits are the same alone and in any batch, unless that
is waived: then it follows from the batch size too, and from the weights' spectra being kept (``weight_spectra.py``).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import partial

from pyalexnet.architecture import Options
from pyalexnet.device.native import NativeArray, NativeGraph
from pyalexnet.errors import CudaError
from pyalexnet.net.backward import describe_backward, entries_above, layers_without_gradients
from pyalexnet.net.draft import Draft
from pyalexnet.net.entry import Entry
from pyalexnet.net.forward import describe_forward, describe_input
from pyalexnet.net.parameters import Parameter
from pyalexnet.net.placement import Placement
from pyalexnet.net.update import describe_update, plan_scaled_rates
from pyalexnet.net.weight_spectra import MAKES_SPECTRA, Weights, WeightSpectra

# Of a program: training freezes other parameters now and then, and a net may be given both kinds of images.
_MOST_GRAPHS = 4


class Program:
    """The arrays and the order of work of one batch size, for training or for inference alone.

    Attributes:
        batch_size: images at a time.
        training: whether there is a backward pass.
        batch_invariant: whether an image has the same bits alone and in any batch.
        kept: arrays that are there though kernels could do without writing them, such as ``conv1.pre``, what a layer
            sums before its nonlinearity, and ``conv1.lrn.y``, what is pooled.
        arenas: for each device, the plan of its arrays (the parameters lie elsewhere).
        kept_spectra: the weights whose spectra are kept, beside the arenas too.
        loss_tower: the tower that computes the loss, and so has its ``labels`` and ``losses``.
        prepare: the entries that make the input of 8-bit images, for callers who have such.
        forward: the entries that compute logits; with dropout when training.
        backward: the entries that compute the loss and all gradients.
        update: the entries that apply them to all parameters.

    ``str()`` gives the entries after ``prepare``, one a line.
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
        kept: frozenset[str] = frozenset(),
    ) -> None:
        """Describe the work; no memory is taken here.

        Args:
            batch_size: images at a time.
            num_classes: outputs of fc8.
            options: choices on which the sources differ.
            placement: the towers' devices.
            parameters: for each tower, its parameters by name.
            spectra: where those of weights are kept.
            training: whether to describe the backward pass and the update too.
            batch_invariant: whether an image is to have the same bits alone and in any batch; for inference only.
            kept: names of such arrays that are asked for; for inference only.
        """
        draft = Draft(
            batch_size,
            num_classes,
            options,
            placement,
            parameters,
            spectra,
            training=training,
            batch_invariant=batch_invariant,
            kept=kept,
        )
        self.batch_size = batch_size
        self.training = training
        self.batch_invariant = batch_invariant
        self.kept = kept
        self.arenas = draft.arenas
        self.loss_tower = draft.loss_tower
        self.prepare = draft.entries("forward", describe_input)
        self.forward = draft.entries("forward", describe_forward)
        self.backward = draft.entries("backward", describe_backward) if training else []
        self.update = draft.entries("update", describe_update) if training else []
        if training:
            plan_scaled_rates(draft)
        draft.place_workspaces()
        self.kept_spectra = frozenset(draft.kept_spectra)
        self._draft = draft
        self._placement = placement
        self._graphs: dict[Hashable, NativeGraph | None] = {}
        self._refused: set[Hashable] = set()  # keys of what could not be captured
        self._last_update: tuple[frozenset[str], bool, list[Entry]] = (frozenset(), False, self.update)

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

    def forward_up_to(self, layer: str, current: frozenset[Weights]) -> list[Entry]:
        """The entries that compute what a layer hands on, without those that make spectra which are current.

        Args:
            layer: its name.
            current: the weights whose kept spectra are those of the present values.
        """
        names = [each.name for each in self._draft.layers]
        needed = set(names[: names.index(layer) + 1])
        return [
            entry
            for entry in self.forward
            if entry.layer in needed and not (entry.operation == MAKES_SPECTRA and Weights.of(entry) in current)
        ]

    def array(self, name: str, tower: int = 0) -> NativeArray:
        """The native array of that name, for example ``("conv1.y", 0)``, once the arenas have memory."""
        return self._draft.arrays[name, tower].array()

    def parameters(self) -> Iterator[tuple[str, int, NativeArray]]:
        """The name, such as ``conv1.weight``, tower and native array of each parameter, in the layers' order."""
        for name, tower, _, parameter in self._draft.all_parameters():
            yield name, tower, parameter.value.array()

    def graph(self, key: Hashable, entries: Iterable[Entry]) -> NativeGraph | None:
        """What does the work of some entries at one call, and to the same bits.

        Args:
            key: what stands for the entries.
            entries: they, once :meth:`build` has been called.

        Returns:
            None where they are to be run one by one: the first time, when some of them may still take memory, and where
            something of them cannot be captured.
        """
        if key not in self._graphs:
            if len(self._graphs) == _MOST_GRAPHS:
                self._graphs.clear()
            self._graphs[key] = None
            return None
        if self._graphs[key] is None and key not in self._refused:
            try:
                self._graphs[key] = self._captured(entries)
            except CudaError:
                self._refused.add(key)
        return self._graphs[key]

    def _captured(self, entries: Iterable[Entry]) -> NativeGraph:
        def work() -> None:
            for entry in entries:
                entry.run()

        try:
            return self._placement.devices[0].native.Graph(self._placement.streams, work)
        except BaseException:
            self._placement.finish_exchanges()
            raise

    def backward_without(self, frozen: frozenset[str]) -> list[Entry]:
        """The entries that compute the loss and the gradients from the lowest layer on that moves.

        Where no layer moves they are all: such a step is made to look at its gradients.

        Args:
            frozen: names of parameters that keep their bits.
        """
        names = [layer.name for layer in self._draft.layers]
        return entries_above(self.backward, names, layers_without_gradients(names, frozen))

    def gradients_without(self, frozen: frozenset[str]) -> list[str]:
        """The names of the parameters whose gradients :meth:`backward_without` computes."""
        skipped = layers_without_gradients([layer.name for layer in self._draft.layers], frozen)
        names = dict.fromkeys(found.name for found in self._draft.all_parameters())
        return [name for name in names if name.partition(".")[0] not in skipped]

    def update_without(self, frozen: frozenset[str], *, follows_norms: bool = False) -> list[Entry]:
        """The entries that apply the gradients to all parameters but some, once :meth:`build` has been called.

        Args:
            frozen: names of those that keep their bits.
            follows_norms: whether the others' rates are scaled by their norms.
        """
        if self._last_update[:2] != (frozen, follows_norms):
            update = self.update
            if frozen or follows_norms:
                describe = partial(describe_update, frozen=frozen, follows_norms=follows_norms)
                update = self._draft.entries("update", describe)
            for entry in update:
                entry.bind()
            self._last_update = frozen, follows_norms, update
        return self._last_update[-1]
