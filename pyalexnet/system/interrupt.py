"""Signals as requests that a loop grants where it is safe: to stop, or to save and go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

# By these somebody, or a scheduler, wants the program to end: Ctrl-C, kill, and the limit on processor time, which
# comes again every second.
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU)

# By these schedulers tell that the end is near (Slurm's --signal, Grid Engine's -notify), and the system that the
# terminal is gone.
_SAVING = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - no error, but how the loop is left
    """A stop was asked for, and the loop has come to a place where it can end."""


class Terminated(KeyboardInterrupt):
    """The KeyboardInterrupt of another signal than Ctrl-C's.

    Attributes:
        signal: the signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        """Keep which one it is."""
        super().__init__(number.name)
        self.signal = number


def keyboard_interrupt(number: signal.Signals) -> KeyboardInterrupt:
    """The exception by which a program ends that a signal stops."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


@contextlib.contextmanager
def terminated_by_signal() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated`, as Ctrl-C raises, so that what is half written is removed.

    What the program ignores or handles itself stays so. Outside the main thread nothing is changed.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        raise keyboard_interrupt(signal.Signals(number))

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class InterruptRequest:
    """While entered, signals only leave requests, so that no step is left half done.

    SIGINT (Ctrl-C), SIGTERM and SIGXCPU ask to stop; a Ctrl-C after that stops at once: KeyboardInterrupt. SIGUSR1,
    SIGUSR2 and SIGHUP ask to save. What the program ignores, as under nohup, or handles itself stays so. Outside the
    main thread, which alone signals reach, nothing is changed.

    That a request has come is told at once, by a thread of its own: the main thread sees signals only between two
    calls of native code, which may take seconds.

    Attributes:
        signal: the first signal that asked to stop; None as long as none has.
    """

    def __init__(self, tell: Callable[[str], None], *, stopping: str, saving: str, deferred: bool = True) -> None:
        """Begin without a request.

        Args:
            tell: is given a line for each request.
            stopping: what the program does when it is asked to stop, for that line.
            saving: likewise when it is asked to save.
            deferred: False stops at once, as there is nothing to lose, until :meth:`defer` is called.
        """
        self.signal: signal.Signals | None = None
        self._tell, self._stopping, self._saving, self._deferred = tell, stopping, saving, deferred
        self._save_asked = self._stop_told = False
        self._ctrl_c_seen = 0
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._watcher: _Watcher | None = None

    def __enter__(self) -> InterruptRequest:
        if threading.current_thread() is threading.main_thread():
            self._watcher = _Watcher(self._on_seen)
            for number in (*_STOPPING, *_SAVING):
                before = signal.getsignal(number)
                if before is signal.SIG_DFL or (number in _STOPPING and callable(before)):
                    self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        if self._watcher:
            self._watcher.close()

    def defer(self) -> None:
        """From now on a request waits until the loop grants it."""
        self._deferred = True

    def ask_to_stop(self, number: signal.Signals) -> None:
        """Leave a request, as if this signal had come, that another process has got; any thread may."""
        if self.signal is None:
            self.signal = number
            self._tell_of_stop(number)

    def raise_if_requested(self) -> None:
        """Leave the loop here if a stop was asked for.

        Raises:
            Interrupted: it was.
            KeyboardInterrupt: and it was asked for again.
        """
        if self.take_stop_request() is not None:
            raise Interrupted

    def take_stop_request(self) -> signal.Signals | None:
        """The first signal that asked to stop, if one has, for those who grant what any of several processes was asked.

        Raises:
            KeyboardInterrupt: a stop was asked for again.
        """
        if self._ctrl_c_seen > 1:
            raise self.keyboard_interrupt()
        return self.signal

    def take_save_request(self) -> bool:
        """Whether saving was asked for since this was last called."""
        asked, self._save_asked = self._save_asked, False
        return asked

    def keyboard_interrupt(self) -> KeyboardInterrupt:
        """The exception by which a program ends that was asked to stop."""
        return keyboard_interrupt(signal.SIGINT if self.signal is None else self.signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in _SAVING:
            self._save_asked = True
            return
        # Of signals that come while the main thread computes, Python tells it of one.
        again = self.signal is not None or self._ctrl_c_seen > 1
        if self.signal is None:
            self.signal = signal.Signals(number)
        if not self._deferred or (again and number == signal.SIGINT):
            raise self.keyboard_interrupt()

    def _on_seen(self, number: int) -> None:
        """Tell of a signal that has just come; by the watcher's thread alone."""
        if number not in self._previous:
            return
        if number == signal.SIGINT:
            self._ctrl_c_seen += 1
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if number in _SAVING:
            self._tell(f"{name}: {self._saving if self._deferred else 'there is nothing to save yet'}")
        elif not self._deferred:
            self._tell(f"{name}: stopping")
        elif not self._stop_told:
            self._tell_of_stop(number)
        elif number == signal.SIGINT:
            self._tell("Ctrl-C: stopping at once")

    def _tell_of_stop(self, number: int) -> None:
        self._stop_told = True
        name, again = ("Ctrl-C", "again ") if number == signal.SIGINT else (signal.Signals(number).name, "")
        self._tell(f"{name}: {self._stopping}; Ctrl-C {again}stops at once")


class _Watcher:
    """A thread that is told of signals as they come, whatever the main thread does."""

    def __init__(self, on_signal: Callable[[int], None]) -> None:
        self._on_signal = on_signal
        self._source, self._sink = os.pipe()
        os.set_blocking(self._sink, False)
        self._previous = signal.set_wakeup_fd(self._sink, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="pyalexnet-signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and let whoever was told of signals before be told again."""
        signal.set_wakeup_fd(self._previous)
        os.close(self._sink)
        self._thread.join()
        os.close(self._source)

    def _watch(self) -> None:
        while numbers := os.read(self._source, 64):
            if self._previous != -1:
                with contextlib.suppress(OSError):  # it is full: it knows enough
                    os.write(self._previous, numbers)
            for number in numbers:
                self._on_signal(number)
