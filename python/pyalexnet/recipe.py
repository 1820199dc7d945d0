"""What a training run is asked to do, and the recipes that fill in what it is not told."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import asdict, dataclass, field
from typing import Any

from pyalexnet.architecture import Options
from pyalexnet.checks import require
from pyalexnet.data.digits import TEST_FRACTION
from pyalexnet.schedule import PLATEAU, Description, make_schedule, summary


@dataclass(frozen=True)
class Recipe:
    """What :func:`train` uses where it is told nothing else; each default is the paper's.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: learning rate at the start, where the schedule does not say it.
        momentum: share of the last update that is kept.
        weight_decay: pull of weights towards 0, relative to the learning rate.
        schedule: as :func:`pyalexnet.schedule.make_schedule` takes it.
        patience: epochs without a lower validation error before a plateau schedule divides the rate by 10.
        floor: below which it does not go; None for ``lr`` / 1000.
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

# 1.5 thousand pictures. Small batches for many steps, and large steps for long: conv1's filters have to outgrow the
# random weights that they begin with. Dropout would slow that down.
EMOJI = Recipe(
    epochs=30,
    batch_size=16,
    lr=0.005,
    schedule="0.005@0,0.001@22,0.0002@28",
    net_options={"weight_init": "source2012", "bias_init": "caffe", "dropout": 0.0},
)


@dataclass(frozen=True)
class Settings:
    """What a training run was asked to do; ``run.json`` holds it.

    Attributes are those of :func:`train`, with every default filled in; ``schedule`` is
    :attr:`pyalexnet.schedule.Schedule.description`, which does without the file that it came from.
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
    preset: str | None = None

    def __post_init__(self) -> None:
        """Check the values that only the loop uses; the net checks the others.

        Raises:
            ValueError: a value makes no sense; the message names it and says what it must be.
        """
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(0 < self.lr < math.inf, "lr", self.lr, "above 0 and finite")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and below 1")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "at least 0 and finite")
        require(self.patience >= 0, "patience", self.patience, "at least 0")
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        require(0 <= self.colour_noise < math.inf, "colour_noise", self.colour_noise, "at least 0 and finite")
        known = ", ".join(map(repr, PRESETS))
        require(self.preset is None or self.preset in PRESETS, "preset", self.preset, f"one of {known}, or None")
        make_schedule(self.schedule, lr=self.lr, patience=self.patience, floor=self.floor)


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
    return ", ".join(value) if isinstance(value, tuple) else str(value)
