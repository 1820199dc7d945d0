"""Labels as numbers of classes: by the classes' names, or by numbers that count from 0 or from 1."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath

from pyalexnet.data.class_lists import WORDNET_ID, same_class
from pyalexnet.data.text_lists import is_numeric, number_of
from pyalexnet.errors import DataError
from pyalexnet.system.names import distinct_classes, printable


def number_labels(
    texts: Sequence[str], classes: Sequence[str] | None, path: str | PathLike[str], first_label: int | None = None
) -> tuple[tuple[str, ...], list[int]]:
    """Class names, and for every label its class's number.

    Args:
        texts: the labels, names of classes or numbers.
        classes: the classes' names; None: those that occur.
        path: the list, for messages.
        first_label: the number of the first class, 0 or 1; None: what the numbers leave no doubt of.

    Raises:
        DataError: a label is none of the classes, or it is not sure which; the message says why.
    """
    shown = printable(fspath(path))
    known = {same_class(name) for name in classes or ()}
    if (classes is not None and all(same_class(text) in known for text in texts)) or not all(map(is_numeric, texts)):
        if first_label is not None:
            raise DataError(f"first_label is {first_label}; it must be left out, as the labels of {shown} are names")
        return _numbers_of_names(texts, classes, shown)
    numbers = _whole_numbers(texts, first_label or 0, shown)
    if classes is None:
        occurring = sorted(set(numbers))
        index = {number: place for place, number in enumerate(occurring)}
        return tuple(map(str, occurring)), [index[number] for number in numbers]
    first = _first_label(numbers, len(classes), shown) if first_label is None else first_label
    if max(numbers) - first >= len(classes):
        raise DataError(
            f"{shown} has the label {max(numbers)}, but there are {len(classes):,} classes, from {first} on"
        )
    if first == 1 and len(classes) > 1:
        _require_sure_order(classes, shown)
    return tuple(classes), [number - first for number in numbers]


def _numbers_of_names(
    texts: Sequence[str], classes: Sequence[str] | None, shown: str
) -> tuple[tuple[str, ...], list[int]]:
    """See :func:`number_labels`; the labels are names."""
    spelled = list(map(same_class, texts))
    names = distinct_classes(sorted(set(spelled)), shown) if classes is None else tuple(classes)
    index = {same_class(name): number for number, name in enumerate(names)}
    unknown = [text for text, name in zip(texts, spelled, strict=True) if name not in index]
    if unknown:
        raise DataError(
            f"{shown} has the label {printable(unknown[0])!r}, which is not among the {len(names):,} classes given"
        )
    return names, [index[name] for name in spelled]


def _whole_numbers(texts: Sequence[str], least: int, shown: str) -> list[int]:
    numbers = []
    for text in texts:
        number = number_of(text)
        if number is None or number < least:
            raise DataError(f"{shown} has the label {text!r}; numbers must be whole and count from {least}")
        numbers.append(number)
    return numbers


def _first_label(numbers: Sequence[int], classes: int, shown: str) -> int:
    """The number of the first class, where the numbers leave no doubt."""
    if 0 in numbers:
        return 0
    if max(numbers) < classes:
        raise DataError(
            f"{shown} has numbers from {min(numbers)} to {max(numbers)} for {classes:,} classes, which may count from "
            "0 or from 1; say which by first_label (--first-label)"
        )
    return 1


def _require_sure_order(classes: Sequence[str], shown: str) -> None:
    # ILSVRC's own validation labels count classes from 1 in the order of its development kit. By the order of
    # the training folders nearly every label would be wrong, and nothing would show it but the net's error.
    if all(map(WORDNET_ID.fullmatch, classes)) and list(classes) == sorted(classes):
        raise DataError(
            f"{shown} numbers classes from 1, as ILSVRC does in an order of its own, but the classes given are in "
            "alphabetical order; classes must list the WordNet ids in the order of the numbers (meta.mat of the "
            "development kit has it), or the labels must be WordNet ids"
        )
