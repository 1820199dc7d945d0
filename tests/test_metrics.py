"""Logs for programs: strict JSON a line, a cut where a run goes on, torn ends, full disks, TensorBoard's own reader."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyalexnet.training.logs import Log, MetricsLog, TensorBoardLog


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines without their times, read as strictly as JSON is defined."""
    lines = [json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        assert line.pop("time") > 1.6e9  # seconds since 1970, not some other clock
    return lines


def write_run(log: Log, first_step: int, last_step: int, steps_an_epoch: int = 3) -> None:
    """What a training run writes from one step to another."""
    for step in range(first_step, last_step + 1):
        log.write("step", step=step, loss=1 / step, lr=0.01)
        if step % steps_an_epoch == 0:
            log.write("epoch", step=step, epoch=step // steps_an_epoch, accuracy=step / 100)


def test_a_line_has_its_kind_time_step_and_values(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write("step", step=1, loss=0.5, lr={"conv1": 0.01}, note="überall", accuracy=None)
    log.write("event", step=1, towers=(0, 1), ok=True)
    log.close()
    assert lines_of(tmp_path / "metrics.jsonl") == [
        {"kind": "step", "step": 1, "loss": 0.5, "lr": {"conv1": 0.01}, "note": "überall", "accuracy": None},
        {"kind": "event", "step": 1, "towers": [0, 1], "ok": True},
    ]


def test_numbers_survive_exactly(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write("step", step=np.int64(7), loss=np.float32(0.1), rate=0.1 + 0.2)
    log.close()
    (line,) = lines_of(tmp_path / "metrics.jsonl")
    assert np.float32(line["loss"]) == np.float32(0.1)
    assert line["rate"] == 0.1 + 0.2
    assert type(line["step"]) is int


def test_nan_and_infinity_are_texts(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write("step", step=1, loss=math.nan, more=[math.inf, {"least": -math.inf}], single=np.float32("nan"))
    log.close()
    (line,) = lines_of(tmp_path / "metrics.jsonl")
    assert line["more"] == ["Infinity", {"least": "-Infinity"}]
    assert math.isnan(float(line["loss"]))
    assert math.isnan(float(line["single"]))


def test_a_line_is_in_the_file_when_it_is_written(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(3):
        log.write("step", step=step)
        assert len(lines_of(tmp_path / "metrics.jsonl")) == step + 1
    log.close()


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    program = (
        "import os, signal, sys\n"
        "from pyalexnet.training.logs import MetricsLog\n"
        "log = MetricsLog(sys.argv[1])\n"
        "for step in range(1, 101): log.write('step', step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -signal.SIGKILL
    assert [line["step"] for line in lines_of(path)] == list(range(1, 101))


@pytest.mark.parametrize("checkpoint", range(1, 9))
@pytest.mark.parametrize("epoch_comes_first", [False, True])
def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path: Path, checkpoint: int, epoch_comes_first: bool) -> None:
    """Killed at step 8, resumed from any checkpoint; at an epoch's end before or after its line was written."""
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    for path, last in ((whole, 12), (cut, 8)):
        log = MetricsLog(path)
        write_run(log, 1, last)
        log.close()
    at_end = checkpoint % 3 == 0
    epochs = checkpoint // 3 - (at_end and not epoch_comes_first)
    log = MetricsLog(cut, keep_steps=checkpoint, keep_epochs=epochs)
    if at_end and not epoch_comes_first:
        log.write("epoch", step=checkpoint, epoch=epochs + 1, accuracy=checkpoint / 100)
    write_run(log, checkpoint + 1, 12)
    log.close()
    assert lines_of(cut) == lines_of(whole)


@pytest.mark.parametrize("keep_steps", [None, 2])
@pytest.mark.parametrize("torn_bytes", [1, 5, 9, 40, -1])
def test_a_torn_last_line_goes(tmp_path: Path, torn_bytes: int, keep_steps: int | None) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    write_run(log, 1, 2)
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[0][:torn_bytes])
    log = MetricsLog(path, keep_steps=keep_steps)
    assert path.read_bytes() == whole
    log.write("step", step=3)
    log.close()
    assert [line["step"] for line in lines_of(path)] == [1, 2, 3]


def test_zeros_of_a_power_cut_go(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "step", "step": 1}\n{"kin\0\0\0\0')
    MetricsLog(path).close()
    assert path.read_bytes() == b'{"kind": "step", "step": 1}\n'


def test_nothing_is_kept_on_request(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write("event", step=0)
    log.close()
    MetricsLog(path, keep_steps=-1).close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "content",
    [
        b"a diary\n",
        b"a diary",
        b"[1, 2]\n",
        b'{"kind": "step"}\n',
        b'{"kind": 1, "step": 1}\n',
        b'{"step": 1}\n',
        b"\xff\n",
    ],
)
def test_a_foreign_file_is_refused_and_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"diary\.txt is no log of a training run: line 1"):
        MetricsLog(path, keep_steps=-1)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """A limit on the file's size stands for the disk: writes end in the middle of a line."""
    path = tmp_path / "metrics.jsonl"
    program = (
        "import resource, signal, sys\n"
        "from pyalexnet.training.logs import MetricsLog\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "log = MetricsLog(sys.argv[1])\n"
        "try:\n"
        "    for step in range(100): log.write('step', step=step)\n"
        "except OSError as error:\n"
        "    print(error.errno, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"{errno.EFBIG} ")
    assert f"cannot write to {path}" in done.stdout
    assert [line["step"] for line in lines_of(path)] == list(range(len(lines_of(path))))
    assert 900 < path.stat().st_size <= 1000


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-folder"):
        MetricsLog(tmp_path / "no-such-folder" / "metrics.jsonl")


# TensorBoard ----------------------------------------------------------------------------------------------------------


needs_tensorboard = pytest.mark.skipif(not find_spec("tensorboard"), reason="tensorboard is not installed")


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a folder, by its own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(os.fspath(folder))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


@needs_tensorboard
def test_tensorboard_reads_the_numbers(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path)
    log.write("step", step=1, loss=0.5, lr=0.01, note="text", done=True, missing=None)
    log.write("step", step=2, loss=np.float32(0.25), lr=0.01)
    log.write("epoch", step=2, accuracy=0.75, images_per_second=61)
    log.write("event", step=2, what="interrupted")
    log.close()
    assert scalars_of(tmp_path) == {
        "step/loss": [(1, 0.5), (2, 0.25)],
        "step/lr": [(1, pytest.approx(0.01, rel=1e-7)), (2, pytest.approx(0.01, rel=1e-7))],  # stored as float32
        "epoch/accuracy": [(2, 0.75)],
        "epoch/images_per_second": [(2, 61.0)],
    }


@needs_tensorboard
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_tensorboard_takes_every_number(tmp_path: Path, value: float) -> None:
    log = TensorBoardLog(tmp_path)
    log.write("step", step=1, loss=value)
    log.close()
    ((step, found),) = scalars_of(tmp_path)["step/loss"]
    assert step == 1
    assert not math.isfinite(found)  # 1e300 is beyond float32


@needs_tensorboard
def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    for first, last, keep in ((1, 8, None), (6, 9, 5)):
        log = TensorBoardLog(tmp_path, keep_steps=keep)
        for step in range(first, last + 1):
            log.write("step", step=step, loss=float(step))
        log.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert scalars_of(tmp_path)["step/loss"] == [(step, float(step)) for step in range(1, 10)]


def test_a_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(ImportError, match=r"pip install 'pyalexnet\[tensorboard\]'"):
        TensorBoardLog(tmp_path)
    assert not list(tmp_path.iterdir())
