"""A run's folder is read back as it was written; what is damaged or missing is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pyalexnet.errors import DataError
from pyalexnet.training.record import load_run


def test_a_run_is_read_back(digits_run: Path) -> None:
    run = load_run(digits_run)
    written = json.loads((digits_run / "run.json").read_text())
    assert (run.stopped, run.steps) == ("finished", 15)
    assert run.settings.schedule == [{"epoch": 0.0, "lr": 0.005}, {"epoch": 0.75, "lr": 0.0005}]
    assert [vars(record) for record in run.history] == written["history"]
    assert run.best == run.history[0]
    assert run.data["source"] == "digits"
    assert run.data["training"]["images"] == 191
    assert run.log.steps.tolist() == list(range(1, 16))
    assert run.log.rates.tolist() == [0.005] * 12 + [0.0005] * 3
    assert run.history[0].train_loss == pytest.approx(run.log.losses.mean(), rel=1e-12)


@pytest.fixture
def copied(digits_run: Path, tmp_path: Path) -> Path:
    for name in ("run.json", "metrics.jsonl"):
        shutil.copy(digits_run / name, tmp_path / name)
    return tmp_path


def test_a_torn_log_is_read_up_to_there(copied: Path) -> None:
    path = copied / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "step", "ti')
    assert len(load_run(copied).log.steps) == 15


def test_losses_that_are_not_finite_are_nan(copied: Path) -> None:
    path = copied / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {"loss": "Infinity"})
    path.write_text("\n".join(lines) + "\n")
    losses = load_run(copied).log.losses
    assert np.flatnonzero(np.isnan(losses)).tolist() == [3]


def test_a_run_without_a_log_has_no_steps(copied: Path) -> None:
    (copied / "metrics.jsonl").unlink()
    assert len(load_run(copied).log.steps) == 0


def test_what_is_no_run_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere holds no run: there is no run\.json in it"):
        load_run(tmp_path / "nowhere")
    whole = json.loads((copied / "run.json").read_text())
    settings, (record,) = whole["settings"], whole["history"]
    for content, message in (
        {
            "{": r"run\.json is no JSON",
            "[" * 10**5: r"run\.json is no JSON: recursion limit exceeded",
            "[]": r"run\.json is \[\]; it must be an object",
            json.dumps({**whole, "history": [{}]}): r"run\.json: history\[0\]\.epoch is missing",
            json.dumps(
                {**whole, "history": [record | {"steps": -5}]}
            ): r"history\[0\]\.steps is -5; it must be at least 0",
            json.dumps({**whole, "history": [record | {"epoch": 2}]}): r"history\[0\]\.epoch is 2; it must be 1",
            json.dumps(
                {**whole, "steps": 14}
            ): r"run\.json: steps is 14; it must be at least those of the last epoch, 15",
            json.dumps({**whole, "stopped": "done"}): r"stopped is 'done'; it must be 'running', ",
            json.dumps({**whole, "settings": None}): r"run\.json: settings is None; it must be an object",
            json.dumps({name: value for name, value in whole.items() if name != "data"}): r"run\.json: data is missing",
        }
        | {
            json.dumps({**whole, "settings": settings | change}): message
            for change, message in (
                ({"devices": "cpu"}, r"run\.json: settings\.devices is 'cpu'; it must be a list"),
                ({"devices": ["tpu:0"]}, r"settings\.devices is \('tpu:0',\); it must be one or two names such"),
                ({"num_classes": 9}, r"settings\.num_classes is 9; it must be at least 10"),
                ({"lr": -1}, r"run\.json: settings: lr is -1\.0; it must be above 0"),
                ({"net_options": {"towers": 5}}, r"settings\.net_options\.towers is 5; it must be 2 or 1"),
                ({"net_options": {"tower": 1}}, r"settings\.net_options\.tower is unknown"),
                (
                    {"net_options": {"second_lrn": True, "lrn": False}},
                    r"settings\.net_options: second_lrn is True, but lrn is False",
                ),
            )
        }
    ).items():
        (copied / "run.json").write_text(content)
        with pytest.raises(DataError, match=message):
            load_run(copied)
    (copied / "run.json").write_text(json.dumps(whole))
    (copied / "metrics.jsonl").write_text("no log\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl.* line 1 is no JSON"):
        load_run(copied)
    for line, message in {
        '{"kind": "step", "step": 1}': "the line of step 1: loss is missing",
        '{"kind": "step", "step": 1, "loss": "low", "lr": 1}': "loss is 'low'; it must be a number or 'NaN'",
        '{"kind": "step", "step": -1, "loss": 1, "lr": 1}': "line 1: step is -1; it must be at least 0",
        '{"kind": "step", "step": 1, "loss": 1, "lr": [1]}': r"lr is \[1\]; it must be a number",
        "\n".join(['{"kind": "step", "step": 1, "loss": 1, "lr": 1}'] * 2): "step is 1; it must be above that of the",
    }.items():
        (copied / "metrics.jsonl").write_text(f"{line}\n")
        with pytest.raises(DataError, match=message):
            load_run(copied)
