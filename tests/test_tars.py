"""Tars, member by member, as tarfile writes them; and damaged, endless and malicious ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pyalexnet.data.sources import find_images
from pyalexnet.data.tars import Member, TarError, members
from pyalexnet.errors import DataError

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
LONG = "d" * 90 + "/" + "e" * 90 + ".jpg"
FILES = {"a/1.jpg": b"one", "a/2.jpg": b"", LONG: b"6" * 1500, "b/last.jpg": bytes(512)}


def header(name: str = "a/1.jpg", size: int = 3, kind: bytes = tarfile.REGTYPE, **more: object) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for attribute, value in more.items():
        setattr(member, attribute, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def pax(records: bytes, name: str = "a/1.jpg", size: int = 3) -> bytes:
    padded = records + bytes(-len(records) % 512)
    return header("pax", len(records), tarfile.XHDTYPE) + padded + header(name, size) + b"one" + bytes(509)


def with_end(*parts: bytes) -> bytes:
    return b"".join(parts) + bytes(1024)


def packed(files: dict[str, bytes], tar_format: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tar_format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("a/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "1.jpg"
        archive.addfile(link)
    return content.getvalue()


def listed(content: bytes, path: Path) -> list[Member]:
    path.write_bytes(content)
    with open(path, "rb") as file:
        return list(members(file))


@pytest.mark.parametrize("tar_format", FORMATS)
def test_members_lie_where_they_are_said_to(tmp_path: Path, tar_format: int) -> None:
    names = {**FILES, **({"ü" * 120 + ".jpg": b"8"} if tar_format != tarfile.USTAR_FORMAT else {})}
    content = packed(names, tar_format)
    *files, link = listed(content, tmp_path / "a.tar")
    assert link == Member("a/link.jpg", link.offset, None)
    assert {member.name: content[member.offset : member.offset + member.size] for member in files} == names


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    content = with_end(*(header(name, 0) for name in ("/data//cat/./a.jpg", "./b.jpg")))
    assert [member.name for member in listed(content, tmp_path / "a.tar")] == ["data/cat/a.jpg", "b.jpg"]


def test_an_empty_archive_has_no_members(tmp_path: Path) -> None:
    assert listed(bytes(10240), tmp_path / "a.tar") == []


GOOD = header() + b"one" + bytes(509)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at byte 0 it tells of 512 more; it has 0"),
        (b"no tar", "at byte 0 it tells of 512 more; it has 6"),
        (b"x" * 2048, "the header at byte 0 is damaged"),
        (GOOD, "at byte 1,024 it tells of 512 more; it has 0"),
        (GOOD[:700], "at byte 512 it tells of 3|at byte 515 it tells of 509"),
        (GOOD[:148] + b"7777777\0" + GOOD[156:] + bytes(1024), "the header at byte 0 is damaged: bad checksum"),
        (with_end(header(size=2**50)), "it tells of 1,125,899,906,842,624 more; it has 1,024"),
        (with_end(header(size=-512)), "it tells of -512 more"),
        (with_end(header(size=10**20), GOOD), "it tells of 100,000,000,000,000,000,000 more"),
        (with_end(header(kind=tarfile.GNUTYPE_SPARSE)), "stored with holes; tar stores it whole without --sparse"),
        (with_end(pax(b"28 GNU.sparse.name=a/1.jpg\n\n"[:27] + b"\n")), "stored with holes|attributes are damaged"),
        (with_end(header("../a.jpg", 0)), "the member '../a.jpg' has no place"),
        (with_end(header("a/../../b.jpg", 0)), "has no place"),
        (with_end(header(size=2**21, kind=tarfile.GNUTYPE_LONGNAME), bytes(2**21), GOOD), "must be at most 1,048,576"),
        (with_end(pax(b"12 size=-5\n\n")), "a member's size is '-5|attributes are damaged"),
        (with_end(pax(b"11 size=-5\n")), "a member's size is '-5'; it must be a number"),
        (with_end(pax(b"%d size=%s\n" % (410, b"9" * 400))), "a member's size is '99999999999999999999'"),
        (with_end(pax(b"99 path=b.jpg\n")), "attributes are damaged"),
        (with_end(pax(b"0 path=b.jpg\n")), "attributes are damaged"),
        (with_end(pax(b"path=b.jpg\n")), "attributes are damaged"),
        (with_end(pax(b"17 path=a/b\0.jpg\n")), "has no place"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        listed(content, tmp_path / "a.tar")


def test_a_name_in_front_of_a_name_without_end(tmp_path: Path) -> None:
    """Five thousand names that all belong to one member: no deeper than one."""
    content = with_end((header("n", 6, tarfile.GNUTYPE_LONGNAME) + b"x.jpg\0" + bytes(506)) * 5000, GOOD)
    (member,) = listed(content, tmp_path / "a.tar")
    assert member.name == "x.jpg"


def nested(levels: int) -> bytes:
    content = packed({"a.jpg": b"one"}, tarfile.USTAR_FORMAT)
    for _ in range(levels - 1):
        content = packed({"cats.tar": content}, tarfile.USTAR_FORMAT)
    return content


def test_a_tar_and_the_tars_in_it(tmp_path: Path) -> None:
    (tmp_path / "photos.tar").write_bytes(nested(2))
    (image,) = find_images(tmp_path / "photos.tar").images
    assert (image.name, image.read()) == ("cats/a.jpg", b"one")


@pytest.mark.parametrize("levels", [3, 60])
def test_tars_in_tars_in_tars_are_refused(tmp_path: Path, levels: int) -> None:
    (tmp_path / "photos.tar").write_bytes(nested(levels))
    with pytest.raises(DataError, match=r"photos\.tar has tars within tars within tars; it must have at most 2 levels"):
        find_images(tmp_path / "photos.tar")


@pytest.mark.parametrize("spoil", [lambda inner: inner[:600], lambda inner: inner[:100] + b"?" + inner[101:]])
def test_a_damaged_tar_in_a_tar_names_the_file(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    inner = spoil(packed({"a.jpg": b"1" * 900}, tarfile.USTAR_FORMAT))
    (tmp_path / "photos.tar").write_bytes(packed({"cats.tar": inner}, tarfile.USTAR_FORMAT))
    with pytest.raises(DataError, match=r"photos\.tar is no tar file, is compressed, or is cut off"):
        find_images(tmp_path / "photos.tar")
