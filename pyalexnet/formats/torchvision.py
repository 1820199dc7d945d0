"""torchvision's ``alexnet``: the net of 2014 in one tower, without LRN, with names of its own in its state dict.

The state dict has weights alone. Images are normalised as torchvision's weights expect them, ``(x / 255 - mean) /
deviation`` with numbers for ImageNet's red, green and blue; here that is ``(x - 255 mean) / (255 deviation)``, of which
the mean is the model's and the deviation an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import Options
from pyalexnet.formats.content import (
    Content,
    as_mean,
    channels_first,
    channels_last,
    require_finite,
    shapes_channels_first,
)
from pyalexnet.net.tensor_file import Tensors

FIRST, LAST = "features.0.weight", "classifier.6.bias"
"""The name by which its state dict is known, and that of a number for each class."""

OPTIONS = Options(filters="2014", towers=1, lrn=False, crop=224, conv1_padding=2, colour_deviation="imagenet")
"""What torchvision's net computes."""

_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_PLACES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
_LEARNING = ("weight_init", "bias_init", "bias_update", "dropout", "conv_algorithm", "precision", "lrn_alpha", "lrn_k")
"""Options that a trained net without LRN computes the same with, but for rounding."""


def mean_image() -> npt.NDArray[np.float32]:
    """What torchvision subtracts of each colour, as a mean image."""
    return as_mean(np.array(_MEAN), "torchvision")


def computes_as(options: Options) -> bool:
    """Whether a net with these options computes what torchvision's does, of images from 0 to 255 less the mean."""
    return not _differences(options)


def _differences(options: Options) -> list[str]:
    same = replace(OPTIONS, **{name: getattr(options, name) for name in _LEARNING})
    return [name for name, value in vars(options).items() if value != getattr(same, name)]


def state_of(content: Content) -> Tensors:
    """A state dict for ``torchvision.models.alexnet``.

    Raises:
        ValueError: the net is another one, or is for images that are normalised otherwise.
    """
    if names := _differences(content.options):
        found, wanted = (
            ", ".join(f"{name}={getattr(options, name)!r}" for name in names) for options in (content.options, OPTIONS)
        )
        raise ValueError(f"the net has {found}; for torchvision's it must have {wanted}")
    assert content.mean is not None
    if not np.array_equal(content.mean, mean_image()):
        raise ValueError(
            f"the mean is from {content.mean.min():.6g} to {content.mean.max():.6g}; for torchvision's net, whose "
            f"state dict has none, it must be {', '.join(f'{value:.6g}' for value in _MEAN)}"
        )
    return {_renamed(name): value for name, value in channels_first(content.parameters).items()}


def _renamed(name: str) -> str:
    layer, kind = name.split(".")
    return f"{_PLACES[layer]}.{kind}"


def shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
    """What its state dict has, by name."""
    return {_renamed(name): shape for name, shape in shapes_channels_first(num_classes, OPTIONS).items()}


def content_of(tensors: Mapping[str, npt.NDArray[Any]], source: str) -> Content:
    """The net of a state dict that has :func:`shapes`, all float32.

    Raises:
        ModelFileError: a value is NaN or infinite.
    """
    require_finite(tensors, source)
    own = {_renamed(name): name for name in shapes_channels_first(2, OPTIONS)}
    parameters = channels_last({own[name]: value for name, value in tensors.items()})
    return Content(options=OPTIONS, parameters=parameters, mean=mean_image())
