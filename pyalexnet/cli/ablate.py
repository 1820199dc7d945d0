"""``pyalexnet ablate``: what each of the net's choices brings."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import get_args, get_origin

from rich.table import Table

from pyalexnet.cli.arguments import (
    DATA_HELP,
    Skipped,
    add_command,
    add_declared,
    add_on_error,
    add_placement,
    add_quiet,
    readable,
)
from pyalexnet.cli.output import print_tables, table_of
from pyalexnet.cli.parser import Commands, is_numbers
from pyalexnet.study.ablation import Ablation, Lap, Plan, Trial, ablate
from pyalexnet.study.ablation_tables import (
    RUN_HEADINGS,
    percent,
    race_headings,
    race_rows,
    run_rows,
    search_headings,
    search_rows,
)
from pyalexnet.system.declaration import arguments_of
from pyalexnet.system.progress import Display, duration


def add(commands: Commands) -> None:
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
    plan = arguments_of(Plan).values()
    for argument in plan:
        if get_origin(argument.kind) is not tuple:
            add_declared(command, argument, readable(argument.default))
    for argument in plan:
        if get_origin(argument.kind) is tuple:
            command.add_list(
                f"--{argument.name.replace('_', '-')}",
                get_args(argument.kind)[0],
                continues=is_numbers,
                metavar=argument.setting.metavar,
                help=f"{argument.setting.help} (default: {readable(argument.default)})",
            )
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Measure and show."""
    given = {name: value for name, value in vars(options).items() if name in arguments_of(Plan) and value is not None}
    plan = Plan.from_dict(given)
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


def _line(result: Lap | Trial) -> str:
    if isinstance(result, Lap):
        outcome = "not reached" if result.steps is None else f"reached after {result.steps} steps"
        return f"{result.activation} at lr {result.lr:g}: {outcome}"
    return (
        f"{result.variant} at lr {result.lr:g}, seed {result.seed}: held-out error {percent(result.held_out_error)}, "
        f"training error {percent(result.train_error)}"
    )
