"""Ctrl-C as a request that a loop grants where it is safe."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):  # noqa: N818 - no error, but how the loop is left
    """Ctrl-C was pressed, and the loop has come to a place where it can end."""


class InterruptRequest:
    """While entered, the first Ctrl-C only leaves a request, so that no step is left half done.

    A second Ctrl-C raises KeyboardInterrupt at once. Outside the main thread, which alone signals reach,
    nothing is changed.
    """

    def __init__(self) -> None:
        """Begin without a request."""
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> InterruptRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def raise_if_requested(self) -> None:
        """Leave the loop here if Ctrl-C was pressed.

        Raises:
            Interrupted: it was.
        """
        if self.requested:
            raise Interrupted

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
