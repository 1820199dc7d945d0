"""Tar files, read in place: each member's name and where its bytes lie, also of the members of tars within a tar.

The library decodes a header of 512 bytes; the way from header to header is walked here. The library's own way trusts
what a header says: sizes below zero lead it back to where it was, and names in headers of their own down as deep as
there are any. Here every step leads forward and ends within the file.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from pyalexnet.system.checks import reason_of, shown

_BLOCK = 512
_MOST_EXTRA_BYTES = 2**20  # of a name in a header of its own, or of all of a member's extended attributes
_MOST_DIGITS = 20
_SPARSE = "GNU.sparse."


class TarError(ValueError):
    """A tar is damaged, cut off or no tar; the message says what is wrong."""


class Member(NamedTuple):
    """A member of a tar.

    Attributes:
        name: with its folders, from the tar on; bytes that are no UTF-8 are surrogates, as in the names of files.
        offset: the first byte of its content, in the file.
        size: the bytes of its content; None where it is no regular file.
    """

    name: str
    offset: int
    size: int | None


def members(file: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """The members of a tar, but its folders.

    Args:
        file: it, or a file that it is a part of.
        start: its first byte in the file.
        end: where it ends in the file at the latest; by default the file's end.

    Raises:
        TarError: it is none, or is damaged or cut off.
        OSError: the file cannot be read.
    """
    end = os.fstat(file.fileno()).st_size if end is None else end
    return _Walk(file, start, end).members()


@dataclass
class _Walk:
    """The way through a tar.

    Attributes:
        file: the file.
        offset: how far the way has led.
        end: how far it may lead.
    """

    file: BinaryIO
    offset: int
    end: int

    def members(self) -> Iterator[Member]:
        """See :func:`members`."""
        name: str | None = None
        size: int | None = None
        while header := self.header():
            if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                text = self.extra(header.size).partition(b"\0")[0].decode("utf-8", "surrogateescape")
                name = text if header.type == tarfile.GNUTYPE_LONGNAME else name
            elif header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                attributes = _attributes(self.extra(header.size))
                name, size = attributes.get("path", name), _size(attributes)
                if any(attribute.startswith(_SPARSE) for attribute in attributes):
                    raise _sparse(attributes.get(f"{_SPARSE}name", name or ""))
            elif header.type == tarfile.XGLTYPE:
                self.extra(header.size)  # what holds for all members is no name and no size
            else:
                yield from self.member(header, name, size)
                name = size = None

    def member(self, header: tarfile.TarInfo, name: str | None, size: int | None) -> Iterator[Member]:
        """A member, unless it is a folder, and the way behind its content."""
        name = _normal(header.name if name is None else name)
        size = header.size if size is None else size
        begin = self.offset
        # As the library has it: of the known kinds only files have a content, whatever size the others tell.
        if header.isreg() or header.type not in tarfile.SUPPORTED_TYPES:
            self.skip(size)
            self.skip(-size % _BLOCK)
        if not header.isdir():
            yield Member(name, begin, size if header.isreg() else None)

    def header(self) -> tarfile.TarInfo | None:
        """The next header; None at the archive's end."""
        block = self.read(_BLOCK)
        if block == bytes(_BLOCK):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise TarError(f"the header at byte {self.offset - _BLOCK:,} is damaged: {reason_of(error)}") from error
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse(header.name)
        return header

    def extra(self, size: int) -> bytes:
        """The content of a header that tells of the next one."""
        if size > _MOST_EXTRA_BYTES:
            raise TarError(f"a name or attributes have {size:,} bytes; it must be at most {_MOST_EXTRA_BYTES:,}")
        content = self.read(size)
        self.skip(-size % _BLOCK)
        return content

    def read(self, size: int) -> bytes:
        """The next bytes."""
        begin = self.offset
        self.skip(size)
        self.file.seek(begin)
        content = self.file.read(size)
        if len(content) != size:
            raise TarError("it has become shorter")
        return content

    def skip(self, size: int) -> None:
        """Go on behind so many bytes."""
        if not 0 <= size <= self.end - self.offset:
            raise TarError(f"at byte {self.offset:,} it tells of {size:,} more; it has {self.end - self.offset:,}")
        self.offset += size


def _attributes(content: bytes) -> dict[str, str]:
    """The records "LENGTH NAME=VALUE" of an extended header."""
    found: dict[str, str] = {}
    begin = 0
    while begin < len(content):
        digits = content[begin : begin + _MOST_DIGITS].partition(b" ")[0]
        end = begin + int(digits) if digits.isdigit() else begin
        record = content[begin:end]
        name, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or not record.endswith(b"\n") or end > len(content):
            raise TarError("a member's extended attributes are damaged")
        found[name.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        begin = end
    return found


def _size(attributes: dict[str, str]) -> int | None:
    """A member's size, where its attributes tell it."""
    text = attributes.get("size")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise TarError(f"a member's size is {text[:_MOST_DIGITS]!r}; it must be a number")
    return int(text)


def _normal(name: str) -> str:
    """A name without what leads nowhere: a slash in front or behind, doubled ones, folders called ``.``."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise TarError(f"the member {shown(name)} has no place among the others")
    return "/".join(parts)


def _sparse(name: str) -> TarError:
    return TarError(f"the member {shown(name)} is stored with holes; tar stores it whole without --sparse")
