"""ONNX files: the net as a graph of opset 17, and graphs of others that are such a net, as the model zoo's.

The input ``x`` is float32 (N, 3, 227, 227), RGB less the mean, the output ``logits`` (N, classes), for any N. LRN
within towers is one operation for each of two parts. The file's metadata has the description and the mean image, which
is no part of the graph. Where the graph is the one that the description's options give, these are taken over as they
are; any other is read node by node. LRN may be one operation or what PyTorch's exporters make of it, and
weights of half the bits become the float32 that they stand for.
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
from pyalexnet.formats import torchvision
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
from pyalexnet.formats.onnx_arrays import Arrays
from pyalexnet.formats.onnx_extents import ANY
from pyalexnet.formats.onnx_lrn import Normed, lrn_of_nodes
from pyalexnet.formats.onnx_nodes import Nodes, label
from pyalexnet.formats.steps import Step, content_of, from_float32, steps_of
from pyalexnet.net.model_file import ModelDescription
from pyalexnet.net.origin import UNKNOWN, FileOrigin, Origin
from pyalexnet.system.checks import reason_of, shown
from pyalexnet.system.extras import importing_extra
from pyalexnet.system.files import file_sha256, read_regular_file

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_OPSET, _IR_VERSION = 17, 8
_DESCRIPTION, _MEAN = "pyalexnet", "pyalexnet.mean"
_MEAN_BYTES = 4 * IMAGE_SIZE * IMAGE_SIZE * INPUT_CHANNELS
_FLOATS = (1, 10, 16)  # by the numbers of TensorProto: float32, float16, bfloat16
_LEAVES = ("Identity", "Dropout")  # in training too: nets here drop nothing when they predict
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
        return _normalised_as_usual(_of_graph(model, str(path)), str(path))
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
    arrays = Arrays(model.graph, path)
    shapes = shapes_channels_first(about.num_classes, about.options)
    parameters = {name: arrays.of_shape(name, shape) for name, shape in shapes.items()}
    require_finite(parameters, path)
    return Content(options=about.options, parameters=channels_last(parameters), origin=_origin(arrays))


def _origin(arrays: Arrays) -> Origin:
    """The files that arrays came from, but for the ONNX file itself."""
    origin = UNKNOWN
    for path in arrays.others:
        origin = origin.through(FileOrigin(name=path.name, format="onnx", sha256=file_sha256(path)))
    return origin


def _of_graph(model: ModelProto, path: str) -> Content:
    """The content of any graph that makes the steps of a net."""
    reader = _GraphReader(model, path)
    steps = list(reader.steps())
    content = replace(content_of(steps, reader.size, Options().dropout, path), origin=_origin(reader.arrays))
    if model.producer_name not in _CAFFES:
        return content
    remark = f"{path} takes its images as BGR, like Caffe, whose net {model.producer_name} wrote"
    return replace(content, colours="bgr", remarks=(*content.remarks, remark))


def _normalised_as_usual(content: Content, path: str) -> Content:
    """A foreign content; what computes as torchvision's net is for images that are normalised as for that."""
    as_usual = replace(content.options, colour_deviation=torchvision.OPTIONS.colour_deviation)
    if not torchvision.computes_as(as_usual):
        return content
    remark = f"{path} has torchvision's net; its images are normalised here as torchvision's weights expect them"
    remarks = (*content.remarks, remark)
    return replace(content, options=as_usual, mean=torchvision.mean_image(), remarks=remarks)


class _GraphReader:
    """A graph that is a row of steps, but for LRN in parts and LRN of several nodes.

    Attributes:
        size: height and width of the images, 0 where it is not told.
        arrays: the graph's.
    """

    def __init__(self, model: ModelProto, path: str) -> None:
        self._path = path
        self._nodes = Nodes(model.graph, path)
        self.arrays, self._attribute = self._nodes.arrays, self._nodes.attribute
        inputs = [each for each in model.graph.input if each.name not in self.arrays]
        if len(inputs) != 1:
            raise ModelFileError(f"{path} has {len(inputs)} inputs; it must have one, the images")
        self._input, self._outputs = inputs[0].name, {each.name for each in model.graph.output}
        extents = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim]
        if len(extents) != 4 or extents[1] not in (0, INPUT_CHANNELS) or extents[2] != extents[3]:
            raise ModelFileError(f"{path}: its images are {extents}; they must be [N, 3, size, size]")
        self.size = extents[2]
        self._batch = extents[0] if extents[0] > 0 else ANY
        self._channels, self._map_size = INPUT_CHANNELS, self.size
        self._around = (0, 0, 0, 0)

    def steps(self) -> Iterator[Step]:
        """What the nodes do, one after the other."""
        last, seen = self._input, {self._input}
        self._tell(last, self._channels)
        while found := self._lrn_in_parts(last) or lrn_of_nodes(self._nodes, last) or self._nodes.reader(last):
            if isinstance(found, Normed):
                yield found.step
                last = found.output
                self._tell(last, self._channels)
                continue
            node, make = found, _STEPS.get(found.op_type)
            if node.op_type == "MatMul" and not node.domain:
                step, last = self._product_and_sum(node)
                yield step
            elif make and not node.domain:
                step = make(self, node)
                self._follow(step)
                yield step
                last = node.output[0]
            elif node.domain or not self._changes_nothing(node):
                kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                raise ModelFileError(f"{self._path}: {label(node)} is {shown(kind)[1:-1]}, which the net has not there")
            else:
                last = node.output[0]
            if last in seen:
                raise ModelFileError(f"{self._path}: its nodes go round in a circle at {shown(last)}")
            seen.add(last)
            self._tell(last, self._channels)
        if last not in self._outputs:
            raise ModelFileError(f"{self._path}: its nodes end with {shown(last)}, which is no output")

    def _changes_nothing(self, node: NodeProto) -> bool:
        """Whether a node leaves values, or which class is the most probable: probabilities are made of logits here."""
        if node.op_type in ("Flatten", "Reshape"):
            following = self._nodes.reader(node.output[0])
            if following and following.op_type in _LEAVES:
                following = self._nodes.reader(following.output[0])
            return following is not None and following.op_type in ("Gemm", "MatMul")
        if node.op_type in ("Softmax", "LogSoftmax"):
            return self._nodes.reader(node.output[0]) is None and self._attribute(node, "axis", 1) in (1, -1)
        if node.op_type == "AveragePool":  # over 6×6 windows of a 6×6 map, as an adaptive pooling is exported
            values = self._windows(node)
            return (values["kernel"], values["stride"], values["padding"]) == ((1, 1), (1, 1), (0, 0, 0, 0))
        if node.op_type == "Cast":
            return self._is_at_an_end(node) and self._attribute(node, "to", 0) in _FLOATS
        if node.op_type == "Pad":
            return self._belongs_to_next(node)
        if node.op_type in ("Split", "Concat"):  # into one part, or of one
            return len(node.output) == len(node.input) == 1
        return node.op_type in (
            "Identity",
            "Dropout",
        )  # in training too, of which nothing is left in a net that predicts

    def _is_at_an_end(self, node: NodeProto) -> bool:
        """Whether a node reads the images, or makes what no other node reads."""
        return list(node.input) == [self._input] or not self._nodes.readers(node.output[0])

    def _belongs_to_next(self, pad: NodeProto) -> bool:
        """Whether a Pad puts zeros around maps that a convolution follows, which then has them, or none at all."""
        zeros, following = self._nodes.zeros_around(pad), self._nodes.reader(pad.output[0])
        if len(zeros) != 8 or zeros[:2] + zeros[4:6] != [0] * 4 or min(zeros) < 0:
            return False
        self._around = (zeros[2], zeros[3], zeros[6], zeros[7])
        return not any(zeros) or (following is not None and following.op_type == "Conv")

    def _tell(self, name: str, channels: int) -> None:
        """Say how large a value is, which nodes may compute with."""
        if self.size:
            self._nodes.extents.tell(name, (self._batch, channels, self._map_size, self._map_size))

    def _follow(self, step: Step) -> None:
        """Know how many channels there are behind a step, and how large maps are."""
        values = step.values
        self._channels = values.get("filters", self._channels)
        if "kernel" in values:
            padded = self._map_size + values["padding"][0] + values["padding"][2]
            self._map_size = (padded - values["kernel"][0]) // max(values["stride"][0], 1) + 1

    def _normed(self, name: str) -> Normed | None:
        """LRN of a value, in one node or several."""
        found = lrn_of_nodes(self._nodes, name) or self._nodes.reader(name)
        if found is None or isinstance(found, Normed):
            return found
        return Normed(self.lrn(found), found.output[0]) if found.op_type == "LRN" and not found.domain else None

    def _lrn_in_parts(self, x: str) -> Normed | None:
        """LRN within parts of a value, which become one again; None where it is not cut into parts."""
        cutting = self._nodes.readers(x)
        if not cutting or not _cuts(cutting):
            return None
        parts = self._parts(cutting)
        for part in parts:
            self._tell(part, self._channels // len(parts))
        normed = [self._normed(part) for part in parts]
        joined = [self._nodes.reader(each.output) if each else None for each in normed]
        how = [each.step.values if each else None for each in normed]
        first, concat = next(iter(normed), None), next(iter(joined), None)
        if (
            first is None
            or concat is None
            or concat.op_type != "Concat"
            or any(each != how[0] for each in how)
            or how[0] is None
            or any(other is not concat for other in joined)
            or list(concat.input) != [each.output for each in normed if each]
            or self._attribute(concat, "axis", 0) != 1
        ):
            kind = cutting[0].op_type
            raise ModelFileError(
                f"{self._path}: {label(cutting[0])} is {kind}, which the net has around LRN alone, of equal parts"
            )
        return Normed(Step("lrn", first.step.name, {**how[0], "towers": len(normed)}), concat.output[0])

    def _parts(self, cutting: Sequence[NodeProto]) -> list[str]:
        """The equal parts into which channels are cut, by a Split or by a Slice each; none where they are others."""
        if cutting[0].op_type == "Split":
            (split,) = cutting
            sizes = self._nodes.told(split, "split", 1)
            known = len(set(sizes)) == 1 or not (sizes or split.input[1:])
            return list(split.output) if known and self._attribute(split, "axis", 0) == 1 else []
        size, rest = divmod(self._channels, len(cutting))
        by_start = {self._sliced(node): node.output[0] for node in cutting}
        expected = [(number * size, (number + 1) * size) for number in range(len(cutting))]
        return [by_start[each] for each in expected] if not rest and by_start.keys() == {*expected} else []

    def _sliced(self, node: NodeProto) -> tuple[int, int]:
        """From which channel to which a Slice takes them; (0, 0) where it does not."""
        names = ("starts", "ends", "axes")
        starts, ends, axes = (self._nodes.told(node, name, number) for number, name in enumerate(names, 1))
        one_step = self._nodes.integers(node, 4) == [1] or not any(node.input[4:])
        if len(starts) != 1 or len(ends) != 1 or axes != [1] or not one_step or ANY in (*starts, *ends):
            return 0, 0
        start, end, _ = slice(starts[0], ends[0]).indices(self._channels)
        return start, end

    def _windows(self, node: NodeProto, kernel: tuple[int, ...] = ()) -> dict[str, Any]:
        """What convolutions and poolings have in common; a convolution's kernel is that of its weights."""
        automatic = self._attribute(node, "auto_pad", b"NOTSET")
        spread = self._attribute(node, "dilations", (1, 1))
        if automatic != b"NOTSET" or list(spread) != [1, 1]:
            raise ModelFileError(f"{self._path}: {label(node)} has auto_pad or dilations; it must have none")
        values = {
            "kernel": tuple(self._attribute(node, "kernel_shape", kernel)),
            "stride": tuple(self._attribute(node, "strides", (1, 1))),
            "padding": tuple(self._attribute(node, "pads", (0, 0, 0, 0))),
        }
        if [len(each) for each in values.values()] != [2, 2, 4]:
            raise ModelFileError(f"{self._path}: {label(node)} has windows {values}; they must be of two axes")
        return values

    def conv(self, node: NodeProto) -> Step:
        """A convolution with biases."""
        weight, bias = self._parameters(node, 4)
        filters, channels, *kernel = weight.shape
        values = self._windows(node, tuple(kernel))
        if values["kernel"] != tuple(kernel):
            raise ModelFileError(f"{self._path}: {label(node)} has windows {values['kernel']}, its weights {kernel}")
        values["padding"] = tuple(map(sum, zip(values["padding"], self._around, strict=True)))
        values |= {"filters": filters, "channels": channels, "groups": self._attribute(node, "group", 1)}
        self._around = (0, 0, 0, 0)
        return Step("conv", label(node), values, (weight, bias))

    def pool(self, node: NodeProto) -> Step:
        """Max-pooling."""
        ceiling = {"ceiling": True} if self._attribute(node, "ceil_mode", 0) else {}
        return Step("pool", label(node), self._windows(node) | ceiling)

    def lrn(self, node: NodeProto) -> Step:
        """LRN, of which alpha is divided by the window's size."""
        numbers = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
        alpha, beta, k = (from_float32(self._attribute(node, name, value)) for name, value in numbers.items())
        size = self._attribute(node, "size", 0)
        values = {"size": size, "alpha": alpha / max(size, 1), "beta": beta, "k": k, "towers": 1}
        return Step("lrn", label(node), values)

    def linear(self, node: NodeProto) -> Step:
        """A matrix product with biases."""
        scales = [from_float32(self._attribute(node, name, 1.0)) for name in ("alpha", "beta")]
        if scales != [1, 1] or self._attribute(node, "transA", 0):
            raise ModelFileError(f"{self._path}: {label(node)} has alpha, beta or transA; it must be x·w + b")
        weight, bias = self._parameters(node, 2)
        weight = weight if self._attribute(node, "transB", 0) else weight.T
        return Step("linear", label(node), {"inputs": weight.shape[1], "outputs": weight.shape[0]}, (weight, bias))

    def _product_and_sum(self, product: NodeProto) -> tuple[Step, str]:
        """A matrix product in one node and its biases in the next, which reads them in either place."""
        total = self._nodes.reader(product.output[0])
        weight, others = product.input[-1], [name for name in total.input if name != product.output[0]] if total else []
        if not total or total.op_type != "Add" or total.domain or len(others) != 1:
            raise ModelFileError(f"{self._path}: {label(product)} is MatMul, behind which Add must follow with biases")
        if any(name not in self.arrays for name in (weight, *others)) or len(self.arrays.shape(weight)) != 2:
            raise ModelFileError(f"{self._path}: {label(product)} must have weights of two axes, an initializer")
        inputs, outputs = self.arrays.shape(weight)
        arrays = (self.arrays.of_shape(weight, (inputs, outputs)).T, self.arrays.of_shape(others[0], (outputs,)))
        return Step("linear", label(product), {"inputs": inputs, "outputs": outputs}, arrays), total.output[0]

    def activation(self, node: NodeProto) -> Step:
        """A ReLU or tanh."""
        return Step("relu" if node.op_type == "Relu" else "tanh", label(node))

    def _parameters(self, node: NodeProto, axes: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """A node's weights and biases; these are 0 where there are none, as exporters leave out what adds nothing."""
        names = [name for name in node.input[1:] if name]
        if len(names) not in (1, 2) or not all(name in self.arrays for name in names):
            raise ModelFileError(f"{self._path}: {label(node)} must have weights and biases, each an initializer")
        weight = self.arrays.of_shape(names[0], self.arrays.shape(names[0]))
        outputs = weight.shape[0 if axes == 4 or self._attribute(node, "transB", 0) else -1] if weight.ndim else 0
        if weight.ndim != axes:
            raise ModelFileError(f"{self._path}: {shown(names[0])} is {weight.shape}; it must have {axes} axes")
        biases = self.arrays.of_shape(names[1], (outputs,)) if names[1:] else np.zeros(outputs, np.float32)
        return weight, biases


_STEPS: dict[str, Callable[[_GraphReader, NodeProto], Step]] = {
    "Conv": _GraphReader.conv,
    "Gemm": _GraphReader.linear,
    "LRN": _GraphReader.lrn,
    "MaxPool": _GraphReader.pool,
    "Relu": _GraphReader.activation,
    "Tanh": _GraphReader.activation,
}


def _cuts(nodes: Sequence[NodeProto]) -> bool:
    """Whether nodes cut the value that they read into parts."""
    kinds = {node.op_type if not node.domain else "" for node in nodes}
    return kinds == {"Slice"} or (kinds == {"Split"} and len(nodes) == 1 and len(nodes[0].output) > 1)
