"""Arguments: what is taken, what it becomes, and what is refused in which words."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyalexnet.system.checks import as_path, flag, integer, number, require, shown


@pytest.mark.parametrize("value", [10, np.int64(10), np.uint8(10), np.array(10)])
def test_integers_of_every_kind_become_pythons(value: Any) -> None:
    found = integer("count", value)
    assert (found, type(found)) == (10, int)


@pytest.mark.parametrize("value", [10.0, np.float32(10), "10", b"10", None, True, np.True_, 10j, [10], np.array([10])])
def test_what_is_no_integer_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^count is .*; it must be an integer$"):
        integer("count", value)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.float64(2), np.int8(2), np.array(2.0), Fraction(2)])
def test_numbers_of_every_kind_become_floats(value: Any) -> None:
    found = number("rate", value)
    assert (found, type(found)) == (2.0, float)


def test_numbers_need_not_be_finite() -> None:
    assert math.isnan(number("rate", np.float32("nan")))
    assert number("rate", -math.inf) == -math.inf


@pytest.mark.parametrize("value", ["0.1", b"1", None, True, np.False_, 1j, np.complex64(1), [0.1], np.array([0.1])])
def test_what_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^rate is .*; it must be a number$"):
        number("rate", value)


def test_an_integer_beyond_all_floats_is_named() -> None:
    with pytest.raises(ValueError, match=r"^rate is 10+…; it must be within the range of a float$"):
        number("rate", 10**400)
    with pytest.raises(ValueError, match=r"^rate is an integer too long to print; it must be within"):
        number("rate", 10**5000)


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_truth_values_become_pythons(value: Any) -> None:
    found = flag("lrn", value)
    assert (found, type(found)) == (bool(value), bool)


def test_paths() -> None:
    assert as_path("out", "a/b") == as_path("out", Path("a/b")) == Path("a/b")
    assert as_path("out", ".") == Path()
    for value in (None, 3, b"a", ["a"]):
        with pytest.raises(TypeError, match=r"^out is .*; it must be a path$"):
            as_path("out", value)
    with pytest.raises(ValueError, match=r"^out is ''; it must be a path, '\.' for the working directory$"):
        as_path("out", "")
    for value in ("a\0b", Path("a\0b")):
        with pytest.raises(ValueError, match=r"^out is .*a\\x00b'.*; it must be a path without NUL$"):
            as_path("out", value)


def test_a_path_of_bytes_is_none() -> None:
    class OfBytes:
        def __fspath__(self) -> bytes:
            return b"a"

    with pytest.raises(TypeError, match=r"^out is .*; it must be a path$"):
        as_path("out", OfBytes())


@pytest.mark.parametrize("value", [1, 0, "True", None, 1.0, np.array(True), []])
def test_what_is_no_truth_value_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^lrn is .*; it must be True or False$"):
        flag("lrn", value)


def test_a_range_is_named() -> None:
    require(True, "top", 1, "at least 1")
    with pytest.raises(ValueError, match=r"^top is 0; it must be at least 1$"):
        require(False, "top", np.int64(0), "at least 1")


def test_values_are_shown_in_one_line() -> None:
    assert shown(np.float32(0.5)) == "0.5"
    assert shown("a\nb") == r"'a\nb'"
    assert shown(np.zeros((2, 3), np.uint8)) == "an array of shape (2, 3) and dtype uint8"
    assert len(shown(list(range(1000)))) == 201

    class TwoLines:
        def __repr__(self) -> str:
            return "one\ntwo"

    assert shown(TwoLines()) == "one two"
