"""What a training run is asked to do, and the recipes that fill in what it is not told."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyalexnet.architecture import Options
from pyalexnet.data.digits import TEST_FRACTION
from pyalexnet.system.checks import require
from pyalexnet.training.schedule import (
    FALLING,
    PLATEAU,
    Description,
    Schedule,
    make_schedule,
    require_layer_names,
    summary,
)


@dataclass(frozen=True)
class Recipe:
    """What :func:`train` uses where it is told nothing else; each default is the paper's.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: learning rate at the start, where the schedule does not say it.
        momentum: share of the last update that is kept.
        weight_decay: pull of weights towards 0, relative to the learning rate.
        lr_layers: factors of the rates of layers that differ; see :func:`pyalexnet.train`.
        warmup: steps at the start whose rate rises to the one that the schedule says; 0 for none.
        schedule: as :func:`pyalexnet.training.schedule.make_schedule` takes it.
        patience: epochs without a lower validation error before a plateau schedule divides the rate by 10.
        floor: below which the rate does not go; None for ``lr`` / 1000.
        reflect: whether half of the crops are mirrored.
        colour_noise: standard deviation of the random factors on the colours' principal components.
        colour_noise_scaled: whether images are divided by 1 + ``colour_noise`` once the noise is added, as in the 2012
            code, so that they spread about as much as those of a test, which have none.
        subtract_mean: whether the mean image is subtracted.
        validation: the part of the data that is held out.
        net_options: options of :class:`pyalexnet.AlexNet` that differ from the paper's.
    """

    epochs: int = 90
    batch_size: int = 128
    lr: float = 0.01
    lr_layers: dict[str, float] = field(default_factory=dict)
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = PLATEAU
    patience: int = 5
    floor: float | None = None
    reflect: bool = True
    colour_noise: float = 0.1
    colour_noise_scaled: bool = False
    subtract_mean: bool = True
    validation: float = 0.1
    net_options: dict[str, Any] = field(default_factory=dict)


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

PRESETS = {"paper": PAPER, "notes": NOTES, "source2012": SOURCE2012, "caffe": CAFFE}

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
    """
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


def reason_for(images: int, classes: int) -> str:
    """In a few words, why :func:`recipe_for` gives these images the recipe that it does."""
    if images >= PAPER_IMAGES and classes >= PAPER_CLASSES:
        why = "about as many as the paper's"
    elif images <= SMALL_IMAGES:
        why = "too few for the paper's recipe"
    else:
        why = "between few images' recipe and the paper's"
    return f"{images:,} images of {classes:,} classes ({why})"


@dataclass(frozen=True)
class Settings:
    """What a training run was asked to do; ``run.json`` holds it.

    Attributes are those of :func:`train`, with every default filled in; ``schedule`` is
    :attr:`pyalexnet.training.schedule.Schedule.description`, which does without the file that it came from, and
    ``recipe`` says where the settings that were not asked for came from.
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    patience: int
    devices: tuple[str, ...]
    seed: int
    num_classes: int
    reflect: bool
    colour_noise: float
    subtract_mean: bool
    net_options: dict[str, Any]
    floor: float | None = None
    schedule: Description = PLATEAU
    colour_noise_scaled: bool = False
    warmup: int = 0
    lr_layers: dict[str, float] = field(default_factory=dict)
    preset: str | None = None
    recipe: str = "paper"

    def __post_init__(self) -> None:
        """Check the values that only the loop uses; the net checks the others.

        Raises:
            ValueError: a value makes no sense; the message names it and says what it must be.
        """
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(0 < self.lr < math.inf, "lr", self.lr, "above 0 and finite")
        require_layer_names("lr_layers", self.lr_layers)
        for name, factor in self.lr_layers.items():
            require(0 <= factor < math.inf, f"lr_layers[{name!r}]", factor, "at least 0 and finite")
        require(self.warmup >= 0, "warmup", self.warmup, "at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and below 1")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "at least 0 and finite")
        require(self.patience >= 0, "patience", self.patience, "at least 0")
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        require(0 <= self.colour_noise < math.inf, "colour_noise", self.colour_noise, "at least 0 and finite")
        known = ", ".join(map(repr, PRESETS))
        require(self.preset is None or self.preset in PRESETS, "preset", self.preset, f"one of {known}, or None")
        self.make_schedule()

    def make_schedule(self) -> Schedule:
        """The learning rates of a run with these settings, at its beginning and but for the warm-up."""
        return make_schedule(self.schedule, lr=self.lr, patience=self.patience, floor=self.floor, epochs=self.epochs)

    def recipe_line(self) -> str:
        """The recipe and what matters most of it, to read in one line."""
        options = Options(**self.net_options)
        rate = f"lr {self.lr:g}"
        if self.lr_layers:
            rate += f" ({', '.join(f'{name} ×{factor:g}' for name, factor in self.lr_layers.items())})"
        return (
            f"recipe: {self.recipe}: {rate}, {summary(self.schedule)}, warm-up {self.warmup} steps, dropout "
            f"{options.dropout:g}, weights {options.weight_init}, biases {options.bias_init}"
        )


def differences(was: Settings, now: Settings, *, ignoring: Container[str] = ()) -> list[str]:
    """What changed from one run to another, a line each, such as ``lr was 0.01 and is 0.02``.

    Args:
        was: the settings of the one.
        now: the settings of the other.
        ignoring: names of settings, or of options of the net, that may differ.
    """
    before, after = _with_options(was), _with_options(now)
    return [
        f"{name} was {_readable(before[name])} and is {_readable(after[name])}"
        for name in before
        if before[name] != after[name] and name not in ignoring
    ]


def _with_options(settings: Settings) -> dict[str, Any]:
    """All settings and all options of the net, those that are the defaults too."""
    values = asdict(settings)
    return values | asdict(Options(**values.pop("net_options")))


def _readable(value: Any) -> str:
    if isinstance(value, list):
        return summary(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {factor:g}" for name, factor in value.items()) or "none"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
