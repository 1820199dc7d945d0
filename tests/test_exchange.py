"""Links between two devices: the same bytes whichever way they go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import Tensor
from pyalexnet.device import backend

PITCH_CASES = [(1, 4, 4, 4), (7, 5, 5, 8), (33, 128, 256, 128), (3, 48, 96, 96)]


@pytest.fixture(params=["cpu:0 cpu:1", "sim:0 sim:1", "sim:0 sim:0", "cuda:0 cuda:1", "cuda:0 cuda:0"])
def pair(request: pytest.FixtureRequest) -> tuple[backend.Device, backend.Device]:
    """Two devices of one target, or one twice; each with a stream of its own."""
    names = request.param.split()
    if not set(names) <= {info.name for info in backend.devices()}:
        pytest.skip(f"no {request.param} on this machine")
    first, second = (backend.get_device(name) for name in names)
    return first, backend.Device(second.target, second.index)


@pytest.fixture(params=["usual", *range(12)], ids=lambda seed: f"order{seed}")
def order(request: pytest.FixtureRequest, pair: tuple[backend.Device, backend.Device]) -> Iterator[None]:
    """The usual order of streams, and on virtual devices such as a seed draws among those that CUDA allows."""
    if request.param == "usual":
        yield
        return
    native = pair[0].native
    if pair[0].target == "cuda":
        pytest.skip("GPUs have an order of their own")
    native.set_schedule(seed=request.param, shuffle_streams=True)
    try:
        yield
    finally:
        native.set_schedule()


def in_device_memory(on: backend.Device, values: npt.NDArray[np.float32]) -> Tensor:
    """Memory of the device itself: virtual devices would borrow the host's for a NumPy array."""
    if on.target == "cuda":
        return Tensor.from_array(values, device=str(on))
    tensor = Tensor.empty(values.shape, device=str(on))
    np.asarray(tensor)[...] = values
    return tensor


def rows_of(on: backend.Device, values: npt.NDArray[np.float32], pitch: int) -> Tensor:
    """An array of ones, ``pitch`` wide, that starts each row with the values."""
    whole = np.ones((len(values), pitch), np.float32)
    whole[:, : values.shape[1]] = values
    return in_device_memory(on, whole)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("peer_access", [True, False])
@pytest.mark.parametrize(("rows", "columns", "to_pitch", "from_pitch"), PITCH_CASES)
def test_slices_arrive_whole(
    pair: tuple[backend.Device, backend.Device],
    peer_access: bool,
    rows: int,
    columns: int,
    to_pitch: int,
    from_pitch: int,
) -> None:
    source, destination = pair
    values = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    sent = rows_of(source, values, from_pitch)
    received = rows_of(destination, np.zeros_like(values), to_pitch)
    link = source.native.Link(source.stream, destination.stream, peer_access)
    link.start(received.array.slice_last(0, columns), sent.array.slice_last(0, columns))
    link.finish()
    destination.stream.synchronize()
    arrived = np.array(received)
    np.testing.assert_array_equal(arrived[:, :columns], values)
    assert (arrived[:, columns:] == 1).all(), "what lies between the rows is untouched"


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("peer_access", [True, False])
def test_transfers_wait_for_writers_and_readers(pair: tuple[backend.Device, backend.Device], peer_access: bool) -> None:
    """Rounds of compute, transfer, compute without any wait on the host: each must see the round before."""
    source, destination = pair
    native, rounds, shape = source.native, 20, (64, 1024)
    sent = in_device_memory(source, np.ones(shape, np.float32))
    received = in_device_memory(destination, np.zeros(shape, np.float32))
    total = in_device_memory(destination, np.zeros(shape, np.float32))
    link = native.Link(source.stream, destination.stream, peer_access)
    for _ in range(rounds):
        link.start(received.array, sent.array)
        link.finish()
        native.add_slices(out=total.array, a=total.array, b=received.array, stream=destination.stream)
        native.add_slices(out=sent.array, a=sent.array, b=sent.array, stream=source.stream)
    destination.stream.synchronize()
    # 1 + 2 + 4 + ... in fp32 is exact below 2**24.
    assert (np.asarray(total) == 2.0**rounds - 1).all()


@pytest.mark.parametrize("peer_access", [True, False])
def test_a_transfer_waits_for_earlier_readers_of_where_it_goes(
    pair: tuple[backend.Device, backend.Device], peer_access: bool
) -> None:
    source, destination = pair
    native, stream, shape = source.native, destination.stream, (64, 1024)
    sent = in_device_memory(source, np.ones(shape, np.float32))
    received = in_device_memory(destination, np.zeros(shape, np.float32))
    seen = in_device_memory(destination, np.full(shape, np.nan, np.float32))
    sink = Tensor.empty((8,), device=str(destination))
    link = native.Link(source.stream, stream, peer_access)
    rounds = rounds_that_take(0.05, lambda rounds: native.multiply_add_peak(sink.array, rounds, stream), stream)
    # The stream is busy while the host goes on: a copy that does not wait is there before the reader.
    native.multiply_add_peak(sink.array, rounds, stream)
    native.add_slices(out=seen.array, a=received.array, b=received.array, stream=stream)
    link.start(received.array, sent.array)
    link.finish()
    stream.synchronize()
    assert (np.asarray(seen) == 0).all()
    assert (np.asarray(received) == 1).all()


def rounds_that_take(seconds: float, queue: Callable[[int], None], stream: Any) -> int:
    """How often a kernel must go round to take so long."""
    rounds = 1000
    while True:
        start = time.perf_counter()
        queue(rounds)
        stream.synchronize()
        if time.perf_counter() - start >= seconds:
            return rounds
        rounds *= 2


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("peer_access", [True, False])
def test_a_larger_transfer_leaves_the_one_before_it_whole(
    pair: tuple[backend.Device, backend.Device], peer_access: bool
) -> None:
    """The staging memory grows while the host does not wait."""
    source, destination = pair
    link = source.native.Link(source.stream, destination.stream, peer_access)
    arrived = []
    for rows in (8, 64, 512):
        sent = in_device_memory(source, np.full((rows, 100), rows, np.float32))
        received = in_device_memory(destination, np.zeros((rows, 100), np.float32))
        link.start(received.array, sent.array)
        link.finish()
        arrived.append((rows, sent, received))
    destination.stream.synchronize()
    for rows, _, received in arrived:
        assert (np.array(received) == rows).all()


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("peer_access", [True, False])
def test_a_link_ends_when_its_transfer_has(pair: tuple[backend.Device, backend.Device], peer_access: bool) -> None:
    source, destination = pair
    if source.target == "cuda":
        pytest.skip("the host cannot look into a GPU's memory without waiting for it")
    sent = in_device_memory(source, np.ones((64, 100), np.float32))
    received = in_device_memory(destination, np.zeros((64, 100), np.float32))
    link = source.native.Link(source.stream, destination.stream, peer_access)
    link.start(received.array, sent.array)
    del link
    assert (np.asarray(received) == 1).all()


def test_misuse_is_refused(pair: tuple[backend.Device, backend.Device]) -> None:
    source, destination = pair
    sent = Tensor.empty((2, 8), device=str(source))
    received = Tensor.empty((2, 8), device=str(destination))
    link = source.native.Link(source.stream, destination.stream)
    with pytest.raises(ValueError, match="no transfer to finish"):
        link.finish()
    if source.index != destination.index:
        with pytest.raises(ValueError, match="on device 1; the stream is on device 0"):
            link.start(sent.array, received.array)
    with pytest.raises(ValueError, match=r"the arrays differ: shape \(2, 8\)"):
        link.start(received.array, Tensor.empty((2, 4), device=str(source)).array)
    link.start(received.array, sent.array)
    with pytest.raises(ValueError, match="not finished"):
        link.start(received.array, sent.array)
    link.finish()
