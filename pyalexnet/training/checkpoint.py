"""Checkpoints: all from which a training run goes on, bit for bit, as if nothing had stopped it.

    RUN/checkpoints/epoch-003-step-00001200/     the third epoch is under way, 1200 steps are done
        model.safetensors     the classifier, as evaluate and predict read it
        momentum.safetensors  each parameter's last update, and the axes of the colour noise
        state.json            place in the data, schedule, history, settings, versions, checksums of the other two

A checkpoint is a folder that is written under another name and renamed when the disk has all of it: under its own
name it is complete, whatever stops the process. Its parts are plain data, of which reading executes nothing.
"""

from __future__ import annotations

import json
import platform
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from pyalexnet.architecture import IMAGE_SIZE, Options, parameter_count
from pyalexnet.data.choice import DataDescription
from pyalexnet.errors import ModelFileError
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import MODEL_FILE, model_content, read_model
from pyalexnet.net.tensor_file import Description, Shapes, Tensors, description_format, open_tensors, pack
from pyalexnet.system.files import (
    folder_written_atomically,
    open_regular_file,
    read_regular_file,
    remove_folder,
    remove_unfinished,
    write_through,
)
from pyalexnet.system.json_file import JsonFormat
from pyalexnet.system.versions import versions
from pyalexnet.training.settings import Settings
from pyalexnet.training.state import EpochRecord, RunDescription, RunState, accuracy_after, require_in_order
from pyalexnet.training.watch import StuckLoss

CHECKPOINTS = "checkpoints"
MOMENTUM_FILE, STATE_FILE = "momentum.safetensors", "state.json"

_FORMAT = 1
_COLOUR_AXES = "input.colour_axes"
_NAME = re.compile(r"epoch-(\d{3,9})-step-(\d{8,15})")
_STATE_BYTES = 1_000_000  # ample for a state and the headers of the tensors


@dataclass
class Checkpoint:
    """What a run goes on from.

    Attributes:
        model: the classifier; its net has the momentum too.
        colour_axes: float32 (3, 3), see :class:`pyalexnet.data.statistics.Statistics`.
        state: where the run stands.
        settings: what the run was asked to do.
        data: what its images were, as JSON holds it.
    """

    model: Classifier
    colour_axes: npt.NDArray[np.float32]
    state: RunState
    settings: Settings
    data: DataDescription

    def save(self, folder: str | PathLike[str], parameters: Tensors | None = None) -> Path:
        """Write a checkpoint into a run's folder, whole or not at all.

        Args:
            folder: the run's folder.
            parameters: the net's, from a caller who has them in host memory already.

        Returns:
            The checkpoint's own folder; one of the same place that is there already stays as it is.

        Raises:
            OSError: it cannot be written; the message says why and how many bytes were needed.
        """
        path = Path(folder) / CHECKPOINTS / _name(self.state.epoch, self.model.net.step)
        if path.exists():
            return path
        contents = {
            MODEL_FILE: model_content(
                self.model, parameters, accuracy=accuracy_after(self.model.net.step, self.state.history, self.data)
            ),
            MOMENTUM_FILE: pack({**self.model.net.momentum(), _COLOUR_AXES: self.colour_axes}, {}),
        }
        contents[STATE_FILE] = self._state_content({name: zlib.crc32(content) for name, content in contents.items()})
        try:
            with folder_written_atomically(path) as unfinished:
                for name, content in contents.items():
                    write_through(unfinished / name, content)
        except OSError as error:
            size_bytes = sum(map(len, contents.values()))
            reason = f"cannot write {path} ({size_bytes:,} bytes): {error.strerror or error}"
            raise OSError(error.errno, reason) from error
        return path

    def _state_content(self, checksums: Mapping[str, int]) -> bytes:
        about: dict[str, object] = {
            "format": _FORMAT,
            "versions": versions() | {"python": platform.python_version()},
            "checksums": checksums,
            "settings": asdict(self.settings),
            "data": self.data,
            "state": asdict(self.state),
        }
        return json.dumps(about | {"checksum": _json_checksum(about)}, indent=2, allow_nan=False).encode()

    @classmethod
    def load(cls, path: Path, *, devices: Sequence[str] | None = None, memory_limit: int | None = None) -> Checkpoint:
        """Read a checkpoint.

        Args:
            path: the checkpoint's own folder.
            devices: where the net is to compute; by default where it was.
            memory_limit: bytes that the net may take on each device; by default what the device has.

        Raises:
            ModelFileError: a file of it is missing, damaged, another's or of another checkpoint; the message names it.
            OutOfMemoryError: the net does not fit.
        """
        found = _read_state(path / STATE_FILE)
        _require_checksum(path / MODEL_FILE, found.checksums["model.safetensors"])
        _require_checksum(path / MOMENTUM_FILE, found.checksums["momentum.safetensors"])
        state, settings = found.state, found.settings
        devices = settings.devices if devices is None else devices
        model, parameters, _ = read_model(path / MODEL_FILE, devices=devices, memory_limit=memory_limit)
        model.net.seed = settings.seed
        _require_steps(path / STATE_FILE, state, model.net.step)
        with open_tensors(
            path / MOMENTUM_FILE, "momentum file", MOMENTUM_DESCRIPTION, partial(momentum_shapes, model.net.shapes)
        ) as file:
            momentum = file.tensors()
        colour_axes = np.array(momentum.pop(_COLOUR_AXES))
        model.net.load_parameters(parameters, momentum)
        return cls(model, colour_axes, state, settings, found.data)


def newest_checkpoint(folder: str | PathLike[str]) -> Path | None:
    """The folder of the checkpoint that came furthest in a run's folder, if it has any."""
    return max(_checkpoints(folder), key=_place, default=None)


def prune_checkpoints(folder: str | PathLike[str], *, keep: int, best: EpochRecord | None) -> None:
    """Remove all checkpoints but the last ``keep`` and that of the best epoch, and what killed writers left.

    Raises:
        OSError: one cannot be removed.
    """
    found = sorted(_checkpoints(folder), key=_place)
    best_name = None if best is None else _name(best.epoch + 1, best.steps)
    for path in found[:-keep]:
        if path.name != best_name:
            remove_folder(path)
    remove_unfinished(Path(folder) / CHECKPOINTS)


def checkpoint_bytes(num_classes: int, options: Options) -> int:
    """What a checkpoint takes on the disk."""
    return 2 * 4 * parameter_count(num_classes, *options.computed_as) + 4 * 3 * IMAGE_SIZE**2 + _STATE_BYTES


def _checkpoints(folder: str | PathLike[str]) -> list[Path]:
    parent = Path(folder) / CHECKPOINTS
    return [path for path in parent.iterdir() if _NAME.fullmatch(path.name)] if parent.is_dir() else []


def _name(epoch: int, steps: int) -> str:
    return f"epoch-{epoch:03}-step-{steps:08}"


def _place(path: Path) -> tuple[int, int]:
    """Steps done and the epoch under way: after an epoch's last step comes its validation, then the next epoch."""
    epoch, steps = path.name.removeprefix("epoch-").split("-step-")
    return int(steps), int(epoch)


_Checksums = TypedDict("_Checksums", {"model.safetensors": int, "momentum.safetensors": int})


@dataclass(frozen=True, kw_only=True)
class _StateFile(RunDescription):
    """What ``state.json`` holds."""

    format: int
    versions: dict[str, str]
    checksums: _Checksums
    state: RunState
    checksum: int

    def __post_init__(self) -> None:
        super().__post_init__()
        state, schedule = self.state, self.settings.make_schedule()
        if state.schedule:
            schedule.load_state(state.schedule)
        if state.stuck_loss:
            StuckLoss(chance=1.0, patience_steps=1).load_state(state.stuck_loss)  # any: neither is part of the state


STATE_FORMAT = JsonFormat(_StateFile, 64 * 2**20, ModelFileError, version=("format", _FORMAT))
MOMENTUM_DESCRIPTION = description_format(Description)


def momentum_shapes(parameters: Shapes, _about: Description) -> Shapes:
    """The tensors that a momentum file has beside a model with these parameters."""
    return {**parameters, _COLOUR_AXES: (3, 3)}


def _read_state(path: Path) -> _StateFile:
    try:
        content = read_regular_file(path, STATE_FORMAT.max_bytes)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    about = STATE_FORMAT.values(content, str(path))
    if isinstance(about, dict) and about.pop("checksum", None) != _json_checksum(about):
        raise ModelFileError(f"{path} is damaged: its content does not match its checksum")
    return STATE_FORMAT.parse(content, str(path))


def _require_steps(path: Path, state: RunState, steps: int) -> None:
    """Refuse a state that cannot be that of a net after so many steps."""
    try:
        require_in_order(state.history, steps - len(state.losses))
    except ValueError as error:
        raise ModelFileError(f"{path}: state: {error}") from error


def _json_checksum(about: Mapping[str, object]) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def _require_checksum(path: Path, expected: int) -> None:
    value = 0
    try:
        with open_regular_file(path) as file:
            while block := file.read(1 << 24):
                value = zlib.crc32(block, value)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    if value != expected:
        raise ModelFileError(f"{path} is cut short, damaged or of another checkpoint: its checksum is wrong")
