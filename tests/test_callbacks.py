"""Callbacks of a training run: what they are told, that they change nothing, and how they end a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyalexnet import TrainingEvent
from pyalexnet.net.model_file import load_model
from pyalexnet.training.checkpoint import newest_checkpoint
from pyalexnet.training.logs import read_lines
from pyalexnet.training.result import TrainingResult
from pyalexnet.training.train import train

RNG = np.random.default_rng(0)
LABELS = np.arange(14) % 2
IMAGES = (RNG.integers(0, 100, (14, 8, 8)) + 150 * LABELS[:, None, None]).astype(np.uint8)
STEPS = 3  # an epoch


def short_run(**changes: Any) -> TrainingResult:
    settings = {"batch_size": 4, "epochs": 2, "validation": 1 / 7, "devices": ["cpu:0"], "bias_init": "caffe"}
    return train((IMAGES, LABELS), **(settings | {"progress": False} | changes))


@pytest.fixture(scope="module")
def undisturbed() -> TrainingResult:
    return short_run()


def assert_same_run(one: TrainingResult, other: TrainingResult) -> None:
    histories = [
        [(r.epoch, r.steps, r.lr, r.train_loss, r.validation_loss, r.validation_error) for r in result.history]
        for result in (one, other)
    ]
    assert histories[0] == histories[1]
    expected = other.model.net.parameters()
    for name, value in one.model.net.parameters().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def at(kind: str, step: int, act: Callable[[TrainingEvent], None]) -> Callable[[TrainingEvent], None]:
    def callback(event: TrainingEvent) -> None:
        if (event.kind, event.step) == (kind, step):
            act(event)

    return callback


def test_they_are_told_what_has_been_done(tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    result = short_run(callback=events.append, out=tmp_path)
    kinds = [*["step"] * STEPS, "evaluation", "epoch"]
    assert [event.kind for event in events] == kinds * 2
    assert [event.epoch for event in events] == [1] * len(kinds) + [2] * len(kinds)
    assert [event.step for event in events] == [1, 2, 3, 3, 3, 4, 5, 6, 6, 6]
    assert all(event.model is result.model for event in events)
    lines = [line for line in read_lines(tmp_path / "metrics.jsonl") if line["kind"] == "step"]
    steps = [event for event in events if event.kind == "step"]
    assert [(event.loss, event.lr) for event in steps] == [(line["loss"], line["lr"]) for line in lines]  # type: ignore[typeddict-item]
    epochs = [event for event in events if event.kind == "epoch"]
    assert [event.record for event in epochs] == result.history
    assert [(event.loss, event.lr) for event in epochs] == [(r.train_loss, r.lr) for r in result.history]
    for event, record in zip([event for event in events if event.kind == "evaluation"], result.history, strict=True):
        assert event.evaluation is not None
        assert (event.loss, event.evaluation.top1_error) == (record.validation_loss, record.validation_error)
    assert all((event.evaluation is None) == (event.kind != "evaluation") for event in events)
    assert all((event.record is None) == (event.kind != "epoch") for event in events)
    assert repr(events[0]).startswith("TrainingEvent(kind='step', epoch=1, step=1, loss=")


def test_where_nothing_is_held_out_nothing_is_evaluated() -> None:
    kinds: list[str] = []
    short_run(callback=lambda event: kinds.append(event.kind), validation=0, epochs=1)
    assert set(kinds) == {"step", "epoch"}


def test_what_they_compute_changes_nothing(undisturbed: TrainingResult) -> None:
    x = np.ones((2, 227, 227, 3), np.float32)

    def callback(event: TrainingEvent) -> str:
        event.model.net.features(x, "conv5_pre")
        return "what it returns is nobody's concern"

    assert_same_run(short_run(callback=callback, report_relus=True), undisturbed)


def test_an_epochs_checkpoint_is_there_when_it_is_told(tmp_path: Path) -> None:
    found: list[int] = []

    def callback(event: TrainingEvent) -> None:
        if event.kind == "epoch":
            found.append(load_model(tmp_path, devices=["cpu:0"]).net.step)

    short_run(callback=callback, out=tmp_path)
    assert found == [3, 6]


PLACES = [("step", 1), ("step", 5), ("evaluation", 3), ("epoch", 3), ("step", 6), ("evaluation", 6)]


@pytest.mark.parametrize(("kind", "step"), PLACES)
def test_a_stop_ends_the_run_as_ctrl_c_does(kind: str, step: int, tmp_path: Path, undisturbed: TrainingResult) -> None:
    stopped = short_run(callback=at(kind, step, TrainingEvent.stop), out=tmp_path)
    assert (stopped.stopped, stopped.signal, stopped.model.net.step) == ("interrupted", None, step)
    assert json.loads((tmp_path / "run.json").read_text())["stopped"] == "interrupted"
    assert load_model(tmp_path, devices=["cpu:0"]).net.step == step
    assert_same_run(short_run(out=tmp_path, resume=True), undisturbed)


@pytest.mark.parametrize(("kind", "step"), PLACES)
def test_an_exception_ends_it_so_too(kind: str, step: int, tmp_path: Path, undisturbed: TrainingResult) -> None:
    error = LookupError("nothing of the package's")

    def fail(_event: TrainingEvent) -> None:
        raise error

    with pytest.raises(LookupError) as raised:
        short_run(callback=at(kind, step, fail), out=tmp_path)
    assert raised.value is error
    assert "fail" in [entry.name for entry in raised.traceback], "the line in the callback is told"
    assert json.loads((tmp_path / "run.json").read_text())["stopped"] == "interrupted"
    assert newest_checkpoint(tmp_path) is not None
    assert load_model(tmp_path, devices=["cpu:0"]).net.step == step
    assert_same_run(short_run(out=tmp_path, resume=True), undisturbed)


def test_at_the_very_end_a_stop_changes_nothing(tmp_path: Path, undisturbed: TrainingResult) -> None:
    result = short_run(callback=at("epoch", 6, TrainingEvent.stop), out=tmp_path)
    assert result.stopped == "finished"
    assert json.loads((tmp_path / "run.json").read_text())["stopped"] == "finished"
    assert_same_run(result, undisturbed)


def test_an_exception_without_a_folder_is_raised_too() -> None:
    def fail(_event: TrainingEvent) -> None:
        raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        short_run(callback=fail)


def test_what_cannot_be_called_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="callback is 'print'; it must be a function"):
        short_run(callback="print", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
