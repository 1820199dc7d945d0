"""Tensor files: nothing is read that is not as the description asks, whatever the header says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyalexnet.errors import ModelFileError
from pyalexnet.net.tensor_file import Description, Tensors, description_format, open_tensors, pack

FORMAT = description_format(Description)
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.float32)}


def read(path: Path) -> Tensors:
    with open_tensors(path, "model file", FORMAT, lambda _about: {"a": (2, 3), "b": (2,)}) as file:
        return file.tensors()


def with_header(change: Any) -> bytes:
    """The file with another header, of its own length."""
    content = pack(TENSORS, {})
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def test_tensors_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(pack(TENSORS, {}))
    for name, value in read(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(value, TENSORS[name])


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("I32", "a has dtype I32; it must be F32, float32"),
        ("F8_E4M3", "a is |a has dtype F8_E4M3|is no model file"),
        ("BF16", "is no model file|a is|BF16"),
        ("C64", "is no model file|C64"),
        ("F4", "is no model file|F4"),
        ("F128", "is no model file"),
    ],
)
def test_other_dtypes(tmp_path: Path, dtype: str, message: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(with_header(lambda header: header["a"].update(dtype=dtype)))
    with pytest.raises(ModelFileError, match=rf"a\.safetensors.*({message})"):
        read(path)


def test_float8_of_the_right_size(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    change = {"dtype": "F8_E5M2", "shape": [2, 12]}
    path.write_bytes(with_header(lambda header: header["a"].update(change)))
    with pytest.raises(ModelFileError, match=r"a\.safetensors(: a is \(2, 12\); it must be| is no model file)"):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2**40, 2**40]}, "is no model file or is cut short"),
        ({"shape": [2, 3], "data_offsets": [0, 2**60]}, "is no model file or is cut short"),
        ({"shape": [-2, -3]}, "is no model file or is cut short"),
        ({"shape": [3, 2]}, r"a is \(3, 2\); it must be \(2, 3\)"),
    ],
)
def test_sizes_that_are_not_there(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(with_header(lambda header: header["a"].update(change)))
    with pytest.raises(ModelFileError, match=message):
        read(path)


def test_missing_and_unknown_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pack({"a": TENSORS["a"]}, {}))
    with pytest.raises(ModelFileError, match=r"b is missing; it must be \(2,\)"):
        read(path)
    path.write_bytes(pack(TENSORS | {"c": TENSORS["b"]}, {}))
    with pytest.raises(ModelFileError, match=r"'c' is \(2,\); it must be absent"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pack(TENSORS | {"b": np.array([1, value], np.float32)}, {}))
    with pytest.raises(ModelFileError, match="b has 1 NaN or infinite of 2 values; all must be finite"):
        read(path)


def test_a_header_of_terabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**42).to_bytes(8, "little") + b"{}")
    os.truncate(path, 2**43)  # a file with a hole, which takes no room
    with pytest.raises(ModelFileError, match=r"its header has 4,398,046,511,104 bytes; it must have at most"):
        read(path)


@pytest.mark.parametrize(
    "content", [b"PK\3\4" + bytes(100), b"\x08\x08\x12\x07pytorch\x1a", b'{"conv1.weight": "a text"}']
)
def test_files_of_other_programs_are_named_as_such(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    message = (
        r"model\.onnx is no model file: it is no safetensors file; pyalexnet convert makes one of another program's"
    )
    with pytest.raises(ModelFileError, match=message):
        read(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        read(tmp_path / "a.safetensors")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ModelFileError, match="fifo: it is a FIFO; it must be a regular file"):
        read(tmp_path / "fifo")
    with pytest.raises(ModelFileError, match="it is a folder"):
        read(tmp_path)
