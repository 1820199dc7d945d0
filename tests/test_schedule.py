"""Schedules: by plateau, from a text, from a file, and the 2012 run's; and what they say of wrong ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pyalexnet.architecture import parameter_shapes
from pyalexnet.training.schedule import (
    SHIPPED,
    FallingSchedule,
    FixedSchedule,
    PlateauSchedule,
    PolySchedule,
    Rates,
    Schedule,
    Stage,
    load_schedule,
    make_schedule,
    parse_fixed,
    summary,
    warm_up,
)


def rates_after(schedule: PlateauSchedule, errors: list[float | None]) -> list[float]:
    rates = []
    for error in errors:
        schedule.update(error)
        rates.append(schedule.at(0).lr)
    return rates


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "rates.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_plateau_divides_the_rate_by_ten() -> None:
    rates = rates_after(PlateauSchedule(1.0, patience=2), [0.5, 0.4, 0.4, 0.4, 0.39, 0.5, 0.5, 0.3])
    assert rates == [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01]


def test_plateau_ends_at_its_floor() -> None:
    papers = rates_after(PlateauSchedule(0.01, patience=1), [0.5] * 6)
    assert papers == [0.01, 0.001, 0.0001, 0.00001, 0.00001, 0.00001]
    assert rates_after(PlateauSchedule(1.0, patience=1, floor=0.03), [0.5] * 4) == [1.0, 0.1, 0.03, 0.03]


def test_nan_is_no_improvement_and_none_no_epoch() -> None:
    assert rates_after(PlateauSchedule(1.0, patience=2), [math.nan, math.nan, 0.5, math.nan, 0.4]) == [
        1.0, 0.1, 0.1, 0.1, 0.1,
    ]  # fmt: skip
    assert rates_after(PlateauSchedule(1.0, patience=1), [0.5, None, None, 0.5]) == [1.0, 1.0, 1.0, 0.1]


def test_without_patience_the_rate_stays() -> None:
    assert rates_after(PlateauSchedule(1.0, patience=0), [0.5] * 100) == [1.0] * 100


@pytest.mark.parametrize("stop_after", range(9))
def test_plateau_goes_on_from_its_state(stop_after: int) -> None:
    errors = [0.7, 0.3 + 0.1, 0.4, math.nan, 0.39, 0.5, 0.5, 0.3, 0.3]
    whole, first, second = (PlateauSchedule(0.03, patience=2) for _ in range(3))
    before = rates_after(first, list(errors[:stop_after]))
    second.load_state(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert before + rates_after(second, list(errors[stop_after:])) == rates_after(whole, list(errors))
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": None}, "lr is None"),
        ({"best_error": "low"}, "best_error is 'low'"),
        ({"epochs_without_improvement": -1}, "epochs_without_improvement is -1"),
        ({"epochs_without_improvement": 1.5}, "epochs_without_improvement is 1.5"),
        ({"extra": 1}, "state: extra is unknown; it must be one of lr, best_error, epochs_without_improvement"),
    ],
)
def test_wrong_plateau_state_is_refused_and_changes_nothing(change: dict[str, Any], message: str) -> None:
    schedule = PlateauSchedule(1.0, patience=2)
    schedule.update(0.5)
    before = schedule.state()
    with pytest.raises(ValueError, match=message):
        schedule.load_state({"lr": 0.1, "best_error": 0.2, "epochs_without_improvement": 1} | change)
    assert schedule.state() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be above 0 and finite"),
        ({"lr": math.nan}, "lr is nan"),
        ({"patience": -1}, "patience is -1; it must be at least 0"),
        ({"floor": 2.0}, "floor is 2.0; it must be from 0 to lr = 1"),
        ({"floor": math.nan}, "floor is nan"),
    ],
)
def test_wrong_plateau_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlateauSchedule(**({"lr": 1.0, "patience": 1} | arguments))


def test_falling_goes_evenly_to_its_floor() -> None:
    schedule = make_schedule("falling", lr=0.008, epochs=4)
    assert [schedule.at(epoch).lr for epoch in (0, 2, 4, 5)] == pytest.approx([0.008, 0.004004, 8e-6, 8e-6])
    assert make_schedule("falling", lr=0.008, epochs=4, floor=0.002).at(2).lr == pytest.approx(0.005)
    schedule.update(0.5)
    assert schedule.at(0).lr == 0.008  # no error makes a difference
    assert schedule.state() == {}
    schedule.load_state({})
    with pytest.raises(ValueError, match="a falling schedule has no state; got"):
        schedule.load_state({"lr": 1.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be above 0 and finite"),
        ({"floor": 2.0}, "floor is 2.0; it must be from 0 to lr = 1"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
    ],
)
def test_wrong_falling_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FallingSchedule(**({"lr": 1.0, "epochs": 3} | arguments))


def test_poly_goes_to_its_floor_with_the_square_of_what_is_left() -> None:
    schedule = make_schedule("poly", lr=8.0, epochs=4, floor=0)
    assert [schedule.at(epoch).lr for epoch in (0, 1, 2, 3, 4, 5)] == [8.0, 4.5, 2.0, 0.5, 0, 0]
    assert make_schedule("poly", lr=8.0, epochs=4).at(4).lr == pytest.approx(0.008)
    with pytest.raises(ValueError, match="a poly schedule has no state; got"):
        schedule.load_state({"lr": 1.0})


def test_warm_up_rises_evenly() -> None:
    assert [warm_up(step, 4) for step in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert [warm_up(step, 0) for step in (0, 1, 10**9)] == [1.0, 1.0, 1.0]


def test_warm_up_scales_every_rate_and_leaves_the_frozen_frozen() -> None:
    rates = Rates(0.01, {"conv1": 0.0, "fc8.bias": 0.02}, colour_noise=0.1)
    assert rates.scaled(0.5) == Rates(0.005, {"conv1": 0.0, "fc8.bias": 0.01}, colour_noise=0.1)
    assert rates.scaled(1.0) is rates


def test_factors_of_layers_are_applied_by_the_narrowest_name() -> None:
    assert Rates(0.5).for_step() == Rates(0.5).for_step({}) == 0.5
    rates = Rates(0.5).for_step({"conv1": 0.5, "conv1.bias": 3.0, "biases": 2.0, "fc8": 0.0})
    assert isinstance(rates, dict)
    own = {"conv1.weight": 0.25, "conv1.bias": 1.5, "fc8.weight": 0.0, "fc8.bias": 0.0}
    others = {name: 1.0 if name.endswith("bias") else 0.5 for name in parameter_shapes(2) if name not in own}
    assert rates == own | others
    # A stage's own rates are multiplied too, each by what its parameter has.
    staged = Rates(0.5, {"conv1": 0.25, "biases": 0.125}).for_step({"conv1.weight": 2.0, "conv2": 4.0})
    assert isinstance(staged, dict)
    expected = {"conv1.weight": 0.5, "conv1.bias": 0.25, "conv2.weight": 2.0, "conv2.bias": 0.5, "fc8.bias": 0.125}
    assert {name: staged[name] for name in expected} == expected


def test_text_gives_rates_by_epoch() -> None:
    schedule = parse_fixed("0.01@0, 0.001@0.8,1e-4@60")
    assert [schedule.at(epoch).lr for epoch in (0, 0.79, 0.8, 59.999, 60, 1000)] == [
        0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4,
    ]  # fmt: skip
    assert parse_fixed("0.5").at(7) == Rates(0.5)
    # Step 1500 of 1875 is where 0.8 begins, to the step: a quotient is rounded as a decimal is.
    assert [schedule.at(step / 1875).lr for step in (1499, 1500)] == [0.01, 0.001]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fast",
            r"schedule is 'fast'; it must be 'plateau', 'falling', 'poly', 'source2012', 'source2012-4gpu', a \.json",
        ),
        ("", "schedule is ''"),
        ("0.01@", "schedule is '0.01@'"),
        ("0.01@1", "stage 1: epoch is 1; the first stage must begin at 0"),
        ("0.01,0.001@5,0.0001@5", "stage 3: epoch is 5; it must be above the 5 of the stage before"),
        ("0.01,0.001@nan", "stage 2: epoch is nan"),
        ("0.01,-1@3", "stage 2: lr is -1.0; it must be at least 0"),
        ("inf", "stage 1: lr is inf"),
    ],
)
def test_wrong_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_fixed(text)


def test_file_gives_rates_by_layer(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        [
            {"epoch": 0, "lr": 0.01},
            {"epoch": 2, "lr": 0.001, "layers": {"conv1": 0, "fc8.bias": 0.5}, "colour_noise": 0},
            {"epoch": 4, "lr": 0.002},
        ],
    )
    schedule = load_schedule(path)
    assert schedule.at(1.999) == Rates(0.01)
    assert schedule.at(2) == Rates(0.001, {"conv1": 0, "fc8.bias": 0.5}, colour_noise=0)
    assert schedule.at(4) == Rates(0.002)  # a stage takes nothing from the one before
    assert schedule.at(1).for_step() == 0.01
    own = {"conv1.weight": 0, "conv1.bias": 0, "fc8.bias": 0.5}
    assert schedule.at(3).for_step() == dict.fromkeys(parameter_shapes(2), 0.001) | own


def test_a_range_stands_for_its_layers(tmp_path: Path) -> None:
    layers = {"conv4-fc6": 0, "fc7": 0.5, "conv5.bias": 0.25, "fc8-fc8": 0.125}
    rates = load_schedule(written(tmp_path, [GOOD | {"layers": layers}])).at(0)
    assert rates.by_layer == {"conv4": 0, "conv5": 0, "fc6": 0, "fc7": 0.5, "conv5.bias": 0.25, "fc8": 0.125}
    step = rates.for_step()
    assert isinstance(step, dict)
    assert (step["conv5.weight"], step["conv5.bias"], step["fc8.bias"]) == (0, 0.25, 0.125)


def test_biases_of_layers_that_are_not_named_have_a_rate_of_their_own(tmp_path: Path) -> None:
    layers = {"biases": 0.5, "conv1": 0, "conv2.weight": 0.25, "fc8.bias": 0.125}
    step = load_schedule(written(tmp_path, [GOOD | {"layers": layers}])).at(0).for_step()
    assert isinstance(step, dict)
    biases = {name: 0.5 for name in step if name.endswith(".bias")}
    expected = dict.fromkeys(parameter_shapes(2), 0.01) | biases
    own = {"conv1.weight": 0, "conv1.bias": 0, "conv2.weight": 0.25, "fc8.bias": 0.125}
    assert step == expected | own


GOOD = {"epoch": 0, "lr": 0.01}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", r"rates\.json is no JSON: EOF while parsing"),
        ('[{"epoch": 0, "lr": 1, "lr": 2}]', r"rates\.json is no JSON: 'lr' occurs twice in one object"),
        ({"epoch": 0}, r"rates\.json is {.*}; it must be a list"),
        ([], r"rates\.json is empty; it must have at least one stage"),
        ([GOOD, None], "stage 2 is None; it must be an object"),
        ([GOOD, {"lr": 0.1}], r"rates\.json: stage 2: epoch is missing"),
        ([GOOD, {"epoch": 3}], "stage 2: lr is missing"),
        ([GOOD, {"epoch": 3, "lr": "0.1"}], "stage 2: lr is '0.1'; it must be a number"),
        ([GOOD, {"epoch": 3, "lr": True}], "stage 2: lr is True"),
        ("[" + json.dumps(GOOD) + ', {"epoch": 3, "lr": NaN}]', "stage 2: lr is nan; it must be a finite number"),
        (
            [GOOD, {"epoch": 3, "rate": 1}],
            "stage 2: rate is unknown; it must be one of epoch, lr, layers, colour",
        ),
        ([GOOD, {"epoch": 3, "lr": 1, "layers": [1]}], r"stage 2: layers is \[1\]; it must be an object"),
        (
            [GOOD, {"epoch": 3, "lr": 1, "layers": {"conv9": 1}}],
            "stage 2: layers has 'conv9'; it must be biases, or one of conv1,",
        ),
        (
            [GOOD, {"epoch": 3, "lr": 1, "layers": {"conv1": -1}}],
            r"stage 2: layers\.conv1 is -1; it must be",
        ),
        ([GOOD, {"epoch": 3, "lr": 1, "colour_noise": None}], "stage 2: colour_noise is None"),
        ([GOOD, {"epoch": 3, "lr": 1}, {"epoch": 2, "lr": 1}], "stage 3: epoch is 2; it must be above the 3"),
        ([GOOD, {"epoch": 3.5, "lr": 1, "colour_noise": 0}], "stage 2: epoch is 3.5, but colour_noise changes"),
    ],
)
def test_wrong_file_is_refused_by_stage_and_field(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_schedule(written(tmp_path, content))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        make_schedule(str(tmp_path / "nowhere.json"), lr=0.01)
    (tmp_path / "rates.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"rates\.json is no JSON"):
        load_schedule(tmp_path / "rates.json")


def rates(schedule: Schedule, epoch: float) -> tuple[float, float, float, float, float | None]:
    """The rates of conv1's, conv2's and fc8's weights and of fc8's biases, and the colour noise."""
    now = schedule.at(epoch)
    step = now.for_step()
    by_parameter = step if isinstance(step, dict) else dict.fromkeys(parameter_shapes(2), step)
    conv1, conv2, fc8 = (by_parameter[f"{layer}.weight"] for layer in ("conv1", "conv2", "fc8"))
    return conv1, conv2, fc8, by_parameter["fc8.bias"], now.colour_noise


def test_source2012_replays_net_145_on_ilsvrc_2010() -> None:
    schedule = make_schedule("source2012", lr=0.01)
    assert rates(schedule, 0) == rates(schedule, 22.99) == (0.01, 0.01, 0.01, 0.01, None)
    assert rates(schedule, 23) == rates(schedule, 50.99) == (0.001, 0.001, 0.001, 0.001, None)
    assert rates(schedule, 51) == rates(schedule, 67.99) == (0.0001, 0.0001, 0.0001, 0.001, None)
    assert rates(schedule, 68) == rates(schedule, 71.99) == (0.00001, 0.0001, 0.0001, 0.001, 0)
    assert rates(schedule, 72) == rates(schedule, 77.99) == (0, 0.0001, 0.0001, 0.001, 0)
    assert rates(schedule, 78) == rates(schedule, 92.99) == (0, 0.00001, 0.00001, 0.001, 0)


def test_source2012_4gpu_replays_the_run_on_four_gpus() -> None:
    schedule = make_schedule("source2012-4gpu", lr=0.01)
    assert rates(schedule, 0) == rates(schedule, 21.99) == (0.01, 0.01, 0.01, 0.01, None)
    assert rates(schedule, 22) == rates(schedule, 48.99) == (0.001, 0.001, 0.001, 0.001, None)
    assert rates(schedule, 49) == rates(schedule, 65.99) == (0.0001, 0.0001, 0.0001, 0.001, None)
    assert rates(schedule, 66) == rates(schedule, 72.99) == (0.00001, 0.00001, 0.0001, 0.001, 0)
    assert rates(schedule, 73) == rates(schedule, 80.99) == (0, 0, 0.0001, 0.001, 0)
    assert rates(schedule, 81) == rates(schedule, 94.99) == (0, 0, 0.00001, 0.001, 0)


def test_a_description_makes_the_same_schedule() -> None:
    plateau = make_schedule(lr=0.5, patience=3, floor=0.1)
    again = make_schedule(plateau.description, lr=0.5, patience=3, floor=0.1)
    assert isinstance(again, PlateauSchedule)
    assert (again.lr, again.patience, again.floor) == (0.5, 3, 0.1)
    for text, kind in (("falling", FallingSchedule), ("poly", PolySchedule)):
        falling = make_schedule(make_schedule(text, lr=0.5, epochs=3).description, lr=0.5, epochs=3, floor=0.1)
        assert type(falling) is kind
        assert (falling.lr, falling.epochs, falling.floor) == (0.5, 3, 0.1)
    for text in ("0.01@0,0.003@0.25", *SHIPPED):
        fixed = make_schedule(text, lr=1)
        copy = make_schedule(json.loads(json.dumps(fixed.description)), lr=1)
        assert isinstance(fixed, FixedSchedule)
        assert isinstance(copy, FixedSchedule)
        assert copy.stages == fixed.stages


def test_fixed_schedules_have_no_state() -> None:
    schedule: Schedule = FixedSchedule([Stage(0, Rates(0.1))])
    schedule.update(math.nan)
    assert schedule.state() == {}
    schedule.load_state({})
    with pytest.raises(ValueError, match="a fixed schedule has no state; got"):
        schedule.load_state(PlateauSchedule(0.1, 1).state())


def test_summaries_are_short() -> None:
    assert summary("plateau") == "plateau"
    last = make_schedule("source2012", lr=1).description[-1:]
    assert isinstance(last, list)
    assert summary(last) == "1e-05@78 (conv1 0, biases 0.001, colour noise 0)"
