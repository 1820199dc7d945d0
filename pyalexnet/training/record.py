"""What a training run left in its folder, read back: settings, data, history and the log of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge
from typing_extensions import TypedDict

from pyalexnet.data.choice import DataDescription
from pyalexnet.errors import DataError
from pyalexnet.system.checks import as_path, require, shown
from pyalexnet.system.json_file import JsonFormat
from pyalexnet.training.checkpoint import CHECKPOINTS
from pyalexnet.training.logs import METRICS_FILE, read_lines
from pyalexnet.training.result import RUN_FILE, Stopped
from pyalexnet.training.settings import Settings
from pyalexnet.training.state import EpochRecord, RunDescription, best_epoch, require_in_order


@dataclass(frozen=True, eq=False)
class StepLog:
    """The steps of a run, in order; NaN where a loss was not finite.

    Attributes:
        steps: int64 (n,), each step's number.
        losses: float64 (n,).
        rates: float64 (n,), learning rates.
    """

    steps: npt.NDArray[np.int64]
    losses: npt.NDArray[np.float64]
    rates: npt.NDArray[np.float64]


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells of it.

    Attributes:
        folder: the folder.
        settings: what the run was asked to do.
        data: what its images were, see :attr:`pyalexnet.data.choice.DataChoice.description`.
        stopped: how it ended, see :class:`pyalexnet.TrainingResult`.
        steps: steps done.
        history: a record for each whole epoch.
        log: its steps; none where there is no log.
    """

    folder: Path
    settings: Settings
    data: DataDescription
    stopped: Stopped
    steps: int
    history: tuple[EpochRecord, ...]
    log: StepLog

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch with the lowest held-out error, if any was measured."""
        return best_epoch(self.history)


def load_run(folder: str | PathLike[str]) -> RunRecord:
    """Read a run's folder.

    Args:
        folder: what was ``out`` in :func:`pyalexnet.train`.

    Raises:
        DataError: there is no such folder or run, or a file of it is damaged; the message names it.
        TypeError: ``folder`` is no path.
    """
    folder = as_path("folder", folder)
    run = _read(folder)
    return RunRecord(
        folder=folder,
        settings=run.settings,
        data=run.data,
        stopped=run.stopped,
        steps=run.steps,
        history=run.history,
        log=_step_log(folder / METRICS_FILE),
    )


def as_run(run: RunRecord | str | PathLike[str]) -> RunRecord:
    """A run's record from what a user names: itself, or the run's folder.

    Raises:
        DataError: as in :func:`load_run`.
        TypeError: it is neither.
        ValueError: it is a path that can name nothing.
    """
    if isinstance(run, RunRecord):
        return run
    if isinstance(run, str | PathLike):
        return load_run(as_path("run", run))
    raise TypeError(f"run is {shown(run)}; it must be a RunRecord or a run's folder")


def load_data_description(folder: Path) -> DataDescription:
    """What a run's images were, see :attr:`pyalexnet.data.choice.DataChoice.description`.

    Args:
        folder: the run's, or that of one of its checkpoints.

    Raises:
        DataError: there is no run there, or its record is damaged; the message names it.
    """
    folder = folder.resolve()
    if folder.parent.name == CHECKPOINTS:
        folder = folder.parent.parent
    return _read(folder).data


@dataclass(frozen=True, kw_only=True)
class _RunFile(RunDescription):
    """What ``run.json`` holds, as :meth:`pyalexnet.TrainingResult.save_record` writes it."""

    stopped: Stopped
    steps: Annotated[int, Ge(0)]
    best: int | None
    history: tuple[EpochRecord, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_in_order(self.history, self.steps)
        best = best_epoch(self.history)
        require(self.best == (best and best.epoch), "best", self.best, f"{best and best.epoch}, as the history says")


class _Step(TypedDict):
    """What is read of a line about a step; a loss that is not finite is a text."""

    loss: float | Literal["NaN", "Infinity", "-Infinity"]
    lr: Annotated[float, Ge(0)]


RUN_FORMAT = JsonFormat(_RunFile, 64 * 2**20, DataError)
_STEP_FORMAT = JsonFormat(_Step, 0, ValueError, extra="ignore")


def _read(folder: Path) -> _RunFile:
    path = folder / RUN_FILE
    try:
        return RUN_FORMAT.read(path)
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no run: there is no {RUN_FILE} in it") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _step_log(path: Path) -> StepLog:
    steps: list[int] = []
    losses: list[float] = []
    rates: list[float] = []
    try:
        for line in read_lines(path):
            if line["kind"] != "step":
                continue
            number = line["step"]
            values = _STEP_FORMAT.check(line, f"the line of step {number}")
            if steps:
                require(number > steps[-1], "step", number, f"above that of the line before, {steps[-1]}")
            steps.append(number)
            losses.append(float(values["loss"]))
            rates.append(values["lr"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    found = np.array(losses, np.float64)
    return StepLog(
        steps=np.array(steps, np.int64),
        losses=np.where(np.isfinite(found), found, np.nan),
        rates=np.array(rates, np.float64),
    )
