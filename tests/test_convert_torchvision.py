"""torchvision's AlexNet: the same logits of the same images, and its state dict comes back bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import exchange
import pyalexnet
from foreign import ROUNDING, assert_equal
from pyalexnet import Classifier, ModelFileError, architecture, convert, load_model, train
from pyalexnet.evaluation.features import activations_of
from pyalexnet.formats import torchvision
from pyalexnet.formats.conversion import content_of

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

CLASSES = 7
ENDINGS = [".pth", ".safetensors"]


def module(classes: int = CLASSES, hidden: int | None = None) -> Any:
    """A module with the names and shapes of ``torchvision.models.alexnet``, which computes as that does.

    torchvision itself needs a PyTorch that was built with it; where there is one, the last test takes it.
    """
    nn, hidden = torch.nn, hidden or architecture.HIDDEN_UNITS
    pool = {"kernel_size": 3, "stride": 2}
    net = nn.Module()
    net.features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(**pool),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(**pool),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(**pool),
    )  # fmt: skip
    net.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, hidden), nn.ReLU(),
        nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, classes),
    )  # fmt: skip
    net.forward = lambda x: net.classifier(net.features(x).flatten(1))
    return net.eval()


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(3)
    return module()


@pytest.fixture(scope="module")
def model(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load_model(saved(net.state_dict(), tmp_path_factory.mktemp("net") / "alexnet.pth"), devices=["cpu:0"])


def saved(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors_torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)


def normalised(images: npt.NDArray[np.uint8]) -> Any:
    """As torchvision's weights expect images: the centre, from 0 to 1, less a mean, over a deviation."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2)[..., 16:240, 16:240].double() / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)).float()


def assert_same_logits(model: Classifier, net: Any, images: npt.NDArray[np.uint8]) -> None:
    with torch.inference_mode():
        expected = net(normalised(images)).numpy()
    assert np.abs(activations_of(model, images, ["fc8"])["fc8"] - expected).max() < ROUNDING * np.abs(expected).max()


def test_it_computes_the_same_of_the_same_images(model: Classifier, net: Any, images: npt.NDArray[np.uint8]) -> None:
    assert_same_logits(model, net, images)
    with torch.inference_mode():
        conv1 = torch.relu(net.features[0](normalised(images))).permute(0, 2, 3, 1).numpy()
    found = activations_of(model, images, ["conv1"])["conv1"]
    assert np.abs(found - conv1).max() < ROUNDING * conv1.max()


@pytest.mark.parametrize("ending", ENDINGS)
def test_there_and_back(model: Classifier, net: Any, ending: str, tmp_path: Path) -> None:
    convert(model, tmp_path / f"back{ending}", to="torchvision")
    assert_equal(load_model(tmp_path / f"back{ending}", devices=["cpu:0"]), model)
    if ending == ".pth":
        state = torch.load(tmp_path / "back.pth", weights_only=True)
    else:
        state = safetensors_torch.load_file(tmp_path / "back.safetensors")
    expected = net.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    module().load_state_dict(state)


@pytest.mark.parametrize("ending", ENDINGS)
def test_wrappers_and_checkpoints_are_read(model: Classifier, net: Any, ending: str, tmp_path: Path) -> None:
    wrapped = {f"module.{name}": value for name, value in net.state_dict().items()}
    assert_equal(load_model(saved(wrapped, tmp_path / f"wrapped{ending}"), devices=["cpu:0"]), model)
    if ending == ".pth":
        inside = {"epoch": 90, "arch": "alexnet", "state_dict": wrapped, "best_acc1": torch.tensor(56.5)}
        assert_equal(load_model(saved(inside, tmp_path / "checkpoint.pth.tar"), devices=["cpu:0"]), model)


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".onnx"])
def test_as_this_package_writes_it_it_comes_back_too(
    model: Classifier, ending: str, images: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnx")
    convert(model, tmp_path / f"model{ending}")
    found = load_model(tmp_path / f"model{ending}", devices=["cpu:0"])
    assert_equal(found, model)
    for layer in ("fc8", "pool1"):
        expected = activations_of(model, images, [layer])[layer]
        np.testing.assert_array_equal(activations_of(found, images, [layer])[layer], expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_its_onnx_graph_is_known(net: Any, images: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    torch.onnx.export(net, (normalised(images),), tmp_path / "alexnet.onnx", dynamo=False)
    with pytest.warns(UserWarning, match="has torchvision's net; its images are normalised here"):
        found = load_model(tmp_path / "alexnet.onnx", devices=["cpu:0"])
    assert_same_logits(found, net, images)


def test_what_pytorch_computes_of_it_in_training(model: Classifier, net: Any, images: npt.NDArray[np.uint8]) -> None:
    own, x = pyalexnet.autograd.AlexNetModule(model).eval(), torch.from_numpy(images).permute(0, 3, 1, 2)
    prepared = own.prepared(x)
    np.testing.assert_allclose(prepared.numpy(), normalised(images).numpy(), rtol=0, atol=1e-6)
    own(prepared).sum().backward()
    net(normalised(images)).sum().backward()
    expected = net.features[0].weight.grad
    assert (own.conv1.weight.grad - expected).abs().max() < ROUNDING * expected.abs().max()
    net.zero_grad()


def test_it_is_fine_tuned(model: Classifier, tmp_path: Path) -> None:
    convert(model, tmp_path / "start.safetensors")
    start, out = tmp_path / "start.safetensors", tmp_path / "run"
    result = train("digits", init=start, epochs=1, devices=["cpu:0"], out=out, seed=0)
    tuned = load_model(out, devices=["cpu:0"])
    assert tuned.net.options.filters == "2014"
    assert tuned.net.options.colour_deviation == "imagenet"
    assert np.isfinite(result.history[-1].train_loss)
    np.testing.assert_array_equal(tuned.mean, torchvision.mean_image())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("changed", "message"), [
    ({"features.3.weight": (192, 32, 5, 5)}, r"features\.3\.weight is \(192, 32, 5, 5\); it must be \(192, 64, 5, 5\)"),
    ({"features.3.bias": None}, r"features\.3\.bias is missing; it must be \(192,\)"),
    ({"features.0.weight": (96, 3, 11, 11)}, r"features\.0\.weight is \(96, 3, 11, 11\); it must be \(64, 3, 11, 11\)"),
    ({"features.1.running_mean": (64,)}, r"'features\.1\.running_mean' is \(64,\); it must be absent"),
    ({"classifier.6.bias": (1,)}, r"classifier\.6\.bias is \(1,\); it must have a number for each of 2 classes"),
    ({"classifier.6.bias": None}, r"classifier\.6\.bias is missing; it must have a number for each"),
    ({"classifier.6.bias": (7, 1)}, r"classifier\.6\.bias is \(7, 1\); it must have a number for each of 2 classes"),
])  # fmt: skip
def test_others_are_refused(net: Any, changed: Any, message: str, ending: str, tmp_path: Path) -> None:
    state = {**net.state_dict(), **{name: shape and torch.zeros(shape) for name, shape in changed.items()}}
    path = saved({name: value for name, value in state.items() if value is not None}, tmp_path / f"other{ending}")
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_nan_is_refused(net: Any, tmp_path: Path) -> None:
    state = {**net.state_dict(), "classifier.6.bias": torch.full((CLASSES,), float("nan"))}
    with pytest.raises(ModelFileError, match=r"classifier\.6\.bias has 7 NaN or infinite of 7 values"):
        load_model(saved(state, tmp_path / "nan.pth"))


@pytest.mark.parametrize(("options", "message"), [
    ({}, "the net has .*, towers=2, filters='2012'; for torchvision's it must have .*, towers=1, filters='2014'"),
    ({"towers": 1, "filters": "2014"}, "has crop=227, .*, lrn=True; for torchvision's it must have crop=224"),
    (vars(torchvision.OPTIONS) | {"colour_deviation": "none"}, "deviation='none'; for .* colour_deviation='imagenet'"),
    (vars(torchvision.OPTIONS), "the mean is from .* to .*; for torchvision's net, whose .* none, it must be 123.6"),
])  # fmt: skip
def test_other_nets_are_not_written(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        convert(exchange.model_of(options, CLASSES), tmp_path / "other.pth", to="torchvision")
    assert not list(tmp_path.iterdir())


def test_a_mean_of_the_user_takes_its_place(net: Any, tmp_path: Path) -> None:
    path = saved(net.state_dict(), tmp_path / "alexnet.pth")
    assert (load_model(path, devices=["cpu:0"], mean=(1, 2, 3)).mean == [1, 2, 3]).all()
    assert content_of(path).options == torchvision.OPTIONS


@pytest.mark.usefixtures("full_size")
def test_torchvision_itself(images: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    try:
        from torchvision.models import alexnet
    except (ImportError, RuntimeError) as error:  # the latter where it was built with another PyTorch
        pytest.skip(f"no torchvision that fits: {error}")
    theirs = alexnet().eval()
    found = load_model(saved(theirs.state_dict(), tmp_path / "alexnet.pth"), devices=["cpu:0"])
    assert_same_logits(found, theirs, images)
    convert(found, tmp_path / "back.pth", to="torchvision")
    theirs.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True))
