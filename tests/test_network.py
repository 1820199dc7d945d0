"""The whole net: against PyTorch's grouped net, over placements, memory limits and wrong input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import OutOfMemoryError, ops
from pyalexnet.architecture import parameter_count, parameter_shapes
from pyalexnet.device import backend, natives
from pyalexnet.device.native import PtxModule
from pyalexnet.device.tensor import Tensor
from pyalexnet.net.entry import Entry
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.network import AlexNet
from pyalexnet.net.program import Program
from pyalexnet.training.watch import first_non_finite
from torch_net import TorchNet

GIB = 2**30
CLASSES = 10


@pytest.fixture
def batch(rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Two images of the size of centred 8-bit values, and labels."""
    x = rng.standard_normal((2, 227, 227, 3), dtype=np.float32) * np.float32(60)
    return x, np.array([3, 7])


def two_devices(device: str) -> list[str]:
    second = device.replace(":0", ":1")
    try:
        backend.get_device(second)
    except backend.DeviceNotFoundError:
        pytest.skip(f"no device {second} on this machine")
    return [device, second]


def bits_of_run(net: AlexNet, batch: tuple[Any, Any], steps: int = 3) -> list[bytes]:
    """Losses and all parameters after a few steps, as bytes."""
    losses = [net.train_step(*batch, lr=0.01) for _ in range(steps)]
    return [np.array(losses).tobytes(), *(value.tobytes() for value in net.parameters().values())]


@contextmanager
def peers(device: str, *, capable: bool) -> Iterator[None]:
    """Virtual devices of which neither may, or both may, reach the other's memory."""
    native = backend.get_device(device).native
    for pair in ((0, 1), (1, 0)):
        native.set_peer_capable(*pair, capable)
    try:
        yield
    finally:
        for pair in ((0, 1), (1, 0)):
            native.set_peer_capable(*pair, True)


@pytest.mark.usefixtures("full_size")
def test_parameter_count_is_the_known_one() -> None:
    assert parameter_count(1000) == 60_965_224
    assert parameter_count(1000, towers=1, filters="2014") == 61_100_840  # as torchvision's documentation says


# What only orders and copies is the same with simulated threads, on which a step takes seconds.
full_speed = pytest.mark.parametrize("device", ["cpu:0", "cuda:0"], indirect=True)


@full_speed
def test_placements_give_the_same_bits(device: str, batch: tuple[Any, Any]) -> None:
    expected = bits_of_run(AlexNet(CLASSES, devices=[device], seed=5), batch)
    assert bits_of_run(AlexNet(CLASSES, devices=[device], seed=5), batch) == expected, "repeated run"
    assert bits_of_run(AlexNet(CLASSES, devices=[device, device], seed=5), batch) == expected, "one device twice"
    pair = two_devices(device)
    assert bits_of_run(AlexNet(CLASSES, devices=pair, seed=5), batch) == expected, "two devices, peer access"
    without = AlexNet(CLASSES, devices=pair, seed=5, peer_access=False)
    assert bits_of_run(without, batch) == expected, "two devices, staged through the host"


@pytest.mark.parametrize("again", ["cpu:0", "cpu"])
def test_one_device_twice_holds_what_both_towers_need(again: str) -> None:
    twice, two = (AlexNet(CLASSES, devices=["cpu:0", second]).plan(4, training=True) for second in (again, "cpu:1"))
    assert twice.devices == ("cpu:0",)
    assert twice.total_bytes == (sum(two.total_bytes),)
    limit = sum(two.total_bytes) - 1
    with pytest.raises(OutOfMemoryError, match=r"batch_size 4 does not fit(?s:.*)\n +cpu:0\n"):
        AlexNet(CLASSES, devices=["cpu:0", again], memory_limit=limit).train_step(
            np.zeros((4, 227, 227, 3), np.float32), np.zeros(4, np.int64), lr=0.01
        )


def test_refused_peer_access_is_staged(batch: tuple[Any, Any]) -> None:
    expected = bits_of_run(AlexNet(CLASSES, devices=["cpu:0"]), batch, steps=1)
    # The virtual devices remember enabled access, as GPUs do, so the refusal is shown on links of their own.
    native = backend.get_device("cpu:0").native
    with peers("cpu:0", capable=False):
        net = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"])
        assert not any(link.peer for link in net.placement.links)
        assert bits_of_run(net, batch, steps=1) == expected
    assert native.Link(native.Stream(0), native.Stream(1)).peer


@pytest.mark.long
def test_the_order_of_simulated_threads_does_not_matter(batch: tuple[Any, Any]) -> None:
    native = backend.get_device("sim:0").native
    expected = bits_of_run(AlexNet(CLASSES, devices=["sim:0"]), batch, steps=1)
    try:
        for order, devices in (("descending", ["sim:0"]), ("random", ["sim:0", "sim:1"])):
            native.set_schedule(threads=order, blocks=order, seed=7)
            assert bits_of_run(AlexNet(CLASSES, devices=devices), batch, steps=1) == expected, order
    finally:
        native.set_schedule()


@contextmanager
def shuffled_streams(device: str, seed: int) -> Iterator[None]:
    """Virtual devices whose streams run in an order that the seed draws among those that CUDA allows."""
    native = backend.get_device(device).native
    native.set_schedule(seed=seed, shuffle_streams=True)
    try:
        yield
    finally:
        native.set_schedule()


@pytest.mark.long
@pytest.mark.parametrize(("device", "seeds", "images"), [("cpu:0", 6, 2), ("sim:0", 2, 1)])
def test_the_order_of_streams_does_not_matter(batch: tuple[Any, Any], device: str, seeds: int, images: int) -> None:
    batch = batch[0][:images], batch[1][:images]
    expected = bits_of_run(AlexNet(CLASSES, devices=[device]), batch, steps=2)
    for seed in range(seeds):
        with shuffled_streams(device, seed):
            pair = [device, device] if seed % 3 == 1 else two_devices(device)
            net = AlexNet(CLASSES, devices=pair, peer_access=seed % 2 == 0)
            assert bits_of_run(net, batch, steps=2) == expected, f"seed {seed}"


@pytest.mark.parametrize("captures", [True, False])
def test_a_step_is_done_on_both_devices_when_it_returns(
    batch: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, captures: bool
) -> None:
    """Else what fails in the second one's update would be the fault of a later call."""
    native = backend.get_device("cpu:1").native
    sgd_step, other_work = native.sgd_step, Tensor.empty((1 << 24,), device="cpu:1").array

    def late_on_the_second(w: Any, **arguments: Any) -> None:
        if w[0].device == 1:  # some tens of ms, before the update
            native.tanh_forward(y=other_work, x=other_work, stream=arguments["stream"])
        sgd_step(w=w, **arguments)

    monkeypatch.setattr(native, "sgd_step", late_on_the_second)
    net = AlexNet(CLASSES, devices=["cpu:0", "cpu:1"])
    net.captures = captures
    net.train_step(*batch, lr=0.01)
    parameters = net.program(2, training=True).parameters()
    weights = [np.asarray(Tensor(array, backend.get_device("cpu:1"))) for _, tower, array in parameters if tower == 1]
    for seed in range(6):
        with shuffled_streams("cpu:0", seed):
            net.train_step(*batch, lr=0.01)
            seen = [value.tobytes() for value in weights]
        assert [value.tobytes() for value in weights] == seen, f"seed {seed}"


def test_image_batch_equals_prepared_floats(device: str, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    mean = rng.integers(100, 150, (256, 256, 3)).astype(np.float32)  # whole numbers: exact in any order
    images_on_device = ImageBatch(
        images=images,
        offsets=np.array([[3, 5], [29, 0]], np.int32),
        flips=np.array([0, 1], np.uint8),
        shifts=np.array([[1, 2, 3], [-1, 0, 1]], np.float32),
        mean=mean,
        scale=0.5,  # exact too
    )
    centred = images.astype(np.float32) - mean
    x = np.stack([centred[0, 3:230, 5:232], centred[1, 29:256, 0:227][:, ::-1]])
    x += np.array([[1, 2, 3], [-1, 0, 1]], np.float32)[:, None, None]
    x *= 0.5
    net = AlexNet(CLASSES, devices=[device])
    np.testing.assert_array_equal(net.forward(images_on_device), net.forward(x))


@full_speed
def test_parameters_round_trip(device: str) -> None:
    first, second = AlexNet(CLASSES, devices=[device], seed=1), AlexNet(CLASSES, devices=[device], seed=2)
    shapes = parameter_shapes(CLASSES)
    values = first.parameters()
    assert {name: value.shape for name, value in values.items()} == shapes
    second.load_parameters(values)
    for name, value in second.parameters().items():
        np.testing.assert_array_equal(value, values[name])
    with pytest.raises(ValueError, match=r"lack.*fc8\.bias"):
        second.load_parameters({name: value for name, value in values.items() if name != "fc8.bias"})
    with pytest.raises(ValueError, match=r"fc8\.bias has shape \(3,\); it must be \(10,\)"):
        second.load_parameters({**values, "fc8.bias": np.zeros(3, np.float32)})


@pytest.mark.usefixtures("full_size")
def test_plan_of_the_paper_fits_two_gpus_of_3_gib() -> None:
    net = AlexNet(1000, devices=["cpu:0", "cpu:1"], memory_limit=3 * GIB)
    plan = net.plan(128)
    assert plan.fits
    assert 0.5 * GIB < min(plan.total_bytes) < max(plan.total_bytes) <= 3 * GIB
    assert str(plan).splitlines()[0] == "Memory in MiB for training at batch size 128"


def test_a_step_can_be_printed_kernel_by_kernel() -> None:
    program = AlexNet(CLASSES, devices=["cpu:0"]).program(2, training=True)
    lines = str(program).splitlines()
    assert len(lines) == len(program.forward) + len(program.backward) + len(program.update)
    assert lines[0].startswith("forward   conv1   tower 0  conv_forward(")
    assert "w (11, 11, 3, 48)" in lines[0]


@pytest.mark.usefixtures("full_size")
def test_plan_that_does_not_fit_is_refused_with_the_table() -> None:
    net = AlexNet(CLASSES, devices=["cpu:0"], memory_limit=1 * GIB)
    x = np.zeros((512, 227, 227, 3), np.float32)
    with pytest.raises(OutOfMemoryError, match=r"batch_size 512 does not fit(?s:.*)conv1 (?s:.*)limit +1024.0"):
        net.train_step(x, np.zeros(512, np.int64), lr=0.01)
    with pytest.raises(OutOfMemoryError, match=r"the parameters alone do not fit(?s:.*)parameters (?s:.*)limit +128.0"):
        AlexNet(CLASSES, devices=["cpu:0"], memory_limit=GIB // 8)


@pytest.mark.usefixtures("full_size")
def test_plan_is_what_is_taken() -> None:
    native = backend.get_device("cpu:0").native
    free = native.device_info(0)["free_bytes"]
    net = AlexNet(CLASSES, devices=["cpu:0"])
    net.train_step(np.zeros((2, 227, 227, 3), np.float32), np.zeros(2, np.int64), lr=0.01)
    taken = free - native.device_info(0)["free_bytes"]
    # An allocation may be rounded up to whole 2 MiB pages; there are three.
    assert 0 <= taken - net.plan(2).total_bytes[0] <= 3 * 2**21
    del net
    assert native.device_info(0)["free_bytes"] == free


@pytest.mark.usefixtures("full_size")
def test_inference_takes_no_memory_for_updates() -> None:
    net = AlexNet(CLASSES)
    training, inference = net.plan(1).total_bytes[0], net.plan(1, training=False).total_bytes[0]
    parameter_bytes = 4 * parameter_count(CLASSES)
    assert inference < 1.2 * parameter_bytes < 3 * parameter_bytes < training
    limited = AlexNet(CLASSES, memory_limit=inference)
    assert limited.forward(np.zeros((1, 227, 227, 3), np.float32)).shape == (1, CLASSES)
    with pytest.raises(RuntimeError, match="no training step has been made"):
        limited.gradients()
    with pytest.raises(OutOfMemoryError, match="updates"):
        limited.train_step(np.zeros((1, 227, 227, 3), np.float32), np.zeros(1, np.int64), lr=0.01)


LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def bits_after_a_step(net: AlexNet, batch: tuple[Any, Any], **rates: Any) -> dict[str, bytes]:
    """The parameters that one step makes of those the net began with, as bytes."""
    before = net.parameters()
    net.train_step(*batch, **rates)
    after = net.parameters()
    net.load_parameters(before)
    return {name: value.tobytes() for name, value in after.items()}


def test_layers_and_parameters_have_rates_of_their_own(batch: tuple[Any, Any]) -> None:
    net = AlexNet(CLASSES, dropout=0.0)
    by_rate = {lr: bits_after_a_step(net, batch, lr=lr) for lr in (0.01, 0.002, 0.1)}
    rates = dict.fromkeys(LAYERS, 0.01) | {"conv1": 0.002, "fc8.bias": 0.1}
    mixed = bits_after_a_step(net, batch, lr=rates)
    assert len({bits["fc8.bias"] for bits in by_rate.values()}) == 3  # else the comparison below shows nothing
    for name, bits in mixed.items():
        rate = 0.002 if name.startswith("conv1.") else 0.1 if name == "fc8.bias" else 0.01
        assert bits == by_rate[rate][name], f"{name} did not move at the rate {rate}"


def test_biases_of_2012_move_twice_as_fast_and_do_not_decay(batch: tuple[Any, Any]) -> None:
    rates = {"lr": dict.fromkeys(LAYERS, 0.01) | {"conv4": 0.002}}
    found = bits_after_a_step(AlexNet(CLASSES, dropout=0.0, bias_update="source2012"), batch, **rates)
    net = AlexNet(CLASSES, dropout=0.0)
    doubled = bits_after_a_step(net, batch, lr={name: 2 * lr for name, lr in rates["lr"].items()}, weight_decay=0.0)
    plain = bits_after_a_step(net, batch, **rates)
    for name, bits in found.items():
        assert bits == (doubled if name.endswith(".bias") else plain)[name], name


def test_a_rate_of_zero_freezes_to_the_bit(batch: tuple[Any, Any]) -> None:
    net = AlexNet(CLASSES)
    net.train_step(*batch, lr=0.01)  # momentum that would carry the weights on
    before, momentum = net.parameters(), net.momentum()
    for _ in range(2):
        net.train_step(*batch, lr=dict.fromkeys(LAYERS, 0.01) | {"conv1": 0.0, "conv2.weight": 0.0})
    after, later = net.parameters(), net.momentum()
    frozen = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert frozen == {"conv1.weight", "conv1.bias", "conv2.weight"}
    assert frozen == {name for name in momentum if momentum[name].tobytes() == later[name].tobytes()}
    assert all(momentum[name].any() for name in frozen)


# The lowest layer that moves, what is frozen besides, and the lowest whose gradient is there.
LOWEST = [("conv1", (), "conv1"), ("conv2", (), "conv2"), ("conv3", ("conv4", "fc7"), "conv3"), ("fc6", (), "fc6"),
          ("fc8", (), "fc8"), ("none", (), "conv1")]  # fmt: skip


@pytest.mark.parametrize(("lowest", "frozen", "reached"), LOWEST)
@pytest.mark.parametrize(
    "kind", [{}, {"devices": ["cpu:0", "cpu:1"]}, {"towers": 1}, {"relu1_last": True, "second_lrn": True}], ids=str
)
def test_nothing_goes_back_below_the_lowest_layer_that_moves(
    batch: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    kind: dict[str, Any],
    lowest: str,
    frozen: tuple[str, ...],
    reached: str,
) -> None:
    """The bits of what moves are those of a step that goes all the way back."""
    rates = dict.fromkeys(LAYERS, 0.0) | {
        name: 0.01 for name in LAYERS if lowest in LAYERS and name >= lowest and name not in frozen
    }

    def steps(*, whole: bool) -> tuple[AlexNet, dict[str, Any], list[str]]:
        net, ran = AlexNet(CLASSES, seed=3, **kind), []
        call = Entry.call
        with monkeypatch.context() as patched:
            patched.setattr(
                Entry, "call", lambda entry: (ran.append(f"{entry.direction} {entry.layer}"), call(entry))[1]
            )
            if whole:
                patched.setattr(Program, "backward_without", lambda program, _frozen: program.backward)
                patched.setattr(Program, "gradients_without", lambda _program, _frozen: list(net.shapes))
            for _ in range(3):  # the last by a captured graph
                net.train_step(*batch, lr=rates)
        return net, net.gradients(), ran

    (net, gradients, ran), (other, all_gradients, ran_whole) = steps(whole=False), steps(whole=True)
    for kind_of, found, expected in (
        ("parameters", net.parameters(), other.parameters()),
        ("momentum", net.momentum(), other.momentum()),
        ("gradients", gradients, {name: all_gradients[name] for name in gradients}),
    ):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].tobytes() == value.tobytes(), f"{kind_of} {name}"
    assert {name.split(".")[0] for name in gradients} == {name for name in LAYERS if name >= reached}
    assert {entry for entry in ran if entry.startswith("backward")} == {
        "backward loss", *(f"backward {name}" for name in LAYERS if name >= reached)
    }  # fmt: skip
    assert (len(ran) < len(ran_whole)) == (reached != "conv1")


def test_arrays_of_layers_that_nothing_goes_back_through_are_not_looked_at(batch: tuple[Any, Any]) -> None:
    """On sim they are NaN as long as nothing writes them."""
    net = AlexNet(CLASSES, devices=["sim:0"])
    net.train_step(*batch, lr=dict.fromkeys(LAYERS, 0.0) | {"fc8": 0.01})
    assert first_non_finite(net) is None
    assert list(net.gradients()) == ["fc8.weight", "fc8.bias"]


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]], ids=len)
def test_the_update_is_one_launch_a_device(batch: tuple[Any, Any], devices: list[str]) -> None:
    native: Any = backend.get_device("cpu:0").native
    net = AlexNet(CLASSES, devices=devices)

    def launches(lr: float | Mapping[str, float]) -> int:
        before = native.launch_counts().get("sgd_step_kernel", 0)
        net.train_step(*batch, lr=lr)
        return int(native.launch_counts()["sgd_step_kernel"] - before)

    assert launches(0.01) == len(devices)
    assert launches(dict.fromkeys(LAYERS, 0.01) | {"conv1": 0.0, "conv2.weight": 0.0}) == len(devices)
    assert launches(0.0) == 0
    program = net.program(2, training=True)
    arrays = [len(entry.arguments["w"]) for entry in program.update_without(frozenset({"conv1.weight", "fc8.bias"}))]
    # Both towers have conv1, one of them has fc8.
    assert arrays == ([27] if len(devices) == 1 else [14, 13])
    assert program.update_without(frozenset()) is program.update


def test_wrong_arguments_are_named(batch: tuple[Any, Any]) -> None:
    x, labels = batch
    net = AlexNet(CLASSES)
    with pytest.raises(TypeError, match="x has dtype float64"):
        net.forward(x.astype(np.float64))
    with pytest.raises(ValueError, match=r"x has shape \(2, 224, 224, 3\); it must be \(N, 227, 227, 3\)"):
        net.forward(x[:, :224, :224])
    with pytest.raises(ValueError, match=r"labels\[1\] is 10; it must be from 0 to num_classes - 1 = 9"):
        net.train_step(x, np.array([0, 10]), lr=0.01)
    with pytest.raises(ValueError, match="lr is nan"):
        net.train_step(x, labels, lr=float("nan"))
    with pytest.raises(ValueError, match=r"lr\['conv1'\] is -1; it must be at least 0 and finite"):
        net.train_step(x, labels, lr={"conv1": -1})
    with pytest.raises(ValueError, match=r"lr has 'conv9'; it must name layers such as conv1, or parameters such as"):
        net.train_step(x, labels, lr={"conv9": 0.01})
    with pytest.raises(ValueError, match=r"lr has no rate for fc8\.weight$"):
        net.train_step(x, labels, lr=dict.fromkeys((*LAYERS[:-1], "fc8.bias"), 0.01))
    with pytest.raises(ValueError, match="num_classes is 1"):
        AlexNet(1)
    with pytest.raises(ValueError, match="bias_init is 'zero'; it must be one of 'paper', 'notes', 'caffe'"):
        AlexNet(CLASSES, bias_init="zero")
    with pytest.raises(ValueError, match="crop is 225; it must be one of 227, 224"):
        AlexNet(CLASSES, crop=225)
    with pytest.raises(ValueError, match="lrn is 1; it must be one of True, False"):
        AlexNet(CLASSES, lrn=1)
    with pytest.raises(ValueError, match="lrn_k is 0; it must be above 0 and finite"):
        AlexNet(CLASSES, lrn_k=0)
    with pytest.raises(ValueError, match="second_lrn is True, but lrn is False"):
        AlexNet(CLASSES, second_lrn=True, lrn=False)
    with pytest.raises(ValueError, match="relu1_last is True, but activation is 'tanh'"):
        AlexNet(CLASSES, relu1_last=True, activation="tanh")
    with pytest.raises(ValueError, match="filters is '2014', but towers is 2; towers must be 1 then"):
        AlexNet(CLASSES, filters="2014")
    with pytest.raises(ValueError, match="conv1_padding is 2, but crop is 227; crop must be 224 then"):
        AlexNet(CLASSES, conv1_padding=2)
    with pytest.raises(ValueError, match="devices is 'cpu:0'; it must be a list"):
        AlexNet(CLASSES, devices="cpu:0")
    with pytest.raises(ValueError, match="two devices must be of the same target"):
        AlexNet(CLASSES, devices=["cpu:0", "sim:0"])
    with pytest.raises(ValueError, match="cpu has only 2 devices"):
        AlexNet(CLASSES, devices=["cpu:7"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lrn_alpha": "caffe", "lrn_k": 1.0, "dropout": 0.5},
        {"pool_before_lrn": True, "second_lrn": True},
        {"relu1_last": True, "second_lrn": True},
        {"activation": "tanh", "dropout": 0.5},
        {"pooling": "plain", "lrn": False, "relu1_last": True},
        {"lrn_over": "both", "lrn_k": 1.0, "conv_algorithm": "fourier"},
        {"lrn_over": "both", "pool_before_lrn": True, "activation": "tanh"},
        {"towers": 1},
        {"towers": 1, "activation": "tanh", "pooling": "plain", "lrn": False, "dropout": 0.25},
        {"towers": 1, "filters": "2014", "lrn": False},
        {"towers": 1, "filters": "2014", "relu1_last": True, "lrn_k": 1.0},
    ],
    ids=lambda options: ",".join(f"{name}={value}" for name, value in options.items()) or "paper",
)
def test_step_equals_pytorch(batch: tuple[Any, Any], options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    torch = pytest.importorskip("torch")
    x, _ = batch
    if not options:
        request.getfixturevalue("full_size")
    if options.get("activation") == "tanh":
        x = x / np.float32(20)  # near ±1 little is left of the bits of tanh's slope, 1 - y²
    # Weights larger than the paper's give gradients of all layers a size that rounding does not hide.
    net = AlexNet(CLASSES, weight_init="source2012", **({"dropout": 0.0} | options))
    expected = TorchNet(torch, net).logits(x).detach().numpy()
    np.testing.assert_allclose(net.forward(x), expected, rtol=0, atol=ROUNDING * np.abs(expected).max())

    assert_step_equals_pytorch(torch, net, batch)


@pytest.mark.skipif(not natives.is_built("_ptx"), reason="_ptx is not built")
@pytest.mark.parametrize("size", [pytest.param("full_size", marks=pytest.mark.slow), "small"])
def test_step_as_nvcc_compiles_it_equals_pytorch(
    batch: tuple[Any, Any], size: str, request: pytest.FixtureRequest
) -> None:
    torch = pytest.importorskip("torch")
    if size == "full_size":
        request.getfixturevalue(size)
    net = AlexNet(CLASSES, devices=["ptx:0", "ptx:1"], weight_init="source2012", dropout=0.5)
    assert_step_equals_pytorch(torch, net, batch)


@pytest.mark.skipif(not natives.is_built("_ptx"), reason="_ptx is not built")
@pytest.mark.parametrize("devices", [["ptx:0"], ["ptx:0", "ptx:1"]], ids=["one device", "two devices"])
@pytest.mark.parametrize("size", [pytest.param("full_size", marks=pytest.mark.slow), "small"])
def test_step_as_nvcc_compiles_it_has_the_bits_of_sim(
    batch: tuple[Any, Any], devices: list[str], size: str, request: pytest.FixtureRequest
) -> None:
    """With multiply-adds that round twice, and with exponentials that are 0 and 1 in both libraries."""
    if size == "full_size":
        request.getfixturevalue(size)
    native = cast(PtxModule, backend.native_module("ptx"))
    native.set_fused(False)
    try:
        found = bits_of_certain_step(AlexNet(CLASSES, devices=devices, seed=5), batch)
    finally:
        native.set_fused(True)
    expected = bits_of_certain_step(AlexNet(CLASSES, devices=["sim:0"], seed=5), batch)
    assert [name for name in expected if found[name] != expected[name]] == []


def bits_of_certain_step(net: AlexNet, batch: tuple[Any, Any]) -> dict[str, bytes]:
    """Loss, gradients and parameters of a step of a net that is certain of a class that no image has."""
    parameters = net.parameters()
    certain = parameters["fc8.bias"].copy()
    certain[0] = 1000
    net.load_parameters({**parameters, "fc8.bias": certain})
    loss = net.train_step(*batch, lr=0.01)
    gradients = {f"gradient of {name}": value for name, value in net.gradients().items()}
    assert all(value.any() for value in gradients.values())
    values = {"loss": np.array(loss), **gradients, **net.parameters()}
    return {name: value.tobytes() for name, value in values.items()}


# Five products in a row of up to 9216 terms: rounding of about sqrt(9216) ulp each, in units of the largest value.
ROUNDING = 5 * np.sqrt(9216) * np.finfo(np.float32).eps


def assert_step_equals_pytorch(torch: Any, net: AlexNet, batch: tuple[Any, Any]) -> None:
    """Loss, gradients and moves of the parameters, within what float32 rounds."""
    x, labels = batch
    before, peer = net.parameters(), TorchNet(torch, net, decide_as_last_step=True)
    found = net.train_step(x, labels, lr=0.01, momentum=0.9, weight_decay=5e-4)

    ones, p = np.ones((len(x), *net.shapes["fc6.bias"]), np.float32), net.options.dropout
    drawn = {"fc6": ops.dropout(ones, p=p, seed=0, offset=5), "fc7": ops.dropout(ones, p=p, seed=0, offset=6)}
    masks = {name: torch.tensor(mask.numpy(), dtype=torch.float64) for name, mask in drawn.items()}
    loss = torch.nn.functional.cross_entropy(peer.logits(x, masks), torch.tensor(labels))
    loss.backward()
    assert found == pytest.approx(loss.item(), rel=ROUNDING)

    after = net.parameters()
    for name, gradient in net.gradients().items():
        expected = peer.weights[name].grad.numpy()
        error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
        assert error <= ROUNDING, f"{name}: relative error {error:.2e} above {ROUNDING:.2e}"
        step = -0.01 * (expected + 5e-4 * before[name].astype(np.float64))
        np.testing.assert_allclose(
            after[name] - before[name].astype(np.float64),
            step,
            rtol=0,
            atol=ROUNDING * np.abs(step).max() + np.finfo(np.float32).eps * np.abs(before[name]).max(),
        )


@pytest.mark.usefixtures("full_size")
def test_each_step_drops_other_outputs(batch: tuple[Any, Any]) -> None:
    net = AlexNet(CLASSES, dropout=0.5, activation="tanh")  # which is 0 nowhere, as a ReLU is
    dropped = []
    for _ in range(2):
        net.train_step(*batch, lr=0.0)
        step = net.last_step()
        dropped.append({name: net.read(step.array(f"{name}.out")) == 0 for name in ("fc6", "fc7")})
    for name, first in dropped[0].items():
        # 8192 draws, of which half drop and half change: ten deviations of 0.0055.
        assert 0.445 < first.mean() < 0.555
        assert 0.445 < (first != dropped[1][name]).mean() < 0.555
    net.step = 0
    net.train_step(*batch, lr=0.0)
    again = {name: net.read(net.last_step().array(f"{name}.out")) == 0 for name in ("fc6", "fc7")}
    assert all((again[name] == first).all() for name, first in dropped[0].items())


@pytest.mark.usefixtures("full_size")
def test_one_tower_is_the_net_for_one_gpu() -> None:
    net = AlexNet(1000, towers=1)
    filters = {name: shape[-1] for name, shape in net.shapes.items() if name.endswith(".weight")}
    assert list(filters.values()) == [48, 128, 192, 192, 256, 4096, 4096, 1000]
    # conv2 to conv5 see all channels of the layer before.
    assert [net.shapes[f"conv{number}.weight"][2] for number in range(1, 6)] == [3, 48, 128, 192, 192]
    assert sum(value.size for value in net.parameters().values()) == parameter_count(1000, towers=1)
    assert not any(entry.operation.startswith(("exchange", "add")) for entry in net.program(1, training=True).backward)
    with pytest.raises(ValueError, match=r"devices is .*; it must be a list of one name, for a net of one tower"):
        AlexNet(CLASSES, devices=["cpu:0", "cpu:1"], towers=1)


def test_lrn_over_both_towers_takes_one_device() -> None:
    net = AlexNet(CLASSES, lrn_over="both")
    assert net.shapes == AlexNet(CLASSES).shapes
    with pytest.raises(ValueError, match=r"devices is .*; it must be .* for a net whose LRN is over both towers"):
        AlexNet(CLASSES, devices=["cpu:0", "cpu:1"], lrn_over="both")
    with pytest.raises(ValueError, match="lrn_over is 'both', but towers is 1; towers must be 2 then"):
        AlexNet(CLASSES, lrn_over="both", towers=1)
    with pytest.raises(ValueError, match="lrn_over is 'both', but lrn is False; lrn must be True then"):
        AlexNet(CLASSES, lrn_over="both", lrn=False)


@full_speed
@pytest.mark.parametrize("options", [{"activation": "tanh", "dropout": 0.5}, {"relu1_last": True, "crop": 224}])
def test_variants_give_the_same_bits_on_two_devices(
    device: str, rng: np.random.Generator, options: dict[str, Any]
) -> None:
    pair = two_devices(device)
    crop = options.get("crop", 227)
    images = ImageBatch(
        images=rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8),
        offsets=rng.integers(0, 257 - crop, (2, 2), np.int32),
        flips=np.array([0, 1], np.uint8),
        shifts=np.zeros((2, 3), np.float32),
        mean=np.full(3, 128, np.float32),
    )
    batch = images, np.array([3, 7])
    expected = bits_of_run(AlexNet(CLASSES, devices=[device], **options), batch, steps=2)
    assert bits_of_run(AlexNet(CLASSES, devices=pair, **options), batch, steps=2) == expected


def test_a_crop_of_224_has_zeros_behind_it(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    offsets = np.array([[32, 0], [7, 32]], np.int32)
    x = np.zeros((2, 227, 227, 3), np.float32)
    x[0, :224, :224], x[1, :224, :224] = images[0, 32:, :224], images[1, 7:231, 32:][:, ::-1]
    flips, nothing = np.array([0, 1], np.uint8), np.zeros((2, 3), np.float32)
    net = AlexNet(CLASSES, crop=224)
    found = net.forward(ImageBatch(images, offsets, flips, nothing, nothing[0]))
    np.testing.assert_array_equal(found, net.forward(x))
    with pytest.raises(ValueError, match="offsets reach from 0 to 33; crops of 224 lie inside images of 256 only from"):
        net.forward(ImageBatch(images, offsets + np.array([1, 0], np.int32), flips, nothing, nothing[0]))


@full_speed
def test_inputs_of_every_library_and_layout_are_taken(device: str, batch: tuple[Any, Any]) -> None:
    torch = pytest.importorskip("torch")
    x, labels = batch
    net = AlexNet(CLASSES, devices=[device], dropout=0.0)
    expected, loss = net.forward(x), net.train_step(x, labels, lr=0.0)
    read_only = x.copy()
    read_only.flags.writeable = False
    wide = np.zeros((2, 227, 227, 6), np.float32)
    wide[..., ::2] = x
    channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    for given in (
        *(np.asfortranarray(x), wide[..., ::2], read_only, Tensor.from_array(x, device=device)),
        *(torch.from_numpy(x), torch.nn.Parameter(torch.from_numpy(x.copy())), channels_first.permute(0, 2, 3, 1)),
        torch.from_numpy(x.copy()).requires_grad_(),
    ):
        np.testing.assert_array_equal(net.forward(given), expected)
    for integers in (
        *(
            labels.tolist(),
            tuple(labels.tolist()),
            labels.astype(np.uint8),
            labels.astype(np.int16),
            labels[::-1][::-1],
        ),
        *(torch.from_numpy(labels), torch.tensor([3, 7], dtype=torch.uint8), list(torch.from_numpy(labels))),
        Tensor.from_array(labels.astype(np.int32), device=device),
    ):
        assert net.train_step(x, integers, lr=0.0) == loss


@full_speed
def test_parameters_of_pytorch_are_loaded(device: str) -> None:
    torch = pytest.importorskip("torch")
    net, other = AlexNet(CLASSES, devices=[device], seed=1), AlexNet(CLASSES, devices=[device], seed=2)
    values = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in other.parameters().items()}
    net.load_parameters(values, {name: Tensor.from_array(value.detach().numpy()) for name, value in values.items()})
    for name, value in values.items():
        np.testing.assert_array_equal(net.parameters()[name], value.detach())
        np.testing.assert_array_equal(net.momentum()[name], value.detach())
    name = "conv2.weight"
    values[name] = values[name].to(torch.float64)
    with pytest.raises(TypeError, match=r"parameters: conv2\.weight has dtype torch\.float64; it must be float32"):
        net.load_parameters(values)


@full_speed
@pytest.mark.parametrize("count", [1, 2])
def test_results_stay_on_the_device(device: str, batch: tuple[Any, Any], count: int) -> None:
    x, _ = batch
    net = AlexNet(CLASSES, devices=two_devices(device)[:count])
    layers = ("conv1", "pool2", "conv4", "fc6", "fc8")
    expected = [net.features(x, layer) for layer in layers]
    found = [net.features(x, layer, as_tensor=True) for layer in layers]
    net.forward(x[::-1])
    del net
    for result, values in zip(found, expected, strict=True):
        assert isinstance(result, Tensor)
        assert str(result.device) == device
        np.testing.assert_array_equal(np.asarray(result), values, "a result is its caller's own")


def test_pytorch_reads_results_without_a_copy(batch: tuple[Any, Any]) -> None:
    torch = pytest.importorskip("torch")
    net = AlexNet(CLASSES)
    logits = net.forward(batch[0], as_tensor=True)
    read = torch.from_dlpack(logits)
    assert read.data_ptr() == logits.array.address
    np.testing.assert_array_equal(read, np.asarray(logits))


def test_an_array_on_a_gpu_that_the_net_is_not_on_is_refused() -> None:
    class OnGpu:
        dtype, shape = np.dtype(np.float32), (1, 227, 227, 3)
        __cuda_array_interface__ = {"version": 3, "typestr": "<f4", "shape": shape, "data": (4096, False)}  # noqa: RUF012

    with pytest.raises(ValueError, match=r"^x is on (a GPU|cuda:)"):
        AlexNet(CLASSES).forward(OnGpu())
