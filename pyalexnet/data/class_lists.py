"""Lists of classes: names, WordNet ids, or either with the numbers that give their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike, fspath

from pyalexnet.data.text_lists import number_of, plain_spaces, read_lines, separated, stripped, unquoted
from pyalexnet.errors import DataError
from pyalexnet.system.names import as_class, distinct_classes, printable

WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)


def read_classes_list(path: str | PathLike[str]) -> tuple[str, ...]:
    """Class names in order, from a text file.

    A name a line; or WordNet ids, of which only the ids count, with numbers or words behind them, as in ILSVRC's
    synset_words.txt and map_clsloc.txt; or names with their numbers, before or behind, which give the order.

    Raises:
        DataError: it is empty, names a class twice or can be read in several ways; the message says why.
        OSError: it cannot be read.
    """
    shown, lines = printable(fspath(path)), read_lines(path)
    names = _class_names(lines, shown)
    if not names:
        raise DataError(f"{shown} is empty; it must have a class name a line")
    return distinct_classes(names, shown)


def same_class(name: str) -> str:
    """By which names of classes in lists are compared."""
    return " ".join(plain_spaces(as_class(name)).split())


def _class_names(lines: Sequence[str], shown: str) -> list[str]:
    first_words = [re.split(r"[\s,;]", line.strip("\"'"), maxsplit=1)[0] for line in lines]
    if all(map(WORDNET_ID.fullmatch, first_words)):
        second_words = [[*re.split(r"[\s,;]+", line), ""][1] for line in lines]
        return _by_number(list(map(number_of, second_words)), first_words) or first_words
    for split in (_split_behind_number, _split_before_number):
        pairs = [split(line.rstrip(",;\t ")) for line in lines]
        for some in (pairs, pairs[1:]):  # with or without a heading
            if some and all(len(pair) == 2 for pair in some):
                numbers = [number_of(unquoted(number)) for number, _ in some]
                if found := _by_number(numbers, [unquoted(name) for _, name in some]):
                    return found
    for name, separator in (("tabs", "\t"), ("semicolons", ";")):
        if separated(lines, separator):
            raise DataError(f"{shown} has several columns, between {name}; it must have a class name a line")
    return list(map(stripped, lines))


def _split_behind_number(line: str) -> list[str]:
    """The number at a line's beginning and the name, if it is such a line."""
    return re.split(r"[\t;,: ]\s*", line, maxsplit=1)


def _split_before_number(line: str) -> list[str]:
    """The number at a line's end and the name, if it is such a line."""
    return [part.strip() for part in reversed(re.split(r"[\t;, ](?=[^\t;, ]*$)", line, maxsplit=1))]


def _by_number(numbers: Sequence[int | None], names: Sequence[str]) -> list[str]:
    """The names, if they differ, in the order of their numbers, if these count from 0 or 1; else nothing."""
    if len(set(names)) < len(names):
        return []
    known = [number for number in numbers if number is not None]
    if len(known) < len(names) or sorted(known) not in (list(range(len(names))), list(range(1, len(names) + 1))):
        return []
    return [name for _, name in sorted(zip(known, names, strict=True))]
