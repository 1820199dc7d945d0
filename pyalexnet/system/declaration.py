"""Arguments that are declared once, as the fields of a dataclass: what is taken, and what the command line says of it.

    @dataclass(frozen=True)
    class Plan:
        images: Annotated[int, Setting("training images", within=Interval(ge=1))] = 2000

Functions check what they are given by such a declaration (:meth:`Argument.checked`), the command makes its options of
it (:func:`pyalexnet.cli.arguments.add_declared`), and the dataclass itself is the shape of the JSON that holds them.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, partial, reduce
from os import PathLike
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Interval

from pyalexnet.system.checks import (
    as_path,
    flag,
    integer,
    nearest,
    number,
    numbers_by_name,
    require,
    require_within,
    several,
)

_ANY_NUMBER = Interval()


@dataclass(frozen=True)
class Setting:
    """What there is to say of an argument beside its type, as a part of that: ``Annotated[int, Setting("...")]``.

    Attributes:
        help: what it does, in a line; empty where the command has no option for it or a module of its own adds that.
        metavar: what the help shows for its value; by default N for a whole number and X for any other.
        within: the range of a number, or of each of several by name.
        choices: all that it may be; a type that is a Literal says it by itself.
        usual: what the help calls the default, where that is no value of a recipe's or of the field.
        group: the heading below which the help shows it.
        off: the option that turns off what is on by default, where that has a name of its own.
    """

    help: str = ""
    metavar: str | None = None
    within: Interval = _ANY_NUMBER
    choices: tuple[Any, ...] = ()
    usual: str = ""
    group: str = ""
    off: str = ""


@dataclass(frozen=True)
class Argument:
    """A field of a declaration.

    Attributes:
        name: the field's.
        kind: its type, but for None and what is annotated.
        may_be_none: whether it may be None too.
        default: the field's; ``MISSING`` where it has none.
        setting: what its annotation says.
    """

    name: str
    kind: Any
    may_be_none: bool
    default: Any
    setting: Setting

    @property
    def choices(self) -> tuple[Any, ...]:
        """All that it may be beside None; empty where its type or its range says it."""
        return self.setting.choices or (get_args(self.kind) if get_origin(self.kind) is Literal else ())

    def checked(self, value: Any) -> Any:
        """A value as it is declared: numbers, truth values and choices of NumPy's become Python's.

        Raises:
            TypeError: it is of another kind; the message names it.
            ValueError: it is out of range, or no choice; the message names it.
        """
        if value is None and self.may_be_none:
            return None
        if self.choices:
            return self._chosen(value)
        if self.kind not in _CONVERSIONS:
            return value
        found = _CONVERSIONS[self.kind](self.name, value)
        if isinstance(found, dict):
            for key, each in found.items():
                require_within(self.setting.within, f"{self.name}[{key!r}]", each, given=value[key])
        elif isinstance(found, tuple):
            for place, each in enumerate(found):
                require_within(self.setting.within, f"{self.name}[{place}]", each, given=value[place])
        else:
            require_within(self.setting.within, self.name, found, given=value)
        return found

    def _chosen(self, value: Any) -> Any:
        plain = value.item() if isinstance(value, np.generic) else value
        known = type(plain) is type(self.choices[0]) and plain in self.choices
        or_none = ", or None" if self.may_be_none else ""
        require(known, self.name, value, f"one of {', '.join(map(repr, self.choices))}{or_none}")
        return plain


@cache
def arguments_of(declaration: type[Any]) -> Mapping[str, Argument]:
    """The fields of a declaration by name, in their order."""
    hints = get_type_hints(declaration, include_extras=True)
    arguments = {}
    for field in fields(declaration):
        kind, may_be_none, setting = _parts(hints[field.name])
        arguments[field.name] = Argument(field.name, kind, may_be_none, field.default, setting)
    return types.MappingProxyType(arguments)


def check_fields(declared: Any) -> None:
    """Bring the fields of a new instance of a declaration, which may be frozen, to what they are declared to be.

    Raises:
        TypeError: one is of another kind; the message names it.
        ValueError: one is out of range, or no choice; the message names it.
    """
    for name, argument in arguments_of(declared.__class__).items():
        object.__setattr__(declared, name, argument.checked(getattr(declared, name)))


def require_known(given: Iterable[str], known: Iterable[str], caller: str, otherwise: str) -> None:
    """Refuse arguments that a function does not have.

    Args:
        given: their names.
        known: the names of those that it has.
        caller: what messages call the function.
        otherwise: what to say where no name is like the one given.

    Raises:
        TypeError: there is no such argument; the message says which may have been meant.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise TypeError(f"{caller} has no argument {name!r}; {nearest(name, known) or otherwise}")


def _parts(hint: Any) -> tuple[Any, bool, Setting]:
    """A type without None and annotations, whether None is allowed, and the setting among the annotations."""
    may_be_none, setting = False, Setting()
    while True:
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        others = [kind for kind in kinds if kind is not types.NoneType]
        may_be_none |= len(others) < len(kinds)
        if len(others) > 1:
            return reduce(operator.or_, others), may_be_none, setting
        (hint,) = others
        if get_origin(hint) is not Annotated:
            return hint, may_be_none, setting
        hint, *annotations = get_args(hint)
        setting = next((each for each in annotations if isinstance(each, Setting)), setting)


def _path(name: str, value: Any) -> Any:
    """A path as it was given, since messages show it."""
    as_path(name, value)
    return value


_CONVERSIONS: dict[Any, Callable[[str, Any], Any]] = {
    int: integer,
    float: number,
    bool: flag,
    dict[str, float]: numbers_by_name,
    tuple[int, ...]: partial(several, each=integer),
    tuple[float, ...]: partial(several, each=number),
    str | PathLike[str]: _path,
}
