"""Files and folders are whole or absent."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pyalexnet import files
from pyalexnet.files import (
    folder_written_atomically,
    link_atomically,
    open_regular_file,
    remove_folder,
    remove_unfinished,
    require_room,
    write_atomically,
    write_through,
)


def disk_full(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match=r"cannot write .*file \(3 bytes\): No space left on device") as caught:
        write_atomically(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_cannot_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("builtins.open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(OSError, match=r"cannot write .*file \(3 bytes\): Read-only file system"):
        write_atomically(tmp_path / "file", b"new")


def test_a_write_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write .*: No such file or directory"):
        write_atomically(tmp_path / "nowhere" / "file", b"")


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "parent" / "folder"
    with folder_written_atomically(path) as unfinished:
        write_through(unfinished / "file", b"content")
        assert not path.exists()
    assert (path / "file").read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_fails_never_appears(tmp_path: Path) -> None:
    def write() -> None:
        with folder_written_atomically(tmp_path / "folder") as unfinished:
            write_through(unfinished / "file", b"content")
            disk_full()

    with pytest.raises(OSError, match="No space left"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_killed_writers_leave_only_what_is_removed_later(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from pyalexnet.files import folder_written_atomically, write_through
with folder_written_atomically(Path({str(tmp_path)!r}) / "folder") as unfinished:
    write_through(unfinished / "file", b"content")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert not (tmp_path / "folder").exists()
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".hidden").touch()  # nobody's business but its owner's
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    source, path = tmp_path / "source", tmp_path / "path"
    source.write_bytes(b"new")
    path.write_bytes(b"old")
    if not links:
        monkeypatch.setattr(os, "link", disk_full)
    link_atomically(source, path)
    assert path.read_bytes() == b"new"
    assert source.samefile(path) == links
    assert {*tmp_path.iterdir()} == {source, path}


def test_removing_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    remove_folder(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_room(tmp_path / "new", 1, "a run")
    assert (tmp_path / "new").is_dir()
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 1000}))
    with pytest.raises(OSError, match=r"a run needs 2,000 bytes, and 1,000 are free") as caught:
        require_room(tmp_path, 2000, "a run")
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OSError, match=f"cannot write to the folder {folder}: "):
            require_room(folder, 1, "a run")


# Reading --------------------------------------------------------------------------------------------------------------


def test_a_regular_file_is_opened_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular_file(tmp_path / "link") as file:
        assert file.read() == b"content"
        assert os.get_inheritable(file.fileno()) is False
    with open_regular_file(str(tmp_path / "file"), buffering=0) as file:
        assert isinstance(file, io.FileIO)


def special(kind: str, folder: Path) -> Path:
    """Something that is no regular file."""
    path = folder / "it"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder", "device"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = special(kind, tmp_path)
    with pytest.raises(OSError, match=f"it is a {kind}; it must be a regular file") as caught:
        open_regular_file(path)
    assert caught.value.filename == str(path)
    assert isinstance(caught.value, IsADirectoryError) == (kind == "folder")


def test_a_file_that_becomes_a_fifo_on_the_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    look = os.stat

    def look_and_exchange(at: str) -> os.stat_result:
        found = look(at)
        path.unlink()
        os.mkfifo(path)
        return found

    monkeypatch.setattr(files.os, "stat", look_and_exchange)
    with pytest.raises(OSError, match="it is a FIFO; it must be a regular file"):
        open_regular_file(path)
