"""Signals are told at once, granted where it is safe, and those that are ignored stay so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from pyalexnet.system.interrupt import Interrupted, InterruptRequest, Terminated, terminated_by_signal

# Steps that let no handler in until they end, as native code does.
PROGRAM = """
import signal, sys, time
from pyalexnet.system.interrupt import Interrupted, InterruptRequest

def tell(line):
    print(line, flush=True)

with InterruptRequest(tell, stopping="finishing", saving="saving", deferred=sys.argv[1] == "deferred") as interrupt:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # another thread takes them
    tell("begun")
    try:
        while True:
            time.sleep(0.5)
            tell("step")
            if interrupt.take_save_request():
                tell("saved")
            interrupt.raise_if_requested()
    except Interrupted:
        tell(f"ended by {interrupt.signal.name}")
"""


class Loop:
    """The program above in a process, its lines as they come."""

    def __init__(self, deferred: bool = True, before: Callable[[], object] | None = None) -> None:
        command = [sys.executable, "-c", PROGRAM, "deferred" if deferred else "at once"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
        )
        assert self.line() == "begun"

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def rest(self) -> list[str]:
        return self.process.communicate(timeout=120)[0].splitlines()


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGINT, "Ctrl-C: finishing; Ctrl-C again stops at once"),
        (signal.SIGTERM, "SIGTERM: finishing; Ctrl-C stops at once"),
        (signal.SIGXCPU, "SIGXCPU: finishing; Ctrl-C stops at once"),
    ],
)
def test_a_stop_is_told_at_once_and_granted_after_the_step(number: signal.Signals, told: str) -> None:
    with Loop() as loop:
        loop.send(number)
        assert loop.line() == told
        assert loop.rest() == ["step", f"ended by {number.name}"]
        assert loop.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_what_asks_to_save_ends_nothing(number: signal.Signals) -> None:
    with Loop() as loop:
        loop.send(number)
        assert [loop.line() for _ in range(4)] == [f"{number.name}: saving", "step", "saved", "step"]


def test_a_second_ctrl_c_stops_at_once() -> None:
    with Loop() as loop:
        loop.send(signal.SIGINT)
        assert loop.line() == "Ctrl-C: finishing; Ctrl-C again stops at once"
        loop.send(signal.SIGINT)
        assert loop.rest() == ["Ctrl-C: stopping at once"]
        assert loop.process.returncode == -signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGXCPU])
def test_what_schedulers_send_twice_loses_nothing(number: signal.Signals) -> None:
    with Loop() as loop:
        loop.send(number)
        assert loop.line().startswith(f"{number.name}: finishing")
        loop.send(number)
        assert loop.rest() == ["step", f"ended by {number.name}"]


def test_before_there_is_anything_to_lose_a_stop_is_granted_at_once() -> None:
    with Loop(deferred=False) as loop:
        loop.send(signal.SIGUSR1)
        assert loop.line() == "SIGUSR1: there is nothing to save yet"
        loop.send(signal.SIGINT)
        assert loop.line() in ("Ctrl-C: stopping", "step")
        loop.rest()
        assert loop.process.returncode == -signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    """As SIGHUP is under nohup, and SIGINT in what a shell's script runs in the background."""
    with Loop(before=lambda: signal.signal(number, signal.SIG_IGN)) as loop:
        loop.send(number)
        assert [loop.line(), loop.line()] == ["step", "step"]


def request(told: list[str], deferred: bool = True) -> InterruptRequest:
    return InterruptRequest(told.append, stopping="finishing", saving="saving", deferred=deferred)


def test_what_the_program_handles_itself_stays_its_own() -> None:
    seen: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]
    own = signal.signal(signal.SIGUSR1, lambda number, _frame: seen.append(number))
    try:
        before = [signal.getsignal(number) for number in numbers]
        with request([]) as interrupt:
            signal.raise_signal(signal.SIGUSR1)
            assert not interrupt.take_save_request()
        assert seen == [signal.SIGUSR1]
        assert [signal.getsignal(number) for number in numbers] == before
    finally:
        signal.signal(signal.SIGUSR1, own)


def test_whoever_was_told_of_signals_before_is_told_still() -> None:
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    before = signal.set_wakeup_fd(sink)
    try:
        with request(told := []) as interrupt:
            signal.raise_signal(signal.SIGUSR2)
            assert os.read(source, 8) == bytes([signal.SIGUSR2])
            assert interrupt.take_save_request()
        assert told == ["SIGUSR2: saving"]
        assert signal.set_wakeup_fd(before) == sink
    finally:
        signal.set_wakeup_fd(before)
        os.close(source)
        os.close(sink)


def test_the_exception_tells_which_signal_it_was() -> None:
    with request([]) as interrupt:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            interrupt.raise_if_requested()
    assert interrupt.signal == signal.SIGTERM
    error = interrupt.keyboard_interrupt()
    assert isinstance(error, Terminated)
    assert error.signal == signal.SIGTERM


def test_outside_the_main_thread_nothing_changes() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def enter() -> None:
        with request([]):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]


def test_what_another_process_was_asked_counts_here_too() -> None:
    with request(told := []) as interrupt:
        interrupt.ask_to_stop(signal.SIGTERM)
        interrupt.ask_to_stop(signal.SIGINT)
        with pytest.raises(Interrupted):
            interrupt.raise_if_requested()
    assert interrupt.signal == signal.SIGTERM
    assert told == ["SIGTERM: finishing; Ctrl-C stops at once"]


def test_sigterm_is_raised_as_ctrl_c_is() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as caught, terminated_by_signal():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminated_by_signal():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
