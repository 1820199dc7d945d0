"""What a training run left in its folder, read back: settings, data, history and the log of its steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.checkpoint import CHECKPOINTS
from pyalexnet.errors import DataError
from pyalexnet.metrics import METRICS_FILE, read_lines
from pyalexnet.recipe import Settings
from pyalexnet.result import RUN_FILE
from pyalexnet.run_state import EpochRecord, best_epoch


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
    data: dict[str, Any]
    stopped: str
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
    """
    folder = Path(folder)
    path = folder / RUN_FILE
    content = _read(folder)
    try:
        return RunRecord(
            folder=folder,
            settings=Settings.from_dict(content["settings"]),
            data=dict(content["data"]),
            stopped=str(content["stopped"]),
            steps=int(content["steps"]),
            history=tuple(EpochRecord.from_json(record) for record in content["history"]),
            log=_step_log(folder / METRICS_FILE),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not as this pyalexnet writes it: {error}") from error


def load_data_description(folder: Path) -> dict[str, Any]:
    """What a run's images were, see :attr:`pyalexnet.data.choice.DataChoice.description`.

    Args:
        folder: the run's, or that of one of its checkpoints.

    Raises:
        DataError: there is no run there, or its record is damaged; the message names it.
    """
    folder = folder.resolve()
    if folder.parent.name == CHECKPOINTS:
        folder = folder.parent.parent
    about = _read(folder).get("data")
    if not isinstance(about, dict) or not {"source", "validation", "training", "held_out"} <= about.keys():
        raise DataError(f"{folder / RUN_FILE} is not as this pyalexnet writes it: it does not describe the run's data")
    return about


def _read(folder: Path) -> Any:
    path = folder / RUN_FILE
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no run: there is no {RUN_FILE} in it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _step_log(path: Path) -> StepLog:
    if not path.is_file():
        return StepLog(np.empty(0, np.int64), np.empty(0), np.empty(0))
    try:
        lines = [line for line in read_lines(path) if line["kind"] == "step"]
        losses = np.array([float(line["loss"]) for line in lines])
        return StepLog(
            steps=np.array([line["step"] for line in lines], np.int64),
            losses=np.where(np.isfinite(losses), losses, np.nan),
            rates=np.array([float(line["lr"]) for line in lines]),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
