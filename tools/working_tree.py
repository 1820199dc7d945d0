"""A copy of the working tree, for tools that build it elsewhere or break it on purpose."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copy_working_tree(to: Path) -> None:
    """Bring a copy up to date: what git knows and what it would add, as it lies there now.

    What did not change keeps its time, so that builders compile the rest alone.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = {Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for file in files:
        copy = to / file
        if not copy.exists() or copy.read_bytes() != (ROOT / file).read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, copy)
            shutil.copymode(ROOT / file, copy)
    for folder in ("src", "tests", "pyalexnet"):
        for copy in (to / folder).rglob("*.*"):
            if copy.is_file() and copy.suffix not in (".so", ".pyc") and copy.relative_to(to) not in files:
                copy.unlink()


@contextmanager
def planted(path: Path, old: str, new: str) -> Iterator[None]:
    """Within a ``with`` block, a file has another text in one place.

    Raises:
        ValueError: the file has the old text not at all, or in several places.
    """
    before = path.read_text(encoding="utf-8")
    if before.count(old) != 1:
        raise ValueError(f"{path} has {before.count(old)} times {old!r}")
    path.write_text(before.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")
