"""Which images a run learns from and which it is judged by, and how a resumed run knows them again."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

from pyalexnet.data.dataset import Dataset, DataSource, as_dataset, held_out_part, is_name, labels_among, split
from pyalexnet.errors import DataError

_PARTS = {"training": "the training data", "held_out": "the held-out data"}


@dataclass(frozen=True)
class DataChoice:
    """A run's images.

    Attributes:
        training: what it learns from.
        held_out: what it is judged by after each epoch, if anything.
        description: what JSON holds of it: where it came from, where that has a name, and what it was.
    """

    training: Dataset
    held_out: Dataset | None
    description: dict[str, Any]


def choose_data(data: DataSource, validation: float | DataSource | None, usual_fraction: float) -> DataChoice:
    """Open the data that a user named.

    Args:
        data: what to learn from.
        validation: the part of ``data`` to hold out, 0 for nothing, or data of its own; None for what ``data`` itself
            holds out, or else ``usual_fraction``.
        usual_fraction: at least 0 and below 1.

    Raises:
        DataError: the data cannot serve; the message says why.
        TypeError: ``data`` or ``validation`` is of an unknown kind.
        ValueError: ``validation`` is a number out of its range.
    """
    training, held_out = as_dataset(data), None
    if validation is None:
        held_out = held_out_part(data)
        fraction = 0.0 if held_out else usual_fraction
    elif isinstance(validation, int | float):
        fraction = validation
    else:
        held_out, fraction = as_dataset(validation), 0.0
    if not 0 <= fraction < 1:
        raise ValueError(f"validation is {fraction!r}; it must be at least 0 and below 1, or data")
    if fraction:
        training, held_out = split(training, fraction)
    if held_out:
        labels_among(held_out, training.classes)
    description = {
        "source": _name(data),
        # What makes the same choice again, whatever is usual by then.
        "validation": (fraction or None) if validation is None else _fraction_or_name(validation),
        "training": _describe(training),
        "held_out": _describe(held_out) if held_out else None,
    }
    return DataChoice(training, held_out, description)


def data_as_before(
    data: DataSource | None, validation: float | DataSource | None, description: Mapping[str, Any]
) -> tuple[DataSource, float | DataSource | None]:
    """What a resumed run's data is: what is given, else what the run had.

    Raises:
        DataError: nothing is given, and the run had arrays, which have no name.
    """
    if data is None and description["source"] is None:
        raise DataError("the run learned from arrays; resuming it needs them as data again")
    given = description["source"] if data is None else data
    return given, description["validation"] if validation is None else validation


def data_changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How a run's data differs from what it was, a line a difference; it may lie elsewhere."""
    changes = []
    for part, name in _PARTS.items():
        if was[part] != now[part]:
            changes.append(f"{name} was {_readable(was[part])} and is {_readable(now[part])}")
    return changes


def _fraction_or_name(validation: float | DataSource) -> float | str | None:
    return validation if isinstance(validation, int | float) else _name(validation)


def _name(data: DataSource) -> str | None:
    if isinstance(data, str) and is_name(data):
        return data
    return os.path.abspath(fspath(data)) if isinstance(data, str | PathLike) else None


def _describe(dataset: Dataset) -> dict[str, Any]:
    labels = np.ascontiguousarray(dataset.labels, "<i4")
    return {"images": len(dataset), "classes": list(dataset.classes), "labels_crc32": zlib.crc32(labels.tobytes())}


def _readable(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return "nothing"
    return f"{part['images']} images of {len(part['classes'])} classes with labels of CRC {part['labels_crc32']:08x}"
