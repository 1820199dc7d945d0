"""Logs of a training run for programs to read: JSON Lines, and TensorBoard's event files.

A resumed run goes on in the logs of the run that stopped, as if it had never stopped: what they hold from after the
checkpoint is cut off and written again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from itertools import count
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge
from typing_extensions import NotRequired, TypedDict

from pyalexnet.system.extras import importing_extra
from pyalexnet.system.files import open_regular_file
from pyalexnet.system.json_file import JsonFormat

METRICS_FILE, TENSORBOARD_FOLDER = "metrics.jsonl", "tensorboard"

# TensorBoard shows what is this old at most, and a killed process loses it.
_TENSORBOARD_FLUSH_SECONDS = 10

_LINE_START = b'{"kind": '
_MOST_LINE_BYTES = 2**20


class Line(TypedDict):
    """What every line has; the values that it may have beside these are of any kind."""

    kind: str
    step: Annotated[int, Ge(0)]
    epoch: NotRequired[Annotated[int, Ge(1)]]


LINE_FORMAT = JsonFormat(Line, _MOST_LINE_BYTES, ValueError, extra="allow")


class Log(Protocol):
    """Where a training run puts its figures."""

    def write(self, kind: str, /, *, step: int, **values: object) -> None:
        """Put down figures.

        Args:
            kind: what they are of: ``step``, ``epoch``, ``event`` or another word.
            step: training steps done by then, never less than in the call before.
            **values: numbers, texts, None, and lists and dicts of these.
        """

    def close(self) -> None:
        """Write what is left; nothing can be written afterwards."""


class MetricsLog:
    """A file of JSON Lines: one object a line, with its kind, time (seconds since 1970), step and values.

    Each line is strict JSON and is in the file when :meth:`write` returns, whole or not at all. NaN and the infinities,
    which JSON has not, are the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which ``float()`` understands.
    """

    def __init__(
        self, path: str | PathLike[str], *, keep_steps: int | None = None, keep_epochs: int | None = None
    ) -> None:
        """Open a log, or begin one, to append to it. A torn last line, which a full disk or power cut left, goes.

        Args:
            path: the file.
            keep_steps: cut the log off before the first line whose step is above this; None keeps all, -1 nothing.
            keep_epochs: likewise for lines that have an ``epoch`` and are of kind ``epoch``. A checkpoint at the last
                step of an epoch may come before or after the epoch's line; its number of whole epochs tells.

        Raises:
            OSError: the file cannot be read or written.
            ValueError: it is no such log; it is unchanged then.
        """
        self.path = Path(path)
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - it stays open until close()
        try:
            self._file.truncate(_kept_bytes(self.path, keep_steps, keep_epochs))
        except BaseException:
            self._file.close()
            raise

    def write(self, kind: str, /, *, step: int, **values: object) -> None:
        """Append a line.

        Args:
            kind: its kind.
            step: training steps done by then.
            **values: as in :class:`Log`; NumPy's numbers too.

        Raises:
            OSError: it cannot be written; the log is as it was before.
        """
        line = {"kind": kind, "time": round(time.time(), 3), "step": step, **values}
        content = (json.dumps(_strict(line), allow_nan=False) + "\n").encode()
        end = self._file.seek(0, 2)
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            self._file.truncate(end)
            raise OSError(error.errno, f"cannot write to {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def require_tensorboard() -> None:
    """Make sure that :class:`TensorBoardLog` can be used, before anything is written.

    Raises:
        MissingLibraryError: TensorBoard is not installed.
    """
    with importing_extra():
        import tensorboard  # noqa: F401 - asked for alone


class TensorBoardLog:
    """TensorBoard's event files: every number of a line is a scalar named ``kind/name``, such as ``step/loss``."""

    def __init__(self, folder: str | PathLike[str], *, keep_steps: int | None = None) -> None:
        """Begin a new event file; TensorBoard reads all files of the folder as one run.

        Args:
            folder: where the files lie.
            keep_steps: let TensorBoard forget what the folder's files hold of steps above this; None keeps all.

        Raises:
            MissingLibraryError: TensorBoard is not installed.
            OSError: the folder cannot be written to.
        """
        with importing_extra():
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer = EventFileWriter(fspath(folder), flush_secs=_TENSORBOARD_FLUSH_SECONDS)
        if keep_steps is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(keep_steps + 1, session_log=start)

    def write(self, kind: str, /, *, step: int, **values: object) -> None:
        """Add the numbers among the values, NaN and infinity too; texts, truth values and None are left out."""
        scalars = [
            self._summary.Value(tag=f"{kind}/{name}", simple_value=float(value))
            for name, value in values.items()
            if isinstance(value, int | float | np.number) and not isinstance(value, bool)
        ]
        if scalars:
            self._add(step, summary=self._summary(value=scalars))

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()

    def _add(self, step: int, **content: object) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, **content))


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a :class:`MetricsLog`; a torn last one is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is no line of such a log; the message names it.
    """
    for line, _ in _lines_and_ends(path):
        yield line


def _kept_bytes(path: Path, keep_steps: int | None, keep_epochs: int | None) -> int:
    """The length of the lines to keep."""
    length = 0
    for line, end in _lines_and_ends(path):
        if _is_beyond(line, keep_steps, keep_epochs):
            break
        length = end
    return length


def _lines_and_ends(path: Path) -> Iterator[tuple[Line, int]]:
    """Each whole line and where it ends, read one at a time: a log may be large."""
    with open_regular_file(path) as file:
        for number in count(1):
            content = file.readline(_MOST_LINE_BYTES)
            if not content or _is_torn(content):
                return
            yield _line(path, number, content), file.tell()


def _is_torn(content: bytes) -> bool:
    """Whether this is the beginning of a line, perhaps with zeros where a power cut kept the rest from the disk."""
    beginning = content.rstrip(b"\0")[: len(_LINE_START)]
    return not content.endswith(b"\n") and _LINE_START.startswith(beginning)


def _line(path: Path, number: int, content: bytes) -> Line:
    try:
        return LINE_FORMAT.parse(content, f"line {number}")
    except ValueError as error:
        raise ValueError(f"{path} is no log of a training run: {error}") from error


def _is_beyond(line: Line, keep_steps: int | None, keep_epochs: int | None) -> bool:
    if keep_steps is not None and line["step"] > keep_steps:
        return True
    return keep_epochs is not None and line["kind"] == "epoch" and line.get("epoch", 0) > keep_epochs


def _strict(value: object) -> object:
    """The same in what strict JSON has."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return value
