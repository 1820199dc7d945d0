"""Notices that a rank hangs for which others wait: each looks after the one before it.

A thread of each rank tells the next rank, every second, for how long its work has neither called MPI nor waited in it.
Where a rank has waited for too long itself, and the one before it has been at work or silent for too long, that one
hangs: what stands still is not told from what takes long, so that the time is a long one.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

_VARIABLE, _USUAL_SECONDS, _MOST_SECONDS = "PYALEXNET_RANK_SECONDS", 1800, 10**7
_INTERVAL_SECONDS = 1.0


def patience_seconds() -> int:
    """How long others wait for a rank: ``PYALEXNET_RANK_SECONDS`` of the environment, or half an hour.

    Raises:
        ValueError: the variable is no such number.
    """
    asked = os.environ.get(_VARIABLE)
    if asked is None:
        return _USUAL_SECONDS
    if not (asked.isdecimal() and 1 <= int(asked) <= _MOST_SECONDS):
        raise ValueError(f"{_VARIABLE} is {asked!r}; it must be a whole number from 1 to {_MOST_SECONDS}")
    return int(asked)


class RankWatch:
    """The thread, and when this rank began to wait or went on."""

    def __init__(self, world: MPI.Comm, seconds: float, end: Callable[[str], None]) -> None:
        """Begin to look after the rank before this one; every rank must.

        Args:
            world: of this thread alone.
            seconds: after how long a rank hangs.
            end: ends all ranks, and says why.
        """
        self._world, self._seconds, self._end = world, seconds, end
        self._behind, self._before = (world.rank + 1) % world.size, (world.rank - 1) % world.size
        host = world.sendrecv(socket.gethostname(), self._behind, source=self._before)
        self._other = f"rank {self._before} of {world.size}, on {host}"
        self._lock = threading.Lock()
        self._waiting, self._excused = 0, 0  # threads
        self._since = time.monotonic()  # it began to wait, to work or to be excused
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="pyalexnet-watch", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def waiting(self) -> AbstractContextManager[None]:
        """Call MPI, or wait for others, within this."""
        return self._during(waiting=1)

    def excused(self) -> AbstractContextManager[None]:
        """Work for as long as it takes within this, and let the next rank wait."""
        return self._during(excused=1)

    def close(self) -> None:
        """Look after nobody any more, and let the next rank know."""
        self._closed.set()
        self._thread.join()

    @contextmanager
    def _during(self, waiting: int = 0, excused: int = 0) -> Iterator[None]:
        self._change(waiting, excused)
        try:
            yield
        finally:
            self._change(-waiting, -excused)

    def _change(self, waiting: int, excused: int) -> None:
        with self._lock:
            before = self._waiting > 0, self._excused > 0
            self._waiting, self._excused = self._waiting + waiting, self._excused + excused
            if before != (self._waiting > 0, self._excused > 0):
                self._since = time.monotonic()

    def _times(self) -> tuple[float, float]:
        """For how long this rank has waited, and been at work: one of them is 0, or both are."""
        with self._lock:
            seconds = 0.0 if self._excused else time.monotonic() - self._since
            return (seconds, 0.0) if self._waiting else (0.0, seconds)

    def _look(self) -> None:
        heard, told = time.monotonic(), 0.0
        sent: list[MPI.Request] = []
        while not self._closed.wait(_INTERVAL_SECONDS):
            waited, worked = self._times()
            sent = [each for each in sent if not each.Test()]
            sent.append(self._world.isend(worked, self._behind))
            while self._world.iprobe(self._before):
                heard, told = time.monotonic(), self._world.recv(source=self._before)
            stands_still = time.monotonic() - heard + told
            if waited > self._seconds and stands_still > self._seconds:
                self._end(f"{self._other}, has not gone on for {self._seconds} s while others wait, which ends all")
                return
        self._world.isend(-float("inf"), self._behind).Wait()
