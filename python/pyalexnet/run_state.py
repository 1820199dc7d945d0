"""Where a training run stands, beside its weights and momentum, in a form that JSON holds exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any


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

    epoch: int
    steps: int
    lr: float
    train_loss: float
    validation_loss: float | None
    validation_error: float | None
    validation_accuracy: float | None
    images_per_second: float
    seconds: float

    @classmethod
    def from_json(cls, found: Any) -> EpochRecord:
        """The record that a file holds.

        Raises:
            ValueError: it is not one; the message names the part and says what it must be.
        """
        names = {entry.name for entry in fields(cls)}
        _require_names("an epoch of history", _mapping("history", found), names)
        values: dict[str, Any] = {}
        for name in names:
            if name in ("epoch", "steps"):
                values[name] = _count(name, found[name])
            elif name.startswith("validation") and found[name] is None:
                values[name] = None
            else:
                values[name] = _number(name, found[name])
        return cls(**values)

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

    epoch: int = 1
    losses: list[float] = field(default_factory=list)
    train_seconds: float = 0.0
    epoch_seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    schedule: dict[str, Any] = field(default_factory=dict)
    stuck_loss: dict[str, Any] = field(default_factory=dict)

    def begin_next_epoch(self, done: EpochRecord) -> None:
        """Keep the record of the epoch done, and stand before the next one's first step."""
        self.history.append(done)
        self.epoch += 1
        self.begin_epoch_again()

    def begin_epoch_again(self) -> None:
        """Stand before the first step of the epoch under way."""
        self.losses = []
        self.train_seconds = self.epoch_seconds = 0.0

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> RunState:
        """The state that a file holds.

        Raises:
            ValueError: it is not one; the message names the part and says what it must be.
        """
        _require_names("the state", found, {entry.name for entry in fields(cls)})
        return cls(
            epoch=_count("epoch", found["epoch"]),
            losses=[_number("losses", loss) for loss in _list("losses", found["losses"])],
            train_seconds=_number("train_seconds", found["train_seconds"]),
            epoch_seconds=_number("epoch_seconds", found["epoch_seconds"]),
            history=[EpochRecord.from_json(record) for record in _list("history", found["history"])],
            schedule=dict(_mapping("schedule", found["schedule"])),
            stuck_loss=dict(_mapping("stuck_loss", found["stuck_loss"])),
        )


def _require_names(what: str, found: Mapping[str, Any], names: set[str]) -> None:
    if found.keys() != names:
        raise ValueError(f"{what} has {sorted(map(str, found))}; it must have {sorted(names)}")


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r:.100}; it must be an object")
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is {value!r:.100}; it must be a list")
    return value


def _count(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r:.100}; it must be a count")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r:.100}; it must be a finite number")
    return float(value)
