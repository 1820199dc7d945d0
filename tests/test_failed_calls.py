"""Whichever allocation or copy fails: a clear error, nothing is left behind, and the next call gives the usual bits."""

from __future__ import annotations

import copy
import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calls_of_ops import CALLS, Call
from pyalexnet import AlexNet, Classifier, CudaError, OutOfMemoryError, load_model, save_model
from pyalexnet.device import backend

CLASSES = 3
DEVICES = ["cpu:0", "cpu:1"]
ERRORS: dict[str, type[CudaError]] = {"allocation": OutOfMemoryError, "copy": CudaError}


def used_bytes(target: str) -> int:
    """What a target's devices have handed out."""
    gc.collect()
    native = backend.native_module(target)
    infos = [native.device_info(index) for index in range(native.device_count())]
    return sum(info["total_bytes"] - info["free_bytes"] for info in infos)


def let_each_fail(target: str, kind: str, work: Callable[[], Any], afterwards: Callable[[], None]) -> int:
    """Do the work again and again, each time with another one of its calls failing.

    Args:
        target: whose calls.
        kind: allocation or copy.
        work: what is to be refused, over and over, until it is done.
        afterwards: called after each refusal.

    Returns:
        How many calls there were.
    """
    native: Any = backend.native_module(target)
    for number in itertools.count(1):
        native.fail_call(kind, number)
        try:
            work()
        except ERRORS[kind] as error:
            message = str(error)
        else:
            return number - 1
        finally:
            native.fail_call(kind, 0)
        assert "was chosen to fail" in message
        afterwards()
    raise AssertionError


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("target", ["cpu", "sim"])
def test_operations_go_on_after_an_allocation_has_failed(target: str, call: Call) -> None:
    def bits() -> list[bytes]:
        result = call(f"{target}:0")
        return [np.asarray(part).tobytes() for part in (result if isinstance(result, tuple) else (result,))]

    def check() -> None:
        assert used_bytes(target) == before
        assert bits() == expected

    expected, before = bits(), used_bytes(target)
    assert let_each_fail(target, "allocation", bits, check) >= (call.name != "sgd_step")


def inputs() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-99, 99, (2, 227, 227, 3)).astype(np.float32)


def bits_of(net: AlexNet) -> tuple[int, bytes]:
    """The step, and some of the parameters."""
    parameters = net.parameters()
    names = ("conv1.weight", "conv4.weight", "fc7.bias", "fc8.weight", "fc8.bias")
    return net.step, b"".join(parameters[name].tobytes() for name in names)


@pytest.fixture(scope="module")
def net() -> AlexNet:
    """One that no test changes, and that has run nothing yet."""
    return AlexNet(CLASSES, devices=DEVICES)


@pytest.fixture(scope="module")
def saved(net: AlexNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, Classifier(net, tuple("abc"), np.zeros((256, 256, 3), np.float32)))
    return path


KINDS = ["allocation", pytest.param("copy", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_is_made_or_nothing_is_left_of_it(net: AlexNet, kind: str) -> None:
    def check() -> None:
        assert used_bytes("cpu") == before

    before, made = used_bytes("cpu"), list[AlexNet]()
    assert let_each_fail("cpu", kind, lambda: made.append(AlexNet(CLASSES, devices=DEVICES)), check) >= 2
    assert bits_of(made.pop()) == bits_of(net)
    assert used_bytes("cpu") == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_loaded_or_nothing_is_left_of_it(net: AlexNet, saved: Path, kind: str) -> None:
    def check() -> None:
        assert used_bytes("cpu") == before

    before, loaded = used_bytes("cpu"), list[Classifier]()
    assert let_each_fail("cpu", kind, lambda: loaded.append(load_model(saved, devices=DEVICES)), check) >= 2
    assert bits_of(loaded.pop().net) == bits_of(net)
    assert used_bytes("cpu") == before


def train(net: AlexNet) -> float:
    return net.train_step(inputs(), np.array([0, 2]), lr=0.01)


@pytest.mark.long
@pytest.mark.parametrize("training", [False, True], ids=["forward", "train_step"])
def test_a_program_is_built_after_an_allocation_has_failed(net: AlexNet, training: bool) -> None:
    def work() -> bytes:
        result = train(fresh[0]) if training else fresh[0].forward(inputs())
        return np.asarray(result).tobytes()

    def check() -> None:
        assert used_bytes("cpu") <= most
        assert work() == expected
        assert bits_of(fresh[0]) == after
        begin_again()

    def begin_again() -> None:
        fresh.clear()
        fresh.append(copy.deepcopy(net))

    before, fresh = used_bytes("cpu"), list[AlexNet]()
    begin_again()
    expected, most, after = work(), used_bytes("cpu"), bits_of(fresh[0])
    begin_again()
    assert let_each_fail("cpu", "allocation", work, check) >= 2
    fresh.clear()
    assert used_bytes("cpu") == before


@pytest.mark.long
@pytest.mark.parametrize("peer_access", [True, False])
def test_a_net_goes_on_after_a_copy_of_forward_has_failed(peer_access: bool) -> None:
    own = AlexNet(CLASSES, devices=DEVICES, peer_access=peer_access)
    expected, before = own.forward(inputs()), used_bytes("cpu")

    def check() -> None:
        assert used_bytes("cpu") == before
        np.testing.assert_array_equal(own.forward(inputs()), expected)

    assert let_each_fail("cpu", "copy", lambda: own.forward(inputs()), check) >= 8


@pytest.mark.slow
def test_a_step_that_a_copy_breaks_off_is_made_again(net: AlexNet) -> None:
    own, parameters = copy.deepcopy(net), net.parameters()
    expected, after, before = train(own), bits_of(own), used_bytes("cpu")
    unharmed, harmed = bits_of(net), 0

    def begin_again() -> None:
        own.load_parameters(parameters)
        own.step = 0

    def check() -> None:
        nonlocal harmed
        assert used_bytes("cpu") == before
        if own._parameters.flaw:
            with pytest.raises(RuntimeError, match=r"train_step\(\) was broken off halfway"):
                own.parameters()
            harmed += 1
        else:
            assert bits_of(own) == unharmed
        begin_again()
        assert train(own) == expected
        assert bits_of(own) == after
        begin_again()

    begin_again()
    assert let_each_fail("cpu", "copy", lambda: train(own), check) >= 16
    assert bits_of(own) == after
    assert harmed > 0
