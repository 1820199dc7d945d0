"""JSON from outside, read by the shape that it must have: what is in it is of its type and in its range, or refused.

A shape is a dataclass or TypedDict of this package, the one that the package itself works with. Its fields' types say
what they take, with the constraints of ``annotated_types``; what ties fields together is checked in ``__post_init__``,
whose ValueError says what is wrong. Pydantic reads by it, strictly: no text stands for a number and no number for a
truth value, floats are finite, and most formats have no names but the shape's.

Values that were made in Python and not read, such as a schedule's stages, take the same road.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_type_hints

import numpy as np

from pyalexnet.system.checks import shown
from pyalexnet.system.files import read_regular_file

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")

# What a value must be, by the kind of the error that Pydantic finds and with the details that it tells.
_WANTED = {
    "bool_type": "true or false",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "a whole number",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a text of the form {pattern}",
    "string_too_long": "a text of at most {max_length} characters",
    "string_too_short": "a text of at least {min_length} characters",
    "string_type": "a text",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


@dataclass(frozen=True)
class JsonFormat(Generic[T]):
    """A kind of JSON file.

    Attributes:
        shape: the type of what it holds.
        max_bytes: a file may have so many.
        error: what is raised where it holds something else.
        extra: whether names that the shape does not have are refused, left out or kept.
        version: the name that tells a file's version of the format, and the version that is read; None where none does.
    """

    shape: type[T]
    max_bytes: int
    error: type[ValueError]
    extra: Literal["forbid", "ignore", "allow"] = "forbid"
    version: tuple[str, int] | None = None

    def read(self, path: str | PathLike[str]) -> T:
        """What a file holds.

        Raises:
            OSError: it cannot be read, is no regular file, or is too large.
            ValueError: of the kind ``error``: it is no JSON, or not of this shape; the message names file, place and
                value and says what it must be.
        """
        return self.parse(read_regular_file(path, self.max_bytes), fspath(path))

    def parse(self, content: bytes, name: str) -> T:
        """What the content of a file called ``name`` holds.

        Raises:
            ValueError: see :meth:`read`.
        """
        return self._shaped(content, self.values(content, name), name)

    def values(self, content: bytes, name: str) -> Any:
        """Plain objects, lists, texts and numbers, of any shape.

        Raises:
            ValueError: of the kind ``error``: it is no JSON in UTF-8, is nested too deeply, has a name twice in one
                object, or is of another version.
        """
        from pydantic_core import from_json

        try:
            # Two parsers: the first is strict about text and depth, the second tells of names that occur twice.
            from_json(content)
            value = json.loads(content, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise self.error(f"{name} is no JSON: {error}") from error
        self._require_version(value, name)
        return value

    def check(self, value: object, name: str) -> T:
        """What a value made in Python stands for: tuples for lists, NumPy's numbers for Python's, any mapping.

        Args:
            value: the value.
            name: what messages call it.

        Raises:
            ValueError: of the kind ``error``: it is not of this shape; the message names place and value.
        """
        try:
            plain = _plain(value)
            content = json.dumps(plain, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise self.error(f"{name} is {shown(value)}; JSON cannot hold it: {error}") from error
        return self._shaped(content, plain, name)

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        # Imported when JSON is read, since that takes longer than most commands take to begin.
        from pydantic import ConfigDict, TypeAdapter
        from typing_extensions import TypeAliasType

        # An adapter takes no settings for a dataclass itself, but for an alias of it.
        shape: Any = self.shape
        alias = TypeAliasType("alias", shape)
        return TypeAdapter(alias, config=ConfigDict(extra=self.extra, allow_inf_nan=False, strict=True))

    def _require_version(self, value: object, name: str) -> None:
        if self.version is None or not isinstance(value, dict):
            return
        field, expected = self.version
        found = value.get(field, expected)
        if found != expected:
            raise self.error(f"{name} has {field} {shown(found)}; this pyalexnet reads {field} {expected}")

    def _shaped(self, content: bytes, value: object, name: str) -> T:
        from pydantic import ValidationError

        for place, number in _whole_numbers(value):
            if not -(2**63) <= number < 2**64:
                where = f"{name}: {_written(place)}" if place else name
                raise self.error(f"{where} is {shown(number)}; it must fit in 64 bits")
        try:
            found: T = self._adapter.validate_json(content)
            return found
        except ValidationError as error:
            raise self.error(_explained(self.shape, error.errors(include_url=False), value, name)) from error


def require_distinct(name: str, values: Sequence[str]) -> None:
    """Refuse a list that has something twice.

    Raises:
        ValueError: it does; the message names it.
    """
    if len(set(values)) < len(values):
        twice, times = Counter(values).most_common(1)[0]
        raise ValueError(f"{name} has {shown(twice)} {times} times; all must be different")


def _explained(shape: type, errors: Iterable[ErrorDetails], value: object, name: str) -> str:
    """The first thing that is wrong; where the place may hold one of several types, what each of them wants."""
    # A name that is unknown is a misspelling of one that is missing.
    errors = sorted(errors, key=lambda error: error["type"] not in _UNKNOWN)
    found = [(*_place(error, value), error) for error in errors]
    # Of several types, the one that got furthest into the value is the one that was meant.
    start, _, _ = found[0]
    place, at_place, error = max(
        (entry for entry in found if entry[0][: len(start)] == start), key=lambda entry: len(entry[0])
    )
    where = f"{name}: {_written(place)}" if place else name
    if error["type"] in _MISSING:
        return f"{where} is missing"
    if error["type"] in _UNKNOWN:
        known = f"; it must be one of {', '.join(get_type_hints(shape))}" if len(place) == 1 else ""
        return f"{where} is unknown{known}"
    if error["type"] == "json_invalid":
        return f"{where} is no JSON: {error['ctx']['error']}"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    wanted = dict.fromkeys(_wanted(other) for other_place, _, other in found if other_place == place)
    return f"{where} is {shown(at_place)}; it must be {' or '.join(wanted)}"


def _wanted(error: ErrorDetails) -> str:
    details = error.get("ctx", {})
    numbers = {name: f"{value:g}" for name, value in details.items() if isinstance(value, float)}
    text = _WANTED.get(error["type"])
    return str(error["msg"]) if text is None else text.format(**(details | numbers))


def _place(error: ErrorDetails, value: Any) -> tuple[tuple[str | int, ...], Any]:
    """The names and numbers that lead to a part of a value, and the part itself.

    Pydantic tells them with the types that it tried among them, which are no part of the value.
    """
    place: list[str | int] = []
    for part in error["loc"]:
        if part in value if isinstance(value, dict) else isinstance(value, list) and part in range(len(value)):
            place.append(part)
            value = value[part]
    if error["type"] in _MISSING:
        place.append(error["loc"][-1])
    return tuple(place), value


def _whole_numbers(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """All that are in a value, with their places."""
    if isinstance(value, int):
        yield place, value
    elif isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _whole_numbers(inner, (*place, part))


def _written(place: Iterable[str | int]) -> str:
    return "".join(f".{part}" if _is_plain(part) else f"[{shown(part)}]" for part in place).removeprefix(".")


def _is_plain(part: str | int) -> bool:
    return isinstance(part, str) and part.isidentifier() and len(part) <= 100


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{shown(name)} occurs twice in one object")
        found[name] = value
    return found


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
