"""Which files below a folder are images, and why the others are left out."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from pyalexnet.data.finding import describe_left_out, has_images, list_classes, list_images, visible_subfolders
from pyalexnet.errors import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_and_links_are_descended(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "d.PNG", tmp_path / "elsewhere" / "e.jpg")
    folder = tmp_path / "cat"
    touch(folder / "b.jpg", folder / "a" / "z" / "c.webp", folder / "a" / "y.gif")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "bare" / "a").mkdir(parents=True)
    (folder / "file.jpg").symlink_to(tmp_path / "elsewhere" / "e.jpg")
    listing = list_images(folder)
    assert listing.images == ["a/y.gif", "a/z/c.webp", "b.jpg", "file.jpg", "linked/d.PNG", "linked/e.jpg"]
    assert listing.left_out == []
    assert has_images(folder)
    assert not has_images(tmp_path / "elsewhere" / ".." / "bare")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "cat"
    touch(folder / "inner" / "a.jpg", tmp_path / "photos" / "dog" / "b.jpg")
    for place, target in {
        "self": ".", "inner/up": "..", "root": "../..", "loop": "loop", "inner/again": "../inner", "all": "..",
    }.items():  # fmt: skip
        (folder / place).symlink_to(target)
    (tmp_path / "photos" / "all").symlink_to(".")
    listing = list_images(folder, above=[tmp_path / "photos", tmp_path])
    assert listing.images == ["inner/a.jpg"]
    there = "it is a link to a folder that is there already"
    assert dict(listing.left_out) == {
        **dict.fromkeys(["self", "inner/up", "root", "inner/again", "all"], there),
        "loop": "it cannot be looked at: Too many levels of symbolic links",
    }
    assert has_images(folder)


def test_every_file_is_listed_or_left_out_with_a_reason(tmp_path: Path) -> None:
    touch(
        *(tmp_path / name for name in ("a.jpg", "B.JPEG", "notes.txt", ".hidden.jpg", ".cache/c.jpg", "jpg", "d.jpg."))
    )
    (tmp_path / "empty.jpg").mkdir()
    touch(tmp_path / "__MACOSX" / "cat" / "._a.jpg", tmp_path / "@eaDir" / "a.jpg")
    (tmp_path / "lost.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.jpg"))
    listing = list_images(tmp_path)
    assert listing.images == ["B.JPEG", "a.jpg"]
    suffix, dot = "its name does not end as that of an image", "its name begins with a dot"
    assert dict(listing.left_out) == {
        "notes.txt": suffix,
        "jpg": suffix,
        "d.jpg.": suffix,
        ".hidden.jpg": dot,
        ".cache": dot,
        "__MACOSX": "it is a system's folder",
        "@eaDir": "it is a system's folder",
        "empty.jpg": "it is an empty folder",
        "lost.jpg": "it is a link to nothing",
        "pipe.jpg": "it is no regular file",
        "s.jpg": "it is no regular file",
    }
    assert describe_left_out(listing.left_out)[:3] == [
        f"left out, {dot}: .cache, .hidden.jpg",
        "left out, it is a system's folder: @eaDir, __MACOSX",
        f"left out, {suffix}: d.jpg., jpg, notes.txt",
    ]
    many = [type(listing.left_out[0])(f"{number:04}.txt", suffix) for number in range(2000)]
    assert describe_left_out(many) == [
        f"left out, {suffix}: 0000.txt, 0001.txt, 0002.txt, 0003.txt, 0004.txt and 1,995 more"
    ]


def test_a_folder_of_any_depth(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python's stack; the path alone would be too long to make it by
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    try:
        assert list_images(tmp_path).images == ["d/" * 1500 + "a.jpg"]
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # Python's own way goes too deep


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "cat" / "inner" / "a.jpg")
    real = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("inner"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("pyalexnet.data.finding.os.scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read the folder .*cat/inner: Permission denied"):
        list_classes(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"cannot read the folder a+: File name too long"):
        list_images("a" * 5000)


def test_names_that_are_no_utf_8_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "a.jpg")
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.txt")).touch()
    (listed,), left_out = list_classes(tmp_path)
    assert listed.images == ["a.jpg"]
    assert describe_left_out(left_out) == [
        r"left out, its name does not end as that of an image: cat/caf\xe9.txt",
    ]
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.jpg")).touch()
    with pytest.raises(DataError, match=r"image in the folder .*cat is 'caf\\xe9.jpg', which is no UTF-8; rename it"):
        list_classes(tmp_path)
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.jpg")).unlink()
    touch(tmp_path / os.fsdecode(b"\xff") / "a.jpg")
    with pytest.raises(DataError, match=r"has a class whose name is '\\xff', which is no UTF-8; rename it"):
        list_classes(tmp_path)


def test_class_names_are_compared_in_nfc(tmp_path: Path) -> None:
    touch(tmp_path / "cafe\u0301" / "a.jpg", tmp_path / "zoo" / "b.jpg")
    classes, _ = list_classes(tmp_path)
    assert [(one.name, one.folder) for one in classes] == [("caf\xe9", "cafe\u0301"), ("zoo", "zoo")]
    touch(tmp_path / "caf\xe9" / "a.jpg")
    with pytest.raises(DataError, match=r"the class 'café' as 'cafe\\u0301' and as 'caf\\xe9'"):
        list_classes(tmp_path)


def test_visible_subfolders(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "x", tmp_path / ".git" / "x", tmp_path / "file")
    (tmp_path / "a").symlink_to("b")
    assert visible_subfolders(tmp_path) == ["a", "b"]
