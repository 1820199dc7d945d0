"""Data sets from what a user names: a folder, a name, arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pyalexnet.data.arrays import ImageArrays
from pyalexnet.data.checked import checked
from pyalexnet.data.dataset import Dataset, shortened
from pyalexnet.data.digits import TEST_FRACTION, Digits
from pyalexnet.data.finding import has_images, visible_subfolders
from pyalexnet.data.folder import ImageFolder, find_parts, is_folder, remark_on_classes
from pyalexnet.data.idx import IdxImages, fashion_mnist, has_idx_part
from pyalexnet.data.manifest import MANIFEST_FILE
from pyalexnet.data.prepared import PreparedImages
from pyalexnet.data.subset import split
from pyalexnet.errors import DataError
from pyalexnet.system.checks import as_path
from pyalexnet.system.names import printable, require_text

if TYPE_CHECKING:
    from pyalexnet.data.emoji import Part

DataSource: TypeAlias = Dataset | str | PathLike[str] | tuple[object, object]


def as_dataset(data: DataSource, argument: str = "data") -> Dataset:
    """A data set from what a user names; where it comes in two parts, the one to train on.

    Args:
        data: a data set; a pair ``(images, labels)`` of arrays, as :class:`pyalexnet.data.ImageArrays` takes them; a
            name such as ``"digits"`` or ``"emoji"``; or a folder: one that ``pyalexnet prepare`` has written; one of
            IDX files, the pair ``train-*`` and perhaps the pair ``t10k-*``; one with a subfolder of image files for
            each class; or one that has a ``train`` of the first or the last kind and perhaps a ``val``, ``valid``,
            ``validation`` or ``test`` of either. A folder by the name of a data set is named by a path: ``"./digits"``.
        argument: what messages call it.

    Raises:
        DataError: there is no such folder or name, or what is there cannot serve; the message says why.
        TypeError: ``data`` is none of these.
    """
    if isinstance(data, str | PathLike):
        return _parts(data, argument).training()
    if isinstance(data, tuple) and len(data) == 2:
        return ImageArrays(*data)
    if isinstance(data, Dataset):
        return checked(data)
    raise TypeError(
        f"{argument} is a {type(data).__name__}; it must be a folder's path, a name ({shortened(list(_NAMED))}), a "
        "pair (images, labels) or a Dataset"
    )


def held_out_part(data: DataSource) -> Dataset | None:
    """The images that come with the data but not for training on: a folder's ``val``, or its ``t10k-*`` files.

    Args:
        data: as in :func:`as_dataset`.

    Returns:
        The held-out part; None where the data has none of its own.

    Raises:
        DataError: there is no such folder or name, or the held-out part cannot serve; the message says why.
    """
    open_held_out = _parts(data).held_out if isinstance(data, str | PathLike) else None
    return open_held_out() if open_held_out else None


def as_test_dataset(data: DataSource) -> Dataset:
    """What a classifier is judged by: the held-out part where the data has one of its own, else all of it.

    Of the digits it is what :func:`pyalexnet.train` by default holds out, unless they are given as a data set.

    Args:
        data: as in :func:`as_dataset`.

    Raises:
        DataError: there is no such folder or name, or what is there cannot serve; the message says why.
        TypeError: ``data`` is of none of the kinds that :func:`as_dataset` takes.
    """
    held_out = held_out_part(data)
    if held_out is not None:
        return held_out
    dataset = as_dataset(data)
    return split(dataset, TEST_FRACTION)[1] if isinstance(dataset, Digits) and dataset is not data else dataset


def require_apart(out: str | PathLike[str], *sources: object) -> None:
    """Refuse a folder to write that would be taken for a class of the data, or would hold what is taken for one.

    Args:
        out: the folder.
        *sources: what :func:`as_dataset` takes; what is no folder's path is no matter.

    Raises:
        DataError: it lies beside the classes, or holds them; or a folder of the data cannot be read.
    """
    target = Path(out).resolve()
    for source in sources:
        if not isinstance(source, str | PathLike) or is_name(source) or not is_folder(Path(source)):
            continue
        for folder in _folders_of_classes(Path(source)):
            if not target.is_relative_to(folder.resolve()):
                continue
            below = target.relative_to(folder.resolve()).parts
            if below and (below[0].startswith(".") or (is_folder(folder / below[0]) and has_images(folder / below[0]))):
                continue  # hidden, or in a class, of which images alone are taken
            raise DataError(
                f"out is {printable(fspath(out))}, which lies in {printable(fspath(folder))}, where each folder is a "
                "class; name a folder elsewhere"
            )


def _folders_of_classes(path: Path) -> list[Path]:
    """Where each subfolder is a class: a folder itself, or those of its parts that are not prepared."""
    if (path / MANIFEST_FILE).is_file() or has_idx_part(path, "train") or not visible_subfolders(path):
        return []
    parts = find_parts(path, MANIFEST_FILE)
    if parts is None:
        return [path]
    return [part for part in (parts.training, parts.held_out) if part and not (part / MANIFEST_FILE).is_file()]


class _Parts(NamedTuple):
    """How to open the parts of a data set."""

    training: Callable[[], Dataset]
    held_out: Callable[[], Dataset] | None = None


def _parts(data: str | PathLike[str], argument: str = "data") -> _Parts:
    if is_name(data):
        return _NAMED[fspath(data)]
    path = as_path(argument, data)
    require_text(fspath(path), argument)
    if is_folder(path):
        return _folder_parts(path)
    raise DataError(f"{path} is not a folder, nor the name of a data set: {shortened(list(_NAMED))}")


def _folder_parts(path: Path) -> _Parts:
    if (path / MANIFEST_FILE).is_file():
        return _Parts(partial(PreparedImages, path))
    if has_idx_part(path, "train"):
        has_held_out = has_idx_part(path, "t10k")
        return _Parts(partial(IdxImages, path, "train"), partial(IdxImages, path, "t10k") if has_held_out else None)
    if not visible_subfolders(path):
        raise DataError(
            f"the folder {printable(fspath(path))} holds no data: neither {MANIFEST_FILE} or train/{MANIFEST_FILE}, as "
            "pyalexnet prepare writes them, nor train-images-idx3-ubyte[.gz], nor a subfolder of images for each class"
        )
    parts = find_parts(path, MANIFEST_FILE)
    if parts is None:
        return _Parts(lambda: ImageFolder(path, list(remark_on_classes(path))))

    def opened(part: Path) -> Dataset:
        return PreparedImages(part) if (part / MANIFEST_FILE).is_file() else ImageFolder(part, parts.remarks)

    def missing() -> Dataset:
        raise DataError(f"{parts.remarks[0]}; there is no train to learn from")

    return _Parts(
        partial(opened, parts.training) if parts.training else missing,
        partial(opened, parts.held_out) if parts.held_out else None,
    )


def _emoji(part: Part = "train") -> Dataset:
    from pyalexnet.data.emoji import Emoji  # here, since SciPy takes a moment

    return Emoji(part)


_NAMED = {
    "digits": _Parts(Digits),
    "emoji": _Parts(_emoji, partial(_emoji, "test")),
    "fashion-mnist": _Parts(fashion_mnist, partial(fashion_mnist, "t10k")),
}


def is_name(data: object) -> bool:
    """Whether a user's word names a data set, whatever folders there are where the program runs."""
    return isinstance(data, str) and data in _NAMED
