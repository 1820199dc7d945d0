"""The images of a source by all that a list may call them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pyalexnet.data.images import IMAGE_SUFFIXES
from pyalexnet.data.text_lists import number_of, plain_spaces
from pyalexnet.system.names import as_class

Key = TypeVar("Key", str, int)


class ImageIndex:
    """The images by all that a list may call them: with or without folders and suffix, as Windows writes it or not."""

    def __init__(self, names: Sequence[str]) -> None:
        keys = [_key(name) for name in names]
        bare = list(map(_without_suffix, keys))
        both = [*enumerate(keys), *enumerate(bare)]
        self._whole = _unique((key, place) for place, key in both)
        self._ends = _unique((end, place) for place, key in both for end in _ends(key))
        numbers = (number_of(_ends(key)[-1]) for key in bare)
        self._numbers = _unique((number, place) for place, number in enumerate(numbers) if number is not None)

    def find(self, name: str) -> int | None:
        """The image of that name: its path ends as the name does, or the name as its path does."""
        key = _key(name)
        if key in self._ends:
            return self._ends[key]
        for end in _ends(key):
            if end in self._whole:
                return self._whole[end]
        number = number_of(key)
        return None if number is None else self._numbers.get(number)  # a spreadsheet's 3.0, or 3 for 003


def _key(name: str) -> str:
    return plain_spaces(as_class(name)).strip().replace("\\", "/").removeprefix("./").lstrip("/")


def _unique(places: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """The places of keys that belong to one image alone."""
    found: dict[Key, set[int]] = {}
    for key, place in places:
        found.setdefault(key, set()).add(place)
    return {key: of_key.pop() for key, of_key in found.items() if len(of_key) == 1}


def _ends(key: str) -> list[str]:
    """A path, and what is left of it without its first folders."""
    parts = key.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _without_suffix(key: str) -> str:
    return next((key[: -len(end)] for end in IMAGE_SUFFIXES if key.lower().endswith(end)), key)
