"""What a caller hands over, as what is computed with: each function converts it or refuses it by its name."""

from __future__ import annotations

import numbers
import operator
from typing import Any

import numpy as np


def require(holds: bool, name: str, value: object, wanted: str) -> None:
    """Refuse an argument's value.

    Raises:
        ValueError: the condition does not hold.
    """
    if not holds:
        raise ValueError(f"{name} is {shown(value)}; it must be {wanted}")


def integer(name: str, value: Any) -> int:
    """An integer of Python's, of NumPy's or of anything else with ``__index__``; but no truth value.

    Raises:
        TypeError: it is something else, such as 2.0 or "2".
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {shown(value)}; it must be an integer") from None


def number(name: str, value: Any) -> float:
    """A real number of Python's or NumPy's; but no truth value. It may be NaN or infinite.

    Raises:
        TypeError: it is something else, such as "0.1" or None.
        ValueError: it is an integer that no float is near to.
    """
    scalar = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(scalar, bool | np.bool_) or not isinstance(scalar, numbers.Real):
        raise TypeError(f"{name} is {shown(value)}; it must be a number")
    try:
        return float(scalar)
    except OverflowError:
        raise ValueError(f"{name} is {shown(value)}; it must be within the range of a float") from None


def flag(name: str, value: Any) -> bool:
    """A truth value of Python's or NumPy's.

    Raises:
        TypeError: it is something else, such as 1 or "yes".
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {shown(value)}; it must be True or False")
    return bool(value)


def shown(value: object) -> str:
    """A value as an error message shows it: in one line and not too long, a NumPy number as a plain one."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        text = " ".join(repr(plain).split())
    except ValueError:  # an integer of more digits than Python prints
        text = "an integer too long to print"
    return text if len(text) <= 200 else f"{text[:200]}…"
