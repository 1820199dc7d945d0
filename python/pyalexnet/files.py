"""Files and folders that are whole or absent, whatever stops the process that writes them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO

# Names that begin so belong to writes that have not ended, or never will.
_UNFINISHED = ".unfinished-"

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular_file(path: str | PathLike[str], *, buffering: int = -1) -> BinaryIO:
    """Open a file to read it, but nothing that might be waited for without end, such as a FIFO or ``/dev/zero``.

    Args:
        path: the file.
        buffering: as in :func:`open`.

    Raises:
        OSError: there is no such file, it is no regular file, or it may not be read; ``filename`` and ``strerror`` say
            so, of a folder as IsADirectoryError.
    """

    def opener(path: str, flags: int) -> int:
        # Looked at before it is opened, which does something to some devices, and after, for it may be another by then.
        _require_regular(os.stat(path).st_mode, path)
        descriptor = os.open(path, flags | os.O_NONBLOCK)
        try:
            _require_regular(os.fstat(descriptor).st_mode, path)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    return open(path, "rb", buffering=buffering, opener=opener)


def write_atomically(path: str | PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: into a new file beside it, which then takes its name.

    Raises:
        OSError: it cannot be written; what was at ``path`` is unchanged.
    """
    try:
        with file_written_atomically(path) as file:
            file.write(content)
    except OSError as error:
        reason = f"cannot write {fspath(path)} ({len(content):,} bytes): {error.strerror or error}"
        raise OSError(error.errno, reason) from error


@contextlib.contextmanager
def file_written_atomically(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to fill, which takes the name ``path`` when the block ends; if it fails, there is no new file.

    Raises:
        OSError: it cannot be written; what was at ``path`` is unchanged.
    """
    path = Path(path)
    temporary = _unfinished(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # where nothing could be written, nothing needs to go
            temporary.unlink()


@contextlib.contextmanager
def folder_written_atomically(path: str | PathLike[str]) -> Iterator[Path]:
    """A new folder to fill, which takes the name ``path`` when the block ends; if it fails, there is no folder.

    The files in it must be written with :func:`write_through`.

    Raises:
        OSError: the folder cannot be made, or ``path`` exists.
    """
    path = Path(path)
    temporary = _unfinished(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _sync_folder(temporary)
        os.rename(temporary, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_through(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def link_atomically(source: Path, path: Path) -> None:
    """Give a file a second name, in place of what had that name; a copy where the file system has no links.

    Raises:
        OSError: that cannot be done; what was at ``path`` is unchanged.
    """
    temporary = _unfinished(path)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_folder(path: Path) -> None:
    """Remove a folder at once, as others see it: under its own name it is whole or gone.

    Raises:
        OSError: it cannot be removed.
    """
    doomed = _unfinished(path)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def require_room(folder: str | PathLike[str], needed_bytes: int, what: str) -> None:
    """Make a folder if there is none yet; refuse one that cannot take so many bytes.

    Args:
        folder: the folder.
        needed_bytes: what is to be written.
        what: its name for the message, as in "a checkpoint".

    Raises:
        OSError: the folder cannot be made or written to, or its disk has not enough space.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write to the folder {fspath(folder)}: {error.strerror or error}") from error
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OSError(
            errno.ENOSPC,
            f"cannot write to the folder {fspath(folder)}: {what} needs {needed_bytes:,} bytes, and {free:,} are free",
        )


def _require_regular(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        reason = f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}; it must be a regular file"
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, reason, path)


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's list of names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
