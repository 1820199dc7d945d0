"""Named tensors and a description of them in one safetensors file, with a checksum over the tensors.

The file's metadata has one entry, ``pyalexnet``: JSON with the description. Reading one executes nothing. The header is
looked at first, and no tensor is read that is not the float32 of the shape that the description asks for.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pyalexnet.errors import ModelFileError
from pyalexnet.system.checks import reason_of, shown
from pyalexnet.system.files import open_regular_file
from pyalexnet.system.json_file import JsonFormat

Tensors = dict[str, npt.NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]

FORMAT = 1
"""The version of what descriptions say, here and in the files of other programs that hold one."""
_MOST_HEADER_BYTES = 16 * 2**20  # a hundred thousand classes' names; the tensors take 2 KB


@dataclass(frozen=True, kw_only=True)
class Description:
    """What every file says of itself; what is to be said about the tensors comes on top of it.

    Attributes:
        format: which version of the format.
        checksum: :func:`checksum` of the tensors.
    """

    format: int
    checksum: int

    def damage(self, tensors: Tensors) -> str:
        """How tensors differ from those that were described; empty where they do not."""
        return "" if checksum(tensors) == self.checksum else "its content does not match its checksum"


D = TypeVar("D", bound=Description)


def description_format(shape: type[D]) -> JsonFormat[D]:
    """The format of a description."""
    return JsonFormat(shape, _MOST_HEADER_BYTES, ModelFileError, version=("format", FORMAT))


class TensorFile(Generic[D]):
    """A file whose header is as it must be, open to be read.

    Attributes:
        path: where it lies.
        description: what it says of its tensors.
    """

    def __init__(self, path: Path, description: D, file: Any) -> None:
        """Made by :func:`open_tensors`."""
        self.path = path
        self.description = description
        self._file = file

    def tensors(self) -> Tensors:
        """All tensors by their names.

        Raises:
            ModelFileError: one is damaged, or a value is NaN or infinite.
        """
        tensors = {name: self._file.get_tensor(name) for name in self._file.keys()}  # noqa: SIM118
        if damage := self.description.damage(tensors):
            raise ModelFileError(f"{self.path} is damaged: {damage}")
        for name, values in tensors.items():
            if not np.isfinite(values).all():
                bad = np.count_nonzero(~np.isfinite(values))
                raise ModelFileError(
                    f"{self.path}: {name} has {bad} NaN or infinite of {values.size} values; all must be finite"
                )
        return tensors


def pack(tensors: Tensors, about: Mapping[str, object]) -> bytes:
    """The content of a file: tensors, and what is to be said about them, of which JSON can hold everything."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    entry = {"format": FORMAT, **about, "checksum": checksum(contiguous)}
    return safetensors.numpy.save(contiguous, {"pyalexnet": json.dumps(entry)})


@contextmanager
def open_tensors(
    path: Path, kind: str, description: JsonFormat[D], shapes: Callable[[D], Shapes]
) -> Iterator[TensorFile[D]]:
    """Open a file that :func:`pack` made, and check all but the tensors' values.

    Args:
        path: the file.
        kind: what it should be, for messages.
        description: what was said about the tensors.
        shapes: the tensors that the file must have by its description.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: the file is another's, of another format, cut short or damaged; the message says which.
    """
    require_short_header(path, kind)
    try:
        file = safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is no {kind} or is cut short: {reason_of(error)}") from error
    with file:
        entry = (file.metadata() or {}).get("pyalexnet")  # type: ignore[no-untyped-call]
        if entry is None:
            raise ModelFileError(f"{path} is a safetensors file, but not one that pyalexnet wrote")
        described = description.parse(entry.encode(), str(path))
        _require_shapes(path, file, shapes(described))
        yield TensorFile(path, described, file)


def require_short_header(path: Path, kind: str) -> None:
    """Refuse a header that would take much memory, before it is read, and a file that has none.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it cannot be read, does not begin with a header, or with one that is too long.
    """
    try:
        with open_regular_file(path) as file:
            header_bytes, begins = int.from_bytes(file.read(8), "little"), file.read(1)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {kind} {path}") from error
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    if begins not in (b"{", b""):
        hint = "; pyalexnet convert makes one of another program's model" if kind == "model file" else ""
        raise ModelFileError(f"{path} is no {kind}: it is no safetensors file{hint}")
    if header_bytes > _MOST_HEADER_BYTES:
        raise ModelFileError(
            f"{path} is no {kind}: its header has {header_bytes:,} bytes; it must have at most {_MOST_HEADER_BYTES:,}"
        )


def _require_shapes(path: Path, file: Any, expected: Shapes) -> None:
    """Refuse tensors that are not the ones expected, all float32."""
    parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    for name in sorted(expected.keys() | parts.keys()):
        found = tuple(parts[name].get_shape()) if name in parts else "missing"
        if found != expected.get(name):
            label = name if name in expected else shown(name)
            raise ModelFileError(f"{path}: {label} is {found}; it must be {expected.get(name, 'absent')}")
        if parts[name].get_dtype() != "F32":
            raise ModelFileError(f"{path}: {name} has dtype {parts[name].get_dtype()}; it must be F32, float32")


def checksum(tensors: Tensors) -> int:
    """CRC-32 of names and values, in the names' order."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(np.ascontiguousarray(tensors[name]).data, zlib.crc32(name.encode(), value))
    return value
