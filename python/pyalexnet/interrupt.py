"""Ctrl-C and SIGTERM as a request that a loop grants where it is safe."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - no error, but how the loop is left
    """A stop was asked for, and the loop has come to a place where it can end."""


class Terminated(KeyboardInterrupt):
    """The KeyboardInterrupt of a SIGTERM."""


class InterruptRequest:
    """While entered, the first Ctrl-C or SIGTERM only leaves a request, so that no step is left half done.

    A second one stops at once: KeyboardInterrupt. Outside the main thread, which alone signals reach, nothing is
    changed.

    Attributes:
        signal: the first signal that came; None as long as none has.
    """

    def __init__(self) -> None:
        """Begin without a request."""
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> InterruptRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def raise_if_requested(self) -> None:
        """Leave the loop here if a stop was asked for.

        Raises:
            Interrupted: it was.
        """
        if self.signal is not None:
            raise Interrupted

    def keyboard_interrupt(self) -> KeyboardInterrupt:
        """The exception by which a program ends that was asked to stop."""
        return Terminated() if self.signal == signal.SIGTERM else KeyboardInterrupt()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise self.keyboard_interrupt()
        self.signal = signal.Signals(number)
