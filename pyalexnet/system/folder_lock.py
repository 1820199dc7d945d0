"""Folders for one writer at a time, by a lock that ends with the process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from pyalexnet.system.files import NOT_SUPPORTED, cannot_write_to

_LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked_folder(folder: str | PathLike[str]) -> Iterator[str | None]:
    """A folder that no other process or thread may work in until the block ends; it is made if there is none.

    The lock ends with the process, however that ends: it is the kernel's, on a file ``.lock``, which means nothing by
    itself and goes with the lock. If nothing has come into a folder that was made here, it goes too.

    Yields:
        Why the folder could not be locked, on a file system that has no locks; else None.

    Raises:
        OSError: someone else has locked it, and the message says who; or it cannot be made or written to.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, problem = _open_lock(folder / _LOCK_FILE)
        except OSError as error:
            raise cannot_write_to(folder, error) from error
        try:
            yield problem
        finally:
            with contextlib.suppress(OSError):
                if _lies_at(descriptor, folder / _LOCK_FILE):
                    os.unlink(folder / _LOCK_FILE)
            os.close(descriptor)
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it holds something, or was never made
                path.rmdir()


def _open_lock(path: Path) -> tuple[int, str | None]:
    """Lock a file, new or left behind: its descriptor, and what is in the way if there are no locks here.

    Raises:
        OSError: someone else holds it, or it cannot be opened.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except PermissionError as refused:  # another user's, left behind
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:  # or a folder that takes no files
                raise refused from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _lies_at(descriptor, path):  # its holder has just ended
                os.close(descriptor)
                continue
            with contextlib.suppress(OSError):  # a full disk, a file of another user: then the lock has no name
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode())
            return descriptor, None
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise OSError(errno.EBUSY, f"{holder} is at work in it") from error
        except OSError as error:
            if error.errno in NOT_SUPPORTED | {errno.EBADF}:  # NFS locks only what can be written
                return descriptor, error.strerror or str(error)
            os.close(descriptor)
            raise


def _holder(descriptor: int) -> str:
    """Who holds a lock, as far as that is known."""
    match = re.fullmatch(rb"(\d+) ([\w.-]+)", os.pread(descriptor, 200, 0))
    return f"process {int(match[1])} on {match[2].decode()}" if match else "another process"


def _lies_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
