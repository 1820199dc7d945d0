"""Which images a run learns from and which it is judged by, and how a resumed run knows them again."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Lt
from typing_extensions import NotRequired, TypedDict

from pyalexnet.data.dataset import Dataset, fingerprint, image_names, labels_among
from pyalexnet.data.opening import DataSource, as_dataset, held_out_part, is_name
from pyalexnet.data.readable import OnError, describe_unreadable, find_unreadable, indices_of, require_on_error, without
from pyalexnet.data.subset import split
from pyalexnet.errors import DataError
from pyalexnet.system.checks import require
from pyalexnet.system.ranks import ALONE, Ranks

_PARTS: dict[Literal["training", "held_out"], str] = {
    "training": "the training data",
    "held_out": "the held-out data",
}
_Origin = Literal["data", "validation"]


class PartDescription(TypedDict):
    """What JSON holds of a part of a run's images.

    Attributes:
        images: how many.
        classes: their names.
        labels_crc32: checksum of the labels, as little-endian int32.
        content: their :func:`pyalexnet.data.dataset.fingerprint`; runs of earlier versions do not tell it.
    """

    images: Annotated[int, Ge(0)]
    classes: list[str]
    labels_crc32: Annotated[int, Ge(0), Lt(2**32)]
    content: NotRequired[str | None]


class DataDescription(TypedDict):
    """What JSON holds of a run's images.

    Attributes:
        source: where they came from; None where that has no name.
        validation: what was held out: a share, data by name, or nothing that has a name.
        training: those that the run learns from.
        held_out: those that it is judged by, if any.
        unreadable: those that were left out, of the data and of validation data of their own: why, by name.
    """

    source: str | None
    validation: float | str | None
    training: PartDescription
    held_out: PartDescription | None
    unreadable: NotRequired[dict[_Origin, dict[str, str]]]


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
    description: DataDescription


class Reading(TypedDict, total=False):
    """How :func:`choose_data` reads what it opens, for those that hand it on."""

    on_error: OnError
    unreadable: Mapping[_Origin, Mapping[str, str]] | None
    on_stage: Callable[[str, int], None]
    on_images: Callable[[int], None]
    ranks: Ranks


def choose_data(
    data: DataSource,
    validation: float | DataSource | None,
    usual_fraction: float,
    *,
    on_error: OnError = "stop",
    unreadable: Mapping[_Origin, Mapping[str, str]] | None = None,
    on_stage: Callable[[str, int], None] = lambda _stage, _count: None,
    on_images: Callable[[int], None] = lambda _count: None,
    ranks: Ranks = ALONE,
) -> DataChoice:
    """Open the data that a user named.

    Args:
        data: what to learn from.
        validation: the part of ``data`` to hold out, 0 for nothing, or data of its own; None for what ``data`` itself
            holds out, or else ``usual_fraction``.
        usual_fraction: at least 0 and below 1.
        on_error: what images do that cannot be read; those left out are left out before a part is held out.
        unreadable: those that an earlier choice left out, as its description has them; they are left out again.
        on_stage: called with what begins, if that takes time, and how many images it will go through.
        on_images: called with the number of images done since the last call, by all ranks together.
        ranks: those that share the search for images that cannot be read, each with the same data.

    Raises:
        DataError: the data cannot serve; the message says why.
        TypeError: ``data`` or ``validation`` is of an unknown kind.
        ValueError: ``validation`` is a number out of its range, or another rank has another number of images.
    """
    require_on_error(on_error)
    left_out: dict[_Origin, dict[str, str]] = {}

    def opened(dataset: Dataset, part: _Origin) -> Dataset:
        """Without what cannot be read."""
        known = dict((unreadable or {}).get(part, {}))
        if on_error != "stop":
            on_stage("checking the images", len(dataset))
            found, names = find_unreadable(dataset, on_images, ranks), image_names(dataset)
            if callable(on_error):
                for error in found.values():
                    ranks.from_first(partial(on_error, error))
            known = {names[index]: str(error) for index, error in found.items()}
        if known:
            left_out[part] = known
        return without(dataset, indices_of(dataset, known))

    training, held_out = opened(as_dataset(data), "data"), None
    if validation is None:
        held_out = held_out_part(data)
        held_out = held_out and opened(held_out, "validation")
        fraction = 0.0 if held_out else usual_fraction
    elif isinstance(validation, int | float):
        fraction = validation
    else:
        held_out, fraction = opened(as_dataset(validation, "validation"), "validation"), 0.0
    require_share(fraction)
    if fraction:
        training, held_out = split(training, fraction)
    if held_out:
        labels_among(held_out, training.classes)
    description: DataDescription = {
        "source": _name(data),
        # What makes the same choice again, whatever is usual by then.
        "validation": (fraction or None) if validation is None else _fraction_or_name(validation),
        "training": describe_part(training),
        "held_out": describe_part(held_out) if held_out else None,
    }
    if left_out:
        description["unreadable"] = left_out
    return DataChoice(training, held_out, description)


def require_share(validation: float) -> None:
    """Refuse a number that is no part of the data to hold out.

    Raises:
        ValueError: it is none.
    """
    require(0 <= validation < 1, "validation", validation, "at least 0 and below 1, or data")


def describe_part(dataset: Dataset) -> PartDescription:
    """What JSON holds of some images, by which they are known again.

    Raises:
        DataError: their files cannot be looked at.
    """
    labels = np.ascontiguousarray(dataset.labels, "<i4")
    return {
        "images": len(dataset),
        "classes": list(dataset.classes),
        "labels_crc32": zlib.crc32(labels.tobytes()),
        "content": fingerprint(dataset),
    }


def data_as_before(
    data: DataSource | None, validation: float | DataSource | None, description: DataDescription
) -> tuple[DataSource, float | DataSource | None]:
    """What a resumed run's data is: what is given, else what the run had.

    Raises:
        DataError: nothing is given, and the run had arrays, which have no name.
    """
    given = description["source"] if data is None else data
    if given is None:
        raise DataError("the run learned from arrays; resuming it needs them as data again")
    return given, description["validation"] if validation is None else validation


def data_changes(was: DataDescription, now: DataDescription) -> list[str]:
    """How a run's data differs from what it was, a line a difference; it may lie elsewhere."""
    changes = []
    for part, name in _PARTS.items():
        before, after = was[part], now[part]
        if _without_content(before) != _without_content(after):
            changes.append(f"{name} was {_readable(before)} and is {_readable(after)}")
        elif before and after and _tell_content(before, after) and before["content"] != after["content"]:
            changes.append(f"{name} is other images of the same number: their names, sizes or content differ")
    return changes


def unreadable_lines(description: DataDescription) -> list[str]:
    """Lines that tell of the images that were left out, as a description has them."""
    errors = [error for part in description.get("unreadable", {}).values() for error in part.values()]
    return describe_unreadable(errors)


def unchecked_parts(was: DataDescription, now: DataDescription) -> list[str]:
    """The parts of which only number, classes and labels are known: not every data set can tell more."""
    parts = ((name, was[part], now[part]) for part, name in _PARTS.items())
    return [name for name, before, after in parts if before and after and not _tell_content(before, after)]


def _fraction_or_name(validation: float | DataSource) -> float | str | None:
    return validation if isinstance(validation, int | float) else _name(validation)


def _name(data: DataSource) -> str | None:
    if isinstance(data, str) and is_name(data):
        return data
    return os.path.abspath(fspath(data)) if isinstance(data, str | PathLike) else None


def _tell_content(*parts: PartDescription) -> bool:
    """Whether all do: some data sets cannot, and runs of earlier versions did not."""
    return all(part.get("content") is not None for part in parts)


def _without_content(part: PartDescription | None) -> dict[str, object] | None:
    return None if part is None else {field: value for field, value in part.items() if field != "content"}


def _readable(part: PartDescription | None) -> str:
    if part is None:
        return "nothing"
    return f"{part['images']} images of {len(part['classes'])} classes with labels of CRC {part['labels_crc32']:08x}"
