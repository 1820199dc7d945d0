"""ONNX files: the net as a graph of opset 17, and graphs of others that are such a net, as the model zoo's.

The input ``x`` is float32 (N, 3, 227, 227), RGB less the mean, the output ``logits`` (N, classes), for any N. LRN
within towers is one operation for each of two parts. The file's metadata has the description and the mean image, which
is no part of the graph. Where the graph is the one that the description's options give, these are taken over as they
are; any other is read node by node.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, Options
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.content import (
    MOST_BYTES,
    Content,
    as_mean,
    channels_first,
    channels_last,
    read_description,
    require_finite,
    require_room,
    shapes_channels_first,
    with_description,
)
from pyalexnet.formats.steps import Step, content_of, from_float32, steps_of
from pyalexnet.net.model_file import ModelDescription
from pyalexnet.system.checks import reason_of, shown
from pyalexnet.system.extras import importing_extra
from pyalexnet.system.files import read_regular_file

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_OPSET, _IR_VERSION = 17, 8
_DESCRIPTION, _MEAN = "pyalexnet", "pyalexnet.mean"
_MEAN_BYTES = 4 * IMAGE_SIZE * IMAGE_SIZE * INPUT_CHANNELS
_CAFFES = ("onnx-caffe2", "caffe2")
"""By these names the producers call themselves that converted Caffe's nets, whose images are BGR."""


def write(content: Content) -> bytes:
    """An ONNX file.

    Raises:
        MissingLibraryError: the package onnx is not installed.
        ValueError: the net has more values than a file can hold.
    """
    with importing_extra():
        from onnx import TensorProto, helper, numpy_helper

    require_room(content, "an ONNX file")
    size, classes = content.options.crop, content.num_classes
    parameters = channels_first(content.parameters)
    graph = helper.make_graph(
        _nodes(content.options, classes),
        "AlexNet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", INPUT_CHANNELS, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="pyalexnet")
    assert content.mean is not None
    mean = base64.b64encode(zlib.compress(content.mean.tobytes())).decode()
    helper.set_model_props(model, {_DESCRIPTION: content.description(), _MEAN: mean})
    return bytes(model.SerializeToString())


def _nodes(options: Options, num_classes: int) -> list[NodeProto]:
    """The net's graph; parameters have this package's names."""
    from onnx import helper

    nodes: list[NodeProto] = []
    last = "x"

    def add(operation: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> str:
        nodes.append(helper.make_node(operation, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    for step in steps_of(options, num_classes):
        name, values = step.name, step.values
        parameters = [f"{name}.weight", f"{name}.bias"]
        if step.kind == "conv":
            how = {"strides": values["stride"], "pads": values["padding"], "group": values["groups"]}
            last = add("Conv", [last, *parameters], [name], kernel_shape=values["kernel"], **how)
        elif step.kind == "pool":
            last = add("MaxPool", [last], [name], kernel_shape=values["kernel"], strides=values["stride"])
        elif step.kind == "lrn":
            last = _add_lrn(add, last, name, values)
        elif step.kind == "lrn_in_map":
            last = _add_lrn_in_map(add, nodes, last, name, values)
        elif step.kind == "linear":
            last = add("Flatten", [last], ["flat"]) if name == "fc6" else last
            last = add("Gemm", [last, *parameters], ["logits" if name == "fc8" else name], transB=1)
        else:
            last = add("Relu" if step.kind == "relu" else "Tanh", [last], [name])
    return nodes


Add = Callable[..., str]


def _add_lrn(add: Add, x: str, name: str, values: Any) -> str:
    how = {"alpha": values["alpha"] * values["size"], "beta": values["beta"], "bias": values["k"]}
    if values["towers"] == 1:
        return add("LRN", [x], [name], size=values["size"], **how)
    parts = [f"{name}.{tower}.x" for tower in range(values["towers"])]
    add("Split", [x], parts, axis=1)
    normed = [add("LRN", [part], [part.replace(".x", ".y")], size=values["size"], **how) for part in parts]
    return add("Concat", normed, [name], axis=1)


def _add_lrn_in_map(add: Add, nodes: list[NodeProto], x: str, name: str, values: Any) -> str:
    """Quotients x / (k + alpha · sum of squares)^beta, the sum as a mean that counts the zeros around a map."""
    from onnx import helper

    def constant(what: str, value: float) -> str:
        output = f"{name}.{what}"
        nodes.append(helper.make_node("Constant", [], [output], name=output, value_float=value))
        return output

    size, around = values["size"], values["size"] // 2
    squares = add("Mul", [x, x], [f"{name}.squares"])
    means = add(
        "AveragePool", [squares], [f"{name}.means"], kernel_shape=[size] * 2, pads=[around] * 4, count_include_pad=1
    )
    scaled = add("Mul", [means, constant("alpha", values["alpha"] * size**2)], [f"{name}.scaled"])
    sums = add("Add", [scaled, constant("k", values["k"])], [f"{name}.sums"])
    powers = add("Pow", [sums, constant("beta", values["beta"])], [f"{name}.powers"])
    return add("Div", [x, powers], [name])


# Reading -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> Content:
    """What an ONNX file holds.

    Raises:
        OSError: it cannot be read.
        MissingLibraryError: the package onnx is not installed.
        ModelFileError: it is no such file, or of a net that this package does not compute.
    """
    with importing_extra():
        import onnx
        from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(read_regular_file(path, MOST_BYTES))
    except DecodeError as error:
        raise ModelFileError(f"{path} is no ONNX file or is cut short: {reason_of(error)}") from error
    if not model.graph.node or not all(node.output for node in model.graph.node):
        raise ModelFileError(f"{path} is no ONNX file: it has no nodes, or some without outputs")
    properties = {each.key: each.value for each in model.metadata_props}
    if _DESCRIPTION not in properties:
        return _of_graph(model, str(path))
    text: str | bytes = properties[_DESCRIPTION]  # protobuf hands out as bytes what is no UTF-8
    about = read_description(text if isinstance(text, bytes) else text.encode(), str(path))
    known = _of_description(model, about, str(path)) or _of_graph(model, str(path))
    return with_description(replace(known, mean=_mean(properties.get(_MEAN), str(path))), about)


def _mean(text: str | None, path: str) -> npt.NDArray[np.float32] | None:
    if text is None:
        return None
    try:
        unpacked = zlib.decompressobj()
        content = unpacked.decompress(base64.b64decode(text, validate=True), _MEAN_BYTES + 1)
        values = np.frombuffer(content, np.float32).reshape(IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise ModelFileError(f"{path}: its entry {_MEAN} holds no mean image: {reason_of(error)}") from error
    return as_mean(values, path)


def _of_description(model: ModelProto, about: ModelDescription, path: str) -> Content | None:
    """The content, if the graph is what the options give."""
    expected = _nodes(about.options, about.num_classes)
    if len(model.graph.node) != len(expected) or any(a != b for a, b in zip(model.graph.node, expected, strict=True)):
        return None
    arrays = _Arrays(model.graph, path)
    shapes = shapes_channels_first(about.num_classes, about.options)
    parameters = {name: arrays.of_shape(name, shape) for name, shape in shapes.items()}
    require_finite(parameters, path)
    return Content(options=about.options, parameters=channels_last(parameters))


class _Arrays:
    """The arrays of a graph that do not depend on its input, by name."""

    def __init__(self, graph: GraphProto, path: str) -> None:
        self.path = path
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's extents, as the file says."""
        return tuple(self._tensors[name].dims)

    def of_shape(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """An array of float32."""
        if name not in self._tensors or self.shape(name) != shape:
            found = self.shape(name) if name in self._tensors else "missing"
            raise ModelFileError(f"{self.path}: {shown(name)} is {found}; it must be {shape}")
        return self._array(self._tensors[name])

    def _array(self, tensor: TensorProto) -> npt.NDArray[np.float32]:
        from onnx import TensorProto, numpy_helper

        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelFileError(f"{self.path}: {shown(tensor.name)} lies in another file; it must be in this one")
        if tensor.data_type != TensorProto.FLOAT:
            kind = tensor.data_type
            raise ModelFileError(f"{self.path}: {shown(tensor.name)} has type {kind}; it must be 1, float32")
        try:
            return np.asarray(numpy_helper.to_array(tensor), np.float32)
        except ValueError as error:
            raise ModelFileError(f"{self.path}: {shown(tensor.name)} is damaged: {reason_of(error)}") from error


def _of_graph(model: ModelProto, path: str) -> Content:
    """The content of any graph that makes the steps of a net."""
    reader = _GraphReader(model.graph, path)
    steps = list(reader.steps())
    content = content_of(steps, reader.size, Options().dropout, path)
    if model.producer_name not in _CAFFES:
        return content
    remark = f"{path} takes its images as BGR, like Caffe, whose net {model.producer_name} wrote"
    return replace(content, colours="bgr", remarks=(*content.remarks, remark))


class _GraphReader:
    """A graph that is a row of steps, but for LRN in parts."""

    def __init__(self, graph: GraphProto, path: str) -> None:
        self._path = path
        self._arrays = _Arrays(graph, path)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in set(node.input):
                self._readers.setdefault(name, []).append(node)
        inputs = [each for each in graph.input if each.name not in self._arrays]
        if len(inputs) != 1:
            raise ModelFileError(f"{path} has {len(inputs)} inputs; it must have one, the images")
        self._input, self._outputs = inputs[0].name, {each.name for each in graph.output}
        extents = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim]
        if len(extents) != 4 or extents[1] not in (0, INPUT_CHANNELS) or extents[2] != extents[3]:
            raise ModelFileError(f"{path}: its images are {extents}; they must be [N, 3, size, size]")
        self.size = extents[2]

    def steps(self) -> Iterator[Step]:
        """What the nodes do, one after the other."""
        last, seen = self._input, {self._input}
        while node := self._reader_of(last):
            make = _STEPS.get(node.op_type)
            if node.op_type == "Split":
                step, last = self._lrn_in_parts(node)
                yield step
            elif make and not node.domain:
                yield make(self, node)
                last = node.output[0]
            elif node.domain or not self._changes_nothing(node):
                kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                raise ModelFileError(
                    f"{self._path}: {_label(node)} is {shown(kind)[1:-1]}, which the net has not there"
                )
            else:
                last = node.output[0]
            if last in seen:
                raise ModelFileError(f"{self._path}: its nodes go round in a circle at {shown(last)}")
            seen.add(last)
        if last not in self._outputs:
            raise ModelFileError(f"{self._path}: its nodes end with {shown(last)}, which is no output")

    def _changes_nothing(self, node: NodeProto) -> bool:
        """Whether a node leaves values, or which class is the most probable: probabilities are made of logits here."""
        following = self._reader_of(node.output[0])
        if node.op_type in ("Flatten", "Reshape"):
            return following is not None and following.op_type == "Gemm"
        if node.op_type == "Softmax":
            return following is None
        return node.op_type == "Identity" or (node.op_type == "Dropout" and len(node.input) < 3)

    def _reader_of(self, name: str) -> NodeProto | None:
        """The one node that reads a value; None behind the last one."""
        found = self._readers.get(name, [])
        if len(found) > 1:
            raise ModelFileError(f"{self._path}: {shown(name)} is read by {len(found)} nodes; it must be by one")
        return found[0] if found else None

    def _lrn_in_parts(self, split: NodeProto) -> tuple[Step, str]:
        normed = [self._reader_of(name) for name in split.output]
        joined = [self._reader_of(node.output[0]) if node else None for node in normed]
        first, concat = normed[0], joined[0]
        how = [self.lrn(node).values if node and node.op_type == "LRN" else None for node in normed]
        sizes = self._attribute(split, "split", ())
        if (
            first is None
            or concat is None
            or concat.op_type != "Concat"
            or any(each != how[0] for each in how)
            or how[0] is None
            or any(other is not concat for other in joined)
            or list(concat.input) != [node.output[0] for node in normed if node]
            or {self._attribute(node, "axis", 0) for node in (split, concat)} != {1}
            or len(set(sizes)) > 1
            or len(split.input) > 1
        ):
            raise ModelFileError(f"{self._path}: {_label(split)} is Split, which the net has around LRN alone")
        return Step("lrn", _label(first), {**how[0], "towers": len(normed)}), concat.output[0]

    def _attribute(self, node: NodeProto, name: str, default: Any) -> Any:
        from onnx import helper

        found = [helper.get_attribute_value(each) for each in node.attribute if each.name == name]
        if not found:
            return default
        if not isinstance(found[0], list if isinstance(default, tuple) else type(default)):
            raise ModelFileError(f"{self._path}: {name} of {_label(node)} is {shown(found[0])}, of another type")
        return found[0]

    def _windows(self, node: NodeProto, kernel: tuple[int, ...] = ()) -> dict[str, Any]:
        """What convolutions and poolings have in common; a convolution's kernel is that of its weights."""
        automatic = self._attribute(node, "auto_pad", b"NOTSET")
        spread = self._attribute(node, "dilations", (1, 1))
        if automatic != b"NOTSET" or list(spread) != [1, 1]:
            raise ModelFileError(f"{self._path}: {_label(node)} has auto_pad or dilations; it must have none")
        values = {
            "kernel": tuple(self._attribute(node, "kernel_shape", kernel)),
            "stride": tuple(self._attribute(node, "strides", (1, 1))),
            "padding": tuple(self._attribute(node, "pads", (0, 0, 0, 0))),
        }
        if [len(each) for each in values.values()] != [2, 2, 4]:
            raise ModelFileError(f"{self._path}: {_label(node)} has windows {values}; they must be of two axes")
        return values

    def conv(self, node: NodeProto) -> Step:
        """A convolution with biases."""
        weight, bias = self._parameters(node, 4)
        filters, channels, *kernel = weight.shape
        values = self._windows(node, tuple(kernel))
        if values["kernel"] != tuple(kernel):
            raise ModelFileError(f"{self._path}: {_label(node)} has windows {values['kernel']}, its weights {kernel}")
        values |= {"filters": filters, "channels": channels, "groups": self._attribute(node, "group", 1)}
        return Step("conv", _label(node), values, (weight, bias))

    def pool(self, node: NodeProto) -> Step:
        """Max-pooling."""
        ceiling = {"ceiling": True} if self._attribute(node, "ceil_mode", 0) else {}
        return Step("pool", _label(node), self._windows(node) | ceiling)

    def lrn(self, node: NodeProto) -> Step:
        """LRN, of which alpha is divided by the window's size."""
        numbers = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
        alpha, beta, k = (from_float32(self._attribute(node, name, value)) for name, value in numbers.items())
        size = self._attribute(node, "size", 0)
        values = {"size": size, "alpha": alpha / max(size, 1), "beta": beta, "k": k, "towers": 1}
        return Step("lrn", _label(node), values)

    def linear(self, node: NodeProto) -> Step:
        """A matrix product with biases."""
        scales = [from_float32(self._attribute(node, name, 1.0)) for name in ("alpha", "beta")]
        if scales != [1, 1] or self._attribute(node, "transA", 0):
            raise ModelFileError(f"{self._path}: {_label(node)} has alpha, beta or transA; it must be x·w + b")
        weight, bias = self._parameters(node, 2)
        weight = weight if self._attribute(node, "transB", 0) else weight.T
        return Step("linear", _label(node), {"inputs": weight.shape[1], "outputs": weight.shape[0]}, (weight, bias))

    def activation(self, node: NodeProto) -> Step:
        """A ReLU or tanh."""
        return Step("relu" if node.op_type == "Relu" else "tanh", _label(node))

    def _parameters(self, node: NodeProto, axes: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        names = list(node.input[1:])
        if len(names) != 2 or not all(name in self._arrays for name in names):
            raise ModelFileError(f"{self._path}: {_label(node)} must have weights and biases, each an initializer")
        weight = self._arrays.of_shape(names[0], self._arrays.shape(names[0]))
        outputs = weight.shape[0 if axes == 4 or self._attribute(node, "transB", 0) else -1] if weight.ndim else 0
        if weight.ndim != axes:
            raise ModelFileError(f"{self._path}: {shown(names[0])} is {weight.shape}; it must have {axes} axes")
        return weight, self._arrays.of_shape(names[1], (outputs,))


_STEPS: dict[str, Callable[[_GraphReader, NodeProto], Step]] = {
    "Conv": _GraphReader.conv,
    "Gemm": _GraphReader.linear,
    "LRN": _GraphReader.lrn,
    "MaxPool": _GraphReader.pool,
    "Relu": _GraphReader.activation,
    "Tanh": _GraphReader.activation,
}


def _label(node: NodeProto) -> str:
    """A node as messages call it."""
    return shown(node.name or node.output[0])[1:-1]
