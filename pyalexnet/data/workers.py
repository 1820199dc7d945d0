"""Threads whose results are taken in whichever order they end, while others work ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, TypeVar

from pyalexnet.system.interrupt import InterruptRequest

Result = TypeVar("Result")

_TASKS_A_WORKER = 4
_SECONDS_TO_LOOK = 0.5  # for an interrupt, while nothing ends


class Workers(Generic[Result]):
    """Threads that do tasks until the block ends, which drops those that have not begun and waits for the others.

    Threads suffice where Pillow and NumPy do the work: these let them all compute at once.
    """

    def __init__(self, count: int, interrupt: InterruptRequest) -> None:
        """Begin without a task.

        Args:
            count: number of threads.
            interrupt: is looked at between tasks.
        """
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="pyalexnet-prepare")
        self._most_pending = count * _TASKS_A_WORKER
        self._interrupt = interrupt
        self._pending: list[Future[Result]] = []

    def __enter__(self) -> Workers[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def add(self, task: Callable[[], Result]) -> None:
        """Have one more task done; its result comes from :meth:`results`, which is under way or yet to be called."""
        self._pending.append(self._threads.submit(task))

    def results(self, tasks: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """What the tasks return, and those that are added meanwhile, as they end.

        A task is taken from ``tasks`` only when threads are about to need it.

        Raises:
            Interrupted: a stop was asked for.
            KeyboardInterrupt: and it was asked for again.
            Exception: what a task raises comes out in place of its result.
        """
        for task in tasks:
            self.add(task)
            self._interrupt.raise_if_requested()
            while len(self._pending) >= self._most_pending:
                yield from self._ended()
        while self._pending:
            yield from self._ended()

    def _ended(self) -> Iterator[Result]:
        """The results that are there, in the order in which their tasks were given, once there are any."""
        wait(self._pending, timeout=_SECONDS_TO_LOOK, return_when=FIRST_COMPLETED)
        self._interrupt.raise_if_requested()
        for future in [future for future in self._pending if future.done()]:
            self._pending.remove(future)
            yield future.result()
