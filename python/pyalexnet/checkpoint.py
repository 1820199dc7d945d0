"""Model files: a classifier's weights, mean image, classes and options in one safetensors file.

Beside the parameters under their own names, the tensor ``input.mean`` holds the mean image. The file's
metadata has one entry, ``pyalexnet``: JSON with the format's version, the classes, the number of outputs, the
options, the training step and a checksum of all tensors.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pyalexnet.architecture import IMAGE_SIZE, parameter_count, parameter_shapes
from pyalexnet.classifier import Classifier, default_devices
from pyalexnet.errors import ModelFileError
from pyalexnet.network import AlexNet

_FORMAT = 1
_MEAN = "input.mean"
_HEADER_BYTES = 100_000  # ample for names, shapes and a thousand classes

Tensors = dict[str, npt.NDArray[np.float32]]


def save_model(path: str | PathLike[str], model: Classifier) -> None:
    """Write a classifier to a file, whole or not at all.

    A file that was there stays until the new one is complete.

    Raises:
        OSError: the file cannot be written; the message says why and how many bytes were needed.
    """
    tensors = {name: np.ascontiguousarray(value) for name, value in model.net.parameters().items()}
    tensors[_MEAN] = np.ascontiguousarray(model.mean)
    about = {
        "format": _FORMAT,
        "classes": model.classes,
        "num_classes": model.net.num_classes,
        "options": asdict(model.net.options),
        "step": model.net.step,
        "checksum": _checksum(tensors),
    }
    write_atomically(path, safetensors.numpy.save(tensors, {"pyalexnet": json.dumps(about)}))


def load_model(
    path: str | PathLike[str],
    *,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
) -> Classifier:
    """Read a classifier from a file that :func:`save_model` wrote.

    Args:
        path: the file.
        devices: where the net is to compute; by default the first GPU, or the CPU where there is none.
        memory_limit: bytes that the net may take on each device; by default what the device has.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, of a newer format, or damaged; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {path}")
    try:
        about, tensors = _read(path)
        _require_intact(path, about, tensors)
        classes, num_classes, step = tuple(about["classes"]), about["num_classes"], about["step"]
        _require_shapes(path, tensors, {**parameter_shapes(num_classes), _MEAN: (IMAGE_SIZE, IMAGE_SIZE, 3)})
        net = AlexNet(
            num_classes,
            devices=default_devices() if devices is None else devices,
            memory_limit=memory_limit,
            **about["options"],
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path} describes its net in a way not known here: {error!r}") from error
    mean = tensors.pop(_MEAN)
    net.load_parameters(tensors)
    net.step = step
    return Classifier(net, classes, mean)


def require_room(folder: str | PathLike[str], num_classes: int) -> None:
    """Make a folder if there is none yet; refuse one that cannot take a model with that many outputs.

    Raises:
        OSError: it cannot be made or written to, or its disk has not enough space.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write to the folder {fspath(folder)}: {error.strerror or error}") from error
    needed = 4 * (parameter_count(num_classes) + 3 * IMAGE_SIZE**2) + _HEADER_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"cannot write to the folder {fspath(folder)}: a model takes {needed:,} bytes, and {free:,} are free",
        )


def write_atomically(path: str | PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: into a new file beside it, which then takes its name.

    Raises:
        OSError: it cannot be written; what was at ``path`` is unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = f"cannot write {path} ({len(content):,} bytes): {error.strerror or error}"
        raise OSError(error.errno, reason) from error
    finally:
        with contextlib.suppress(OSError):  # where nothing could be written, nothing needs to go
            temporary.unlink()


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    try:
        with safe_open(path, framework="numpy") as file:
            entry = (file.metadata() or {}).get("pyalexnet")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is no model file or is cut short: {error}") from error
    if entry is None:
        raise ModelFileError(f"{path} is a safetensors file, but not one that pyalexnet wrote")
    return json.loads(entry), tensors


def _require_intact(path: Path, about: dict[str, Any], tensors: Tensors) -> None:
    if about["format"] != _FORMAT:
        raise ModelFileError(f"{path} has format {about['format']}; this pyalexnet reads format {_FORMAT}")
    if _checksum(tensors) != about["checksum"]:
        raise ModelFileError(f"{path} is damaged: its content does not match its checksum")


def _require_shapes(path: Path, tensors: Tensors, expected: dict[str, tuple[int, ...]]) -> None:
    for name in expected.keys() | tensors.keys():
        found = tensors[name].shape if name in tensors else "missing"
        if found != expected.get(name):
            raise ModelFileError(f"{path}: {name} is {found}; it must be {expected.get(name, 'absent')}")


def _checksum(tensors: Tensors) -> int:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(np.ascontiguousarray(tensors[name]).data, zlib.crc32(name.encode(), checksum))
    return checksum
