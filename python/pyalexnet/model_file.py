"""Model files: a classifier's weights, mean image, classes and options in one safetensors file.

Beside the parameters under their own names, the tensor ``input.mean`` holds the mean image. The description
(:mod:`pyalexnet.tensor_file`) has the classes, the number of outputs, the options and the training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np

from pyalexnet.architecture import IMAGE_SIZE, Options, parameter_shapes
from pyalexnet.classifier import Classifier, default_devices
from pyalexnet.errors import ModelFileError
from pyalexnet.files import write_atomically
from pyalexnet.network import AlexNet
from pyalexnet.tensor_file import pack, read, require_shapes

MODEL_FILE = "model.safetensors"

_MEAN = "input.mean"


def save_model(path: str | PathLike[str], model: Classifier) -> None:
    """Write a classifier to a file, whole or not at all.

    A file that was there stays until the new one is complete.

    Raises:
        OSError: the file cannot be written; the message says why and how many bytes were needed.
    """
    write_atomically(path, model_content(model))


def model_content(model: Classifier) -> bytes:
    """What :func:`save_model` writes."""
    about = {
        "classes": model.classes,
        "num_classes": model.net.num_classes,
        "options": asdict(model.net.options),
        "step": model.net.step,
    }
    return pack({**model.net.parameters(), _MEAN: model.mean}, about)


def load_model(
    path: str | PathLike[str],
    *,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
) -> Classifier:
    """Read a classifier from a file that :func:`save_model` wrote.

    Args:
        path: the file, or a run's folder, for its ``model.safetensors``.
        devices: where the net is to compute; by default the first GPU, or the CPU where there is none.
        memory_limit: bytes that the net may take on each device; by default what the device has.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, of a newer format, or damaged; the message says which.
    """
    path = Path(path)
    if path.is_dir():
        path /= MODEL_FILE
    about, tensors = read(path, "model file")
    try:
        classes, num_classes, step = _strings(about["classes"]), _count(about["num_classes"]), _count(about["step"])
        options = Options(**about["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} describes its net in a way not known here: {error!r}") from error
    shapes = parameter_shapes(num_classes, options.towers)
    require_shapes(path, tensors, {**shapes, _MEAN: (IMAGE_SIZE, IMAGE_SIZE, 3)})
    devices = default_devices() if devices is None else devices
    net = AlexNet(num_classes, devices=devices, memory_limit=memory_limit, **vars(options))
    mean = tensors.pop(_MEAN)
    net.load_parameters(tensors)
    net.step = step
    return Classifier(net, classes, np.array(mean), learned_from=path.parent)


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{value!r:.100} is no list of names")
    return tuple(value)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise TypeError(f"{value!r:.100} is no count")
    return value
