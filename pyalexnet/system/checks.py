"""What a caller hands over, as what is computed with: each function converts it or refuses it by its name."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from annotated_types import Interval

Item = TypeVar("Item")

LEAST_INT, MOST_INT = -(2**63), 2**63 - 1
"""What kernels count with."""


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


def bounded(name: str, value: object, least: int = LEAST_INT, most: int = MOST_INT) -> int:
    """An integer within limits; by default those of what kernels count with.

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.
    """
    found = integer(name, value)
    if not least <= found <= most:
        raise ValueError(f"{name} is {shown(found)}; it must be from {least} to {most}")
    return found


def extents(name: str, value: Any, count: int | None = None) -> tuple[int, ...]:
    """A shape, or a part of one: integers from 1 on.

    Args:
        name: the argument's, for messages.
        value: a sequence or an array of integers.
        count: how many there must be; None for any number.

    Raises:
        TypeError: it is no sequence, or one of something else than integers.
        ValueError: there are more or fewer, or one is out of range.
    """
    is_sequence = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
    if not is_sequence or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} is {shown(value)}; it must be {count or 'a sequence of'} integers")
    found = tuple(bounded(f"{name}[{place}]", extent) for place, extent in enumerate(value))
    if any(extent < 1 for extent in found):
        raise ValueError(f"{name} is {found}; every extent must be at least 1")
    if count not in (None, len(found)):
        raise ValueError(f"{name} is {found}; it must be {count} integers")
    return found


def at_least(name: str, value: object, least: int) -> int:
    """An integer from ``least`` on.

    Raises:
        TypeError: it is no integer.
        ValueError: it is lower.
    """
    found = integer(name, value)
    require(found >= least, name, value, f"at least {least}")
    return found


def integer_within(name: str, value: object, range_: Interval) -> int:
    """An integer of a range.

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.
    """
    found = integer(name, value)
    require_within(range_, name, found, given=value)
    return found


def number_within(name: str, value: object, range_: Interval) -> float:
    """A real number of a range.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range; NaN is out of every one.
    """
    found = number(name, value)
    require_within(range_, name, found, given=value)
    return found


def require_within(range_: Interval, name: str, value: Any, given: object) -> None:
    """Refuse a number that is out of its range.

    Args:
        range_: the range; one that ends before infinity holds finite numbers.
        name: the argument's, for messages.
        value: the number.
        given: what messages show of it.

    Raises:
        ValueError: it is out of range.
    """
    ends: list[tuple[Any, str, Callable[[Any, Any], bool]]] = [
        (range_.gt, "above", operator.gt),
        (range_.ge, "at least", operator.ge),
        (range_.lt, "below", operator.lt),
        (range_.le, "at most", operator.le),
    ]
    limits = [(limit, text, holds) for limit, text, holds in ends if limit is not None]
    wanted = ["finite" if limit == math.inf else f"{text} {_in_full(limit)}" for limit, text, _ in limits]
    require(all(holds(value, limit) for limit, _, holds in limits), name, given, " and ".join(wanted))


def _in_full(limit: Any) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def callback(name: str, value: object) -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}; it must be a function")


def as_path(name: str, value: object) -> Path:
    """A path.

    Raises:
        TypeError: it is neither a text nor a path.
        ValueError: it is empty, which pathlib takes for the working directory, or has a NUL, which no system takes.
    """
    text = fspath(value) if isinstance(value, str | PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name} is {shown(value)}; it must be a path")
    require(text != "", name, value, "a path, '.' for the working directory")
    require("\0" not in text, name, value, "a path without NUL")
    return Path(text)


def number(name: str, value: object) -> float:
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


def flag(name: str, value: object) -> bool:
    """A truth value of Python's or NumPy's.

    Raises:
        TypeError: it is something else, such as 1 or "yes".
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {shown(value)}; it must be True or False")
    return bool(value)


def numbers_by_name(name: str, value: object) -> dict[str, float]:
    """Real numbers by name.

    Raises:
        TypeError: it is no mapping from text to numbers.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} is {shown(value)}; it must be numbers by name")
    return {str(key): number(f"{name}[{str(key)!r}]", each) for key, each in value.items()}


def several(
    name: str, value: Any, each: Callable[[str, object], Item], wanted: str = "a list of numbers"
) -> tuple[Item, ...]:
    """Numbers in a row.

    Args:
        name: the argument's, for messages.
        value: a sequence or an array of them.
        each: converts one of them, or refuses it by its name.
        wanted: what messages say that it must be.

    Raises:
        TypeError: it is no sequence, or one of something else.
    """
    is_sequence = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
    if not is_sequence or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} is {shown(value)}; it must be {wanted}")
    return tuple(each(f"{name}[{place}]", item) for place, item in enumerate(value))


def one_each(name: str, value: Any, count: int, of: str, entries: str = "entries", kind: type = object) -> None:
    """Refuse what is no list with an entry for each of something.

    Args:
        name: the argument's, for messages.
        value: what must be a list.
        count: how many entries it must have.
        of: what each of them is for.
        entries: what messages call them.
        kind: what each must be.

    Raises:
        TypeError: it is no list, or an entry is of another kind.
        ValueError: there are more or fewer.
    """
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} is {shown(value)}; it must be a list with one for each {of}")
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} {entries}; it must have {count}, one for each {of}")
    each_of_kind(name, value, kind)


def each_of_kind(name: str, value: Sequence[object], kind: type) -> None:
    """Refuse a list with something else than it must have.

    Raises:
        TypeError: an entry is of another kind.
    """
    for place, entry in enumerate(value):
        if not isinstance(entry, kind) or (kind is not str and isinstance(entry, str)):
            wanted = _KINDS.get(kind, f"of the type {kind.__name__}")
            raise TypeError(f"{name}[{place}] is {shown(entry)}; it must be {wanted}")


_KINDS: dict[type, str] = {str: "a name", Sequence: "a list"}


def nearest(name: str, known: Iterable[str]) -> str:
    """A question whether another name was meant, which is most like the one that was given; empty where none is."""
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def shown(value: object) -> str:
    """A value as an error message shows it: in one line and not too long, a NumPy number as a plain one."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        text = repr(plain)
    except ValueError:  # an integer of more digits than Python prints
        text = "an integer too long to print"
    except RecursionError:
        text = f"a {type(plain).__name__} nested too deeply to print"
    return _shortened(text)


def reason_of(error: BaseException) -> str:
    """What another library's error says, in one line and not too long: some quote all of a file."""
    return _shortened(str(error))


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:200]}…"
