"""Ablations in small, on real digits: what is measured is kept, continued and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyalexnet.errors import DataError
from pyalexnet.study.ablation import PAPERS_NET, VARIANTS, Ablation, Lap, Plan, Trial, ablate
from pyalexnet.study.ablation_tables import race_rows, run_rows, search_rows

SMALL = Plan(
    images=4,
    held_out=4,
    epochs=1,
    batch_size=1,
    lrs=(0.003, 1e6),
    seeds=(0, 1),
    race_lrs=(0.003, 1e6),
    race_error=0.95,
    race_steps=25,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ablation, list[Lap | Trial]]:
    out, results = tmp_path_factory.mktemp("ablation") / "found.json", []
    return out, ablate("digits", SMALL, out=out, devices=["cpu:0"], on_result=results.append), results


def test_all_is_measured_once(measured: tuple[Path, Ablation, list[Lap | Trial]]) -> None:
    _, found, results = measured
    assert results == [*found.laps, *found.trials]
    assert [(lap.activation, lap.lr) for lap in found.laps] == [
        ("relu", 0.003),
        ("relu", 1e6),
        ("tanh", 0.003),
        ("tanh", 1e6),
    ]
    names = [variant.name for variant in VARIANTS]
    assert [(trial.variant, trial.seed, trial.lr) for trial in found.trials] == [
        *((name, 0, lr) for name in names for lr in SMALL.lrs),
        *((name, 1, found.best_lr(name)) for name in names),
    ]
    for trial in found.trials:
        errors = (trial.train_error, trial.held_out_error)
        measured = all(error is not None and 0 <= error <= 1 for error in errors)
        assert measured or (trial.lr, *errors) == (1e6, None, None)
    # Rates that differ by eight orders are not both reached in the same way; 1e6 diverges in a net of ReLUs.
    relu = {lap.lr: lap.steps for lap in found.laps if lap.activation == "relu"}
    assert relu[1e6] is None
    assert found.search(PAPERS_NET.name)[1].held_out_error is None
    assert found.best_lr(PAPERS_NET.name) == 0.003
    assert relu[0.003] is not None
    assert 20 <= relu[0.003] <= SMALL.race_steps


def test_measurements_are_repeatable_and_are_continued(measured: tuple[Path, Ablation, list[Lap | Trial]]) -> None:
    out, found, _ = measured
    content = json.loads(out.read_text())
    kept_laps, kept_trials = content["laps"][:3], content["trials"][:-2]
    out.write_text(json.dumps({**content, "laps": kept_laps, "trials": kept_trials}))
    begun: list[tuple[str, int]] = []
    results: list[Lap | Trial] = []
    again = ablate(
        "digits",
        SMALL,
        out=out,
        devices=["cpu:0"],
        on_begin=lambda name, done: begun.append((name, done)),
        on_result=results.append,
    )
    assert results == [*again.laps[3:], *again.trials[-2:]]
    assert begun[0] == ("tanh at lr 1e+06", SMALL.measurements - 3)
    assert begun[-1] == ("no dropout at lr 0.003, seed 1", SMALL.measurements - 1)

    def without_speed(one: Ablation) -> list[tuple[object, ...]]:
        return [(t.variant, t.seed, t.lr, t.train_error, t.held_out_error) for t in one.trials]

    assert [(lap.activation, lap.lr, lap.steps) for lap in again.laps] == [
        (lap.activation, lap.lr, lap.steps) for lap in found.laps
    ]
    assert without_speed(again) == without_speed(found)


def test_files_of_other_plans_are_refused(measured: tuple[Path, Ablation, list[Lap | Trial]], tmp_path: Path) -> None:
    out, _, _ = measured
    with pytest.raises(DataError, match=r"found\.json was made with Plan\(images=4"):
        ablate("digits", Plan(images=49), out=out, devices=["cpu:0"])
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DataError, match=r"other\.json is \[\]; it must be an object; name another file"):
        ablate("digits", SMALL, out=tmp_path / "other.json", devices=["cpu:0"])


def test_tables_show_means_and_differences() -> None:
    plan = Plan(lrs=(0.1, 0.2, 0.4), seeds=(0, 1), race_lrs=(0.1, 0.2))
    laps = [
        Lap(activation, lr, steps, 10.0)
        for activation, lr, steps in (("relu", 0.1, 50), ("relu", 0.2, 40), ("tanh", 0.1, None), ("tanh", 0.2, 300))
    ]
    trials = [
        trial
        for number, variant in enumerate(VARIANTS)
        for trial in (
            Trial(variant.name, 0, 0.1, 0.5, 0.5, 20.0),
            Trial(variant.name, 0, 0.2, 0.125, 0.25 + 0.01 * number, 20.0),
            Trial(variant.name, 0, 0.4, None, None, 20.0),
            Trial(variant.name, 1, 0.2, 0.125, 0.27 + 0.01 * number, 60.0),
        )
    ]
    found = Ablation("digits", ("a device",), plan, laps, trials)
    assert found.seconds == 640
    assert search_rows(found)[0] == (PAPERS_NET.name, "50.00%", "25.00%", "diverged", "lr 0.2")
    assert race_rows(found) == [("relu", "50", "40", "40"), ("tanh", "not reached", "300", "300")]
    assert run_rows(found)[0] == (PAPERS_NET.name, "", "26.00%", "25.00% 27.00%", "12.50%", "")
    assert run_rows(found)[2] == ("no LRN", "3.3", "28.00%", "27.00% 29.00%", "12.50%", "+2.00 points")


def test_a_run_that_diverged_has_no_mean() -> None:
    plan = Plan(lrs=(0.1,), seeds=(0, 1))
    trials = [
        Trial(variant.name, seed, 0.1, error, error, 20.0)
        for variant in VARIANTS
        for seed, error in ((0, 0.25), (1, None if variant.name == "no LRN" else 0.27))
    ]
    found = Ablation("digits", ("a device",), plan, [], trials)
    assert run_rows(found)[2] == ("no LRN", "3.3", "diverged", "25.00% diverged", "diverged", "")
    assert run_rows(found)[3][-1] == "+0.00 points"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 0}, "images is 0; it must be at least 1"),
        ({"batch_size": 5000}, "batch_size is 5000; it must be at most images, 2000"),
        ({"lrs": (0.01, 0.0)}, r"lrs is \(0\.01, 0\.0\); it must be rates above 0 and finite"),
        ({"race_lrs": (0.1, 0.1)}, r"race_lrs is \(0\.1, 0\.1\); it must be one number or several different ones"),
        ({"seeds": ()}, r"seeds is \(\); it must be one number or several different ones"),
        ({"seeds": (1, 1)}, r"seeds is \(1, 1\); it must be one number or several different ones"),
        ({"race_error": 1.0}, "race_error is 1.0; it must be above 0 and below 1"),
    ],
)
def test_plans_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**changes)  # type: ignore[arg-type]
