"""Figures as files."""

from __future__ import annotations

import io
from os import PathLike, fspath

from matplotlib.figure import Figure

from pyalexnet.system.checks import as_path, require, shown
from pyalexnet.system.files import write_atomically

FORMATS = ("png", "svg", "pdf")

_DOTS_PER_INCH = 150


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure into a file, whole or not at all, in the format that its name ends in.

    Raises:
        TypeError: ``figure`` is none of Matplotlib's, or ``path`` no path.
        ValueError: the name ends in none of :data:`FORMATS`.
        OSError: the file cannot be written; what was there before is unchanged.
    """
    kind = require_format(path)
    write_atomically(path, encoded(figure, kind))


def require_format(path: str | PathLike[str]) -> str:
    """The format that a file's name ends in.

    Raises:
        ValueError: the name ends in none of :data:`FORMATS`.
    """
    kind = as_path("path", path).suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ValueError(f"path is {fspath(path)!r}; its name must end in {', '.join(f'.{name}' for name in FORMATS)}")
    return kind


def encoded(figure: Figure, kind: str) -> bytes:
    """A figure as the content of a file of one of :data:`FORMATS`; the same figure gives the same bytes.

    Raises:
        TypeError: ``figure`` is none of Matplotlib's.
        ValueError: ``kind`` is none of :data:`FORMATS`.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"figure is {shown(figure)}; it must be a figure of Matplotlib's")
    require(kind in FORMATS, "kind", kind, f"one of {', '.join(map(repr, FORMATS))}")
    content = io.BytesIO()
    metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    figure.savefig(content, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
    return content.getvalue()
