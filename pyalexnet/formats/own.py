"""This package's own model files, without a net on any device."""

from __future__ import annotations

from pathlib import Path

from pyalexnet.formats.content import Content, as_mean
from pyalexnet.net.model_file import MEAN, MODEL_DESCRIPTION, MODEL_FILE, described, model_shapes
from pyalexnet.net.tensor_file import open_tensors, pack


def read(path: Path) -> Content:
    """What a model file, or that of a run's folder, holds.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, of a newer format, or damaged.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    with open_tensors(path, "model file", MODEL_DESCRIPTION, model_shapes) as file:
        about, tensors = file.description, file.tensors()
    mean = as_mean(tensors.pop(MEAN), str(path))
    return Content(options=about.options, parameters=tensors, mean=mean, classes=about.classes or None, step=about.step)


def write(content: Content) -> bytes:
    """A model file; the content must have a mean."""
    assert content.mean is not None
    about = described(content.classes or (), content.num_classes, content.options, content.step)
    return pack({**content.parameters, MEAN: content.mean}, about)
