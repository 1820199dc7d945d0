"""Files and folders that are whole or absent, whatever stops the process that writes them.

A file is written under another name beside its place, which nobody can guess and at which nothing lies, and then takes
its name. As other programs do, writing goes through symbolic links to what they point at, keeps the mode and the owner
of a file that was there, leaves a new file's mode to the umask, and refuses a file that may not be written. What is no
file but a device, a pipe or an open descriptor, such as /dev/stdout, is written into.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Names that begin so belong to writes that have not ended, or never will.
_UNFINISHED = ".unfinished-"

_MOST_LINKS = 40  # as Linux follows them

NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""By these a file system says that it has no such call: NFS without its lock daemon, FUSE, some network disks."""

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


def read_regular_file(path: str | PathLike[str], max_bytes: int) -> bytes:
    """The content of a file, which :func:`open_regular_file` opens.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than ``max_bytes`` bytes; ``filename`` and
            ``strerror`` say so.
    """
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            reason = f"it has {size:,} bytes; it must have at most {max_bytes:,}"
            raise OSError(errno.EFBIG, reason, fspath(path))
        return file.read(size)


def file_sha256(path: str | PathLike[str]) -> str:
    """The SHA-256 of a regular file's content, in lower-case hexadecimal digits.

    Raises:
        OSError: see :func:`open_regular_file`.
    """
    found = hashlib.sha256()
    with open_regular_file(path) as file:
        while block := file.read(1 << 24):
            found.update(block)
    return found.hexdigest()


def write_atomically(path: str | PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all; see :func:`file_written_atomically`.

    Raises:
        OSError: it cannot be written; what was at ``path`` is unchanged.
    """
    write_together({Path(path): content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files whole, all of them or none; see :func:`file_written_atomically`.

    Raises:
        OSError: one cannot be written; what was at the paths is unchanged.
    """
    try:
        with contextlib.ExitStack() as opened:
            for path, content in contents.items():
                file = opened.enter_context(file_written_atomically(path))
                file.write(content)
                file.flush()  # the disk takes all of them before one takes its name
    except BrokenPipeError:
        raise  # the reader has had enough, which is no failure of the disk
    except OSError as error:
        names, size = ", ".join(map(fspath, contents)), sum(map(len, contents.values()))
        raise OSError(error.errno, f"cannot write {names} ({size:,} bytes): {error.strerror or error}") from error


def require_writable(path: str | PathLike[str]) -> None:
    """Refuse a path at which no file can be written, before the work whose result is to lie there.

    Raises:
        OSError: its folder is not there or takes no new files, or what lies there may not be written.
    """
    try:
        target = _end_of_links(Path(path))
        if _own_descriptor(target) is not None:
            return
        before = _status(target)
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if before is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if before is None or stat.S_ISREG(before.st_mode):
            with tempfile.TemporaryFile(dir=target.parent):
                pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write {fspath(path)}: {error.strerror or error}") from error


@contextlib.contextmanager
def file_written_atomically(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to fill, which takes the name ``path`` when the block ends; if it fails, there is no new file.

    Where ``path`` is a device, a pipe or an open descriptor, that is what is filled.

    Raises:
        OSError: it cannot be written; ``filename`` is ``path``, and what was there is unchanged.
    """
    target = _end_of_links(Path(path))
    descriptor = _own_descriptor(target)
    before = _status(target)
    if descriptor is not None or not (before is None or stat.S_ISREG(before.st_mode)):
        if descriptor is None:
            descriptor = os.open(target, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        else:
            descriptor = os.dup(descriptor)
            if sys.stdout is not None:
                sys.stdout.flush()  # what was printed before comes before
        with _opened(descriptor, path) as file:
            yield file
        return
    if before is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), fspath(path))
    temporary = _unfinished(target.parent)
    with _called(temporary, path):
        try:
            # Nobody may see in the new file what the one in its place keeps from them.
            with _opened(_create(temporary, 0o666 if before is None else 0o600), path) as file:
                if before is not None:
                    _take_after(file.fileno(), before)
                yield file
                file.flush()
                with _named(path):
                    _sync(file.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):  # where nothing could be written, nothing needs to go
                temporary.unlink()


@contextlib.contextmanager
def folder_written_atomically(path: str | PathLike[str]) -> Iterator[Path]:
    """A new folder to fill, which takes the name ``path`` when the block ends; if it fails, there is no folder.

    The files in it must be written with :func:`write_through` or :func:`file_written_through`.

    Raises:
        OSError: the folder cannot be made, or ``path`` exists; ``filename`` is ``path``, or what would lie in it.
    """
    path = Path(path)
    temporary = _unfinished(path.parent)
    with _called(temporary, path):
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
        OSError: it cannot be written, or exists.
    """
    with file_written_through(path) as file:
        file.write(content)


@contextlib.contextmanager
def file_written_through(path: Path) -> Iterator[BinaryIO]:
    """A new file to fill, which the disk has when the block ends.

    Raises:
        OSError: it cannot be written, or exists.
    """
    with _opened(_create(path, 0o666), path) as file:
        yield file
        file.flush()
        with _named(path):
            _sync(file.fileno())


def link_atomically(source: Path, path: Path) -> None:
    """Give a file a second name, in place of the file that had it; a copy where that cannot be.

    Raises:
        OSError: that cannot be done; what was at ``path`` is unchanged.
    """
    target = _end_of_links(path)
    before = _status(target)
    temporary = _unfinished(target.parent)
    linked = before is None or stat.S_ISREG(before.st_mode)
    if linked:
        try:
            os.link(source, temporary)
        except OSError:  # a file system without links, or another one than the source's
            linked = False
    if not linked:
        with open(source, "rb") as content, file_written_atomically(path) as file:
            shutil.copyfileobj(content, file)
        return
    try:
        if before is not None:
            with open(os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                _take_after(file.fileno(), before)
        os.replace(temporary, target)
        _sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):  # gone, or of the same inode as the target, which rename leaves
            temporary.unlink()


def remove_folder(path: Path) -> None:
    """Remove a folder at once, as others see it: under its own name it is whole or gone.

    Raises:
        OSError: it cannot be removed.
    """
    doomed = _unfinished(path.parent)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_unfinished(folder: Path, *, older_than_seconds: float = 0.0) -> None:
    """Remove what writers that were killed have left in a folder.

    Args:
        folder: the folder; there may be none.
        older_than_seconds: leave alone what has been touched since, for there may be writers at work.
    """
    for path in folder.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):  # its writer has just ended
            if time.time() - path.lstat().st_ctime < older_than_seconds:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


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
        raise cannot_write_to(folder, error) from error
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OSError(
            errno.ENOSPC,
            f"cannot write to the folder {fspath(folder)}: {what} needs {needed_bytes:,} bytes, and {free:,} are free",
        )


def cannot_write_to(folder: str | PathLike[str], error: OSError) -> OSError:
    """That a folder cannot be made or written to."""
    return OSError(error.errno, f"cannot write to the folder {fspath(folder)}: {error.strerror or error}")


class _NamedFile(io.FileIO):
    """An open file whose errors of writing name it: the system, which is told a descriptor, names none."""

    def __init__(self, descriptor: int, path: str | PathLike[str]) -> None:
        super().__init__(descriptor, "wb")
        self._path = path

    def write(self, content: ReadableBuffer, /) -> int:
        with _named(self._path):
            return super().write(content)


def _opened(descriptor: int, path: str | PathLike[str]) -> BinaryIO:
    return io.BufferedWriter(_NamedFile(descriptor, path))


@contextlib.contextmanager
def _named(path: str | PathLike[str]) -> Iterator[None]:
    """Errors that name no file name this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or fspath(path)
        raise


@contextlib.contextmanager
def _called(unfinished: Path, path: str | PathLike[str]) -> Iterator[None]:
    """Errors name what is written, and what lies in it, as it is called once it is whole."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).is_relative_to(unfinished):
            error.filename = fspath(Path(path) / Path(error.filename).relative_to(unfinished))
            error.filename2 = None
        raise


def _require_regular(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        reason = f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}; it must be a regular file"
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, reason, path)


def _end_of_links(path: Path) -> Path:
    """Where a path leads, by all symbolic links but those of /proc, which only look like some.

    Raises:
        OSError: the links go round.
    """
    for _ in range(_MOST_LINKS):
        path = Path(os.path.realpath(path.parent)) / path.name
        if path.is_relative_to("/proc") or not path.is_symlink():
            return path
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), fspath(path))


def _own_descriptor(path: Path) -> int | None:
    """The number of the open descriptor that a path without links stands for, if it does."""
    match = re.fullmatch(rf"/proc/{os.getpid()}/(?:task/\d+/)?fd/(\d+)", fspath(path))
    return int(match[1]) if match else None


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _unfinished(folder: Path) -> Path:
    """A name that nothing has and nobody guesses, short enough for every file system."""
    return folder / f"{_UNFINISHED}{secrets.token_hex(16)}"


def _create(path: Path, mode: int) -> int:
    """Open a file that is new: what lies there already, a planted link too, is not touched."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def _take_after(descriptor: int, before: os.stat_result) -> None:
    """Give an open file the owner, as far as that may be, and the mode of another."""
    for owner in ((-1, before.st_gid), (before.st_uid, -1)):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, *owner)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's list of names, where it may be asked for."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # names can be written here, but not read
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Wait until the disk has what was written, where the file system knows how."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
