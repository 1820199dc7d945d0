"""Every reader, whatever the bytes: the documented error with the file's name, or a value that holds what it promises.

A few inputs a reader here; ``PYALEXNET_FUZZ_EXAMPLES=1000000 pytest tests/test_fuzz.py -k tar`` tries as many as told.
Checksums are made right again after the damage, so that what lies behind them is met.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import resource
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fuzzing import damaged, damaged_json, json_text
from pyalexnet import prepare
from pyalexnet.architecture import Options
from pyalexnet.data import PreparedImages
from pyalexnet.data.idx import IdxImages
from pyalexnet.data.manifest import PLAN_FORMAT
from pyalexnet.data.shard_writer import RECORD_FORMAT
from pyalexnet.data.sources import find_images
from pyalexnet.errors import DataError, ModelFileError
from pyalexnet.evaluation.activations import load_activations
from pyalexnet.evaluation.features import FeatureFile
from pyalexnet.net.model_file import MODEL_DESCRIPTION
from pyalexnet.net.tensor_file import checksum, open_tensors, pack
from pyalexnet.study.ablation import Ablation, Lap, Plan, Trial, read_ablation
from pyalexnet.training.checkpoint import _json_checksum, _read_state
from pyalexnet.training.logs import MetricsLog
from pyalexnet.training.record import load_run
from pyalexnet.training.schedule import PlateauSchedule, load_schedule, make_schedule
from pyalexnet.training.settings import Settings
from pyalexnet.training.state import EpochRecord, RunState
from pyalexnet.training.watch import StuckLoss

EXAMPLES = int(os.environ.get("PYALEXNET_FUZZ_EXAMPLES", "40"))
_SECONDS = 5.0  # for one input, on a machine that does much else
_MEMORY_BYTES = 300e6

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="PYALEXNET_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
chances = st.randoms(use_true_random=True)

pytestmark = pytest.mark.timeout(0 if EXAMPLES > 1000 else 300)


@contextlib.contextmanager
def documented(*errors: type[Exception], names: str | None = None) -> Iterator[None]:
    """Let these errors pass, if they tell of the file; and nothing else, nor too much time or memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    message = ""
    try:
        yield
    except errors as error:
        message = str(error)
        assert names is None or names in message, f"{error!r} does not name {names}"  # noqa: PT017
    assert len(message.encode()) < 2000
    assert time.thread_time() - start < _SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < _MEMORY_BYTES


# JSON -----------------------------------------------------------------------------------------------------------------

EPOCHS = [
    EpochRecord(number, 3 * number, 0.01, 1.5, 1.0, 0.25, 0.75, 60.0, 0.5) for number in (1, 2)
]  # fmt: skip
SETTINGS = Settings(
    epochs=3,
    batch_size=4,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    patience=1,
    devices=("cpu:0",),
    seed=0,
    num_classes=3,
    reflect=True,
    colour_noise=0.1,
    subtract_mean=True,
    net_options={"bias_init": "caffe"},
)
PART = {"images": 12, "classes": ["a", "b"], "labels_crc32": 7}
ABOUT = {
    "settings": asdict(SETTINGS),
    "data": {"source": "digits", "validation": 0.2, "training": PART, "held_out": PART},
}
RUN = {**ABOUT, "stopped": "finished", "steps": 7, "best": 1, "history": list(map(asdict, EPOCHS))}
STAGES = [
    {"epoch": 0, "lr": 0.01},
    {"epoch": 30, "lr": 0.001, "layers": {"conv1": 0, "biases": 0.5, "fc8.bias": 0.002}, "colour_noise": 0},
]
STATE = {
    "format": 1,
    "versions": {"pyalexnet": "0.1.0", "python": "3.11"},
    "checksums": {"model.safetensors": 1, "momentum.safetensors": 2},
    **ABOUT,
    "state": asdict(
        RunState(
            epoch=3,
            losses=[1.5, 2.5],
            history=EPOCHS,
            schedule=PlateauSchedule(0.01, 1).state(),
            stuck_loss=StuckLoss(chance=1.0, patience_steps=3).state(),
        )
    ),
}
LINES = [{"kind": "step", "time": 1.5, "step": step, "epoch": 1, "loss": 0.5, "lr": 0.01} for step in (1, 2, 3)] + [
    {"kind": "epoch", "step": 3, "epoch": 1}
]
ABLATION = Ablation(
    "digits", ("cpu:0",), Plan(), [Lap("relu", 0.001, 12, 1.5)], [Trial("no LRN", 0, 0.001, 0.5, None, 2.5)]
)


def written(folder: Path, name: str, seed: Any, chance: random.Random) -> Path:
    """A file of JSON, damaged as a value or as bytes."""
    content = json_text(damaged_json(seed, chance), chance) if chance.random() < 0.8 else json.dumps(seed).encode()
    path = folder / name
    path.write_bytes(content if chance.random() < 0.8 else damaged(content, chance))
    return path


@fuzzed
@given(chance=chances)
def test_run(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    folder = the_folder(tmp_path_factory)
    written(folder, "run.json", RUN, chance)
    lines = b"\n".join(
        json_text(damaged_json(line, chance) if chance.random() < 0.3 else line, chance) for line in LINES
    )
    (folder / "metrics.jsonl").write_bytes(damaged(lines + b"\n", chance) if chance.random() < 0.5 else lines)
    with documented(DataError, names=str(folder)):
        run = load_run(folder)
        assert run.settings.lr > 0
        assert run.settings.num_classes >= len(run.data["training"]["classes"])
        assert [record.epoch for record in run.history] == list(range(1, len(run.history) + 1))
        assert np.all(np.diff(run.log.steps) > 0)
        assert run.settings.make_schedule()
        assert Options(**run.settings.net_options)
    with documented(ValueError, names="metrics.jsonl"):
        MetricsLog(folder / "metrics.jsonl", keep_steps=2, keep_epochs=0).close()


@fuzzed
@given(chance=chances)
def test_state(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    path = the_folder(tmp_path_factory) / "state.json"
    about = damaged_json(STATE, chance)
    if isinstance(about, dict) and chance.random() < 0.9:
        with contextlib.suppress(ValueError):  # integers that json writes no more
            about["checksum"] = _json_checksum(about)
    content = json_text(about, chance)
    path.write_bytes(content if chance.random() < 0.9 else damaged(content, chance))
    with documented(ModelFileError, names="state.json"):
        found = _read_state(path)
        assert found.state.epoch == len(found.state.history) + 1
        assert np.isfinite(found.state.losses).all()
        assert all(type(value) is int for value in found.checksums.values())


@fuzzed
@given(chance=chances)
def test_schedule(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    path = written(the_folder(tmp_path_factory), "rates.json", STAGES, chance)
    with documented(ValueError, names="rates.json"):
        require_rates(load_schedule(path))
    stages = damaged_json(STAGES, chance)
    with documented(ValueError if isinstance(stages, list) else TypeError, names="schedule"):
        if not isinstance(stages, str):
            require_rates(make_schedule(stages, lr=0.01))


def require_rates(schedule: Any) -> None:
    for epoch in (0, 0.5, 30, 1e6):
        rates = schedule.at(epoch)
        step = rates.for_step()
        for rate in (rates.lr, rates.colour_noise or 0.0, *(step.values() if isinstance(step, dict) else [step])):
            assert type(rate) is float
            assert 0 <= rate < np.inf


@fuzzed
@given(chance=chances)
def test_ablation(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    path = written(the_folder(tmp_path_factory), "ablation.json", asdict(ABLATION), chance)
    with documented(DataError, names="ablation.json"):
        found = read_ablation(path)
        assert found.seconds >= 0
        assert found.plan.measurements > 0


@fuzzed
@given(chance=chances)
def test_progress_of_preparation(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    folder = the_folder(tmp_path_factory)
    record = {"images": 3, "sha256": "0" * 64, "failed": [[1, "it is no image"]]}
    with documented(ValueError, names="record.json"):
        found = RECORD_FORMAT.read(written(folder, "record.json", record, chance))
        assert found.images >= 0
    plan = json.loads((prepared_folder(tmp_path_factory) / "manifest.json").read_text())
    plan = {name: plan[name] for name in ("format", "version", "settings", "source", "versions")}
    with documented(DataError, names="plan.json"):
        assert PLAN_FORMAT.read(written(folder, "plan.json", plan, chance)).version == 1


# Containers -----------------------------------------------------------------------------------------------------------


@fuzzed
@given(chance=chances)
def test_prepared_set(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    whole, folder = prepared_folder(tmp_path_factory), the_folder(tmp_path_factory) / "set"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file in whole.iterdir():
        os.link(file, folder / file.name)
    manifest = json.loads((whole / "manifest.json").read_text())
    names = chance.sample(["labels.npy", "names.json", "mean.npy", "colour_axes.npy", "images-00000.npy"], 1)
    for name in names if chance.random() < 0.7 else []:
        content = (whole / name).read_bytes()
        new = (
            json_text(damaged_json(json.loads(content), chance), chance)
            if name.endswith("json")
            else other_array(content, chance)
        )
        (folder / name).unlink()
        (folder / name).write_bytes(new)
        if name in manifest["files"]:
            manifest["files"][name] = hashlib.sha256(new).hexdigest()
    (folder / "manifest.json").unlink()
    manifest = damaged_json(manifest, chance) if chance.random() < 0.5 else manifest
    content = json_text(manifest, chance)
    (folder / "manifest.json").write_bytes(content if chance.random() < 0.9 else damaged(content, chance))
    with documented(DataError, names=str(folder)):
        found = PreparedImages(folder)
        assert len(found) == sum(shard.images for shard in found.shards)
        assert 0 <= found.labels.min() <= found.labels.max() < len(found.classes) == len(set(found.classes))
        assert 0 <= found.statistics.mean.min() <= found.statistics.mean.max() <= 255
        assert np.isfinite(found.statistics.colour_axes).all()
        images, _ = found.batch(np.arange(len(found)))
        assert images.shape == (len(found), 256, 256, 3)
        assert all(isinstance(name, str) for name in found.names)
        assert len(found.names) == len(found)


def other_array(content: bytes, chance: random.Random) -> bytes:
    """An array file that is damaged, or whole but with other values, of another type or another shape."""
    if chance.random() < 0.5:
        return damaged(content, chance)
    array = np.load(io.BytesIO(content)).copy()
    match chance.randrange(4):
        case 0 if array.size and array.dtype.kind != "U":
            with np.errstate(invalid="ignore"):  # NaN as a whole number
                new = np.array(chance.choice((np.nan, np.inf, -1, 1e9, 300, 2))).astype(array.dtype, casting="unsafe")
            array.reshape(-1)[chance.randrange(array.size)] = new
        case 1 if array.dtype.kind == "U":
            array = array.astype(object).astype(chance.choice(("<U1", "<U300", ">U9")))
        case 1:
            array = array.astype(chance.choice(("<f8", "<i8", ">i4", "<f2", "<U3", "?", "S2")))
        case 2:
            array = np.asfortranarray(array.reshape(chance.choice(((-1,), (-1, 1), array.shape[::-1]))))
        case 3 if array.ndim:
            array = array[:-1]
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@fuzzed
@given(chance=chances)
def test_features(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    path = the_folder(tmp_path_factory) / "fc7.npz"
    parts = {
        "features": np.arange(24, dtype=np.float32).reshape(6, 4),
        "labels": np.array([0, 1, 2, -1, 0, 1], np.int32),
        "names": np.array(["a/1", "b/2", "c/3", "4", "größe", ""]),
        "classes": np.array(["a", "b", "c"]),
        "layer": np.array("fc7"),
        "model": np.array("0a1b2c3d"),
    }
    chosen = chance.choice((*parts, None))
    archive = io.BytesIO()
    method = zipfile.ZIP_STORED if chance.random() < 0.9 else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(archive, "w", method) as opened:
        for name, array in parts.items():
            file = io.BytesIO()
            np.save(file, array)
            content = other_array(file.getvalue(), chance) if name == chosen else file.getvalue()
            with opened.open(f"{name}.npy", "w", force_zip64=name == "features") as part:
                part.write(content)
    path.write_bytes(damaged(archive.getvalue(), chance) if chance.random() < 0.6 else archive.getvalue())
    with documented(DataError, names="fc7.npz"):
        found = FeatureFile(path)
        values = np.concatenate(list(found.batches()) or [np.empty(found.shape, np.float32)])
        assert values.shape == found.shape
        assert np.isfinite(values).all()
        assert len(found.labels) == len(found.names) == len(values)
        assert found.labels.dtype == np.int32
        assert np.all((found.labels >= -1) & (found.labels < len(found.classes)))


@fuzzed
@given(chance=chances)
def test_activations(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    folder = the_folder(tmp_path_factory) / "activations"
    folder.mkdir(exist_ok=True)
    arrays = {
        "conv1_pre": np.arange(48, dtype=np.float32).reshape(6, 2, 2, 2),
        "fc7": np.arange(24, dtype=np.float32).reshape(6, 4),
        "labels": np.array([0, 1, 2, -1, 0, 1], np.int32),
        "names": np.array(["a/1", "b/2", "c/3", "4", "größe", ""]),
        "classes": np.array(["a", "b", "c"]),
    }
    about = {"format": 1, "layers": ["conv1_pre", "fc7"], "model": "0a1b2c3d"}
    chosen = chance.choice((*arrays, "about"))
    content = json_text(damaged_json(about, chance) if chosen == "about" else about, chance)
    (folder / "activations.json").write_bytes(content)
    for name, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array)
        content = other_array(file.getvalue(), chance) if name == chosen else file.getvalue()
        (folder / f"{name}.npy").write_bytes(damaged(content, chance) if chance.random() < 0.2 else content)
    with documented(DataError, names="activations"):
        found = load_activations(folder)
        assert len(found.labels) == len(found.names)
        assert np.all((found.labels >= -1) & (found.labels < len(found.classes)))
        for values in found.layers.values():
            assert len(values) == len(found.names)
            assert values.dtype == np.float32
            values.sum()


@fuzzed
@given(chance=chances)
def test_idx(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    folder = the_folder(tmp_path_factory) / "idx"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    images = struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 4) + bytes(range(24))
    labels = struct.pack(">4BI", 0, 0, 8, 1, 2) + bytes([0, 1])
    for name, content in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        content = damaged(content, chance) if chance.random() < 0.6 else content
        if chance.random() < 0.5:
            content, name = gzip.compress(content), f"{name}.gz"
            content = damaged(content, chance) if chance.random() < 0.3 else content
        (folder / name).write_bytes(content)
    with documented(DataError, names=str(folder)):
        found = IdxImages(folder)
        assert len(found.images) == len(found.labels) > 0
        assert 0 <= found.labels.min() <= found.labels.max() < len(found.classes)


def tar_of(files: dict[str, bytes], tar_format: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tar_format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mtime = 1.5 if tar_format == tarfile.PAX_FORMAT else 1
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def with_checksums(content: bytes) -> bytes:
    """A tar in which the checksum of each block that might be a header is right."""
    blocks = [content[start : start + 512] for start in range(0, len(content), 512)]
    for number, block in enumerate(blocks):
        if len(block) == 512 and any(block):
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            blocks[number] = block[:148] + b"%06o\0 " % (total % 8**6) + block[156:]
    return b"".join(blocks)


@fuzzed
@given(chance=chances)
def test_tar(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    path = the_folder(tmp_path_factory) / "images.tar"
    tar_format = chance.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    files = {"a.jpg": b"12345", "b" * 60 + "/" + "c" * 60 + ".jpg": b"6" * 600}
    if tar_format != tarfile.USTAR_FORMAT:
        files["d/" + "é" * 200 + ".jpg"] = b"7"
    if chance.random() < 0.5:
        content = tar_of({f"cats/{name}": data for name, data in files.items()}, tar_format)
    else:
        inner = tar_of(files, tar_format)
        for _ in range(chance.choice((1, 1, 2, 30))):
            inner = tar_of({"cats.tar": inner}, tar_format)
        content = inner
    for _ in range(chance.choice((0, 1, 2))):
        content = damaged(content, chance)
    path.write_bytes(with_checksums(content) if chance.random() < 0.8 else content)
    with documented(DataError, names="images.tar"):
        size = path.stat().st_size
        for image in find_images(path).images:
            assert 0 < image.offset <= image.offset + image.size <= size
            assert len(image.read()) == image.size
            assert ".." not in image.name.split("/")


@fuzzed
@given(chance=chances)
def test_tensors(tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> None:
    path = the_folder(tmp_path_factory) / "model.safetensors"
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.array([1, 2], np.float32)}
    if chance.random() < 0.2:
        tensors["b.bias"][0] = np.nan
    about = {"classes": ["a", "b"], "num_classes": 3, "options": asdict(Options()), "step": 7}
    content = pack(tensors, about)
    if chance.random() < 0.9:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        description = json.loads(header["__metadata__"]["pyalexnet"])
        if chance.random() < 0.5:
            header["__metadata__"]["pyalexnet"] = json_text(damaged_json(description, chance), chance).decode("latin-1")
        else:
            header = damaged_json(header, chance)
            if isinstance(header, dict) and isinstance(header.get("a"), dict) and chance.random() < 0.3:
                header["a"]["dtype"] = chance.choice(("F8_E4M3", "F8_E5M2", "BF16", "F64", "I32", "BOOL", "F4", "C64"))
        text = json_text(header, chance)
        content = len(text).to_bytes(8, "little") + text + content[8 + length :]
    path.write_bytes(damaged(content, chance) if chance.random() < 0.4 else content)
    with (
        documented(ModelFileError, names="model.safetensors"),
        open_tensors(path, "model file", MODEL_DESCRIPTION, lambda _about: {"a": (2, 3), "b.bias": (2,)}) as file,
    ):
        found = file.tensors()
        assert {name: value.shape for name, value in found.items()} == {"a": (2, 3), "b.bias": (2,)}
        assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in found.values())
        assert len(set(file.description.classes)) == len(file.description.classes) <= file.description.num_classes
        assert checksum(found) == file.description.checksum
        assert file.description.step >= 0


# What the tests begin from --------------------------------------------------------------------------------------------


def the_folder(factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of all tests, which are made one after the other."""
    path = factory.getbasetemp() / "fuzzed"
    path.mkdir(exist_ok=True)
    return path


def prepared_folder(factory: pytest.TempPathFactory) -> Path:
    """A prepared set of three images."""
    path = factory.getbasetemp() / "whole"
    if not path.is_dir():
        for number in range(3):
            image = factory.getbasetemp() / "photos" / f"class {number % 2}" / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (256, 256), (number, 100, 200)).save(image)
        prepare(factory.getbasetemp() / "photos", path, shard_size=2, workers=1, progress=False)
    return path


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: load_run(whole_run(folder)),
        lambda folder: _read_state(whole_state(folder)),
        lambda folder: load_schedule(saved(folder / "rates.json", STAGES)),
        lambda folder: read_ablation(saved(folder / "ablation.json", asdict(ABLATION))),
    ],
)
def test_what_the_damage_begins_from_is_whole(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    assert read(tmp_path)


def saved(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def whole_run(folder: Path) -> Path:
    saved(folder / "run.json", RUN)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return folder


def whole_state(folder: Path) -> Path:
    return saved(folder / "state.json", STATE | {"checksum": _json_checksum(STATE)})
