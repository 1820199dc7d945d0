"""Lists of labels, in the spellings in which they are handed out and in which editors leave them.

A list is read by what it says: a column that names the images makes it one of pairs, whatever separates its columns and
whichever order they have; without such a column it is one label a line. What can be read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import NamedTuple

from pyalexnet.data.class_lists import WORDNET_ID, same_class
from pyalexnet.data.image_index import ImageIndex
from pyalexnet.data.images import IMAGE_SUFFIXES
from pyalexnet.data.text_lists import Row, is_numeric, read_lines, separated, stripped, unquoted
from pyalexnet.errors import DataError
from pyalexnet.system.names import printable

_NAMED = 3

_SEPARATORS = {"tabs": "\t", "semicolons": ";", "commas": ","}
_LABEL_HEADINGS = (
    *("label", "labels", "class", "classes", "category", "target", "wnid", "synset", "predictionstring"),
    *("class_name", "classname", "label_name", "class_id", "label_id", "category_id", "breed", "species", "y"),
)
_HEADINGS = {*_LABEL_HEADINGS, "id", "image", "image_id", "imageid", "file", "filename", "file_name", "path", "name"}
_BOXES = re.compile(rf"(?:{WORDNET_ID.pattern}(?: +-?\d+(?:\.\d+)?){{4}} *)+", re.ASCII)


class _Table(NamedTuple):
    """A list's rows of fields, all of the same number, and what separates these."""

    rows: list[Row]
    separator: str


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
    index = ImageIndex(names)
    tables = list(_tables(lines, index))
    naming = _image_column(tables, index)
    if naming is None:
        return _in_order(lines, len(names), shown, tables, index, set(map(same_class, classes)))
    table, column, places = naming
    heading = table.rows[0] if places[0] is None and _is_heading(table, column) else None
    rows, places = (table.rows[1:], places[1:]) if heading else (table.rows, places)
    label = _label_column(heading, rows, column, shown)
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


def _image_column(tables: Iterable[_Table], index: ImageIndex) -> tuple[_Table, int, list[int | None]] | None:
    """The column that names images best: its table, its number and the image of each row; None where none does."""
    readings = [
        (table, column, [index.find(row[column]) for row in table.rows])
        for table in tables
        for column in range(len(table.rows[0]))
    ]
    best = max(readings, key=lambda reading: _merit(reading[2]), default=None)
    return best if best and any(place is not None for place in best[2]) else None


def _merit(places: Sequence[int | None]) -> tuple[int, int]:
    """How well a column names the images: by how many different ones, and by how many rows."""
    found = [place for place in places if place is not None]
    return len(set(found)), len(found)


def _tables(lines: Sequence[str], index: ImageIndex) -> Iterator[_Table]:
    """The ways in which lines are rows of several fields."""
    for name, separator in _SEPARATORS.items():
        if rows := separated(lines, separator):
            yield _Table(rows, name)
    rows = [_split_behind_image(line, index) for line in lines]
    if all(len(row) == 2 for row in rows[1:]):
        rows[0] = (rows[0] + [""])[:2]
        yield _Table(rows, "spaces")


def _split_behind_image(line: str, index: ImageIndex) -> Row:
    """A line's longest beginning that names an image, and the rest; without such what spaces separate."""
    ends = [match.start() for match in re.finditer(r"\s+", line)]
    for end in reversed(ends):
        if index.find(unquoted(line[:end])) is not None:
            return [unquoted(line[:end]), unquoted(line[end:].strip())]
    parts = line.split(None, 1)
    return [parts[0], parts[1]] if len(parts) == 2 else parts


def _is_heading(table: _Table, column: int) -> bool:
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


def _in_order(
    lines: Sequence[str], images: int, shown: str, tables: Iterable[_Table], index: ImageIndex, known: set[str]
) -> list[str]:
    """One label a line, in the order of the images."""
    if len(lines) == images + 1 and lines[0].strip("\"'").casefold() in _HEADINGS:
        lines = lines[1:]
    first_words = [line.split()[0].strip("\"'") for line in lines]
    if any(word.casefold().endswith(IMAGE_SUFFIXES) for word in first_words):
        raise DataError(f"{shown} names files, such as {printable(lines[-1])!r}, but none of the {images:,} images")
    if all(map(WORDNET_ID.fullmatch, first_words)):  # with words or boxes behind them
        lines = first_words
    elif len(lines) == images > 1 and not any(map(is_numeric, lines)) and _names_all(lines, images, index):
        raise DataError(f"{shown} names the images but has no labels")
    elif not all(is_numeric(line) or same_class(stripped(line)) in known for line in lines):
        for table in tables:
            if table.separator != "spaces" or len(set(first_words)) == len(lines) > 1:
                raise DataError(
                    f"{shown} has {len(table.rows[0])} columns, between {table.separator}, none of which names the "
                    "images; it must have a label a line, or a column with the images' names"
                )
    if len(lines) != images:
        raise DataError(f"{shown} labels {len(lines):,} images, but there are {images:,}")
    return list(map(stripped, lines))


def _names_all(lines: Sequence[str], images: int, index: ImageIndex) -> bool:
    return {index.find(unquoted(line)) for line in lines} == set(range(images))
