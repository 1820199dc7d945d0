"""One net in many hands: threads, copies, processes, refused memory and steps that are broken off."""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import Classifier, OutOfMemoryError, TrainingResult, evaluate, extract_features, predict
from pyalexnet.device import backend
from pyalexnet.device.memory import MemoryPlan
from pyalexnet.errors import CudaError, DeviceNotFoundError
from pyalexnet.net.network import AlexNet
from pyalexnet.training.settings import Settings

CLASSES = 10
Floats = npt.NDArray[np.float32]


def inputs(count: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 227, 227, 3), dtype=np.float32) * np.float32(60)


def bits_of(net: AlexNet) -> tuple[int, bytes]:
    """The step, and what is updated first, in the middle and last of all parameters and momentum."""
    first, *_, last = net.shapes
    assert (first, last) == ("conv1.weight", "fc8.bias")
    names = ("conv1.weight", "conv1.bias", "conv4.weight", "fc6.bias", "fc8.weight", "fc8.bias")
    kinds = ("value", "momentum") if net._parameters.has_momentum else ("value",)
    return net.step, b"".join(net._parameters.read(name, kind).tobytes() for name in names for kind in kinds)


@pytest.fixture(scope="module")
def net() -> AlexNet:
    """One that no test changes."""
    return AlexNet(CLASSES, dropout=0.0, weight_init="source2012")


@contextmanager
def memory_left(device: int, left_bytes: int) -> Iterator[None]:
    """A CPU device that hands out that much and no more."""
    native = backend.native_module("cpu")
    info = native.device_info(device)
    native.set_memory_limit(device, info["total_bytes"] - info["free_bytes"] + left_bytes)
    try:
        yield
    finally:
        native.set_memory_limit(device, info["total_bytes"])


# Threads ------------------------------------------------------------------------------------------------------


def test_threads_get_what_one_thread_gets(net: AlexNet) -> None:
    jobs: list[Callable[[], bytes]] = [
        lambda: net.forward(inputs(1, 1)).tobytes(),
        lambda: net.forward(inputs(3, 2)).tobytes(),
        lambda: net.features(inputs(2, 3), "conv1").tobytes(),
        lambda: np.float64(net.train_step(inputs(2, 4), np.array([1, 2]), lr=0.0)).tobytes(),
        lambda: net.parameters()["conv2.weight"].tobytes(),
        lambda: str(net.plan(2, training=False)).splitlines()[0].encode(),
    ]
    expected = [job() for job in jobs]
    start = threading.Barrier(len(jobs))

    def work(number: int) -> list[bytes]:
        start.wait()
        return [jobs[number]() for _ in range(4)]

    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(work, range(len(jobs))))
    assert found == [[value] * 4 for value in expected]


def test_tasks_of_an_event_loop_share_a_net(net: AlexNet) -> None:
    batches = [inputs(1, seed) for seed in range(4)]

    async def together() -> list[Floats]:
        return list(await asyncio.gather(*(asyncio.to_thread(net.forward, x) for x in batches)))

    np.testing.assert_array_equal(asyncio.run(together()), [net.forward(x) for x in batches])


def test_threads_share_a_classifier(net: AlexNet) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 256, 256, 3), np.uint8)
    labels = np.arange(5)
    model = Classifier(net, tuple(map(str, range(CLASSES))), np.full((256, 256, 3), 128, np.float32))
    jobs: list[Callable[[], Any]] = [
        lambda: predict(model, images, batch_size=2),
        lambda: predict(model, images[::-1], views=5),
        lambda: evaluate(model, (images, labels), batch_size=3).loss,
        lambda: extract_features(model, (images, labels), "fc7", batch_size=4).values.tobytes(),
    ]
    expected = [job() for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for _ in range(3) for job in jobs]
        assert [future.result() for future in futures] == 3 * expected


@pytest.mark.parametrize("devices", [(["cpu:0"], ["cpu:0"]), (["cpu:0", "cpu:1"], ["cpu:1", "cpu:0"])])
def test_nets_on_the_same_devices_train_side_by_side(devices: tuple[list[str], list[str]]) -> None:
    nets = [AlexNet(CLASSES, devices=names, seed=seed) for seed, names in enumerate(devices)]
    alone = [copy.deepcopy(net) for net in nets]
    x, labels = inputs(1), np.array([1])

    def train(net: AlexNet) -> tuple[list[float], tuple[int, bytes]]:
        return [net.train_step(x, labels, lr=0.01) for _ in range(2)], bits_of(net)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(train, nets)) == [train(net) for net in alone]


def in_another_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_thread_never_reads_what_another_one_computed() -> None:
    net = AlexNet(CLASSES, dropout=0.0)
    own, other, labels = inputs(2, 1), inputs(2, 2), np.array([1, 2])
    net.train_step(own, labels, lr=0.0)
    array = net.last_step().array("fc8.out")
    logits = net.read(array)
    np.testing.assert_array_equal(logits, in_another_thread(lambda: net.read(net.last_step().array("fc8.out"))))
    in_another_thread(lambda: net.train_step(other, labels, lr=0.0))
    with pytest.raises(RuntimeError, match=r"another thread has used the arrays since .* hold exclusive\(\)"):
        net.read(array)
    with pytest.raises(RuntimeError, match=r"the last training step was another thread's: hold exclusive\(\)"):
        net.last_step()
    # A thread that has made no step of its own has no other in mind than the net's last one.
    assert not np.array_equal(in_another_thread(lambda: net.read(net.last_step().array("fc8.out"))), logits)
    net.train_step(own, labels, lr=0.0)
    np.testing.assert_array_equal(net.read(net.last_step().array("fc8.out")), logits)
    in_another_thread(lambda: net.forward(other))
    with pytest.raises(RuntimeError, match="there is no training step to look at"):
        net.last_step()


def test_exclusive_keeps_other_threads_out() -> None:
    net = AlexNet(CLASSES, dropout=0.0)
    batches, labels = [inputs(1, seed) for seed in range(3)], np.array([1])

    def logits_of_step(x: Floats) -> Floats:
        with net.exclusive():
            net.train_step(x, labels, lr=0.0)
            return net.read(net.last_step().array("fc8.out"))

    expected = [logits_of_step(x) for x in batches]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            np.testing.assert_array_equal(list(pool.map(logits_of_step, batches)), expected)


# Copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("copied", "devices"),
    [
        (copy.copy, ["cpu:0"]),
        (copy.deepcopy, ["cpu:1"]),
        (lambda net: pickle.loads(pickle.dumps(net)), ["cpu:0", "cpu:1"]),
    ],
)
def test_a_copy_is_a_net_of_its_own(copied: Callable[[AlexNet], AlexNet], devices: list[str]) -> None:
    net = AlexNet(CLASSES, devices=devices, seed=3, memory_limit=2**31, peer_access=False, bias_init="caffe")
    x, labels = inputs(1), np.array([4])
    for _ in range(2):
        net.train_step(x, labels, lr=0.01)
    before = bits_of(net)
    other = copied(net)
    assert bits_of(other) == before
    assert (repr(other), other.options) == (repr(net), net.options)
    plan, expected = other.plan(4), net.plan(4)
    assert (plan.bytes_by_layer, plan.limit_bytes) == (expected.bytes_by_layer, expected.limit_bytes)
    other.train_step(x, labels, lr=0.01)
    after = bits_of(other)
    assert bits_of(net) == before
    assert after != before
    net.train_step(x, labels, lr=0.01)  # the same dropout, the same momentum
    assert bits_of(net) == after
    assert other.placement.links == () or not other.placement.links[0].peer


def test_a_copy_of_a_net_without_momentum_takes_none() -> None:
    fresh = AlexNet(CLASSES)
    copied = copy.deepcopy(fresh)
    assert fresh.plan(1, training=False).bytes_by_layer == copied.plan(1, training=False).bytes_by_layer
    for name, value in fresh.parameters().items():
        np.testing.assert_array_equal(copied.parameters()[name], value)


def test_classifiers_and_results_are_copied(net: AlexNet) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 256, 256, 3), np.uint8)
    model = Classifier(net, tuple(map(str, range(CLASSES))), np.full((256, 256, 3), 128, np.float32))
    settings = Settings(
        epochs=1, batch_size=2, lr=0.01, momentum=0.9, weight_decay=0.0, patience=1, devices=("cpu:0",), seed=0,
        num_classes=CLASSES, reflect=True, colour_noise=0.1, subtract_mean=True, net_options={},
    )  # fmt: skip
    result = TrainingResult(model, [], settings, {"classes": CLASSES}, "finished")
    expected = predict(model, images)
    for copied in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert predict(copied.model, images) == expected
        assert (copied.settings, copied.history, copied.data) == (settings, [], result.data)
    assert copied.model.net is not net
    assert copied.model.mean is not model.mean


def test_a_pickle_of_a_device_that_is_not_here_says_what_to_do(net: AlexNet) -> None:
    restore, (kind, arguments, *rest) = net.__reduce__()
    with pytest.raises(DeviceNotFoundError, match=r"'cpu:7'.*save_model.*load_model\(path, devices=\.\.\.\)"):
        restore(kind, {**arguments, "devices": ("cpu:7",)}, *rest)


# Processes ----------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.usefixtures("full_size")  # as in the process that is started
def test_a_net_reaches_a_spawned_process() -> None:
    net, x = AlexNet(CLASSES), inputs(1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(AlexNet.forward, (net, x)), net.forward(x))


FORK = """
import os, threading, numpy as np, pyalexnet
net = pyalexnet.AlexNet(10)
x = np.zeros((1, 227, 227, 3), np.float32)
net.forward(x)
inside, done = threading.Event(), threading.Event()
def hold():
    with net.exclusive():
        inside.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
inside.wait()
if os.fork() == 0:
    for work in (lambda: net.forward(x), lambda: net.exclusive().__enter__(), lambda: pyalexnet.AlexNet(10)):
        try:
            work()
        except RuntimeError as error:
            print(error, flush=True)
    del net
    os._exit(0)
assert os.wait()[1] == 0
done.set()
thread.join()
print(net.forward(x).shape)
"""


def test_a_fork_says_no_and_does_not_hang() -> None:
    process = [sys.executable, "-W", "ignore", "-c", FORK]
    lines = subprocess.run(process, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert len(lines) == 4
    for line in lines[:2]:
        assert "of which this one is a fork" in line
        assert "'spawn'" in line
    assert "this process was forked from one that had used its devices already" in lines[2]
    assert lines[3] == "(1, 10)", "the process that forked goes on"


# Memory -------------------------------------------------------------------------------------------------------


def test_a_net_goes_on_after_its_memory_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, labels = AlexNet(CLASSES, dropout=0.0), inputs(8), np.zeros(8, np.int64)
    expected = net.forward(x[:1])
    # The plan fits, as when another net takes the memory between plan and allocation.
    monkeypatch.setattr(MemoryPlan, "require_fit", lambda _self: None)
    with memory_left(0, 2**20):
        for work in (lambda: net.forward(x), lambda: net.train_step(x, labels, lr=0.1)):
            with pytest.raises(OutOfMemoryError, match="cudaMalloc of"):
                work()
            np.testing.assert_array_equal(net.forward(x[:1]), expected)
    assert net.step == 0
    assert net.train_step(x, labels, lr=0.0) > 0


def test_momentum_is_taken_on_both_devices_or_on_none(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, labels = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"]), inputs(1), np.array([1])
    native = backend.native_module("cpu")
    net.forward(x)
    free = native.device_info(0)["free_bytes"]
    monkeypatch.setattr(MemoryPlan, "require_fit", lambda _self: None)
    with memory_left(1, 2**20):
        with pytest.raises(OutOfMemoryError):
            net.train_step(x, labels, lr=0.1)
        assert native.device_info(0)["free_bytes"] == free
        assert net.forward(x).shape == (1, CLASSES)
        assert not any(value.any() for value in net.momentum().values())
    assert net.train_step(x, labels, lr=0.1) > 0


def test_a_net_that_goes_frees_its_memory_at_once() -> None:
    native = backend.native_module("cpu")
    gc.collect()
    gc.disable()
    try:
        free = [native.device_info(place)["free_bytes"] for place in (0, 1)]
        net, x, labels = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"]), inputs(1), np.array([1])
        net.train_step(x, labels, lr=0.01)
        net.features(x, "conv1")
        net.gradients()
        other = copy.deepcopy(net)
        with pytest.raises(ValueError, match="labels"):
            other.train_step(x, np.array([CLASSES]), lr=0.01)
        del net, other
        assert [native.device_info(place)["free_bytes"] for place in (0, 1)] == free
    finally:
        gc.enable()


# Steps that are broken off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]])
def test_an_interrupted_step_is_whole_or_not_made(devices: list[str]) -> None:
    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    net, x, labels = AlexNet(CLASSES, devices=devices), inputs(1), np.array([3])
    net.train_step(x, labels, lr=0.01)  # so that there is momentum, however early the first one is interrupted
    uninterrupted, trials = copy.deepcopy(net), 8
    expected, took = [(0, b""), bits_of(uninterrupted)], []
    for _ in range(
        4
    ):  # the shortest, since cores that look out for work, or are busy with other programs', take longer
        start = time.process_time()
        uninterrupted.train_step(x, labels, lr=0.01)
        took.append(time.process_time() - start)
        expected.append(bits_of(uninterrupted))
    whole = min(took)
    before = signal.signal(signal.SIGPROF, interrupt)
    interrupted = 0
    try:
        for trial in range(trials):
            try:
                signal.setitimer(signal.ITIMER_PROF, 0.001 + 1.2 * whole * trial / trials)  # of the processor's time
                net.train_step(x, labels, lr=0.01)
                signal.setitimer(signal.ITIMER_PROF, 0)
            except KeyboardInterrupt:
                interrupted += 1
            while len(expected) <= net.step:
                uninterrupted.train_step(x, labels, lr=0.01)
                expected.append(bits_of(uninterrupted))
            assert bits_of(net) == expected[net.step]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert interrupted > 1


def test_a_step_that_fails_halfway_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, labels = AlexNet(CLASSES), inputs(1), np.array([3])
    net.train_step(x, labels, lr=0.01)
    before, parameters, momentum = bits_of(net), net.parameters(), net.momentum()

    def fail(**_arguments: object) -> None:
        raise CudaError("the launch failed")

    for entry in (net.program(1, training=True).forward[3], net.program(1, training=True).update[0]):
        with monkeypatch.context() as patch:
            patch.setattr(entry, "_function", fail)
            with pytest.raises(CudaError, match="the launch failed"):
                net.train_step(x, labels, lr=0.01)
        if entry.direction == "forward":
            assert bits_of(net) == before, "nothing had been written"
    for work in (
        lambda: net.forward(x),
        lambda: net.train_step(x, labels, lr=0.01),
        net.parameters,
        net.momentum,
        lambda: copy.copy(net),
    ):
        with pytest.raises(RuntimeError, match=r"train_step\(\) was broken off halfway.*load_parameters\(\) makes"):
            work()
    net.load_parameters(parameters, momentum)
    assert bits_of(net) == before


def test_a_loading_that_fails_halfway_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net = AlexNet(CLASSES)
    parameters, write = net.parameters(), net._parameters.write

    def write_some(name: str, kind: str, value: Floats) -> None:
        if name == "conv3.weight":
            raise KeyboardInterrupt
        write(name, kind, value)

    with monkeypatch.context() as patch:
        patch.setattr(net._parameters, "write", write_some)
        with pytest.raises(KeyboardInterrupt):
            net.load_parameters({name: value + 1 for name, value in parameters.items()})
    with pytest.raises(RuntimeError, match=r"load_parameters\(\) was broken off halfway"):
        net.parameters()
    net.load_parameters(parameters)
    np.testing.assert_array_equal(net.parameters()["fc8.bias"], parameters["fc8.bias"])


def test_an_exchange_that_is_broken_off_does_not_lock_the_net(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"]), inputs(1)
    expected = net.forward(x)
    forward = net.program(1, training=False).forward
    entry = next(entry for entry in forward if entry.operation == "exchange_finish")

    def fail() -> None:
        raise CudaError("the event is lost")

    with monkeypatch.context() as patch:
        patch.setattr(entry, "_function", fail)
        with pytest.raises(CudaError, match="the event is lost"):
            net.forward(x)
    np.testing.assert_array_equal(net.forward(x), expected)


def test_gradients_are_those_of_the_last_step(net: AlexNet) -> None:
    other = copy.deepcopy(net)
    x, labels = inputs(1), np.array([3])
    other.train_step(x, labels, lr=0.01)
    assert other.gradients()["fc8.bias"].any()
    for fresh in (copy.deepcopy(other), other):
        fresh.load_parameters(net.parameters(), net.momentum())
        with pytest.raises(RuntimeError, match="no training step has been made with these parameters"):
            fresh.gradients()
