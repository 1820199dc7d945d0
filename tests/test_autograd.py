"""The module on our kernels: values, gradients, hooks and state as PyTorch's own layers have them."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyalexnet.architecture import feature_names
from pyalexnet.formats.conversion import convert, load_model
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import save_model
from pyalexnet.net.network import AlexNet

torch = pytest.importorskip("torch")
torch_module = pytest.importorskip("pyalexnet.formats.torch_module")
AlexNetModule = pytest.importorskip("pyalexnet.evaluation.autograd").AlexNetModule

CLASSES = ("ant", "bee", "cat", "dog")
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "caffe": {"lrn_over": "both", "lrn_alpha": "caffe", "lrn_k": 1.0, "pool_before_lrn": True},
    "source2012": {"relu1_last": True, "second_lrn": True, "crop": 224, "conv_algorithm": "direct"},
    "one tower": {"towers": 1, "conv_algorithm": "fourier"},
    "others": {"activation": "tanh", "pooling": "plain", "lrn": False},
}

# Five products in a row of up to 9216 terms: rounding of about sqrt(9216) ulp each, of the largest value.
ROUNDING = 5 * np.sqrt(9216) * np.finfo(np.float32).eps
# In a whole net rounding also decides a few of a layer's hundred thousand ReLUs and maxima otherwise, of which each
# moves a gradient by about the root of its share.
DECIDED_OTHERWISE = 1e-2


@pytest.fixture(scope="module", params=OPTIONS)
def model(request: pytest.FixtureRequest) -> Classifier:
    return classifier(**OPTIONS[request.param])


def classifier(**options: Any) -> Classifier:
    """A net with weights large enough that its outputs differ from image to image."""
    net = AlexNet(
        len(CLASSES), devices=["cpu:0"], seed=1, **({"weight_init": "source2012", "bias_init": "caffe"} | options)
    )
    mean = np.random.default_rng(2).integers(90, 130, (256, 256, 3)).astype(np.float32)
    return Classifier(net, CLASSES, mean)


@pytest.fixture(scope="module")
def paper() -> Classifier:
    return classifier()


def images(count: int = 2) -> Any:
    """uint8 (N, 3, 256, 256)."""
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (count, 3, 256, 256)).astype(np.uint8))


def peer_of(model: Classifier, folder: Path) -> Any:
    """The net of PyTorch's own layers, in double precision."""
    convert(model, folder / "model.pth")
    return torch_module.load(str(folder / "model.pth")).double().eval()


def relative_error(found: Any, expected: Any) -> float:
    difference = torch.linalg.vector_norm(found.detach().double() - expected.detach())
    return float(difference / torch.linalg.vector_norm(expected.detach()))


def test_logits_and_all_gradients_are_pytorchs(model: Classifier, tmp_path: Path) -> None:
    module, peer = AlexNetModule(model).eval(), peer_of(model, tmp_path)
    x = module.prepared(images()).requires_grad_()
    wide = x.detach().double().requires_grad_()
    weights = torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 1.0, 2.0, 0.0]])
    found, expected = module(x), peer(wide)
    assert found.dtype == torch.float32
    assert relative_error(found, expected) <= ROUNDING
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert relative_error(x.grad, wide.grad) <= DECIDED_OTHERWISE
    peers = dict(peer.named_parameters())
    assert list(dict(module.named_parameters())) == list(peers)
    for name, parameter in module.named_parameters():
        assert parameter.shape == peers[name].shape
        assert relative_error(parameter.grad, peers[name].grad) <= DECIDED_OTHERWISE, name


def test_logits_and_features_are_the_nets(model: Classifier) -> None:
    """A forward hook on the submodule of a layer's name sees what features() gives, channels first."""
    module = AlexNetModule(model).eval()
    x = module.prepared(images())
    seen: dict[str, Any] = {}
    for name, child in module.named_children():
        child.register_forward_hook(lambda _module, _given, result, name=name: seen.setdefault(name, result))
    logits = module(x)
    net, names = model.net, feature_names(model.net.options)
    assert [name for name in seen if not name.startswith("dropout")] == list(names)
    given = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    given = np.pad(given, ((0, 0), (0, 227 - given.shape[1]), (0, 227 - given.shape[1]), (0, 0)))
    for name, expected in net.activations(given, list(names)).items():
        found = seen[name].detach().numpy()
        found = found.transpose(0, 2, 3, 1) if found.ndim == 4 else found
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max(), err_msg=name)
    np.testing.assert_array_equal(logits.detach().numpy(), seen["fc8"].detach().numpy())


@pytest.mark.parametrize("name", ["conv1", "conv2", "lrn1", "lrn_in_map2", "pool1", "pool2", "fc6"])
def test_each_step_has_pytorchs_gradients(name: str, tmp_path: Path) -> None:
    """By itself, where no rounding of the steps before decides anything."""
    model = classifier(second_lrn=True, relu1_last=True)
    module, peer = AlexNetModule(model).eval(), peer_of(model, tmp_path)
    generator = torch.Generator().manual_seed(4)
    channels = {"conv1": 3, "conv2": 96, "lrn1": 96, "pool1": 96}.get(name, 256)
    side = {"conv1": 35, "fc6": 6}.get(name, 13)
    x = torch.randn((2, channels, side, side), generator=generator).requires_grad_()
    wide = x.detach().double().requires_grad_()

    def norm(values: Any) -> Any:
        parts = [torch.nn.functional.local_response_norm(part, 5, 5e-4, 0.75, 2.0) for part in values.chunk(2, 1)]
        return torch.cat(parts, 1)

    of_peer = {
        "conv1": peer.conv1,
        "conv2": lambda values: torch.relu(peer.conv2(values)),
        "lrn1": norm,
        "lrn_in_map2": lambda v: v / (1 + 0.001 * torch.nn.functional.avg_pool2d(v**2, 5, 1, 2)) ** 0.75,
        "pool2": lambda values: torch.nn.functional.max_pool2d(values, 3, 2),
        "pool1": lambda values: torch.relu(torch.nn.functional.max_pool2d(values, 3, 2)),
        "fc6": lambda values: torch.relu(peer.fc6(values.flatten(1))),
    }[name]
    found, expected = getattr(module, name)(x), of_peer(wide)
    assert found.shape == expected.shape
    assert relative_error(found, expected) <= ROUNDING
    dy = torch.randn(found.shape, generator=generator)
    found.backward(dy)
    expected.backward(dy.double())
    assert relative_error(x.grad, wide.grad) <= ROUNDING
    for kind, parameter in getattr(module, name).named_parameters():
        assert relative_error(parameter.grad, getattr(getattr(peer, name), kind).grad) <= ROUNDING, kind


def test_only_what_asks_for_a_gradient_gets_one(paper: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyalexnet.evaluation import autograd

    module = AlexNetModule(paper).eval().requires_grad_(False)
    for kernels in ("_CONV", "_LINEAR"):
        plain = getattr(autograd, kernels)
        monkeypatch.setattr(autograd, kernels, plain._replace(backward_weight=pytest.fail))
    x = module.prepared(images(1)).requires_grad_()
    module(x)[0, 0].backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not module(module.prepared(images(1))).requires_grad


def test_dropout_is_for_training_and_follows_pytorchs_seed(paper: Classifier) -> None:
    module = AlexNetModule(paper)
    assert module.training
    x = module.prepared(images())
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append((module(x).detach(), module(x).detach()))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    ones = torch.ones(64, 256, requires_grad=True)
    dropped = module.dropout6(ones)
    dropped.sum().backward()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}  # divided by the chance to stay
    assert torch.equal(ones.grad, dropped.detach())
    module.eval()
    assert torch.equal(module.dropout6(ones), ones)
    assert torch.equal(module(x), module(x))


def test_a_gradient_of_a_gradient_is_refused(paper: Classifier) -> None:
    module = AlexNetModule(paper).eval()
    x = module.prepared(images(1)).requires_grad_()
    for of in (x, module.fc8.weight):
        with pytest.raises(RuntimeError, match="no gradient of a gradient: create_graph is True; it must be False"):
            torch.autograd.grad(module(x)[0, 0], of, create_graph=True)


def test_a_step_of_an_optimizer_moves_it_as_pytorchs_own(paper: Classifier, tmp_path: Path) -> None:
    module, peer = AlexNetModule(paper).eval(), peer_of(paper, tmp_path)
    x, labels = module.prepared(images()), torch.tensor([1, 3])
    before = {name: value.detach().double() for name, value in module.named_parameters()}
    for net, given in ((module, x), (peer, x.double())):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(given), labels).backward()
            optimizer.step()
    for name, expected in peer.named_parameters():
        moved = dict(module.named_parameters())[name].detach().double() - before[name]
        assert relative_error(moved, expected - before[name]) <= DECIDED_OTHERWISE, name


# Models, files, copies --------------------------------------------------------------------------------------------


def test_state_dicts_go_to_and_from_files(paper: Classifier, tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", paper)
    module = AlexNetModule(tmp_path / "model.safetensors").eval()
    torch.save(module.state_dict(), tmp_path / "again.pth")
    again = load_model(tmp_path / "again.pth", devices=["cpu:0"])
    for name, value in paper.net.parameters().items():
        np.testing.assert_array_equal(again.net.parameters()[name], value, err_msg=name)
    np.testing.assert_array_equal(again.mean, paper.mean)
    assert again.classes == paper.classes == tuple(module.classes)
    other = AlexNetModule(classifier(weight_init="caffe")).eval()
    other.load_state_dict(torch.load(tmp_path / "again.pth", weights_only=True))
    x = module.prepared(images(1))
    assert torch.equal(other(x), module(x))
    plain = torch_module.load(str(tmp_path / "again.pth"))
    plain.load_state_dict(module.state_dict())


def test_copies_and_pickles_compute_the_same(paper: Classifier) -> None:
    module = AlexNetModule(paper).eval()
    x = module.prepared(images(1))
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(again(x), module(x))
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), module(x))


def test_training_the_module_leaves_the_model_alone(paper: Classifier) -> None:
    before = paper.net.parameters()
    module = AlexNetModule(paper)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.mean.zero_()
    assert paper.mean.any()
    for name, value in paper.net.parameters().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda x: x[0], ValueError, r"x has shape \(3, 227, 227\); it must be \(N, 3, 227, 227\), as prepared\(\)"),
        (lambda x: x[..., :224, :224], ValueError, r"x has shape \(1, 3, 224, 224\); it must be \(N, 3, 227, 227\)"),
        (lambda x: x.permute(0, 2, 3, 1), ValueError, r"x has shape \(1, 227, 227, 3\); it must be"),
        (lambda x: x.double(), TypeError, r"x has dtype torch\.float64; it must be float32"),
        (lambda x: x.half(), TypeError, r"x has dtype torch\.float16; it must be float32"),
        (lambda x: x[:0], ValueError, r"x has shape \(0, 3, 227, 227\); it must not be empty"),
        (lambda x: x.numpy(), TypeError, r"x is an array of shape \(1, 3, 227, 227\).*; it must be a PyTorch tensor"),
        (lambda x: x.to("meta"), ValueError, r"x is on meta; it must be on cpu, as the parameters are"),
    ],
)
def test_wrong_input_is_named(paper: Classifier, change: Any, error: type[Exception], told: str) -> None:
    module = AlexNetModule(paper).eval()
    with pytest.raises(error, match=f"^{told}"):
        module(change(module.prepared(images(1))))


def test_what_is_no_model_is_named(tmp_path: Path, paper: Classifier) -> None:
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        AlexNetModule(tmp_path / "nowhere.safetensors")
    with pytest.raises(TypeError, match="model is 5; it must be a path"):
        AlexNetModule(5)  # type: ignore[arg-type]
    convert(paper, tmp_path / "model.caffemodel")
    with pytest.raises(ValueError, match=r"mean is None, but .*model\.caffemodel has no mean image"):
        AlexNetModule(tmp_path / "model.caffemodel")


@pytest.mark.long
def test_the_package_imports_no_pytorch() -> None:
    code = "import sys, pyalexnet; assert 'torch' not in sys.modules; pyalexnet.autograd; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, or a PyTorch without CUDA")
def test_on_a_gpu_it_computes_there(paper: Classifier) -> None:
    on_cores, module = AlexNetModule(paper).eval(), AlexNetModule(paper).eval().cuda()
    x = on_cores.prepared(images())
    given = x.cuda().requires_grad_()
    found, expected = module(given), on_cores(x)
    assert found.device.type == "cuda"
    assert relative_error(found.cpu(), expected.double()) <= ROUNDING
    found.sum().backward()
    assert given.grad.device.type == "cuda"
    with pytest.raises(ValueError, match="x is on cpu; it must be on cuda:0, as the parameters are"):
        module(x)
