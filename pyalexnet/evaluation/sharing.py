"""What ranks compare before they share out what a trained net is used for: what differs is named with its rank."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import ParamSpec

import numpy as np
import numpy.typing as npt

from pyalexnet.data.choice import describe_part
from pyalexnet.data.dataset import Dataset, digest
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.placement import describe_placement
from pyalexnet.net.tensor_file import checksum
from pyalexnet.system.ranks import Ranks, same_versions

Course = ParamSpec("Course")


def agree_on(
    ranks: Ranks, model: Classifier, images: Dataset | Sequence[object], settings: Mapping[str, object]
) -> None:
    """See that all ranks are about to do the same.

    Args:
        ranks: who share the work; of one alone nothing is read.
        model: the model.
        images: a data set, or images as :func:`pyalexnet.predict` takes them.
        settings: what else the result follows from, by name; functions count as alike.

    Raises:
        ValueError: something is another on another rank; the message names it, the rank and both values.
        DataError: the images' files cannot be looked at.
    """
    if ranks.size == 1:
        return
    about = describe_part(images) if isinstance(images, Dataset) else _describe_pictures(images)
    ranks.agree(
        same_versions()
        | {name: "a function" if callable(value) else value for name, value in settings.items()}
        | describe_placement(model.net.devices)
        | _describe_model(model)
        | {f"the data's {field}": value for field, value in about.items()}
    )


def heard_of_first(ranks: Ranks, function: Callable[Course, None]) -> Callable[Course, None]:
    """What is told how far a work has come: the function itself on rank 0, which speaks for all; elsewhere nothing."""

    def unheard(*_arguments: Course.args, **_named: Course.kwargs) -> None:
        pass

    return function if ranks.is_first else unheard


def _describe_model(model: Classifier) -> dict[str, object]:
    return {
        "the model's options": vars(model.net.options),
        "the model's parameters": f"{checksum(model.net.parameters()):08x}",
        "the model's mean image": f"{zlib.crc32(np.ascontiguousarray(model.mean).data):08x}",
        "the model's classes": digest(model.classes),
    }


def _describe_pictures(images: Sequence[object]) -> dict[str, object]:
    """Their number, and a checksum of paths and files' sizes, of pixels and bytes, and of the kinds of all others."""
    return {"images": len(images), "content": digest(part for image in images for part in _identity(image))}


def _identity(image: object) -> Iterable[str | npt.NDArray[np.generic]]:
    if isinstance(image, str | PathLike):
        try:
            size = os.stat(image).st_size
        except (OSError, ValueError):  # what cannot be read is told of when its turn comes
            size = -1
        return [os.fsdecode(image), str(size)]
    if isinstance(image, bytes | bytearray | memoryview):
        return [np.frombuffer(image, np.uint8)]
    return [str(image.shape), image] if isinstance(image, np.ndarray) else [type(image).__name__]
