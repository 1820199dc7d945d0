"""Weights by layer in a pickled dict in a ``.npy`` file, as ``bvlc_alexnet.npy`` has them; nothing in it is executed.

The file, which F. Kratzert's AlexNet for TensorFlow and others read, has for each layer a list of weights and biases,
in this package's layout, for images in BGR. The net, which it does not tell, is BVLC's AlexNet.

A pickle is a program. Here its instructions are looked through first, and it runs only if they do no more than build
dicts, lists, tuples, texts, bytes and numbers, and call what NumPy writes for an array; the latter is not called
either, but stood in for by classes that take float32 alone.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import Options, parameter_shapes
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.content import MOST_BYTES, Content, require_finite
from pyalexnet.system.checks import reason_of, shown
from pyalexnet.system.files import read_regular_file

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|?O[48]?', 'fortran_order': False, 'shape': \(\), \} *\n", re.DOTALL
)
_OBJECTS = ("O8", b"O8", "O4", b"O4", "O", b"O")
_BVLC = Options(lrn_over="both", lrn_alpha="caffe", lrn_k=1.0)

_INSTRUCTIONS = frozenset(
    {
        *("PROTO", "FRAME", "STOP", "MARK", "REDUCE", "BUILD", "GLOBAL", "STACK_GLOBAL"),
        *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
        *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE"),
        *("INT", "BININT", "BININT1", "BININT2", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *(
            "UNICODE",
            "BINUNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE8",
            "BINBYTES",
            "SHORT_BINBYTES",
            "BINBYTES8",
            "BYTEARRAY8",
        ),
    }
)


def read(path: Path) -> Content:
    """What such a file holds.

    Raises:
        OSError: it cannot be read.
        ModelFileError: it is another file, or its pickle does something else than build arrays.
    """
    content = read_regular_file(path, MOST_BYTES)
    header = _HEADER.match(content)
    if not header:
        raise ModelFileError(f"{path} is no NumPy file with a dict of weights")
    whole = _unpickled(content[header.end() :], str(path))
    layers = whole.content if isinstance(whole, _Array) else None
    parameters = dict(_parameters(layers, str(path)))
    biases = parameters.get("fc8.bias")
    shapes = parameter_shapes(2 if biases is None else biases.size, *_BVLC.computed_as)
    for name in sorted(shapes.keys() | parameters.keys()):
        found = parameters[name].shape if name in parameters else "missing"
        if found != shapes.get(name):
            raise ModelFileError(f"{path}: {shown(name)} is {found}; it must be {shapes.get(name, 'absent')}")
    require_finite(parameters, str(path))
    if parameters["fc8.bias"].size < 2:
        raise ModelFileError(f"{path} has 1 output; there must be at least 2")
    remark = f"{path} has weights alone: its net is taken to be BVLC's AlexNet, for images as BGR"
    return Content(options=_BVLC, parameters=parameters, colours="bgr", remarks=(remark,))


def _parameters(layers: object, path: str) -> Any:
    """Pairs of a name and an array; a layer is a list of weights and biases, or a dict of both."""
    if not isinstance(layers, Mapping):
        raise ModelFileError(f"{path} holds no dict of layers")
    for key, layer in layers.items():
        name = key.decode("ascii", "replace") if isinstance(key, bytes) else key
        parts = [layer.get(b"weights"), layer.get(b"biases")] if isinstance(layer, Mapping) else layer
        if isinstance(layer, Mapping) and parts == [None, None]:
            parts = [layer.get("weights"), layer.get("biases")]
        if not isinstance(name, str) or not isinstance(parts, list) or len(parts) != 2:
            raise ModelFileError(f"{path}: layer {shown(name)} must be a list of weights and biases")
        for kind, part in zip(("weight", "bias"), parts, strict=True):
            if not isinstance(part, _Array) or part.values is None:
                raise ModelFileError(f"{path}: {kind} of layer {shown(name)} must be an array")
            yield f"{name}.{kind}", part.values


def _unpickled(content: bytes, path: str) -> object:
    try:
        for instruction, _, _ in pickletools.genops(content):
            if instruction.name not in _INSTRUCTIONS:
                raise ModelFileError(f"{path}: its pickle has the instruction {instruction.name}, which no array needs")
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {reason_of(error).removeprefix(f'{path}: ')}") from error
    except Exception as error:  # what an unpickler raises of a damaged pickle is not told
        raise ModelFileError(f"{path}: its pickle is damaged: {reason_of(error)}") from error


class _DType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, name: object, *_: object) -> None:
        self.name, self.order = name, b"<"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2:
            raise ModelFileError("an array of its pickle has no dtype")
        self.order = state[1]


class _Array:
    """Stands in for what ``numpy.ndarray`` is while it is unpickled.

    Attributes:
        values: of an array of float32.
        content: the one object of an array of objects without axes, which is what NumPy makes of a dict.
    """

    values: npt.NDArray[np.float32] | None = None
    content: object = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ModelFileError("an array of its pickle has no content")
        _, shape, dtype, columns_first, data = state
        if isinstance(dtype, _DType) and dtype.name in _OBJECTS and shape == () and isinstance(data, list):
            (self.content,) = data
            return
        self.values = _array(data, dtype, shape, "F" if columns_first else "C")


def _array(data: object, dtype: object, shape: object, order: object) -> npt.NDArray[np.float32]:
    if not isinstance(dtype, _DType) or dtype.name not in ("f4", b"f4") or dtype.order not in ("<", b"<", "=", b"="):
        raise ModelFileError(
            f"an array of its pickle has dtype {shown(getattr(dtype, 'name', dtype))}; it must be float32"
        )
    if not isinstance(shape, tuple) or not all(type(extent) is int and extent >= 0 for extent in shape):
        raise ModelFileError(f"an array of its pickle has shape {shown(shape)}")
    if not isinstance(data, bytes | bytearray) or len(data) != 4 * math.prod(shape):
        size = len(data) if isinstance(data, bytes | bytearray) else 0
        raise ModelFileError(f"an array of its pickle is {shape}, with {size:,} bytes; it must have 4 a number")
    return np.frombuffer(data, "<f4").reshape(shape, order="F" if order in ("F", b"F") else "C").astype(np.float32)


def _reconstruct(*_: object) -> _Array:
    """Stands in for the function of NumPy that begins an array."""
    return _Array()


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    """Stands in for the function of NumPy that makes an array at once."""
    array = _Array()
    array.values = _array(data, dtype, shape, order)
    return array


def _encode(text: object, encoding: object) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ModelFileError(f"its pickle encodes {shown(text)} as {shown(encoding)}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle._Unpickler):
    """In Python, where a place in the memo takes no memory for those before it."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a class or function of NumPy; there are no others."""
        if (module, name) not in _STAND_INS:
            raise ModelFileError(f"its pickle asks for {shown(f'{module}.{name}')}, which no array needs")
        return _STAND_INS[module, name]

    def _build(self) -> None:
        """Fill an array or a dtype; nothing else has a state here."""
        state, made = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if not isinstance(made, _DType | _Array):
            raise ModelFileError(f"its pickle gives {shown(type(made))} a state")
        made.__setstate__(state)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _build}  # type: ignore[dict-item]  # noqa: RUF012
