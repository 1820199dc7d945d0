"""Projections: the gradient is PyTorch's in float64, and the other rules are PyTorch's with another ReLU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import pyalexnet
from pyalexnet.data import Digits
from pyalexnet.evaluation import projection
from pyalexnet.evaluation.features import features_of
from pyalexnet.evaluation.predict import as_images
from pyalexnet.evaluation.projection import RULES, Rule, project_units
from pyalexnet.net.network import AlexNet
from pyalexnet.net.receptive_field import receptive_fields
from pyalexnet.study.figures import projection_panel
from pyalexnet.study.figures.projections import as_picture
from torch_net import TorchNet

IMAGE = Digits().images[3]
OPTIONS: list[dict[str, Any]] = [
    {"lrn_over": "both", "lrn_k": 1.0},
    {"pool_before_lrn": True, "second_lrn": True},
    {"relu1_last": True, "second_lrn": True, "crop": 224},
    {"pooling": "plain", "lrn": False, "relu1_last": True},
    {"towers": 1, "pool_before_lrn": True},
    {"towers": 1, "filters": "2014", "lrn": False, "crop": 224, "conv1_padding": 2, "colour_deviation": "imagenet"},
]


@pytest.fixture
def torch() -> Iterator[Any]:
    """PyTorch on one thread: its others would wait for work on the cores that the net computes on."""
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def model_of(**options: Any) -> pyalexnet.Classifier:
    """A net whose activations are neither all 0 nor all alike."""
    net = AlexNet(5, devices=["cpu:0"], bias_init="caffe", **options)
    rng = np.random.default_rng(7)
    # What every layer gives is as large as what it takes (He et al. 2015).
    parameters = net.parameters()
    for name, value in parameters.items():
        if name.endswith("weight"):
            scale = np.float32((2 / value[..., 0].size) ** 0.5)
            parameters[name] = rng.standard_normal(value.shape, np.float32) * scale
    net.load_parameters(parameters)
    return pyalexnet.Classifier(net, tuple("abcde"), np.full((256, 256, 3), 100, np.float32))


class Recorder(TorchNet):
    """Keeps what each layer gives, by the names that users call them; what comes back obeys a rule."""

    def __init__(self, torch: Any, net: AlexNet, rule: str) -> None:
        super().__init__(torch, net)
        self.rule = rule
        self.found: dict[str, Any] = {}

    def conv(self, name: str, h: Any, **geometry: Any) -> Any:
        if name == "conv1":
            h = self.input = h.detach().requires_grad_()
        self.found[f"{name}_pre"] = super().conv(name, h, **geometry)
        if self.options.relu1_last and name == "conv1":
            self.found[name] = self.found["conv1_pre"]
        return self.found[f"{name}_pre"]

    def linear(self, name: str, h: Any) -> Any:
        self.found[name if name == "fc8" else f"{name}_pre"] = found = super().linear(name, h)
        return found

    def act(self, name: str, h: Any) -> Any:
        y = super().act(name, h)
        if self.rule == "guided":
            y.register_hook(lambda r: r.clamp(min=0))
        elif self.rule == "deconv":
            y = Deconv.of(self.torch).apply(h)
        last = self.options.relu1_last and name == "conv1"
        steps = self.options.steps_after(pyalexnet.architecture.CONVOLUTIONS[0])
        self.found[f"{steps[-1]}1" if last else name] = y
        return y

    def norm(self, name: str, h: Any) -> Any:
        normalised = super().norm(name, h)
        if self.rule == "deconv":
            normalised = h + (normalised - h).detach()
        last = "lrn_in_map" if self.options.second_lrn and name == "conv2" else "lrn"
        self.found.setdefault(f"{last}{name[-1]}", normalised)
        return normalised

    def pool(self, name: str, h: Any) -> Any:
        pooled = super().pool(name, h)
        self.found.setdefault(f"pool{name[-1]}", pooled)
        return pooled


class Deconv:
    """A ReLU that what comes back is sent through, too."""

    @staticmethod
    def of(torch: Any) -> Any:
        class Function(torch.autograd.Function):  # type: ignore[misc]
            @staticmethod
            def forward(_context: Any, x: Any) -> Any:
                return x.clamp(min=0)

            @staticmethod
            def backward(_context: Any, r: Any) -> Any:
                return r.clamp(min=0)

        return Function


def reference(
    torch: Any, model: pyalexnet.Classifier, layer: str, units: Sequence[int], rule: str, positions: Sequence[Any]
) -> npt.NDArray[np.float64]:
    """The same by PyTorch in float64: the derivative of the unit at the position, by a net with the rule's ReLU."""
    options = model.net.options
    view = np.zeros((227, 227, 3), np.float32)
    start = (256 - options.crop) // 2
    pixels = as_images(IMAGE)[0][start : start + options.crop, start : start + options.crop]
    before = options.conv1_padding
    inside = slice(before, before + options.crop)
    view[inside, inside] = (pixels - np.float32(100)) / np.array(options.colour_divisors)
    net = Recorder(torch, model.net, rule)
    net.logits(view[None])
    top = net.found[layer]
    gradients = []
    for unit, position in zip(units, positions, strict=True):
        value = top[0, unit, position[0], position[1]] if top.ndim == 4 else top[0, unit]
        (gradient,) = torch.autograd.grad(value, net.input, retain_graph=True)
        gradients.append(gradient[0].permute(1, 2, 0).numpy()[before:, before:])
    return np.stack(gradients)


def assert_equal_pixels(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float64]) -> None:
    """All but for rounding: 1e-6 of what began as 1, also where LRN's gradient is a small difference of large numbers.

    And up to 1e-2 of the whole where rounding turned single ones of the thousands of ReLUs and maxima on the way.
    """
    assert np.linalg.norm(found - expected) <= 2e-2 * np.linalg.norm(expected) + 1e-6


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        *(({}, rule) for rule in RULES),
        *(
            pytest.param(options, rule, marks=pytest.mark.long)
            for options in OPTIONS
            for rule in ("gradient", "deconv")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value) or "paper",
)
def test_projections_equal_pytorch(
    torch: Any, options: dict[str, Any], rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "DEFAULT_UNITS", 2)
    model = model_of(**options)
    last_of_conv1 = f"{model.net.options.steps_after(pyalexnet.architecture.CONVOLUTIONS[0])[-1]}1"
    for layer in ("conv1_pre", last_of_conv1, "conv3", "fc8") if not options else (last_of_conv1, "fc8"):
        found = project_units(model, IMAGE, layer, rule=rule)[0]
        positions = [each.position for each in found]
        expected = reference(torch, model, layer, [each.unit for each in found], rule, positions)
        for one, pixels in zip(found, expected, strict=True):
            assert_equal_pixels(one.pixels, pixels)


def test_where_nothing_is_negative_all_rules_are_one() -> None:
    model = model_of(lrn=False)
    net = model.net
    # Biases above 0 leave no ReLU at 0, where black pixels would.
    positive = {name: np.abs(value) + np.float32(name.endswith("bias")) for name, value in net.parameters().items()}
    net.load_parameters(positive)
    bright = pyalexnet.Classifier(net, model.classes, np.zeros((256, 256, 3), np.float32))
    for layer in ("conv3", "fc7"):
        deconv, guided, gradient = (project_units(bright, IMAGE, layer, rule=rule)[0] for rule in RULES)
        for found in zip(deconv, guided, gradient, strict=True):
            assert found[0].pixels.max() > 0
            for other in found[1:]:
                np.testing.assert_array_equal(other.pixels, found[0].pixels)


def test_two_devices_and_other_images_change_no_bit() -> None:
    model = model_of()
    net = AlexNet(5, devices=["cpu:0", "cpu:1"], bias_init="caffe")
    net.load_parameters(model.net.parameters())
    two = pyalexnet.Classifier(net, model.classes, model.mean)
    units = [0, 200]
    (_, alone), (again,) = (
        project_units(model, [Digits().images[0], IMAGE], "conv5", units=units),
        project_units(two, IMAGE, "conv5", units=units),
    )
    for one, other in zip(alone, again, strict=True):
        assert (one.activation, one.position) == (other.activation, other.position)
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_units_and_what_they_see() -> None:
    model = model_of()
    values = features_of(model, as_images(IMAGE), "conv3")[0]
    (found,) = project_units(model, IMAGE, "conv3", rule="guided")
    strongest = values.reshape(-1, 384).max(axis=0)
    assert [each.unit for each in found] == np.argsort(-strongest, kind="stable")[:4].tolist()
    field = receptive_fields(model.net.options)["conv3"]
    for each in found:
        assert each.activation == strongest[each.unit] == values[(*each.position, each.unit)]
        assert each.tower == each.unit // 192
        assert each.region == field.region(*each.position)
        outside = each.pixels.copy()
        outside[each.region.top : each.region.bottom, each.region.left : each.region.right] = 0
        assert not outside.any()


def test_a_unit_that_is_not_active_has_no_picture() -> None:
    model = model_of()
    parameters = model.net.parameters()
    parameters["conv2.bias"][7] = -1e9
    model.net.load_parameters(parameters)
    for rule in RULES:
        ((found,),) = project_units(model, IMAGE, "conv2", units=[7], rule=rule)
        assert found.activation == 0
        assert not found.pixels.any()


def test_tanh_has_a_gradient_alone(torch: Any) -> None:
    model = model_of(activation="tanh", lrn_over="both")
    # Near ±1 little is left of the bits of tanh's slope, 1 - y²; conv1's sums are to be small.
    parameters = model.net.parameters()
    parameters["conv1.weight"] *= np.float32(0.005)
    model.net.load_parameters(parameters)
    (found,) = project_units(model, IMAGE, "conv4", units=[0, 383], rule="gradient")
    expected = reference(torch, model, "conv4", [0, 383], "gradient", [each.position for each in found])
    for one, pixels in zip(found, expected, strict=True):
        assert_equal_pixels(one.pixels, pixels)
    for rule in ("deconv", "guided"):
        with pytest.raises(ValueError, match=f"rule is '{rule}', but the net's activation is 'tanh'; rule must be 'gr"):
            project_units(model, IMAGE, rule=rule)


def test_progress_is_told_image_by_image() -> None:
    counts: list[int] = []
    found = project_units(model_of(), [IMAGE, IMAGE, IMAGE], units=[3], on_images=counts.append)
    assert (len(found), counts) == (3, [1, 1, 1])


def test_arguments_that_make_no_sense() -> None:
    model = model_of()
    with pytest.raises(ValueError, match="rule is 'relu'; it must be one of 'deconv', 'guided', 'gradient'"):
        project_units(model, IMAGE, rule="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"units\[1\] is 384; it must be from 0 to 383"):
        project_units(model, IMAGE, "conv3", units=[0, 384])
    with pytest.raises(ValueError, match="layer is 'conv9'; it must be one of conv1"):
        project_units(model, IMAGE, "conv9")


# The figure -----------------------------------------------------------------------------------------------------------


def test_panel_shows_projections_under_what_they_are_of() -> None:
    model = model_of()
    images = list(Digits().images[3:5])
    found = project_units(model, images, "conv2", units=[5, 200, 17])
    figure = projection_panel(images, found)
    grid = np.array(figure.axes).reshape(4, 4)
    view = as_images(images)[1][14:241, 14:241]
    np.testing.assert_array_equal(grid[2, 0].images[0].get_array(), view)
    for number, each in enumerate(found[1]):
        region = each.region
        part = view[region.top : region.bottom, region.left : region.right]
        np.testing.assert_array_equal(grid[2, 1 + number].images[0].get_array(), part)
        assert grid[2, 1 + number].get_title() == f"conv2 unit {each.unit}\n{each.activation:.3g}"
        shown = grid[3, 1 + number].images[0].get_array()
        np.testing.assert_array_equal(
            shown, as_picture(each.pixels[region.top : region.bottom, region.left : region.right])
        )
    with pytest.raises(ValueError, match="found has 1 entries; it must have 2, one for each image"):
        projection_panel(images, found[:1])


def test_pictures_are_grey_where_nothing_came_back(rng: np.random.Generator) -> None:
    values = rng.standard_normal((9, 9, 3)).astype(np.float32)
    values[0, 0] = 0
    picture = as_picture(values)
    np.testing.assert_array_equal(picture[0, 0], 0.5)
    assert picture.min() >= 0
    assert picture.max() <= 1
    np.testing.assert_allclose(as_picture(100 * values), picture, rtol=0, atol=1e-6)
    np.testing.assert_allclose(as_picture(-values), 1 - picture, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(as_picture(np.zeros((3, 3, 3), np.float32)), 0.5)
