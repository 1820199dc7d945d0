"""JSON by its shape: what is taken, and how what is not is told of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Len
from typing_extensions import NotRequired, TypedDict

from pyalexnet.errors import DataError
from pyalexnet.system.json_file import JsonFormat


class Where(TypedDict):
    north: float
    up: NotRequired[int]


@dataclass(frozen=True)
class Walk:
    name: str
    steps: Annotated[int, Ge(0)]
    ways: tuple[Where, ...]
    kind: Literal["short", "long"] | list[int] = "short"
    pair: Annotated[tuple[int, ...], Len(2, 2)] = (0, 0)
    done: bool = False

    def __post_init__(self) -> None:
        if len(self.ways) > self.steps:
            raise ValueError(f"ways has {len(self.ways)}; it must be at most steps, {self.steps}")


FORMAT = JsonFormat(Walk, 10_000, DataError, version=("version", 1))
GOOD = '{"name": "a", "steps": 2, "ways": [{"north": 1}, {"north": 0.5, "up": 3}]}'


def test_a_value_has_its_types() -> None:
    found = FORMAT.parse(GOOD.encode(), "walk.json")
    assert found == Walk("a", 2, ({"north": 1.0}, {"north": 0.5, "up": 3}))
    assert type(found.ways[0]["north"]) is float
    assert type(found.ways) is tuple


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"steps": 2', '"steps": -1', "steps is -1; it must be at least 0"),
        ('"steps": 2', '"steps": 2.0', "steps is 2.0; it must be a whole number"),
        ('"steps": 2', '"steps": true', "steps is True; it must be a whole number"),
        ('"steps": 2', '"steps": "2"', "steps is '2'; it must be a whole number"),
        ('"steps": 2', f'"steps": 1{"0" * 400}', r"steps is 10{150,}…; it must fit in 64 bits"),
        ('"steps": 2', '"steps": 1', "ways has 2; it must be at most steps, 1"),
        ('"steps": 2', '"step": 2', "step is unknown; it must be one of name, steps, ways, kind, pair, done"),
        ('"steps": 2, ', "", "steps is missing"),
        ('"steps": 2', '"steps": 2, "steps": 2', "walk.json is no JSON: 'steps' occurs twice in one object"),
        ('"steps": 2', '"steps": 2, "version": 3', "walk.json has version 3; this pyalexnet reads version 1"),
        ('"steps": 2', '"steps": 2, "kind": "odd"', "kind is 'odd'; it must be 'short' or 'long' or a list"),
        ('"steps": 2', '"steps": 2, "kind": [1, "x"]', r"kind\[1\] is 'x'; it must be a whole number"),
        ('"steps": 2', '"steps": 2, "pair": [1]', r"pair is \[1\]; it must be a list of at least 2"),
        ('"steps": 2', '"steps": 2, "pair": [1, 2, 3]', r"pair is \[1, 2, 3\]; it must be a list of at most 2"),
        ('"steps": 2', '"steps": 2, "done": 1', "done is 1; it must be true or false"),
        ('"north": 1}', '"north": NaN}', r"ways\[0\].north is nan; it must be a finite number"),
        ('"north": 1}', '"north": 1e999}', r"ways\[0\].north is inf; it must be a finite number"),
        ('"north": 1}', '"north": null}', r"ways\[0\].north is None; it must be a number"),
        ('"north": 1}', '"south": 1}', r"ways\[0\].south is unknown"),
        ('"up": 3', '"a b": 3', r"ways\[1\]\['a b'\] is unknown"),
        ('{"north": 1}', "[]", r"ways\[0\] is \[\]; it must be an object"),
        ('"a"', '"\\ud800"', "walk.json is no JSON: "),
        ('"a"', "[" * 100_000, "walk.json is no JSON: recursion limit exceeded"),
        (GOOD, "", "walk.json is no JSON: EOF"),
        (GOOD, "[]", r"walk.json is \[\]; it must be an object"),
        (GOOD, "null", "walk.json is None; it must be an object"),
    ],
)
def test_what_does_not_fit_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DataError, match=rf"^walk\.json(: )?.*{message}" if "walk" not in message else message):
        FORMAT.parse(GOOD.replace(old, new, 1).encode(), "walk.json")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(DataError, match=r"walk\.json is no JSON: "):
        FORMAT.parse(GOOD.encode(encoding), "walk.json")


def test_files_that_are_too_large_or_none(tmp_path: Path) -> None:
    path = tmp_path / "walk.json"
    path.write_text(GOOD)
    assert FORMAT.read(path).name == "a"
    path.write_bytes(b" " * 10_001)
    with pytest.raises(OSError, match="it has 10,001 bytes; it must have at most 10,000"):
        FORMAT.read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a FIFO; it must be a regular file"):
        FORMAT.read(path)


def test_values_made_in_python() -> None:
    walk = {"name": "a", "steps": np.int64(2), "ways": ({"north": np.float32(0.5)},), "done": np.True_}
    assert FORMAT.check(walk, "walk") == Walk("a", 2, ({"north": 0.5},), done=True)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"walk is {1, 2}; JSON cannot hold it"),
        ({"name": "\ud800", "steps": 0, "ways": []}, r"walk is .*; JSON cannot hold it: .*surrogates"),
        ({"name": "a", "steps": 10**5000, "ways": []}, "walk is .*; JSON cannot hold it"),
        ({"name": "a", "steps": 2**64, "ways": []}, "walk: steps is 18446744073709551616; it must fit in 64 bits"),
        ({"name": np.zeros(3), "steps": 1, "ways": []}, "walk is .*; JSON cannot hold it"),
    ],
)
def test_values_that_json_cannot_hold(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORMAT.check(value, "walk")


def test_lists_within_lists_without_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(DataError, match="JSON cannot hold it"):
        FORMAT.check(endless, "walk")


def test_names_that_are_no_part_of_the_shape_can_be_left_out_or_kept() -> None:
    for extra, expected in (("ignore", {"north": 1.0}), ("allow", {"north": 1.0, "south": "x"})):
        found = JsonFormat(Where, 100, ValueError, extra=extra).check({"north": 1, "south": "x"}, "where")
        assert found == expected
