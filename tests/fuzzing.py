"""Damage for files: what disks, networks, other programs and ill will make of them."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

NASTY_NUMBERS = (0, -1, -5, 1, 2, 255, 256, 2**31, 2**32 - 1, 2**53 + 1, 2**63, 2**64, 10**12, 10**400, -(10**400), 0.5)
NASTY_VALUES: tuple[Any, ...] = (
    *NASTY_NUMBERS,
    *(float("nan"), float("inf"), float("-inf"), 1e308, 5e-324),
    *(None, True, False, "", "cpu", "NaN", "\ud800", "\0", "../x", "a" * 5000, "10", "n" * 3 + "é"),
    *([], {}, [[]], [None], {"": 0}, ["cpu:0", "cpu:0"], [1, 2, 3], {"settings": None}),
)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes with one or a few changes."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(_CHANGES)(content, chance)
    return content


def damaged_json(value: Any, chance: random.Random) -> Any:
    """A value of JSON with one or a few of its parts replaced, removed, doubled or exchanged."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2))):
        value = _with_change(value, chance)
    return value


def json_text(value: Any, chance: random.Random) -> bytes:
    """A value as JSON, now and then in a spelling that strict JSON has not."""
    text = json.dumps(value)
    if chance.random() < 0.05 and isinstance(value, dict) and value:
        name = chance.choice(list(value))
        text = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(chance.choice(NASTY_VALUES))}}}"  # the same name twice
    elif chance.random() < 0.05:
        depth = chance.choice((50, 250, 10**5))
        text = text.replace(json.dumps(chance.choice(NASTY_VALUES)), "[" * depth + "]" * depth, 1)
    encoding = chance.choice(("utf-8",) * 17 + ("utf-16", "utf-8-sig", "utf-32"))
    return text.encode(encoding, "surrogatepass")


def _with_change(value: Any, chance: random.Random) -> Any:
    places = list(_places(value))
    if not places:
        return _nasty(chance)
    holder, name = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[name]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("extra", "", "é", name.upper()))] = _nasty(chance)
        case 1:
            holder.insert(name, holder[name])
        case 2:
            other, other_name = chance.choice(places)
            holder[name] = copy.deepcopy(other[other_name])
        case 3 if isinstance(holder[name], int | float) and abs(holder[name]) < 2**64:
            holder[name] += chance.choice((-1, 1, 0.5, -(10**6), 10**6))
        case 4:
            return _nasty(chance) if chance.random() < 0.2 else holder[name]
        case _:
            holder[name] = _nasty(chance)
    return value


def _nasty(chance: random.Random) -> Any:
    """A value of its own, for later changes may reach into it."""
    return copy.deepcopy(chance.choice(NASTY_VALUES))


def _places(value: Any) -> Any:
    """Every part of a value, as what holds it and its name there."""
    if isinstance(value, dict | list):
        for name, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, name
            yield from _places(part)


# Changes of bytes -----------------------------------------------------------------------------------------------------


def _place(content: bytes, chance: random.Random) -> int:
    # Headers are at the start and lists of contents at the end.
    if chance.random() < 0.5:
        return chance.randrange(min(len(content), 600) + 1)
    return chance.choice((chance.randrange(len(content) + 1), max(0, len(content) - chance.randrange(200))))


def _flip(content: bytes, chance: random.Random) -> bytes:
    at = _place(content, chance)
    return content[:at] + bytes(byte ^ (1 << chance.randrange(8)) for byte in content[at : at + 1]) + content[at + 1 :]


def _overwrite(content: bytes, chance: random.Random) -> bytes:
    at = _place(content, chance)
    length = chance.choice((1, 2, 4, 8, 12, 100))
    new = chance.choice((b"\0" * length, b"\xff" * length, b"7" * length, chance.randbytes(length)))
    return content[:at] + new + content[at + length :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: _place(content, chance)]


def _remove(content: bytes, chance: random.Random) -> bytes:
    at = _place(content, chance)
    return content[:at] + content[at + chance.choice((1, 4, 16, 512)) :]


def _insert(content: bytes, chance: random.Random) -> bytes:
    at, start = _place(content, chance), _place(content, chance)
    return content[:at] + content[start : start + chance.choice((1, 4, 16, 512))] + content[at:]


def _repeat(content: bytes, chance: random.Random) -> bytes:
    return content * chance.choice((2, 3))


def _number(content: bytes, chance: random.Random) -> bytes:
    """Another number in place of one that stands there in digits."""
    found = list(re.finditer(rb"[0-9]+", content[:100_000]))
    if not found:
        return content
    number = chance.choice(found)
    new = str(chance.choice(NASTY_NUMBERS)).encode()
    if chance.random() < 0.5:  # in a field of fixed width
        new = new[: len(number[0])].rjust(len(number[0]), b"0")
    return content[: number.start()] + new + content[number.end() :]


def _empty(_content: bytes, chance: random.Random) -> bytes:
    return bytes(chance.choice((0, 1, 512, 10240)))


_CHANGES: Sequence[Callable[[bytes, random.Random], bytes]] = (
    *(_flip,) * 4, *(_overwrite,) * 4, *(_number,) * 4, *(_cut,) * 2, _remove, _insert, _repeat, _empty,
)  # fmt: skip
