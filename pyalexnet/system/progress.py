"""What a person sees while training runs: a live bar in a terminal, plain lines now and then in a log file."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import IO, Protocol, TextIO, cast

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pyalexnet.system.names import printable

# The time left follows from the speed over so many seconds; several steps of a large batch must fit in.
_SPEED_SECONDS = 120

# Where there is no bar, a line tells so often that the run is alive.
_LOG_SECONDS = 60.0

# A terminal with fewer columns shows no bar beside the text.
_WIDE_COLUMNS = 100

# The epochs that a summary shows at most, of which there may be hundreds.
_TABLE_ROWS = 20
_HEADINGS = ("epoch", "lr", "loss", "val. loss", "accuracy", "time", "")


class Epoch(Protocol):
    """What :meth:`Display.table` shows of an epoch."""

    @property
    def epoch(self) -> int:
        """Its number, from 1 on."""

    @property
    def lr(self) -> float:
        """Learning rate."""

    @property
    def train_loss(self) -> float:
        """Mean loss of the steps."""

    @property
    def validation_loss(self) -> float | None:
        """Mean loss of the held-out images, if any."""

    @property
    def validation_accuracy(self) -> float | None:
        """Part of the held-out images that were classified rightly, if any."""

    @property
    def seconds(self) -> float:
        """Time that it took."""


class Display:
    """Shows a work's course on standard output: as a live bar where that is a terminal, else line by line.

    What cannot be shown, since the terminal or the reader is gone or the log's disk is full, is lost; the work goes on.
    """

    def __init__(
        self, *, enabled: bool = True, live: bool = True, on_stderr: bool = False, log_seconds: float = _LOG_SECONDS
    ) -> None:
        """Begin with nothing shown.

        Args:
            enabled: False shows nothing at all.
            live: False shows lines even in a terminal, for output that somebody else may write into a file.
            on_stderr: show it on standard error, where standard output is for results.
            log_seconds: time from one plain line to the next, where there is no terminal.
        """
        output = LastingOutput(sys.stderr if on_stderr else sys.stdout)
        self._console = Console(
            file=cast(IO[str], output),
            quiet=not enabled,
            highlight=False,
            emoji=False,
            force_terminal=None if live else False,
        )
        is_terminal = live and self._console.is_interactive and self._console.file.isatty()
        self._log_seconds = None if is_terminal else log_seconds
        self._bar = Progress(
            *_columns(self._console.width),
            console=self._console,
            speed_estimate_period=_SPEED_SECONDS,
            disable=not (enabled and is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, state="", visible=False)
        self._last_line_time = time.monotonic()

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(self._shown(text), soft_wrap=True, markup=False)
        self._last_line_time = time.monotonic()

    def lines(self, texts: Iterable[str]) -> None:
        """:meth:`line` of each."""
        for text in texts:
            self.line(text)

    def begin(self, stage: str, total: int, done: int = 0) -> None:
        """A new bar in place of the last one.

        Args:
            stage: what begins.
            total: images, or what else it counts, to come to.
            done: how many are done already, where a run is resumed.
        """
        self._bar.reset(self._task, total=total, completed=done, description=self._shown(stage), state="", visible=True)

    def stage(self, stage: str) -> None:
        """What the bar has come to; the state of the last stage goes."""
        self._bar.update(self._task, description=self._shown(stage), state="")

    def advance(self, images: int) -> None:
        """So many images more are done."""
        self._bar.update(self._task, advance=images)
        self._log()

    def state(self, state: str) -> None:
        """What is known at this moment, beside the bar."""
        self._bar.update(self._task, state=self._shown(state))

    def table(self, epochs: Sequence[Epoch]) -> None:
        """A summary of a run's epochs, the one of the best validation accuracy marked.

        Of a long run it shows the first and the last epoch, the best one, and some in between.
        """
        if not epochs:
            return
        best = _best(epochs)
        rows = [(*_cells(epochs[index]), "best" if index == best else "") for index in _shown(len(epochs), best)]
        filled = [column for column in zip(_HEADINGS, *rows, strict=True) if any(column[1:])]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading, *_ in filled:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in zip(*(cells for _, *cells in filled), strict=True):
            table.add_row(*row)
        # As wide as it is: a narrower terminal wraps its lines, where rich would cut off figures.
        table.width = Measurement.get(self._console, self._console.options.update(max_width=200), table).maximum
        self._console.print(table, crop=False)
        self._last_line_time = time.monotonic()

    def _log(self) -> None:
        """A plain line, where there is no bar and the last one is long ago."""
        if self._log_seconds is None or time.monotonic() - self._last_line_time < self._log_seconds:
            return
        task = self._bar.tasks[self._task]
        self.line(_joined(task.description, task.fields["state"], _position(task)))

    def _shown(self, text: str) -> str:
        """A text without control characters; those that the output's encoding has not become question marks."""
        return printable(text).encode(self._console.encoding, "replace").decode(self._console.encoding)


class LastingOutput:
    """A text stream that takes everything, and loses what it cannot write.

    Attributes:
        encoding: of the stream.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Keep the stream, which is None where the program was started without it."""
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write what can be written, characters that the encoding has not as escapes."""
        known = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        self._attempt(lambda stream: stream.write(known))
        return len(text)

    def flush(self) -> None:
        """Bring it to where it goes."""
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._attempt(lambda stream: stream.isatty()))

    def fileno(self) -> int:
        """The stream's descriptor.

        Raises:
            OSError: it has none.
        """
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def _attempt(self, action: Callable[[TextIO], object]) -> object:
        """What an action on the stream gives; None if it fails."""
        if self._stream is None:
            return None
        try:
            return action(self._stream)
        except (OSError, ValueError):  # ValueError: somebody has closed it
            let_go(self._stream)
            return None


def tell(line: str, *, on_stderr: bool = False) -> None:
    """A line on standard output or standard error, if there is anybody to read it."""
    output = LastingOutput(sys.stderr if on_stderr else sys.stdout)
    output.write(f"{line}\n")
    output.flush()


def let_go(stream: TextIO) -> None:
    """Drop what a stream that fails has not written yet, which would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as opened:
        number = stream.fileno()
        kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
        opened.callback(os.close, nowhere)
        opened.callback(os.close, kept)
        os.dup2(nowhere, number)
        opened.callback(os.dup2, kept, number)
        stream.flush()


def duration(seconds: float) -> str:
    """A time to read: ``45 s``, ``12 min``, ``1 h 12 min`` or ``3 d 4 h``."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


class _ShortColumn(ProgressColumn):
    """All that is known in one line, what matters least at its end, which a narrow terminal cuts off."""

    def render(self, task: Task) -> Text:
        """The line."""
        return Text(_joined(task.description, _position(task), task.fields["state"]), no_wrap=True, overflow="crop")


def _columns(width: int) -> Iterable[ProgressColumn]:
    if width < _WIDE_COLUMNS:
        yield _ShortColumn()
        return
    yield TextColumn("{task.description}", markup=False)
    yield BarColumn()
    yield MofNCompleteColumn()
    yield TextColumn("{task.fields[state]}", markup=False)
    yield TimeRemainingColumn()


def _position(task: Task) -> str:
    """How far it has come, and the time that is left once that can be told."""
    left = "" if task.time_remaining is None else f", {duration(task.time_remaining)} left"
    return f"{task.percentage:.1f}%{left}"


def _joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def _best(epochs: Sequence[Epoch]) -> int | None:
    """The index of the first epoch with the highest validation accuracy, if any was measured."""
    measured = [index for index, record in enumerate(epochs) if record.validation_accuracy is not None]
    return max(measured, key=lambda index: epochs[index].validation_accuracy or 0.0, default=None)


def _shown(count: int, best: int | None) -> list[int]:
    """The indices of the epochs to show."""
    rows = min(count, _TABLE_ROWS)
    shown = {row * (count - 1) // max(rows - 1, 1) for row in range(rows)}
    return sorted(shown if best is None else shown | {best})


def _cells(record: Epoch) -> list[str]:
    loss = "" if record.validation_loss is None else f"{record.validation_loss:.4f}"
    accuracy = "" if record.validation_accuracy is None else f"{record.validation_accuracy:.2%}"
    return [str(record.epoch), f"{record.lr:g}", f"{record.train_loss:.4f}", loss, accuracy, duration(record.seconds)]
