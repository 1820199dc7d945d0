"""What each of the net's choices brings, measured: the comparisons of sections 3.1 to 3.4 and 4.2 of the paper.

Two kinds of measurement. A *race* (section 3.1): ReLU and tanh, without any regularisation, each at the learning rate
of several that suits it best, to a given training error. *Runs* (sections 3.2 to 3.4 and 4.2): the paper's net and
nets that lack one thing each, trained on the same images in the same order, judged by the same held-out images. What
one net lacks changes the size of its activations and with it the learning rate that suits it, so that each net tries
several rates with the first seed; the other seeds repeat the best.
"""

from __future__ import annotations

import json
import math
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Interval, Le

from pyalexnet.architecture import SEEDS, Activation, OptionArguments, Options
from pyalexnet.data import Dataset, DataSource, Subset
from pyalexnet.data.augmentation import epoch_order, view_variations
from pyalexnet.data.choice import unreadable_lines
from pyalexnet.data.prefetch import read_ahead
from pyalexnet.data.readable import OnError, require_on_error
from pyalexnet.data.statistics import measure
from pyalexnet.data.subset import sample
from pyalexnet.device.backend import devices as known_devices
from pyalexnet.device.backend import get_device
from pyalexnet.errors import DataError, DivergedError, LauncherError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.net.classifier import Classifier, default_devices
from pyalexnet.net.network import AlexNet
from pyalexnet.net.placement import device_names
from pyalexnet.net.programs import as_memory_limit
from pyalexnet.system.checks import as_path, callback, require, shown
from pyalexnet.system.declaration import Setting, arguments_of, check_fields
from pyalexnet.system.files import require_writable, write_atomically
from pyalexnet.system.interrupt import keyboard_interrupt
from pyalexnet.system.json_file import JsonFormat
from pyalexnet.system.ranks import join_ranks
from pyalexnet.training.recipe import Recipe, recipe_and_data
from pyalexnet.training.train import train

# The training error of a race is the mean over so many steps.
_WINDOW_STEPS = 20

_PART_AT_FULL_RATE = 0.75


@dataclass(frozen=True)
class Variant:
    """A net that is trained and judged.

    Attributes:
        name: what it is called.
        section: of the paper, where it is compared.
        options: in what it differs, as options of :class:`pyalexnet.AlexNet`.
    """

    name: str
    section: str
    options: OptionArguments


PAPERS_NET = Variant("the paper's net", "", {})
VARIANTS = (
    PAPERS_NET,
    Variant("one tower", "3.2", {"towers": 1}),
    Variant("no LRN", "3.3", {"lrn": False}),
    Variant("plain pooling", "3.4", {"pooling": "plain"}),
    Variant("no dropout", "4.2", {"dropout": 0.0}),
)
ACTIVATIONS = arguments_of(Options)["activation"].choices

_AT_LEAST_1 = Interval(ge=1)


@dataclass(frozen=True)
class Plan:
    """What is measured; training images are the same number of each class, as far as there are so many."""

    images: Annotated[int, Setting("training images", within=_AT_LEAST_1)] = 2000
    held_out: Annotated[int, Setting("held-out images", within=_AT_LEAST_1)] = 5000
    epochs: Annotated[int, Setting("passes over them, of each run", within=_AT_LEAST_1)] = 8
    batch_size: Annotated[int, Setting("images a step", within=_AT_LEAST_1)] = 32
    lrs: Annotated[
        tuple[float, ...],
        Setting("learning rates that each net tries; a tenth of each in the last quarter", metavar="N,N"),
    ] = (0.001, 0.003)
    seeds: Annotated[
        tuple[int, ...],
        Setting(
            "of the runs; those after the first repeat the rate that was best with the first",
            metavar="N,N",
            within=SEEDS,
        ),
    ] = (0, 1)
    race_lrs: Annotated[tuple[float, ...], Setting("learning rates that ReLU and tanh try", metavar="N,N")] = (
        0.0003,
        0.001,
        0.003,
        0.01,
        0.03,
    )
    race_error: Annotated[
        float,
        Setting("training error that ReLU and tanh are to reach", metavar="N", within=Interval(gt=0, lt=1)),
    ] = 0.25
    race_steps: Annotated[int, Setting("steps at most to it", within=_AT_LEAST_1)] = 400

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """A plan of values in which lists stand for tuples, as in JSON and on a command line.

        Raises:
            ValueError: a value makes no sense.
            TypeError: a name is no value's.
        """
        plan: dict[str, Any] = {name: tuple(it) if isinstance(it, list) else it for name, it in values.items()}
        return cls(**plan)

    @property
    def measurements(self) -> int:
        """How many there are: laps and trials."""
        return len(ACTIVATIONS) * len(self.race_lrs) + len(VARIANTS) * (len(self.lrs) + len(self.seeds) - 1)

    def __post_init__(self) -> None:
        """Check the values that no other part checks.

        Raises:
            TypeError: a value is of another kind; the message names it.
            ValueError: a value makes no sense; the message names it and says what it must be.
        """
        check_fields(self)
        require(self.batch_size <= self.images, "batch_size", self.batch_size, f"at most images, {self.images}")
        for name in ("lrs", "seeds", "race_lrs"):
            values = getattr(self, name)
            require(len(set(values)) == len(values) > 0, name, values, "one number or several different ones")
        for name in ("lrs", "race_lrs"):
            rates = getattr(self, name)
            require(all(0 < rate < math.inf for rate in rates), name, rates, "rates above 0 and finite")


_Rate = Annotated[float, Gt(0)]
_Share = Annotated[float, Ge(0), Le(1)]
_Seconds = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Lap:
    """One activation at one rate; ``steps`` is None where the error was not reached."""

    activation: str
    lr: _Rate
    steps: Annotated[int, Ge(1)] | None
    seconds: _Seconds


@dataclass(frozen=True)
class Trial:
    """One variant with one seed at one rate; the errors are None where the loss became infinite or NaN."""

    variant: str
    seed: Annotated[int, Ge(0)]
    lr: _Rate
    train_error: _Share | None
    held_out_error: _Share | None
    seconds: _Seconds


@dataclass
class Ablation:
    """What was measured.

    Attributes:
        data: what the images were, by name.
        devices: on what it was measured, one after the other.
        plan: what was to be measured.
        laps: those of the race.
        trials: those of the runs.
    """

    data: str
    devices: tuple[str, ...]
    plan: Plan
    laps: list[Lap] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The time that all measurements took together."""
        return math.fsum(lap.seconds for lap in self.laps) + math.fsum(trial.seconds for trial in self.trials)

    def best_lap(self, activation: str) -> Lap:
        """The lap with the fewest steps; one that did not arrive where none did."""
        laps = [lap for lap in self.laps if lap.activation == activation]
        return min(laps, key=lambda lap: _or_inf(lap.steps))

    def search(self, variant: str) -> list[Trial]:
        """A variant's trials with the first seed, one for each rate."""
        return [trial for trial in self.trials if (trial.variant, trial.seed) == (variant, self.plan.seeds[0])]

    def best_lr(self, variant: str) -> float:
        """The rate with which a variant's held-out error was least with the first seed; the lower of equals."""
        return min(self.search(variant), key=lambda trial: (_or_inf(trial.held_out_error), trial.lr)).lr

    def best_trials(self, variant: str) -> list[Trial]:
        """A variant's trials at its best rate, one for each seed."""
        lr = self.best_lr(variant)
        return [trial for trial in self.trials if (trial.variant, trial.lr) == (variant, lr)]


ABLATION_FORMAT = JsonFormat(Ablation, 64 * 2**20, DataError)


def ablate(
    data: DataSource,
    plan: Plan | None = None,
    *,
    out: str | PathLike[str] | None = None,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
    on_error: OnError = "stop",
    on_begin: Callable[[str, int], None] = lambda _name, _done: None,
    on_result: Callable[[Lap | Trial], None] = lambda _result: None,
) -> Ablation:
    """Measure what each of the net's choices brings.

    Args:
        data: images to learn from, named as for :func:`pyalexnet.train`; those that come with a held-out part are
            judged by that, others by a part of theirs.
        plan: what to measure.
        out: a JSON file, written after each measurement. If it is there already, made with the same plan, what it holds
            is not measured again.
        devices: one device; by default the first GPU, or the CPU where there is none.
        memory_limit: bytes that a net may take there; by default what the device has.
        on_error: what an image does that cannot be read, as in :func:`pyalexnet.evaluate`.
        on_begin: called before each measurement with what it measures and how many of the plan's are done.
        on_result: called with each new measurement.

    Raises:
        DataError: the data cannot serve, or ``out`` is no such file or was made with another plan.
        TypeError: an argument is of another type.
        ValueError: an argument makes no sense.
        OSError: ``out`` cannot be written.
        OutOfMemoryError: a net does not fit.
        LauncherError: a launcher started several processes, which would all measure the same.
    """
    if join_ranks().size > 1:
        raise LauncherError("an ablation trains its nets in one process each: start it without a launcher of MPI")
    plan = Plan() if plan is None else plan
    if not isinstance(plan, Plan):
        raise TypeError(f"plan is {shown(plan)}; it must be a Plan")
    devices = list(default_devices() if devices is None else device_names(devices))
    require(len(devices) == 1, "devices", devices, "one device, since a net of one tower is among them")
    memory_limit = as_memory_limit(memory_limit)
    require_on_error(on_error)
    callback("on_begin", on_begin)
    callback("on_result", on_result)
    if out is not None:
        require_writable(as_path("out", out))
    recipe, _, chosen = recipe_and_data(data, None, None, on_error=on_error)
    if on_error == "skip" and (left_out := unreadable_lines(chosen.description)):
        warnings.warn("\n".join(left_out), stacklevel=2)
    if chosen.held_out is None:
        raise DataError("no images are held out; there must be some to judge by")
    training = Subset(chosen.training, sample(chosen.training, plan.images))
    held_out = Subset(chosen.held_out, sample(chosen.held_out, plan.held_out))
    found = Ablation(str(chosen.description["source"] or "arrays"), (_describe(devices[0]),), plan)
    if out is not None and Path(out).exists():
        found = _ablation_to_resume(out, found)
    bench = _Bench(plan, recipe, training, held_out, devices, memory_limit)
    for name, measure_it in bench.measurements(found):
        on_begin(name, len(found.laps) + len(found.trials))
        result = measure_it()
        (found.laps if isinstance(result, Lap) else found.trials).append(result)  # type: ignore[arg-type]
        if out is not None:
            write_atomically(out, (json.dumps(asdict(found), indent=2) + "\n").encode())
        on_result(result)
    return found


@dataclass(frozen=True)
class _Bench:
    """What all measurements share."""

    plan: Plan
    recipe: Recipe
    training: Dataset
    held_out: Dataset
    devices: Sequence[str]
    memory_limit: int | None

    def measurements(self, found: Ablation) -> Iterator[tuple[str, Callable[[], Lap | Trial]]]:
        """All that the plan asks for and that was not found yet: what it is, and the way to measure it."""
        done = {(lap.activation, lap.lr) for lap in found.laps}
        for activation in ACTIVATIONS:
            for lr in self.plan.race_lrs:
                if (activation, lr) not in done:
                    yield f"{activation} at lr {lr:g}", partial(self.race, activation, lr)
        trained = {(trial.variant, trial.seed, trial.lr) for trial in found.trials}
        for seed in self.plan.seeds:
            for variant in VARIANTS:
                lrs = self.plan.lrs if seed == self.plan.seeds[0] else (found.best_lr(variant.name),)
                for lr in lrs:
                    if (variant.name, seed, lr) not in trained:
                        yield f"{variant.name} at lr {lr:g}, seed {seed}", partial(self.train, variant, seed, lr)

    def options(self, changes: OptionArguments) -> OptionArguments:
        """A net's options: the data's own, where it has such, but the paper's dropout."""
        return self.recipe.net_options | {"dropout": 0.5} | changes

    def race(self, activation: Activation, lr: float) -> Lap:
        """Train without dropout, weight decay and augmentation until the training error is low enough."""
        start, plan, training = time.perf_counter(), self.plan, self.training
        options = self.options({"activation": activation, "dropout": 0.0})
        net = AlexNet(
            len(training.classes),
            devices=self.devices,
            memory_limit=self.memory_limit,
            seed=plan.seeds[0],
            **options,
        )
        model = Classifier(net, training.classes, measure(training).mean)
        (centre,) = view_variations(plan.batch_size, 1, net.options.crop)
        errors: deque[float] = deque(maxlen=_WINDOW_STEPS)
        for images, labels in read_ahead(training, self.race_batches()):
            loss = net.train_step(model.input_batch(images, centre), labels, lr=lr, weight_decay=0.0)
            if not math.isfinite(loss):
                break
            answers = net.read(net.last_step().array("fc8.out")).argmax(axis=1)
            errors.append(float(np.mean(answers != labels)))
            if len(errors) == _WINDOW_STEPS and statistics.fmean(errors) <= plan.race_error:
                return Lap(activation, lr, net.step, time.perf_counter() - start)
        return Lap(activation, lr, None, time.perf_counter() - start)

    def race_batches(self) -> Iterator[npt.NDArray[np.intp]]:
        """The batches of a race, epoch after epoch, up to its last step."""
        plan, steps_an_epoch = self.plan, len(self.training) // self.plan.batch_size
        for step in range(plan.race_steps):
            epoch, place = divmod(step, steps_an_epoch)
            order = epoch_order(len(self.training), seed=plan.seeds[0], epoch=epoch)
            yield order[place * plan.batch_size : (place + 1) * plan.batch_size]

    def train(self, variant: Variant, seed: int, lr: float) -> Trial:
        """Train a variant and judge it."""
        start = time.perf_counter()
        try:
            model = self.trained(variant, seed, lr)
        except DivergedError:
            return Trial(variant.name, seed, lr, None, None, time.perf_counter() - start)
        train_error, held_out_error = (
            evaluate(model, part, overlap=False).top1_error for part in (self.training, self.held_out)
        )
        return Trial(variant.name, seed, lr, train_error, held_out_error, time.perf_counter() - start)

    def trained(self, variant: Variant, seed: int, lr: float) -> Classifier:
        """A variant after all epochs.

        Raises:
            DivergedError: the loss became infinite or NaN.
        """
        plan, recipe = self.plan, self.recipe
        result = train(
            self.training,
            preset="paper",
            validation=0,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            schedule=f"{lr}@0,{lr / 10}@{_PART_AT_FULL_RATE * plan.epochs}",
            reflect=recipe.reflect,
            colour_noise=recipe.colour_noise,
            subtract_mean=recipe.subtract_mean,
            seed=seed,
            progress=False,
            devices=self.devices,
            memory_limit=self.memory_limit,
            **self.options(variant.options),
        )
        if result.signal is not None:
            raise keyboard_interrupt(result.signal)
        return result.model


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value


def _describe(device: str) -> str:
    name = str(get_device(device))
    info = next(info for info in known_devices() if info.name == name)
    return f"{info.name}, {info.cores} cores of {info.description}"


def read_ablation(path: str | PathLike[str]) -> Ablation:
    """What :func:`ablate` wrote into a file.

    Raises:
        DataError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        return ABLATION_FORMAT.read(as_path("path", path))
    except DataError as error:
        raise DataError(f"{error}; name another file") from error


def _ablation_to_resume(path: str | PathLike[str], expected: Ablation) -> Ablation:
    """What a file holds, if it was made with the same plan on the same data, to go on with."""
    found = read_ablation(path)
    if (found.data, found.plan) != (expected.data, expected.plan):
        raise DataError(
            f"{fspath(path)} was made with {found.plan} on {found.data}; name another file, or remove this one"
        )
    return replace(found, devices=tuple(dict.fromkeys(found.devices + expected.devices)))
