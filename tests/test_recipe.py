"""Recipes and presets, settings by way of JSON, and what changed between two runs."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from pyalexnet.architecture import Options
from pyalexnet.data import opening
from pyalexnet.net.network import AlexNet
from pyalexnet.system.json_file import JsonFormat
from pyalexnet.training.recipe import (
    DIGITS,
    EMOJI,
    FASHION_MNIST,
    MOST_EPOCHS,
    PAPER,
    PAPER_CLASSES,
    PAPER_IMAGES,
    PRESETS,
    SMALL,
    SMALL_IMAGES,
    Recipe,
    reason_for,
    recipe_for,
    recipe_of,
)
from pyalexnet.training.schedule import make_schedule
from pyalexnet.training.settings import Settings, differences

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
    "lrn_over": "tower",
    "pool_before_lrn": False,
    "lrn_k": 2.0,
    "second_lrn": False,
    "relu1_last": False,
    "crop": 227,
    "conv1_padding": 0,
    "colour_deviation": "none",
    "filters": "2012",
    "conv_algorithm": "auto",
    "precision": "fp32",
    "activation": "relu",
    "pooling": "overlapping",
    "lrn": True,
    "towers": 2,
    "bias_update": "paper",
    "dropout": 0.5,
    "epochs": 90,
    "batch_size": 128,
    "lr": 0.01,
    "lr_layers": {},
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "plateau",
    "patience": 5,
    "warmup": 0,
    "lars": None,
    "floor": None,
    "reflect": True,
    "colour_noise": 0.1,
    "colour_noise_scaled": False,
    "subtract_mean": True,
    "validation": 0.1,
}


# By preset, its batch and its warm-up.
LARGE_BATCHES = {"lars4096": (4096, 1250), "lars8192": (8192, 600)}


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
        *(
            (
                preset,
                {
                    "weight_init": "caffe",
                    "bias_init": "caffe",
                    "lrn_alpha": "caffe",
                    "lrn_k": 1.0,
                    "colour_noise": 0.0,
                    "batch_size": batch_size,
                    "lr": 10.0,
                    "warmup": warmup,
                    "lars": 0.001,
                    "schedule": "poly",
                    "floor": 0.0,
                    "epochs": 100,
                },
            )
            for preset, (batch_size, warmup) in LARGE_BATCHES.items()
        ),
    ],
)
def test_presets_are_their_sources(preset: str, changes: dict[str, Any]) -> None:
    values = asdict(PRESETS[preset])
    assert values | asdict(Options(**values.pop("net_options"))) == PAPERS | changes


def test_all_presets_are_tested() -> None:
    assert list(PRESETS) == ["paper", "notes", "source2012", "caffe", *LARGE_BATCHES]
    assert PRESETS["paper"] is PAPER


@pytest.mark.parametrize("recipe", [*PRESETS.values(), DIGITS, EMOJI, FASHION_MNIST, SMALL, recipe_for(60_000, 10)])
def test_recipes_hold_together(recipe: Recipe) -> None:
    rates = {name: getattr(recipe, name) for name in ("lr", "patience", "floor", "epochs")}
    schedule = make_schedule(recipe.schedule, **rates)
    last_step = recipe.epochs - 1e-4  # of 10,000 an epoch
    assert 0 < schedule.at(last_step).lr <= schedule.at(0).lr


# From a handful of images to more than ImageNet has, each a twentieth more than the one before.
SIZES = sorted({round(2 * 1.05**power) for power in range(280)})


def test_the_largest_sets_have_the_papers_recipe() -> None:
    assert SIZES[-1] > PAPER_IMAGES
    assert recipe_for(1_281_167, 1000) is PAPER
    assert recipe_for(PAPER_IMAGES, PAPER_CLASSES) is PAPER


def test_few_classes_never_have_the_papers_biases() -> None:
    """With them, few classes and its rate the loss explodes, however many images there are."""
    recipe = recipe_for(10 * PAPER_IMAGES, PAPER_CLASSES - 1)
    assert recipe.net_options["bias_init"] == "caffe"
    assert (recipe.epochs, recipe.batch_size, recipe.net_options["dropout"]) == (PAPER.epochs, PAPER.batch_size, 0.5)


@pytest.mark.parametrize("classes", [2, 10, 50, 1000])
def test_nothing_jumps_from_one_size_to_the_next(classes: int) -> None:
    recipes = [recipe_for(images, classes) for images in SIZES]
    for name in ("batch_size", "lr", "epochs"):
        values = [getattr(recipe, name) for recipe in recipes]
        for images, value, following in zip(SIZES, values, values[1:], strict=False):
            # What is a whole number may go by 1, or by the 8 images in which batches grow.
            step = 8 if name == "batch_size" else 1 if name == "epochs" else 0
            assert abs(following - value) <= max(step, 0.1 * value), (name, images)


@pytest.mark.parametrize("classes", [2, 50, 1000])
def test_more_images_never_get_less(classes: int) -> None:
    recipes = [recipe_for(images, classes) for images in SIZES]
    for name in ("batch_size", "lr"):
        values = [getattr(recipe, name) for recipe in recipes]
        assert values == sorted(values), name
    dropouts = [Options(**recipe.net_options).dropout for recipe in recipes]
    assert dropouts == sorted(dropouts)
    beyond = [(images, recipe) for images, recipe in zip(SIZES, recipes, strict=True) if images > SMALL_IMAGES]
    work = [images * recipe.epochs for images, recipe in beyond]
    assert work == sorted(work)


def test_fc8_takes_larger_steps_where_classes_are_many() -> None:
    factors = [recipe_for(1000, classes).lr_layers["fc8"] for classes in (2, 6, 10, 50, 1000)]
    assert factors == [0.05, 0.09, 0.11, 0.25, 1.0]
    assert recipe_for(10**7, 2).lr_layers == recipe_for(1000, 2).lr_layers == SMALL.lr_layers
    assert recipe_for(10**7, PAPER_CLASSES).lr_layers == {}


@pytest.mark.parametrize(
    ("images", "classes", "why"),
    [
        (SMALL_IMAGES, 50, "14,000 images of 50 classes (too few for the paper's recipe)"),
        (SMALL_IMAGES + 1, 1000, "14,001 images of 1,000 classes (between few images' recipe and the paper's)"),
        (10**7, 10, "10,000,000 images of 10 classes (between few images' recipe and the paper's)"),
        (1_281_167, 1000, "1,281,167 images of 1,000 classes (about as many as the paper's)"),
    ],
)
def test_the_size_gives_a_reason(images: int, classes: int, why: str) -> None:
    assert reason_for(images, classes) == why


def test_few_images_are_seen_as_often_as_the_time_allows() -> None:
    for images in range(2, SMALL_IMAGES + 1, 7):
        recipe = recipe_for(images, 2)
        assert SMALL_IMAGES / 2 < images * recipe.epochs <= SMALL_IMAGES or recipe.epochs == MOST_EPOCHS
        assert 1 <= recipe.batch_size <= images


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
            "preset is 'alexnet'; it must be one of 'paper', 'notes', 'source2012', 'caffe', 'lars4096', ",
        ),
        ({"floor": 0.02}, r"floor is 0\.02; it must be from 0 to lr = 0\.01"),
        ({"schedule": [{"epoch": 0}]}, "schedule: stage 1: lr is missing"),
        ({"lr": math.nan}, "lr is nan; it must be above 0 and finite"),
        ({"colour_noise": math.nan}, "colour_noise is nan"),
        ({"patience": -1}, "patience is -1"),
        ({"warmup": -1}, "warmup is -1; it must be at least 0"),
        ({"lr_layers": {"conv9": 1.0}}, "lr_layers has 'conv9'; it must be biases, or one of conv1, conv2, "),
        ({"lr_layers": {"conv4-conv2": 1.0}}, "lr_layers has 'conv4-conv2'; it must be biases, or one of conv1, "),
        ({"lr_layers": {"conv1-biases": 1.0}}, "lr_layers has 'conv1-biases'; it must be biases, or one of conv1, "),
        ({"lr_layers": {"conv1-conv3": 1.0, "conv3": 0.0}}, "lr_layers has conv3 twice; it must have each layer once"),
        ({"lr_layers": {"fc8": math.nan}}, r"lr_layers\['fc8'\] is nan; it must be at least 0 and finite"),
        ({"lr_layers": {"fc8": -1.0}}, r"lr_layers\['fc8'\] is -1\.0; it must be at least 0 and finite"),
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
        lr_layers={"conv1": 0.1, "fc8": 2.0},
        net_options={"bias_init": "caffe", "dropout": 0.0},
    )
    assert differences(SETTINGS, now) == [
        "lr was 0.01 and is 0.02",
        "devices was cpu:0 and is cuda:0, cuda:1",
        "schedule was plateau and is 0.01@0, 0.001@2",
        "lr_layers was none and is conv1 0.1, fc8 2",
        "dropout was 0.5 and is 0.0",
    ]
    assert differences(SETTINGS, now, ignoring={"devices", "dropout"}) == [
        "lr was 0.01 and is 0.02",
        "schedule was plateau and is 0.01@0, 0.001@2",
        "lr_layers was none and is conv1 0.1, fc8 2",
    ]


def test_what_is_the_same_is_no_difference() -> None:
    assert differences(SETTINGS, SETTINGS) == []
    spelt_out = replace(SETTINGS, net_options=asdict(Options(bias_init="caffe")))
    assert differences(SETTINGS, spelt_out) == []


def test_every_data_set_with_a_name_has_a_recipe() -> None:
    recipes = {name: recipe_of(name, None) for name in opening._NAMED}
    assert recipes == {"digits": DIGITS, "emoji": EMOJI, "fashion-mnist": FASHION_MNIST}
    assert recipe_of("emoji", "paper") == PAPER
