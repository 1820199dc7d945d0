"""Where a training run stands, beside its weights and momentum, in a form that JSON holds exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from pyalexnet.architecture import Options
from pyalexnet.data.choice import DataDescription
from pyalexnet.net.origin import DataOrigin
from pyalexnet.net.proof import Accuracy
from pyalexnet.system.checks import require
from pyalexnet.system.json_file import JsonFormat, require_distinct
from pyalexnet.training.settings import Settings

_Count = Annotated[int, Ge(0)]
_Number = Annotated[int, Ge(1)]
_Share = Annotated[float, Ge(0), Le(1)]
_Positive = Annotated[float, Ge(0)]

_DEVICE = re.compile(r"(cuda|cpu|sim|ptx)(:[0-9]{1,4})?")
_OPTIONS = JsonFormat(Options, 0, ValueError)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a training run.

    Attributes:
        epoch: its number, from 1 on.
        steps: steps done at its end, since the run began.
        lr: learning rate at its end.
        train_loss: mean over the steps, each measured before its update, with dropout.
        validation_loss: mean over the held-out images; None where none are held out, as in the next two.
        validation_error: the part of the held-out images that were classified wrongly.
        validation_accuracy: 1 - validation_error.
        images_per_second: training images by the time that their steps took.
        seconds: time of the whole epoch with validation.
    """

    epoch: _Number
    steps: _Count
    lr: _Positive
    train_loss: float
    validation_loss: float | None
    validation_error: _Share | None
    validation_accuracy: _Share | None
    images_per_second: _Positive
    seconds: _Positive

    def __str__(self) -> str:
        accuracy = "" if self.validation_accuracy is None else f"  accuracy {self.validation_accuracy:6.2%}"
        return (
            f"epoch {self.epoch:3}  lr {self.lr:g}  loss {self.train_loss:.4f}{accuracy}"
            f"  {self.images_per_second:.1f} images/s  {self.seconds:.1f} s"
        )


def best_epoch(history: Sequence[EpochRecord]) -> EpochRecord | None:
    """The first epoch with the lowest validation error; None where none was measured."""
    measured = [(record.validation_error, record) for record in history if record.validation_error is not None]
    return min(measured, key=lambda pair: pair[0], default=(None, None))[1]


def accuracy_after(step: int, history: Sequence[EpochRecord], data: DataDescription) -> Accuracy | None:
    """What was measured of a run's net at this step; None within an epoch, or where no images are held out."""
    held_out, last = data["held_out"], history[-1] if history else None
    if held_out is None or last is None or last.steps != step or last.validation_error is None:
        return None
    return Accuracy(
        data=DataOrigin.of(data).held_out_name,
        images=held_out["images"],
        views=1,
        top1_error=last.validation_error,
    )


@dataclass
class RunState:
    """The position of a run; the random numbers of every later step follow from it and the seed.

    Attributes:
        epoch: the epoch under way, from 1 on.
        losses: those of the steps done in it.
        train_seconds: the time that these steps took.
        epoch_seconds: the time of the epoch so far.
        history: the epochs done.
        schedule: the learning rate schedule's own state.
        stuck_loss: the watcher's own state.
    """

    epoch: _Number = 1
    losses: list[float] = field(default_factory=list)
    train_seconds: _Positive = 0.0
    epoch_seconds: _Positive = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    schedule: dict[str, object] = field(default_factory=dict)
    stuck_loss: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the epochs done lead to the one under way.

        Raises:
            ValueError: they do not; the message says how.
        """
        done = len(self.history)
        require(self.epoch == done + 1, "epoch", self.epoch, f"{done + 1}, as {done} epochs are done")

    def begin_next_epoch(self, done: EpochRecord) -> None:
        """Keep the record of the epoch done, and stand before the next one's first step."""
        self.history.append(done)
        self.epoch += 1
        self.begin_epoch_again()

    def begin_epoch_again(self) -> None:
        """Stand before the first step of the epoch under way."""
        self.losses = []
        self.train_seconds = self.epoch_seconds = 0.0


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """What every file says of a run; how far it came is added to it.

    Attributes:
        settings: what the run was asked to do.
        data: what its images were.
    """

    settings: Settings
    data: DataDescription

    def __post_init__(self) -> None:
        """Check what the net and its data would say no to later.

        Raises:
            ValueError: a device, an option or a number of classes makes no sense; the message names it.
        """
        settings, classes = self.settings, self.data["training"]["classes"]
        devices = settings.devices
        sound = 1 <= len(devices) <= 2 and all(map(_DEVICE.fullmatch, devices))
        require(sound, "settings.devices", devices, "one or two names such as 'cuda:0' or 'cpu:0'")
        _OPTIONS.check(settings.net_options, "settings.net_options")
        require_distinct("data.training.classes", classes)
        least = max(2, len(classes))
        require(settings.num_classes >= least, "settings.num_classes", settings.num_classes, f"at least {least}")


def require_in_order(history: Sequence[EpochRecord], steps: int) -> None:
    """Refuse epochs that cannot have come one after the other, within so many steps.

    Raises:
        ValueError: the message names the epoch.
    """
    done = 0
    for number, record in enumerate(history, start=1):
        where = f"history[{number - 1}]"
        require(record.epoch == number, f"{where}.epoch", record.epoch, f"{number}")
        require(record.steps > done, f"{where}.steps", record.steps, f"above {done}")
        done = record.steps
    require(steps >= done, "steps", steps, f"at least those of the last epoch, {done}")
