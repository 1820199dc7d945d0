"""An image has the same bits alone and in any batch, on any number of threads and devices, where no one trains.

Nothing here has a tolerance. Elements are compared as bits, so that a zero's sign counts too.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import pyalexnet
import references
from pyalexnet.architecture import feature_names
from pyalexnet.data import ImageArrays
from pyalexnet.device.arguments import Argument
from pyalexnet.device.backend import get_device
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.evaluation.features import extract_features, save_features
from pyalexnet.evaluation.neighbours import find_neighbours, nearest
from pyalexnet.evaluation.predict import predict
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.network import AlexNet
from small import SMALL

CLASSES = ("a", "b", "c", "d", "e")
SIZES = [1, 2, 3, 7, 16, 33, 64]

# All shapes of AlexNet's products on one tower: pixels of an image (0: a fully connected layer), terms and columns.
CONVOLUTIONS = {
    "conv1": ((227, 227, 3), (11, 11, 3, 48), {"stride": 4, "padding": 0}),
    "conv2": ((27, 27, 48), (5, 5, 48, 128), {"stride": 1, "padding": 2}),
    "conv3": ((13, 13, 256), (3, 3, 256, 192), {"stride": 1, "padding": 1}),
    "conv5": ((13, 13, 192), (3, 3, 192, 128), {"stride": 1, "padding": 1}),
}
MATRICES = {"fc6": (9216, 2048), "fc7": (4096, 2048), "fc8": (4096, 1000)}


class Shaped:
    """Something of which a plan looks at the shape alone."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape


def assert_same_bits(one: npt.NDArray[Any], other: npt.NDArray[Any], what: str = "") -> None:
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes(), what


def plans_of_forward(device: str, batch: int, **how: bool) -> dict[str, Any]:
    native = get_device(device).native
    convolutions = {
        name: native.conv_forward_plan(x=Shaped(batch, *x), w=Shaped(*w), groups=1, **places, **how)
        for name, (x, w, places) in CONVOLUTIONS.items()
    }
    matrices = {
        name: native.linear_forward_plan(x=Shaped(batch, inputs), w=Shaped(inputs, outputs), **how)
        for name, (inputs, outputs) in MATRICES.items()
    }
    return convolutions | matrices


def test_parts_follow_from_one_image(device: str) -> None:
    alone = plans_of_forward(device, 1, batch_invariant=True)
    for batch in (2, 10, 64, 128, 1000):
        for name, plan in plans_of_forward(device, batch, batch_invariant=True).items():
            assert plan.parts == alone[name].parts, name
            if name in CONVOLUTIONS:  # few rows of matrices have wide tiles, which add up the same terms
                assert plan.algorithm == alone[name].algorithm, name
    for name, plan in alone.items():
        assert plan.batch_invariant
        assert str(plan).endswith(", batch-invariant")
        if device.startswith("cpu") and name in CONVOLUTIONS:
            assert plan.parts == 1, name  # smaller blocks serve there
            assert (plan.workspace_bytes == 0) == (plan.algorithm != "winograd")
    usual = [plans_of_forward(device, batch) for batch in (1, 128)]
    assert any(usual[0][name].parts != usual[1][name].parts for name in alone), (
        "in training parts follow from the batch"
    )
    assert not any(plan.batch_invariant for plan in usual[0].values())


def linear_by_plan(device: str, x: npt.NDArray[np.float32], w: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    on = get_device(device)
    rows, weights = (Argument.of(name, array) for name, array in (("x", x), ("w", w)))
    plan = on.native.linear_forward_plan(x=rows, w=weights, batch_invariant=True)
    y = pyalexnet.Tensor.empty((len(x), w.shape[1]), device=device)
    workspace = pyalexnet.Tensor.empty((max(1, plan.workspace_bytes // 4),), device=device)
    on.native.linear_forward(plan, y.array, rows.native(on), weights.native(on), None, True, workspace.array, on.stream)
    on.stream.synchronize()
    return np.array(y)


def conv_by_plan(device: str, x: npt.NDArray[np.float32], w: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    on = get_device(device)
    images, weights = (Argument.of(name, array) for name, array in (("x", x), ("w", w)))
    plan = on.native.conv_forward_plan(x=images, w=weights, stride=1, padding=1, groups=1, batch_invariant=True)
    y = pyalexnet.Tensor.empty((*x.shape[:3], w.shape[3]), device=device)
    workspace = pyalexnet.Tensor.empty((max(1, plan.workspace_bytes // 4),), device=device)
    on.native.conv_forward(plan, y.array, images.native(on), weights.native(on), None, True, workspace.array, on.stream)
    on.stream.synchronize()
    return np.array(y)


@pytest.mark.parametrize("columns", [5, 70, 200])
def test_rows_of_a_matrix_product(device: str, columns: int, rng: np.random.Generator) -> None:
    """Sums long enough for parts, more rows than a tile, columns that fill none."""
    x = rng.standard_normal((400, 1100), dtype=np.float32)
    w = rng.standard_normal((1100, columns), dtype=np.float32)
    whole = linear_by_plan(device, x, w)
    references.assert_sums_close(whole, np.maximum(x.astype(float) @ w, 0), terms=1100)
    for size in (*SIZES, 131):
        assert_same_bits(linear_by_plan(device, x[399 - size : 399], w), whole[399 - size : 399], f"{size} rows")


@pytest.mark.parametrize("columns", [5, 70, 200])
def test_images_of_a_convolution(device: str, columns: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, 6, 7, 64), dtype=np.float32)
    w = rng.standard_normal((3, 3, 64, columns), dtype=np.float32)
    whole = conv_by_plan(device, x, w)
    expected = np.maximum(references.conv2d(x, w, padding=1), 0)
    references.assert_sums_close(whole, expected, terms=576)
    for size in (1, 2, 3, 7, 16):
        assert_same_bits(conv_by_plan(device, x[19 - size : 19], w), whole[19 - size : 19], f"{size} images")


def layers_of(net: AlexNet, x: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """What each layer computes of images, the towers side by side."""
    logits = net.forward(x)
    program = net.program(len(x), training=False)
    found, towers = {"fc8": logits}, range(net.options.towers)
    between = [layer for layer in feature_names(net.options) if layer.startswith("lrn")]  # no array where it is pooled
    for layer, name in feature_names(net.options).items():
        if layer not in ("fc8", *between):
            found[layer] = np.concatenate([net.read(program.array(name, tower), tower) for tower in towers], axis=-1)
    return found | {layer: net.features(x, layer) for layer in between}


def assert_batches_agree(net: AlexNet, x: npt.NDArray[np.float32], sizes: list[int]) -> None:
    """Each batch is the end of the largest one, so that no image keeps its place."""
    whole = layers_of(net, x)
    for size in sizes:
        for layer, values in layers_of(net, x[-size:]).items():
            assert_same_bits(values, whole[layer][-size:], f"{layer} of {size} images")


@pytest.fixture(scope="module")
def inputs() -> npt.NDArray[np.float32]:
    return np.random.default_rng(4).standard_normal((64, 227, 227, 3), np.float32) * 60


@pytest.fixture(scope="module")
def net() -> AlexNet:
    return AlexNet(5, devices=["cpu:0"], weight_init="source2012")


def test_every_layer_of_the_net(net: AlexNet, inputs: npt.NDArray[np.float32]) -> None:
    assert_batches_agree(net, inputs, SIZES)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "tanh", "second_lrn": True, "crop": 224},
        {"relu1_last": True, "pool_before_lrn": True, "pooling": "plain"},
        {"towers": 1, "lrn": False},
        {"towers": 1, "filters": "2014"},
    ],
    ids=["tanh", "relu1_last", "one_tower", "2014"],
)
def test_nets_of_other_options(options: dict[str, Any], inputs: npt.NDArray[np.float32]) -> None:
    crop = np.zeros_like(inputs[:9])
    crop[:, :224, :224] = inputs[:9, :224, :224]
    assert_batches_agree(AlexNet(5, devices=["cpu:0"], **options), crop, [1, 4])


def test_two_devices(net: AlexNet, inputs: npt.NDArray[np.float32]) -> None:
    two = AlexNet(5, devices=["cpu:0", "cpu:1"], weight_init="source2012")
    whole = net.forward(inputs[:17])
    for size in (1, 5):
        assert_same_bits(two.forward(inputs[17 - size : 17]), whole[-size:])


LOGITS = """
import hashlib
import numpy as np
from pyalexnet.net.network import AlexNet
x = np.random.default_rng(4).standard_normal((64, 227, 227, 3), np.float32)[:3] * 60
logits = AlexNet(5, devices=["cpu:0"], weight_init="source2012").forward(x)
print(hashlib.sha256(logits.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("threads", [1, 5])
def test_any_number_of_threads(net: AlexNet, inputs: npt.NDArray[np.float32], threads: int) -> None:
    environment = {**os.environ, "PYALEXNET_NUM_THREADS": str(threads)}
    told = subprocess.run(
        [sys.executable, "-c", SMALL + LOGITS], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == hashlib.sha256(net.forward(inputs[:19])[:3].tobytes()).hexdigest()


@pytest.fixture(scope="module")
def model(net: AlexNet) -> Classifier:
    return Classifier(net, CLASSES, np.random.default_rng(2).uniform(100, 150, (256, 256, 3)).astype(np.float32))


@pytest.fixture(scope="module")
def data() -> ImageArrays:
    images = np.random.default_rng(6).integers(0, 256, (11, 256, 256, 3), np.uint8)
    return ImageArrays(images, np.arange(11) % 5, CLASSES)


def test_predictions_and_errors(model: Classifier, data: ImageArrays) -> None:
    images, _ = data.batch(np.arange(11))
    together = predict(model, images)
    loss = evaluate(model, data, overlap=False).loss
    for batch_size in (1, 4, 7):
        assert predict(model, images, batch_size=batch_size) == together
        assert evaluate(model, data, batch_size=batch_size, overlap=False).loss == loss
    assert predict(model, images[8]) == together[8:9]
    assert predict(model, images[:3], views=5, batch_size=2) == predict(model, images[:3], views=5)


@pytest.mark.parametrize("layer", ["pool1", "fc7"])
def test_features(model: Classifier, data: ImageArrays, layer: str) -> None:
    together = extract_features(model, data, layer).values
    for batch_size in (1, 3):
        assert_same_bits(extract_features(model, data, layer, batch_size=batch_size).values, together)


def test_neighbours(model: Classifier, data: ImageArrays, tmp_path_factory: pytest.TempPathFactory) -> None:
    images, _ = data.batch(np.arange(11))
    together = find_neighbours(model, images, data)
    for queries, batch_size in ((slice(0, 11), 1), (slice(2, 5), 4), (slice(7, 8), 64)):
        assert find_neighbours(model, images[queries], data, batch_size=batch_size) == together[queries]
    assert [near[0].distance for near in together] == [0.0] * 11, "each is its own nearest, at no distance"
    path = tmp_path_factory.mktemp("features") / "fc7.npz"
    save_features(path, model, data, batch_size=5)
    assert find_neighbours(model, images[3:9], path, batch_size=2) == together[3:9]


@pytest.mark.parametrize("units", [1, 7, 9216])
def test_a_distance_follows_from_its_two_rows(units: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((50, units), dtype=np.float32)
    queries = rng.standard_normal((6, units), dtype=np.float32)
    distances, indices = nearest(queries, [rows], 50)
    for sizes in ([1] * 50, [7] * 7 + [1], [49, 1]):
        batches = np.split(rows, np.cumsum(sizes)[:-1])
        for query in range(6):
            alone, order = nearest(queries[query : query + 1], batches, 50)
            assert_same_bits(alone[0], distances[query])
            np.testing.assert_array_equal(order[0], indices[query])


def test_invariance_can_be_waived(rng: np.random.Generator) -> None:
    """By what training does, in its bits where both go by spectra; a program of each kind is kept."""
    net = AlexNet(10, devices=["cpu:0"], dropout=0.0)
    x = rng.standard_normal((32, 227, 227, 3), dtype=np.float32)
    invariant, fast = net.forward(x), net.forward(x, batch_invariant=False)
    programs = {invariance: net.program(32, training=False, batch_invariant=invariance) for invariance in (True, False)}
    assert "fourier" in str(programs[False])
    assert "fourier" not in str(programs[True])
    assert "batch-invariant" not in str(programs[False])
    # Both are sums of the same terms, rounded otherwise: by some 1e-6 in each of eight layers.
    np.testing.assert_allclose(fast, invariant, rtol=1e-4, atol=1e-4 * np.abs(invariant).max())
    assert_same_bits(net.forward(x), invariant)
    assert_same_bits(net.features(x, "fc8", batch_invariant=False), fast)
    training = AlexNet(10, devices=["cpu:0"], dropout=0.0)
    training.train_step(x, np.zeros(32, np.int32), lr=0.0)
    program = training.last_step()
    assert_same_bits(training.read(program.array("fc8.y", program.loss_tower)), fast)
    with pytest.raises(TypeError, match="batch_invariant is 'no'; it must be True or False"):
        net.forward(x, batch_invariant="no")  # type: ignore[call-overload]
    direct = AlexNet(10, devices=["cpu:0"], conv_algorithm="direct").plan(32, training=False)
    for invariance in (True, False):  # spectra take a workspace
        assert direct.total_bytes < net.plan(32, training=False, batch_invariant=invariance).total_bytes
