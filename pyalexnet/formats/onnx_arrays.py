"""The arrays of an ONNX graph that do not depend on its input: initializers and constants, in the file or beside it.

A file beside it is what PyTorch's exporter writes weights into. It must lie in the folder of the ONNX file, or in one
beneath it, links followed: a file from elsewhere names no other file of the computer.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyalexnet.errors import ModelFileError
from pyalexnet.system.checks import reason_of, shown
from pyalexnet.system.files import open_regular_file

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

_FLOATS = ("float", "float16", "bfloat16")  # what float32 holds all values of
_MOST_DIGITS = 9  # of a float32
MOST_INTEGERS = 64
"""Ample for extents and paddings."""


class Arrays:
    """By name; none is looked at before it is asked for.

    Attributes:
        path: the ONNX file.
        others: the files beside it that arrays were read from.
    """

    def __init__(self, graph: GraphProto, path: str) -> None:
        """Those of a graph that a file holds."""
        self.path = path
        self.others: dict[Path, None] = {}
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and (constant := _constant(node)):
                self._tensors[node.output[0]] = constant
            elif node.op_type == "Identity" and not node.domain and node.input and node.input[0] in self._tensors:
                self._tensors[node.output[0]] = self._tensors[node.input[0]]  # equal arrays, which are written once

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's extents, as the file says."""
        return tuple(self._tensors[name].dims)

    def of_shape(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """An array of float32, or of half the bits, which becomes the float32 that it stands for.

        Raises:
            ModelFileError: there is none of that name and shape, it is of another type, or damaged.
        """
        if name not in self._tensors or self.shape(name) != shape:
            found = self.shape(name) if name in self._tensors else "missing"
            raise ModelFileError(f"{self.path}: {shown(name)} is {found}; it must be {shape}")
        tensor = self._tensors[name]
        if _type(tensor) not in _FLOATS:
            wanted = "float32, float16 or bfloat16"
            raise ModelFileError(f"{self.path}: {shown(name)} is of {_type(tensor)}; it must be of {wanted}")
        return np.asarray(self._values(tensor), np.float32)

    def number(self, name: str) -> float | None:
        """A number of float32 or half its bits, of which the shortest decimal; None where the name is no such number's.

        0.0005 is that in float16 too, by which it is 0.0005002.
        """
        if name not in self._tensors or math.prod(self.shape(name)) != 1 or _type(self._tensors[name]) not in _FLOATS:
            return None
        value: Any = self._values(self._tensors[name]).reshape(())[()]
        decimals = (float(f"{float(value):.{digits}g}") for digits in range(1, _MOST_DIGITS))
        with np.errstate(over="ignore"):  # rounded up, the largest one is beyond its type
            return next((each for each in decimals if type(value)(each) == value), float(value))

    def integers(self, name: str) -> list[int] | None:
        """A row of numbers of int64; None where the name is not theirs."""
        found = self.whole_numbers(name)
        row: list[int] | None = found.tolist() if found is not None and found.ndim == 1 else None
        return row

    def whole_numbers(self, name: str) -> npt.NDArray[np.int64] | None:
        """One or some numbers of int64, of any shape; None where the name is not theirs."""
        known = name in self._tensors and all(0 <= extent <= MOST_INTEGERS for extent in self.shape(name))
        if not known or math.prod(self.shape(name)) > MOST_INTEGERS or _type(self._tensors[name]) != "int64":
            return None
        return self._values(self._tensors[name])

    def _values(self, tensor: TensorProto) -> npt.NDArray[Any]:
        from onnx import TensorProto, numpy_helper

        if tensor.data_location == TensorProto.EXTERNAL:
            return self._values_beside(tensor)
        try:
            return numpy_helper.to_array(tensor)
        except ValueError as error:
            raise ModelFileError(f"{self.path}: {shown(tensor.name)} is damaged: {reason_of(error)}") from error

    def _values_beside(self, tensor: TensorProto) -> npt.NDArray[Any]:
        """What another file holds; nothing is allocated by what this one says of it."""
        from onnx import helper

        told = {each.key: each.value for each in tensor.external_data}
        path = self._beside(told.get("location", ""), tensor.name)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
        extents = tuple(tensor.dims)
        needed = math.prod(extents) * dtype.itemsize
        try:
            offset, length = (int(told.get(name) or default) for name, default in (("offset", 0), ("length", needed)))
            with open_regular_file(path) as file:
                rest = file.seek(0, 2) - offset
                if min(offset, rest, *extents) < 0 or length != needed or needed > rest:
                    raise ValueError(f"{needed:,} bytes, of which there are {length:,} from byte {offset:,} on")
                file.seek(offset)
                data = file.read(needed)
        except FileNotFoundError as error:
            raise ModelFileError(f"{self.path}: {shown(tensor.name)} lies in {path}, which is not there") from error
        except (OSError, ValueError) as error:
            raise ModelFileError(
                f"{self.path}: {shown(tensor.name)} cannot be read from {path}: {reason_of(error)}"
            ) from error
        self.others[path] = None
        return np.frombuffer(data, dtype).reshape(extents)

    def _beside(self, location: str | bytes, name: str) -> Path:
        """The file in which a tensor lies."""
        folder = Path(self.path).parent
        is_name = isinstance(location, str) and location and "\0" not in location  # what is no UTF-8 comes as bytes
        path = folder / PurePosixPath(str(location))
        if not is_name or not path.resolve().is_relative_to(folder.resolve()):
            raise ModelFileError(
                f"{self.path}: {shown(name)} lies in {shown(location)}; it must be in the file's own folder"
            )
        return path


def _constant(node: NodeProto) -> TensorProto | None:
    """What a Constant node gives; None where that is no numbers."""
    from onnx import numpy_helper

    for told in node.attribute:
        if told.name == "value":
            tensor: TensorProto = told.t
            return tensor
        numbers: dict[str, npt.NDArray[Any]] = {
            "value_float": np.array(told.f, np.float32),
            "value_floats": np.array(told.floats, np.float32),
            "value_int": np.array(told.i, np.int64),
            "value_ints": np.array(told.ints, np.int64),
        }
        if told.name in numbers:
            return numpy_helper.from_array(numbers[told.name], node.output[0])
    return None


def _type(tensor: TensorProto) -> str:
    """The type of its values, as ONNX calls it."""
    from onnx import TensorProto

    known = tensor.data_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(tensor.data_type).lower() if known else f"type {tensor.data_type}"
