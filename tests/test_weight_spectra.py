"""The spectra of weights that inference keeps: they are made once, and anew when the weights have changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import AlexNet
from pyalexnet.errors import OutOfMemoryError
from pyalexnet.net.entry import Entry
from pyalexnet.net.weight_spectra import MAKES_SPECTRA, Weights

CLASSES = 10
ALL = {Weights(layer, tower, "fourier") for layer in ("conv2", "conv3", "conv4", "conv5") for tower in (0, 1)}
PLACES = [["cpu:0"], ["cpu:0", "cpu:1"]]


def some_images(count: int = 2) -> npt.NDArray[np.float32]:
    return 100 * np.random.default_rng(0).standard_normal((count, 227, 227, 3), dtype=np.float32)


def a_net(devices: list[str] = PLACES[0], **how: Any) -> AlexNet:
    return AlexNet(CLASSES, devices=devices, conv_algorithm="fourier", **how)


def logits(net: AlexNet, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return net.forward(x, batch_invariant=False)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """Whose spectra are made, one after the other, by nets that capture nothing."""
    weights: list[Weights] = []
    call = Entry.call

    def counted(entry: Entry, **instead: Any) -> Any:
        if entry.operation == MAKES_SPECTRA:
            weights.append(Weights.of(entry))
        return call(entry, **instead)

    monkeypatch.setattr(Entry, "call", counted)
    return weights


@pytest.mark.parametrize("devices", PLACES, ids=str)
def test_they_are_made_once(devices: list[str], made: list[Weights]) -> None:
    net, x = a_net(devices), some_images()
    net.captures = False
    first = logits(net, x)
    assert sorted(made) == sorted(ALL)
    np.testing.assert_array_equal(logits(net, x), first)
    np.testing.assert_array_equal(logits(net, x[:1]), first[:1])  # of another batch size too
    assert len(made) == len(ALL)


def test_those_of_the_layers_that_are_asked_for_are_made(made: list[Weights]) -> None:
    net, x = a_net(), some_images(1)
    net.captures = False
    net.features(x, "conv3", batch_invariant=False)
    assert {weights.layer for weights in made} == {"conv2", "conv3"}
    expected = logits(a_net(), x)
    made.clear()
    np.testing.assert_array_equal(logits(net, x), expected)
    assert {weights.layer for weights in made} == {"conv4", "conv5"}


@pytest.mark.parametrize("captures", [False, True], ids=["entries", "graphs"])
def test_they_follow_the_weights(captures: bool) -> None:
    net, other, x = a_net(seed=0), a_net(seed=1), some_images()
    net.captures = captures
    for _ in range(3):  # the second time begins a graph, the third launches it
        before = logits(net, x)
    net.load_parameters(other.parameters())
    for _ in range(3):
        np.testing.assert_array_equal(logits(net, x), logits(other, x))
    assert not np.array_equal(logits(net, x), before)
    net.train_step(x, [0, 1], lr=0.1)
    stepped = a_net()
    stepped.load_parameters(net.parameters())
    assert not np.array_equal(net.parameters()["conv3.weight"], other.parameters()["conv3.weight"])
    for _ in range(3):
        np.testing.assert_array_equal(logits(net, x), logits(stepped, x))


def test_who_moves_the_weights_by_hand_is_followed() -> None:
    net, x = a_net(), some_images()
    before = logits(net, x)
    net.train_step(x, [0, 1], lr=0.01)
    logits(net, x)
    program = net.program(2, training=True)
    net.train_step(x, [0, 1], lr=0.01)
    logits(net, x)
    for entry in net.program(2, training=True).update:
        entry.run()
    net.placement.wait_for_all_work()
    moved = a_net()
    moved.load_parameters(net.parameters())
    assert program.training
    np.testing.assert_array_equal(logits(net, x), logits(moved, x))
    assert not np.array_equal(logits(net, x), before)


def test_a_broken_pass_makes_them_anew(monkeypatch: pytest.MonkeyPatch, made: list[Weights]) -> None:
    net, x = a_net(), some_images()
    net.captures = False
    expected = logits(a_net(), x)
    made.clear()

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(net._transfers, "download_columns", broken)
        with pytest.raises(KeyboardInterrupt):
            logits(net, x)
    np.testing.assert_array_equal(logits(net, x), expected)
    assert sorted(made) == sorted([*ALL, *ALL])


def test_the_plan_counts_them() -> None:
    net = a_net()
    kept, of_tiles = (net.plan(2, training=False, batch_invariant=invariant) for invariant in (False, True))
    without = AlexNet(CLASSES, devices=PLACES[0], conv_algorithm="direct").plan(2, training=False)
    assert "spectra" not in without.bytes_by_layer[0]
    assert kept.bytes_by_layer[0]["spectra"] > 200e6
    # 16 numbers of each filter of conv3 to conv5, which are 4 bytes each; and some lines from matrix to matrix.
    floats = 16 * (256 * 384 + 192 * 384 + 192 * 256)
    assert 4 * floats < of_tiles.bytes_by_layer[0]["spectra"] < 4.01 * floats
    assert "spectra" in str(kept)
    # Those of a net that has some count for each of its programs, a training step among them.
    logits(net, some_images())
    assert net.plan(2).bytes_by_layer[0]["spectra"] == kept.bytes_by_layer[0]["spectra"]
    few = a_net(memory_limit=kept.total_bytes[0] - 1)
    with pytest.raises(OutOfMemoryError, match="spectra"):
        logits(few, some_images())
    few.forward(some_images())


def test_algorithms_keep_their_own(made: list[Weights]) -> None:
    """conv3 of one image goes by tiles, of many by whole maps; neither takes the other's for its own."""
    net = AlexNet(CLASSES, devices=["cpu:0"])
    net.captures = False
    few, many = some_images(1), some_images(24)
    first = [logits(net, few), logits(net, many)]
    assert {weights.algorithm for weights in made if weights.layer == "conv3"} == {"fourier", "winograd"}
    made.clear()
    for _ in range(2):
        for x, expected in zip((few, many), first, strict=True):
            np.testing.assert_array_equal(logits(net, x), expected)
    assert made == []
    np.testing.assert_array_equal(logits(AlexNet(CLASSES, devices=["cpu:0"]), many), first[1])
