"""What a person sees of a training run: in a log file, in terminals wide and narrow, in ASCII alone, and the table."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass

import pytest

from pyalexnet.system.progress import Display


@dataclass(frozen=True)
class Record:
    epoch: int
    lr: float = 0.01
    train_loss: float = 5.0
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    seconds: float = 90.0


def records(count: int, best: int) -> list[Record]:
    """Epochs of which one is better than the others."""
    return [
        Record(epoch, validation_loss=4.5, validation_accuracy=0.9 if epoch == best else 0.5)
        for epoch in range(1, count + 1)
    ]


RUN = """
from pyalexnet.system.progress import Display
with Display() as display:
    display.line("training on 3 × 4 images [bold]")
    display.begin("training", 1000, done=300)
    display.stage("epoch 2/3")
    for step in range(1, 6):
        display.state(f"step {step}/5  loss 2.1234  lr 0.01  61.2 images/s")
        display.advance(100)
    display.line("epoch 2 is done")
"""


def in_terminal(columns: int, environment: dict[str, str] | None = None) -> str:
    """What the program above writes to a terminal of that width, without colours."""
    mine, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    names = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CI")
    base = {name: value for name, value in os.environ.items() if name not in names}
    settings = base | {"TERM": "xterm-256color", "PYTHONUTF8": "1"} | (environment or {})
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=theirs, stderr=subprocess.PIPE, env=settings) as process:
        os.close(theirs)
        output = b""
        while part := _read(mine):
            output += part
        os.close(mine)
        assert process.stderr
        errors = process.stderr.read().decode()
    assert process.returncode == 0, errors
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side has closed
        return b""


def test_log_has_lines_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(log_seconds=0) as display:
        display.begin("training", 1000, done=300)
        display.stage("epoch 2/3")
        display.state("step 1/7  loss 2.1234")
        display.advance(100)
        display.stage("validation 2/3")
        display.advance(100)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "epoch 2/3  step 1/7  loss 2.1234  40.0%"
    assert re.fullmatch(r"validation 2/3  50\.0%(, \d+ s left)?", second)


def test_log_is_silent_between(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(log_seconds=3600) as display:
        display.begin("training", 1000)
        for _ in range(10):
            display.advance(100)
        display.line("epoch 1 is done")
    assert capsys.readouterr().out == "epoch 1 is done\n"


def test_any_line_puts_the_next_one_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.0
    monkeypatch.setattr("pyalexnet.system.progress.time.monotonic", lambda: seconds)
    with Display(log_seconds=60) as display:
        display.begin("training", 1000)
        for seconds in (50.0, 100.0, 140.0, 165.0):
            if seconds == 100.0:
                display.line("epoch 1 is done")
            display.advance(100)
    assert capsys.readouterr().out.splitlines()[0] == "epoch 1 is done"
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == []


def test_what_is_left_follows_from_this_run_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that were done before a resume say nothing about the speed."""


def test_forced_colours_do_not_make_a_log_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Display(log_seconds=0) as display:
        display.begin("training", 10)
        display.advance(5)
    assert capsys.readouterr().out == "training  50.0%\n"


def test_nothing_is_shown_where_it_is_not_enabled(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(enabled=False, log_seconds=0) as display:
        display.line("a line")
        display.begin("training", 10)
        display.advance(5)
        display.table(records(3, best=2))
    assert capsys.readouterr().out == ""


# What trains on whatever becomes of its display, and says on standard error that it has come to its end.
LASTING = """
import sys
from pyalexnet.system.progress import Display, tell
with Display(log_seconds=0) as display:
    display.begin("training", 1000)
    for step in range(3000):  # more than a buffer holds
        display.line("epoch – ⅓")
        display.advance(1)
tell("accuracy")
print("done", file=sys.stderr)
"""


@pytest.mark.parametrize("output", ["| true", "> /dev/full", ">&-", "| head -1"])
def test_a_display_that_goes_away_ends_nothing(output: str) -> None:
    command = ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {output}', sys.executable, LASTING]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0
    assert finished.stderr == "done\n"


def test_characters_that_the_output_has_not_end_nothing() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    finished = subprocess.run([sys.executable, "-c", LASTING], capture_output=True, text=True, env=environment)
    assert finished.stderr == "done\n"
    assert finished.stdout.startswith("epoch ? ?\n")


@pytest.mark.parametrize(
    ("output", "status", "errors"),
    [("| true", 128 + signal.SIGPIPE, ""), ("> /dev/full", 1, "No space left"), (">&-", 1, "Bad file descriptor")],
)
@pytest.mark.parametrize("asked", ["devices", "--version", "--help", "train --help"])
def test_a_result_that_nobody_takes_ends_a_command_without_a_traceback(
    asked: str, output: str, status: int, errors: str
) -> None:
    command = f'set -o pipefail; (sleep 0.1; exec "$0" -m pyalexnet.cli {asked}) {output}'
    finished = subprocess.run(["bash", "-c", command, sys.executable], capture_output=True, text=True)
    assert finished.returncode == status
    assert errors in finished.stderr
    assert len(finished.stderr.splitlines()) == bool(errors)
