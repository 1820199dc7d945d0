"""``pyalexnet ablate``: what each of the net's choices brings."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table

from pyalexnet.ablation import ACTIVATIONS, PAPERS_NET, VARIANTS, Ablation, Lap, Plan, Trial, ablate
from pyalexnet.cli.arguments import DATA_HELP, Skipped, add_command, add_on_error, add_placement, add_quiet
from pyalexnet.cli.output import print_tables, table_of
from pyalexnet.cli.parser import is_numbers
from pyalexnet.progress import Display, duration

RUN_HEADINGS = ("net", "section", "held-out error", "by seed", "training error", "against the paper's net")

_PLAN = Plan()


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "ablate",
        run,
        "measure what each of the net's choices brings",
        "Measure what the paper claims, on real images: ReLU against tanh (steps to a training error), two towers "
        "against one, LRN on and off, overlapping against plain pooling, dropout on and off (held-out error).",
    )
    command.add_argument("data", metavar="DATA", help=DATA_HELP)
    command.add_argument("--out", metavar="FILE", help="keep all figures here, as JSON; the same command continues it")
    for name, kind, text in (
        ("images", int, "training images"),
        ("held_out", int, "held-out images"),
        ("epochs", int, "passes over them, of each run"),
        ("batch_size", int, "images a step"),
        ("race_error", float, "training error that ReLU and tanh are to reach"),
        ("race_steps", int, "steps at most to it"),
    ):
        default = getattr(_PLAN, name)
        flag = f"--{name.replace('_', '-')}"
        command.add_argument(flag, type=kind, default=default, metavar="N", help=f"{text} (default: {default:g})")
    for name, kind, text in (
        ("lrs", float, "learning rates that each net tries; a tenth of each in the last quarter"),
        ("seeds", int, "of the runs; those after the first repeat the rate that was best with the first"),
        ("race_lrs", float, "learning rates that ReLU and tanh try"),
    ):
        default = getattr(_PLAN, name)
        flag, shown = f"--{name.replace('_', '-')}", ",".join(f"{value:g}" for value in default)
        command.add_list(
            flag, kind, continues=is_numbers, default=default, metavar="N,N", help=f"{text} (default: {shown})"
        )
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Measure and show."""
    plan = Plan.from_dict({name: getattr(options, name) for name in vars(_PLAN)})
    skipped = Skipped(options)
    start = time.perf_counter()
    with Display(enabled=not options.quiet) as display:
        found = ablate(
            options.data,
            plan,
            out=options.out,
            devices=options.devices,
            memory_limit=options.memory_limit,
            on_error=skipped.on_error,
            on_begin=lambda name, done: display.begin(name, plan.measurements, done),
            on_result=lambda result: display.line(f"{duration(time.perf_counter() - start):>8}  {_line(result)}"),
        )
    print_tables(*tables(found))
    return skipped.exit_status()


def tables(found: Ablation) -> Iterator[Table | str]:
    """What was measured, to read."""
    plan = found.plan
    yield f"ReLU and tanh: steps of {plan.batch_size} images to a training error of {plan.race_error:.0%} (section 3.1)"
    yield table_of(race_headings(plan), race_rows(found), text=[0])
    yield (
        f"nets trained on {plan.images:,} images of {found.data} for {plan.epochs} epochs: held-out error on "
        f"{plan.held_out:,} others at each rate with seed {plan.seeds[0]} (sections 3.2 to 3.4 and 4.2)"
    )
    yield table_of(search_headings(plan), search_rows(found), text=[0])
    yield f"each at its best rate, with each of the seeds {', '.join(map(str, plan.seeds))}, and the means"
    yield table_of(RUN_HEADINGS, run_rows(found), text=[0, 1])
    yield f"measured in {duration(found.seconds)} on {' and '.join(found.devices)}"


def race_headings(plan: Plan) -> tuple[str, ...]:
    """Of :func:`race_rows`."""
    return ("activation", *(f"lr {lr:g}" for lr in plan.race_lrs), "best")


def race_rows(found: Ablation) -> list[tuple[str, ...]]:
    """A row for each activation."""
    steps = {(lap.activation, lap.lr): lap.steps for lap in found.laps}
    not_reached = "not reached"
    return [
        (
            activation,
            *(str(steps[activation, lr] or not_reached) for lr in found.plan.race_lrs),
            str(found.best_lap(activation).steps or not_reached),
        )
        for activation in ACTIVATIONS
    ]


def search_headings(plan: Plan) -> tuple[str, ...]:
    """Of :func:`search_rows`."""
    return ("net", *(f"lr {lr:g}" for lr in plan.lrs), "best")


def search_rows(found: Ablation) -> list[tuple[str, ...]]:
    """A row for each variant: the held-out error at each rate, and the best rate."""
    rows: list[tuple[str, ...]] = []
    for variant in VARIANTS:
        errors = {trial.lr: trial.held_out_error for trial in found.search(variant.name)}
        shown = (_percent(errors[lr]) for lr in found.plan.lrs)
        rows.append((variant.name, *shown, f"lr {found.best_lr(variant.name):g}"))
    return rows


def run_rows(found: Ablation) -> list[tuple[str, ...]]:
    """A row for each variant at its best rate, under :data:`RUN_HEADINGS`."""
    ours = _mean(trial.held_out_error for trial in found.best_trials(PAPERS_NET.name))
    rows: list[tuple[str, ...]] = []
    for variant in VARIANTS:
        trials = found.best_trials(variant.name)
        error = _mean(trial.held_out_error for trial in trials)
        apart = "" if variant is PAPERS_NET or error is None or ours is None else f"{100 * (error - ours):+.2f} points"
        rows.append(
            (
                variant.name,
                variant.section,
                _percent(error),
                " ".join(_percent(trial.held_out_error) for trial in trials),
                _percent(_mean(trial.train_error for trial in trials)),
                apart,
            )
        )
    return rows


def _mean(errors: Iterable[float | None]) -> float | None:
    """None where one run diverged: the mean of the others would flatter."""
    known = list(errors)
    numbers = [error for error in known if error is not None]
    return statistics.fmean(numbers) if len(numbers) == len(known) else None


def _percent(error: float | None) -> str:
    return "diverged" if error is None else f"{error:.2%}"


def _line(result: Lap | Trial) -> str:
    if isinstance(result, Lap):
        outcome = "not reached" if result.steps is None else f"reached after {result.steps} steps"
        return f"{result.activation} at lr {result.lr:g}: {outcome}"
    return (
        f"{result.variant} at lr {result.lr:g}, seed {result.seed}: held-out error {_percent(result.held_out_error)}, "
        f"training error {_percent(result.train_error)}"
    )
