"""Processes that each make one thing to measure, and measure it when asked, so that what is compared does not meet."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from typing_extensions import Self

Answer = Callable[..., Any]


class WorkerError(Exception):
    """What a worker's process met."""


class Worker:
    """A process that answers by a function that was made there; it ends with the ``with`` block."""

    def __init__(self, make: Callable[..., Answer], *arguments: Any, environment: Mapping[str, str] | None = None):
        """Start it, to get ready on its own.

        Args:
            make: a function of a module, which the process calls to get the function that answers.
            arguments: what ``make`` is called with.
            environment: variables of the process, beside this one's.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, make, arguments), daemon=True)
        before = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def __enter__(self) -> Self:
        """Wait until it is ready.

        Raises:
            WorkerError: ``make`` failed; the message has its error.
        """
        try:
            self._received()
        except WorkerError:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, *request: Any) -> Any:
        """What the process's function returns for these arguments.

        Raises:
            WorkerError: it failed; the message has its error.
        """
        self._connection.send(request)
        return self._received()

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()

    def _received(self) -> Any:
        try:
            error, value = self._connection.recv()
        except EOFError:
            self._process.join()
            raise WorkerError(f"the process ended with status {self._process.exitcode}") from None
        if error:
            raise WorkerError(error)
        return value


def serve(connection: Connection, make: Callable[..., Answer], arguments: tuple[Any, ...]) -> None:
    """A worker's process: an error and a value after ``make`` and after each request, one of them None."""

    def attempt(function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        try:
            return None, function(*given)
        except Exception as error:  # whatever another's engine meets: who asked is told
            return f"{type(error).__name__}: {error}", None

    error, answer = attempt(make, arguments)
    connection.send((error, None))
    while error is None:
        connection.send(attempt(answer, connection.recv()))
