"""Pickled dicts of weights: read as NumPy reads them and computed as PyTorch does, and no pickle is executed."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange import difference, images_for
from foreign import BVLC, ROUNDING, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model
from pyalexnet.formats import pickles

HEADER = b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }"
LAYERS = (*(f"conv{number}" for number in range(1, 6)), "fc6", "fc7", "fc8")


def npy(content: bytes) -> bytes:
    """A file of one object."""
    return HEADER.ljust(79) + b"\n" + content


@pytest.fixture(scope="module")
def model() -> Classifier:
    return model_of(BVLC)


@pytest.fixture(scope="module")
def weights(model: Classifier) -> dict[str, list[Any]]:
    """What the file has of it, whose images are BGR."""
    parameters = model.net.parameters() | {"conv1.weight": model.net.parameters()["conv1.weight"][:, :, ::-1].copy()}
    return {name: [parameters[f"{name}.weight"], parameters[f"{name}.bias"]] for name in LAYERS}


def of_python_2(weights: dict[str, list[Any]]) -> bytes:
    """As Python 2 wrote it, to which texts were bytes."""

    def short(text: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(text)]) + text

    def array(values: Any) -> bytes:
        extents = b"".join(pickle.BININT + struct.pack("<i", extent) for extent in values.shape)
        data = values.tobytes()
        return b"".join(
            [
                b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R",
                b"(K\x01(" + extents + b"tcnumpy\ndtype\n" + short(b"f4") + b"K\x00K\x01\x87R(K\x03" + short(b"<"),
                b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(data)) + data + b"tb",
            ]
        )

    layers = (short(name.encode()) + b"](" + b"".join(map(array, parts)) + b"e" for name, parts in weights.items())
    return npy(b"\x80\x02" + whole(b"}(" + b"".join(layers) + b"u") + b".")


def whole(layers: bytes) -> bytes:
    """The array of one object that NumPy saves for a dict."""
    dtype = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return array + b"(K\x01)" + dtype + b"\x89](" + layers + b"etb"


def of_numpy(weights: dict[str, list[Any]]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(weights), allow_pickle=True)
    return file.getvalue()


WAYS: dict[str, Callable[[dict[str, list[Any]]], bytes]] = {
    "Python 2": of_python_2,
    "NumPy": of_numpy,
    **{
        f"protocol {number}": lambda weights, number=number: npy(pickle.dumps(np.array(weights), number))
        for number in (2, 3, 4, 5)
    },  # type: ignore[misc]
    "columns first": lambda weights: of_numpy(
        {name: [np.asfortranarray(weight), bias] for name, (weight, bias) in weights.items()}
    ),
    "by name": lambda weights: of_numpy(
        {name: {"weights": weight, "biases": bias} for name, (weight, bias) in weights.items()}  # type: ignore[misc]
    ),
}


def read(path: Path, **given: Any) -> Classifier:
    with pytest.warns(UserWarning, match="has weights alone: its net is taken to be BVLC's AlexNet, for images as BGR"):
        return load_model(path, devices=["cpu:0"], mean=(122.679, 116.669, 104.007), **given)


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_read_bit_for_bit(
    model: Classifier, weights: dict[str, list[Any]], way: str, tmp_path: Path
) -> None:
    path = tmp_path / "bvlc_alexnet.npy"
    path.write_bytes(WAYS[way](weights))
    by_numpy = np.load(path, allow_pickle=True, encoding="bytes").item()
    assert {name.decode() if isinstance(name, bytes) else name for name in by_numpy} == {*LAYERS}
    found = read(path)
    assert (found.net.options.lrn_over, found.net.options.lrn_k, found.net.options.lrn_alpha) == ("both", 1.0, "caffe")
    expected = model.net.parameters()
    assert all(value.tobytes() == expected[name].tobytes() for name, value in found.net.parameters().items())


def test_pytorch_computes_the_same(weights: dict[str, list[Any]], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    path = tmp_path / "bvlc_alexnet.npy"
    path.write_bytes(of_numpy(weights))
    found = read(path)
    x = images_for(found)

    h = torch.from_numpy(x[..., ::-1].copy()).permute(0, 3, 1, 2)
    for name in LAYERS[:5]:
        weight, bias = map(torch.from_numpy, weights[name])
        groups = 2 if name in ("conv2", "conv4", "conv5") else 1
        padding = {"conv1": 0, "conv2": 2}.get(name, 1)
        stride = 4 if name == "conv1" else 1
        h = functional.conv2d(h, weight.permute(3, 2, 0, 1), bias, stride, padding, groups=groups).relu()
        if name in ("conv1", "conv2"):
            h = functional.local_response_norm(h, 5, 1e-4, 0.75, 1.0)
        if name in ("conv1", "conv2", "conv5"):
            h = functional.max_pool2d(h, 3, 2)
    h = h.permute(0, 2, 3, 1).flatten(1)
    for name in LAYERS[5:]:
        weight, bias = map(torch.from_numpy, weights[name])
        h = h @ weight + bias
        h = h if name == "fc8" else h.relu()
    assert difference(h.numpy(), found, x) < ROUNDING


class Hostile:
    """Unpickled, it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


PLANTED = "planted"
HOSTILE: dict[str, Any] = {
    "a call": Hostile(os.mkdir, PLANTED),
    "a call deep in": {"conv1": [Hostile(os.mkdir, PLANTED), 5]},
    "eval": Hostile(eval, f"__import__('os').mkdir('{PLANTED}')"),
    "getattr": Hostile(getattr, "", "join"),
    "a class": collections.OrderedDict(a=1),
    "a set": {1, 2},
}
RAW = {
    "a state for a function": (b"c_codecs\nencode\n}(X\x01\x00\x00\x00aK\x01ub.", "gives .* a state"),
    "a memo of any size": (b"\x80\x02}r\xff\xff\xff\x7f.", r"holds no dict of layers"),
    "bytes of any size": (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".", "its pickle is damaged"),
    "an array of any size": (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".", "its pickle is damaged"),
    "persistent": (b"\x80\x02K\x01Q.", "has the instruction BINPERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "has the instruction EXT1"),
    "an instance": (b"(ios\nmkdir\n.", "has the instruction INST"),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "has the instruction NEWOBJ"),
    "nothing": (b"", "its pickle is damaged"),
    "a number": (b"\x80\x02K\x01.", "holds no dict of layers"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_no_pickle_is_executed(name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved = np.empty((), object)
    saved[()] = HOSTILE[name]
    (tmp_path / "hostile.npy").write_bytes(npy(pickle.dumps(saved, protocol)))
    with pytest.raises(ModelFileError, match=r"its pickle (asks for|has the instruction)"):
        convert("hostile.npy", "model.safetensors", mean=(1, 2, 3))
    assert os.listdir(tmp_path) == ["hostile.npy"]


@pytest.mark.parametrize("name", RAW)
def test_other_pickles_are_refused(name: str, tmp_path: Path) -> None:
    content, message = RAW[name]
    (tmp_path / "other.npy").write_bytes(npy(content))
    with pytest.raises(ModelFileError, match=message):
        load_model(tmp_path / "other.npy")
    assert not vars(pickles._encode)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1": [np.zeros((11, 11, 3, 64), np.float32), np.zeros(64, np.float32)]}, r"'conv1.bias' is \(64,\)"),
        ({"conv9": [np.zeros(3, np.float32), np.zeros(3, np.float32)]}, r"'conv9.bias' is \(3,\); it must be absent"),
        ({"fc8": [np.zeros((256, 7)), np.zeros(7)]}, "has dtype 'f8'; it must be float32"),
        ({"fc8": [np.zeros((256, 7), ">f4"), np.zeros(7, ">f4")]}, "has dtype 'f4'; it must be float32"),
        ({"fc8": [np.array([{}]), 5]}, "has dtype 'O8'; it must be float32"),
        ({"fc8": 5}, "layer 'fc8' must be a list of weights and biases"),
        ({"fc8": [1, 2]}, "weight of layer 'fc8' must be an array"),
        ({5: [1, 2]}, "layer 5 must be a list"),
        ({"conv1": [np.full((11, 11, 3, 96), np.nan, np.float32), np.zeros(96, np.float32)]}, "NaN or infinite"),
    ],
)
def test_other_weights_are_refused(weights: dict[str, list[Any]], changes: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.npy").write_bytes(of_numpy(weights | changes))
    with pytest.raises(ModelFileError, match=message):
        load_model(tmp_path / "other.npy")


@pytest.mark.parametrize("kept", [0, 5, 100, 10**6])
def test_cut_short(weights: dict[str, list[Any]], kept: int, tmp_path: Path) -> None:
    (tmp_path / "cut.npy").write_bytes(of_numpy(weights)[:kept])
    with pytest.raises(ModelFileError, match=r"cut\.npy(: its pickle is damaged| is no NumPy file)"):
        load_model(tmp_path / "cut.npy")


def test_plain_arrays_are_no_weights(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ModelFileError, match=r"array\.npy is no NumPy file with a dict of weights"):
        load_model(tmp_path / "array.npy")
    with pytest.raises(ValueError, match=r"cannot write .*model\.npy: the formats and their endings are pyalexnet \("):
        convert(tmp_path / "array.npy", tmp_path / "model.npy")
