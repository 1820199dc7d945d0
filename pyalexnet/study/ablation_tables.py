"""An ablation's figures as tables: headings, and rows of text."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from pyalexnet.study.ablation import ACTIVATIONS, PAPERS_NET, VARIANTS, Ablation, Plan

RUN_HEADINGS = ("net", "section", "held-out error", "by seed", "training error", "against the paper's net")


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
        shown = (percent(errors[lr]) for lr in found.plan.lrs)
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
                percent(error),
                " ".join(percent(trial.held_out_error) for trial in trials),
                percent(_mean(trial.train_error for trial in trials)),
                apart,
            )
        )
    return rows


def _mean(errors: Iterable[float | None]) -> float | None:
    """None where one run diverged: the mean of the others would flatter."""
    known = list(errors)
    numbers = [error for error in known if error is not None]
    return statistics.fmean(numbers) if len(numbers) == len(known) else None


def percent(error: float | None) -> str:
    """An error to read; None is that of a run that diverged."""
    return "diverged" if error is None else f"{error:.2%}"
