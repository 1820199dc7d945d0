"""``pyalexnet train``: a net learns from images."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from pyalexnet.architecture import CHOICES, Options
from pyalexnet.cli.arguments import (
    DATA_HELP,
    Skipped,
    add_command,
    add_on_error,
    add_placement,
    factors,
    fraction_or_name,
)
from pyalexnet.cli.status import ended_by
from pyalexnet.net.model_file import MODEL_FILE
from pyalexnet.system.names import printable
from pyalexnet.system.progress import tell
from pyalexnet.training.recipe import DIGITS, LEAST_BATCH, MOST_EPOCHS, PAPER, PAPER_CLASSES, PRESETS, SMALL
from pyalexnet.training.schedule import SHIPPED
from pyalexnet.training.train import train

_OPTION_HELP = {
    "weight_init": "spread of the initial weights",
    "bias_init": "initial biases",
    "lrn_alpha": "whether LRN's alpha is divided by the window's size",
    "pool_before_lrn": "pool, then normalise",
    "second_lrn": "another LRN behind conv2's, within each map, as in the 2012 code",
    "relu1_last": "conv1's ReLU behind LRN and pooling, as in the 2012 code",
    "crop": "pixels a side that the net sees",
    "bias_update": "whether biases move twice as fast and do not decay",
    "activation": "the nonlinearity",
    "pooling": "windows of 3×3 or of 2×2, 2 apart",
    "lrn": "local response normalisation",
    "towers": "2, or 1 for the paper's net for one GPU",
}

# What follows from the number of few images, by setting.
_FEW = {
    "epochs": f"{SMALL.epochs} to {MOST_EPOCHS}",
    "batch_size": f"{LEAST_BATCH} to {SMALL.batch_size}",
}


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "train",
        run,
        "train a net",
        "Train AlexNet, by a recipe that follows from how many images and classes there are: for some thousand "
        "images small steps and few minutes on CPU cores, for a million of at least "
        f"{PAPER_CLASSES} classes the paper's. A line at the start tells it, --preset paper gives the paper's in any "
        "case, and what an option says holds. With no DATA the net learns scikit-learn's handwritten digits. Ctrl-C "
        "and SIGTERM finish the step, save and end; a second Ctrl-C stops at once. SIGUSR1, SIGUSR2 and SIGHUP save "
        "and go on.",
    )
    command.add_argument("data", nargs="?", metavar="DATA", help=f"{DATA_HELP} (default: digits)")
    command.add_argument(
        "--validation",
        type=fraction_or_name,
        metavar="PART",
        help="the part of DATA that is held out to measure accuracy, 0 for none, or data of its own "
        f"(default: what DATA itself holds out, else {PAPER.validation:g}; digits {DIGITS.validation:g})",
    )
    _add_recipe(command)
    _add_schedule(command)
    _add_run(command)
    add_on_error(command)
    add_placement(command)
    net = command.add_argument_group("the net, where its sources differ or the paper compares (see docs/ledger.md)")
    for name, choices in CHOICES.items():
        flag, default = f"--{name.replace('_', '-')}", choices[0]
        if isinstance(default, bool):
            known = f"{_OPTION_HELP[name]} (default: {'yes' if default else 'no'})"
            net.add_argument(flag, action=argparse.BooleanOptionalAction, help=known)
        else:
            known = f"{_OPTION_HELP[name]} ({_defaults(default, *_options_named(name))})"
            net.add_argument(flag, type=type(default), choices=choices, help=known)
    net.add_argument("--lrn-k", type=float, metavar="K", help="LRN's constant; Caffe has 1 (default: 2)")
    dropout = _defaults(Options.dropout, *_options_named("dropout"))
    net.add_argument("--dropout", type=float, metavar="P", help=f"chance to drop a hidden output ({dropout})")
    net.add_argument("--num-classes", type=int, metavar="N", help="outputs (default: as many as DATA has classes)")


def run(options: argparse.Namespace) -> int:
    """Train, and say what came of it."""
    given = {name: value for name, value in vars(options).items() if name in _ARGUMENTS and value is not None}
    result = train(options.data, **given)
    if result.validation_accuracy is not None:
        tell(f"accuracy on held-out images: {result.validation_accuracy:.2%}")
    if options.out is not None:
        tell(printable(f"model: {options.out}/{MODEL_FILE}"))
    if result.signal is not None:
        advice = f"; to go on, repeat the command with --resume --out {options.out}" if options.out else ""
        ended = f"pyalexnet train: {result.stopped} after {result.model.net.step} steps{advice}"
        tell(printable(ended), on_stderr=True)
        return ended_by(result.signal)
    unreadable = result.data.get("unreadable", {})
    return Skipped(options).exit_status(error for part in unreadable.values() for error in part.values())


def _add_recipe(command: argparse.ArgumentParser) -> None:
    recipe = command.add_argument_group("recipe (defaults: the paper's; of few images or the digits where they differ)")
    recipe.add_argument("--preset", choices=PRESETS, help="a source's whole recipe, which the options below change")
    for name, kind, text in (
        ("epochs", int, "passes over the images"),
        ("batch_size", int, "images a step"),
        ("momentum", float, "share of the last update that is kept"),
        ("weight_decay", float, "pull of weights towards 0, relative to the learning rate"),
        ("colour_noise", float, "strength of random colour shifts"),
    ):
        _add_setting(recipe, name, kind, text)
    recipe.add_argument(
        "--colour-noise-scaled",
        action=argparse.BooleanOptionalAction,
        help="divide images by 1 + the strength of the colour shifts (default: no)",
    )
    recipe.add_argument(
        "--reflect", action=argparse.BooleanOptionalAction, help="mirror half of the crops (default: yes; digits: no)"
    )
    recipe.add_argument(
        "--no-mean",
        dest="subtract_mean",
        action="store_false",
        default=None,
        help="feed raw pixels, without subtracting the mean image",
    )
    recipe.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same net (default: 0)")


def _add_schedule(command: argparse.ArgumentParser) -> None:
    schedule = command.add_argument_group("learning rate")
    _add_setting(schedule, "lr", float, "learning rate at the start")
    schedule.add_argument(
        "--lr-layers",
        type=factors,
        metavar="NAME=X,...",
        help="factors of the rates of layers that differ, such as conv1=0,fc8=2 or fc8.bias=0.5; 0 freezes "
        f"(default: none; few images {','.join(f'{name}={factor:g}' for name, factor in SMALL.lr_layers.items())})",
    )
    schedule.add_argument(
        "--schedule",
        metavar="RATES",
        help="plateau: divide the rate by 10 when the held-out images' error stops improving; falling: evenly from "
        "--lr to --floor over all epochs; or rates by epoch, such as 0.01@0,0.001@30; or "
        f"{' or '.join(SHIPPED)}; or a schedule file, FILE.json (default: {PAPER.schedule}; few images: "
        f"{SMALL.schedule})",
    )
    _add_setting(schedule, "warmup", int, "steps at the start over which the rate rises to what the schedule says")
    _add_setting(schedule, "patience", int, "epochs in a row without a lower error that make a plateau, 0 for never")
    schedule.add_argument("--floor", type=float, metavar="X", help="the lowest rate (default: a thousandth of --lr)")


def _add_run(command: argparse.ArgumentParser) -> None:
    run = command.add_argument_group("the run")
    run.add_argument("--out", metavar="DIR", help="write the model, checkpoints, run.json and metrics.jsonl here")
    run.add_argument(
        "--resume", action="store_true", default=None, help="go on from the newest checkpoint in --out, if there is one"
    )
    run.add_argument(
        "--allow-changes", action="store_true", default=None, help="resume with other settings or data than before"
    )
    run.add_argument(
        "--checkpoint-minutes",
        type=float,
        metavar="X",
        help="time between checkpoints; there is one after each epoch in any case "
        f"(default: {_default('checkpoint_minutes')})",
    )
    run.add_argument(
        "--keep", type=int, metavar="N", help=f"checkpoints that stay, beside the best (default: {_default('keep')})"
    )
    run.add_argument("--tensorboard", action="store_true", default=None, help="write TensorBoard's files into --out")
    run.add_argument(
        "--report-relus", action="store_true", default=None, help="after each epoch, tell how many ReLUs are dead"
    )
    run.add_argument("--quiet", dest="progress", action="store_false", default=None, help="show no progress")


def _add_setting(group: Any, name: str, kind: type, text: str) -> None:
    paper, few, digits = (getattr(recipe, name) for recipe in (PAPER, SMALL, DIGITS))
    known = _defaults(paper, _FEW.get(name, few), digits)
    group.add_argument(
        f"--{name.replace('_', '-')}", type=kind, metavar="N" if kind is int else "X", help=f"{text} ({known})"
    )


def _options_named(name: str) -> tuple[Any, Any]:
    """What the recipes for few images and for the digits have for an option of the net."""
    few, digits = (Options(**recipe.net_options) for recipe in (SMALL, DIGITS))
    return getattr(few, name), getattr(digits, name)


def _defaults(paper: Any, few: Any, digits: Any) -> str:
    """The defaults of a setting by recipe, those that are not the paper's named."""
    others = [f"; {name} {value}" for name, value in (("few images", few), ("digits", digits)) if value != paper]
    return f"default: {paper}{''.join(others)}"


def _default(argument: str) -> Any:
    return inspect.signature(train).parameters[argument].default


_ARGUMENTS = {name for name in inspect.signature(train).parameters if name not in ("data", "net_options")} | {
    *CHOICES,
    "dropout",
    "lrn_k",
}
