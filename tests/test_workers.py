"""Threads of a preparation: results as they end, tasks taken when they are needed, and an end without leftovers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from pyalexnet.data.workers import Workers
from pyalexnet.system.interrupt import Interrupted, InterruptRequest


@pytest.fixture
def interrupt() -> InterruptRequest:
    return InterruptRequest(lambda _line: None, stopping="", saving="")


def test_a_result_waits_for_no_earlier_task(interrupt: InterruptRequest) -> None:
    last_is_out = threading.Event()

    def first() -> int:
        assert last_is_out.wait(timeout=10)
        return 0

    with Workers[int](2, interrupt) as workers:
        results = workers.results([first, lambda: 1, lambda: 2])
        assert {next(results), next(results)} == {1, 2}
        last_is_out.set()
        assert list(results) == [0]


def test_tasks_are_taken_a_few_ahead(interrupt: InterruptRequest) -> None:
    taken = []

    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(100):
            taken.append(number)
            yield partial(int, number)

    with Workers[int](2, interrupt) as workers:
        for done, _ in enumerate(workers.results(tasks())):
            assert len(taken) <= done + 8  # four a thread
    assert taken == list(range(100))


def test_what_is_added_meanwhile_is_done_too(interrupt: InterruptRequest) -> None:
    found = []
    with Workers[int](2, interrupt) as workers:
        for result in workers.results(partial(int, number) for number in range(10)):
            found.append(result)
            if result < 10:
                workers.add(partial(int, 10 + result))
    assert sorted(found) == list(range(20))


def test_an_error_ends_it_without_the_tasks_that_have_not_begun(interrupt: InterruptRequest) -> None:
    may_end = threading.Event()
    begun = []

    def wait_for_the_end() -> None:
        begun.append(1)
        assert may_end.wait(timeout=10)

    def fail() -> None:
        raise ZeroDivisionError

    def work() -> None:
        with Workers[None](1, interrupt) as workers:
            for _ in workers.results([fail, *[wait_for_the_end] * 20]):
                pass

    end = threading.Timer(0.5, may_end.set)
    end.start()
    with pytest.raises(ZeroDivisionError):
        work()
    end.join()
    assert len(begun) <= 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pyalexnet-prepare")]


def test_an_interrupt_is_seen_while_a_task_takes_its_time(interrupt: InterruptRequest) -> None:
    is_seen = threading.Event()
    in_time = []

    def stop_in_a_moment() -> None:
        time.sleep(0.2)
        interrupt.signal = signal.SIGINT
        in_time.append(is_seen.wait(timeout=10))

    def work() -> None:
        with Workers[None](1, interrupt) as workers:
            try:
                next(workers.results([stop_in_a_moment]))
            finally:
                is_seen.set()

    with pytest.raises(Interrupted):
        work()
    assert in_time == [True]
