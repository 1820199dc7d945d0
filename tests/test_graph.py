"""CUDA graphs: what is captured is done as often as it is launched, and a net's steps have the same bits with them."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import CudaError, ops
from pyalexnet.device import backend
from pyalexnet.device.native import NativeGraph
from pyalexnet.device.tensor import Tensor, host_array
from pyalexnet.net.entry import Entry
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.network import AlexNet
from pyalexnet.ops._memory import draw_of, settings

CLASSES = 10
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


# Graphs themselves ------------------------------------------------------------------------------------------------


def on_device(values: npt.NDArray[Any], device: str) -> Tensor:
    """In memory of the device, also where the host's would do."""
    on = backend.get_device(device)
    tensor = Tensor.empty(values.shape, dtype=values.dtype.name, device=device)
    on.native.copy(tensor.array, Tensor.from_array(values, device=device).array, on.stream)
    on.stream.synchronize()
    return tensor


def test_a_graph_reads_what_lies_on_the_device_when_it_is_launched(device: str, rng: np.random.Generator) -> None:
    on = backend.get_device(device)
    x = on_device(rng.standard_normal((4, 100), dtype=np.float32), device)
    y, draw = Tensor.empty((4, 100), device=device), Tensor.empty((16,), dtype="uint8", device=device)

    def work() -> None:
        on.native.dropout_forward(y.array, x.array, 0.5, draw.array, 100, 0, on.stream)

    graph = on.native.Graph([on.stream], work)
    for seed, offset in ((1, 0), (1, 7), (2**63 + 5, 2**40)):
        on.native.copy(draw.array, draw_of(on, seed, offset), on.stream)
        graph.launch()
        on.stream.synchronize()
        expected = ops.dropout(x, p=0.5, seed=seed, offset=offset)
        np.testing.assert_array_equal(np.asarray(y), np.asarray(expected))


def test_rates_on_the_device_move_as_those_of_the_host(device: str, rng: np.random.Generator) -> None:
    on = backend.get_device(device)
    w, v, g = (rng.standard_normal(1001, dtype=np.float32) for _ in range(3))
    rates = np.array([0.3, 0.8, 0.01], np.float32)
    expected = ops.sgd_step(w, v, g, lr=0.3, momentum=0.8, weight_decay=0.01, device=device)
    there = [on_device(value, device) for value in (w, v, g, rates)]
    new_w, new_v, gradient, placed = (tensor.array for tensor in there)
    on.native.sgd_step([new_w], [new_v], [gradient], [placed], on.stream)
    on.stream.synchronize()
    for found, wanted in zip(there, expected, strict=False):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_a_scale_on_the_device_multiplies_as_that_of_the_host(device: str, rng: np.random.Generator) -> None:
    on = backend.get_device(device)
    images = rng.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    drawn = (images, np.zeros((1, 2), np.int32), np.zeros(1, np.uint8), np.ones((1, 3), np.float32))
    expected = ops.prepare_input(*drawn, crop=5, scale=0.3, device=device)
    out, there = Tensor.empty((1, 5, 5, 3), device=device), [on_device(value, device) for value in drawn]
    scale = on_device(np.array([0.3], np.float32), device)
    on.native.prepare_input(
        out.array, *(tensor.array for tensor in there), None, 5, 0, (1.0, 1.0, 1.0), scale.array, on.stream
    )
    on.stream.synchronize()
    np.testing.assert_array_equal(np.asarray(out), np.asarray(expected))


def test_what_the_work_raises_is_passed_on_and_the_stream_is_as_before(device: str) -> None:
    on = backend.get_device(device)
    x, y = on_device(np.ones(10, np.float32), device), on_device(np.zeros(10, np.float32), device)

    def broken_off() -> None:
        on.native.relu_forward(y.array, x.array, on.stream)
        raise KeyboardInterrupt

    def refused() -> None:
        on.native.relu_forward(y.array, x.array, on.stream)
        on.stream.synchronize()

    def nothing_of_it() -> None:
        on.native.sgd_step([x.array], [x.array], [x.array], [settings(on, -1.0, 0.9, 0.0)], on.stream)

    cases: list[tuple[Callable[[], None], type[BaseException], str]] = [
        (broken_off, KeyboardInterrupt, "^$"),
        (refused, CudaError, "cudaStreamSynchronize.*not permitted when stream is capturing"),
        (nothing_of_it, ValueError, "lr is -1"),
    ]
    for work, error, told in cases:
        with pytest.raises(error, match=told):
            on.native.Graph([on.stream], work)
        on.stream.synchronize()
        np.testing.assert_array_equal(np.asarray(y), 0)
    with pytest.raises(ValueError, match="streams is empty"):
        on.native.Graph([], broken_off)
    on.native.relu_forward(y.array, x.array, on.stream)
    on.stream.synchronize()
    np.testing.assert_array_equal(np.asarray(y), 1)


@pytest.mark.parametrize("peer_access", [True, False])
def test_an_exchange_is_captured(peer_access: bool, rng: np.random.Generator) -> None:
    here, there = (backend.get_device(name) for name in ("sim:0", "sim:1"))  # what is freed is out of reach there
    streams = here.native.Stream(0), here.native.Stream(1)
    link = here.native.Link(*streams, peer_access)
    source, doubled = (Tensor.empty((6, 1000), device="sim:0") for _ in range(2))
    received, result = (Tensor.empty((6, 1000), device="sim:1") for _ in range(2))

    def work() -> None:
        here.native.add_slices(doubled.array, source.array, source.array, streams[0])
        link.start(received.array, doubled.array)
        link.finish()
        there.native.relu_forward(result.array, received.array, streams[1])

    work()  # takes the memory that rows are staged in
    graph = here.native.Graph(streams, work)
    for _ in range(3):
        values = rng.standard_normal((6, 1000), dtype=np.float32)
        here.native.copy(source.array, host_array(here, values), streams[0])
        graph.launch()
        streams[1].synchronize()
        np.testing.assert_array_equal(np.asarray(result), np.maximum(2 * values, 0))
    # Larger rows have staging memory of their own; the graph keeps what it was captured with.
    large, other = Tensor.empty((60, 1000), device="sim:0"), Tensor.empty((60, 1000), device="sim:1")
    link.start(other.array, large.array)
    link.finish()
    graph.launch()
    streams[1].synchronize()
    np.testing.assert_array_equal(np.asarray(result), np.maximum(2 * values, 0))


# Steps of a net ---------------------------------------------------------------------------------------------------


@pytest.fixture
def floats(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return rng.standard_normal((2, 227, 227, 3), dtype=np.float32) * np.float32(60)


def image_batch(rng: np.random.Generator, scale: float) -> ImageBatch:
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    offsets, flips = rng.integers(0, 30, (2, 2)).astype(np.int32), np.array([0, 1], np.uint8)
    return ImageBatch(images, offsets, flips, np.ones((2, 3), np.float32), np.full(3, 128, np.float32), scale)


def rates_of(step: int) -> dict[str, float]:
    """Others in each step but the last ones, where momentum and decay alone change; some steps freeze a layer."""
    return dict.fromkeys(LAYERS, 0.01 / (min(step, 6) + 1)) | (
        {"conv2": 0.0} if step in (3, 4, 5) else {"fc8.bias": 0.02}
    )


def history(net: AlexNet, floats: npt.NDArray[np.float32]) -> list[bytes]:
    """What some steps and evaluations compute, whose inputs and rates change."""
    rng, labels, found = np.random.default_rng(7), np.array([3, 7]), []
    for step in range(9):
        x = image_batch(rng, 1 + step / 10) if step % 3 == 2 else floats + np.float32(step)
        found.append(net.train_step(x, labels, lr=rates_of(step), momentum=0.9 - step / 100, weight_decay=1e-3 * step))
        if step > 5:
            found.append(net.forward(x).tobytes())
            found.append(net.features(floats, "fc7").tobytes())
    values = (*net.parameters().values(), *net.momentum().values(), *net.gradients().values())
    return [np.float64(value).tobytes() if isinstance(value, float) else value for value in found] + [
        value.tobytes() for value in values
    ]


PLACEMENTS = {
    "one": {"devices": ["cpu:0"]},
    "peers": {"devices": ["cpu:0", "cpu:1"]},
    "staged": {"devices": ["cpu:0", "cpu:1"], "peer_access": False},
    "one twice": {"devices": ["cpu:0", "cpu:0"]},
}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="paper"),
        pytest.param({"bias_update": "source2012"}, marks=pytest.mark.long, id="source2012"),
    ],
)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_captured_steps_have_the_bits_of_others(
    floats: npt.NDArray[np.float32], placement: str, options: dict[str, Any]
) -> None:
    plain, captured = (AlexNet(CLASSES, seed=4, **PLACEMENTS[placement], **options) for _ in range(2))
    plain.captures = False
    assert history(captured, floats) == history(plain, floats)


def test_only_the_first_two_steps_look_at_their_entries(
    floats: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    call = Entry.call
    monkeypatch.setattr(Entry, "call", lambda entry: (seen.append(entry.operation), call(entry))[1])
    net, labels = AlexNet(CLASSES), np.array([3, 7])

    def entries_of(work: Callable[[], object]) -> int:
        seen.clear()
        work()
        return len(seen)

    program = net.program(2, training=True)
    whole = len(program.forward) + len(program.backward) + len(program.update)
    step = [entries_of(lambda lr=lr: net.train_step(floats, labels, lr=lr)) for lr in (0.01, 0.02, 0.03, 0.04)]
    assert step == [whole, whole, 0, 0]
    assert [entries_of(lambda: net.forward(floats)) for _ in range(4)][1:] == [whole_of_forward(net), 0, 0]
    net.captures = False
    assert entries_of(lambda: net.train_step(floats, labels, lr=0.01)) == whole


def whole_of_forward(net: AlexNet) -> int:
    return len(net.program(2, training=False).forward)


def test_what_cannot_be_captured_is_run_one_by_one(
    floats: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, labels = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"]), np.array([3, 7])
    plain = copy.deepcopy(net)
    plain.captures = False
    tried = []

    def refuse(streams: object, work: Callable[[], None]) -> NativeGraph:
        def half() -> None:
            work()
            net.placement.streams[0].synchronize()

        tried.append(streams)
        return graph(net.placement.streams, half)

    native: Any = net.placement.devices[0].native
    graph = native.Graph
    monkeypatch.setattr(native, "Graph", refuse)
    for lr in (0.01, 0.02, 0.03, 0.04):
        assert net.train_step(floats, labels, lr=lr) == plain.train_step(floats, labels, lr=lr)
    assert len(tried) == 1
    assert {name: value.tobytes() for name, value in net.parameters().items()} == {
        name: value.tobytes() for name, value in plain.parameters().items()
    }


@pytest.mark.long
def test_graphs_take_and_leave_no_memory(floats: npt.NDArray[np.float32]) -> None:
    native: Any = backend.get_device("cpu:0").native
    gc.collect()
    free = [native.device_info(place)["free_bytes"] for place in (0, 1)]
    net, labels = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"]), np.array([3, 7])
    net.train_step(floats, labels, lr=0.01)
    taken = [native.device_info(place)["free_bytes"] for place in (0, 1)]
    for frozen in (*LAYERS, *LAYERS):  # more graphs than a program keeps
        for _ in range(3):
            net.train_step(floats, labels, lr=dict.fromkeys(LAYERS, 0.01) | {frozen: 0.0})
    assert [native.device_info(place)["free_bytes"] for place in (0, 1)] == taken
    del net
    gc.collect()
    assert [native.device_info(place)["free_bytes"] for place in (0, 1)] == free


def test_a_copy_that_fails_in_a_captured_step_is_told(
    floats: npt.NDArray[np.float32],
) -> None:
    net, labels = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"]), np.array([3, 7])
    native: Any = net.placement.devices[0].native
    for _ in range(3):
        net.train_step(floats, labels, lr=0.01)
    before, step = net.parameters(), net.step
    momentum = net.momentum()
    native.fail_call("copy", 12)  # an exchange: images, numbers and labels take five
    try:
        with pytest.raises(CudaError, match="the copy was chosen to fail"):
            net.train_step(floats, labels, lr=0.01)
    finally:
        native.fail_call("copy", 0)
    with pytest.raises(RuntimeError, match=r"train_step\(\) was broken off halfway"):
        net.parameters()
    net.load_parameters(before, momentum)
    net.step = step
    again = copy.deepcopy(net)
    again.captures = False
    assert net.train_step(floats, labels, lr=0.01) == again.train_step(floats, labels, lr=0.01)
