"""``pyalexnet evaluate``: how often a model is right."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
from rich.table import Table

from pyalexnet.cli.arguments import (
    DATA_HELP,
    OWN_HELD_OUT,
    Skipped,
    add_batch_size,
    add_command,
    add_model,
    add_on_error,
    add_overlap,
    add_placement,
    add_quiet,
    add_views,
    open_model,
)
from pyalexnet.cli.output import as_json, columns, display_for, print_tables, require_outputs, table_of, write_text
from pyalexnet.cli.parser import Commands
from pyalexnet.data.augmentation import Views
from pyalexnet.data.dataset import remarks_on
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.evaluation.own_data import held_out_name
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import CONFIDENCE, ClassResult, Evaluation, Interval
from pyalexnet.net.model_file import file_of, record_accuracy, require_proof
from pyalexnet.net.proof import Accuracy
from pyalexnet.system.names import printable, shorten
from pyalexnet.system.progress import tell
from pyalexnet.system.ranks import join_ranks

# As many classes are shown one by one; of more the worst ones are.
_FEW = 20
_WORST = 10

# Characters of a class's name that are shown, in a column of its own and beside many others.
_NAME, _SHORT_NAME = 60, 24

_GAP = 3  # spaces between columns


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "evaluate",
        run,
        "measure a model's error on labelled images",
        "Measure top-1 and top-5 error with confidence intervals, as a whole and by class, and, where there are few "
        "classes, which is taken for which.",
    )
    add_model(command)
    command.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help=f"{DATA_HELP}; of what comes in two parts, the held-out one (default: {OWN_HELD_OUT})",
    )
    add_views(command)
    add_batch_size(command)
    command.add_argument("--by-class", action="store_true", help=f"show all classes, also if there are over {_FEW}")
    add_overlap(command)
    add_on_error(command)
    command.add_argument("--json", metavar="FILE", help="write all figures there")
    command.add_argument(
        "--record",
        action="store_true",
        help="write the accuracy into the model file too, where verify tells it; without DATA only",
    )
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Measure, show, and write what is asked for."""
    require_outputs(options.json)
    skipped = Skipped(options)
    if options.record:
        if options.data is not None:
            raise ValueError(f"DATA is {options.data}; with --record it must be left out, for the images held out")
        require_proof(options.model)
    model = open_model(options)
    data = None if options.data is None else as_test_dataset(options.data)
    with display_for(options) as display:
        display.lines(remarks_on(data))
        found = evaluate(
            model,
            data,
            batch_size=options.batch_size,
            views=options.views,
            overlap=options.overlap,
            on_error=skipped.on_error,
            on_stage=display.begin,
            on_images=display.advance,
        )
    join_ranks().from_first(lambda: _show(found, options, model))
    return skipped.exit_status()


def _show(found: Evaluation, options: argparse.Namespace, model: Classifier) -> None:
    which = "images that the run held out" if options.data is None else "images"
    print_tables(*_shown(found, which, by_class=options.by_class))
    if options.json:
        write_text(as_json(as_record(found)), options.json)
    if options.record:
        record_accuracy(options.model, model, _accuracy(found, model))
        tell(printable(f"recorded in {file_of(options.model)}"))


def _accuracy(found: Evaluation, model: Classifier) -> Accuracy:
    views = cast(Views, found.views)  # which is what evaluate takes
    return Accuracy(data=held_out_name(model), images=found.count, views=views, top1_error=found.top1_error)


def as_record(found: Evaluation) -> dict[str, object]:
    """All that was found, as JSON holds it; null are errors of classes without images, and what was not found out."""
    unseen = found.unseen
    return {
        "images": found.count,
        "views": found.views,
        "loss": found.loss,
        "confidence": CONFIDENCE,
        **_errors(found, found.count),
        "trained_on": found.trained_on,
        "not_checked": found.not_checked or None,
        "unseen": unseen and {"images": unseen.count, "loss": unseen.loss, **_errors(unseen, unseen.count)},
        "classes": [{"name": one.name, "images": one.count, **_errors(one, one.count)} for one in found.by_class()],
        "confusion": found.confusion.tolist(),
    }


def _errors(of: Evaluation | ClassResult, count: int) -> dict[str, object]:
    return {
        "top1_error": of.top1_error if count else None,
        "top1_interval": list(of.top1_interval),
        "top5_error": of.top5_error if count else None,
        "top5_interval": list(of.top5_interval),
    }


def _shown(found: Evaluation, which: str, *, by_class: bool) -> Iterator[Table | str]:
    views = "1 view" if found.views == 1 else f"{found.views} views"
    yield f"{found.count:,} {which}, {views} each; intervals hold {CONFIDENCE:.0%}"
    yield found.overlap
    yield from _totals(found)
    if found.unseen:
        yield f"the {found.unseen.count:,} that were not trained on:"
        yield from _totals(found.unseen)
    results = [one for one in found.by_class() if one.count]
    if len(results) <= _FEW or by_class:
        yield class_table(results)
    else:
        worst = sorted(results, key=lambda one: -one.top1_error)[:_WORST]
        yield class_table(worst, f"the {_WORST} classes with the largest errors, of {len(results)}")
    yield from _mistakes(found)


def _totals(found: Evaluation) -> Iterator[str]:
    yield f"top-1 error {found.top1_error:7.2%}  {_interval(found.top1_interval)}   accuracy {found.accuracy:.2%}"
    yield f"top-5 error {found.top5_error:7.2%}  {_interval(found.top5_interval)}"
    yield f"loss        {found.loss:7.4f}"


def class_table(results: Sequence[ClassResult], title: str = "") -> Table:
    """Errors by class."""
    rows = [
        (
            shorten(one.name, _NAME),
            str(one.count),
            f"{one.top1_error:.2%}",
            _interval(one.top1_interval),
            f"{one.top5_error:.2%}",
        )
        for one in results
    ]
    return table_of(("class", "images", "top-1 error", "interval", "top-5 error"), rows, text=[0], title=title)


def _mistakes(found: Evaluation) -> Iterator[Table | str]:
    """Which class was taken for which: each for each where there is room for that, else what happened most often."""
    rows = [
        (shorten(f"{number} {name}", _SHORT_NAME), *(str(count) if count else "·" for count in row))
        for number, (name, row) in enumerate(zip(found.classes, found.confusion, strict=True))
    ]
    numbers = list(map(str, range(found.confusion.shape[1])))
    headings = ("class (row) taken for", *numbers)
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    if sum(widths) + _GAP * len(widths) <= columns():
        yield table_of(headings, rows, text=[0])
        return
    wrong = found.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_WORST]
    pairs = [(int(row), int(column)) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    often = [
        (
            shorten(found.classes[row], _NAME),
            shorten(found.classes[column] if column < len(found.classes) else f"output {column}", _NAME),
            str(wrong[row, column]),
        )
        for row, column in pairs
        if wrong[row, column]
    ]
    if often:
        yield table_of(("class", "taken for", "images"), often, text=[0, 1], title="the most frequent mistakes")


def _interval(interval: Interval) -> str:
    return f"{interval.low:.2%} to {interval.high:.2%}"
