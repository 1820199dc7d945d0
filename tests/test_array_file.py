"""Array files: the headers that NumPy writes, and no others."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import pytest

from pyalexnet.system.array_file import any_array_from, array_from, array_header, read_array_header

SHAPES = [(), (0,), (7,), (2, 3), (10**6, 4096), (2, 3, 4, 5)]


def saved(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


@pytest.mark.parametrize("dtype", ["<f4", "<i8", "|u1", "<U12"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if np.prod(shape) < 1000])
def test_headers_are_those_of_numpy(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    content = saved(array)
    assert content.startswith(array_header(dtype, shape))
    np.testing.assert_array_equal(array_from(content, dtype, shape), array)
    assert read_array_header(io.BytesIO(content)) == (np.dtype(dtype), shape, len(content))


def of_numpy_1(array: np.ndarray) -> bytes:
    """As NumPy before 1.14 saved it, whose headers are of a multiple of 16 bytes and not of 64."""
    header = f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {array.shape}, }}".encode()
    header = header.ljust(len(header) + -(len(header) + 11) % 16) + b"\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + array.tobytes()


@pytest.mark.parametrize("save", [saved, of_numpy_1])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "|u1"])
def test_an_array_of_numpy_of_any_age(save: Callable[[np.ndarray], bytes], dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = save(array)
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), array)
    found = any_array_from(content)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    for other in (content[:-1], content + b"0", content.replace(array.dtype.str.encode(), b"|O8"), b""):
        with pytest.raises(ValueError, match=r"^it (has|is no)"):
            any_array_from(other)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_header_tells_of_the_whole_file(shape: tuple[int, ...]) -> None:
    header = array_header("<f4", shape)
    size = len(header) + 4 * int(np.prod(shape))
    assert read_array_header(io.BytesIO(header)) == (np.dtype("<f4"), shape, size)


GOOD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


@pytest.mark.parametrize(
    "header",
    [
        GOOD.replace(b"False", b"True"),
        GOOD.replace(b"<f4", b">f4"),
        GOOD.replace(b"<f4", b"|O"),
        GOOD.replace(b"2, 3", b"-2, 3"),
        GOOD.replace(b"2, 3", b"2,, 3"),
        GOOD.replace(b"2, 3", b"9**9"),
        GOOD.replace(b"2, 3", b"7" * 19),
        GOOD.replace(b"2, 3", b"7" * 900),
        GOOD.replace(b"2, 3), }", b"7, " * 250),
        GOOD.replace(b"2, 3), }", b"(" * 900),
        GOOD.replace(b"2, 3), }", b"7" * 60 + b"\0"),
        b"",
    ],
)
def test_other_headers_are_refused_at_once(header: bytes) -> None:
    content = b"\x93NUMPY\1\0" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    start = time.thread_time()
    with pytest.raises(ValueError, match="its header is not as NumPy writes it"):
        read_array_header(io.BytesIO(content))
    assert time.thread_time() - start < 0.1


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\2\0" + bytes(100), b"\x93NUMPY\1\0\xff\xff" + bytes(100)])
def test_what_is_no_array(content: bytes) -> None:
    with pytest.raises(ValueError, match="it is no NumPy array"):
        read_array_header(io.BytesIO(content))


@pytest.mark.parametrize("content", [b"", saved(np.zeros((2, 3), "<f4"))[:-1], saved(np.zeros((3, 2), "<f4"))])
def test_another_array_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is no NumPy array of float32 \(2, 3\) of 152 bytes"):
        array_from(content, "<f4", (2, 3))
