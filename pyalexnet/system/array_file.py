"""NumPy's array files (.npy) in the one spelling in which this package and ``numpy.save`` write them.

NumPy's own reader takes headers for Python source code, in which damage can be anything. Here a header is bytes: those
that are expected, or those of a fixed form.
"""

from __future__ import annotations

import io
import math
import re
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)

_MAGIC = b"\x93NUMPY\x01\x00"
_MOST_HEADER_BYTES = 1024

# Numbers end at their comma, so that there is one way alone to read them: others would all be tried on damaged ones.
_HEADER = re.compile(
    rb"\{'descr': '([<|][a-zA-Z][0-9]{1,9})', 'fortran_order': False, "
    rb"'shape': \(((?:[0-9]{1,18}, )*(?:[0-9]{1,18},?)?)\), \} *\n"
)


def array_header(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> bytes:
    """What stands before the values of an array, in the order of C."""
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()


def array_file_bytes(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> int:
    """The size of an array's file."""
    return len(array_header(dtype, shape)) + math.prod(shape) * np.dtype(dtype).itemsize


def array_from(content: bytes, dtype: type[Scalar], shape: tuple[int, ...]) -> npt.NDArray[Scalar]:
    """The array that a file holds.

    Args:
        content: of the file.
        dtype: that the array must have.
        shape: likewise.

    Raises:
        ValueError: it holds another; the message begins with "it".
    """
    header, size = array_header(dtype, shape), array_file_bytes(dtype, shape)
    if len(content) != size or not content.startswith(header):
        raise ValueError(f"it is no NumPy array of {np.dtype(dtype).name} {shape} of {size:,} bytes")
    return np.frombuffer(content, dtype, offset=len(header)).reshape(shape).copy()


def any_array_from(content: bytes) -> npt.NDArray[Any]:
    """The array that a file holds, of any dtype and shape; NumPy pads headers by other numbers of blanks than once.

    Raises:
        ValueError: it holds none, or is cut short; the message begins with "it".
    """
    file = io.BytesIO(content)
    dtype, shape, size = read_array_header(file)
    if len(content) != size or dtype.hasobject:
        raise ValueError(f"it has {len(content):,} bytes; as {dtype} of {shape} it must have {size:,}, and no objects")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)


def read_array_header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """What a file that :func:`array_header` or ``numpy.save`` began holds.

    Returns:
        The array's dtype and shape, and the bytes of the whole file.

    Raises:
        ValueError: the file begins otherwise; the message begins with "it".
    """
    start = file.read(len(_MAGIC) + 2)
    length = int.from_bytes(start[len(_MAGIC) :], "little")
    if not start.startswith(_MAGIC) or length > _MOST_HEADER_BYTES:
        raise ValueError("it is no NumPy array of format 1.0")
    found = _HEADER.fullmatch(file.read(length))
    if not found:
        raise ValueError("its header is not as NumPy writes it")
    shape = tuple(map(int, found[2].decode().replace(",", " ").split()))
    try:
        dtype = np.dtype(found[1].decode())
    except TypeError as error:
        raise ValueError(f"it has the dtype {found[1].decode()}, which is unknown") from error
    return dtype, shape, len(start) + length + math.prod(shape) * dtype.itemsize
