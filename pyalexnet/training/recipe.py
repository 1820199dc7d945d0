"""Recipes: what fills in the settings of a training run that it is not told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from typing_extensions import Unpack

from pyalexnet.architecture import OptionArguments, Options
from pyalexnet.data import DataSource, Digits
from pyalexnet.data.choice import DataChoice, Reading, choose_data
from pyalexnet.data.digits import TEST_FRACTION
from pyalexnet.data.opening import is_name
from pyalexnet.ops.sgd import MOMENTUM, WEIGHT_DECAY
from pyalexnet.system.checks import at_least, require
from pyalexnet.training.schedule import FALLING, PLATEAU, POLY


@dataclass(frozen=True)
class Recipe:
    """What :func:`train` uses where it is told nothing else; each default is the paper's.

    Attributes are those of :class:`pyalexnet.training.settings.Settings` that sources and sizes say something of, with
    the schedule as :func:`pyalexnet.training.schedule.make_schedule` takes it, and ``validation``, the part of the data
    that is held out. ``net_options`` are those that differ from the paper's.
    """

    epochs: int = 90
    batch_size: int = 128
    lr: float = 0.01
    lr_layers: dict[str, float] = field(default_factory=dict)
    warmup: int = 0
    lars: float | None = None
    momentum: float = MOMENTUM
    weight_decay: float = WEIGHT_DECAY
    schedule: str = PLATEAU
    patience: int = 5
    floor: float | None = None
    reflect: bool = True
    colour_noise: float = 0.1
    colour_noise_scaled: bool = False
    subtract_mean: bool = True
    validation: float = 0.1
    net_options: OptionArguments = field(default_factory=OptionArguments)

    def values(self) -> dict[str, Any]:
        """All settings and all options of the net by name, those that are the paper's too."""
        return vars(self) | vars(Options(**self.net_options))


PAPER = Recipe()

# The reading notes on the paper. Its weights are ten times larger than the paper's, and training ends with a
# DivergedError within a few steps: the preset shows that, and is of no other use.
NOTES = Recipe(subtract_mean=False, net_options={"weight_init": "notes", "bias_init": "notes"})

# Net 145 of the 2012 source code, with the schedule of its run on ILSVRC-2010, which reached the paper's errors: 37.5%
# top-1 and 17.0% top-5.
SOURCE2012 = Recipe(
    epochs=93,
    schedule="source2012",
    colour_noise_scaled=True,
    net_options={
        "weight_init": "source2012",
        "lrn_alpha": "caffe",
        "second_lrn": True,
        "relu1_last": True,
        "crop": 224,
        "bias_update": "source2012",
    },
)

# BVLC AlexNet, whose rate falls after each 100,000 steps of 256 images: 20 epochs of 1.28 million. CaffeNet is the same
# with pool_before_lrn.
CAFFE = Recipe(
    batch_size=256,
    schedule="0.01@0,0.001@20,0.0001@40,0.00001@60,0.000001@80",
    colour_noise=0.0,
    net_options={
        "weight_init": "caffe",
        "bias_init": "caffe",
        "lrn_alpha": "caffe",
        "lrn_k": 1.0,
        "bias_update": "source2012",
    },
)

# Large batches: the solver files for AlexNet of LARS's authors (borisgin/nvcaffe, models/bvlc_alexnet), of 100 epochs.
# The net and its initial values are BVLC AlexNet's, but all parameters move by one rule, so that biases decay too.
# There the rate rises from 1 to 10 over the warm-up; here it begins lower. In the file for 8,192 images the warm-up is
# commented out, beside a version of the rule that cuts rates off; it is back here, with LARS. Both sizes reached the
# accuracy of small batches (You, Gitman, Ginsburg 2017). What is known of 32,768 images has batch normalisation in
# place of LRN (You et al. 2018), and so is another net.
LARS4096 = Recipe(
    epochs=100,
    batch_size=4096,
    lr=10.0,
    warmup=1250,
    lars=0.001,
    schedule=POLY,
    floor=0.0,
    colour_noise=0.0,
    net_options={"weight_init": "caffe", "bias_init": "caffe", "lrn_alpha": "caffe", "lrn_k": 1.0},
)
LARS8192 = replace(LARS4096, batch_size=8192, warmup=600)

PRESETS = {
    "paper": PAPER,
    "notes": NOTES,
    "source2012": SOURCE2012,
    "caffe": CAFFE,
    "lars4096": LARS4096,
    "lars8192": LARS8192,
}

# 1.4 thousand images are no 1.2 million. Batches of 32 give enough steps within minutes, and a rate of 0.005 suits
# their noisier gradients: with 0.01 the accuracy goes up and down. Biases of 0.1 spare the long plateau at the
# start. A mirrored digit is another sign or none.
DIGITS = Recipe(
    epochs=6,
    batch_size=32,
    lr=0.005,
    patience=1,
    reflect=False,
    validation=TEST_FRACTION,
    net_options={"bias_init": "caffe"},
)

# One pass over 60 thousand small grey pictures: steps as for the digits, and smaller ones by and by to settle. No image
# is seen twice, so there is nothing to overfit, and dropout would only slow learning down; larger weights in conv3 to
# conv5 speed it up.
FASHION_MNIST = Recipe(
    epochs=1,
    batch_size=32,
    lr=0.003,
    schedule="0.003@0,0.001@0.5,0.0003@0.75,0.0001@0.9",
    reflect=False,
    colour_noise=0.0,
    net_options={"weight_init": "source2012", "bias_init": "caffe", "dropout": 0.0},
)

# 1.5 thousand pictures. What recipe_for gives would show them 9 times, in 420 steps. They are there for conv1's
# filters, which have to outgrow the random weights that they begin with: hence smaller batches for 1,900 steps, and a
# larger rate for conv1.
EMOJI = Recipe(
    epochs=20,
    batch_size=16,
    lr=0.01,
    lr_layers={"conv1": 0.5, "conv2": 0.5, "fc6": 0.5, "fc7": 0.5, "fc8": 0.1},
    warmup=50,
    schedule=FALLING,
    net_options={"weight_init": "source2012", "bias_init": "caffe", "dropout": 0.0},
)

RECIPES = {"digits": DIGITS, "emoji": EMOJI, "fashion-mnist": FASHION_MNIST}

# How the recipe for a person's own images follows from their number and that of their classes.
#
# The paper's is for 1.2 million images of 1000 classes. Of few images and classes it makes nothing: its biases of 1 let
# every image wake the same 4096 outputs of fc7, so that each step moves all images' logits together, by about
# lr / (1 - momentum) * 4096 * 2 (dropout doubles) times how far the batch's classes are from the mean. Such steps
# overshoot once lr is above 2 * (1 + momentum) * classes / 8192: 0.5 with 1000 classes, but 0.003 with 6 and 0.001
# with 2. Measured on 1,350 photographs of 6 classes: a loss of 27 at the fifth step, of ln(6) from the tenth on.
#
# Biases of 0.1 and larger weights in conv3 to conv5, by which images differ in fc7 from the start, learn at once; the
# rate rises over the first steps and then falls to the end, which needs no plateau to be told from the noise of 30
# held-out images. Batches of 16 and of 32 learn the same of as many images (50 classes of coloured shapes: a loss of
# 2.6 after 5,120), which take less time in the larger ones. Dropout slows down what is short of steps: the same shapes
# came to 3.3 within 180 steps with it and to 2.6 without.
#
# One rate for all layers learns few images by heart: the first step moves fc8's weights by 3 times the rate of their
# norm, conv1's by 1.7, conv2's by 0.6 and those in between, which have to find out what the images show, by 0.05. With
# rates that even this out, 300 shapes of two classes in any colour taught 78% of others within 240 steps; with 0.003
# for all it was 54% after 180. fc8 moves all logits of its class and takes more where classes are many.
#
# Up to SMALL_IMAGES there are as many epochs as make so many images, validation aside: less than ten minutes on two
# cores that decode and learn 27 photographs a second. From there to the paper's size each number goes to the paper's,
# geometrically; fewer than PAPER_CLASSES keep their weights and their layers' rates.
SMALL = Recipe(
    epochs=1,
    batch_size=32,
    lr=0.01,
    lr_layers={"conv1": 0.1, "conv2": 0.3, "fc6": 0.5, "fc7": 0.5, "fc8": 0.05},
    warmup=50,
    schedule=FALLING,
    net_options={"weight_init": "source2012", "bias_init": "caffe", "dropout": 0.0},
)
SMALL_IMAGES, MOST_EPOCHS = 14_000, 60
LEAST_STEPS, LEAST_BATCH = 16, 8  # an epoch has so many steps, as far as their batches are not smaller than that
PAPER_IMAGES, PAPER_CLASSES = 1_000_000, 500


def recipe_for(images: int, classes: int) -> Recipe:
    """The recipe for images of which no recipe of their own is known.

    Args:
        images: number of training images.
        classes: number of their classes.

    Raises:
        TypeError: one is no integer.
        ValueError: one is below 1.
    """
    images, classes = at_least("images", images, 1), at_least("classes", classes, 1)
    if images >= PAPER_IMAGES and classes >= PAPER_CLASSES:
        return PAPER
    fc8 = min(1.0, round(SMALL.lr_layers["fc8"] * math.sqrt(classes / 2), 2))
    lr_layers = SMALL.lr_layers | {"fc8": fc8}
    if images <= SMALL_IMAGES:
        epochs = min(MOST_EPOCHS, SMALL_IMAGES // images)
        batch_size = min(images, max(LEAST_BATCH, min(SMALL.batch_size, images // LEAST_STEPS)))
        return replace(SMALL, epochs=epochs, batch_size=batch_size, lr_layers=lr_layers)
    share = min(1.0, math.log(images / SMALL_IMAGES) / math.log(PAPER_IMAGES / SMALL_IMAGES))

    def between(small: float, papers: float) -> float:
        return float(small * (papers / small) ** share)

    options = SMALL.net_options | {"dropout": round(share * Options().dropout, 2)}
    return replace(
        SMALL,
        epochs=round(between(SMALL.epochs, PAPER.epochs)),
        batch_size=8 * round(between(SMALL.batch_size, PAPER.batch_size) / 8),
        lr_layers=lr_layers,
        net_options=options,
    )


# Fine-tuning begins near its end: a tenth of the rate from scratch, but ten times that for fc8 where it begins anew,
# and a rate that falls from the start. So Caffe's example fine-tunes CaffeNet to 80 thousand photographs of 20 styles,
# with rates of 0.001 and, in fc8, of 0.01 (models/finetune_flickr_style). They rise over the first steps, as a new fc8
# overshoots else: on the digits, with features of five of them, to a loss of 6.8.
FINE_TUNING_LR, NEW_LAYER_FACTOR = 0.001, 10.0


def fine_tuning(recipe: Recipe, *, new_outputs: bool) -> Recipe:
    """What a recipe becomes where training begins with a model's parameters.

    Args:
        recipe: the one from scratch; how often images are seen, and how they are varied, stays.
        new_outputs: whether fc8 begins anew.
    """
    return replace(
        recipe,
        lr=FINE_TUNING_LR,
        lr_layers={"fc8": NEW_LAYER_FACTOR} if new_outputs else {},
        warmup=max(recipe.warmup, SMALL.warmup),
        schedule=FALLING,
    )


def reason_for(images: int, classes: int) -> str:
    """In a few words, why :func:`recipe_for` gives these images the recipe that it does; errors likewise."""
    images, classes = at_least("images", images, 1), at_least("classes", classes, 1)
    if images >= PAPER_IMAGES and classes >= PAPER_CLASSES:
        why = "about as many as the paper's"
    elif images <= SMALL_IMAGES:
        why = "too few for the paper's recipe"
    else:
        why = "between few images' recipe and the paper's"
    return f"{images:,} images of {classes:,} classes ({why})"


def recipe_of(data: DataSource, preset: str | None) -> Recipe | None:
    """The preset's recipe, else the one of a named data set; None where neither is named, so that the size decides.

    Raises:
        ValueError: there is no such preset.
    """
    known = tuple(PRESETS)
    require(preset is None or preset in known, "preset", preset, f"one of {', '.join(map(repr, known))}, or None")
    return PRESETS[preset] if preset is not None else RECIPES.get(_name_of(data))


def recipe_and_data(
    data: DataSource,
    validation: float | DataSource | None,
    preset: str | None,
    *,
    initial_classes: Sequence[str] | None = None,
    **reading: Unpack[Reading],
) -> tuple[Recipe, str, DataChoice]:
    """What fills in the settings that are not given, what it is called, and a run's images.

    Args:
        data: as in :func:`train`.
        validation: as in :func:`train`.
        preset: one of :data:`PRESETS`; by default the recipe is the data's own, else it follows from their size, and is
            made one of fine-tuning where there is a model to begin with.
        initial_classes: those that its fc8 is taken for; None where training begins from scratch.
        **reading: as in :func:`pyalexnet.data.choice.choose_data`.

    Raises:
        DataError: the data cannot serve; the message says why.
        TypeError: ``data`` or ``validation`` is of an unknown kind.
        ValueError: ``validation`` is a number out of its range.
    """
    recipe = recipe_of(data, preset)
    chosen = choose_data(data, validation, (recipe or SMALL).validation, **reading)
    if preset is not None:
        return PRESETS[preset], f"preset {preset}", chosen
    if recipe is not None:
        name = f"that of {_name_of(data)}"
    else:
        images, classes = len(chosen.training), len(chosen.training.classes)
        recipe, name = recipe_for(images, classes), f"by size, {reason_for(images, classes)}"
    if initial_classes is None:
        return recipe, name, chosen
    new_outputs = tuple(initial_classes) != tuple(chosen.training.classes)
    return fine_tuning(recipe, new_outputs=new_outputs), f"fine-tuning, else {name}", chosen


def _name_of(data: DataSource) -> str:
    """The name of a data set that has one, else nothing."""
    return "digits" if isinstance(data, Digits) else data if isinstance(data, str) and is_name(data) else ""
