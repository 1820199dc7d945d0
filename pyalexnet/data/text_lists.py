"""Text files that hold a list: their lines, in any encoding, what separates fields, and numbers in any spelling."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from os import PathLike, fspath

from pyalexnet.errors import DataError
from pyalexnet.system.files import open_regular_file
from pyalexnet.system.names import printable

Row = list[str]

_LARGEST_LIST = 2**28

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Spaces that editors and web pages make of plain ones, and marks that nobody sees.
_SPACES = str.maketrans({"\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u3000": " ", "\u200b": None, "\ufeff": None})

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)


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
    mark, encoding = next(
        (one for one in _BYTE_ORDER_MARKS if content.startswith(one[0])), (b"", _guessed_encoding(content))
    )
    try:
        text = plain_spaces(content[len(mark) :].decode(encoding))
    except UnicodeDecodeError as error:
        place = len(mark) + error.start
        reason = f"line {content[:place].count(10) + 1} has the byte {content[place]:#x}"
        raise DataError(f"{shown} is no text file in {encoding.upper()}: {reason}") from error
    if "\0" in text:
        raise DataError(f"{shown} is no text file: it has zero bytes")
    lines = (line.strip(" ") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return [line for line in lines if line.strip()]


def plain_spaces(text: str) -> str:
    """A text with plain spaces in place of all others, and without marks that nobody sees."""
    return text.translate(_SPACES)


def separated(lines: Sequence[str], separator: str) -> list[Row] | None:
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
    return rows if len(widths) == 1 and widths.pop() > 1 else None


def unquoted(text: str) -> str:
    """A text without the spaces and the quotes around it."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


def stripped(line: str) -> str:
    """A line without quotes around it, separators behind it and several spaces in a row."""
    return " ".join(unquoted(line.rstrip(",;\t ")).split())


def number_of(text: str) -> int | None:
    """The whole number that a label's text is, also as spreadsheets write it, "3.0"; None where it is none."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else None


def is_numeric(text: str) -> bool:
    """Whether a text is a number of any kind."""
    return _NUMBER.fullmatch(text) is not None


def _guessed_encoding(content: bytes) -> str:
    """How a text is encoded that does not say so: every other byte of Western UTF-16 is zero."""
    beginning = content[:1024]
    zeros = [beginning[start::2].count(0) for start in (0, 1)]
    if len(content) % 2 == 0 and max(zeros) > len(beginning) // 4 > 4 * min(zeros):
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8"
