"""A model in host memory, in this package's own names and layout: what every file format is read into and written from.

Other programs keep images as (N, channels, height, width), a convolution's weights as (filters, channels, height,
width) and a fully connected layer's as (outputs, inputs), the inputs of fc6 channel by channel.
:func:`channels_first` and :func:`channels_last` go from one layout to the other; both only move values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, Options, parameter_shapes
from pyalexnet.errors import ModelFileError
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import MODEL_DESCRIPTION, ModelDescription, described
from pyalexnet.net.network import AlexNet
from pyalexnet.net.origin import UNKNOWN, Origin
from pyalexnet.net.proof import Accuracy
from pyalexnet.net.tensor_file import FORMAT, Tensors

Colours: TypeAlias = Literal["rgb", "bgr"]

_FC6_INPUT = (6, 6, 256)  # height, width, channels

MOST_BYTES = 2**31 - 1
"""A protobuf message, which ONNX and Caffe files are, can have no more."""
_OTHER_BYTES = 2**22  # what there is in one beside the parameters


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a model is.

    Attributes:
        options: the net's.
        parameters: as :meth:`pyalexnet.AlexNet.parameters` gives them.
        mean: float32 (256, 256, 3), RGB, from 0 to 255; None where the file has none.
        classes: names of the outputs, from the first on; None where the file has none.
        step: training steps done.
        colours: in which order ``conv1.weight`` takes an image's colours.
        mean_planes: in which order a ``.npy`` of (3, 256, 256) has a mean image's, as the program wrote it.
        origin: where it came from.
        accuracy: how often it was wrong by one view; None where nobody measured it, or it is no more the same.
        more_views: how often it was by more of them, as :class:`pyalexnet.net.proof.Proof` has it.
        remarks: what who converts should know of it.
    """

    options: Options
    parameters: Tensors
    mean: npt.NDArray[np.float32] | None = None
    classes: tuple[str, ...] | None = None
    step: int = 0
    colours: Colours = "rgb"
    mean_planes: Colours = "bgr"
    origin: Origin = UNKNOWN
    accuracy: Accuracy | None = None
    more_views: tuple[Accuracy, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Outputs of fc8."""
        return self.parameters["fc8.bias"].size

    def classifier(self, devices: Sequence[str], memory_limit: int | None = None) -> Classifier:
        """The model on devices; it must have a mean, and be for images in RGB.

        Raises:
            ValueError: ``devices`` makes no sense for the net.
            DeviceNotFoundError: there is no such device.
            OutOfMemoryError: the net does not fit.
        """
        assert self.mean is not None
        assert self.colours == "rgb"
        net = AlexNet.unfilled(self.num_classes, devices=devices, memory_limit=memory_limit, **vars(self.options))
        net.load_parameters(self.parameters)
        net.step = self.step
        return Classifier(net, self.classes or (), self.mean, origin=self.origin)

    def description(self) -> str:
        """All but the arrays, as JSON that :func:`read_description` reads."""
        about = described(self.classes or (), self.num_classes, self.options, self.step)
        return json.dumps({"format": FORMAT, "checksum": 0, **about})  # others may change the arrays


def read_description(text: bytes, name: str) -> ModelDescription:
    """What :meth:`Content.description` wrote into a file called ``name``.

    Raises:
        ModelFileError: it is something else.
    """
    return MODEL_DESCRIPTION.parse(text, name)


def with_description(content: Content, about: ModelDescription) -> Content:
    """A content with the classes and the step of a description."""
    return replace(content, classes=about.classes or None, step=about.step)


def channels_first(parameters: Mapping[str, npt.NDArray[np.float32]]) -> Tensors:
    """Parameters as PyTorch, ONNX and Caffe have them."""
    return {name: np.ascontiguousarray(_to_channels_first(name, value)) for name, value in parameters.items()}


def _to_channels_first(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if name == "fc6.weight":
        return value.reshape(*_FC6_INPUT, -1).transpose(3, 2, 0, 1).reshape(value.shape[1], -1)
    return value.T


def channels_last(parameters: Mapping[str, npt.NDArray[np.float32]]) -> Tensors:
    """Parameters of PyTorch, ONNX and Caffe as this package has them."""
    return {name: np.ascontiguousarray(_to_channels_last(name, value)) for name, value in parameters.items()}


def _to_channels_last(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if name == "fc6.weight":
        height, width, channels = _FC6_INPUT
        return value.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return value.T


def shapes_channels_first(num_classes: int, options: Options) -> dict[str, tuple[int, ...]]:
    """The shapes of :func:`channels_first`."""
    shapes = parameter_shapes(num_classes, *options.computed_as)
    return {
        name: (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1] for name, shape in shapes.items()
    }


def for_colours(content: Content, colours: Colours) -> Content:
    """The same net for images whose colours come in this order."""
    if content.colours == colours:
        return content
    parameters = {**content.parameters, "conv1.weight": content.parameters["conv1.weight"][:, :, ::-1].copy()}
    return replace(content, parameters=parameters, colours=colours)


def require_finite(parameters: Mapping[str, npt.NDArray[np.float32]], source: str) -> None:
    """Refuse weights with which no net computes.

    Raises:
        ModelFileError: a value is NaN or infinite.
    """
    for name, value in parameters.items():
        if not np.isfinite(value).all():
            bad = np.count_nonzero(~np.isfinite(value))
            raise ModelFileError(
                f"{source}: {name} has {bad} NaN or infinite of {value.size} values; all must be finite"
            )


def as_mean(values: npt.NDArray[Any], source: str) -> npt.NDArray[np.float32]:
    """A mean image of three numbers or of (256, 256, 3), RGB.

    Raises:
        ModelFileError: it has another shape, or values that are not from 0 to 255.
    """
    shape = (IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS)
    if values.dtype.kind not in "iuf" or values.shape not in (shape, shape[-1:]):
        raise ModelFileError(
            f"{source}: the mean has shape {values.shape} and dtype {values.dtype}; it must be three numbers, or of "
            f"shape {shape}"
        )
    if not (values.min() >= 0 and values.max() <= 255):
        raise ModelFileError(f"{source}: the mean is from {values.min()} to {values.max()}; it must be from 0 to 255")
    return np.ascontiguousarray(np.broadcast_to(values, shape), np.float32)


def require_room(content: Content, what: str) -> None:
    """Refuse what no protobuf message can hold.

    Raises:
        ValueError: there are too many values.
    """
    needed = sum(value.nbytes for value in content.parameters.values()) + _OTHER_BYTES
    if needed > MOST_BYTES:
        raise ValueError(f"the net has {needed:,} bytes; {what} can have {MOST_BYTES:,}")
