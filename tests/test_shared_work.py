"""Ranks share judging, features, predictions and preparation, and come to what one process does, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pyalexnet
from launching import NEEDS_MPI, OF_OPEN_MPI, command, lines_of
from pyalexnet.cli import main
from small import SMALL, SMALL_CLI

pytestmark = NEEDS_MPI

IMAGES, BROKEN = 16, ("a/07.png", "b/04.png")  # of which two ranks have one each, whoever begins

# What every rank does, and keeps for the test to compare, after a change to what it was given.
PROGRAM = f"""{SMALL}
import pickle, sys, warnings
from pathlib import Path
import pyalexnet
from pyalexnet.data import folder as folders, pictures
from pyalexnet.evaluation import features
from pyalexnet.system.ranks import join_ranks

folder, out, devices = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(",")
rank = join_ranks().rank
features._BYTES_AT_A_TIME = 10_000  # of the features of one image and a half
read, read_image = [], folders.read_image
def noted(path):
    read.append(path)
    return read_image(path)
folders.read_image = pictures.read_image = noted
exec(sys.argv[4])
model = pyalexnet.load_model(folder / "run", devices=devices)
photos, told = [*sorted((folder / "photos").glob("*/*")), folder / "missing.png"], []
def tell(*what): told.append(tuple(map(str, what)))

with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    found = {{
        "own": pyalexnet.evaluate(model, batch_size=3, on_stage=tell, on_images=tell),
        "ten views": pyalexnet.evaluate(model, folder / "copy", views=10, batch_size=4, on_error="skip"),
        "told": pyalexnet.evaluate(model, folder / "photos", batch_size=5, on_error=tell),
        "features": pyalexnet.extract_features(model, folder / "copy", "conv1", batch_size=4, on_error="skip"),
        "predicted": pyalexnet.predict(model, photos, batch_size=4, top=2, on_error=tell),
        "few": pyalexnet.predict(model, photos[:2], batch_size=1, on_images=tell),
    }}
    pyalexnet.save_features(out / "fc7.npz", model, batch_size=4, on_images=tell)
    pyalexnet.save_activations(out / "layers", model, folder / "copy", ["conv5", "fc6"], batch_size=4, on_error=tell)
found = {{name: vars(value) if hasattr(value, "__dict__") else value for name, value in found.items()}}
found["own"]["unseen"], found["ten views"]["unseen"] = (
    None if part is None else vars(part) for part in (found["own"]["unseen"], found["ten views"]["unseen"])
)
found["told"]["unseen"] = vars(found["told"]["unseen"])
(out / f"rank-{{rank}}").write_bytes(
    pickle.dumps((found, told, [str(warning.message) for warning in warned], len(read)))
)
"""


def run(arguments: list[str], seconds: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program to its end."""
    env = os.environ | OF_OPEN_MPI | environment
    return subprocess.run(arguments, capture_output=True, text=True, env=env, timeout=seconds)


def program(ranks: int, folder: Path, out: Path, devices: str = "cpu:0", change: str = "") -> list[str]:
    out.mkdir()
    return command(ranks, sys.executable, "-c", PROGRAM, str(folder), str(out), devices, change)


def contents(folder: Path) -> dict[str, str]:
    """Checksums of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes, some of them broken, copies under other names, and a net that learned from them."""
    folder = tmp_path_factory.mktemp("shared")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        label, name = "ab"[number % 2], f"{number // 2:02}.png"
        pixels = (rng.integers(0, 100, (8, 9, 3)) + 150 * (number % 2)).astype(np.uint8)
        for root in ("photos", "copy"):
            path = folder / root / label / (name if root == "photos" else f"copy-{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    for name in BROKEN:
        (folder / "photos" / name).write_bytes(b"no image")
        (folder / "copy" / name[:2] / f"copy-{name[2:]}").write_bytes(b"no image")
    pyalexnet.train(
        folder / "photos", out=folder / "run", epochs=1, batch_size=8, bias_init="caffe", on_error=lambda _error: None,
        validation=0.3, devices=["cpu:0"], progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """What one process comes to."""
    out = folder / "alone"
    finished = run(program(1, folder, out))
    assert finished.returncode == 0, finished.stderr
    return out


def kept(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def assert_same(one: Any, other: Any) -> None:
    """To the bit, in arrays within mappings and lists too."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    else:
        assert one == other


def test_one_process_tells_all(alone: Path) -> None:
    """That there is something to compare: errors, overlaps by place and by content, what was read."""
    found, told, warned, _ = kept(alone / "rank-0")
    assert found["own"]["trained_on"] == 0
    assert found["ten views"]["trained_on"] > 0
    assert found["told"]["trained_on"] > 0
    assert found["ten views"]["unseen"]["loss"] != found["ten views"]["loss"]
    assert [bool(classes) for classes in found["predicted"]].count(False) == len(BROKEN) + 1
    assert len(warned) == 2
    assert sum("missing.png" in text for what in told for text in what) == 1
    with np.load(alone / "fc7.npz") as archive:
        assert len(archive["features"]) == len(archive["labels"]) > 8


# 14 images that can be read, in four batches, and 2 to be predicted one at a time, of which a third rank has none.
@pytest.mark.parametrize(("ranks", "devices"), [(3, "cpu:0"), (2, "cpu:0,cpu:1")])
def test_ranks_come_to_what_one_process_does(
    folder: Path, alone: Path, tmp_path: Path, ranks: int, devices: str
) -> None:
    out = tmp_path / "out"
    finished = run(program(ranks, folder, out, devices))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == finished.stderr == ""
    expected, expected_told, expected_warned, images_read = kept(alone / "rank-0")
    images_left = images_read
    for rank in range(ranks):
        found, told, warned, own_images = kept(out / f"rank-{rank}")
        assert own_images < 0.7 * images_read
        images_left -= own_images
        assert_same(found, expected)
        assert warned == (expected_warned if rank == 0 else [])
        assert [what for what in told if not what[0].isdecimal()] == (
            [what for what in expected_told if not what[0].isdecimal()] if rank == 0 else []
        )
        images = [sum(int(what[0]) for what in calls if what[0].isdecimal()) for calls in (told, expected_told)]
        assert images[0] == (images[1] if rank == 0 else 0)
    assert images_left == 0
    written, expected_files = contents(out), contents(alone)
    for name in expected_files:
        assert name.startswith("rank-") or written.pop(name) == expected_files[name], name
    assert set(written) == {f"rank-{rank}" for rank in range(ranks)}


# What every rank does to learn: how many images it has read once all are looked at, and once the mean is there.
LEARNING = f"""{SMALL}
import pickle
from pathlib import Path
import pyalexnet
from pyalexnet.data import folder as folders, pictures
from pyalexnet.system.ranks import join_ranks
from pyalexnet.training import start

folder, out, change = sys.argv[1:]
rank = join_ranks().rank
exec(change)
read, told, counts, read_image, measure = [], [], [], folders.read_image, start.measure
def noted(path):
    read.append(path)
    return read_image(path)
def noted_mean(*arguments):
    counts.append(len(read))
    found = measure(*arguments)
    counts.append(len(read))
    return found
folders.read_image, start.measure = noted, noted_mean
pyalexnet.train(
    folder + "/photos", out=out + "/run", epochs=1, batch_size=8, shards=2, validation=0.3, bias_init="caffe",
    on_error=lambda error: told.append(str(error)), devices=["cpu:0"], progress=False,
)
Path(f"{{out}}/rank-{{rank}}").write_bytes(pickle.dumps((counts, told)))
"""


def learning(ranks: int, folder: Path, out: Path, change: str = "") -> subprocess.CompletedProcess[str]:
    """Training to its end."""
    out.mkdir()
    return run(command(ranks, sys.executable, "-c", LEARNING, str(folder), str(out), change))


def test_ranks_share_what_training_does_first(folder: Path, tmp_path: Path) -> None:
    """The search for images that cannot be read, and the mean image."""
    of_ranks = {}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        finished = learning(ranks, folder, out)
        assert finished.returncode == 0, finished.stderr
        of_ranks[ranks] = [kept(out / f"rank-{rank}") for rank in range(ranks)]
    [((looked_at, read_in_all), told)] = of_ranks[1]
    assert len(told) == len(BROKEN)
    assert read_in_all > looked_at + 8
    assert [messages for _, messages in of_ranks[2]] == [told, []]
    found = [counts for counts, _ in of_ranks[2]]
    assert [sum(of_stage) for of_stage in zip(*found, strict=True)] == [looked_at, read_in_all]
    assert max(found)[0] < 0.7 * looked_at
    one, other = ((tmp_path / ranks / "run" / "model.safetensors").read_bytes() for ranks in "12")
    assert one == other
    one, other = (json.loads((tmp_path / ranks / "run" / "run.json").read_text())["data"] for ranks in "12")
    assert one == other


def test_ranks_that_see_other_images_are_refused(folder: Path, tmp_path: Path) -> None:
    """Before they wait for each other's parts of what is to be looked at."""
    shutil.copytree(folder / "photos", tmp_path / "other" / "photos")
    shutil.copy(folder / "photos" / "a" / "00.png", tmp_path / "other" / "photos" / "a" / "more.png")
    refused = learning(2, folder, tmp_path / "out", f"if rank == 1: folder = {str(tmp_path / 'other')!r}")
    assert refused.returncode != 0
    message = "ValueError: the number of images is 17 on rank 1 and 16 on rank 0; it must be the same on all ranks"
    assert len(re.findall(f"^{message}", refused.stderr, re.MULTILINE)) == 1, refused.stderr
    assert not (tmp_path / "out" / "run").exists()


def test_commands_speak_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 prints and writes what one process does, of what cannot be read too."""
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = ["evaluate", str(folder / "run"), str(folder / "copy"), "--on-error", "skip", "--quiet", "--json"]
    listed = ["predict", str(folder / "run"), str(folder / "photos"), "--on-error", "skip", "--format", "csv"]
    for ranks, words in ((2, [*shown, str(tmp_path / "json")]), (3, [*listed, "--batch-size", "4"])):
        assert main(words) == 2
        expected, json = capsys.readouterr(), contents(tmp_path)
        found = run(command(ranks, *SMALL_CLI, *words))
        assert (found.returncode, found.stdout, contents(tmp_path)) == (2, expected.out, json)
        assert len(expected.err.splitlines()) == len(BROKEN) + 1
        assert found.stderr.startswith(expected.err)
        assert "pyalexnet" not in found.stderr[len(expected.err) :]  # what mpirun says of exit statuses follows


# What all ranks find wrong, and what rank 0 alone does.
WRONG = f"""{SMALL}
from pyalexnet.cli import main
run, photos, quiet = sys.argv[1] + "/run", sys.argv[1] + "/copy", ["--on-error", "skip", "--quiet"]
def status(words):
    try:
        return main(words)
    except SystemExit as error:
        return error.code
words = [["predict"], ["layers"], ["evaluate", "nowhere"]]
words += [["features", run, photos, "nowhere/x.npz", *quiet], ["features", run, photos, sys.argv[1], *quiet]]
words += [["predict", run, photos, "--output", "nowhere/x", *quiet]]
words += [["evaluate", run, photos, "--json", "nowhere/x", *quiet], ["prepare", photos, run, *quiet]]
statuses = [status(each) for each in words]
assert statuses == [2, 1, *[2] * 6], statuses
"""


def test_what_is_wrong_is_said_once(folder: Path) -> None:
    refused = run(command(2, sys.executable, "-c", WRONG, str(folder)))
    assert refused.returncode == 0, refused.stderr
    told = [
        line for line in refused.stderr.splitlines() if re.match(r"pyalexnet \w+: ", line) and "skipped" not in line
    ]
    expected = (
        "predict: the following arguments are required: MODEL, IMAGE",
        "layers: it is done by one process, and a launcher started 2: .* prepare, train, evaluate, predict and",
        "evaluate: there is no model file nowhere",
        "features: nowhere/x.npz: No such file",
        "features: .*: it exists; it must be the name of a new folder",
        "predict: cannot write nowhere/x: No such file",
        "evaluate: cannot write nowhere/x: No such file",
        "prepare: .*/run is not empty",
    )
    assert len(told) == len(expected), refused.stderr
    for line, message in zip(told, expected, strict=True):
        assert re.match(f"pyalexnet {message}", line)


# One of several processes that cannot find each other: what they could share is refused, and a job's script may do what
# is for one process.
ASTRAY = f"""{SMALL}
import os
from pyalexnet.cli import main
os.environ["RANK"], os.environ["WORLD_SIZE"] = "1", "4"
words = [["prepare", "a", "b"], ["evaluate", "a"], ["predict", "a", "b"], ["features", "a", "b"], ["layers"]]
print([main(each) for each in words])
del os.environ["RANK"]
os.environ["SLURM_NTASKS"] = "4"
print([main(each) for each in words[:-1]], main(["layers"]), "mpi4py" in sys.modules)
"""


def test_processes_that_cannot_find_each_other_are_refused() -> None:
    told = run([sys.executable, "-c", ASTRAY])
    lines = told.stdout.splitlines()
    assert lines[0] == "[1, 1, 1, 1, 1]", told.stderr
    assert lines[-1] == "[1, 1, 1, 1] 0 False"
    for name in ("prepare", "evaluate", "predict", "features"):
        assert len(re.findall(f"^pyalexnet {name}: RANK and WORLD_SIZE say", told.stderr, re.MULTILINE)) == 1
        assert len(re.findall(f"^pyalexnet {name}: Slurm's job has 4 tasks", told.stderr, re.MULTILINE)) == 1


def test_what_ranks_do_not_agree_on_is_named(folder: Path, tmp_path: Path) -> None:
    change = """
load = pyalexnet.load_model
def other(*arguments, **named):
    model = load(*arguments, **named)
    model.mean[0] += 1
    return model
if rank == 1:
    pyalexnet.load_model = other
"""
    refused = run(program(2, folder, tmp_path / "out", change=change))
    assert refused.returncode != 0
    message = r"^ValueError: the model's mean image is '\w+' on rank 1 and '\w+' on rank 0; it must be the same"
    assert len(re.findall(message, refused.stderr, re.MULTILINE)) == 1, refused.stderr


# Batches that take long, of which rank 1's second one may fail.
WRITING = f"""{SMALL}
import sys, time
import pyalexnet
from pyalexnet.cli import main
from pyalexnet.evaluation import features
from pyalexnet.system.ranks import join_ranks
compute, rank = features.activations_of, join_ranks().rank
done = []
def slow(*arguments):
    time.sleep(0.2)
    done.append(rank)
    if sys.argv[1] == "failing" and rank == 1 and len(done) == 2:
        raise OSError("the disk is gone")
    if len(done) == 2:
        print("ready", flush=True)
    return compute(*arguments)
features.activations_of = slow
words = ["features", sys.argv[2] + "/run", sys.argv[2] + "/copy", sys.argv[3], "--batch-size", "1"]
sys.exit(main([*words, "--on-error", "skip", "--layer", "fc6,fc7"]))
"""


@pytest.mark.parametrize(("ranks", "end"), [(2, "failing"), (2, "SIGINT"), (2, "SIGTERM"), (1, "SIGTERM")])
def test_nothing_half_written_is_left(folder: Path, tmp_path: Path, ranks: int, end: str) -> None:
    arguments = command(ranks, sys.executable, "-c", WRITING, end, str(folder), str(tmp_path / "layers"))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, env=os.environ | OF_OPEN_MPI, **pipes) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() not in ("ready", ""):
            pass
        if end != "failing":
            process.send_signal(getattr(signal, end))
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (128 + signal.SIGTERM if ranks == 1 else 1)
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == [], errors
    told = lines_of(r"pyalexnet: rank (\d) of 2, on \S+, failed, which ends all: (.*)", errors)
    assert told == ([("1", "OSError: the disk is gone")] if end == "failing" else [])


# What every rank does to prepare, slowly on rank 0 so that the others have their part, and how many images it decoded.
PREPARING = f"""{SMALL}
import os, signal, sys, time
from pyalexnet.cli import main
from pyalexnet.data import decoders
from pyalexnet.system.ranks import join_ranks
source, destination, rank = sys.argv[1], sys.argv[2], join_ranks().rank
decode, count = decoders._decoded, [0]
def decode_here(image):
    count[0] += 1
    time.sleep(0.02 if rank == 0 else 0.005)
    return decode(image)
decoders._decoded = decode_here
exec(sys.argv[3])
words = ["prepare", source, destination, "--on-error", "skip", "--shard-size", "8", "--workers", "1"]
status = main(words)
os.write(2, f"rank {{rank}} decoded {{count[0]}}\\n".encode())
sys.exit(status)
"""

FAILING = """
def decode_or_fail(image):
    if rank == 1 and count[0] == 90:
        raise OSError("the disk is gone")
    return decode_here(image)
decoders._decoded = decode_or_fail
"""

STOPPED = """
def decode_and_stop(image):
    if rank == 1 and count[0] == 90:
        os.kill(os.getpid(), signal.SIGTERM)
    return decode_here(image)
decoders._decoded = decode_and_stop
"""

PREPARED = 240  # images, 8 a shard, of which two are broken


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images to prepare."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for number in range(PREPARED):
        path = folder / "abc"[number % 3] / f"{number:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3)).astype(np.uint8)).save(path)
    for name in ("a/003.jpg", "c/239.jpg"):
        (folder / name).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process makes of them."""
    out = tmp_path_factory.mktemp("prepared") / "set"
    pyalexnet.prepare(source, out, on_error="skip", shard_size=8, progress=False)
    return contents(out)


def preparing(ranks: int, source: Path, out: Path, change: str = "") -> subprocess.CompletedProcess[str]:
    return run(command(ranks, sys.executable, "-c", PREPARING, str(source), str(out), change))


def test_ranks_prepare_what_one_process_does(source: Path, prepared: dict[str, str], tmp_path: Path) -> None:
    finished = preparing(3, source, tmp_path / "set")
    assert finished.returncode == 0, finished.stderr
    assert contents(tmp_path / "set") == prepared
    decoded = dict(re.findall(r"rank (\d) decoded (\d+)", finished.stderr))
    assert sum(map(int, decoded.values())) == PREPARED
    assert all(int(decoded[rank]) > 8 for rank in "012"), decoded
    for text in (
        "of 3 classes with 3 workers of 3 ranks",
        "skipped a/003.jpg: ",
        "skipped c/239.jpg: ",
        "are prepared",
    ):
        assert finished.stdout.count(text) == 1, finished.stdout


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (FAILING, 1, r"pyalexnet: rank 1 of 2, on \S+, failed, which ends all: OSError: the disk is gone"),
        (STOPPED, 128 + signal.SIGTERM, "pyalexnet: interrupted"),
    ],
)
def test_preparation_goes_on_with_another_number_of_ranks(
    source: Path, prepared: dict[str, str], tmp_path: Path, change: str, status: int, message: str
) -> None:
    ended = preparing(2, source, tmp_path / "set", change)
    assert ended.returncode == status, ended.stderr
    assert len(lines_of(message, ended.stderr)) == 1, ended.stderr
    kept_before = set(contents(tmp_path / "set"))
    assert "images-00000.npy" in kept_before
    assert "manifest.json" not in kept_before
    if change == STOPPED:
        assert ended.stdout.count("SIGTERM: finishing the images under way") == 1
        assert not [name for name in kept_before if re.fullmatch(r"\.progress-\d+\.npy", name)]
    pyalexnet.prepare(source, tmp_path / "set", on_error="skip", shard_size=8, progress=False)
    assert contents(tmp_path / "set") == prepared


def test_ranks_prepare_the_same_images(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    (other / "b" / "001.jpg").unlink()
    refused = preparing(2, source, tmp_path / "set", f"source = {str(other)!r} if rank == 1 else source")
    assert refused.returncode == 2
    message = f"the source's images is {PREPARED - 1} on rank 1 and {PREPARED} on rank 0; it must be the same"
    assert refused.stderr.count(message) == 1
    assert not (tmp_path / "set").exists()


# Training by a prepared set, and how many of its images each rank read.
READING = f"""{SMALL}
import pyalexnet
from pyalexnet.data import prepared
from pyalexnet.system.ranks import join_ranks
read, read_rows = [], prepared.read_rows
def noted(path, rows, images):
    read.extend((path.name, row) for row in rows)
    read_rows(path, rows, images)
prepared.read_rows = noted
settings = dict(epochs=1, batch_size=8, shards=2, validation=0.3, bias_init="caffe", devices=["cpu:0"], progress=False)
pyalexnet.train(sys.argv[1], **settings)
print("read", join_ranks().rank, len(read), len(set(read)))
"""


def test_ranks_that_train_read_their_own_images(folder: Path, tmp_path: Path) -> None:
    """Of 14 images 10 are learned from, 8 of them in a step, and 4 held out; rank 0 measures the mean of the 10."""
    pyalexnet.prepare(folder / "photos", tmp_path / "set", on_error="skip", shard_size=3, progress=False)
    finished = run(command(2, sys.executable, "-c", READING, str(tmp_path / "set")))
    assert finished.returncode == 0, finished.stderr
    found = sorted(re.findall(r"read (\d) (\d+) (\d+)", finished.stdout))
    assert [(rank, int(all_read)) for rank, all_read, _ in found] == [("0", 4 + 4 + 10), ("1", 4)]
