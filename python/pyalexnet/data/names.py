"""Names of classes and files: equal ones are recognised, and those that are no text are refused."""

from __future__ import annotations

from pyalexnet.errors import DataError


def printable(name: str) -> str:
    """A name to show: bytes that are no UTF-8, and characters that control a terminal, as escapes."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def require_text(name: str, what: str) -> None:
    """Refuse a name that the system gave in bytes that are no UTF-8.

    Raises:
        DataError: it is one; the message begins with ``what`` and shows it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} is {printable(name)!r}, which is no UTF-8; rename it") from error
