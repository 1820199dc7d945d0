"""Models that the tests of file formats convert, and how near another program's logits must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet import AlexNet, Classifier

CLASSES = ("cat", "dog", "größe", "\U0001f600", "five")

# The known nets first.
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "bvlc_alexnet": {"lrn_over": "both", "lrn_alpha": "caffe", "lrn_k": 1.0, "bias_init": "caffe"},
    "CaffeNet": {"lrn_over": "both", "lrn_alpha": "caffe", "lrn_k": 1.0, "pool_before_lrn": True, "dropout": 0.25},
    "2012": {"lrn_alpha": "caffe", "second_lrn": True, "relu1_last": True, "crop": 224, "weight_init": "source2012"},
    "one tower": {"towers": 1, "dropout": 0.0},
    "tanh": {"activation": "tanh", "pooling": "plain", "lrn": False},
}

# Of the largest logit: five products in a row of up to 9216 terms, which two programs sum up in orders of their own,
# round by about sqrt(9216) ulp each.
ROUNDING = 5 * np.sqrt(9216) * np.finfo(np.float32).eps


def model_of(options: dict[str, Any]) -> Classifier:
    """A classifier of random weights, each with its own, that spread over all outputs."""
    net = AlexNet(7, devices=["cpu:0"], seed=3, **options)
    rng = np.random.default_rng(7)
    scale = {name: np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1 for name, shape in net.shapes.items()}
    net.load_parameters(
        {name: rng.standard_normal(shape, np.float32) * np.float32(scale[name]) for name, shape in net.shapes.items()}
    )
    net.step = 42
    mean = rng.uniform(0, 255, (256, 256, 3)).astype(np.float32)
    return Classifier(net, CLASSES, mean)


def images_for(model: Classifier, count: int = 3) -> npt.NDArray[np.float32]:
    """What a net takes: RGB less a mean."""
    size = model.net.options.crop
    return np.random.default_rng(1).uniform(-128, 128, (count, size, size, 3)).astype(np.float32)


def first(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images with their channels first."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def difference(logits: npt.NDArray[np.float32], model: Classifier, x: npt.NDArray[np.float32]) -> float:
    """The largest difference to a model's own logits, of the largest of those; infinite where one is NaN."""
    beyond = (0, 227 - x.shape[1])  # zeros that the windows of a smaller crop reach
    own = model.net.forward(np.pad(x, ((0, 0), beyond, beyond, (0, 0))))
    assert logits.shape == own.shape
    found = float(np.abs(logits - own).max() / np.abs(own).max())
    return found if found >= 0 else np.inf


def assert_equal(found: Classifier, model: Classifier) -> None:
    """All of two models is the same, bit for bit."""
    assert found.classes == model.classes
    assert found.net.options == model.net.options
    assert found.net.step == model.net.step
    assert found.mean.tobytes() == model.mean.tobytes()
    expected = model.net.parameters()
    for name, value in found.net.parameters().items():
        assert value.tobytes() == expected[name].tobytes(), name
