"""Weights of half the bits in ONNX and in pickles: read as the float32 that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange import Images, difference, images_for, run_by_onnxruntime
from foreign import BVLC, PAPER, ROUNDING, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ml_dtypes = pytest.importorskip("ml_dtypes")

HALVES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def halved(model: Any, half: Any) -> Any:
    """A graph all of whose numbers are of half the bits, its input and output too."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(half))
    constants = [each.t for node in model.graph.node for each in node.attribute if node.op_type == "Constant"]
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(half)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.elem_type = kind
    return model


def between_casts(model: Any) -> Any:
    """The same for images of float32, whose logits are float32."""
    (x,), (y,) = model.graph.input, model.graph.output
    half = x.type.tensor_type.elem_type
    for node in model.graph.node:
        node.input[:] = ["x.half" if name == x.name else name for name in node.input]
        node.output[:] = ["y.half" if name == y.name else name for name in node.output]
    casts = (x.name, "x.half", half), ("y.half", y.name, onnx.TensorProto.FLOAT)
    first, last = (onnx.helper.make_node("Cast", [a], [b], b, to=to) for a, b, to in casts)
    nodes = [first, *model.graph.node, last]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for each in (x, y):
        each.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def with_rounded_weights(model: Any, half: Any) -> Any:
    """The graph in float32, whose weights are what half the bits leave of them."""
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(half).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def by_pytorch(path: Path, x: Images) -> Path:
    """Its LRN in nodes."""
    pytest.importorskip("torch")
    from torch_export import PlainNet, export, plain_net

    return export(plain_net(PlainNet), x, path)


@pytest.fixture(scope="module")
def model() -> Classifier:
    return model_of(PAPER)


@pytest.fixture(scope="module")
def written(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "model.onnx"
    convert(model, path)
    return path


def rounded(values: Any, half: Any) -> Any:
    return values.astype(half).astype(np.float32)


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("change", [lambda graph: graph, between_casts], ids=["everything", "between casts"])
@pytest.mark.parametrize("beside", [False, True])
def test_graphs_of_half_the_bits(
    half: Any, change: Callable[[Any], Any], beside: bool, model: Classifier, written: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.onnx"
    graph = change(halved(onnx.load(written), half))
    onnx.save(graph, path, save_as_external_data=beside, location="half.data", size_threshold=0)
    found = load_model(path, devices=["cpu:0"])
    for name, value in model.net.parameters().items():
        assert found.net.parameters()[name].tobytes() == rounded(value, half).tobytes(), name
    assert (found.classes, found.mean.tobytes()) == (model.classes, model.mean.tobytes())
    onnx.save(with_rounded_weights(onnx.load(written), half), tmp_path / "wide.onnx")
    x = images_for(model, 2)
    assert difference(run_by_onnxruntime(tmp_path / "wide.onnx", x), found, x) < ROUNDING


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_numbers_of_an_lrn_in_half_the_bits(half: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(1).uniform(-128, 128, (2, 227, 227, 3)).astype(np.float32)
    exported = by_pytorch(tmp_path / "model.onnx", x)
    onnx.save(halved(onnx.load(exported), half), tmp_path / "half.onnx")
    found = load_model(tmp_path / "half.onnx", devices=["cpu:0"], mean=(1, 2, 3))
    onnx.save(with_rounded_weights(onnx.load(exported), half), tmp_path / "wide.onnx")
    assert difference(run_by_onnxruntime(tmp_path / "wide.onnx", x), found, x) < ROUNDING


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_what_onnxruntimes_own_converter_makes(
    keep_io_types: bool, model: Classifier, written: Path, tmp_path: Path
) -> None:
    converter = pytest.importorskip("onnxruntime.transformers.float16")
    x = images_for(model, 2)
    for path in (written, by_pytorch(tmp_path / "pytorch.onnx", x)):
        half = converter.convert_float_to_float16(onnx.load(path), keep_io_types=keep_io_types)
        onnx.save(half, tmp_path / "half.onnx")
        onnx.save(with_rounded_weights(onnx.load(path), np.float16), tmp_path / "wide.onnx")
        found = load_model(tmp_path / "half.onnx", devices=["cpu:0"], mean=(1, 2, 3))
        assert difference(run_by_onnxruntime(tmp_path / "wide.onnx", x), found, x) < ROUNDING


def one_more_cast(name: str, to: int) -> Callable[[Any], Any]:
    """A cast of what a node makes, or of the images."""

    def change(graph: Any) -> Any:
        readers = [node for node in graph.graph.node if name in node.input]
        cast = onnx.helper.make_node("Cast", [name], ["cast"], "cast", to=to)
        for node in readers:
            node.input[:] = ["cast" if each == name else each for each in node.input]
        graph.graph.node.append(cast)
        return graph

    return change


def too_large(graph: Any) -> Any:
    bias = next(each for each in graph.graph.initializer if each.name == "fc8.bias")
    values = np.full(bias.dims[0], np.inf, np.float16)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    return graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_more_cast("pool5", onnx.TensorProto.FLOAT), "cast is Cast, which the net has not there"),
        (one_more_cast("relu1", onnx.TensorProto.FLOAT16), "cast is Cast, which the net has not there"),
        (one_more_cast("x", onnx.TensorProto.INT8), "cast is Cast, which the net has not there"),
        (one_more_cast("logits", onnx.TensorProto.INT32), "cast is Cast, which the net has not there"),
        (one_more_cast("fc7.weight", onnx.TensorProto.FLOAT), "fc7 must have weights and biases, each an initializer"),
        (too_large, r"fc8\.bias has 7 NaN or infinite"),
    ],
)
def test_other_casts_are_refused(change: Callable[[Any], Any], message: str, written: Path, tmp_path: Path) -> None:
    onnx.save(change(halved(onnx.load(written), np.float16)), tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=rf"other\.onnx: {message}"):
        load_model(tmp_path / "other.onnx")


# Pickles ------------------------------------------------------------------------------------------------------------


def in_pickle(model: Classifier, half: Any) -> dict[str, list[Any]]:
    """BVLC's weights by layer, for images in RGB here."""
    parameters = model.net.parameters()
    names = dict.fromkeys(name.partition(".")[0] for name in parameters)
    return {name: [parameters[f"{name}.{kind}"].astype(half) for kind in ("weight", "bias")] for name in names}


@pytest.mark.filterwarnings("ignore:.*has weights alone")
def test_pickles_of_half_the_bits(tmp_path: Path) -> None:
    model = model_of(BVLC)
    np.save(tmp_path / "half.npy", np.array(in_pickle(model, np.float16)), allow_pickle=True)
    found = load_model(tmp_path / "half.npy", devices=["cpu:0"], mean=(1, 2, 3), colours="rgb")
    for name, value in model.net.parameters().items():
        assert found.net.parameters()[name].tobytes() == rounded(value, np.float16).tobytes(), name


def test_checkpoints_of_half_the_bits(tmp_path: Path) -> None:
    from checkpoints_of_2012 import checkpoint, of_python_2

    model = model_of(PAPER)
    whole = checkpoint(model, dropout="dropout")  # which needs no factor
    (tmp_path / "half.pkl").write_bytes(of_python_2(in_half(whole)))
    found = load_model(tmp_path / "half.pkl", devices=["cpu:0"], mean=(1, 2, 3))
    for name, value in model.net.parameters().items():
        assert found.net.parameters()[name].tobytes() == rounded(value, np.float16).tobytes(), name


def in_half(value: Any) -> Any:
    """A checkpoint whose arrays are of half the bits."""
    if isinstance(value, dict):
        return {key: in_half(each) for key, each in value.items()}
    if isinstance(value, list):
        return [in_half(each) for each in value]
    return value.astype(np.float16) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("kind", [">f2", "<i2", "<f8"])
def test_other_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    weights = in_pickle(model_of(BVLC), np.float16)
    weights["fc8"][1] = np.zeros(7, kind)
    np.save(tmp_path / "other.npy", np.array(weights), allow_pickle=True)
    with pytest.raises(
        ModelFileError, match=rf"has dtype '{kind[1:]}'; it must be float32 or float16, lowest byte first"
    ):
        load_model(tmp_path / "other.npy")
