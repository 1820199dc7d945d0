"""What a person sees while training runs: a live bar in a terminal, one line an epoch in a log."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# The time left follows from the speed over so many seconds; several steps of a large batch must fit in.
_SPEED_SECONDS = 120


class Display:
    """Shows a training's course on standard output; the bar only where that is a terminal."""

    def __init__(self, *, enabled: bool = True) -> None:
        """Begin with nothing shown; a display that is not enabled shows nothing at all."""
        self._console = Console(quiet=not enabled, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=self._console,
            speed_estimate_period=_SPEED_SECONDS,
            disable=not (enabled and self._console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, state="")

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, soft_wrap=True, markup=False)

    def begin(self, stage: str, total: int) -> None:
        """A new bar for ``total`` images, in place of the last one."""
        self._bar.reset(self._task, total=total, description=stage, state="")

    def stage(self, stage: str) -> None:
        """What the bar has come to."""
        self._bar.update(self._task, description=stage)

    def advance(self, images: int) -> None:
        """So many images more are done."""
        self._bar.update(self._task, advance=images)

    def state(self, state: str) -> None:
        """What is known at this moment, beside the bar."""
        self._bar.update(self._task, state=state)
