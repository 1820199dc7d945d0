"""Names of classes and files: equal ones are recognised, and those that are no text are refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from pyalexnet.errors import DataError


def printable(name: str) -> str:
    """A name to show: bytes that are no UTF-8, and characters that control a terminal, as escapes."""
    return "".join(map(_printable, name))


def require_text(name: str, what: str) -> None:
    """Refuse a name that the system gave in bytes that are no UTF-8.

    Raises:
        DataError: it is one; the message begins with ``what`` and shows it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} is '{printable(name)}', which is no UTF-8; rename it") from error


def as_class(name: str) -> str:
    """A class's name in the one form in which all are compared, NFC; macOS writes others."""
    return unicodedata.normalize("NFC", name)


def distinct_classes(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Names of classes in NFC.

    Args:
        names: as they were found.
        where: what has them, with which a message begins.

    Raises:
        DataError: two are equal in NFC, or one is no UTF-8.
    """
    spelled: dict[str, list[str]] = {}
    for name in names:
        require_text(name, f"{where} has a class whose name")
        spelled.setdefault(as_class(name), []).append(name)
    for name, found in spelled.items():
        if len(found) > 1:
            how = f"{len(found)} times" if len(set(found)) == 1 else f"as {' and as '.join(map(ascii, found))}"
            raise DataError(f"{where} names the class '{printable(name)}' {how}; class names must differ")
    return tuple(spelled)


def shorten(text: str, length: int) -> str:
    """A name to show by :func:`printable`, of at most so many characters: of a longer one its beginning and its end."""
    text = printable(text)
    if len(text) <= length:
        return text
    end = (length - 1) // 3
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    # Python keeps a byte that is no text as a code point from U+DC80 to U+DCFF.
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char.encode("unicode_escape").decode()
