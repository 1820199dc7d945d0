"""Ablations in small, on real digits: what is measured is kept, continued and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyalexnet.ablation import PAPERS_NET, VARIANTS, Ablation, Lap, Plan, Trial, ablate
from pyalexnet.cli.ablate import race_rows, run_rows
from pyalexnet.errors import DataError

SMALL = Plan(
    images=48,
    held_out=20,
    epochs=1,
    batch_size=16,
    seeds=(0,),
    race_lrs=(0.003, 100.0),
    race_error=0.95,
    race_steps=30,
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
        ("relu", 100.0),
        ("tanh", 0.003),
        ("tanh", 100.0),
    ]
    assert [trial.variant for trial in found.trials] == [variant.name for variant in VARIANTS]
    for trial in found.trials:
        assert 0 <= trial.train_error <= 1
        assert 0 <= trial.held_out_error <= 1
    # Rates that differ by four orders are not both reached in the same way; 100 diverges in a net of ReLUs.
    relu = {lap.lr: lap.steps for lap in found.laps if lap.activation == "relu"}
    assert relu[100.0] is None
    assert relu[0.003] is not None
    assert 20 <= relu[0.003] <= SMALL.race_steps


def test_measurements_are_repeatable_and_are_continued(measured: tuple[Path, Ablation, list[Lap | Trial]]) -> None:
    out, found, _ = measured
    content = json.loads(out.read_text())
    kept_laps, kept_trials = content["laps"][:2], content["trials"][:3]
    out.write_text(json.dumps({**content, "laps": kept_laps, "trials": kept_trials}))
    results: list[Lap | Trial] = []
    again = ablate("digits", SMALL, out=out, devices=["cpu:0"], on_result=results.append)
    assert results == [*again.laps[2:], *again.trials[3:]]

    def without_speed(one: Ablation) -> list[tuple[object, ...]]:
        return [(t.variant, t.seed, t.train_error, t.held_out_error) for t in one.trials]

    assert [(lap.activation, lap.lr, lap.steps) for lap in again.laps] == [
        (lap.activation, lap.lr, lap.steps) for lap in found.laps
    ]
    assert without_speed(again) == without_speed(found)


def test_files_of_other_plans_are_refused(measured: tuple[Path, Ablation, list[Lap | Trial]], tmp_path: Path) -> None:
    out, _, _ = measured
    with pytest.raises(DataError, match=r"found\.json was made with Plan\(images=48"):
        ablate("digits", Plan(images=49), out=out, devices=["cpu:0"])
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DataError, match=r"other\.json holds no ablation"):
        ablate("digits", SMALL, out=tmp_path / "other.json", devices=["cpu:0"])


def test_tables_show_means_and_differences() -> None:
    plan = Plan(seeds=(0, 1), race_lrs=(0.1, 0.2))
    laps = [
        Lap(activation, lr, steps, 10.0)
        for activation, lr, steps in (("relu", 0.1, 50), ("relu", 0.2, 40), ("tanh", 0.1, None), ("tanh", 0.2, 300))
    ]
    trials = [
        Trial(variant.name, seed, 0.125, 0.25 + 0.01 * number + 0.02 * seed, 50.0, 60.0)
        for number, variant in enumerate(VARIANTS)
        for seed in plan.seeds
    ]
    found = Ablation("digits", "a device", plan, laps, trials)
    assert found.seconds == 640
    assert race_rows(found) == [("relu", "50", "40", "40"), ("tanh", "over 400", "300", "300")]
    assert run_rows(found)[0] == (PAPERS_NET.name, "", "26.00%", "25.00% 27.00%", "12.50%", "")
    assert run_rows(found)[2] == ("no LRN", "3.3", "28.00%", "27.00% 29.00%", "12.50%", "+2.00 points")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 0}, "images is 0; it must be at least 1"),
        ({"batch_size": 5000}, "batch_size is 5000; it must be at most images, 2000"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0 and finite"),
        ({"seeds": ()}, r"seeds is \(\); it must be at least one number"),
        ({"race_error": 1.0}, "race_error is 1.0; it must be above 0 and below 1"),
    ],
)
def test_plans_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**changes)  # type: ignore[arg-type]
