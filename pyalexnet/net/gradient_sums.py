"""The sum of all shards' gradients: added up on each rank's devices, and between the ranks.

What a rank has added up by itself are its nodes of the tree in :mod:`pyalexnet.net.shards`, most often one. Each
layer's gradients on a device are a bucket, which goes its way by itself, as soon as backward has computed it:

    1. Each rank owns a slice of the bucket: rank r the r-th of as many as there are ranks. It receives the others'
       nodes there, and sends to each other rank its own nodes in the slice that is that one's.
    2. When it has all of its slice, it finishes the tree there: it knows all nodes, so nobody's order matters.
    3. It sends its slice to all others, and receives theirs: then it has the bucket's sum.

As an option, fully connected layers do otherwise: what their gradients are products of goes from each rank to all
others, and each computes and adds up all shards' (:mod:`pyalexnet.net.factors`).

With a node a rank, each of n ranks sends (n - 1)/n of the gradients twice, as few bytes as any way of doing it that has
all ranks add (Patarasuk and Yuan 2009). The sum is in place of the gradients then, on all ranks the same to the bit.

The memory of ``cpu`` and ``sim`` is the host's, which MPI reads and writes itself. What other devices hold goes through
page-locked memory of the host and is added there, by the same kernel.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from pyalexnet.device.backend import DEFAULT_DEVICE, Device, get_device
from pyalexnet.device.memory import Ref
from pyalexnet.device.native import NativeEvent, NativeStream
from pyalexnet.device.tensor import Tensor, host_array, pinned_array, tensor_of
from pyalexnet.net.entry import Entry
from pyalexnet.net.factors import Factors, factors_of, is_product
from pyalexnet.net.parameters import Parameters
from pyalexnet.net.placement import Placement
from pyalexnet.net.shards import Fold, Node, Shards, tree_sum
from pyalexnet.system.ranks import MpiRanks

if TYPE_CHECKING:
    from mpi4py import MPI

Floats = npt.NDArray[np.float32]

_IN_HOST_MEMORY = ("cpu", "sim")

# Slices begin at such multiples, as arrays of devices do.
_SLICE_FLOATS = 64

# Where nothing has come, MPI is asked again after such a time; less often while kernels run on the cores, since each
# look stops one of them.
_POLL_SECONDS, _POLL_SECONDS_BESIDE_KERNELS = 5e-5, 1e-3


@dataclass
class Traffic:
    """What the sums of a rank's steps so far took.

    Attributes:
        steps: how many there were.
        sent_bytes: what this rank sent.
        messages: in how many messages.
        seconds: time from the first message of a step to the end of its last.
        waiting_seconds: the part of it after the last gradient had been computed, when there was nothing else to do.
    """

    steps: int = 0
    sent_bytes: int = 0
    messages: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0


class GradientSums:
    """What adds up the gradients of a net's shards.

    Attributes:
        shards: how the batch is cut, and who computes what.
        traffic: what went between the ranks.
    """

    def __init__(self, parameters: Parameters, placement: Placement, shards: Shards) -> None:
        """Take the memory for what is kept between shards, and for what comes from other ranks.

        Raises:
            OutOfMemoryError: a device has not that much left.
        """
        self.shards = shards
        self.traffic = Traffic()
        self._placement = placement
        self._folds = shards.folds()
        self._products: list[Entry] = []  # that this step computes of factors
        self._passes_before_factors = 0
        self._factors: Factors | None = None
        self._gradients = [parameters.gradients_on(place) for place in range(len(placement.devices))]
        self._layers = [parameters.layer_gradients_on(place) for place in range(len(placement.devices))]
        self._kept = parameters.begin_sums(shards.kept_sums)
        parameters.clear_gradients()  # a sum reads what lies between them too
        self._between = _Between(shards, shards.ranks, self) if isinstance(shards.ranks, MpiRanks) else None

    @property
    def is_between_ranks(self) -> bool:
        """Whether other ranks have shards too, so that :meth:`run_last` is to queue the last one of this rank."""
        return self._between is not None

    def begin(self, entries: Sequence[Entry]) -> list[Entry]:
        """Stand before the first shard of a step.

        Args:
            entries: forward and backward.

        Returns:
            What each shard is to run of these, in their order.

        Raises:
            RuntimeError: the step before was broken off between the ranks, which cannot go on.
            OutOfMemoryError: there is no room for what comes from other ranks.
        """
        if self._between is None:
            return list(entries)
        self._products = [entry for entry in entries if self.shards.fc_factors and is_product(entry)]
        passes = [entry for entry in entries if entry not in self._products]
        self._between.require_ended()
        self._passes_before_factors = 0
        if self._products:
            self._passes_before_factors = list(entries).index(self._products[-1]) + 1 - len(self._products)
            self._between.set_out(_Receiving(self._factors_of(self._products, self._between)))
        return passes

    def _factors_of(self, products: Sequence[Entry], between: _Between) -> Factors:
        """What has room for the factors of some products; what had room for others gives way."""
        kinds = factors_of(products)
        if self._factors is None or self._factors.kinds != kinds:
            self._factors = None
            self._factors = Factors(self._placement, self.shards, between.ranks, between.free_tag, kinds)
        return self._factors

    def fold(self, number: int) -> None:
        """Queue what follows one of this rank's shards, once its passes have been queued.

        Args:
            number: of this rank's shards, from 0 on.
        """
        of_factors = {product.layer for product in self._products}  # the last layers, if any
        for place, layers in enumerate(self._layers):
            others = [last for layer, (_, last) in layers.items() if layer not in of_factors]
            self._fold(self._folds[number], place, 0, max(others, default=0))
        self._send_factors(number)

    def run_last(self, passes: Sequence[Entry]) -> None:
        """Queue the passes of this rank's last shard, where there are other ranks, and add up what all of them have.

        When it returns, the gradients are the sum over all shards, or will be before what is queued from then on.

        Args:
            passes: what :meth:`begin` gave.
        """
        between = self._between
        assert between is not None
        to_come = Counter(bucket for entry in passes if (bucket := self._bucket(entry)))
        for entry in passes[: self._passes_before_factors]:
            entry.run()
        self._send_factors(self.shards.per_rank - 1)
        for entry in passes[self._passes_before_factors :]:
            entry.run()
            if bucket := self._bucket(entry):
                to_come[bucket] -= 1
                if to_come[bucket] == 0:
                    self._let_go(between, *bucket)
        between.finish()
        self._multiply_factors()

    def _send_factors(self, number: int) -> None:
        """Queue the copy of a shard's factors, if there are any, and let them go to the other ranks."""
        if self._products and self._factors and self._between:
            shard = self.shards.own.first + number
            events = self._factors.download(shard, self._products)
            self._between.set_out_behind(events, _Sending(self._factors, shard, self.shards.ranks.size, self.traffic))

    def _multiply_factors(self) -> None:
        """Queue what the factors of all shards are for: each layer's products, added up."""
        for layer, grouped in groupby(self._products, key=lambda product: product.layer):
            products, factors = list(grouped), self._factors
            assert factors is not None
            for shard, fold in enumerate(self.shards.folds_alone()):
                factors.multiply(shard, products)
                for place in dict.fromkeys(self._placement.place(product.tower) for product in products):
                    self._fold(fold, place, *self._layers[place][layer])

    def _bucket(self, entry: Entry) -> tuple[int, str] | None:
        """The place and the layer of the weights whose gradients an entry computes, if it does."""
        computes_some = entry.operation.endswith("_backward_weight")
        return (self._placement.place(entry.tower), entry.layer) if computes_some else None

    def _let_go(self, between: _Between, place: int, layer: str) -> None:
        """Queue what follows the last shard for a layer, and let it go its way between the ranks."""
        self._fold(self._folds[-1], place, *self._layers[place][layer])
        between.send_when_computed(place, layer)
        between.advance()

    def _fold(self, fold: Fold, place: int, first: int, last: int) -> None:
        """Queue it for a part of the gradients on a device."""
        native, stream = self._placement.devices[place].native, self._placement.streams[place]
        own, *kept = (_part(ref, first, last).array() for ref in (self._gradients[place], *self._kept[place]))
        for before in fold.add:
            native.add_slices(out=own, a=kept[before], b=own, stream=stream)
        if fold.keep is not None:
            native.copy(kept[fold.keep], own, stream)


class _Message(Protocol):
    """What goes its way between the ranks.

    Attributes:
        course: the messages that are to be waited for before it goes on, one time after the other.
        pending: how many of these have not been done yet.
    """

    course: Iterator[list[MPI.Request]]
    pending: int

    def set_out(self) -> None:
        """Begin the way; what is sent has been computed."""


class _Between:
    """What brings the ranks' sums together, while their devices compute."""

    def __init__(self, shards: Shards, ranks: MpiRanks, sums: GradientSums) -> None:
        """Take memory for what comes in.

        Args:
            shards: whose sum it is.
            ranks: who takes part.
            sums: what this rank adds up by itself.
        """
        self.ranks, self._traffic = ranks, sums.traffic
        nodes = [shards.nodes_of_rank(rank) for rank in range(ranks.size)]
        adder = _Adder(sums._placement.devices[0])
        self._buckets: dict[tuple[int, str], _Bucket] = {}
        for place, device in enumerate(sums._placement.devices):
            kept = sums._kept[place][: len(nodes[ranks.rank]) - 1]
            own = [_HostCopy(device, sums._placement.streams[place], ref) for ref in (*kept, sums._gradients[place])]
            for layer, (first, last) in reversed(sums._layers[place].items()):
                number = len(self._buckets)
                self._buckets[place, layer] = _Bucket(number, ranks, nodes, adder, own, first, last, self._traffic)
        self.free_tag = 2 * len(self._buckets)
        on_cores = any(device.target in _IN_HOST_MEMORY for device in sums._placement.devices)
        self._poll_seconds = _POLL_SECONDS_BESIDE_KERNELS if on_cores else _POLL_SECONDS
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix="pyalexnet-gradients")
        self._computing: deque[tuple[Future[None], _Message]] = deque()
        self._requests: list[MPI.Request] = []
        self._whose: list[_Message] = []
        self._open = 0
        self._start_time: float | None = None

    def require_ended(self) -> None:
        """See that nothing is on its way.

        Raises:
            RuntimeError: the step before was broken off, and its messages may still be.
        """
        if self._open:
            raise RuntimeError(
                "a step was broken off while gradients were on their way between the ranks, which cannot go on: start "
                "all of them anew"
            )
        self._start_time = None

    def send_when_computed(self, place: int, layer: str) -> None:
        """Let a bucket go its way once its device has done all that it was asked for so far."""
        bucket = self._buckets[place, layer]
        self.set_out_behind([bucket.when_computed()], bucket)

    def set_out_behind(self, events: Sequence[NativeEvent], message: _Message) -> None:
        """Let something go its way once devices have come so far."""
        self._open += 1
        self._computing.append((self._waiter.submit(_wait_for, events), message))

    def set_out(self, message: _Message) -> None:
        """Let something go its way."""
        self._open += 1
        self._start(message)

    def _start(self, message: _Message) -> None:
        message.set_out()
        self._go_on(message)

    def advance(self) -> bool:
        """Take one look at what has been computed and what has come; whether there was anything."""
        moved = False
        while self._computing and self._computing[0][0].done():
            computed, message = self._computing.popleft()
            computed.result()
            self._start_time = self._start_time or time.perf_counter()
            self._start(message)
            moved = True
        done = set(self.ranks.finished(self._requests)) if self._requests else set()
        arrived = [self._whose[index] for index in done]
        self._requests = [request for index, request in enumerate(self._requests) if index not in done]
        self._whose = [message for index, message in enumerate(self._whose) if index not in done]
        for message in arrived:
            message.pending -= 1
            if message.pending == 0:
                self._go_on(message)
        return moved or bool(done)

    def finish(self) -> None:
        """Wait until all have come to their end."""
        while self._computing:
            if not self.advance():
                wait([self._computing[0][0]], self._poll_seconds)
        computed_time = time.perf_counter()
        with self.ranks.waiting():
            while self._open:
                if not self.advance():
                    time.sleep(_POLL_SECONDS)
        end = time.perf_counter()
        self._traffic.steps += 1
        self._traffic.seconds += end - (self._start_time or end)
        self._traffic.waiting_seconds += end - computed_time

    def _go_on(self, message: _Message) -> None:
        """To what one waits for next, or its end."""
        while (requests := next(message.course, None)) is not None:
            self._requests += requests
            self._whose += [message] * len(requests)
            message.pending = len(requests)
            if requests:
                return
        self._open -= 1


def _wait_for(events: Iterable[NativeEvent]) -> None:
    for event in events:
        event.synchronize()


class _Receiving:
    """All factors of a step that other ranks compute."""

    def __init__(self, factors: Factors) -> None:
        """Nothing is asked for yet."""
        self.course: Iterator[list[MPI.Request]] = iter(())
        self.pending = 0
        self._factors = factors

    def set_out(self) -> None:
        """As of :class:`_Message`."""
        self.course = iter([self._factors.start_receiving()])


class _Sending:
    """A shard's factors, to all other ranks."""

    def __init__(self, factors: Factors, shard: int, ranks: int, traffic: Traffic) -> None:
        """Nothing is sent yet."""
        self.course: Iterator[list[MPI.Request]] = iter(())
        self.pending = 0
        self._factors, self._shard = factors, shard
        self._others, self._traffic = ranks - 1, traffic

    def set_out(self) -> None:
        """As of :class:`_Message`."""
        self._traffic.messages += self._others
        self._traffic.sent_bytes += self._others * self._factors.message_bytes
        self.course = iter([self._factors.start_sending(self._shard)])


class _Bucket:
    """A layer's gradients on a device, on their way between the ranks; see :class:`_Message`."""

    def __init__(
        self,
        number: int,
        ranks: MpiRanks,
        nodes: list[list[Node]],
        adder: _Adder,
        own: list[_HostCopy],
        first: int,
        last: int,
        traffic: Traffic,
    ) -> None:
        """Take memory for what comes in.

        Args:
            number: of all buckets, the same on all ranks.
            ranks: who takes part.
            nodes: what each of them adds up by itself.
            adder: what adds.
            own: where this rank's nodes are; the last one where its gradients are.
            first: where in all these arrays the layer's begin.
            last: where they end.
            traffic: where to count.
        """
        self._ranks, self._nodes, self._adder, self._traffic = ranks, nodes, adder, traffic
        self._tags = 2 * number, 2 * number + 1
        self._own, self._first, self._last = own, first, last
        self._sums = [host.array[first:last] for host in own]
        self._slices = [_slice_of(rank, ranks.size, last - first) for rank in range(ranks.size)]
        width = self._slices[ranks.rank].stop - self._slices[ranks.rank].start
        self._received = {node: np.empty(width, np.float32) for rank in self._others if width for node in nodes[rank]}
        self.course: Iterator[list[MPI.Request]] = iter(())
        self.pending = 0

    @property
    def _others(self) -> list[int]:
        """The other ranks, each rank beginning with the next one, so that not all send to the same one at first."""
        rank, size = self._ranks.rank, self._ranks.size
        return [(rank + distance) % size for distance in range(1, size)]

    def when_computed(self) -> NativeEvent:
        """Queue the copies to the host, if there are any, and a mark behind all that."""
        for host in self._own:
            host.download(self._first, self._last)
        return self._own[-1].mark()

    def set_out(self) -> None:
        """Begin the way; what is sent has been computed."""
        self.course = self._course()

    def _course(self) -> Iterator[list[MPI.Request]]:
        own = self._slices[self._ranks.rank]
        yield [*self._receive_nodes(), *self._send_nodes()]
        if own.stop > own.start:
            self._add_up(own)
        yield [*self._receive_sums(), *self._send_sum(own)]
        self._own[-1].upload(self._first, self._last)

    def _receive_nodes(self) -> Iterator[MPI.Request]:
        for rank in self._others:
            for node in self._nodes[rank]:
                if node in self._received:
                    yield self._ranks.start_receiving(self._received[node], rank, self._tags[0])

    def _send_nodes(self) -> Iterator[MPI.Request]:
        for rank in self._others:
            for values in self._sums:
                yield from self._send(values[self._slices[rank]], rank, self._tags[0])

    def _add_up(self, own: slice) -> None:
        """The sum over all shards of what this rank owns, in place of its gradients."""
        mine = zip(self._nodes[self._ranks.rank], self._sums, strict=True)
        sums = self._received | {node: values[own] for node, values in mine}
        self._sums[-1][own] = self._adder.tree_sum(sums)

    def _receive_sums(self) -> Iterator[MPI.Request]:
        for rank in self._others:
            values = self._sums[-1][self._slices[rank]]
            if len(values):
                yield self._ranks.start_receiving(values, rank, self._tags[1])

    def _send_sum(self, own: slice) -> Iterator[MPI.Request]:
        for rank in self._others:
            yield from self._send(self._sums[-1][own], rank, self._tags[1])

    def _send(self, values: Floats, to: int, tag: int) -> Iterator[MPI.Request]:
        if len(values):
            self._traffic.messages += 1
            self._traffic.sent_bytes += values.nbytes
            yield self._ranks.start_sending(values, to, tag)


class _HostCopy:
    """Floats of a device as MPI reads and writes them: the device's own, or a copy in the host's memory.

    Attributes:
        array: float32 (n,).
    """

    def __init__(self, device: Device, stream: NativeStream, ref: Ref) -> None:
        """Of an array that has its memory.

        Args:
            device: where it is.
            stream: what the copies are queued on.
            ref: the array, of one axis.
        """
        self._device, self._stream, self._ref = device, stream, ref
        self._is_own = device.target in _IN_HOST_MEMORY
        self.array: Floats = (
            Tensor(ref.array(), device).numpy() if self._is_own else pinned_array(device, ref.shape, "float32")
        )

    def download(self, first: int, last: int) -> None:
        """Queue the copy of a part to the host."""
        if not self._is_own:
            host = host_array(self._device, self.array[first:last])
            self._device.native.copy(host, _part(self._ref, first, last).array(), self._stream)

    def upload(self, first: int, last: int) -> None:
        """Queue the copy of a part to the device."""
        if not self._is_own:
            host = host_array(self._device, self.array[first:last])
            self._device.native.copy(_part(self._ref, first, last).array(), host, self._stream)

    def mark(self) -> NativeEvent:
        """An event behind all that has been queued."""
        event = self._device.native.Event(self._device.index)
        self._stream.record(event)
        return event


class _Adder:
    """Adds arrays of the host by the kernel that adds a device's, to the same bits."""

    def __init__(self, beside: Device) -> None:
        """Work on the cores that a device has in the host's memory, or else on the host's own."""
        self._device = beside if beside.target in _IN_HOST_MEMORY else get_device(DEFAULT_DEVICE)
        self._stream = self._device.native.Stream(self._device.index)

    def tree_sum(self, sums: dict[Node, Floats]) -> Floats:
        """The sum of all; what the arrays held is lost."""
        root = Node(min(node.first for node in sums), max(node.last for node in sums))
        total = tree_sum(root, sums, self._add)
        self._stream.synchronize()
        return total

    def _add(self, a: Floats, b: Floats) -> Floats:
        out, other = (tensor_of(values, self._device).array for values in (a, b))
        self._device.native.add_slices(out=out, a=out, b=other, stream=self._stream)
        return a


def _part(ref: Ref, first: int, last: int) -> Ref:
    """Some of the floats of an array of one axis."""
    return replace(ref, offset_bytes=ref.offset_bytes + 4 * first, shape=(last - first,))


def _slice_of(rank: int, size: int, floats: int) -> slice:
    """Which part of so many floats, a multiple of :data:`_SLICE_FLOATS`, a rank owns; it may be empty."""
    units = floats // _SLICE_FLOATS
    return slice(units * rank // size * _SLICE_FLOATS, units * (rank + 1) // size * _SLICE_FLOATS)
