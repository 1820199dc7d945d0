"""What a training run is asked to do, and the two recipes that fill in what it is not told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pyalexnet.data.digits import TEST_FRACTION


@dataclass(frozen=True)
class Recipe:
    """What :func:`train` uses where it is told nothing else.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: learning rate at the start.
        patience: epochs without a lower validation error before it is divided by 10.
        reflect: whether half of the crops are mirrored.
        validation: the part of the data that is held out.
        net_options: options of :class:`pyalexnet.AlexNet` that differ from the paper's.
    """

    epochs: int
    batch_size: int
    lr: float
    patience: int
    reflect: bool
    validation: float
    net_options: dict[str, Any] = field(default_factory=dict)


PAPER = Recipe(epochs=90, batch_size=128, lr=0.01, patience=5, reflect=True, validation=0.1)

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


@dataclass(frozen=True)
class Settings:
    """What a training run was asked to do; ``run.json`` holds it.

    Attributes are those of :func:`train`, with every default filled in.
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


def require(holds: bool, name: str, value: object, wanted: str) -> None:
    """Refuse an argument's value.

    Raises:
        ValueError: the condition does not hold.
    """
    if not holds:
        raise ValueError(f"{name} is {value!r}; it must be {wanted}")
