"""What a training run can be asked for: each setting's name, type, range and line in the command's help, once.

:class:`Settings` decide what a net learns, and :class:`Conduct` how a run is carried out. By their fields, and by those
of :class:`pyalexnet.Options`, :func:`pyalexnet.train` checks what it is given, the command makes its options, and
``run.json`` and checkpoints are read. What a setting is where nobody says it, recipes tell
(:mod:`pyalexnet.training.recipe`).
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Annotated

from annotated_types import Interval

from pyalexnet.architecture import SEEDS, OptionArguments, Options
from pyalexnet.data.readable import OnError, require_on_error
from pyalexnet.ops.sgd import MOMENTA
from pyalexnet.system.checks import require
from pyalexnet.system.declaration import Setting, check_fields
from pyalexnet.training.fine_tuning import Init, Origin
from pyalexnet.training.recipe import PRESETS
from pyalexnet.training.schedule import (
    PLATEAU,
    SHIPPED,
    Description,
    Schedule,
    by_single_names,
    make_schedule,
    summary,
)

SEED = 0

# Headings of the command's help.
RECIPE, LEARNING_RATE, NET = "recipe", "learning rate", "net"

_AT_LEAST_0, _AT_LEAST_1 = Interval(ge=0), Interval(ge=1)
_FINITE, _ABOVE_0 = Interval(ge=0, lt=math.inf), Interval(gt=0, lt=math.inf)


@dataclass(frozen=True)
class Settings:
    """What a training run was asked to do; ``run.json`` holds it.

    Attributes are those of :func:`train`, with every default filled in; ``schedule`` is
    :attr:`pyalexnet.training.schedule.Schedule.description`, which does without the file that it came from,
    ``lr_layers`` names layers one by one, ``init`` tells the model by a checksum, and ``recipe`` says where the
    settings that were not asked for came from.
    """

    epochs: Annotated[int, Setting("passes over the images", group=RECIPE, within=_AT_LEAST_1)]
    batch_size: Annotated[int, Setting("images a step", group=RECIPE, within=_AT_LEAST_1)]
    lr: Annotated[float, Setting("learning rate at the start", group=LEARNING_RATE, within=_ABOVE_0)]
    momentum: Annotated[float, Setting("share of the last update that is kept", group=RECIPE, within=MOMENTA)]
    weight_decay: Annotated[
        float, Setting("pull of weights towards 0, relative to the learning rate", group=RECIPE, within=_FINITE)
    ]
    patience: Annotated[
        int,
        Setting(
            "epochs in a row without a lower error that make a plateau, 0 for never",
            group=LEARNING_RATE,
            within=_AT_LEAST_0,
        ),
    ]
    devices: tuple[str, ...]
    seed: Annotated[int, Setting("the same seed gives the same net", group=RECIPE, within=SEEDS, usual=str(SEED))]
    num_classes: Annotated[int, Setting("outputs", group=NET, usual="as many as DATA has classes", within=_AT_LEAST_1)]
    reflect: Annotated[bool, Setting("mirror half of the crops", group=RECIPE)]
    colour_noise: Annotated[float, Setting("strength of random colour shifts", group=RECIPE, within=_FINITE)]
    subtract_mean: Annotated[
        bool, Setting("feed raw pixels, without subtracting the mean image", group=RECIPE, off="--no-mean")
    ]
    net_options: OptionArguments
    floor: Annotated[
        float | None,
        Setting("the lowest rate", group=LEARNING_RATE, usual="a thousandth of --lr", within=_FINITE),
    ] = None
    schedule: Annotated[
        Description,
        Setting(
            "plateau: divide the rate by 10 when the held-out images' error stops improving; falling: evenly from --lr "
            "to --floor over all epochs; poly: with the square of what is left of them; or rates by epoch, such as "
            f"0.01@0,0.001@30; or {' or '.join(SHIPPED)}; or a schedule file, FILE.json",
            group=LEARNING_RATE,
            metavar="RATES",
        ),
    ] = PLATEAU
    colour_noise_scaled: Annotated[
        bool, Setting("divide images by 1 + the strength of the colour shifts", group=RECIPE)
    ] = False
    warmup: Annotated[
        int,
        Setting(
            "steps at the start over which the rate rises to what the schedule says",
            group=LEARNING_RATE,
            within=_AT_LEAST_0,
        ),
    ] = 0
    lr_layers: Annotated[
        dict[str, float],
        Setting(
            "factors of the rates of layers that differ, such as conv1-conv5=0,fc8=2 or fc8.bias=0.5; 0 freezes",
            group=LEARNING_RATE,
            metavar="NAME=X,...",
            within=_FINITE,
        ),
    ] = field(default_factory=dict)
    lars: Annotated[
        float | None,
        Setting(
            "let each parameter's rate follow from its norm and its gradient's, times this trust coefficient, such as "
            "0.001; for large batches",
            group=LEARNING_RATE,
            within=_ABOVE_0,
            usual="rates as the schedule says",
        ),
    ] = None
    preset: Annotated[
        str | None,
        Setting("a source's whole recipe, which the options below change", group=RECIPE, choices=tuple(PRESETS)),
    ] = None
    recipe: str = "paper"
    init: Annotated[
        Origin | None,
        Setting(
            "fine-tune: begin with the parameters of a model, a run's folder or a file of a format that convert reads",
            group=RECIPE,
            metavar="MODEL",
        ),
    ] = None
    shards: Annotated[
        int,
        Setting(
            "parts of a batch, each computed by itself, that ranks share; the same bits for any number of ranks",
            group=RECIPE,
            within=_AT_LEAST_1,
            usual="as many as ranks",
        ),
    ] = 1

    def __post_init__(self) -> None:
        """Check all values but those that the net and its data say no to.

        Raises:
            TypeError: a value is of another kind; the message names it.
            ValueError: a value makes no sense; the message names it and says what it must be.
        """
        check_fields(self)
        object.__setattr__(self, "lr_layers", by_single_names("lr_layers", self.lr_layers))
        require_whole_shards(self.batch_size, self.shards)
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
        if self.lars is not None:
            rate += f" by norms ×{self.lars:g}"
        return (
            f"recipe: {self.recipe}: {rate}, {summary(self.schedule)}, warm-up {self.warmup} steps, dropout "
            f"{options.dropout:g}, weights {options.weight_init}, biases {options.bias_init}"
        )


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How a run is carried out, none of which changes what it learns from the images that can be read.

    Attributes are those of :func:`train`.
    """

    out: Annotated[
        str | PathLike[str] | None,
        Setting("write the model, checkpoints, run.json and metrics.jsonl here", metavar="DIR"),
    ] = None
    resume: Annotated[bool, Setting("go on from the newest checkpoint in --out, if there is one")] = False
    allow_changes: Annotated[bool, Setting("resume with other settings or data than before")] = False
    checkpoint_minutes: Annotated[
        float,
        Setting("time between checkpoints; there is one after each epoch in any case", within=_AT_LEAST_0),
    ] = 15
    keep: Annotated[int, Setting("checkpoints that stay, beside the best", within=_AT_LEAST_1)] = 2
    tensorboard: Annotated[bool, Setting("write TensorBoard's files into --out")] = False
    fc_factors: Annotated[
        bool,
        Setting("let ranks send what gradients of fully connected layers are products of: fewer bytes, the same bits"),
    ] = False
    report_relus: Annotated[bool, Setting("after each epoch, tell how many ReLUs are dead")] = False
    progress: Annotated[bool, Setting("show no progress", off="--quiet")] = True
    memory_limit: Annotated[int | None, Setting(within=_AT_LEAST_1)] = None
    on_error: OnError = "stop"

    def __post_init__(self) -> None:
        """Check all values but those that the net and its data say no to.

        Raises:
            TypeError: a value is of another kind; the message names it.
            ValueError: a value makes no sense; the message names it and says what it must be.
        """
        check_fields(self)
        require_on_error(self.on_error)
        if self.out is None:
            require(not self.resume, "resume", self.resume, "False where out names no folder")
            require(not self.tensorboard, "tensorboard", self.tensorboard, "False where out names no folder")


class TrainArguments(OptionArguments, total=False):
    """The settings as keyword arguments of :func:`pyalexnet.train`, for type checkers and editors; help has this order.

    None, where it is allowed, is as good as nothing.
    """

    preset: str | None
    init: Init | None
    epochs: int | None
    batch_size: int | None
    shards: int | None
    momentum: float | None
    weight_decay: float | None
    colour_noise: float | None
    colour_noise_scaled: bool | None
    reflect: bool | None
    subtract_mean: bool | None
    seed: int | None
    lr: float | None
    lr_layers: Mapping[str, float] | None
    schedule: str | PathLike[str] | Sequence[Mapping[str, object]] | None
    warmup: int | None
    lars: float | None
    patience: int | None
    floor: float | None
    out: str | PathLike[str] | None
    resume: bool
    allow_changes: bool
    checkpoint_minutes: float
    keep: int
    tensorboard: bool
    fc_factors: bool
    report_relus: bool
    progress: bool
    on_error: OnError
    devices: Sequence[str] | None
    memory_limit: int | None
    num_classes: int | None


def require_whole_shards(batch_size: int, shards: int) -> None:
    """Refuse a batch that cannot be cut into shards of as many images.

    Raises:
        ValueError: it cannot.
    """
    require(batch_size % shards == 0, "batch_size", batch_size, f"a multiple of the number of shards, {shards}")


def differences(was: Settings, now: Settings, *, ignoring: Container[str] = ()) -> list[str]:
    """What changed from one run to another, a line each, such as ``lr was 0.01 and is 0.02``.

    Args:
        was: the settings of the one.
        now: the settings of the other.
        ignoring: names of settings, or of options of the net, that may differ.
    """
    before, after = values_of(was), values_of(now)
    return [
        f"{name} was {_readable(before[name])} and is {_readable(after[name])}"
        for name in before
        if before[name] != after[name] and name not in ignoring
    ]


def values_of(settings: Settings) -> dict[str, object]:
    """All settings and all options of the net by name, those that are the defaults too."""
    values = asdict(settings)
    return values | asdict(Options(**values.pop("net_options")))


def _readable(value: object) -> str:
    if isinstance(value, list):
        return summary(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {factor:g}" for name, factor in value.items()) or "none"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
