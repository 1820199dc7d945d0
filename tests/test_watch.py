"""Watchers: every place where NaN can begin is named, dead layers are counted, a stuck loss is told and explained."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from pyalexnet.net.network import AlexNet
from pyalexnet.training.watch import (
    LayerActivity,
    Peak,
    StuckLoss,
    can_tell_from_guessing,
    chance_loss,
    dead_relus,
    explain_explosion,
    explain_stuck,
    first_non_finite,
    no_better_than_guessing,
    patience_steps,
)
from small import HIDDEN_UNITS

CLASSES = 4
X = np.random.default_rng(2012).standard_normal((4, 227, 227, 3), dtype=np.float32) * np.float32(60)
Y = np.arange(4)


@pytest.fixture(scope="module")
def net() -> AlexNet:
    return AlexNet(CLASSES, devices=["cpu:0"], bias_init="caffe")


@pytest.fixture(scope="module")
def initial(net: AlexNet) -> dict[str, Any]:
    return net.parameters()


def changed(initial: dict[str, Any], name: str, where: Any, value: float) -> dict[str, Any]:
    """The parameters with some values of one of them replaced."""
    array = initial[name].copy()
    array[where] = value
    return initial | {name: array}


def step(net: AlexNet, parameters: dict[str, Any], x: Any = X, lr: float = 1e-3) -> float:
    net.load_parameters(parameters)
    return net.train_step(x, Y, lr=lr)


# NaN and infinity -----------------------------------------------------------------------------------------------------


def test_finite_step_has_nothing_to_report(net: AlexNet, initial: dict[str, Any]) -> None:
    assert math.isfinite(step(net, initial))
    assert first_non_finite(net) is None


@pytest.mark.parametrize(
    ("name", "output", "layer", "tower"),
    [
        ("conv1.bias", 0, "conv1", 0),
        ("conv2.bias", 255, "conv2", 1),
        ("conv3.bias", 0, "conv3", 0),
        ("conv4.bias", 383, "conv4", 1),
        ("conv5.bias", 255, "conv5", 1),
        ("fc8.bias", 3, "fc8", 0),
    ],
)
def test_first_layer_with_nan_is_named(
    net: AlexNet, initial: dict[str, Any], name: str, output: int, layer: str, tower: int
) -> None:
    step(net, changed(initial, name, output, np.nan))
    found = first_non_finite(net)
    assert found
    assert (found.layer, found.kind, found.tower) == (layer, "outputs", tower)
    assert found.nan_count == found.size / net.parameters()[name].size * (1 if layer == "fc8" else 2)
    assert found.infinite_count == 0
    assert f"{layer}, tower {tower}, outputs: {found.nan_count} NaN" in str(found)


def test_hidden_layer_with_nan_in_many_outputs_is_named(net: AlexNet, initial: dict[str, Any]) -> None:
    # Dropout keeps half of them: that it drops all 128 outputs of 4 images has a chance of 2^-512.
    step(net, changed(initial, "fc7.bias", slice(HIDDEN_UNITS // 2, None), np.nan))
    found = first_non_finite(net)
    assert found
    assert (found.layer, found.kind, found.tower) == ("fc7", "outputs", 1)


def test_input_with_infinity_is_named(net: AlexNet, initial: dict[str, Any]) -> None:
    x = X.copy()
    x[1, 2, 3, 0] = np.inf
    step(net, initial, x)
    found = first_non_finite(net)
    assert found
    assert (found.layer, found.kind, found.infinite_count, found.nan_count) == ("input", "outputs", 1, 0)


def test_overflow_in_backward_is_named(net: AlexNet, initial: dict[str, Any]) -> None:
    """Hidden outputs of 1e-37 meet weights of ±3e38: the logits stay finite, but what goes back does not."""
    tiny = changed(changed(initial, "fc7.bias", slice(None), 1e-37), "fc7.weight", slice(None), 0)
    large = tiny | {"fc8.weight": np.where(initial["fc8.weight"] > 0, np.float32(3e38), np.float32(-3e38))}
    assert math.isfinite(step(net, large))
    found = first_non_finite(net)
    assert found
    assert found.kind.startswith("gradient")
    assert found.layer in ("fc8", "fc7")  # which of them overflows first follows from the draws
    assert found.infinite_count


def test_weights_after_too_long_a_step_are_named(net: AlexNet, initial: dict[str, Any]) -> None:
    far = changed(changed(initial, "fc7.bias", slice(None), 100), "fc8.weight", slice(None), 0)
    assert math.isfinite(step(net, far, lr=3e38))  # no gradient goes back from weights of 0, one above 2 to them
    found = first_non_finite(net)
    assert found
    assert (found.layer, found.kind, found.tower) == ("fc8", "weights", 0)


def test_without_a_step_there_is_nothing_to_look_at() -> None:
    fresh = AlexNet(CLASSES, devices=["cpu:0"])
    for look in (first_non_finite, dead_relus, explain_stuck):
        with pytest.raises(RuntimeError, match="no training step"):
            look(fresh)


def test_forward_takes_the_memory_of_the_step(net: AlexNet, initial: dict[str, Any]) -> None:
    step(net, initial)
    net.forward(X)
    with pytest.raises(RuntimeError, match="no training step"):
        dead_relus(net)


def test_another_batch_size_takes_the_memory_of_the_step() -> None:
    small = AlexNet(CLASSES, devices=["cpu:0"])
    small.train_step(X[:1], Y[:1], lr=1e-3)
    small.program(2, training=True)
    with pytest.raises(RuntimeError, match="no training step"):
        first_non_finite(small)


# Dead ReLUs -----------------------------------------------------------------------------------------------------------


def test_dead_layer_is_counted_by_tower(net: AlexNet, initial: dict[str, Any]) -> None:
    step(net, changed(initial, "conv3.bias", slice(192, 288), -1e6))  # half of tower 1
    by_layer = {(activity.layer, activity.tower): activity for activity in dead_relus(net)}
    names = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    assert list(by_layer) == [(name, tower) for name in names for tower in (0, 1)]
    assert by_layer["conv3", 1].dead_share == pytest.approx(0.5, abs=0.1)  # a few others may be dead of themselves
    assert by_layer["conv3", 0].dead_share < 0.2
    assert by_layer["conv3", 1].units == 192
    assert by_layer["conv3", 1].zero_share > 0.5


def test_shares_are_those_of_the_outputs(net: AlexNet, initial: dict[str, Any]) -> None:
    step(net, initial)
    y = net.read(net.last_step().array("conv3.y", 1), 1)
    found = next(activity for activity in dead_relus(net) if (activity.layer, activity.tower) == ("conv3", 1))
    assert found.zero_share == pytest.approx(np.mean(y == 0), abs=1e-12)  # the same count, divided
    assert found.dead_share == pytest.approx(np.mean((y == 0).all(axis=(0, 1, 2))), abs=1e-12)
    assert 0 < found.zero_share < 1


def test_dropped_outputs_do_not_count_as_dead(net: AlexNet, initial: dict[str, Any]) -> None:
    """Biases of 1e6 wake every output of fc6, so all zeros are dropout's."""
    step(net, changed(initial, "fc6.bias", slice(None), 1e6))
    outputs = net.read(net.last_step().array("fc6.out", 1), 1)
    assert 0.4 < np.mean(outputs == 0) < 0.6
    assert dead_relus(net)[-4:-2] == [LayerActivity("fc6", tower, HIDDEN_UNITS // 2, 0.0, 0.0) for tower in (0, 1)]


def test_two_devices_show_what_one_shows(net: AlexNet, initial: dict[str, Any]) -> None:
    two = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"], bias_init="caffe")
    for each in (net, two):
        each.step = 0
        step(each, changed(initial, "conv4.bias", 300, np.nan))
    assert first_non_finite(two) == first_non_finite(net)
    assert dead_relus(two) == dead_relus(net)


def test_a_relu_behind_the_pooling_is_counted() -> None:
    net = AlexNet(CLASSES, devices=["cpu:0"], bias_init="caffe", relu1_last=True)
    net.train_step(X, Y, lr=1e-3)
    outputs = net.read(net.last_step().array("conv1.out", 1), 1)
    found = next(activity for activity in dead_relus(net) if (activity.layer, activity.tower) == ("conv1", 1))
    assert found.units == 48
    assert found.zero_share == pytest.approx(np.mean(outputs == 0), abs=1e-12)
    assert found.zero_share > 0


def test_a_net_of_tanh_has_no_relus() -> None:
    net = AlexNet(CLASSES, devices=["cpu:0"], activation="tanh")
    net.train_step(X, Y, lr=1e-3)
    assert dead_relus(net) == []
    assert "the net has no ReLUs that could be dead" in explain_stuck(net)


# A stuck loss ---------------------------------------------------------------------------------------------------------


def steps_that_speak(stuck: StuckLoss, losses: list[float]) -> list[int]:
    return [number for number, loss in enumerate(losses, start=1) if stuck.update(loss) == "stuck"]


LN10 = math.log(10)


def test_stuck_loss_speaks_once_and_again_after_it_was_free() -> None:
    losses = [LN10] * 12 + [1.0] * 5 + [LN10] * 10
    assert steps_that_speak(StuckLoss(LN10, 5), losses) == [5, 25]


def test_falling_loss_is_not_stuck() -> None:
    assert steps_that_speak(StuckLoss(LN10, 50), list(np.linspace(LN10, 2.0, 200))) == []


def test_a_loss_slightly_under_chance_is_free() -> None:
    chance = math.log(1000)
    assert steps_that_speak(StuckLoss(chance, 5), [0.995 * chance] * 5) == [5]
    assert steps_that_speak(StuckLoss(chance, 5), [0.985 * chance] * 5) == []


def test_outliers_do_not_hide_that_the_loss_falls() -> None:
    assert steps_that_speak(StuckLoss(LN10, 50), [1e9, math.inf, *[2.0] * 48]) == []


def test_nan_is_no_better_than_chance() -> None:
    assert steps_that_speak(StuckLoss(LN10, 3), [math.nan] * 3) == [3]


def test_patience_follows_the_outputs_and_the_length_of_the_run() -> None:
    assert patience_steps(10, 10**6) == 200
    assert patience_steps(1000, 10**6) == 2000
    assert patience_steps(6, 450) == 150
    assert patience_steps(6, 72) == 50  # 8 epochs of 9 steps


def test_chance_follows_the_classes_shares() -> None:
    assert chance_loss(np.arange(60, dtype=np.int32) % 6) == pytest.approx(math.log(6), rel=1e-12)
    shares = np.repeat(np.arange(2, dtype=np.int32), [90, 10])
    assert chance_loss(shares) == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), rel=1e-12)
    with_an_empty_class = np.array([0, 2, 0, 2], np.int32)
    assert chance_loss(with_an_empty_class) == pytest.approx(math.log(2), rel=1e-12)


def test_an_explosion_is_told_once_and_its_peak_kept() -> None:
    stuck = StuckLoss(math.log(6), 100)
    assert [stuck.update(loss) for loss in (1.8, 5.0, 12.0, 30.5, 7.0, 1.8)] == [
        None,
        None,
        "exploded",
        None,
        None,
        None,
    ]
    assert stuck.peak == Peak(30.5, 4)
    assert str(stuck.peak) == "the loss rose to 30.5 at step 4"
    assert "the loss is 12.0, where guessing gives 1.79: steps with lr 0.01" in explain_explosion(
        12.0, math.log(6), 0.01
    )


def test_an_explosion_within_a_stuck_stretch_leaves_both_told() -> None:
    stuck = StuckLoss(math.log(6), 3)
    assert [stuck.update(loss) for loss in (12.0, 1.8, 1.8, 1.8)] == ["exploded", None, "stuck", None]


def test_stuck_loss_goes_on_from_its_state(rng: np.random.Generator) -> None:
    losses = list(LN10 * rng.uniform(0.95, 1.04, 400))
    losses[77] = 40.0
    whole = StuckLoss(LN10, 30)
    expected = steps_that_speak(whole, losses)
    assert expected
    for cut in (1, 29, 30, 44, 77, 78, 333):
        first, second = StuckLoss(LN10, 30), StuckLoss(LN10, 30)
        before = steps_that_speak(first, losses[:cut])
        second.load_state(json.loads(json.dumps(first.state())))
        assert before + [cut + step for step in steps_that_speak(second, losses[cut:])] == expected
        assert second.state() == whole.state()


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 31},
        {"steps": -1},
        {"steps": True},
        {"sum": math.nan},
        {"sum": "1"},
        {"reported": 0},
        {"peak": [1.0]},
        {"peak": [math.inf, 1]},
        {"peak": [7.0, 0]},
    ],
)
def test_foreign_state_is_refused(change: dict[str, Any]) -> None:
    stuck = StuckLoss(LN10, 30)
    before = stuck.state() | {"seen": 30}
    stuck.load_state(before)
    with pytest.raises(ValueError, match="state is"):
        stuck.load_state(before | change)
    assert stuck.state() == before


def test_stuck_loss_refuses_senseless_numbers() -> None:
    with pytest.raises(ValueError, match=r"chance is 0\.0; it must be above 0 and finite"):
        StuckLoss(0.0, 1)
    with pytest.raises(ValueError, match="patience_steps is 0; it must be at least 1"):
        StuckLoss(1.0, 0)


@pytest.mark.parametrize(
    ("right", "count", "share", "guessing"),
    [
        (22, 132, 1 / 6, True),
        (27, 132, 1 / 6, True),  # P(X >= 27) = 0.14
        (31, 132, 1 / 6, False),  # P(X >= 31) = 0.03
        (19, 30, 0.5, True),  # P(X >= 19) = 0.10
        (20, 30, 0.5, False),  # P(X >= 20) = 0.049
        (90, 100, 0.9, True),
        (0, 30, 0.5, True),
    ],
)
def test_what_guessing_can_reach_is_no_learning(right: int, count: int, share: float, guessing: bool) -> None:
    assert no_better_than_guessing(right, count, share) is guessing


def test_too_few_images_tell_nothing() -> None:
    assert not can_tell_from_guessing(0, 0.0)
    assert not can_tell_from_guessing(4, 0.5)  # all right by chance once in 16 times
    assert can_tell_from_guessing(5, 0.5)
    assert not can_tell_from_guessing(100, 1.0)


def test_dead_layers_are_explained(net: AlexNet, initial: dict[str, Any]) -> None:
    step(net, changed(initial, "conv3.bias", slice(None), -1e6), lr=0.01)
    text = explain_stuck(net)
    assert "ln(4) = 1.3863" in text
    assert "dead layers: conv3 tower 0 (100% of its ReLUs), conv3 tower 1 (100% of its ReLUs)" in text
    assert "conv1 0e+00" in text  # no gradient passes conv3
    assert "try: a smaller lr, such as 0.001" in text


def test_long_plateau_of_the_papers_biases_is_explained() -> None:
    paper = AlexNet(CLASSES, devices=["cpu:0"])
    paper.train_step(X, Y, lr=1e-7)
    text = explain_stuck(paper)
    assert "no layer is dead" in text
    assert "bias_init 'caffe'" in text
    assert "weight_init 'source2012'" in text
    assert "a larger lr, such as 3e-07" in text


def test_long_steps_are_explained(net: AlexNet, initial: dict[str, Any]) -> None:
    step(net, initial, lr=10.0)
    text = explain_stuck(net)
    assert "try: a smaller lr, such as 1: its steps are large" in text
    assert "bias_init" not in text


def test_a_loss_that_exploded_before_is_named_first(net: AlexNet, initial: dict[str, Any]) -> None:
    step(net, changed(initial, "conv3.bias", slice(None), -1e6), lr=0.01)
    lines = explain_stuck(net, chance=1.2, peak=Peak(27.5, 5)).splitlines()
    assert lines[0].startswith("the loss rose to 27.5 at step 5 and now stays at 1.2000, as if the net guessed")
    assert "try: from the start, a smaller lr, such as 0.001, or a warm-up: the loss exploded" in "\n".join(lines)


def test_frozen_layers_are_left_out_of_the_explanation(net: AlexNet, initial: dict[str, Any]) -> None:
    net.load_parameters(initial)
    rates = {name: 0.0 if name.startswith("conv1") else 1e-3 for name in initial}
    net.train_step(X, Y, lr=rates)
    line = next(line for line in explain_stuck(net).splitlines() if line.startswith("lr"))
    assert "conv1" not in line
    assert "conv2" in line
