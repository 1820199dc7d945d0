"""Rates that follow from norms, of an operation and of a net's step, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import references
from pyalexnet import AlexNet, ops
from pyalexnet.device import backend
from pyalexnet.device.tensor import Tensor, host_array
from pyalexnet.ops._memory import settings, workspace

LARS: dict[str, Any] = {"lr": 10.0, "momentum": 0.9, "weight_decay": 5e-4, "trust": 0.001}

Arrays = dict[str, npt.NDArray[np.float32]]


def arrays(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> tuple[npt.NDArray[np.float32], ...]:
    """Weights that grow and a gradient that falls from one part to the next, of another magnitude, and momentum."""
    w, v, g = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
    grows = np.linspace(0.1, 2, w.size, dtype=np.float32).reshape(shape)
    return w * grows, v, np.float32(scale) * g * (np.float32(2.1) - grows)


# One lane, some, a block's worth, and several parts of 32,768, the last of them with an odd rest.
@pytest.mark.parametrize("shape", [(1,), (3,), (17,), (3, 3, 192, 20), (32768,), (32769,), (100_001,)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_step_equals_reference(device: str, rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> None:
    w, v, g = arrays(rng, *shape, scale=scale)
    new = ops.sgd_step(w, v, g, device=device, **LARS)
    for found, expected in zip(new, references.sgd_step(w, v, g, **LARS), strict=True):
        # Beside the roundings of a step, the rate's: a part's sum on one lane of CPU cores is of 8192 squares at most,
        # each rounded by 2^-24, in one direction at the worst; a norm has half of that relative error.
        np.testing.assert_allclose(np.asarray(found), expected, rtol=3e-7, atol=3e-7 + 8192 * 2.0**-25 * 0.01 * 5)


@pytest.mark.parametrize("zero", ["w", "g"])
def test_the_rate_stays_where_an_array_is_zero(device: str, rng: np.random.Generator, zero: str) -> None:
    w, v, g = arrays(rng, 300)
    (w if zero == "w" else g)[:] = 0
    rates = {name: LARS[name] for name in ("lr", "momentum", "weight_decay")}
    by_norms, plain = (ops.sgd_step(w, v, g, device=device, **rates, **trust) for trust in ({"trust": 0.001}, {}))
    for found, expected in zip(by_norms, plain, strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_a_step_moves_weights_by_a_part_of_their_norm(device: str, rng: np.random.Generator) -> None:
    """What it is for: however large the gradient is, the step is not."""
    for scale in (1e-12, 1.0, 1e12):
        w, _, g = arrays(rng, 1000, scale=scale)
        new_w, _ = ops.sgd_step(w, 0 * w, g, lr=2.0, momentum=0, weight_decay=0, trust=0.01, device=device)
        moved = np.linalg.norm(np.asarray(new_w).astype(np.float64) - w) / np.linalg.norm(w)
        assert moved == pytest.approx(0.02, rel=1e-4)  # w's own rounding, 6e-8 of 1, is 3e-6 of 0.02


def test_nan_shows(device: str) -> None:
    g = np.ones(100, np.float32)
    g[33] = np.nan
    new_w, _ = ops.sgd_step(g * 0 + 1, np.zeros(100, np.float32), g, device=device, **LARS)
    assert np.isnan(np.asarray(new_w)).any()


@pytest.mark.parametrize("count", [1, 5, 70])  # more than one table has room for
def test_rates_of_many_arrays_have_the_bits_of_each_alone(device: str, rng: np.random.Generator, count: int) -> None:
    on = backend.get_device(device)
    w, g = (
        [Tensor.from_array(a, device=device) for a in rng.standard_normal((count, 2000), np.float32)] for _ in range(2)
    )
    rates = [settings(on, 0.5 / (number + 1), 0.9, 0.01 * number) for number in range(count)]

    def scaled_rates(*groups: range) -> list[bytes]:
        scaled = [Tensor.from_array(np.zeros(3, np.float32), device=device) for _ in range(count)]
        for group in groups:
            of_group = [[kind[number].array for number in group] for kind in (w, g, scaled)]
            sums = workspace(on.native.lars_rates_workspace_bytes(w=of_group[0]), on)
            rates_of_group = [rates[number] for number in group]
            on.native.lars_rates(
                of_group[0], of_group[1], rates_of_group, of_group[2], settings(on, 0.01), sums.array, on.stream
            )
            on.stream.synchronize()
        return [np.asarray(each).tobytes() for each in scaled]

    together = scaled_rates(range(count))
    assert together == scaled_rates(*(range(number, number + 1) for number in range(count)))
    found = np.array([np.frombuffer(each, np.float32) for each in together])
    np.testing.assert_array_equal(found[:, 1:], [np.float32([0.9, 0.01 * number]) for number in range(count)])
    assert len(set(found[:, 0])) == count


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((2, 3), np.float32)
    for value in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"trust is .*; it must be at least 0 and finite"):
            ops.sgd_step(x, x, x, device=device, **{**LARS, "trust": value})
        with pytest.raises(ValueError, match=r"lr is .*; it must be at least 0 and finite"):
            ops.sgd_step(x, x, x, device=device, **{**LARS, "lr": value})
    with pytest.raises(TypeError, match="trust is '1'; it must be a number"):
        ops.sgd_step(x, x, x, lr=0.1, trust="1", device=device)  # type: ignore[arg-type]
    on = backend.get_device(device)
    tensors = [Tensor.from_array(x, device=device).array]
    for scaled, sums, message in (
        ([host_array(on, np.zeros(3, np.float32))], 8, "the stream is on device 0"),
        ([Tensor.from_array(np.zeros(4, np.float32), device=device).array], 8, r"scaled has shape \(4"),
        (
            [Tensor.from_array(np.zeros(3, np.float32), device=device).array],
            4,
            "workspace has 4 bytes; it must have 8 ",
        ),
        ([], 8, "w, g, rates and scaled have 1, 1, 1 and 0 items"),
    ):
        with pytest.raises(ValueError, match=message):
            on.native.lars_rates(
                *(tensors, tensors, [settings(on, 0.1, 0.9, 0.0)], scaled),
                *(settings(on, 0.01), workspace(sums, on).array, on.stream),
            )


# A net's step -----------------------------------------------------------------------------------------------------

STEP: dict[str, Any] = {"lr": 4.0, "momentum": 0.9, "weight_decay": 0.01, "lars": 0.002}


def batch(rng: np.random.Generator, images: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    return 60 * rng.standard_normal((images, 227, 227, 3), np.float32), np.arange(images, dtype=np.int32) % 5


def net_of(*devices: str, **options: Any) -> AlexNet:
    return AlexNet(5, devices=list(devices), seed=3, dropout=0.0, **options)


def parts_of(name: str, whole: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """What each tower has of a parameter, which is a norm of its own: the halves of its outputs, but fc8 whole."""
    return [whole] if name.startswith("fc8") else np.split(whole, 2, axis=-1)


def test_a_nets_step_follows_each_towers_norms(rng: np.random.Generator) -> None:
    net = net_of("cpu:0")
    x, labels = batch(rng, 2)
    net.train_step(x, labels, lr=0.01)  # so that there is some momentum, and no bias is zero
    before, momentum = net.parameters(), net.momentum()
    net.train_step(x, labels, **STEP)
    gradients, after = net.gradients(), net.parameters()
    step = {name: STEP[name] for name in ("lr", "momentum", "weight_decay")} | {"trust": STEP["lars"]}
    for name, found in after.items():
        by_tower = zip(*(parts_of(name, each[name]) for each in (before, momentum, gradients, after)), strict=True)
        for w, v, g, new_w in by_tower:
            expected, _ = references.sgd_step(w, v, g, **step)
            moved = np.abs(expected - w).max()
            # The rate's rounding, as above but for parts of many lanes; and the weight's own.
            np.testing.assert_allclose(new_w, expected, rtol=2.0**-23, atol=1e-4 * moved, err_msg=name)
        assert (found != before[name]).any()


def test_bits_are_the_same_on_two_devices_and_replayed(rng: np.random.Generator) -> None:
    one, two = net_of("cpu:0"), net_of("cpu:0", "cpu:1")
    x, labels = batch(rng, 2)
    for step in range(4):  # from the third on as a graph; and other rates in between
        rates = STEP | {"lars": 0.002 * (step + 1)} if step != 2 else {"lr": 0.01}
        assert one.train_step(x, labels, **rates) == two.train_step(x, labels, **rates)
    for name, expected in one.parameters().items():
        np.testing.assert_array_equal(two.parameters()[name], expected, err_msg=name)


def test_shards_take_the_step_of_the_whole_batch(rng: np.random.Generator) -> None:
    whole, sharded = net_of("cpu:0"), net_of("cpu:0")
    x, labels = batch(rng, 4)
    before = whole.parameters()
    whole.train_step(x, labels, **STEP)
    sharded.train_step(x, labels, shards=4, **STEP)
    for name, expected in whole.parameters().items():
        # Sums over images in another order: some 1e-6 of a gradient's size, of which single elements are small.
        size = np.abs(expected - before[name]).max()
        np.testing.assert_allclose(sharded.parameters()[name], expected, rtol=0, atol=1e-3 * size, err_msg=name)


def test_what_is_frozen_stays(rng: np.random.Generator) -> None:
    net = net_of("cpu:0")
    x, labels = batch(rng, 2)
    before = net.parameters()
    rates = {name: 0.0 if name in ("conv1", "fc6") else 4.0 for name in {name.split(".")[0] for name in net.shapes}}
    net.train_step(x, labels, **STEP | {"lr": rates})
    for name, found in net.parameters().items():
        assert (found == before[name]).all() == name.startswith(("conv1", "fc6")), name


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_wrong_coefficient_is_named(rng: np.random.Generator, value: float) -> None:
    net = net_of("cpu:0")
    with pytest.raises(ValueError, match=r"lars is .*; it must be at least 0 and finite"):
        net.train_step(*batch(rng, 2), lr=0.1, lars=value)
