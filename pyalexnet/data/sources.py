"""Where images to prepare lie: in folders or tar files, one a class, or all together with a list of labels.

Nothing is unpacked: an image in a tar, or in a tar within a tar, is a range of bytes of the outer file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pyalexnet.data.class_lists import read_classes_list
from pyalexnet.data.finding import LeftOut, entries_of, list_images, looked_at, why_no_image, without_images
from pyalexnet.data.folder import find_parts, is_folder
from pyalexnet.data.label_numbers import number_labels
from pyalexnet.data.labels import image_labels
from pyalexnet.data.manifest import MANIFEST_FILE, read_manifest
from pyalexnet.data.tars import TarError, members
from pyalexnet.errors import DataError
from pyalexnet.system.checks import as_path
from pyalexnet.system.names import as_class, distinct_classes, printable, require_text

_TAR_LEVELS = 2  # a tar and the tars in it
_NO_FILE = -1


class SourceImage(NamedTuple):
    """One image file, or the part of a tar file that is one.

    Attributes:
        name: "class/file", or "file" where labels come from a list; no two images have the same.
        label: index of its class.
        path: the file to read.
        offset: its first byte in that file.
        size: its number of bytes.
    """

    name: str
    label: int
    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The image file's content.

        Raises:
            OSError: it cannot be read, or is shorter than it was.
        """
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise OSError(error.errno, f"cannot read {self.path}: {error.strerror or error}") from error
        if len(content) != self.size:
            raise OSError(f"{self.path} has become shorter since preparation began")
        return content


@dataclass(frozen=True)
class Source:
    """The images to prepare, in the order in which they will lie.

    Attributes:
        images: sorted by class folder and name, or by name where labels come from a list.
        classes: the classes' names; a label is an index into them.
        left_out: further files and folders, with the reason why they are not among the images.
    """

    images: Sequence[SourceImage]
    classes: tuple[str, ...]
    left_out: Sequence[LeftOut]


class _File(NamedTuple):
    """What was found: ``folder`` is where it lies below the source, "" for the source itself.

    Where it is no regular file, ``size`` is ``_NO_FILE``; ``reason`` says why it is left out, where that is known.
    """

    folder: str
    name: str
    path: str
    offset: int
    size: int
    reason: str = ""


def find_images(
    path: str | PathLike[str],
    labels: str | PathLike[str] | None = None,
    classes: str | PathLike[str] | None = None,
    first_label: int | None = None,
) -> Source:
    """List a source's images; none is opened yet.

    Args:
        path: a folder with one subfolder or one tar file a class; a tar file of either; or, with ``labels``, a
            folder or tar file of images.
        labels: a list of labels, as :func:`pyalexnet.data.labels.image_labels` takes it.
        classes: a prepared folder or a list of class names, which gives the classes and their order; by default the
            names found, sorted.
        first_label: the number of the first class, where labels are numbers: 0 or 1.

    Raises:
        DataError: the source, the labels or the classes cannot serve; the message says why.
        OSError: a file cannot be read.
    """
    path = as_path("source", path)
    for given, what in ((path, "source"), (labels, "labels"), (classes, "classes")):
        require_text(fspath(given or ""), what)
    known = None if classes is None else read_classes(classes)
    found = list(_listed(path, by_class=labels is None))
    files = [file for file in found if (labels is None or not file.name.endswith(".tar")) and _is_image(file)]
    for file in files:
        require_text(_joined(file), f"the name of an image in {printable(fspath(path))}")
    left_out = [(_joined(file), _why_left_out(file)) for file in found if not _is_image(file)]
    if labels is None:
        left_out += [(file.name, "it is in no class's folder") for file in files if not file.folder]
        images, names = _by_folder(path, [file for file in files if file.folder], known)
    else:
        images, names = _by_list(path, files, Path(labels), known, first_label)
    _require_distinct(images, path)
    return Source(images, names, sorted(starmap(LeftOut, left_out)))


def read_classes(path: str | PathLike[str]) -> tuple[str, ...]:
    """Class names in order, of a prepared folder or a text file, as :func:`read_classes_list` takes it.

    Raises:
        DataError: there is no such list, it is empty, or it names a class twice.
        OSError: it cannot be read.
    """
    path = as_path("classes", path)
    if path.is_dir():
        if not (path / MANIFEST_FILE).is_file():
            raise DataError(f"{path} is no prepared folder; classes must name one, or a text file")
        return read_manifest(path).classes
    return read_classes_list(path)


def _listed(path: Path, *, by_class: bool) -> Iterator[_File]:
    """Every file of a source, those in its class tars included."""
    if is_folder(path):
        if by_class and (parts := find_parts(path, MANIFEST_FILE)):
            raise DataError(f"{parts.remarks[0]}; prepare each of them as a source of its own")
        yield from _listed_folder(path) if by_class else _listed_below(fspath(path))
    elif path.is_file():
        with open(path, "rb") as file:
            yield from _listed_tar(file, path, 0)
    else:
        raise DataError(f"{printable(fspath(path))} is neither a folder nor a file; it must hold the images to prepare")


def _listed_folder(path: Path) -> Iterator[_File]:
    """What lies in the class folders and class tars of a folder."""
    for entry in entries_of(path):
        subfolder, reason = looked_at(entry)
        if subfolder and not reason:
            files = list(_listed_below(entry.path, entry.name, above=[path]))
            if not any(map(_is_image, files)):
                raise without_images(entry.path)
            yield from files
        elif entry.name.endswith(".tar") and entry.is_file():
            with open(entry.path, "rb") as file:
                for member in _listed_tar(file, Path(entry.path), 0):
                    yield member._replace(folder=entry.name.removesuffix(".tar"))
        else:
            yield _File("", entry.name, entry.path, 0, _NO_FILE, reason or "it is in no class's folder")


def _listed_below(path: str, folder: str = "", above: Sequence[str | PathLike[str]] = ()) -> Iterator[_File]:
    """What lies anywhere below a folder, named from it on."""
    listing = list_images(path, above)
    for name in listing.images:
        file = os.path.join(path, name)
        try:
            yield _File(folder, name, file, 0, os.stat(file).st_size)
        except OSError as error:
            raise DataError(f"cannot look at {file}: {error.strerror}") from error
    for name, reason in listing.left_out:
        yield _File(folder, name, os.path.join(path, name), 0, _NO_FILE, reason)


def _listed_tar(
    file: BinaryIO, path: Path, offset: int, end: int | None = None, levels: int = _TAR_LEVELS
) -> Iterator[_File]:
    """The files of a tar that begins at ``offset`` of the file at ``path``, and of the tars in it."""
    if not levels:
        raise DataError(f"{path} has tars within tars within tars; it must have at most {_TAR_LEVELS} levels of them")
    try:
        for member in members(file, offset, end):
            folder, _, name = member.name.rpartition("/")
            if member.size is None or not name.endswith(".tar"):
                size = _NO_FILE if member.size is None else member.size
                yield _File(folder, name, fspath(path), member.offset, size)
                continue
            for image in _listed_tar(file, path, member.offset, member.offset + member.size, levels - 1):
                yield image._replace(folder=name.removesuffix(".tar"))
    except TarError as error:
        raise DataError(
            f"{path} is no tar file, is compressed, or is cut off ({error}); it must be an uncompressed tar"
        ) from error


def _is_image(file: _File) -> bool:
    return not _why_left_out(file)


def _why_left_out(file: _File) -> str:
    if file.reason:
        return file.reason
    if file.size == _NO_FILE and not file.name.startswith("."):
        return "it is no regular file"
    return why_no_image(file.name)


def _joined(file: _File) -> str:
    return f"{file.folder}/{file.name}" if file.folder else file.name


def _by_folder(
    path: Path, files: Sequence[_File], known: tuple[str, ...] | None
) -> tuple[list[SourceImage], tuple[str, ...]]:
    """Images whose folder's name is their class."""
    if not files:
        raise DataError(
            f"{path} has no images in folders or tar files named for their classes; it must hold one for each class, "
            "or labels must name a file that lists the images' classes"
        )
    depth = _class_depth(path, files)
    placed = [(file, *_class_and_name(file, depth)) for file in files]
    raw = sorted({folder for _, folder, _ in placed})
    distinct_classes(raw, fspath(path))
    found = sorted(map(as_class, raw))
    names = tuple(found) if known is None else known
    index = {as_class(name): label for label, name in enumerate(names)}
    unknown = [name for name in found if name not in index]
    if unknown:
        raise DataError(f"{path} has the class {unknown[0]!r}, which is not among the {len(names)} classes given")
    images = []
    for file, folder, name in placed:
        label = as_class(folder)
        images.append(SourceImage(f"{label}/{name}", index[label], file.path, file.offset, file.size))
    return sorted(images, key=lambda image: image.name.partition("/")[::2]), names


def _class_depth(path: Path, files: Sequence[_File]) -> int:
    """How many folders lie above the class folders: those that all images have in common."""
    parents = {file.folder.rpartition("/")[0] for file in files}
    if len(parents) == 1:
        parent = parents.pop()
        return parent.count("/") + 1 if parent else 0
    common = os.path.commonpath([f"/{file.folder}" for file in files]).strip("/")
    if any(file.folder == common for file in files):
        raise DataError(
            f"{path} has images in {common or 'no folder'} itself and in folders below it; each must lie in the folder "
            "of its class, and those side by side"
        )
    return common.count("/") + 1 if common else 0


def _class_and_name(file: _File, depth: int) -> tuple[str, str]:
    folders = file.folder.split("/")
    return folders[depth], "/".join([*folders[depth + 1 :], file.name])


def _by_list(
    path: Path, files: Sequence[_File], labels: Path, known: tuple[str, ...] | None, first_label: int | None
) -> tuple[list[SourceImage], tuple[str, ...]]:
    """Images whose classes a list tells."""
    if not files:
        raise DataError(f"{path} has no images")
    common = os.path.commonpath([f"/{file.folder}" for file in files]).strip("/")
    renamed = (file._replace(name=_joined(file).removeprefix(f"{common}/")) for file in files)
    files = sorted(renamed, key=lambda file: file.name)
    texts = image_labels(labels, [file.name for file in files], known or ())
    names, numbers = number_labels(texts, known, labels, first_label)
    return [
        SourceImage(file.name, number, file.path, file.offset, file.size)
        for file, number in zip(files, numbers, strict=True)
    ], names


def _require_distinct(images: Sequence[SourceImage], path: Path) -> None:
    names = Counter(image.name for image in images)
    if len(names) < len(images):
        raise DataError(f"{path} has {names.most_common(1)[0][0]} more than once")
