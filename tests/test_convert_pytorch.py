"""State dicts of PyTorch: its own module computes the same logits, and what is written comes back bit for bit."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from exchange import NETS, channels_first, difference, images_for
from foreign import ROUNDING, assert_equal, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model

torch = pytest.importorskip("torch")
torch_module = pytest.importorskip("pyalexnet.formats.torch_module")

ENDINGS = [".pth", ".safetensors"]


@pytest.fixture(scope="module", params=NETS)
def model(request: pytest.FixtureRequest) -> Classifier:
    return model_of(NETS[request.param])


@pytest.fixture(scope="module")
def paper() -> Classifier:
    return model_of({})


@pytest.mark.parametrize("ending", ENDINGS)
def test_pytorch_computes_the_same(model: Classifier, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    convert(model, path, to="pytorch")
    net = torch_module.load(str(path)).eval()
    assert net.classes == list(model.classes)
    x = images_for(model)
    with torch.inference_mode():
        assert difference(net(torch.from_numpy(channels_first(x))).numpy(), model, x) < ROUNDING


@pytest.mark.parametrize("ending", ENDINGS)
def test_there_and_back(model: Classifier, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    convert(model, path, to="pytorch")
    assert_equal(load_model(path, devices=["cpu:0"]), model)
    convert(path, tmp_path / "back.safetensors")
    assert_equal(load_model(tmp_path / "back.safetensors", devices=["cpu:0"]), model)


def test_the_module_needs_pytorch_alone_and_prepares_images(paper: Classifier, tmp_path: Path) -> None:
    convert(paper, tmp_path / "model.pth")
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "module.py").write_bytes(Path(torch_module.__file__).read_bytes())
    program = (
        "import sys, numpy, torch, module\n"
        "net = module.load('model.pth').eval()\n"
        "images = torch.from_numpy(numpy.load('images.npy')).permute(0, 3, 1, 2)\n"
        "numpy.save('logits.npy', net(net.prepared(images)).detach().numpy())\n"
        "assert not any(name.startswith('pyalexnet') for name in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=120)
    x = images.astype(np.float32)[:, 14:241, 14:241] - paper.mean[14:241, 14:241]
    assert difference(np.load(tmp_path / "logits.npy"), paper, x) < ROUNDING


@pytest.mark.long
def test_what_pytorch_trained_on_is_read(paper: Classifier, tmp_path: Path) -> None:
    convert(paper, tmp_path / "model.pth")
    net = torch_module.load(str(tmp_path / "model.pth"))
    x = images_for(paper, 1)
    net(torch.from_numpy(channels_first(x))).sum().backward()
    torch.optim.SGD(net.parameters(), lr=1e-6).step()
    torch.save(net.state_dict(), tmp_path / "trained.pth")
    trained = load_model(tmp_path / "trained.pth", devices=["cpu:0"])
    assert (trained.net.parameters()["fc8.bias"] != paper.net.parameters()["fc8.bias"]).all()
    with torch.inference_mode():
        assert difference(net.eval()(torch.from_numpy(channels_first(x))).numpy(), trained, x) < ROUNDING


def as_pytorch_saves(net: Any) -> dict[str, Any]:
    """What a state dict of a net may be in, or be called."""
    state, optimizer = net.state_dict(), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).state_dict()
    return {
        "DataParallel": torch.nn.DataParallel(net).state_dict(),
        "torch.compile": {f"module._orig_mod.{name}": value for name, value in state.items()},
        "a checkpoint": {"epoch": 3, "state_dict": state, "optimizer": optimizer},
        "a checkpoint of Lightning": {
            "state_dict": {f"model.{name}": value for name, value in state.items()},
            "optimizer_states": [optimizer],
            "pytorch-lightning_version": "2.5",
        },
        "parameters": {**dict(net.named_parameters()), "mean": net.mean, "_extra_state": net.get_extra_state()},
        "channels last": {
            name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
            for name, value in state.items()
        },
    }


@pytest.mark.parametrize("ending", ["pth", "ckpt"])
def test_what_wrappers_and_trainers_save_is_read(paper: Classifier, ending: str, tmp_path: Path) -> None:
    convert(paper, tmp_path / "model.pth")
    for name, saved in as_pytorch_saves(torch_module.load(str(tmp_path / "model.pth"))).items():
        torch.save(saved, tmp_path / f"{name}.{ending}")
        assert_equal(load_model(tmp_path / f"{name}.{ending}", devices=["cpu:0"]), paper)


def test_a_prefix_goes_in_safetensors_too(paper: Classifier, tmp_path: Path) -> None:
    state = {f"module.{name}": value.numpy() for name, value in state_of(paper, tmp_path).items()}
    safetensors.numpy.save_file(state, tmp_path / "wrapped.safetensors")
    assert_equal(load_model(tmp_path / "wrapped.safetensors", devices=["cpu:0"]), paper)


def test_a_whole_module_is_refused(paper: Classifier, tmp_path: Path) -> None:
    convert(paper, tmp_path / "model.pth")
    torch.save(torch_module.load(str(tmp_path / "model.pth")), tmp_path / "whole.pth")
    message = r"save net\.state_dict\(\) instead of a whole module \(.*torch_module\.AlexNet\)"
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(tmp_path / "whole.pth")
    assert "\x1b" not in str(caught.value)
    assert "trust" not in str(caught.value)


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_no_code_of_a_file_is_executed(tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    for name, save in (
        ("zip.pth", torch.save),
        ("plain.pth", lambda value, path: path.write_bytes(pickle.dumps(value))),
    ):
        save({"conv1.weight": Hostile(planted)}, tmp_path / name)
        with pytest.raises(ModelFileError, match=rf"{name} holds no weights that PyTorch reads"):
            load_model(tmp_path / name)
        assert not planted.exists()


@pytest.mark.parametrize("kept", [0, 5, 1000, 10**6])
@pytest.mark.parametrize("ending", ENDINGS)
def test_cut_short(paper: Classifier, ending: str, kept: int, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    convert(paper, path, to="pytorch")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"holds no weights|is cut short"):
        convert(path, tmp_path / "back.safetensors")
    assert os.listdir(tmp_path) == [path.name]


def state_of(model: Classifier, tmp_path: Path) -> dict[str, Any]:
    convert(model, tmp_path / "model.pth")
    return dict(torch.load(tmp_path / "model.pth", weights_only=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv1.weight": torch.zeros(96, 3, 11, 10)},
            r"conv1\.weight is \(96, 3, 11, 10\); it must be \(96, 3, 11, 11\)",
        ),
        ({"conv1.weight": torch.zeros(1).expand(10**9)}, r"'conv1\.weight' is no tensor that has all its values"),
        ({"conv1.bias": torch.zeros(96).to_sparse()}, r"'conv1\.bias' is no tensor that has all its values"),
        ({"conv1.bias": torch.zeros(96, device="meta")}, r"'conv1\.bias' is no tensor that has all its values"),
        ({"conv1.bias": torch._neg_view(torch.zeros(96))}, r"'conv1\.bias' is no tensor that has all its values"),
        ({5: torch.zeros(2)}, r"holds tensor\(.*\) as 5; it must be a state dict: tensors by name"),
        ({"a._extra_state": torch.zeros(2)}, r"'a\._extra_state' is \(2,\); it must be absent"),
        ({"a": {"_extra_state": 1}, "b": {"_extra_state": 2}}, r"holds several state dicts, \['a', 'b'\]"),
        ({"conv1.bias": torch.zeros(96, dtype=torch.float64)}, r"conv1\.bias has dtype float64; it must be float32"),
        ({"conv1.bias": torch.full((96,), torch.nan)}, r"conv1\.bias has 96 NaN or infinite"),
        ({"conv6.bias": torch.zeros(96)}, r"'conv6\.bias' is \(96,\); it must be absent"),
        ({"mean": torch.full((3, 256, 256), 300.0)}, r"the mean is from 300\.0 to 300\.0; it must be from 0 to 255"),
        ({"_extra_state": torch.zeros(3)}, "has no _extra_state that tells the net's options"),
        ({"_extra_state": torch.zeros(3, dtype=torch.uint8)}, "is no JSON"),
        ({"epoch": 5}, "holds 5 as 'epoch'; it must be a state dict"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(next(iter(value))),
)
def test_other_state_dicts_are_refused(
    paper: Classifier, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    torch.save(state_of(paper, tmp_path) | changes, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match=message):
        load_model(tmp_path / "other.pth")


def test_a_description_that_lies_is_refused(paper: Classifier, tmp_path: Path) -> None:
    state = state_of(paper, tmp_path)
    about = json.loads(bytes(state["_extra_state"].tolist()))
    about["options"]["towers"] = 1
    state["_extra_state"] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match=r"conv1\.bias is \(96,\); it must be \(48,\)"):
        load_model(tmp_path / "other.pth")


def test_an_archive_that_grows_is_refused(paper: Classifier, tmp_path: Path) -> None:
    convert(paper, tmp_path / "model.pth")
    with zipfile.ZipFile(tmp_path / "model.pth") as archive, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as bomb:
        for each in archive.infolist():
            bomb.writestr(
                each, bytes(10**7) if each.filename.endswith("/0") else archive.read(each), zipfile.ZIP_DEFLATED
            )
    with pytest.raises(ModelFileError, match=r"bytes unpack to .*; they must be stored as they are"):
        load_model(tmp_path / "bomb.pth")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_weights_of_half_the_bits_are_what_they_stand_for(
    paper: Classifier, half: str, ending: str, tmp_path: Path
) -> None:
    state = state_of(paper, tmp_path)
    halves = {
        name: value.to(getattr(torch, half)) if value.is_floating_point() else value for name, value in state.items()
    }
    path = tmp_path / f"half{ending}"
    if ending == ".pth":
        torch.save(halves, path)
    else:
        safetensors.torch.save_file(halves, path)
    found = load_model(path, devices=["cpu:0"])
    torch.save({name: value.float() if value.is_floating_point() else value for name, value in halves.items()}, path)
    assert_equal(found, load_model(path.rename(tmp_path / "whole.pth"), devices=["cpu:0"]))
    assert (found.net.parameters()["fc8.bias"] != 0).all()
