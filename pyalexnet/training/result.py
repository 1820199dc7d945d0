"""What a training run leaves: a model, its history, and the files that hold them."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from pyalexnet.data.choice import DataDescription
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import MODEL_FILE, model_content
from pyalexnet.system.checks import as_path
from pyalexnet.system.files import write_atomically
from pyalexnet.training.settings import Settings
from pyalexnet.training.state import EpochRecord, accuracy_after, best_epoch

BEST_FILE, RUN_FILE = "best.safetensors", "run.json"

Stopped = Literal["running", "finished", "interrupted", "terminated", "diverged"]


@dataclass
class TrainingResult:
    """What :func:`train` returns.

    Attributes:
        model: the trained net with its classes and mean image, for :func:`pyalexnet.evaluate`,
            :func:`pyalexnet.predict` and :func:`pyalexnet.save_model`.
        history: one record for each whole epoch.
        settings: what was asked for, defaults filled in.
        data: what the images were, see :attr:`pyalexnet.data.choice.DataChoice.description`.
        stopped: why training ended: all epochs ``"finished"``, Ctrl-C or a callback ``"interrupted"`` it, SIGTERM or
            SIGXCPU ``"terminated"`` it, or it ``"diverged"``; ``"running"`` while it has not.
        signal: the signal that interrupted or terminated it, in this process; None where a callback did.
    """

    model: Classifier
    history: list[EpochRecord]
    settings: Settings
    data: DataDescription
    stopped: Stopped = "running"
    signal: signal.Signals | None = None

    def __repr__(self) -> str:
        accuracy = self.validation_accuracy
        known = "" if accuracy is None else f", accuracy {accuracy:.2%}"
        return f"<TrainingResult: {self.stopped} after {len(self.history)} epochs{known}; {self.model!r}>"

    @property
    def validation_accuracy(self) -> float | None:
        """Accuracy on the held-out images after the last whole epoch."""
        return self.history[-1].validation_accuracy if self.history else None

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch with the lowest validation error; None where none was measured."""
        return best_epoch(self.history)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``run.json`` (settings, data and history) into a folder.

        Raises:
            OSError: a file cannot be written; what was there before is unchanged.
            TypeError: ``folder`` is no path.
        """
        folder = as_path("folder", folder)
        folder.mkdir(parents=True, exist_ok=True)
        accuracy = accuracy_after(self.model.net.step, self.history, self.data)
        write_atomically(folder / MODEL_FILE, model_content(self.model, accuracy=accuracy))
        self.save_record(folder)

    def save_record(self, folder: Path) -> None:
        """Write ``run.json`` alone into a folder.

        Raises:
            OSError: it cannot be written; what was there before is unchanged.
        """
        run = {
            "settings": asdict(self.settings),
            "data": self.data,
            "stopped": self.stopped,
            "steps": self.model.net.step,
            "best": None if self.best is None else self.best.epoch,
            "history": [asdict(record) for record in self.history],
        }
        write_atomically(folder / RUN_FILE, (json.dumps(run, indent=2) + "\n").encode())
