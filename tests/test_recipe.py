"""Recipes and presets, settings by way of JSON, and what changed between two runs."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from pyalexnet.architecture import Options
from pyalexnet.data import dataset
from pyalexnet.json_file import JsonFormat
from pyalexnet.network import AlexNet
from pyalexnet.recipe import DIGITS, EMOJI, FASHION_MNIST, PAPER, PRESETS, Recipe, Settings, differences
from pyalexnet.schedule import make_schedule
from pyalexnet.training import recipe_of

SETTINGS = Settings(
    epochs=3,
    batch_size=32,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    patience=5,
    devices=("cpu:0",),
    seed=0,
    num_classes=10,
    reflect=True,
    colour_noise=0.1,
    subtract_mean=True,
    net_options={"bias_init": "caffe"},
)

# The paper's own; the others are told by what differs.
PAPERS = {
    "weight_init": "paper",
    "bias_init": "paper",
    "lrn_alpha": "paper",
    "pool_before_lrn": False,
    "lrn_k": 2.0,
    "second_lrn": False,
    "relu1_last": False,
    "crop": 227,
    "activation": "relu",
    "pooling": "overlapping",
    "lrn": True,
    "towers": 2,
    "bias_update": "paper",
    "dropout": 0.5,
    "epochs": 90,
    "batch_size": 128,
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "plateau",
    "patience": 5,
    "floor": None,
    "reflect": True,
    "colour_noise": 0.1,
    "colour_noise_scaled": False,
    "subtract_mean": True,
    "validation": 0.1,
}


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("paper", {}),
        ("notes", {"weight_init": "notes", "bias_init": "notes", "subtract_mean": False}),
        (
            "source2012",
            {
                "weight_init": "source2012",
                "lrn_alpha": "caffe",
                "second_lrn": True,
                "relu1_last": True,
                "crop": 224,
                "bias_update": "source2012",
                "colour_noise_scaled": True,
                "epochs": 93,
                "schedule": "source2012",
            },
        ),
        (
            "caffe",
            {
                "weight_init": "caffe",
                "bias_init": "caffe",
                "lrn_alpha": "caffe",
                "lrn_k": 1.0,
                "bias_update": "source2012",
                "colour_noise": 0.0,
                "batch_size": 256,
                "schedule": "0.01@0,0.001@20,0.0001@40,0.00001@60,0.000001@80",
            },
        ),
    ],
)
def test_presets_are_their_sources(preset: str, changes: dict[str, Any]) -> None:
    values = asdict(PRESETS[preset])
    assert values | asdict(Options(**values.pop("net_options"))) == PAPERS | changes


def test_all_presets_are_tested() -> None:
    assert list(PRESETS) == ["paper", "notes", "source2012", "caffe"]
    assert PRESETS["paper"] is PAPER


@pytest.mark.parametrize("recipe", [*PRESETS.values(), DIGITS, EMOJI, FASHION_MNIST])
def test_recipes_hold_together(recipe: Recipe) -> None:
    schedule = make_schedule(recipe.schedule, lr=recipe.lr, patience=recipe.patience, floor=recipe.floor)
    assert 0 < schedule.at(recipe.epochs).lr <= schedule.at(0).lr


def test_notes_diverges_within_three_steps(rng: np.random.Generator) -> None:
    net = AlexNet(10, **PRESETS["notes"].net_options)
    pixels = rng.integers(0, 256, (4, 227, 227, 3)).astype(np.float32)  # raw: the preset subtracts no mean
    losses = [net.train_step(pixels, np.arange(4), lr=PRESETS["notes"].lr) for _ in range(3)]
    assert losses[0] > 1e4  # ln(10) = 2.3 is where a net should begin
    assert not math.isfinite(losses[-1])


def test_settings_survive_json() -> None:
    for schedule in ("plateau", "source2012", "0.01@0,0.001@0.5"):
        settings = replace(SETTINGS, schedule=make_schedule(schedule, lr=0.01).description, preset="caffe")
        assert JsonFormat(Settings, 0, ValueError).check(asdict(settings), "settings") == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"preset": "alexnet"},
            "preset is 'alexnet'; it must be one of 'paper', 'notes', 'source2012', 'caffe', or None",
        ),
        ({"floor": 0.02}, r"floor is 0\.02; it must be from 0 to lr = 0\.01"),
        ({"schedule": [{"epoch": 0}]}, "schedule: stage 1: lr is missing"),
        ({"lr": math.nan}, "lr is nan; it must be above 0 and finite"),
        ({"colour_noise": math.nan}, "colour_noise is nan"),
        ({"patience": -1}, "patience is -1"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **change)


def test_differences_are_readable() -> None:
    stages = make_schedule("0.01,0.001@2", lr=0.01).description
    now = replace(
        SETTINGS,
        lr=0.02,
        devices=("cuda:0", "cuda:1"),
        schedule=stages,
        net_options={"bias_init": "caffe", "dropout": 0.0},
    )
    assert differences(SETTINGS, now) == [
        "lr was 0.01 and is 0.02",
        "devices was cpu:0 and is cuda:0, cuda:1",
        "schedule was plateau and is 0.01@0, 0.001@2",
        "dropout was 0.5 and is 0.0",
    ]
    assert differences(SETTINGS, now, ignoring={"devices", "dropout"}) == [
        "lr was 0.01 and is 0.02",
        "schedule was plateau and is 0.01@0, 0.001@2",
    ]


def test_what_is_the_same_is_no_difference() -> None:
    assert differences(SETTINGS, SETTINGS) == []
    spelt_out = replace(SETTINGS, net_options=asdict(Options(bias_init="caffe")))
    assert differences(SETTINGS, spelt_out) == []


def test_every_data_set_with_a_name_has_a_recipe() -> None:
    recipes = {name: recipe_of(name, None) for name in dataset._NAMED}
    assert recipes == {"digits": DIGITS, "emoji": EMOJI, "fashion-mnist": FASHION_MNIST}
    assert recipe_of("emoji", "paper") == PAPER
