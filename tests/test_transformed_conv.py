"""Convolution by transforms, Fourier's and Winograd's: what direct sums compute, as exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import references
from pyalexnet import AlexNet, Tensor, ops
from pyalexnet.device.backend import get_device

# batch, height, width, channels, filters, kernel height and width, padding, groups: AlexNet's layers with fewer images
# and channels, and what is odd in each way, on each size of torus and in tiles that reach beyond the map or do not.
FOURIER = [
    (2, 27, 27, 12, 20, 5, 5, 2, 1),
    (3, 13, 13, 20, 12, 3, 3, 1, 1),
    (2, 13, 13, 16, 24, 3, 3, 1, 2),
    (2, 30, 30, 3, 5, 3, 3, 0, 1),  # the torus is full
    (1, 29, 7, 2, 3, 2, 4, 1, 1),
    (2, 6, 5, 7, 9, 3, 3, 1, 1),
    (2, 5, 6, 8, 6, 3, 2, 0, 2),
    (2, 7, 9, 4, 4, 3, 5, 4, 2),  # padding beyond the kernel
    (1, 4, 5, 512, 4, 3, 3, 1, 1),  # so many terms that a GPU adds them up in parts
    (1, 1, 1, 1, 1, 1, 1, 0, 1),
]
WINOGRAD = [
    (3, 13, 13, 20, 12, 3, 3, 1, 1),
    (2, 13, 13, 16, 24, 3, 3, 1, 2),
    (2, 8, 6, 12, 20, 3, 3, 1, 1),  # whole tiles
    (1, 32, 31, 3, 5, 3, 3, 0, 1),  # beyond any torus
    (2, 5, 6, 8, 6, 3, 3, 0, 2),
    (2, 6, 5, 7, 9, 3, 3, 1, 1),
    (2, 7, 9, 4, 4, 3, 3, 4, 2),  # padding beyond the kernel
    (1, 4, 5, 512, 4, 3, 3, 1, 1),
    (1, 3, 3, 1, 1, 3, 3, 0, 1),
]
CASES = [("fourier", shape) for shape in FOURIER] + [("winograd", shape) for shape in WINOGRAD]
ALGORITHMS = ("fourier", "winograd")


@pytest.fixture(params=CASES, ids=lambda param: f"{param[0]}-{'x'.join(map(str, param[1]))}")
def case(request: pytest.FixtureRequest, rng: np.random.Generator) -> dict[str, Any]:
    algorithm, (batch, height, width, channels, filters, kernel_height, kernel_width, padding, groups) = request.param
    how = {"padding": padding, "groups": groups}
    x = rng.standard_normal((batch, height, width, channels), dtype=np.float32)
    w = rng.standard_normal((kernel_height, kernel_width, channels // groups, filters), dtype=np.float32)
    b = rng.standard_normal(filters, dtype=np.float32)
    y = references.conv2d(x, w, b, **how)
    dy = rng.standard_normal(y.shape, dtype=np.float32)
    dx, dw, db = references.conv2d_backward(dy, x, w, **how)
    arrays = {"x": x, "w": w, "b": b, "y": y, "dy": dy, "dx": dx, "dw": dw, "db": db}
    return {**arrays, "how": how, "algorithm": algorithm}


def error(actual: Tensor, expected: np.ndarray) -> float:
    """Relative to the result's root mean square, which is what float32's rounding is relative to in a sum."""
    return float(np.sqrt(np.mean((np.asarray(actual) - expected) ** 2) / np.mean(expected**2)))


def computed(case: dict, device: str, algorithm: str) -> dict[str, Tensor]:
    how = {**case["how"], "device": device, "algorithm": algorithm}
    y = ops.conv2d(case["x"], case["w"], case["b"], **how)
    dx = ops.conv2d_backward_input(case["dy"], case["w"], case["x"].shape, **how)
    dw, db = ops.conv2d_backward_weight(case["x"], case["dy"], case["w"].shape[:2], **how)
    return {"y": y, "dx": dx, "dw": dw, "db": db}


def test_is_as_exact_as_direct_sums(case: dict, device: str) -> None:
    # The rounding of the transforms beside that of the sums: twice the direct error where sums are long, and where they
    # have few terms, which direct sums round hardly at all, a few times float32's.
    direct, transformed = computed(case, device, "direct"), computed(case, device, case["algorithm"])
    for name, result in transformed.items():
        assert error(result, case[name]) <= max(2 * error(direct[name], case[name]), 4 * 2.0**-24), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_relu(device: str, rng: np.random.Generator, algorithm: str) -> None:
    x, w = rng.standard_normal((2, 6, 7, 6), dtype=np.float32), rng.standard_normal((3, 3, 6, 4), dtype=np.float32)
    how = {"padding": 1, "device": device, "algorithm": algorithm}
    expected = np.maximum(np.asarray(ops.conv2d(x, w, **how)), 0)
    np.testing.assert_array_equal(np.asarray(ops.conv2d(x, w, relu=True, **how)), expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_images_bits_are_its_own(device: str, rng: np.random.Generator, algorithm: str) -> None:
    x, w = rng.standard_normal((5, 13, 13, 8), dtype=np.float32), rng.standard_normal((3, 3, 8, 6), dtype=np.float32)
    how = {"padding": 1, "device": device, "algorithm": algorithm}
    together = np.asarray(ops.conv2d(x, w, **how))
    alone = [np.asarray(ops.conv2d(x[i : i + 1], w, **how)) for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    x[3] = np.nan
    np.testing.assert_array_equal(np.isnan(np.asarray(ops.conv2d(x, w, **how))).all(axis=(1, 2, 3)), np.arange(5) == 3)


def test_what_is_not_finite_spreads_to_the_tiles_that_see_it(device: str, rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((1, 9, 9, 4), dtype=np.float32), rng.standard_normal((3, 3, 4, 5), dtype=np.float32)
    x[0, 4, 3, 1] = np.inf
    y = np.asarray(ops.conv2d(x, w, padding=1, device=device, algorithm="winograd"))
    # Direct sums see it from rows 3 to 5 and columns 2 to 4, which are of tiles 1 and 2 in both directions.
    seen, of_tiles = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    seen[3:6, 2:5] = True
    of_tiles[2:6, 2:6] = True
    for channel in range(5):
        found = ~np.isfinite(y[0, :, :, channel])
        assert found[seen].all()
        assert not found[~of_tiles].any()


def test_spectra_that_outgrow_the_caches_hold_the_same_bits(rng: np.random.Generator) -> None:
    # The weights' are 292 planes of 128 x 128 floats, 19 MB; those of half the filters are 9.6 MB, of which cores leave
    # the caching to the processor.
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 13, 13, 128), (3, 3, 128, 128)))
    how = {"padding": 1, "device": "cpu:0", "algorithm": "fourier"}
    halves = [np.asarray(ops.conv2d(x, half, **how)) for half in np.split(w, 2, axis=3)]
    np.testing.assert_array_equal(np.asarray(ops.conv2d(x, w, **how)), np.concatenate(halves, axis=3))


def test_spectra_that_are_there_are_taken(case: dict, device: str) -> None:
    """Computed once, they serve the forward pass and the weights' gradient; another x beside them is not looked at."""
    on = get_device(device)
    native, places = on.native, {"stride": 1, **case["how"], "algorithm": case["algorithm"]}
    x, w, b, dy = (Tensor.from_array(case[name], device=device) for name in ("x", "w", "b", "dy"))
    other = Tensor.from_array(np.zeros_like(case["x"]), device=device)
    forward = native.conv_forward_plan(x=x.array, w=w.array, **places)
    backward = native.conv_backward_weight_plan(x=x.array, dw=w.array, **places)
    assert forward.x_spectra_bytes == backward.x_spectra_bytes > 0
    spectra = Tensor.empty((forward.x_spectra_bytes // 4,), device=device)
    needed = max(forward.workspace_bytes, backward.workspace_bytes)
    scratch = Tensor.empty((needed,), dtype="uint8", device=device)
    y, dw, db = (Tensor.empty(shape, device=device) for shape in (dy.shape, w.shape, b.shape))
    native.conv_x_spectra(forward, spectra.array, x.array, on.stream)
    native.conv_forward(
        forward, y.array, other.array, w.array, b.array, False, scratch.array, on.stream, x_spectra=spectra.array
    )
    native.conv_backward_weight(
        backward, dw.array, db.array, other.array, dy.array, scratch.array, on.stream, x_spectra=spectra.array
    )
    on.stream.synchronize()
    expected = computed(case, device, case["algorithm"])
    for name, found in (("y", y), ("dw", dw), ("db", db)):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected[name]), err_msg=name)


def test_weights_spectra_that_are_kept_are_taken(case: dict, device: str) -> None:
    """And the weights beside them are not looked at."""
    on = get_device(device)
    native, places = on.native, {"stride": 1, **case["how"], "algorithm": case["algorithm"]}
    x, w, b = (Tensor.from_array(case[name], device=device) for name in ("x", "w", "b"))
    other = Tensor.from_array(np.zeros_like(case["w"]), device=device)
    usual = native.conv_forward_plan(x=x.array, w=w.array, **places)
    plan = native.conv_forward_plan(x=x.array, w=w.array, **places, keeps_w_spectra=True)
    assert usual.w_spectra_bytes == 0
    assert plan.workspace_bytes == usual.workspace_bytes - plan.w_spectra_bytes
    spectra = Tensor.empty((plan.w_spectra_bytes // 4,), device=device)
    scratch = Tensor.empty((plan.workspace_bytes,), dtype="uint8", device=device)
    y = Tensor.empty(case["y"].shape, device=device)
    native.conv_w_spectra(plan, spectra.array, w.array, on.stream)
    native.conv_forward(
        plan, y.array, x.array, other.array, b.array, False, scratch.array, on.stream, w_spectra=spectra.array
    )
    on.stream.synchronize()
    np.testing.assert_array_equal(np.asarray(y), np.asarray(computed(case, device, case["algorithm"])["y"]))


def test_kept_spectra_pay_for_fewer_images(device: str) -> None:
    places = {"w": Tensor.empty((3, 3, 256, 192), device=device).array, "stride": 1, "padding": 1, "groups": 1}

    def fewest(*, kept: bool) -> int:
        for batch in range(1, 129):
            x = Tensor.empty((batch, 13, 13, 256), device=device).array
            plan = get_device(device).native.conv_forward_plan(x=x, **places, keeps_w_spectra=kept)
            if plan.algorithm == "fourier":
                return batch
        raise AssertionError("never")

    assert fewest(kept=True) < fewest(kept=False)


def test_wrong_spectra_are_refused(device: str) -> None:
    on = get_device(device)
    x, w, y = (
        Tensor.from_array(np.ones(s, np.float32), device=device) for s in ((1, 6, 6, 2), (3, 3, 2, 4), (1, 6, 6, 4))
    )
    places = {"stride": 1, "padding": 1, "groups": 1}
    plan, direct = (
        on.native.conv_forward_plan(x=x.array, w=w.array, **places, algorithm=name) for name in ("fourier", "direct")
    )
    assert direct.x_spectra_bytes == 0
    spectra, small = (Tensor.empty((n,), device=device).array for n in (plan.x_spectra_bytes // 4, 5))
    scratch = Tensor.empty((max(plan.workspace_bytes, direct.workspace_bytes, 1),), dtype="uint8", device=device).array
    with pytest.raises(ValueError, match=r"x_spectra has shape \(5,\)"):
        on.native.conv_forward(plan, y.array, x.array, w.array, None, False, scratch, on.stream, x_spectra=small)
    with pytest.raises(ValueError, match=r"spectra has shape \(5,\)"):
        on.native.conv_x_spectra(plan, small, x.array, on.stream)
    with pytest.raises(ValueError, match="w_spectra is given; the plan must be made with keeps_w_spectra"):
        on.native.conv_forward(plan, y.array, x.array, w.array, None, False, scratch, on.stream, w_spectra=spectra)
    keeping = on.native.conv_forward_plan(
        x=x.array, w=w.array, **places, algorithm="fourier", keeps_w_spectra=True, batch_invariant=True
    )
    with pytest.raises(ValueError, match="w_spectra is None; it must be those of w, which the plan keeps"):
        on.native.conv_forward(keeping, y.array, x.array, w.array, None, False, scratch, on.stream)
    with pytest.raises(ValueError, match=r"w_spectra has shape \(5,\)"):
        on.native.conv_forward(keeping, y.array, x.array, w.array, None, False, scratch, on.stream, w_spectra=small)
    with pytest.raises(ValueError, match="x_spectra is given, but the plan's algorithm is 'direct_"):
        on.native.conv_forward(direct, y.array, x.array, w.array, None, False, scratch, on.stream, x_spectra=spectra)
    with pytest.raises(ValueError, match="spectra is given, but the plan's algorithm is 'direct_"):
        on.native.conv_x_spectra(direct, spectra, x.array, on.stream)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("devices", "conv3"), [(["cpu:0"], 1), (["cpu:0", "cpu:1"], 2), (["cpu:0", "cpu:0"], 2)], ids=str
)
def test_a_step_computes_the_spectra_of_an_input_once(devices: list[str], conv3: int, algorithm: str) -> None:
    """conv3 sees both towers' maps, which lie together where the towers share a device."""
    net = AlexNet(10, devices=devices, conv_algorithm=algorithm)
    program = net.program(1, training=True)
    entries = [*program.forward, *program.backward]
    spectra = [entry.layer for entry in entries if entry.operation == "conv_x_spectra"]
    conv2 = {"conv2": 2} if algorithm == "fourier" else {}  # whose kernels are 5 x 5
    assert {layer: spectra.count(layer) for layer in spectra} == {**conv2, "conv3": conv3, "conv4": 2, "conv5": 2}
    products = [entry for entry in entries if entry.operation in ("conv_forward", "conv_backward_weight")]
    assert all(("x_spectra" in entry.arguments) == (entry.layer in spectra) for entry in products)
    assert not any(entry.operation == "conv_x_spectra" for entry in net.program(1, training=False).forward)


@pytest.mark.parametrize("wrong", [{"stride": 2}, {"padding": 9}])
def test_what_it_cannot_compute_is_refused(device: str, wrong: dict[str, int]) -> None:
    x, w = np.ones((1, 22, 22, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    with pytest.raises(
        ValueError, match=r"algorithm is 'fourier'; .* stride must be 1, .* at most 30, but x has shape"
    ):
        ops.conv2d(x, w, device=device, algorithm="fourier", **wrong)


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 2), ((3, 2), 1), ((5, 5), 1)])
def test_other_kernels_than_winograds_are_refused(device: str, kernel: tuple[int, int], stride: int) -> None:
    x, w = np.ones((1, 8, 8, 2), np.float32), np.ones((*kernel, 2, 4), np.float32)
    with pytest.raises(
        ValueError, match=r"algorithm is 'winograd'; .* stride must be 1, and the kernel 3 x 3, but .* the kernel is"
    ):
        ops.conv2d(x, w, device=device, algorithm="winograd", stride=stride)


def test_the_rules_choose_by_the_batch(device: str) -> None:
    plan = get_device(device).native.conv_forward_plan
    layer = {"w": np.empty((3, 3, 192, 192)), "stride": 1, "padding": 1, "groups": 1}
    few, many = np.empty((1, 13, 13, 192)), np.empty((128, 13, 13, 192))
    assert plan(x=few, **layer).algorithm != "fourier"
    if not device.startswith("cpu"):
        assert plan(x=few, **layer).algorithm.startswith("direct_")
    assert plan(x=many, **layer).algorithm == "fourier"
    assert str(plan(x=many, **layer)).startswith("fourier by direct_")
    assert plan(x=many, **layer, algorithm="direct").algorithm.startswith("direct_")
    assert plan(x=np.empty((128, 55, 55, 192)), **layer).algorithm != "fourier"
    assert plan(x=np.empty((128, 55, 55, 192)), **{**layer, "stride": 2}).algorithm.startswith("direct_")


def test_a_batch_invariant_plan_is_that_of_one_image(device: str) -> None:
    """On cores by tiles where the weights' are kept, as on no GPU; by spectra of whole maps nowhere."""
    plan = get_device(device).native.conv_forward_plan
    layer = {"w": np.empty((3, 3, 192, 192)), "stride": 1, "padding": 1, "groups": 1, "batch_invariant": True}
    few, many = np.empty((1, 13, 13, 192)), np.empty((128, 13, 13, 192))
    assert plan(x=many, **layer).algorithm == plan(x=few, **layer).algorithm != "fourier"
    if not device.startswith("cpu"):
        assert plan(x=many, **layer).algorithm.startswith("direct_")
    kept = [plan(x=x, **layer, keeps_w_spectra=True) for x in (few, many)]
    for each in kept:
        assert (each.algorithm == "winograd") == device.startswith("cpu")
        assert each.batch_invariant
    assert len({str(each) for each in kept}) == 1


def test_a_single_image_is_computed_by_tiles(rng: np.random.Generator) -> None:
    net = AlexNet(10, devices=["cpu:0"])
    plans = {
        entry.layer: str(entry.arguments["plan"])
        for entry in net.program(1, training=False).forward
        if entry.operation == "conv_forward"
    }
    assert [layer for layer, plan in plans.items() if plan.startswith("winograd by direct_")] == [
        "conv3",
        "conv4",
        "conv5",
    ]
    x = 50 * rng.standard_normal((3, 227, 227, 3), dtype=np.float32)
    told = {
        algorithm: AlexNet(10, devices=["cpu:0"], conv_algorithm=algorithm).forward(x)
        for algorithm in ("auto", "winograd", "direct", "fourier")
    }
    np.testing.assert_array_equal(told["auto"], told["winograd"])
    np.testing.assert_array_equal(told["auto"], told["fourier"])  # which is for batches, whose bits may depend on them
    assert not np.array_equal(told["auto"], told["direct"])
    np.testing.assert_allclose(told["auto"], told["direct"], atol=1e-4 * np.abs(told["direct"]).max())


def test_a_net_is_trained_as_it_is_told() -> None:
    x = np.random.default_rng(0).standard_normal((3, 227, 227, 3), dtype=np.float32)
    gradients = {}
    for algorithm, ways in {
        "direct": {},
        "fourier": {"fourier": ("conv2", "conv3", "conv4", "conv5")},
        "winograd": {"winograd": ("conv3", "conv4", "conv5")},
        "auto": {"winograd": ("conv3", "conv4", "conv5")},  # three images are few
    }.items():
        net = AlexNet(4, devices=["cpu:0"], conv_algorithm=algorithm, dropout=0.0)
        net.train_step(x, [0, 1, 3], lr=0.0)
        gradients[algorithm] = net.gradients()
        products = [entry for entry in net.last_step().backward if entry.operation == "conv_backward_weight"]
        for way in ("fourier", "winograd"):
            layers = {entry.layer for entry in products if entry.arguments["plan"].algorithm == way}
            assert layers == set(ways.get(way, ()))
    for name, direct in gradients["direct"].items():
        # A ReLU or a maximum falls to the other side where two values are equal but for rounding: 0.01 in conv1.
        scale = float(np.sqrt(np.mean(direct.astype(float) ** 2)))
        for algorithm in ("fourier", "winograd"):
            error = float(np.sqrt(np.mean((gradients[algorithm][name].astype(float) - direct) ** 2)))
            assert error < 0.05 * scale, (algorithm, name)
        np.testing.assert_array_equal(gradients["auto"][name], gradients["winograd"][name])
