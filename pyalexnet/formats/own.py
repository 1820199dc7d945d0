"""This package's own model files."""

from __future__ import annotations

from pathlib import Path

from pyalexnet.formats.content import Content, as_mean
from pyalexnet.net.model_file import MEAN, MODEL_DESCRIPTION, file_of, model_content, model_shapes
from pyalexnet.net.origin import UNKNOWN
from pyalexnet.net.tensor_file import open_tensors


def read(path: Path) -> Content:
    """What a model file, or that of a run's folder, holds.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, of a newer format, or damaged.
    """
    path = file_of(path)
    with open_tensors(path, "model file", MODEL_DESCRIPTION, model_shapes) as file:
        about, tensors = file.description, file.tensors()
    mean = as_mean(tensors.pop(MEAN), str(path))
    return Content(
        options=about.options,
        parameters=tensors,
        mean=mean,
        classes=about.classes or None,
        step=about.step,
        origin=about.proof.origin if about.proof else UNKNOWN,
        accuracy=about.proof.accuracy if about.proof else None,
        more_views=about.proof.more_views if about.proof else (),
    )


def write(content: Content) -> bytes:
    """A model file, with the logits that a CPU core computes; the content must have a mean.

    Raises:
        OutOfMemoryError: the net does not fit into the computer's memory once more.
    """
    model = content.classifier(["cpu:0"])
    return model_content(model, content.parameters, accuracy=content.accuracy, more_views=content.more_views)
