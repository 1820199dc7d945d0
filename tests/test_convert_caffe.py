"""Caffe's files: OpenCV's importer computes the same, both forms of layers are read, and what is no such net not."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange import NETS, difference, images_for, run_by_opencv
from foreign import BVLC, CLASSES, ROUNDING, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model
from pyalexnet.formats import caffe
from pyalexnet.formats.caffe_messages import new_blob, new_net

pytest.importorskip("google.protobuf")
NEEDS_OPENCV = pytest.mark.skipif(find_spec("cv2") is None, reason="needs OpenCV 4")

# Caffe has no crops of 224 with zeros on two sides, and its poolings of 2×2 make larger maps.
FOR_CAFFE = {
    name: {
        **options,
        "crop": 224 if "conv1_padding" in options else 227,
        "pooling": "overlapping",
        "colour_deviation": "none",
    }
    for name, options in NETS.items()
}
# What only training reads, and no file of Caffe's tells.
TRAINING = {"weight_init": "paper", "bias_init": "paper"}


@pytest.fixture(scope="module", params=FOR_CAFFE)
def model(request: pytest.FixtureRequest) -> Classifier:
    return model_of(FOR_CAFFE[request.param])


@pytest.fixture(scope="module")
def bvlc() -> Classifier:
    return model_of(BVLC)


def opened(path: Path, **given: Any) -> Classifier:
    """With what stands beside it."""
    beside = {
        "mean": path.with_name(f"{path.stem}_mean.binaryproto"),
        "classes": path.with_name(f"{path.stem}_classes.txt"),
    }
    return load_model(path, devices=["cpu:0"], **(beside | given))


def assert_same_net(found: Classifier, model: Classifier) -> None:
    """Bit for bit, but for what only training reads."""
    assert asdict(found.net.options) == asdict(model.net.options) | TRAINING
    expected = model.net.parameters()
    assert all(value.tobytes() == expected[name].tobytes() for name, value in found.net.parameters().items())


@NEEDS_OPENCV
def test_opencv_computes_the_same(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    convert(model, path)
    x = images_for(model)
    assert difference(run_by_opencv(path, x), model, x) < ROUNDING


def test_there_and_back(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    convert(model, path)
    found = opened(path)
    assert_same_net(found, model)
    assert found.mean.tobytes() == model.mean.tobytes()
    assert found.classes == CLASSES


def test_a_full_disk_leaves_none_of_the_files(model: Classifier, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # the definition fits
    try:
        with pytest.raises(OSError, match=r"cannot write .*model\.prototxt, .*model\.caffemodel \(.*: File too large"):
            convert(model, tmp_path / "model.caffemodel")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_any_k_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    convert(model_of({"lrn_k": 1.2345}), path)
    assert opened(path).net.options.lrn_k == 1.2345


@pytest.mark.parametrize("options", [{"crop": 224}, {"pooling": "plain"}])
def test_what_caffe_has_not_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is .*; for Caffe, "):
        convert(model_of(options), tmp_path / "model.caffemodel")
    assert os.listdir(tmp_path) == []


def net_of(path: Path) -> Any:
    net = new_net()
    net.ParseFromString(path.read_bytes())
    return net


V1_TYPES = {name: number for number, name in caffe._V1_TYPES.items()}


def as_v1(net: Any) -> Any:
    """The same net in the older form of layers, whose arrays have four extents."""
    old = new_net()
    old.input.append("data")
    old.input_dim.extend([10, 3, *net.layer[0].input_param.shape[0].dim[2:]])
    for layer in net.layer:
        if layer.type == "Input":
            continue
        added = old.layers.add(name=layer.name, type=V1_TYPES[layer.type], bottom=layer.bottom, top=layer.top)
        for descriptor, value in layer.ListFields():
            if descriptor.name.endswith("_param"):
                getattr(added, descriptor.name).CopyFrom(value)
        for blob in layer.blobs:
            legacy = added.blobs.add(data=blob.data)
            legacy.num, legacy.channels, legacy.height, legacy.width = [1] * (4 - len(blob.shape.dim)) + list(
                blob.shape.dim
            )
    return old


def test_the_older_form_of_layers_is_read(model: Classifier, tmp_path: Path) -> None:
    from google.protobuf import text_format

    path = tmp_path / "model.caffemodel"
    convert(model, path)
    old = as_v1(net_of(path))
    path.write_bytes(old.SerializeToString())
    assert_same_net(opened(path), model)
    if find_spec("cv2") is None:
        return
    for layer in old.layers:
        del layer.blobs[:]
    path.with_suffix(".prototxt").write_text(text_format.MessageToString(old))
    x = images_for(model)
    assert difference(run_by_opencv(path, x), model, x) < ROUNDING


def test_a_file_of_training_is_read(bvlc: Classifier, tmp_path: Path) -> None:
    """With the layers around the net, the mean's colours, and no definition."""
    path = tmp_path / "model.caffemodel"
    convert(bvlc, path)
    net = net_of(path)
    first_layer, last = net.layer[0], net.layer[-1]
    first_layer.type = "Data"
    first_layer.top.append("label")
    first_layer.ClearField("input_param")
    first_layer.transform_param.crop_size = 227
    first_layer.transform_param.mean_value.extend([104, 117, 123])
    last.type = "SoftmaxWithLoss"
    last.bottom.append("label")
    net.layer.add(name="accuracy", type="Accuracy", bottom=["fc8", "label"], top=["accuracy"])
    path.write_bytes(net.SerializeToString())
    found = load_model(path, devices=["cpu:0"])
    assert_same_net(found, bvlc)
    assert (found.mean == [123, 117, 104]).all()
    assert found.classes[:2] == ("output 0", "output 1")


@pytest.mark.parametrize("older", [False, True])
def test_what_a_run_with_accuracy_saves_is_read(bvlc: Classifier, older: bool, tmp_path: Path) -> None:
    """Caffe copies what several layers read, the labels too, by layers of its own, which its snapshots have."""
    path = tmp_path / "model.caffemodel"
    convert(bvlc, path)
    net = net_of(path)
    net.layer.remove(layer_of(net, "prob"))
    net.layer.add(name="label_split", type="Split", bottom=["label"], top=["label_0", "label_1"])
    net.layer.add(name="fc8_split", type="Split", bottom=["fc8"], top=["fc8_0", "fc8_1"])
    net.layer.add(name="accuracy", type="Accuracy", bottom=["fc8_0", "label_0"], top=["accuracy"])
    net.layer.add(name="loss", type="SoftmaxWithLoss", bottom=["fc8_1", "label_1"], top=["loss"])
    relu = layer_of(net, "relu5")  # in place of a copy
    relu.bottom[:], relu.top[:] = ["conv5_0"], ["conv5_0"]
    layer_of(net, "pool5").bottom[:] = ["conv5_0"]
    place = list(net.layer).index(relu)
    layers = list(net.layer)
    copy = type(relu)(name="conv5_split", type="Split", bottom=["conv5"], top=["conv5_0", "conv5_1"])
    del net.layer[:]
    net.layer.extend([*layers[:place], copy, *layers[place:]])
    path.write_bytes((as_v1(net) if older else net).SerializeToString())
    assert_same_net(opened(path), bvlc)


def test_another_definition_is_taken(bvlc: Classifier, tmp_path: Path) -> None:
    """Here CaffeNet's order for the same weights, in a text with what Caffe alone reads."""
    path = tmp_path / "model.caffemodel"
    convert(bvlc, path)
    expected = model_of(BVLC | {"pool_before_lrn": True})
    convert(expected, tmp_path / "other.caffemodel")
    text = (tmp_path / "other.prototxt").read_text()
    known = 'name: "conv1"\n'
    assert known in text
    text = text.replace(known, known + "param { lr_mult: 1 decay_mult: 1 }\nparam { lr_mult: 2 }\n")
    (tmp_path / "other.prototxt").write_text(text)
    assert opened(path, prototxt=tmp_path / "other.prototxt").net.options.pool_before_lrn
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ValueError, match=r"prototxt is '.*other\.prototxt'; it must be None for .*model\.onnx"):
        load_model(tmp_path / "model.onnx", prototxt=tmp_path / "other.prototxt")
    (tmp_path / "other.prototxt").write_text("layer { name: 5 }")
    with pytest.raises(ModelFileError, match=r"other\.prototxt is no definition of a net"):
        opened(path, prototxt=tmp_path / "other.prototxt")


def layer_of(net: Any, name: str) -> Any:
    return next(layer for layer in net.layer if layer.name == name)


def parameter(name: str, kind: str, **values: Any) -> Callable[[Any], None]:
    def change(net: Any) -> None:
        how = getattr(layer_of(net, name), f"{kind}_param")
        for field, value in values.items():
            if isinstance(value, list):
                getattr(how, field)[:] = value
            else:
                setattr(how, field, value)

    return change


def shape_of(name: str, place: int, shape: list[int]) -> Callable[[Any], None]:
    def change(net: Any) -> None:
        layer_of(net, name).blobs[place].shape.dim[:] = shape

    return change


def without_weights(net: Any) -> None:
    del layer_of(net, "conv3").blobs[:]


def without_relu(net: Any) -> None:
    net.layer.remove(layer_of(net, "relu6"))


def in_a_circle(net: Any) -> None:
    layer_of(net, "conv3").bottom[0] = "fc7"


def of_doubles(net: Any) -> None:
    blob = layer_of(net, "conv1").blobs[1]
    blob.double_data.append(np.frombuffer(b"".join(blob.data), np.float32).astype(np.float64).tobytes())
    del blob.data[:]


def of_small_windows(net: Any) -> None:
    for name in ("pool1", "pool2", "pool5"):
        layer_of(net, name).pooling_param.kernel_size = 2


def of_softmax_in_place(net: Any) -> None:
    layer_of(net, "drop7").type = "Softmax"


def multiplied(net: Any) -> None:
    layer_of(net, "relu3").type = "Power"
    layer_of(net, "relu3").power_param.scale = 0.5


def of_sigmoids(net: Any) -> None:
    layer_of(net, "relu6").type = "Sigmoid"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (parameter("conv1", "convolution", pad=[2]), r"padding of conv1 is \(2, 2, 2, 2\); it must be \(0, 0, 0, 0\)"),
        (parameter("conv1", "convolution", stride=[0]), r"stride of conv1 is \(0, 0\); it must be at least 1"),
        (parameter("conv1", "convolution", kernel_size=[9]), r"conv1 has windows \(9, 9\), its weights \(11, 11\)"),
        (parameter("conv2", "convolution", group=1), "groups of conv2 is 1; it must be 2"),
        (parameter("conv2", "convolution", bias_term=False), "conv2 has dilation, another axis than 1 or no biases"),
        (parameter("pool1", "pooling", pool=1), "pool1 is no pooling by maxima"),
        (parameter("pool1", "pooling", stride=3), r"pool1 is .*; it must be"),
        (parameter("norm1", "lrn", local_size=7), "of norm1 is .*; it must be"),
        (parameter("norm1", "lrn", k=-1.0), "lrn_k is -1.0; it must be above 0"),
        (parameter("fc6", "inner_product", transpose=True), "fc6 is transposed"),
        (parameter("fc7", "inner_product", num_output=255), "fc7 has 256 biases .* it must have 255 outputs"),
        (parameter("relu1", "relu", negative_slope=0.1), "relu1 is ReLU with a slope below 0, which the net has not"),
        (parameter("data", "transform", scale=0.5), "its images are multiplied by 0.5; it must be by 1"),
        (shape_of("conv1", 1, [2**40]), r"an array of conv1 is \(1099511627776,\), with 384 bytes"),
        (shape_of("conv1", 1, [-96]), r"an array of conv1 is \(-96,\), with 384 bytes"),
        (shape_of("conv1", 0, [96, 33, 11, 11]), r"an array of conv1 is \(96, 33, 11, 11\), with"),
        (without_weights, "conv3 has 0 arrays; it must have weights and biases"),
        (without_relu, r"has a fully connected layer, fc7, where the net has a ReLU, relu6"),
        (in_a_circle, r"conv3 leads from \['fc7'\] to \['conv3'\]; it must lead on from 'pool2'"),
        (of_doubles, r"an array of conv1 is \(96,\), with 0 bytes"),
        (of_small_windows, "ceiling of pool1 is True; it must be absent"),
        (of_softmax_in_place, r"fc8 leads from \['fc7'\] to \['fc8'\]; it must lead on"),
        (multiplied, "relu3 multiplies by 0.5, which the net does behind LRN alone"),
        (of_sigmoids, "relu6 is Sigmoid, which the net has not"),
    ],
)
def test_other_nets_are_refused(bvlc: Classifier, change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    convert(bvlc, path)
    net = net_of(path)
    change(net)
    path.write_bytes(net.SerializeToString())
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ModelFileError, match=message):
        convert(path, tmp_path / "model.safetensors", mean=(1, 2, 3))
    assert sorted(os.listdir(tmp_path)) == before


def in_another_order(net: Any) -> None:
    layer_of(net, "norm1").bottom[:] = ["norm1_1", "norm1_0"]
    first_part, second_part = layer_of(net, "norm1_0"), new_net().layer.add()
    second_part.CopyFrom(layer_of(net, "norm1_1"))
    layer_of(net, "norm1_1").CopyFrom(first_part)
    first_part.CopyFrom(second_part)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (parameter("norm1_0", "lrn", alpha=0.5), "norm1 joins what are not two equal LRN"),
        (parameter("norm1_slice", "slice", axis=2), "norm1_slice has another axis than 1"),
        (
            parameter("norm1_slice", "slice", slice_point=[40]),
            r"norm1_slice slices at \[40\]; it must be in the middle",
        ),
        (
            parameter("norm1_factor", "power", scale=-1.0),
            "norm1_factor multiplies by -1.0, which the net does behind LRN",
        ),
        (parameter("norm1_factor", "power", scale=0.25), "alpha of norm1_factor is .*; it must be"),
        (parameter("norm1_factor", "power", power=2.0), "norm1_factor is Power, which the net has not"),
        (lambda net: net.layer.remove(layer_of(net, "norm1")), "norm1_factor leads from"),
        (in_another_order, "norm1 leads from"),
    ],
)
def test_other_lrn_is_refused(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    convert(model_of({}), path)
    net = net_of(path)
    change(net)
    path.write_bytes(net.SerializeToString())
    with pytest.raises(ModelFileError, match=message):
        load_model(path, mean=(1, 2, 3))


@pytest.mark.parametrize("kept", [0, 5, 1000, 10**6])
def test_cut_short(bvlc: Classifier, kept: int, tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    convert(bvlc, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"model\.caffemodel is no caffemodel"):
        load_model(path)


def test_other_mean_images_are_refused(bvlc: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    convert(bvlc, path)
    for shape, message in (((3, 8, 8), r"\(8, 8, 3\)"), ((4, 256, 256), r"\(4, 256, 256\); it must be")):
        blob = new_blob()
        blob.shape.dim.extend(shape)
        blob.data.append(np.zeros(shape, np.float32).tobytes())
        (tmp_path / "other.binaryproto").write_bytes(blob.SerializeToString())
        with pytest.raises(ModelFileError, match=rf"other\.binaryproto: the mean .*{message}"):
            opened(path, mean=tmp_path / "other.binaryproto")
    (tmp_path / "other.binaryproto").write_text("no message")
    with pytest.raises(ModelFileError, match=r"other\.binaryproto is no mean image"):
        opened(path, mean=tmp_path / "other.binaryproto")
