"""Which files below a folder are images; whatever else lies there is named with the reason why it is left out.

Folders are descended, also through links, but none twice, by device and inode, so that links in a circle end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import NamedTuple

from pyalexnet.data.images import IMAGE_SUFFIXES
from pyalexnet.errors import DataError
from pyalexnet.system.names import distinct_classes, printable, require_text

_NAMED = 5

# What systems and archives leave beside a person's folders.
_OF_SYSTEMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


class LeftOut(NamedTuple):
    """A file or folder that is not used, and why: "it …"."""

    name: str
    reason: str


@dataclass
class Listing:
    """What lies below a folder.

    Attributes:
        images: image files, in order, named from the folder on: "a.jpg", "more/b.jpg".
        left_out: whatever else there is, in order.
    """

    images: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class ClassFolder:
    """A subfolder that is a class.

    Attributes:
        name: of the class, in Unicode's form NFC.
        folder: as the file system has it.
        images: its images, named from it on.
    """

    name: str
    folder: str
    images: Sequence[str]


def list_images(folder: str | PathLike[str], above: Sequence[str | PathLike[str]] = ()) -> Listing:
    """All image files below a folder.

    Args:
        folder: where to look.
        above: folders that are not to be descended into either, those that it is a part of.

    Raises:
        DataError: a folder cannot be read, or an image's name is no UTF-8; the message names it.
    """
    listing = Listing()
    for name, reason in sorted(_walk(fspath(folder), above)):
        if reason:
            listing.left_out.append(LeftOut(name, reason))
        else:
            require_text(name, f"the name of an image in the folder {printable(fspath(folder))}")
            listing.images.append(name)
    return listing


def list_classes(folder: str | PathLike[str]) -> tuple[list[ClassFolder], list[LeftOut]]:
    """The subfolders of a folder, each a class, in order of their names; and what is left out.

    Raises:
        DataError: there are no subfolders, one has no images or cannot be read, two have the same name in NFC, or a
            name is no UTF-8; the message names it.
    """
    folder = fspath(folder)
    found: list[tuple[str, Listing]] = []
    left_out: list[LeftOut] = []
    for entry in entries_of(folder):
        is_folder, why = looked_at(entry)
        if is_folder and not why:
            listing = list_images(entry.path, above=[folder])
            if not listing.images:
                raise without_images(entry.path)
            found.append((entry.name, listing))
        else:
            left_out.append(LeftOut(entry.name, why or "it is in no class's folder"))
    if not found:
        raise DataError(f"the folder {printable(folder)} has no subfolders; it must hold one for each class")
    names = distinct_classes([name for name, _ in found], f"the folder {printable(folder)}")
    classes = sorted(
        (ClassFolder(name, raw, listing.images) for name, (raw, listing) in zip(names, found, strict=True)),
        key=lambda one: one.name,
    )
    for raw, listing in found:
        left_out += [LeftOut(f"{raw}/{name}", reason) for name, reason in listing.left_out]
    return classes, sorted(left_out)


def describe_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """Lines that count and name what is left out, one for each reason; of many the first."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out:
        by_reason.setdefault(reason, []).append(printable(name))
    lines = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        lines.append(f"left out, {reason}: {', '.join(names[:_NAMED])}{more}")
    return lines


def visible_subfolders(folder: str | PathLike[str]) -> list[str]:
    """The names of a folder's subfolders that do not begin with a dot, in order.

    Raises:
        DataError: it cannot be read.
    """
    return [entry.name for entry in entries_of(folder) if looked_at(entry) == (True, "")]


def has_images(folder: str | PathLike[str]) -> bool:
    """Whether there is an image file anywhere below a folder.

    Raises:
        DataError: a folder cannot be read.
    """
    return any(not reason for _, reason in _walk(fspath(folder)))


def without_images(folder: str) -> DataError:
    """That a folder has no images."""
    return DataError(
        f"the folder {printable(folder)} has no images; it must hold files that end in {', '.join(IMAGE_SUFFIXES)}"
    )


def why_no_image(name: str) -> str:
    """Why a file of this name is taken for no image; "" where it is taken for one."""
    if name.startswith("."):
        return "its name begins with a dot"
    if not name.lower().endswith(IMAGE_SUFFIXES):
        return "its name does not end as that of an image"
    return ""


def _walk(folder: str, above: Sequence[str | PathLike[str]] = ()) -> Iterator[LeftOut]:
    """What lies below a folder, with the reason why it is left out; "" for images."""
    visited = {_identity(fspath(path)) for path in (*above, folder)}
    to_do = [("", folder)]
    while to_do:
        prefix, path = to_do.pop()
        entries = entries_of(path)
        if prefix and not entries:
            yield LeftOut(prefix.removesuffix("/"), "it is an empty folder")
        for entry in entries:
            name = prefix + entry.name
            is_folder, why = looked_at(entry)
            if why or not is_folder:
                yield LeftOut(name, why)
            elif (identity := _identity(entry.path)) in visited:
                yield LeftOut(name, "it is a link to a folder that is there already")
            else:
                visited.add(identity)
                to_do.append((f"{name}/", entry.path))


def looked_at(entry: os.DirEntry[str]) -> tuple[bool, str]:
    """Whether an entry is a folder, and why it is neither an image nor a folder to look into, "" where it is."""
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError as error:  # a link's target may not be looked at
        return False, f"it cannot be looked at: {error.strerror}"
    if entry.name.startswith("."):
        return is_folder, "its name begins with a dot"
    if is_folder and entry.name in _OF_SYSTEMS:
        return True, "it is a system's folder"
    if is_folder:
        return True, ""
    if not is_file:
        return False, "it is a link to nothing" if entry.is_symlink() else "it is no regular file"
    return False, why_no_image(entry.name)


def entries_of(folder: str | PathLike[str]) -> list[os.DirEntry[str]]:
    """What lies in a folder, in order of the names.

    Raises:
        DataError: it cannot be read; the message names it.
    """
    try:
        with os.scandir(fspath(folder)) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {printable(fspath(folder))}: {error.strerror}") from error


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise DataError(f"cannot read the folder {printable(folder)}: {error.strerror}") from error
    return status.st_dev, status.st_ino
