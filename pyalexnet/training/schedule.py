"""Learning rates over a training run: the paper's, by plateau; falling to its end; or fixed ones, by text or file.

A schedule file is JSON, a list of stages, each in force from its epoch to the next one's::

    [
      {"epoch": 0, "lr": 0.01},
      {"epoch": 30, "lr": 0.001, "layers": {"conv1": 0.0001, "conv2": 0, "fc8.bias": 0.002}, "colour_noise": 0}
    ]

``epoch`` counts the epochs done and may be a fraction. ``layers`` gives layers, ranges of them (``conv1-conv5``) or
single parameters rates of their own, and ``biases`` among them gives one to the biases of all layers that are not
named; 0 freezes. ``colour_noise`` replaces the run's, and changes only between whole epochs. What a stage does not name
it takes from no earlier one: layers then have ``lr``, and the colour noise is the run's.

Before any of these a run may warm up: its first steps have a part of the rate that the schedule says (:func:`warm_up`).

``source2012`` is the schedule of net 145 of the 2012 source code on ILSVRC-2010, by the notes in its parameter file;
``source2012-4gpu`` that of a sibling on four GPUs, by its script. Their biases are meant for ``bias_update``
``"source2012"``, which doubles all biases' rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import pairwise
from os import PathLike, fspath
from typing import Annotated, Final, Literal, Protocol

from annotated_types import Ge, Interval
from typing_extensions import NotRequired, TypedDict

from pyalexnet.architecture import layers, parameter_shapes
from pyalexnet.system.checks import as_path, at_least, number_within, require, shown
from pyalexnet.system.files import read_regular_file
from pyalexnet.system.json_file import JsonFormat

PLATEAU: Final = "plateau"
FALLING: Final = "falling"
POLY: Final = "poly"
ENDING: Final = (FALLING, POLY)
"""The schedules that fall by themselves, from a first rate to a floor at the run's end."""
SHIPPED = ("source2012", "source2012-4gpu")

_Rate = Annotated[float, Ge(0)]
_RATES = Interval(gt=0, lt=math.inf)


class StageDescription(TypedDict):
    """A stage as a schedule file has it; see this module's docstring."""

    epoch: _Rate
    lr: _Rate
    layers: NotRequired[dict[str, _Rate]]
    colour_noise: NotRequired[_Rate]


# What JSON can hold of a schedule: its kind, or its stages.
Description = Literal["plateau", "falling", "poly"] | list[StageDescription]

_KINDS = f"{', '.join(map(repr, (PLATEAU, FALLING, POLY, *SHIPPED)))}, a .json file, or rates such as '0.01@0,0.001@30'"

_DIVISOR = 10
_REDUCTIONS = 3
_LAYERS = tuple(layer.name for layer in layers(2))
_BIASES: Final = "biases"
_PARAMETERS = tuple(parameter_shapes(2))
_NAMES = {*_LAYERS, *_PARAMETERS, _BIASES}

SCHEDULE_FORMAT = JsonFormat(list[object], 2**20, ValueError)
STAGE_FORMAT = JsonFormat(StageDescription, 0, ValueError)


class _PlateauState(TypedDict):
    """What a plateau schedule goes on from."""

    lr: _Rate
    best_error: _Rate | None
    epochs_without_improvement: Annotated[int, Ge(0)]


_PLATEAU_STATE_FORMAT = JsonFormat(_PlateauState, 0, ValueError)


@dataclass(frozen=True)
class Rates:
    """What a schedule says for one moment of a run.

    Attributes:
        lr: learning rate of all that ``by_layer`` does not name.
        by_layer: rates by layer (``conv1``) or parameter (``conv1.bias``), or of all ``biases`` that no other name
            says; 0 freezes.
        colour_noise: strength of the colour shifts; None for the run's.
    """

    lr: float
    by_layer: Mapping[str, float] = field(default_factory=dict)
    colour_noise: float | None = None

    def for_step(self, factors: Mapping[str, float] | None = None) -> float | dict[str, float]:
        """What :meth:`pyalexnet.AlexNet.train_step` takes as ``lr``.

        Args:
            factors: of layers and parameters, named as in ``by_layer``; what has none keeps its rate.
        """
        if not self.by_layer and not factors:
            return self.lr
        return {
            name: _named_for(name, self.by_layer, self.lr) * _named_for(name, factors or {}, 1.0)
            for name in _PARAMETERS
        }

    def scaled(self, factor: float) -> Rates:
        """All rates times a factor; the colour noise stays."""
        if factor == 1:
            return self
        by_layer = {name: rate * factor for name, rate in self.by_layer.items()}
        return Rates(self.lr * factor, by_layer, self.colour_noise)


def warm_up(step: int, steps: int) -> float:
    """The part of its rate that a step has while a run warms up: it rises evenly to 1.

    It is counted in steps and not in epochs, since what it waits for, momentum and the first turn of the weights to the
    data, takes about as many steps of a net that learns 300 images as of one that learns a million.

    Args:
        step: steps done before this one.
        steps: how many of the first ones have less than the full rate; 0 for none.
    """
    return min(1.0, (step + 1) / (steps + 1))


class Schedule(Protocol):
    """The learning rates of a run, epoch for epoch."""

    @property
    def description(self) -> Description:
        """What :func:`make_schedule` makes the same schedule of, given the same rate, patience, floor and epochs."""

    def at(self, epoch: float) -> Rates:
        """The rates in force once so many epochs are done: steps done by steps an epoch has."""

    def update(self, validation_error: float | None) -> None:
        """Take an epoch's validation error into account; None where nothing was measured."""

    def state(self) -> dict[str, object]:
        """What JSON needs to hold to go on from here."""

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from where :meth:`state` was called.

        Raises:
            ValueError: it is no state of this kind of schedule.
        """


class PlateauSchedule:
    """The paper's: divide the learning rate by 10 whenever the validation error stops improving.

    Attributes:
        lr: the rate in force.
        patience: epochs in a row without a lower error before it is divided; 0 keeps it.
        floor: it goes no lower.
    """

    description: Description = PLATEAU

    def __init__(self, lr: float, patience: int, floor: float | None = None) -> None:
        """Begin with a rate.

        Args:
            lr: the first rate, above 0.
            patience: at least 0.
            floor: at most ``lr``; by default ``lr`` / 1000, after the paper's three reductions.

        Raises:
            TypeError: an argument is no number.
            ValueError: an argument is not as described.
        """
        self.floor = _checked_floor(lr, floor)
        self.lr = float(lr)
        self.patience = at_least("patience", patience, 0)
        self._best_error = math.inf
        self._epochs_without_improvement = 0

    def at(self, epoch: float) -> Rates:  # noqa: ARG002
        """The one rate for all layers, whatever the epoch."""
        return Rates(self.lr)

    def update(self, validation_error: float | None) -> None:
        """Take an epoch's validation error into account; NaN is no improvement, None no epoch."""
        if not self.patience or validation_error is None:
            return
        if validation_error < self._best_error:
            self._best_error = validation_error
            self._epochs_without_improvement = 0
            return
        self._epochs_without_improvement += 1
        if self._epochs_without_improvement == self.patience:
            self.lr = max(self.lr / _DIVISOR, self.floor)
            self._epochs_without_improvement = 0

    def state(self) -> dict[str, object]:
        """The rate, the lowest error so far (None before the first) and the epochs since."""
        return {
            "lr": self.lr,
            "best_error": None if math.isinf(self._best_error) else self._best_error,
            "epochs_without_improvement": self._epochs_without_improvement,
        }

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from where :meth:`state` was called.

        Raises:
            ValueError: it is no state of this kind of schedule; nothing has changed then.
        """
        found = _PLATEAU_STATE_FORMAT.check(state, "the plateau schedule's state")
        best_error = found["best_error"]
        self.lr = found["lr"]
        self._best_error = math.inf if best_error is None else best_error
        self._epochs_without_improvement = found["epochs_without_improvement"]


class _ScheduleByEpoch:
    """What schedules have in common whose rates follow from the epoch alone: nothing to keep."""

    kind: str

    def update(self, validation_error: float | None) -> None:
        """Nothing: the rates do not depend on it."""

    def state(self) -> dict[str, object]:
        """Nothing: the rates follow from the epoch."""
        return {}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from where :meth:`state` was called.

        Raises:
            ValueError: there is something in it, so it is another kind of schedule's.
        """
        if state:
            raise ValueError(f"a {self.kind} schedule has no state; got {dict(state)!r}")


class FallingSchedule(_ScheduleByEpoch):
    """A rate that falls evenly over the whole run, so that the last steps settle what the first ones found.

    Attributes:
        lr: the rate at the start.
        floor: the rate at the end.
        epochs: how long it takes.
    """

    kind = "falling"
    description: Description = FALLING

    def __init__(self, lr: float, epochs: int, floor: float | None = None) -> None:
        """Begin with a rate.

        Args:
            lr: the first rate, above 0.
            epochs: of the whole run, at least 1.
            floor: at most ``lr``; by default ``lr`` / 1000.

        Raises:
            TypeError: an argument is no number.
            ValueError: an argument is not as described.
        """
        self.floor = _checked_floor(lr, floor)
        self.lr = float(lr)
        self.epochs = at_least("epochs", epochs, 1)

    def at(self, epoch: float) -> Rates:
        """The one rate for all layers; the floor from the run's end on."""
        return Rates(self.lr + self._fallen(min(1.0, epoch / self.epochs)) * (self.floor - self.lr))

    def _fallen(self, done: float) -> float:
        """The part of the way to the floor, by the part of the run that is done."""
        return done


class PolySchedule(FallingSchedule):
    """A rate that falls with the square of what is left of the run: Caffe's policy ``poly`` with a power of 2."""

    kind = "poly"
    description: Description = POLY

    def _fallen(self, done: float) -> float:
        return done * (2 - done)  # 1 - (1 - done)²


@dataclass(frozen=True)
class Stage:
    """Rates and the epoch from which they are in force."""

    epoch: float
    rates: Rates


class FixedSchedule(_ScheduleByEpoch):
    """Rates that follow from the epoch alone.

    Attributes:
        stages: in the order of their epochs, from epoch 0 on.
    """

    kind = "fixed"

    def __init__(self, stages: Sequence[Stage], *, source: str = "schedule") -> None:
        """Take stages.

        Args:
            stages: at least one; the first begins at epoch 0, each later one after the one before.
            source: what messages call the schedule: where it came from.

        Raises:
            ValueError: the stages are not as described, or one changes the colour noise within an epoch.
        """
        if not stages:
            raise ValueError(f"{source} is empty; it must have at least one stage, from epoch 0 on")
        if stages[0].epoch != 0:
            raise ValueError(f"{source}: stage 1: epoch is {stages[0].epoch:g}; the first stage must begin at 0")
        for number, (before, stage) in enumerate(pairwise(stages), 2):
            if not stage.epoch > before.epoch:
                raise ValueError(
                    f"{source}: stage {number}: epoch is {stage.epoch:g}; it must be above the {before.epoch:g} of "
                    "the stage before"
                )
            if stage.rates.colour_noise != before.rates.colour_noise and not float(stage.epoch).is_integer():
                raise ValueError(
                    f"{source}: stage {number}: epoch is {stage.epoch:g}, but colour_noise changes; it can only "
                    "between whole epochs"
                )
        self.stages = tuple(stages)

    @property
    def description(self) -> Description:
        """The stages as a schedule file has them."""
        return list(map(_described, self.stages))

    def at(self, epoch: float) -> Rates:
        """The rates of the last stage that has begun by then."""
        return [stage.rates for stage in self.stages if stage.epoch <= epoch][-1]


def make_schedule(
    schedule: str | PathLike[str] | Sequence[Mapping[str, object]] = PLATEAU,
    *,
    lr: float,
    patience: int = 0,
    floor: float | None = None,
    epochs: int = 1,
) -> Schedule:
    """A schedule from what a user names, or from a schedule's own description.

    Args:
        schedule: ``"plateau"``; or ``"falling"``; or ``"poly"``; or rates as :func:`parse_fixed` reads them;
            or ``"source2012"``, the 2012 run's; or the path of a schedule file, which ends in ``.json``; or stages as
            such a file holds them.
        lr: the first rate of a plateau, falling or poly schedule; a fixed one has its own.
        patience: see :class:`PlateauSchedule`.
        floor: see :class:`PlateauSchedule` and :class:`FallingSchedule`.
        epochs: see :class:`FallingSchedule`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: it is none of these, or holds something that makes no sense; the message says where.
        OSError: the file cannot be read.
    """
    if isinstance(schedule, bytes) or not isinstance(schedule, str | PathLike | Sequence):
        raise TypeError(f"schedule is {shown(schedule)}; it must be {_KINDS}, or stages as such a file has them")
    number_within("lr", lr, _RATES)  # these here, since not every schedule looks at all of them
    at_least("patience", patience, 0)
    at_least("epochs", epochs, 1)
    if schedule == PLATEAU:
        return PlateauSchedule(lr, patience, floor)
    if schedule == FALLING:
        return FallingSchedule(lr, epochs, floor)
    if schedule == POLY:
        return PolySchedule(lr, epochs, floor)
    if isinstance(schedule, PathLike) or (isinstance(schedule, str) and schedule.endswith(".json")):
        return load_schedule(as_path("schedule", schedule))
    if schedule in SHIPPED:
        return load_schedule(schedule)
    return parse_fixed(schedule) if isinstance(schedule, str) else _from_entries("schedule", schedule)


def as_description(schedule: str | PathLike[str] | Sequence[Mapping[str, object]]) -> Description:
    """What a user names as a schedule, in the form that needs no file; errors of :func:`make_schedule`."""
    return make_schedule(schedule, lr=1.0).description


def parse_fixed(text: str) -> FixedSchedule:
    """A schedule from rates and their epochs: ``"0.01"``, or ``"0.01@0,0.001@30,0.0001@60.5"``.

    Raises:
        ValueError: the text is no such list, or its epochs do not rise from 0.
    """
    stages = []
    for part in text.split(","):
        rate, at, epoch = part.partition("@")
        try:
            stages.append({"epoch": float(epoch) if at else 0, "lr": float(rate)})
        except ValueError:
            raise ValueError(f"schedule is {shown(text)}; it must be {_KINDS}") from None
    return _from_entries(f"schedule {text!r}", stages)


def load_schedule(path: str | PathLike[str]) -> FixedSchedule:
    """A schedule from a file, as this module's docstring shows it; or one of :data:`SHIPPED` by its name.

    Raises:
        ValueError: the content is not as described; the message names file, stage and field.
        OSError: the file cannot be read.
    """
    if isinstance(path, str) and path in SHIPPED:
        content = resources.files("pyalexnet.training").joinpath("schedules", f"{path}.json").read_bytes()
    else:
        content = read_regular_file(as_path("path", path), SCHEDULE_FORMAT.max_bytes)
    return _from_entries(fspath(path), SCHEDULE_FORMAT.parse(content, fspath(path)))


def summary(description: Description) -> str:
    """A description in the form of a short text, such as ``0.01@0, 0.001@30 (conv1 0)``."""
    return description if isinstance(description, str) else ", ".join(map(_summary, description))


def by_single_names(name: str, by_layer: Mapping[str, float]) -> dict[str, float]:
    """Numbers by layers, by ranges of layers such as ``conv1-conv5``, by parameters and for all biases, without ranges.

    Raises:
        ValueError: a name is of none of them, or a layer is named twice; the message says of what.
    """
    single: dict[str, float] = {}
    for given, value in by_layer.items():
        for each in _named_by(name, given):
            if each in single:
                raise ValueError(f"{name} has {each} twice; it must have each layer once, in a range or by itself")
            single[each] = value
    return single


def _named_by(name: str, given: str) -> Sequence[str]:
    """The names that a name stands for: itself, or the layers from the first of a range to its last."""
    if given in _NAMES:
        return (given,)
    first, dash, last = given.partition("-")
    if dash and first in _LAYERS and last in _LAYERS and _LAYERS.index(first) <= _LAYERS.index(last):
        return _LAYERS[_LAYERS.index(first) : _LAYERS.index(last) + 1]
    raise ValueError(
        f"{name} has {shown(given)}; it must be biases, or one of {', '.join(_LAYERS)}, perhaps with .weight or .bias, "
        "or a range of them such as conv1-conv5"
    )


def _named_for(parameter: str, by_layer: Mapping[str, float], otherwise: float) -> float:
    """What is said of a parameter: by its own name, else by its layer's, else as one of the biases."""
    layer, _, kind = parameter.partition(".")
    names = (parameter, layer, *([_BIASES] if kind == "bias" else []))
    return next((by_layer[name] for name in names if name in by_layer), otherwise)


# Stages and their descriptions ----------------------------------------------------------------------------------


def _from_entries(source: str, entries: object) -> FixedSchedule:
    found = SCHEDULE_FORMAT.check(entries, source)
    return FixedSchedule([_stage(f"{source}: stage {i}", entry) for i, entry in enumerate(found, 1)], source=source)


def _stage(where: str, entry: object) -> Stage:
    found = STAGE_FORMAT.check(entry, where)
    by_layer = by_single_names(f"{where}: layers", found.get("layers", {}))
    return Stage(found["epoch"], Rates(lr=found["lr"], by_layer=by_layer, colour_noise=found.get("colour_noise")))


def _checked_floor(lr: float, floor: float | None) -> float:
    """The floor, by default what the paper's three reductions come to.

    Raises:
        TypeError: one is no number.
        ValueError: the rate or the floor makes no sense.
    """
    rate = number_within("lr", lr, _RATES)
    if floor is None:
        return float(rate / _DIVISOR**_REDUCTIONS)
    lowest = number_within("floor", floor, Interval(ge=0))
    require(lowest <= rate, "floor", floor, f"from 0 to lr = {rate:g}")
    return lowest


def _described(stage: Stage) -> StageDescription:
    rates = stage.rates
    entry: StageDescription = {"epoch": stage.epoch, "lr": rates.lr}
    if rates.by_layer:
        entry["layers"] = dict(rates.by_layer)
    if rates.colour_noise is not None:
        entry["colour_noise"] = rates.colour_noise
    return entry


def _summary(entry: StageDescription) -> str:
    own = [f"{name} {rate:g}" for name, rate in entry.get("layers", {}).items()]
    own += [f"colour noise {entry['colour_noise']:g}"] if "colour_noise" in entry else []
    return f"{entry['lr']:g}@{entry['epoch']:g}" + (f" ({', '.join(own)})" if own else "")
