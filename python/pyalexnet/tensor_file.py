"""Named tensors and a description of them in one safetensors file, with a checksum over the tensors.

The file's metadata has one entry, ``pyalexnet``: JSON with the description. Reading one executes nothing, and nothing
of it is believed before its kind, format and checksum have been looked at.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pyalexnet.errors import ModelFileError

Tensors = dict[str, npt.NDArray[np.float32]]

_FORMAT = 1


def pack(tensors: Tensors, about: Mapping[str, Any]) -> bytes:
    """The content of a file: tensors, and what is to be said about them, of which JSON can hold everything."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    entry = {"format": _FORMAT, **about, "checksum": checksum(contiguous)}
    return safetensors.numpy.save(contiguous, {"pyalexnet": json.dumps(entry)})


def read(path: Path, kind: str) -> tuple[dict[str, Any], Tensors]:
    """The description and the tensors of a file that :func:`pack` made.

    Args:
        path: the file.
        kind: what it should be, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: the file is another's, of another format, cut short or damaged; the message says which.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {kind} {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            entry = (file.metadata() or {}).get("pyalexnet")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is no {kind} or is cut short: {error}") from error
    if entry is None:
        raise ModelFileError(f"{path} is a safetensors file, but not one that pyalexnet wrote")
    try:
        about = json.loads(entry)
        found_format, expected = about["format"], about["checksum"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} describes itself in a way not known here: {error!r}") from error
    if found_format != _FORMAT:
        raise ModelFileError(f"{path} has format {found_format}; this pyalexnet reads format {_FORMAT}")
    if checksum(tensors) != expected:
        raise ModelFileError(f"{path} is damaged: its content does not match its checksum")
    return about, tensors


def require_shapes(path: Path, tensors: Tensors, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file whose tensors are not the ones expected, all float32.

    Raises:
        ModelFileError: one is missing, unknown or of another shape or dtype.
    """
    for name in sorted(expected.keys() | tensors.keys()):
        found = tensors[name].shape if name in tensors else "missing"
        if found != expected.get(name):
            raise ModelFileError(f"{path}: {name} is {found}; it must be {expected.get(name, 'absent')}")
        if tensors[name].dtype != np.float32:
            raise ModelFileError(f"{path}: {name} has dtype {tensors[name].dtype}; it must be float32")


def checksum(tensors: Tensors) -> int:
    """CRC-32 of names and values, in the names' order."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(np.ascontiguousarray(tensors[name]).data, zlib.crc32(name.encode(), value))
    return value
