"""``pyalexnet ablate``: what each of the net's choices brings."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from pyalexnet.ablation import ACTIVATIONS, PAPERS_NET, VARIANTS, Ablation, Lap, Plan, Trial, ablate
from pyalexnet.cli.arguments import DATA_HELP, add_command, add_placement, add_quiet
from pyalexnet.cli.output import print_tables, table_of
from pyalexnet.progress import Display, duration

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
        ("lr", float, "learning rate of the runs; a tenth of it in the last quarter"),
        ("race_error", float, "training error that ReLU and tanh are to reach"),
        ("race_steps", int, "steps at most to it"),
    ):
        default = getattr(_PLAN, name)
        flag = f"--{name.replace('_', '-')}"
        command.add_argument(flag, type=kind, default=default, metavar="N", help=f"{text} (default: {default:g})")
    command.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=_PLAN.seeds,
        metavar="N",
        help="each run is made with all (default: 0 1)",
    )
    command.add_argument(
        "--race-lrs",
        type=float,
        nargs="+",
        default=_PLAN.race_lrs,
        metavar="X",
        help="learning rates that ReLU and tanh try (default: 0.001 0.003 0.01)",
    )
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Measure and show."""
    given = {name: getattr(options, name) for name in vars(_PLAN)}
    plan = Plan(**given | {"seeds": tuple(options.seeds), "race_lrs": tuple(options.race_lrs)})
    start = time.perf_counter()
    with Display(enabled=not options.quiet) as display:
        found = ablate(
            options.data,
            plan,
            out=options.out,
            devices=options.devices,
            memory_limit=options.memory_limit,
            on_result=lambda result: display.line(f"{duration(time.perf_counter() - start):>8}  {_line(result)}"),
        )
    print_tables(*tables(found))
    return 0


def tables(found: Ablation) -> Iterator[Table | str]:
    """What was measured, to read."""
    plan = found.plan
    yield f"ReLU and tanh: steps of {plan.batch_size} images to a training error of {plan.race_error:.0%} (section 3.1)"
    yield table_of(("activation", *(f"lr {lr:g}" for lr in plan.race_lrs), "best"), race_rows(found), left=1)
    yield (
        f"nets trained on {plan.images:,} images of {found.data} for {plan.epochs} epochs, judged by {plan.held_out:,} "
        f"others; means of {len(plan.seeds)} seeds, and each"
    )
    headings = ("net", "section", "held-out error", "by seed", "training error", "against the paper's net")
    yield table_of(headings, run_rows(found), left=2)
    yield f"measured in {duration(found.seconds)} on {found.device}"


def race_rows(found: Ablation) -> list[tuple[str, ...]]:
    """A row for each activation."""
    steps = {(lap.activation, lap.lr): lap.steps for lap in found.laps}
    over = f"over {found.plan.race_steps}"
    return [
        (
            activation,
            *(str(steps[activation, lr] or over) for lr in found.plan.race_lrs),
            str(found.best_lap(activation).steps or over),
        )
        for activation in ACTIVATIONS
    ]


def run_rows(found: Ablation) -> list[tuple[str, ...]]:
    """A row for each variant."""
    ours = statistics.fmean(found.held_out_errors(PAPERS_NET.name))
    rows: list[tuple[str, ...]] = []
    for variant in VARIANTS:
        errors = found.held_out_errors(variant.name)
        mean = statistics.fmean(errors)
        rows.append(
            (
                variant.name,
                variant.section,
                f"{mean:.2%}",
                " ".join(f"{error:.2%}" for error in errors),
                f"{found.mean_train_error(variant.name):.2%}",
                "" if variant is PAPERS_NET else f"{100 * (mean - ours):+.2f} points",
            )
        )
    return rows


def _line(result: Lap | Trial) -> str:
    if isinstance(result, Lap):
        outcome = "not reached" if result.steps is None else f"reached after {result.steps} steps"
        return f"{result.activation} at lr {result.lr:g}: {outcome}"
    return (
        f"{result.variant}, seed {result.seed}: held-out error {result.held_out_error:.2%}, training error "
        f"{result.train_error:.2%}, {result.images_per_second:.1f} images/s"
    )
