"""Processes that MPI brings together train the net that one process trains, bit for bit, and end together."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launching import NEEDS_MPI, OF_OPEN_MPI, command, lines_of
from pyalexnet.training.checkpoint import newest_checkpoint
from pyalexnet.training.train import train
from small import SMALL, SMALL_CLI

pytestmark = NEEDS_MPI

# 22 images to learn from fill two batches of 8 and leave 6 out; 5 are judged, one or two ranks at a time.
RNG = np.random.default_rng(0)
LABELS = np.arange(27) % 2
IMAGES = (RNG.integers(0, 100, (27, 8, 8)) + 150 * LABELS[:, None, None]).astype(np.uint8)
STEPS_AN_EPOCH, EPOCHS = 2, 2
RECIPE: dict[str, Any] = {
    "batch_size": 8,
    "shards": 4,
    "epochs": EPOCHS,
    "lr": 0.02,
    "warmup": 2,
    "validation": 5 / 27,
    "bias_init": "caffe",
    "dropout": 0.5,
    "devices": ["cpu:0"],
    "report_relus": True,
}

# What every rank does: train, after a change to what it was given, and say so at its end.
PROGRAM = f"""{SMALL}
import json, os, signal
import numpy as np
import pyalexnet
from pyalexnet.data import ImageArrays
from pyalexnet.system.ranks import join_ranks

folder, settings, change = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
rank = join_ranks().rank
with open(f"{{folder}}/rank-{{rank}}.pid", "w") as file:
    file.write(str(os.getpid()))
stored = np.load(folder + "/data.npz")
data = stored["images"], stored["labels"]
callback = None
exec(change)
print("ready", flush=True)
result = pyalexnet.train(data, out=folder + "/run", resume=True, callback=callback, **settings)
print(f"rank {{rank}}: {{result.stopped}} at step {{result.model.net.step}}", flush=True)
"""


def prepared(folder: Path) -> Path:
    """A folder with the images."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "data.npz", images=IMAGES, labels=LABELS)
    return folder


def start(ranks: int, folder: Path, change: str = "", **settings: Any) -> subprocess.Popen[str]:
    """Begin a run, or go on with it."""
    program = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(RECIPE | settings), change]
    return subprocess.Popen(
        command(ranks, *program),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | OF_OPEN_MPI,
    )


def run(ranks: int, folder: Path, change: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    """A run to its end."""
    with start(ranks, folder, change, **settings) as process:
        try:
            output, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def logged(folder: Path, *, relus: bool) -> list[dict[str, Any]]:
    """The lines of a log but for the times, and where a run may have been stopped, the dead ReLUs, which it forgets."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    times = ("time", "images_per_second", "seconds")
    kept = [line for line in lines if relus or line["kind"] != "relus"]
    return [{name: value for name, value in line.items() if name not in times} for line in kept]


def assert_same_run(folder: Path, expected: Path, *, relus: bool = False) -> None:
    """The same model, best model, momentum and log, byte for byte."""
    for name in ("model.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    newest = [newest_checkpoint(run) for run in (folder, expected)]
    assert newest[0] is not None
    assert newest[1] is not None
    momenta = [(checkpoint / "momentum.safetensors").read_bytes() for checkpoint in newest]
    assert momenta[0] == momenta[1]
    assert logged(folder, relus=relus) == logged(expected, relus=relus)
    records = [json.loads((run / "run.json").read_text()) for run in (folder, expected)]
    assert records[0]["stopped"] == records[1]["stopped"] == "finished"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process with the same shards."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train((IMAGES, LABELS), out=folder, progress=False, **RECIPE)
    return folder


@pytest.mark.parametrize(("ranks", "devices"), [(2, ["cpu:0"]), (4, ["cpu:0"]), (2, ["cpu:0", "cpu:1"])])
def test_ranks_train_the_net_of_one_process(tmp_path: Path, alone: Path, ranks: int, devices: list[str]) -> None:
    finished = run(ranks, prepared(tmp_path), devices=devices)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("finished at step 4") == ranks
    assert finished.stdout.count("training on 22 images") == 1
    assert f"4 shards a batch, shared by {ranks} ranks on one machine" in finished.stdout
    assert_same_run(tmp_path / "run", alone, relus=True)


@pytest.mark.parametrize(("ranks", "devices"), [(2, ["cpu:0", "cpu:1"]), (4, ["cpu:0"])])
def test_ranks_that_send_factors_train_it_too(tmp_path: Path, alone: Path, ranks: int, devices: list[str]) -> None:
    finished = run(ranks, prepared(tmp_path), devices=devices, fc_factors=True)
    assert finished.returncode == 0, finished.stderr
    assert_same_run(tmp_path / "run", alone, relus=True)


# Nothing goes back through the convolutions, so no gradient of theirs is to be waited for.
@pytest.mark.parametrize("fc_factors", [False, True])
def test_ranks_do_not_wait_for_what_is_frozen(tmp_path: Path, fc_factors: bool) -> None:
    frozen = {"lr_layers": {"conv1-conv5": 0.0}, "epochs": 1}
    finished = run(2, prepared(tmp_path), fc_factors=fc_factors, **frozen)
    assert finished.returncode == 0, finished.stderr
    alone = tmp_path / "alone"
    train((IMAGES, LABELS), out=alone, progress=False, **RECIPE | frozen)
    assert_same_run(tmp_path / "run", alone, relus=True)


def test_the_number_of_shards_is_that_of_ranks(tmp_path: Path) -> None:
    finished = run(2, prepared(tmp_path), shards=None, epochs=1)
    assert finished.returncode == 0, finished.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["shards"] == 2


# On rank 0, where alone it is called.
STOP_AT_3 = "def callback(event):\n    assert rank == 0\n    if event.kind == 'step' and event.step == 3: event.stop()"


def test_another_number_of_ranks_goes_on(tmp_path: Path, alone: Path) -> None:
    stopped = run(4, prepared(tmp_path), STOP_AT_3)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.count("interrupted at step 3") == 4 + 1  # and rank 0's display
    finished = run(2, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "going on at step 3" in finished.stdout
    assert_same_run(tmp_path / "run", alone)


def test_a_signal_to_any_rank_stops_all(tmp_path: Path, alone: Path) -> None:
    """SIGTERM to the last rank alone, in its first step: all finish the step, save and end."""
    signalling = """
train_step = pyalexnet.AlexNet.train_step
def signalled(net, *arguments, **named):
    if rank == 1 and net.step == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    return train_step(net, *arguments, **named)
pyalexnet.AlexNet.train_step = signalled
"""
    stopped = run(2, prepared(tmp_path), signalling)
    assert stopped.stdout.count("terminated at step 1") == 2 + 1, stopped.stderr
    finished = run(2, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert_same_run(tmp_path / "run", alone)


def kill_until_finished(folder: Path, chance: random.Random, kills: int, **settings: Any) -> int:
    """Start a run again and again, with ranks by turns, and kill one at a random moment; the last time none."""
    killed = 0
    for round_ in range(kills):
        ranks = (2, 4)[round_ % 2]
        for pid_file in folder.glob("rank-*.pid"):
            pid_file.unlink()
        with start(ranks, folder, checkpoint_minutes=0, **settings) as process:
            assert process.stdout is not None
            while process.stdout.readline().strip() not in ("ready", ""):
                pass
            time.sleep(chance.uniform(0, 3))
            victim = folder / f"rank-{chance.randrange(ranks)}.pid"
            if process.poll() is None and victim.exists() and victim.read_text():
                try:
                    os.kill(int(victim.read_text()), signal.SIGKILL)
                except ProcessLookupError:
                    pass
                else:
                    killed += 1
            process.communicate(timeout=120)
    return killed


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_killed_rank_loses_nothing(tmp_path: Path, kills: int) -> None:
    settings = {"epochs": 6 if kills == 3 else 12}  # longer than the three seconds in which a rank is killed
    whole = tmp_path / "whole"
    finished = run(1, prepared(whole), **settings)
    assert finished.returncode == 0, finished.stderr
    broken = prepared(tmp_path / "broken")
    assert kill_until_finished(broken, random.Random(time.time_ns()), kills, **settings) >= 1
    finished = run(2, broken, **settings)
    assert finished.returncode == 0, finished.stderr
    assert_same_run(broken / "run", whole / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "if rank == 1: data[0][3, 2, 2] += 1",
            r"ValueError: the training data's content is '\w+' on rank 1 and '\w+' on rank 0; it must be the same",
        ),
        (
            "settings['fc_factors'] = rank == 1",
            "ValueError: fc_factors is True on rank 1 and False on rank 0; it must be the same",
        ),
        ("settings['lr'] = -1", "ValueError: lr is -1; it must be above 0 and finite"),
        ("settings['shards'] = 3; settings['batch_size'] = 6", "ValueError: shards is 3; it must be a multiple of the"),
    ],
)
def test_what_ranks_do_not_agree_on_is_said_once(tmp_path: Path, change: str, message: str) -> None:
    refused = run(2, prepared(tmp_path), change)
    assert refused.returncode != 0
    assert len(re.findall(f"^{message}", refused.stderr, re.MULTILINE)) == 1, refused.stderr
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_rank_that_fails_ends_all(tmp_path: Path, alone: Path) -> None:
    """Rank 1 alone, in the second epoch: the others wait for it, and the last checkpoint stays."""
    failing = """
train_step = pyalexnet.AlexNet.train_step
def failing(net, *arguments, **named):
    if rank == 1 and net.step == 3:
        raise OSError("the disk is gone")
    return train_step(net, *arguments, **named)
pyalexnet.AlexNet.train_step = failing
"""
    failed = run(4, prepared(tmp_path), failing)
    assert failed.returncode != 0
    told = lines_of(r"pyalexnet: rank (\d) of 4, on \S+, failed, which ends all: (.*)", failed.stderr)
    assert told == [("1", "OSError: the disk is gone")], failed.stderr
    finished = run(1, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "going on at step 2" in finished.stdout
    assert_same_run(tmp_path / "run", alone)


# A rank that stops in its third step: its whole process, its thread that trains, or for a moment, as a slow one does.
STANDING_STILL = """
import time
train_step = pyalexnet.AlexNet.train_step
def standing_still(net, *arguments, **named):
    if rank == settings_of_test["rank"] and net.step == 2:
        {how}
    return train_step(net, *arguments, **named)
pyalexnet.AlexNet.train_step = standing_still
"""


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGSTOP)", "time.sleep(1000)"])
@pytest.mark.parametrize(("ranks", "still"), [(2, 0), (4, 2)])
def test_a_rank_that_hangs_ends_all(
    tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, how: str, ranks: int, still: int
) -> None:
    monkeypatch.setenv("PYALEXNET_RANK_SECONDS", "2")
    change = f"settings_of_test = {{'rank': {still}}}\n" + STANDING_STILL.format(how=how)
    began = time.monotonic()
    hung = run(ranks, prepared(tmp_path), change)
    assert time.monotonic() - began < 60
    assert hung.returncode != 0
    told = lines_of(r"pyalexnet: rank (\d) of (\d), on \S+, has not gone on for 2 s while others wait, .*", hung.stderr)
    assert told == [(str(still), str(ranks))], hung.stderr
    finished = run(2, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert_same_run(tmp_path / "run", alone)


def test_a_slow_rank_is_waited_for(tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYALEXNET_RANK_SECONDS", "4")
    slow = "time.sleep(2.5)\n    elif rank == 1:\n        time.sleep(0.5)"
    change = "settings_of_test = {'rank': 1}\n" + STANDING_STILL.format(how=slow)
    finished = run(2, prepared(tmp_path), change)
    assert finished.returncode == 0, finished.stderr
    assert_same_run(tmp_path / "run", alone)


def test_ranks_that_all_work_for_long_are_left_alone(
    tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYALEXNET_RANK_SECONDS", "2")
    change = "settings_of_test = {'rank': rank}\n" + STANDING_STILL.format(how="time.sleep(5)")
    finished = run(2, prepared(tmp_path), change)
    assert finished.returncode == 0, finished.stderr
    assert_same_run(tmp_path / "run", alone)


def test_a_rank_that_works_alone_is_waited_for() -> None:
    program = """
import time
from pyalexnet.system.ranks import join_ranks, working_alone
ranks = join_ranks()
if ranks.rank == 0:
    with working_alone():
        assert join_ranks().size == 1
        time.sleep(5)
print(ranks.gather(ranks.rank), flush=True)
"""
    environment = os.environ | OF_OPEN_MPI | {"PYALEXNET_RANK_SECONDS": "2"}
    finished = subprocess.run(
        command(2, sys.executable, "-c", program), capture_output=True, text=True, env=environment, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split("\n")[:2] == ["[0, 1]", "[0, 1]"]


def test_a_wrong_time_to_wait_is_refused() -> None:
    program = "from pyalexnet.system.ranks import join_ranks; join_ranks()"
    environment = os.environ | OF_OPEN_MPI | {"PYALEXNET_RANK_SECONDS": "0"}
    refused = subprocess.run(
        command(2, sys.executable, "-c", program), capture_output=True, text=True, env=environment, timeout=60
    )
    assert refused.returncode != 0
    assert "ValueError: PYALEXNET_RANK_SECONDS is '0'; it must be a whole number from 1 to" in refused.stderr


def test_divergence_is_said_once(tmp_path: Path) -> None:
    failed = run(2, prepared(tmp_path), "settings |= {'lr': 1e12, 'weight_init': 'notes', 'warmup': 0}")
    assert failed.returncode != 0
    told = re.findall(r"^pyalexnet\.errors\.DivergedError: training diverged.*$", failed.stderr, re.MULTILINE)
    assert len(told) == 1, failed.stderr
    assert told[0].endswith(f"is kept in {tmp_path / 'run'}.")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stopped"] == "diverged"


def test_the_folder_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    """Rank 0 alone sees that it is locked; all say so once and end."""
    from pyalexnet.system.folder_lock import locked_folder

    prepared(tmp_path)
    with locked_folder(tmp_path / "run"):
        refused = run(2, tmp_path)
    assert refused.returncode != 0
    assert len(re.findall(r"^\w*Error: .*run", refused.stderr, re.MULTILINE)) == 1, refused.stderr


def test_a_callbacks_error_is_raised_on_all_ranks(tmp_path: Path) -> None:
    failed = run(2, prepared(tmp_path), "def callback(event): raise LookupError('from the callback')")
    assert failed.returncode != 0
    assert len(re.findall(r"^LookupError: from the callback$", failed.stderr, re.MULTILINE)) == 1, failed.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stopped"] == "interrupted"


def test_the_command_speaks_once(tmp_path: Path) -> None:
    told = subprocess.run(
        command(
            2, *SMALL_CLI, "train", "digits", "--epochs", "1", "--batch-size", "96", "--out", str(tmp_path / "run")
        ),
        capture_output=True,
        text=True,
        env=os.environ | OF_OPEN_MPI,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    for text in ("training on 191 images", "accuracy on held-out images", "model: "):
        assert told.stdout.count(text) == 1
    assert "\x1b" not in told.stdout
    refused = subprocess.run(
        command(2, *SMALL_CLI, "train", str(tmp_path / "nowhere")),
        capture_output=True,
        text=True,
        env=os.environ | OF_OPEN_MPI,
        timeout=120,
    )
    assert refused.returncode == 2
    assert refused.stderr.count("pyalexnet train: ") == 1
    for asked in ("--help", "--version"):
        answered = subprocess.run(
            command(2, *SMALL_CLI, *(["train"] if asked == "--help" else []), asked),
            capture_output=True,
            text=True,
            env=os.environ | OF_OPEN_MPI,
            timeout=120,
        )
        assert answered.returncode == 0, answered.stderr
        assert len(re.findall(r"^(usage: )?pyalexnet ", answered.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "1"}, "Slurm's job has 4 tasks.*srun --mpi=pmix"),
        ({"PMI_SIZE": "4", "PMI_RANK": "1"}, "(started 4 processes, but MPI sees 1|finds no library of MPI).*mpirun"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "one of 2 processes.*torchrun.*mpirun -n N"),
    ],
)
def test_processes_that_would_train_alone_are_refused(environment: dict[str, str], message: str) -> None:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_COMM", "PMI", "SLURM"))}
    refused = subprocess.run(
        [*SMALL_CLI, "train"], capture_output=True, text=True, env=known | OF_OPEN_MPI | environment, timeout=60
    )
    assert refused.returncode == 1
    assert re.search(f"^pyalexnet train: .*{message}", refused.stderr), refused.stderr


def test_without_mpi4py_the_command_is_told(tmp_path: Path) -> None:
    missing = "sys.modules['mpi4py'] = None"
    program = f"{SMALL}\n{missing}\nfrom pyalexnet.cli import main\nsys.exit(main(['train']))"
    refused = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"OMPI_COMM_WORLD_SIZE": "2"},
        timeout=60,
        cwd=tmp_path,
    )
    assert refused.returncode == 1
    assert "mpi4py is not installed, which this needs: run pip install 'pyalexnet[mpi]'" in refused.stderr


# Steps alone, with shards that are no power of two: two nodes a rank, of two and of one.
STEPS = f"""{SMALL}
import hashlib
import numpy as np
from pyalexnet import AlexNet
from pyalexnet.net import gradient_sums
from pyalexnet.net.shards import Shards
from pyalexnet.system.ranks import join_ranks
ranks = join_ranks()
rng = np.random.default_rng(0)
x, labels = rng.standard_normal((6, 227, 227, 3), np.float32) * 50, rng.integers(0, 10, 6)
own = slice(6 // ranks.size * ranks.rank, 6 // ranks.size * (ranks.rank + 1))
if sys.argv[2] == "staged":  # as with a GPU: through the host's memory
    gradient_sums._IN_HOST_MEMORY = ()
net = AlexNet(10, bias_init="caffe", devices=sys.argv[1].split(","))
losses = [net.train_step(x[own], labels[own], lr=0.01, shards=Shards(6, ranks)) for _ in range(2)]
arrays = [value for kind in (net.parameters(), net.momentum(), net.gradients()) for value in kind.values()]
found = losses, hashlib.sha256(b"".join(value.tobytes() for value in arrays)).hexdigest()
assert all(other == found for other in ranks.gather(found))
if ranks.is_first:
    print(found, net.traffic.sent_bytes > 0)
"""


def test_steps_with_several_nodes_a_rank() -> None:
    told = {}
    for ranks, devices, way in ((1, "cpu:0", ""), (2, "cpu:0,cpu:1", "staged"), (3, "cpu:0", "")):
        finished = subprocess.run(
            command(ranks, sys.executable, "-c", STEPS, devices, way),
            capture_output=True,
            text=True,
            env=os.environ | OF_OPEN_MPI,
            timeout=120,
        )
        assert finished.returncode == 0, finished.stderr
        found, sent = finished.stdout.strip().rsplit(" ", 1)
        told[found] = ranks
        assert sent == str(ranks > 1)
    assert len(told) == 1
