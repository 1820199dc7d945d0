"""Caffe's files: nets with weights (``.caffemodel``), without (``.prototxt``), and mean images (``.binaryproto``).

Caffe's images are BGR. Its layers are read in either of their two forms, LayerParameter and V1LayerParameter, and
written in the newer one, under the names that BVLC's AlexNet has. LRN within towers is written as Slice, two of LRN,
and Concat. LRN with another k than 1 is written with 1 and a factor behind it, since OpenCV passes over k:
x / (k + s)^beta = k^-beta · x / (1 + s / k)^beta.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, INPUT_SIZE, LRN_BETA
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.caffe_messages import new_blob, new_net
from pyalexnet.formats.content import MOST_BYTES, Content, as_mean, channels_first, for_colours, require_room
from pyalexnet.formats.steps import Step, content_of, from_float32, steps_of
from pyalexnet.system.checks import reason_of, shown
from pyalexnet.system.files import read_regular_file
from pyalexnet.system.names import printable

_MOST_TEXT_BYTES = 16 * 2**20
_MOST_MEAN_BYTES = 16 * 2**20


# Writing -----------------------------------------------------------------------------------------------------------


def write(content: Content, path: Path) -> dict[Path, bytes]:
    """The net's weights, and beside them its definition, its mean image and the names of its classes.

    Raises:
        MissingLibraryError: protobuf is not installed.
        ValueError: Caffe has no such net, or the file would be too large.
    """
    options = content.options
    if options.crop != INPUT_SIZE and not options.conv1_padding:
        raise ValueError(f"crop is {options.crop}; for Caffe, which pads all sides alike, it must be {INPUT_SIZE}")
    if options.colour_deviation != "none":
        raise ValueError(
            f"colour_deviation is {options.colour_deviation!r}; for Caffe, which scales all colours alike, it must be "
            "'none'"
        )
    if options.pooling != "overlapping":
        raise ValueError(
            f"pooling is {options.pooling!r}; for Caffe, whose windows reach over edges, it must be 'overlapping'"
        )
    require_room(content, "a caffemodel")
    net = _net(content)
    from google.protobuf import text_format

    definition = text_format.MessageToString(net)
    arrays = channels_first(for_colours(content, "bgr").parameters)
    for layer in net.layer:
        if f"{layer.name}.weight" in arrays:
            for kind in ("weight", "bias"):
                _fill(layer.blobs.add(), arrays[f"{layer.name}.{kind}"])
    assert content.mean is not None
    mean = new_blob()
    mean.num, mean.channels, mean.height, mean.width = 1, INPUT_CHANNELS, IMAGE_SIZE, IMAGE_SIZE
    mean.data.append(content.mean[..., ::-1].transpose(2, 0, 1).astype("<f4").tobytes())
    names = "".join(f"{printable(name)}\n" for name in content.classes or ())
    return {
        path.with_suffix(".prototxt"): definition.encode(),
        path.with_name(f"{path.stem}_mean.binaryproto"): mean.SerializeToString(),
        path.with_name(f"{path.stem}_classes.txt"): names.encode(),
        path: net.SerializeToString(),
    }


def _fill(blob: Any, values: npt.NDArray[np.float32]) -> None:
    blob.shape.dim.extend(values.shape)
    blob.data.append(values.astype("<f4").tobytes())


def _net(content: Content) -> Any:
    """The definition."""
    net = new_net()
    net.name = "AlexNet"
    images = net.layer.add(name="data", type="Input", top=["data"])
    images.input_param.shape.add(dim=[1, INPUT_CHANNELS, content.options.crop, content.options.crop])
    last = "data"

    def add(name: str, kind: str, top: str = "") -> Any:
        nonlocal last
        layer = net.layer.add(name=name, type=kind, bottom=[last], top=[top or name])
        last = top or name
        return layer

    for step in steps_of(content.options, content.num_classes):
        name, values = step.name, step.values
        if step.kind == "conv":
            how = add(name, "Convolution").convolution_param
            how.num_output, how.group = values["filters"], values["groups"]
            how.pad.append(values["padding"][0])
            how.kernel_size.append(values["kernel"][0])
            how.stride.append(values["stride"][0])
        elif step.kind == "pool":
            how = add(name, "Pooling").pooling_param
            how.pool, how.kernel_size, how.stride = 0, values["kernel"][0], values["stride"][0]
        elif step.kind == "lrn":
            if values["towers"] > 1:
                last = _add_lrn_in_parts(net, last, f"norm{name[-1]}", values)
            else:
                _set_lrn(add(f"norm{name[-1]}", "LRN").lrn_param, values)
            if values["k"] != 1:
                add(f"norm{name[-1]}_factor", "Power").power_param.scale = values["k"] ** -values["beta"]
        elif step.kind == "lrn_in_map":
            how = add(f"cnorm{name[-1]}", "LRN").lrn_param
            _set_lrn(how, values)
            how.norm_region = 1
            how.alpha = values["alpha"] * values["size"] ** 2  # which Caffe divides by the window's pixels
        elif step.kind == "linear":
            add(name, "InnerProduct").inner_product_param.num_output = values["outputs"]
        else:
            add(f"relu{name[-1]}", "ReLU" if step.kind == "relu" else "TanH", top=last)
            if last in ("fc6", "fc7") and content.options.dropout:
                add(f"drop{last[-1]}", "Dropout", top=last).dropout_param.dropout_ratio = content.options.dropout
    add("prob", "Softmax")
    return net


def _set_lrn(how: Any, values: Mapping[str, Any]) -> None:
    size, alpha = values["size"], values["alpha"] / values["k"]
    how.local_size, how.alpha, how.beta = size, alpha * size, values["beta"]


def _add_lrn_in_parts(net: Any, last: str, name: str, values: Mapping[str, Any]) -> str:
    parts = [f"{name}_{tower}" for tower in range(values["towers"])]
    net.layer.add(name=f"{name}_slice", type="Slice", bottom=[last], top=[f"{part}_in" for part in parts])
    for part in parts:
        layer = net.layer.add(name=part, type="LRN", bottom=[f"{part}_in"], top=[part])
        _set_lrn(layer.lrn_param, values)
    net.layer.add(name=name, type="Concat", bottom=parts, top=[name])
    return name


# Reading -----------------------------------------------------------------------------------------------------------


def read_mean(path: Path) -> npt.NDArray[np.float32]:
    """A mean image of (256, 256, 3), RGB, from a ``.binaryproto``.

    Raises:
        OSError: it cannot be read.
        MissingLibraryError: protobuf is not installed.
        ModelFileError: it is none.
    """
    blob = _parsed(new_blob(), path, _MOST_MEAN_BYTES, "mean image of Caffe")
    values = _array(blob, "its mean", str(path))
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.shape[:1] != (INPUT_CHANNELS,) or values.ndim not in (1, 3):
        raise ModelFileError(f"{path}: the mean image is {values.shape}; it must be (3, 256, 256)")
    return as_mean(values[::-1].transpose(1, 2, 0) if values.ndim == 3 else values[::-1], str(path))


def read(path: Path, prototxt: Path | None = None) -> Content:
    """What a caffemodel holds, as its own definition has it or another one, which names its layers alike.

    Raises:
        OSError: a file cannot be read.
        MissingLibraryError: protobuf is not installed.
        ModelFileError: a file is none of Caffe's, or of a net that this package does not compute.
    """
    net = _parsed(new_net(), path, MOST_BYTES, "caffemodel")
    blobs = {layer.name: layer.blobs for layer in _layers(net)}
    definition = net if prototxt is None else _parsed_text(prototxt)
    reader = _Reader(definition, blobs, str(path))
    steps = list(_with_factors(reader.steps(), str(path)))
    content = content_of(steps, reader.size, reader.dropout, str(path))
    return Content(**{**vars(content), "colours": "bgr", "mean": reader.mean})


def _with_factors(steps: Iterable[Step], source: str) -> Iterator[Step]:
    """The steps; LRN with k, where a factor stands behind one without."""
    before: Step | None = None
    for step in steps:
        if "factor" not in step.values:
            if before:
                yield before
            before = step
            continue
        factor = step.values["factor"]
        how = before.values if before and before.kind == "lrn" else {}
        if (how.get("k"), how.get("beta")) != (1, LRN_BETA) or not 0 < factor < math.inf:
            raise ModelFileError(f"{source}: {step.name} multiplies by {factor}, which the net does behind LRN alone")
        k = float(f"{factor ** (-1 / LRN_BETA):.6g}")
        before = Step("lrn", step.name, {**how, "k": k, "alpha": how["alpha"] * k})
    if before:
        yield before


def _parsed(message: Any, path: Path, most_bytes: int, what: str) -> Any:
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(read_regular_file(path, most_bytes))
    except DecodeError as error:
        raise ModelFileError(f"{path} is no {what} or is cut short: {reason_of(error)}") from error
    return message


def _parsed_text(path: Path) -> Any:
    from google.protobuf import text_format

    try:
        text = read_regular_file(path, _MOST_TEXT_BYTES).decode()
        return text_format.Parse(text, new_net(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{path} is no definition of a net: {reason_of(error)}") from error


def _layers(net: Any) -> list[Any]:
    return list(net.layer or net.layers)


def _array(blob: Any, name: str, source: str) -> npt.NDArray[np.float32]:
    """The numbers of a blob; nothing is allocated by what its header says."""
    legacy = [getattr(blob, extent) for extent in ("num", "channels", "height", "width")]
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else tuple(legacy)
    data = b"".join(blob.data)
    if blob.double_data or min(shape, default=1) < 0 or math.prod(shape) * 4 != len(data):
        raise ModelFileError(f"{source}: {name} is {shape}, with {len(data):,} bytes; it must have 4 a number, float32")
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)


# The older form's types by the newer form's names; others keep their number.
_V1_TYPES = (
    {1: "Accuracy", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 9: "HDF5Data"}
    | {12: "ImageData", 14: "InnerProduct", 15: "LRN", 17: "Pooling", 18: "ReLU", 20: "Softmax", 21: "SoftmaxWithLoss"}
    | {22: "Split", 23: "TanH", 24: "WindowData", 26: "Power", 29: "MemoryData", 30: "ArgMax", 32: "DummyData"}
    | {33: "Slice", 36: "Silence"}
)
_IMAGES = {"Input", "Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "WindowData"}
_ENDS = {"Softmax", "SoftmaxWithLoss", "Accuracy", "ArgMax", "Silence"}


class _Reader:
    """A definition that is a row of steps, but for LRN in parts.

    Attributes:
        size: height and width of the images, 0 where it is not told.
        dropout: the chance to drop an output.
        mean: as the definition has it, RGB.
    """

    def __init__(self, net: Any, blobs: Mapping[str, Sequence[Any]], source: str) -> None:
        self._layers = _layers(net)
        self._blobs = blobs
        self._source = source
        self.dropout = 0.0
        self.size = 0
        self._filters = 0  # of the last convolution
        self.mean: npt.NDArray[np.float32] | None = None
        self._last = net.input[0] if net.input else ""
        dims = list(net.input_shape[0].dim if net.input_shape else net.input_dim)
        if not self._layers:
            raise ModelFileError(f"{source} is no caffemodel: it has no layers")
        for layer in self._layers:
            if self._type(layer) in _IMAGES and layer.top:
                self._last = self._last or layer.top[0]
                dims = dims or self._about_images(layer)
        if len(dims) == 4:
            self.size = dims[2] if dims[1] == INPUT_CHANNELS and dims[2] == dims[3] else -1
        if self.size < 0:
            raise ModelFileError(f"{source}: its images are {dims}; they must be [N, 3, size, size]")

    def _type(self, layer: Any) -> str:
        return str(layer.type if isinstance(layer.type, str) else _V1_TYPES.get(layer.type, layer.type))

    def _about_images(self, layer: Any) -> list[int]:
        """Take over what a layer says of the images that it gives; their extents."""
        how = layer.transform_param
        if how.scale != 1:
            raise ModelFileError(f"{self._source}: its images are multiplied by {how.scale}; it must be by 1")
        if len(how.mean_value) == INPUT_CHANNELS:
            self.mean = as_mean(np.array(how.mean_value[::-1], np.float32), self._source)
        if self._type(layer) == "Input" and layer.input_param.shape:
            return list(layer.input_param.shape[0].dim)
        return [1, INPUT_CHANNELS, how.crop_size, how.crop_size] if how.crop_size else []

    def steps(self) -> Iterator[Step]:
        """What the layers do, one after the other."""
        parts: dict[str, Step | None] = {}
        copied: dict[str, str] = {}  # what Split layers copy, which Caffe puts where several layers read a value
        ended = False
        for layer in self._layers:
            kind = self._type(layer)
            if kind in _IMAGES or kind in _ENDS:
                ended = ended or (kind in _ENDS and self._last in layer.top)
                continue
            bottom = [copied.get(name, name) for name in layer.bottom]
            self._last = self._last or (bottom[0] if bottom else "")
            if kind == "Split" and len(bottom) == 1:
                copied |= dict.fromkeys(layer.top, bottom[0])
                continue
            if kind == "Slice" and bottom == [self._last] and len(layer.top) == 2:
                self._require_channels(layer.slice_param, "slice_dim", layer)
                points = list(layer.slice_param.slice_point)
                if points not in ([], [self._filters // 2]):
                    raise ModelFileError(
                        f"{self._source}: {_label(layer)} slices at {points}; it must be in the middle"
                    )
                parts = dict.fromkeys(layer.top)
            elif parts and kind == "LRN" and len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] in parts:
                step = self._lrn(layer)
                parts = dict(
                    (layer.top[0], step) if name == layer.bottom[0] else (name, of) for name, of in parts.items()
                )
            elif parts and kind == "Concat" and list(layer.bottom) == list(parts) and layer.top:
                self._require_channels(layer.concat_param, "concat_dim", layer)
                yield self._lrn_in_parts(layer, list(parts.values()))
                parts, self._last = {}, layer.top[0]
            elif ended or parts or bottom != [self._last] or len(layer.top) != 1:
                raise ModelFileError(
                    f"{self._source}: {_label(layer)} leads from {shown(list(layer.bottom))} to "
                    f"{shown(list(layer.top))}; it must lead on from {shown(self._last)}, where the layer before ends"
                )
            else:
                yield from self._step(layer, kind)
                self._last = layer.top[0]
                copied.pop(self._last, None)

    def _require_channels(self, how: Any, older: str, layer: Any) -> None:
        if how.axis != 1 or getattr(how, older) != 1:
            raise ModelFileError(f"{self._source}: {_label(layer)} has another axis than 1, the channels")

    def _lrn_in_parts(self, layer: Any, parts: Sequence[Step | None]) -> Step:
        first = parts[0]
        if first is None or any(part is None or part.values != first.values for part in parts):
            raise ModelFileError(f"{self._source}: {_label(layer)} joins what are not two equal LRN")
        return Step("lrn", _label(layer), {**first.values, "towers": len(parts)})

    def _step(self, layer: Any, kind: str) -> Iterator[Step]:
        if kind == "Convolution":
            yield self._convolution(layer)
        elif kind == "InnerProduct":
            yield self._linear(layer)
        elif kind == "Pooling":
            yield self._pool(layer)
        elif kind == "LRN":
            yield self._lrn(layer)
        elif kind == "TanH" or (kind == "ReLU" and layer.relu_param.negative_slope == 0):
            yield Step("tanh" if kind == "TanH" else "relu", _label(layer))
        elif kind == "Power" and (layer.power_param.power, layer.power_param.shift) == (1, 0):
            yield Step("lrn", _label(layer), {"factor": layer.power_param.scale})
        elif kind == "Dropout":
            self.dropout = from_float32(layer.dropout_param.dropout_ratio)
        elif kind != "Flatten":
            what = "ReLU with a slope below 0" if kind == "ReLU" else shown(kind)[1:-1]
            raise ModelFileError(f"{self._source}: {_label(layer)} is {what}, which the net has not")

    def _convolution(self, layer: Any) -> Step:
        how = layer.convolution_param
        weight, bias = self._parameters(layer, how.num_output)
        if weight.ndim != 4 or not how.bias_term or how.axis != 1 or any(each != 1 for each in how.dilation):
            raise ModelFileError(f"{self._source}: {_label(layer)} has dilation, another axis than 1 or no biases")
        kernel, stride, padding = (
            self._extents(how, name, default) for name, default in (("kernel_size", 0), ("stride", 1), ("pad", 0))
        )
        self._filters = weight.shape[0]
        values = {
            "filters": self._filters,
            "channels": weight.shape[1],
            "kernel": kernel,
            "stride": stride,
            "padding": (*padding, *padding),
            "groups": how.group,
        }
        if weight.shape[2:] != kernel:
            raise ModelFileError(
                f"{self._source}: {_label(layer)} has windows {kernel}, its weights {weight.shape[2:]}"
            )
        return Step("conv", _label(layer), values, (weight, bias))

    def _pool(self, layer: Any) -> Step:
        how = layer.pooling_param
        if how.pool != 0 or how.global_pooling:
            raise ModelFileError(f"{self._source}: {_label(layer)} is no pooling by maxima within windows")
        kernel, stride, padding = (
            self._extents(how, name, default) for name, default in (("kernel_size", 0), ("stride", 1), ("pad", 0))
        )
        values = {"kernel": kernel, "stride": stride, "padding": (*padding, *padding), "ceiling": True}
        return Step("pool", _label(layer), values)

    def _extents(self, how: Any, name: str, default: int) -> tuple[int, int]:
        """Height and width, told apart or as one."""
        short = name.removesuffix("_size")
        if how.HasField(f"{short}_h") or how.HasField(f"{short}_w"):
            return getattr(how, f"{short}_h"), getattr(how, f"{short}_w")
        told = getattr(how, name)
        several = [told] if isinstance(told, int) else list(told) or [default]
        if len(several) > 2:
            raise ModelFileError(f"{self._source}: {name} is {several}; it must be of two axes")
        return several[0], several[-1]

    def _lrn(self, layer: Any) -> Step:
        how = layer.lrn_param
        alpha, beta, k, size = (
            from_float32(how.alpha),
            from_float32(how.beta),
            from_float32(how.k),
            max(how.local_size, 1),
        )
        if how.norm_region == 1:
            values = {
                "size": how.local_size,
                "alpha": alpha / size**2,
                "beta": beta,
                "k": 1.0,
            }  # Caffe leaves k out here
            return Step("lrn_in_map", _label(layer), values)
        values = {"size": how.local_size, "alpha": alpha / size, "beta": beta, "k": k, "towers": 1}
        return Step("lrn", _label(layer), values)

    def _linear(self, layer: Any) -> Step:
        how = layer.inner_product_param
        weight, bias = self._parameters(layer, how.num_output)
        if not how.bias_term or how.axis != 1 or how.transpose:
            raise ModelFileError(f"{self._source}: {_label(layer)} is transposed, has another axis than 1 or no biases")
        weight = weight.reshape(weight.shape[-2:]) if weight.ndim > 2 and math.prod(weight.shape[:-2]) == 1 else weight
        if weight.ndim != 2:
            raise ModelFileError(
                f"{self._source}: weights of {_label(layer)} are {weight.shape}; they must have two axes"
            )
        return Step("linear", _label(layer), {"inputs": weight.shape[1], "outputs": weight.shape[0]}, (weight, bias))

    def _parameters(self, layer: Any, outputs: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Weights, and as many biases as there are outputs."""
        blobs = self._blobs.get(layer.name, ())
        if len(blobs) != 2:
            raise ModelFileError(
                f"{self._source}: {_label(layer)} has {len(blobs)} arrays; it must have weights and biases"
            )
        weight, bias = (_array(blob, f"an array of {_label(layer)}", self._source) for blob in blobs)
        if bias.size != outputs or weight.size == 0:
            raise ModelFileError(
                f"{self._source}: {_label(layer)} has {bias.size} biases and weights {weight.shape}; "
                f"it must have {outputs} outputs"
            )
        return weight, bias.reshape(-1)


def _label(layer: Any) -> str:
    """A layer as messages call it."""
    return shown(layer.name)[1:-1]
