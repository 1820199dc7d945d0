"""Lists of labels and of classes, in the spellings in which they are handed out and in which editors leave them.

A list is read by what it says: a column that names the images makes it one of pairs, whatever separates its columns and
whichever order they have; without such a column it is one label a line. What can be read in two ways is refused.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import NamedTuple, TypeVar

from pyalexnet.data.images import IMAGE_SUFFIXES
from pyalexnet.errors import DataError
from pyalexnet.system.files import open_regular_file
from pyalexnet.system.names import as_class, distinct_classes, printable

WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)

_LARGEST_LIST = 2**28
_NAMED = 3

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Spaces that editors and web pages make of plain ones, and marks that nobody sees.
_SPACES = str.maketrans({"\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u3000": " ", "\u200b": None, "\ufeff": None})

_SEPARATORS = {"tabs": "\t", "semicolons": ";", "commas": ","}
_LABEL_HEADINGS = (
    *("label", "labels", "class", "classes", "category", "target", "wnid", "synset", "predictionstring"),
    *("class_name", "classname", "label_name", "class_id", "label_id", "category_id", "breed", "species", "y"),
)
_HEADINGS = {*_LABEL_HEADINGS, "id", "image", "image_id", "imageid", "file", "filename", "file_name", "path", "name"}
_BOXES = re.compile(rf"(?:{WORDNET_ID.pattern}(?: +-?\d+(?:\.\d+)?){{4}} *)+", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)

Row = list[str]
Key = TypeVar("Key", str, int)


class Table(NamedTuple):
    """A list's rows of fields, all of the same number, and what separates these."""

    rows: list[Row]
    separator: str


def read_lines(path: str | PathLike[str]) -> list[str]:
    """The lines of a text file that are not empty, in UTF-8 or, where its first bytes say so, in UTF-16 or UTF-32.

    Raises:
        DataError: it is no text, or no regular file.
        OSError: it cannot be read.
    """
    shown = printable(fspath(path))
    with open_regular_file(path) as file:
        content = file.read(_LARGEST_LIST + 1)
    if len(content) > _LARGEST_LIST:
        raise DataError(f"{shown} has more than {_LARGEST_LIST:,} bytes; a list must have fewer")
    mark, encoding = next((one for one in _BYTE_ORDER_MARKS if content.startswith(one[0])), (b"", _guessed(content)))
    try:
        text = content[len(mark) :].decode(encoding).translate(_SPACES)
    except UnicodeDecodeError as error:
        place = len(mark) + error.start
        reason = f"line {content[:place].count(10) + 1} has the byte {content[place]:#x}"
        raise DataError(f"{shown} is no text file in {encoding.upper()}: {reason}") from error
    if "\0" in text:
        raise DataError(f"{shown} is no text file: it has zero bytes")
    lines = (line.strip(" ") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return [line for line in lines if line.strip()]


def image_labels(path: str | PathLike[str], names: Sequence[str], classes: Sequence[str] = ()) -> list[str]:
    """What a list says of every image: the label's text.

    Args:
        path: the list. It has a label a line in the order of ``names``; or columns, one of which names the images and
            one of which is the label.
        names: the images' names, in order, "file" or "folder/file".
        classes: those that labels may name, as far as they are known.

    Raises:
        DataError: the list does not label each image once, or can be read in several ways; the message says why.
        OSError: it cannot be read.
    """
    shown, lines = printable(fspath(path)), read_lines(path)
    if not lines:
        raise DataError(f"{shown} is empty; it must have a label for each image")
    index = _ImageIndex(names)
    readings = [
        (table, column, index.matches(table, column))
        for table in _tables(lines, index)
        for column in range(len(table.rows[0]))
    ]
    best = max(readings, key=lambda reading: _merit(reading[2]), default=None)
    if best is None or not any(place is not None for place in best[2]):
        return _in_order(lines, names, shown, [table for table, _, _ in readings], set(map(same_class, classes)))
    table, column, places = best
    heading = table.rows[0] if places[0] is None and _is_heading(table, column) else None
    rows, places = (table.rows[1:], places[1:]) if heading else (table.rows, places)
    label = _label_column(table.rows[0] if heading else None, rows, column, shown)
    texts: list[str | None] = [None] * len(names)
    strange = []
    for row, place in zip(rows, places, strict=True):
        text = _label_text(row[label], shown)
        if place is None:
            strange.append(row[column])
        elif texts[place] not in (None, text):
            raise DataError(f"{shown} labels the image {names[place]} twice: {texts[place]!r} and {text!r}")
        else:
            texts[place] = text
    _require_all(names, texts, strange, shown)
    return [text or "" for text in texts]


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


def number_of(text: str) -> int | None:
    """The whole number that a label's text is, also as spreadsheets write it, "3.0"; None where it is none."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else None


def is_numeric(text: str) -> bool:
    """Whether a text is a number of any kind."""
    return _NUMBER.fullmatch(text) is not None


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
    known = None if classes is None else {same_class(name): number for number, name in enumerate(classes)}
    if (known is not None and all(same_class(text) in known for text in texts)) or not all(map(is_numeric, texts)):
        if first_label is not None:
            raise DataError(f"first_label is {first_label}; it must be left out, as the labels of {shown} are names")
        names = distinct_classes(sorted(set(map(same_class, texts))), shown) if classes is None else tuple(classes)
        index = known or {name: number for number, name in enumerate(names)}
        unknown = [text for text in texts if same_class(text) not in index]
        if unknown:
            raise DataError(
                f"{shown} has the label {printable(unknown[0])!r}, which is not among the {len(names):,} classes given"
            )
        return names, [index[same_class(text)] for text in texts]
    numbers = []
    for text in texts:
        number = number_of(text)
        if number is None or number < (first_label or 0):
            raise DataError(f"{shown} has the label {text!r}; numbers must be whole and count from {first_label or 0}")
        numbers.append(number)
    if classes is None:
        occurring = {number: place for place, number in enumerate(sorted(set(numbers)))}
        return tuple(map(str, occurring)), [occurring[number] for number in numbers]
    first = _first_label(numbers, len(classes), shown) if first_label is None else first_label
    if max(numbers) - first >= len(classes):
        raise DataError(
            f"{shown} has the label {max(numbers)}, but there are {len(classes):,} classes, from {first} on"
        )
    if first == 1 and len(classes) > 1:
        _require_sure_order(classes, shown)
    return tuple(classes), [number - first for number in numbers]


def same_class(name: str) -> str:
    """By which names of classes in lists are compared."""
    return " ".join(as_class(name).translate(_SPACES).split())


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


def _guessed(content: bytes) -> str:
    """How a text is encoded that does not say so: every other byte of Western UTF-16 is zero."""
    beginning = content[:1024]
    zeros = [beginning[start::2].count(0) for start in (0, 1)]
    if len(content) % 2 == 0 and max(zeros) > len(beginning) // 4 > 4 * min(zeros):
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8"


# Rows and columns ----------------------------------------------------------------------------------------------------


class _ImageIndex:
    """The images by all that a list may call them: with or without folders and suffix, as Windows writes it or not."""

    def __init__(self, names: Sequence[str]) -> None:
        keys = [_key(name) for name in names]
        bare = list(map(_without_suffix, keys))
        both = [*enumerate(keys), *enumerate(bare)]
        self._whole = _unique((key, place) for place, key in both)
        self._ends = _unique((end, place) for place, key in both for end in _ends(key))
        numbers = (number_of(_ends(key)[-1]) for key in bare)
        self._numbers = _unique((number, place) for place, number in enumerate(numbers) if number is not None)

    def find(self, name: str) -> int | None:
        """The image of that name: its path ends as the name does, or the name as its path does."""
        key = _key(name)
        if key in self._ends:
            return self._ends[key]
        for end in _ends(key):
            if end in self._whole:
                return self._whole[end]
        number = number_of(key)
        return None if number is None else self._numbers.get(number)  # a spreadsheet's 3.0, or 3 for 003

    def matches(self, table: Table, column: int) -> list[int | None]:
        """The image that each row's field names."""
        return [self.find(row[column]) for row in table.rows]


def _key(name: str) -> str:
    return as_class(name).translate(_SPACES).strip().replace("\\", "/").removeprefix("./").lstrip("/")


def _unique(places: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """The places of keys that belong to one image alone."""
    found: dict[Key, set[int]] = {}
    for key, place in places:
        found.setdefault(key, set()).add(place)
    return {key: of_key.pop() for key, of_key in found.items() if len(of_key) == 1}


def _ends(key: str) -> list[str]:
    """A path, and what is left of it without its first folders."""
    parts = key.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _without_suffix(key: str) -> str:
    return next((key[: -len(end)] for end in IMAGE_SUFFIXES if key.lower().endswith(end)), key)


def _merit(places: Sequence[int | None]) -> tuple[int, int]:
    """How well a column names the images: by how many different ones, and by how many rows."""
    found = [place for place in places if place is not None]
    return len(set(found)), len(found)


def _tables(lines: Sequence[str], index: _ImageIndex) -> Iterator[Table]:
    """The ways in which lines are rows of several fields."""
    for name, separator in _SEPARATORS.items():
        table = _separated(lines, name, separator)
        if table:
            yield table
    rows = [_split_behind_image(line, index) for line in lines]
    if all(len(row) == 2 for row in rows[1:]):
        rows[0] = (rows[0] + [""])[:2]
        yield Table(rows, "spaces")


def _separated(lines: Sequence[str], name: str, separator: str) -> Table | None:
    """Fields between separators, perhaps in quotes, if all rows have the same number of them, at least two."""
    try:
        rows = [
            [field.strip() for field in row]
            for row in csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
        ]
    except csv.Error:  # quotes that do not end
        return None
    while rows and all(len(row) > 1 and not row[-1] for row in rows):  # separators behind the last field
        rows = [row[:-1] for row in rows]
    widths = {len(row) for row in rows}
    return Table(rows, name) if len(widths) == 1 and widths.pop() > 1 else None


def _split_behind_image(line: str, index: _ImageIndex) -> Row:
    """A line's longest beginning that names an image, and the rest; without such what spaces separate."""
    ends = [match.start() for match in re.finditer(r"\s+", line)]
    for end in reversed(ends):
        if index.find(_unquoted(line[:end])) is not None:
            return [_unquoted(line[:end]), _unquoted(line[end:].strip())]
    parts = line.split(None, 1)
    return [parts[0], parts[1]] if len(parts) == 2 else parts


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


def _is_heading(table: Table, column: int) -> bool:
    """Whether the first row, which names no image, is the columns' names: known ones, or texts above numbers."""
    first, others = [field.casefold() for field in table.rows[0]], table.rows[1:]
    if first[column].endswith(IMAGE_SUFFIXES) or not others:
        return False
    above_numbers = [
        number for number in range(len(first)) if number != column and all(is_numeric(row[number]) for row in others)
    ]
    return first[column] in _HEADINGS or any(not is_numeric(first[number]) for number in above_numbers)


def _label_column(heading: Row | None, rows: Sequence[Row], column: int, shown: str) -> int:
    width = len(rows[0]) if rows else 0
    others = [other for other in range(width) if other != column]
    if heading:
        named = [other for other in others if heading[other].strip().casefold() in _LABEL_HEADINGS]
        if len(named) == 1:
            return named[0]
    if len(others) > 1:
        texts = [other for other in others if not all(is_numeric(row[other]) for row in rows)]
        if len(texts) == 1:  # beside the numbers of a box, say
            return texts[0]
        raise DataError(
            f"{shown} has {width} columns, and it is not clear which is the label; it must have two, file and label, "
            "or a first line that names them"
        )
    if not others:
        raise DataError(f"{shown} names images but has no labels")
    return others[0]


def _label_text(text: str, shown: str) -> str:
    """A label without the boxes that ILSVRC's lists for localisation have behind it."""
    text = " ".join(text.split())
    if _BOXES.fullmatch(text):
        ids: set[str] = set(WORDNET_ID.findall(text))
        if len(ids) > 1:
            raise DataError(f"{shown} gives one image several classes: {text!r}")
        return ids.pop()
    if not text:
        raise DataError(f"{shown} has an image without a label")
    return text


def _require_all(names: Sequence[str], texts: Sequence[str | None], strange: Sequence[str], shown: str) -> None:
    missing = [name for name, text in zip(names, texts, strict=True) if text is None]
    wrong = []
    if missing:
        wrong.append(f"has no label for {_counted(missing, 'image', 'images')}")
    if strange:
        wrong.append(f"names {_counted(strange, 'file', 'files')} not among the {len(names):,} images")
    if wrong:
        raise DataError(f"{shown} {' and '.join(wrong)}")


def _counted(names: Sequence[str], one: str, many: str) -> str:
    if len(names) == 1:
        return f"the {one} {printable(names[0])}"
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{len(names):,} {many} ({', '.join(map(printable, names[:_NAMED]))}{more})"


# A label or a class a line -------------------------------------------------------------------------------------------


def _in_order(
    lines: Sequence[str], names: Sequence[str], shown: str, tables: Sequence[Table], known: set[str]
) -> list[str]:
    """One label a line, in the order of the images."""
    if len(lines) == len(names) + 1 and lines[0].strip("\"'").casefold() in _HEADINGS:
        lines = lines[1:]
    first_words = [line.split()[0].strip("\"'") for line in lines]
    if any(word.casefold().endswith(IMAGE_SUFFIXES) for word in first_words):
        raise DataError(f"{shown} names files, such as {printable(lines[-1])!r}, but none of the {len(names):,} images")
    if all(map(WORDNET_ID.fullmatch, first_words)):  # with words or boxes behind them
        lines = first_words
    elif len(lines) == len(names) > 1 and not any(map(is_numeric, lines)) and _names_images(lines, names):
        raise DataError(f"{shown} names the images but has no labels")
    elif not all(is_numeric(line) or same_class(_plain(line)) in known for line in lines):
        for table in tables:
            if table.separator != "spaces" or len(set(first_words)) == len(lines) > 1:
                raise DataError(
                    f"{shown} has {len(table.rows[0])} columns, between {table.separator}, none of which names the "
                    "images; it must have a label a line, or a column with the images' names"
                )
    if len(lines) != len(names):
        raise DataError(f"{shown} labels {len(lines):,} images, but there are {len(names):,}")
    return list(map(_plain, lines))


def _names_images(lines: Sequence[str], names: Sequence[str]) -> bool:
    index = _ImageIndex(names)
    return {index.find(_unquoted(line)) for line in lines} == set(range(len(names)))


def _plain(line: str) -> str:
    """A line without quotes around it, separators behind it and several spaces in a row."""
    return " ".join(_unquoted(line.rstrip(",;\t ")).split())


def _class_names(lines: Sequence[str], shown: str) -> list[str]:
    first_words = [re.split(r"[\s,;]", line.strip("\"'"), maxsplit=1)[0] for line in lines]
    if all(map(WORDNET_ID.fullmatch, first_words)):
        second_words = [[*re.split(r"[\s,;]+", line), ""][1] for line in lines]
        return _by_number(list(map(number_of, second_words)), first_words) or first_words
    splits: tuple[Callable[[str], Sequence[str]], ...] = (
        lambda line: re.split(r"[\t;,: ]\s*", line, maxsplit=1),
        lambda line: [part.strip() for part in reversed(re.split(r"[\t;, ](?=[^\t;, ]*$)", line, maxsplit=1))],
    )
    for split in splits:
        pairs = [split(line.rstrip(",;\t ")) for line in lines]
        for some in (pairs, pairs[1:]):  # with or without a heading
            if some and all(len(pair) == 2 for pair in some):
                numbers = [number_of(_unquoted(number)) for number, _ in some]
                if found := _by_number(numbers, [_unquoted(name) for _, name in some]):
                    return found
    for name, separator in (("tabs", "\t"), ("semicolons", ";")):
        if _separated(lines, name, separator):
            raise DataError(f"{shown} has several columns, between {name}; it must have a class name a line")
    return list(map(_plain, lines))


def _by_number(numbers: Sequence[int | None], names: Sequence[str]) -> list[str]:
    """The names, if they differ, in the order of their numbers, if these count from 0 or 1; else nothing."""
    if len(set(names)) < len(names):
        return []
    known = [number for number in numbers if number is not None]
    if len(known) < len(names) or sorted(known) not in (list(range(len(names))), list(range(1, len(names) + 1))):
        return []
    return [name for _, name in sorted(zip(known, names, strict=True))]
