"""Files and folders are whole or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyalexnet.system import files
from pyalexnet.system.files import (
    file_written_atomically,
    file_written_through,
    folder_written_atomically,
    link_atomically,
    open_regular_file,
    remove_folder,
    remove_unfinished,
    require_room,
    require_writable,
    write_atomically,
    write_through,
    write_together,
)
from pyalexnet.system.folder_lock import locked_folder


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

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(OSError, match=r"cannot write .*file \(3 bytes\): Read-only file system"):
        write_atomically(tmp_path / "file", b"new")


def test_a_write_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write .*: No such file or directory"):
        write_atomically(tmp_path / "nowhere" / "file", b"")


def test_the_longest_name_is_no_longer_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(OSError, match="File name too long"):
        write_atomically(tmp_path / ("n" * 256), b"new")


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        write_atomically(tmp_path, b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def files_of_a_kilobyte() -> Iterator[None]:
    """Files grow no larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("files_of_a_kilobyte")
@pytest.mark.parametrize("size", [2000, 1 << 20])  # what a buffer holds back until the end, and what it does not
def test_a_file_that_cannot_be_filled_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    with pytest.raises(OSError, match="File too large") as caught, file_written_atomically(path) as file:
        file.write(bytes(size))
    assert caught.value.filename == str(path)
    folder = tmp_path / "folder"
    with (
        pytest.raises(OSError, match="File too large") as caught,
        folder_written_atomically(folder) as unfinished,
        file_written_through(unfinished / "part") as file,
    ):
        file.write(bytes(size))
    assert caught.value.filename == str(folder / "part")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_or_brought_to_the_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "nowhere" / "file"
    with pytest.raises(FileNotFoundError) as caught, file_written_atomically(nowhere):
        pass
    assert caught.value.filename == str(nowhere)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    for write in (file_written_atomically, folder_written_atomically):
        with pytest.raises(OSError, match=r"directory|not empty") as caught, write(tmp_path / "folder"):
            pass
        assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "folder"), None)
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left on device") as caught, file_written_atomically(tmp_path / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "file")


def test_an_error_of_what_fills_a_file_keeps_its_name(tmp_path: Path) -> None:
    for name in (None, "other"):
        with pytest.raises(OSError, match="mine") as caught, file_written_atomically(tmp_path / "file"):
            raise OSError(errno.EIO, "mine", name)
        assert caught.value.filename == name


@pytest.mark.usefixtures("files_of_a_kilobyte")
@pytest.mark.parametrize("second", [2000, 1 << 20])
def test_files_are_written_together_or_not_at_all(tmp_path: Path, second: int) -> None:
    paths = [tmp_path / name for name in "ab"]
    write_together(dict.fromkeys(paths, b"old"))
    with pytest.raises(OSError, match=rf"cannot write {paths[0]}, {paths[1]} \({second + 3:,} bytes\): File too large"):
        write_together({paths[0]: b"new", paths[1]: bytes(second)})
    assert [path.read_bytes() for path in paths] == [b"old", b"old"]
    assert sorted(tmp_path.iterdir()) == paths


def test_where_a_file_can_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    require_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    for can in (path, "/dev/null", "/dev/stdout"):
        require_writable(can)
    assert path.read_bytes() == b"old"
    os.mkfifo(tmp_path / "fifo")
    require_writable(tmp_path / "fifo")  # nobody reads, so opening it would wait
    for cannot in (tmp_path, tmp_path / "nowhere" / "file", path / "file", tmp_path / ("n" * 256)):
        with pytest.raises(OSError, match=f"cannot write {cannot}: "):
            require_writable(cannot)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # root may write everything
    with pytest.raises(PermissionError, match=r"cannot write .*file: Permission denied"):
        require_writable(path)


@pytest.fixture
def umask() -> Iterator[int]:
    """An unusual one, that a mode which comes from elsewhere shows."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_umask_s_mode(tmp_path: Path, umask: int) -> None:
    write_atomically(tmp_path / "file", b"new")
    write_through(tmp_path / "other", b"new")
    assert mode(tmp_path / "file") == mode(tmp_path / "other") == 0o666 & ~umask


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("kept", [0o600, 0o664, 0o777, 0o4711])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, kept: int) -> None:
    path, source = tmp_path / "file", tmp_path / "source"
    write_atomically(path, b"old")
    path.chmod(kept)
    with file_written_atomically(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == kept  # nobody sees more of it meanwhile
    assert mode(path) == kept
    write_atomically(source, b"new")
    link_atomically(source, path)
    assert mode(path) == kept


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path, source = tmp_path / "file", tmp_path / "source"
    write_atomically(path, b"old")
    os.chown(path, 12, 34)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)
    write_atomically(source, b"newer")
    link_atomically(source, path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)


def test_an_owner_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fchown", forbidden)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # root may write everything
    with pytest.raises(PermissionError, match=r"cannot write .*file \(3 bytes\): Permission denied"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("there", [True, False])
def test_symbolic_links_are_gone_through(tmp_path: Path, there: bool) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "folder").symlink_to("other")
    target, path = tmp_path / "other" / "file", tmp_path / "link"
    path.symlink_to("folder/second")
    (tmp_path / "other" / "second").symlink_to("file")
    if there:
        target.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.is_symlink()
    assert (tmp_path / "other" / "second").is_symlink()
    assert target.read_bytes() == b"new"
    write_atomically(tmp_path / "source", b"newer")
    link_atomically(tmp_path / "source", path)
    assert path.is_symlink()
    assert target.read_bytes() == b"newer"
    assert {entry.name for entry in tmp_path.rglob("*")} == {"other", "folder", "link", "file", "second", "source"}


def test_links_that_go_round(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links") as caught:
        write_atomically(tmp_path / "one", b"new")
    assert caught.value.errno == errno.ELOOP


def test_links_that_are_planted_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one who guesses the name gains nothing."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda _bytes: "guessed")
    victim = tmp_path / "victim"
    victim.write_bytes(b"old")
    (tmp_path / ".unfinished-guessed").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", b"new")
    assert victim.read_bytes() == b"old"
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_through(tmp_path / "link", b"new")
    assert victim.read_bytes() == b"old"


def test_names_cannot_be_guessed(tmp_path: Path) -> None:
    def name() -> str:
        with file_written_atomically(tmp_path / "file"):
            return next(path.name for path in tmp_path.iterdir() if path.name != "file")

    first, second = name(), name()
    assert first != second
    assert len(first) >= len(".unfinished-") + 32
    assert str(os.getpid()) not in first or str(os.getpid()) not in second


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    path, errors = tmp_path / "file", []
    contents = [bytes([number]) * 10_000 for number in range(8)]

    def write(content: bytes) -> None:
        try:
            for _ in range(20):
                write_atomically(path, content)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    path, content = tmp_path / "pipe", b"content" * 100_000
    os.mkfifo(path)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write_atomically(path, content)
    reader.join()
    assert found == [content]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written_into(tmp_path: Path) -> None:
    number = os.stat("/dev/null").st_rdev
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_atomically("/dev/null", b"content")
    write_atomically(link, b"content")
    assert os.stat("/dev/null").st_rdev == number
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically("/dev/full", b"content")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"])
@pytest.mark.parametrize("into", ["file", "pipe"])
def test_standard_output_is_written_into_where_it_stands(tmp_path: Path, name: str, into: str) -> None:
    program = f"""
from pyalexnet.system.files import write_atomically
print("before")
write_atomically({name!r}, b"content\\n")
print("after")
"""
    path = tmp_path / "log"
    path.write_bytes(b"earlier\n")
    if into == "pipe":
        output = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout
        assert output == b"before\ncontent\nafter\n"
    else:
        with open(path, "ab") as log:
            subprocess.run([sys.executable, "-c", program], stdout=log, check=True)
        assert path.read_bytes() == b"earlier\nbefore\ncontent\nafter\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_calls_to_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", unknown)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


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
from pyalexnet.system.files import folder_written_atomically, write_through
with folder_written_atomically(Path({str(tmp_path)!r}) / "folder") as unfinished:
    write_through(unfinished / "file", b"content")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert not (tmp_path / "folder").exists()
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".hidden").touch()  # nobody's business but its owner's
    remove_unfinished(tmp_path, older_than_seconds=3600)
    assert len(list(tmp_path.iterdir())) == 2
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


HOLDER = """
import sys
from pyalexnet.system.folder_lock import locked_folder
with locked_folder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A folder that another process has locked."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_folder_for_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held_elsewhere(folder) as holder:
        told = rf"cannot write to the folder {folder}: process {holder.pid} on \S+ is at work in it"
        with pytest.raises(OSError, match=told) as caught, locked_folder(folder):
            pass
        assert caught.value.errno == errno.EBUSY
        assert folder.is_dir()
    assert (folder / ".lock").exists()  # the holder was killed
    with locked_folder(folder) as problem:
        assert problem is None
        told = f"process {os.getpid()} on "
        with pytest.raises(OSError, match=told), locked_folder(folder):  # nor for two threads of one
            pass
    assert list(folder.iterdir()) == []


def test_a_lock_that_ends_with_an_exception(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), locked_folder(tmp_path):
            raise RuntimeError


def test_a_folder_that_was_made_in_vain_goes(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_lock_file_goes_as_its_next_holder_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the file that was opened is removed by the one who held it."""
    lock, taken = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            (tmp_path / ".lock").unlink()
        taken.append(descriptor)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked_folder(tmp_path):
        assert (tmp_path / ".lock").exists()
        monkeypatch.undo()
        with pytest.raises(OSError, match="is at work in it"), locked_folder(tmp_path):
            pass
    assert len(taken) == 2


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked_folder(tmp_path) as problem:
        assert problem == "No locks available"


def test_a_lock_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OSError, match=f"cannot write to the folder {folder}: "), locked_folder(folder):
            pass
    (tmp_path / "victim").touch()
    (tmp_path / ".lock").symlink_to("victim")
    with pytest.raises(OSError, match=f"cannot write to the folder {tmp_path}: "), locked_folder(tmp_path):
        pass


def test_a_lock_in_a_folder_that_takes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_CREAT:  # as it is for all but root
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *more)

    opened = os.open
    monkeypatch.setattr(os, "open", refusing)
    told = f"cannot write to the folder {tmp_path}: Permission denied"
    with pytest.raises(PermissionError, match=told), locked_folder(tmp_path):
        pass


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
