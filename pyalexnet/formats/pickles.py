"""Pickles read without executing anything: a row of instructions that may do no more than build values and arrays.

A pickle is a program. Here its instructions are looked through first, and it runs only if they do no more than build
dicts, lists, tuples, texts, bytes and numbers, and call what NumPy writes for an array; the latter is not called
either, but stood in for by classes that keep what it was given. No module is imported by a name that a pickle has.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pyalexnet.errors import ModelFileError
from pyalexnet.system.checks import reason_of, shown

_FLOATS: Mapping[str | bytes, np.dtype[Any]] = {
    name: np.dtype(f"<{kind}") for kind in ("f4", "f2") for name in (kind, kind.encode())
}
_OBJECTS = ("O8", b"O8", "O4", b"O4", "O", b"O")

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


def unpickled(
    content: bytes,
    path: str,
    *,
    encoding: str = "bytes",
    instructions: frozenset[str] = frozenset(),
    stand_in: Callable[[str, str], Any] = lambda _module, _name: None,
) -> object:
    """What a pickle holds; arrays as :class:`PickledArray`.

    Args:
        content: the pickle.
        path: its file, for messages.
        encoding: of the texts that Python 2 wrote; ``bytes`` keeps them as they are.
        instructions: those that it may have beside what arrays need, by the names that :mod:`pickletools` has.
        stand_in: what stands in for a class of a module beside what NumPy writes; None for what is refused.

    Raises:
        ModelFileError: it is damaged, or does something else than build arrays; the message says what.
    """
    allowed = _INSTRUCTIONS | instructions
    try:
        for instruction, _, _ in pickletools.genops(content):
            if instruction.name not in allowed:
                raise ModelFileError(f"its pickle has the instruction {instruction.name}, which no array needs")
        return _Unpickler(io.BytesIO(content), encoding, stand_in).load()
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {reason_of(error)}") from error
    except Exception as error:  # what an unpickler raises of a damaged pickle is not told
        raise ModelFileError(f"{path}: its pickle is damaged: {reason_of(error)}") from error


class Opaque:
    """Stands in for an object of which nothing is needed; it keeps nothing."""

    def __init__(self, *_: object) -> None:
        """Take anything."""


class _DType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, name: object, *_: object) -> None:
        self.name, self.order = name, b"<"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2:
            raise ModelFileError("an array of its pickle has no dtype")
        self.order = state[1]


class PickledArray:
    """Stands in for what ``numpy.ndarray`` is while it is unpickled.

    Attributes:
        content: the one object of an array of objects without axes, which is what NumPy makes of a dict.
    """

    content: object = None
    _data: object = None
    _dtype: object = None
    _shape: object = None
    _order: object = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ModelFileError("an array of its pickle has no content")
        _, shape, dtype, columns_first, data = state
        if isinstance(dtype, _DType) and dtype.name in _OBJECTS and shape == () and isinstance(data, list):
            (self.content,) = data
        self.fill(data, dtype, shape, "F" if columns_first else "C")

    def fill(self, data: object, dtype: object, shape: object, order: object) -> None:
        """Keep what it is made of."""
        self._data, self._dtype, self._shape, self._order = data, dtype, shape, order

    def float32(self, path: str) -> npt.NDArray[np.float32]:
        """The array, one of float16 as the float32 that it stands for; its bytes may be read as a text of latin-1.

        Raises:
            ModelFileError: it is of another dtype, or its bytes are not those of its shape.
        """
        dtype, shape = self._dtype, self._shape
        name = dtype.name if isinstance(dtype, _DType) and dtype.order in _LITTLE_ENDIAN else None
        bits = _FLOATS.get(name) if isinstance(name, str | bytes) else None
        if bits is None:
            found = told(getattr(dtype, "name", dtype))
            raise ModelFileError(
                f"{path}: an array of its pickle has dtype {found}; it must be float32 or float16, lowest byte first"
            )
        if (
            not isinstance(shape, tuple)
            or len(shape) > _MOST_AXES
            or not all(type(extent) is int and extent >= 0 for extent in shape)
        ):
            raise ModelFileError(f"{path}: an array of its pickle has no shape that an array can have")
        data = self._data
        if isinstance(data, str):
            try:
                data = data.encode("latin1")
            except UnicodeEncodeError as error:
                raise ModelFileError(f"{path}: an array of its pickle is a text: {reason_of(error)}") from error
        size = len(data) if isinstance(data, bytes | bytearray) else 0
        if not isinstance(data, bytes | bytearray) or size != bits.itemsize * math.prod(shape):
            raise ModelFileError(
                f"{path}: an array of its pickle is {shape}, with {size:,} bytes; it must have {bits.itemsize} a number"
            )
        order: Any = "F" if self._order in ("F", b"F") else "C"
        return np.frombuffer(data, bits).reshape(shape, order=order).astype(np.float32)


def told(value: object) -> str:
    """A value in a message; of what holds others, which a few bytes can make endless, the type alone."""
    return shown(value) if isinstance(value, str | bytes | int | float | None) else f"a {type(value).__name__}"


_MOST_AXES = 32
_LITTLE_ENDIAN = ("<", b"<", "=", b"=")


def _reconstruct(*_: object) -> PickledArray:
    """Stands in for the function of NumPy that begins an array."""
    return PickledArray()


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> PickledArray:
    """Stands in for the function of NumPy that makes an array at once."""
    array = PickledArray()
    array.fill(data, dtype, shape, order)
    return array


def _encode(text: object, encoding: object) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ModelFileError(f"its pickle encodes {told(text)} as {told(encoding)}")
    return text.encode("latin1")


_STAND_INS: Mapping[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): PickledArray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle._Unpickler):
    """In Python, where a place in the memo takes no memory for those before it."""

    def __init__(self, file: io.BytesIO, encoding: str, stand_in: Callable[[str, str], Any]) -> None:
        super().__init__(file, encoding=encoding)
        self._stand_in = stand_in

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a class or function; there are no others."""
        found = _STAND_INS.get((module, name)) or self._stand_in(module, name)
        if found is None:
            raise ModelFileError(f"its pickle asks for {shown(f'{module}.{name}')}, which no array needs")
        return found

    def _build(self) -> None:
        """Fill an array or a dtype; nothing else has a state here."""
        state, made = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(made, Opaque):
            return
        if not isinstance(made, _DType | PickledArray):
            raise ModelFileError(f"its pickle gives {shown(type(made))} a state")
        made.__setstate__(state)

    def _set_items(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        _fill(self.stack[-1], items)  # type: ignore[attr-defined]

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        _fill(self.stack[-1], [key, value])  # type: ignore[attr-defined]

    def _dict(self) -> None:
        made: dict[object, object] = {}
        _fill(made, self.pop_mark())  # type: ignore[attr-defined]
        self.append(made)  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _build,
        pickle.SETITEMS[0]: _set_items,
        pickle.SETITEM[0]: _set_item,
        pickle.DICT[0]: _dict,
    }


def _fill(made: object, items: list[object]) -> None:
    """Put keys and values, by turns, into a dict.

    Raises:
        ModelFileError: a key holds other values, so that a few bytes can make it take endless time to be found again.
    """
    for key in items[::2]:
        if not isinstance(key, str | bytes | int | float | None):
            raise ModelFileError(f"its pickle has {told(key)} as a key")
    if not isinstance(made, dict) or len(items) % 2:
        raise ModelFileError(f"its pickle gives {told(made)} items")
    made.update(zip(items[::2], items[1::2], strict=True))
