"""Checkpoints of cuda-convnet: computed as their own layers say, read bit for bit, and no pickle is executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from checkpoints_of_2012 import Layers, as_list, checkpoint, of_python_2, of_python_3
from exchange import difference, images_for
from foreign import ROUNDING, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model

torch = pytest.importorskip("torch")

MEAN = (122.679, 116.669, 104.007)
TRAINING = {"weight_init": "paper", "bias_init": "paper"}  # what only training reads, and no such file tells

NETS: dict[str, dict[str, Any]] = {
    "net 145": {"lrn_alpha": "caffe", "second_lrn": True, "relu1_last": True, "crop": 224},
    "the paper's": {"bias_init": "caffe", "dropout": 0.0},
    "tanh": {"activation": "tanh", "lrn": False, "dropout": 0.75},
    "one tower": {"towers": 1},
    "cuda-convnet2's": {
        "filters": "2014",
        "towers": 1,
        "relu1_last": True,
        "lrn_alpha": "caffe",
        "lrn_k": 1.0,
        "crop": 224,
    },
    "groups": {"lrn_over": "both", "lrn_k": 1.0, "pool_before_lrn": True},
}

WAYS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "Python 2": of_python_2,
    "a list": lambda whole: of_python_2(as_list(whole)),
    "protocol 2": lambda whole: of_python_3(whole, 2),
    "protocol 5": lambda whole: of_python_3(whole, 5),
}


def computed(layers: Layers, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the layers say, one by one and in float64, of images (N, size, size, 3) RGB less their mean."""
    outputs = {"data": torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2)}

    def of(name: str) -> Any:
        if name not in outputs:
            outputs[name] = compute(layers[name])
        return outputs[name]

    def compute(layer: dict[str, Any]) -> Any:
        given = [of(name) for name in layer["inputs"]]
        match layer["type"]:
            case "conv":
                total = 0
                for number, inputs in enumerate(given):
                    kernel, stride = layer["filterSize"][number], layer["stride"][number]
                    padding, groups = -layer["padding"][number], layer["groups"][number]
                    weight = torch.from_numpy(layer["weights"][number].astype(np.float64))
                    weight = weight.reshape(-1, kernel, kernel, weight.shape[1]).permute(3, 0, 1, 2)
                    side = inputs.shape[-1] + 2 * padding
                    beyond = -(side - kernel) % stride
                    padded = torch.nn.functional.pad(inputs, (padding, padding + beyond) * 2)
                    total = total + torch.nn.functional.conv2d(padded, weight, stride=stride, groups=groups)
                return total + torch.from_numpy(layer["biases"].astype(np.float64)).reshape(1, -1, 1, 1)
            case "fc":
                parts = zip(given, layer["weights"], strict=True)
                products = [part.flatten(1) @ torch.from_numpy(w.astype(np.float64)) for part, w in parts]
                return sum(products) + torch.from_numpy(layer["biases"].astype(np.float64))
            case "neuron":
                return torch.tanh(given[0]) if layer["neuron"]["type"] == "tanh" else given[0].relu()
            case "pool":
                return torch.nn.functional.max_pool2d(given[0], layer["sizeX"], layer["stride"], ceil_mode=True)
            case "cmrnorm":
                size, channels = layer["size"], given[0].shape[1]
                squares = torch.nn.functional.pad(given[0] ** 2, (0, 0, 0, 0, size // 2, size // 2))
                sums = sum(squares[:, shift : shift + channels] for shift in range(size))
                return given[0] / (layer["minDiv"] + layer["scale"] * sums) ** layer["pow"]
            case "rnorm":
                size = layer["size"]
                sums = torch.nn.functional.avg_pool2d(given[0] ** 2, size, 1, size // 2, divisor_override=1)
                return given[0] / (1 + layer["scale"] * sums) ** layer["pow"]
            case "dropout":
                return given[0]
            case "hs" | "dropout2":
                return layer["keep"] * given[0]
        raise AssertionError(layer["type"])

    found: npt.NDArray[np.float64] = of("fc8").numpy()
    return found.astype(np.float32)


@pytest.fixture(scope="module", params=NETS)
def model(request: pytest.FixtureRequest) -> Classifier:
    return model_of(NETS[request.param])


@pytest.fixture(scope="module")
def of_2012() -> Classifier:
    return model_of(NETS["net 145"])


def read(path: Path) -> Classifier:
    return load_model(path, devices=["cpu:0"], mean=MEAN)


def test_logits_are_what_the_layers_say(model: Classifier, tmp_path: Path) -> None:
    whole = checkpoint(model)
    path = tmp_path / "90.1"
    path.write_bytes(of_python_2(whole))
    found = read(path)
    x = images_for(found)
    assert difference(computed(whole["model_state"]["layers"], x), found, x) < ROUNDING


@pytest.mark.parametrize(("kind", "dropout"), [("dropout", 0.4), ("dropout2", 0.5)])
def test_dropouts_of_cuda_convnet2(kind: str, dropout: float, tmp_path: Path) -> None:
    """One divides by what it keeps when the net learns, the other multiplies by it when it does not."""
    model = model_of(NETS["cuda-convnet2's"] | {"dropout": dropout})
    whole = checkpoint(model, kind)
    (tmp_path / "90.1").write_bytes(of_python_2(whole))
    found = read(tmp_path / "90.1")
    assert found.net.options.dropout == pytest.approx(dropout)
    for name, value in model.net.parameters().items():
        np.testing.assert_array_equal(found.net.parameters()[name], value)
    x = images_for(found)
    assert difference(computed(whole["model_state"]["layers"], x), found, x) < ROUNDING


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_read_bit_for_bit(model: Classifier, way: str, tmp_path: Path) -> None:
    path = tmp_path / ("90.1" if way in ("Python 2", "a list") else "checkpoint.pkl")
    path.write_bytes(WAYS[way](checkpoint(model)))
    found = read(path)
    assert vars(found.net.options) == vars(model.net.options) | TRAINING
    expected = model.net.parameters()
    assert all(value.tobytes() == expected[name].tobytes() for name, value in found.net.parameters().items())


def test_the_pickle_is_one(of_2012: Classifier) -> None:
    """What is written here as Python 2 would is what Python reads as it was meant."""
    whole = {**checkpoint(of_2012), "op": None}
    found = pickle.loads(of_python_2(whole), encoding="latin1")
    layers, expected = (each["model_state"]["layers"] for each in (found, whole))
    assert layers["conv3b"]["inputs"] == expected["conv3b"]["inputs"] == ["pool2b", "pool2a"]
    assert layers["conv3b"]["inputLayers"][0] is layers["pool2b"]
    for given, wanted in zip(layers["fc7a"]["weights"], expected["fc7a"]["weights"], strict=True):
        assert given.flags.f_contiguous
        assert (given == wanted).all()


def test_a_checkpoint_is_converted(of_2012: Classifier, tmp_path: Path) -> None:
    (tmp_path / "90.1").write_bytes(of_python_2(checkpoint(of_2012)))
    convert(tmp_path / "90.1", tmp_path / "model.safetensors", mean=MEAN)
    found = load_model(tmp_path / "model.safetensors", devices=["cpu:0"], verify=True)
    assert found.origin.files[0].format == "cuda-convnet"
    assert found.net.options.crop == 224
    with pytest.raises(ValueError, match=r"mean is None, but .* has no mean image"):
        load_model(tmp_path / "90.1")
    with pytest.raises(ValueError, match="cannot write"):
        convert(tmp_path / "model.safetensors", tmp_path / "other.pkl")


def change(name: str, /, **values: Any) -> Callable[[dict[str, Any]], None]:
    def changed(whole: dict[str, Any]) -> None:
        whole["model_state"]["layers"][name].update(values)

    return changed


def in_both(kind: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    def changed(whole: dict[str, Any]) -> None:
        for tower in "ab":
            whole["model_state"]["layers"][f"{kind}{tower}"].update(values)

    return changed


def nan_weight(whole: dict[str, Any]) -> None:
    weights = whole["model_state"]["layers"]["conv4a"]["weights"]
    weights[0] = np.full_like(weights[0], np.nan)


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    def changed(whole: dict[str, Any]) -> None:
        for name in names:
            del whole["model_state"]["layers"][name]

    return changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (in_both("hsfc6", keep=0.6), r"keep of hsfc6a and hsfc6b is 0\.6; it must be a power of two"),
        (in_both("hsfc6", keep=-0.5), r"keep of hsfc6a and hsfc6b is -0\.5; it must be above 0 and at most 1"),
        (in_both("hsfc6", keep=0.25), r"dropout keeps \[0\.25, 0\.5\]; it must be the same"),
        (change("hsfc6a", keep=0.25), r"keep of hsfc6a and hsfc6b is 0\.25, 0\.5; it must be a number, one for all"),
        (in_both("pool2", pool="avg"), "pool2a and pool2b pools by 'avg' from 0 on; it must be by 'max'"),
        (in_both("pool2", stride=1), "of pool2a and pool2b is"),
        (
            in_both("conv1_neuron", neuron={"type": "logistic", "params": {}}),
            "is no ReLU, and no tanh with a and b of 1",
        ),
        (in_both("conv1_neuron", neuron={"type": "tanh", "params": {"a": 1.7, "b": 0.7}}), "no tanh with a and b of 1"),
        (change("conv1_neurona", neuron={"type": "ident", "params": {}}), "not the same in both towers"),
        (in_both("rnorm1", pow=0.5), "beta of rnorm1a and rnorm1b is 0.5; it must be 0.75"),
        (in_both("rnorm1", blocked=True), "normalises by blocks"),
        (in_both("rnorm1", size="5"), "size of rnorm1a and rnorm1b is '5', '5'; it must be a whole number"),
        (in_both("cnorm2", type="cnorm"), "cnorm2a and cnorm2b is 'cnorm', which the net has not"),
        (in_both("conv2", stride=[2]), "stride of conv2a and conv2b is"),
        (in_both("conv2", groups=[2]), "groups of conv2a and conv2b is 2; it must be 1 within a tower"),
        (in_both("conv2", randSparse=[True]), "connections that no convolution here has"),
        (in_both("conv2", filterSize=[7]), "have rows that are no multiple of 7"),
        (in_both("conv2", imgSize=[0]), "windows, strides, groups or connections"),
        (in_both("conv2", padding=[None]), "padding of conv2a and conv2b is None, None; it must be one whole number"),
        (change("conv2a", weights=[]), "conv2a must have biases and as many arrays of weights as inputs, 1"),
        (change("conv2a", biases=np.zeros((64, 1), np.float32)), "and 64 biases; it must have as many as filters"),
        (change("conv2a", weights=[np.zeros((1200, 128))]), "has dtype 'f8'; it must be float32"),
        (change("conv4a", inputs=["conv3_neuronb"]), "lead on from"),
        (change("conv4a", inputs=["nothing"]), "inputs of conv4a are not names of layers"),
        (change("conv4a", name="conv4b"), "a layer's name is 'conv4b'; it must be a text of its own"),
        (nan_weight, r"conv4\.weight has .* NaN or infinite"),
        (without("probs", "logprob", "fc8"), "ends with a dropout; behind it"),
        (lambda whole: whole.pop("model_state"), "is no checkpoint of cuda-convnet: it has no model_state with layers"),
        (lambda whole: whole["model_state"].update(layers=[5]), "it has no model_state with layers"),
    ],
)
def test_other_nets_are_refused(
    of_2012: Classifier, changed: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    whole = checkpoint(of_2012)
    for layer in whole["model_state"]["layers"].values():
        layer.pop("inputLayers", None)
    changed(whole)
    (tmp_path / "90.1").write_bytes(of_python_2(whole))
    with pytest.raises(ModelFileError, match=message):
        convert(tmp_path / "90.1", tmp_path / "model.safetensors", mean=MEAN)
    assert os.listdir(tmp_path) == ["90.1"]


class Hostile:
    """Unpickled, it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "hostile",
    [Hostile(os.system, "mkdir planted"), Hostile(eval, "1"), Hostile(getattr, "", "join"), {1, 2}],
    ids=["a command", "an expression", "a method", "a set"],
)
def test_no_pickle_is_executed(hostile: Any, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "90.1").write_bytes(pickle.dumps({"model_state": {"layers": {}}, "op": [hostile]}, protocol))
    with pytest.raises(ModelFileError, match=r"90\.1: its pickle (asks for|has the instruction)"):
        convert("90.1", "model.safetensors", mean=MEAN)
    assert os.listdir(tmp_path) == ["90.1"]


DEEP = b"U\x01a" + b"".join(b"q%ch%c\x86" % (place, place) for place in range(60))  # a pair of pairs of pairs ...
RAW = {
    "a call of old": (b"\x80\x02(ios\nsystem\n.", r"asks for 'os\.system'"),
    "a class of the system": (b"\x80\x02(cposix\nsystem\nU\x02lso.", r"asks for 'posix\.system'"),
    "a state for a function": (b"\x80\x02c_codecs\nencode\n}U\x01aK\x01sb.", "gives .* a state"),
    "a text that is called": (b"\x80\x02(U\x02osU\x02lso.", "its pickle is damaged"),
    "bytes of any size": (b"\x80\x02T\xff\xff\xff\x7fabc.", "its pickle is damaged"),
    "a memo of any size": (b"\x80\x02}r\xff\xff\xff\x7f.", "no checkpoint of cuda-convnet"),
    "a key of any depth": (b"\x80\x02}" + DEEP + b"K\x01s.", "has a tuple as a key"),
    "a value of any depth": (b"\x80\x02}U\x0bmodel_state" + DEEP + b"s.", "no model_state with layers"),
    "an extension": (b"\x80\x02\x82\x01.", "has the instruction EXT1"),
    "persistent": (b"\x80\x02K\x01Q.", "has the instruction BINPERSID"),
    "a number": (b"\x80\x02K\x01.", "no checkpoint of cuda-convnet"),
    "another protocol": (b"\x80\x63K\x01.", "its pickle is damaged"),
}


@pytest.mark.parametrize("name", RAW)
def test_other_pickles_are_refused(name: str, tmp_path: Path) -> None:
    content, message = RAW[name]
    (tmp_path / "other.pkl").write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"other\.pkl.*{message}"):
        load_model(tmp_path / "other.pkl")


@pytest.mark.parametrize("kept", [0, 1, 2, 100, 10**6])
def test_cut_short(of_2012: Classifier, kept: int, tmp_path: Path) -> None:
    (tmp_path / "cut.pkl").write_bytes(of_python_2(checkpoint(of_2012))[:kept])
    with pytest.raises(ModelFileError, match=r"cut\.pkl(: its pickle is damaged| is no pickle)"):
        load_model(tmp_path / "cut.pkl")


def test_a_net_in_a_circle_is_refused(of_2012: Classifier, tmp_path: Path) -> None:
    whole = checkpoint(of_2012)
    for layer in whole["model_state"]["layers"].values():
        layer.pop("inputLayers", None)
    whole["model_state"]["layers"] = {
        "data": {"type": "data", "name": "data", "inputs": ["b"]},
        "b": {"type": "neuron", "name": "b", "inputs": ["data"], "neuron": {"type": "relu", "params": {}}},
    }
    (tmp_path / "90.1").write_bytes(of_python_2(whole))
    with pytest.raises(ModelFileError, match="data is 'data', which the net has not"):
        load_model(tmp_path / "90.1")
