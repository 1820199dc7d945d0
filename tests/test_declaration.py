"""Settings are declared once: what is made of a declaration, and that all that must repeat a name agrees with it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from os import PathLike
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from annotated_types import Interval

from pyalexnet import Options, train
from pyalexnet.architecture import OptionArguments
from pyalexnet.cli import _parser
from pyalexnet.system.declaration import Setting, arguments_of, check_fields, require_known
from pyalexnet.training.fine_tuning import Init
from pyalexnet.training.recipe import Recipe
from pyalexnet.training.settings import Conduct, Settings, TrainArguments


@dataclass(frozen=True)
class Oven:
    """A declaration of every kind."""

    heat: Annotated[float, Setting("degrees", within=Interval(gt=0, lt=math.inf))]
    trays: Annotated[int, Setting("of bread", within=Interval(ge=1, le=4))] = 1
    fan: bool = False
    mode: Literal["bake", "grill"] = "bake"
    shelf: Annotated[str | None, Setting("which", choices=("top", "bottom"))] = None
    minutes: Annotated[float, Setting("how long")] | None = None
    rates: Annotated[dict[str, float], Setting("by tray", within=Interval(ge=0))] = field(default_factory=dict)
    log: str | PathLike[str] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


def test_a_declaration_is_read_from_the_types() -> None:
    arguments = arguments_of(Oven)
    assert list(arguments) == [each.name for each in fields(Oven)]
    assert {name: (it.kind, it.may_be_none) for name, it in arguments.items() if it.may_be_none} == {
        "shelf": (str, True),
        "minutes": (float, True),
        "log": (str | PathLike[str], True),
    }
    assert (arguments["trays"].kind, arguments["trays"].default, arguments["heat"].default) == (int, 1, MISSING)
    assert arguments["minutes"].setting.help == "how long"
    assert {name: it.choices for name, it in arguments.items() if it.choices} == {
        "mode": ("bake", "grill"),
        "shelf": ("top", "bottom"),
    }


def test_values_become_what_is_declared() -> None:
    oven = Oven(
        heat=np.int64(180),
        trays=np.uint8(4),
        fan=np.True_,
        mode=np.str_("grill"),
        rates={np.str_("top"): np.float32(0.5)},
        minutes=np.array(2),
    )
    assert oven == Oven(180.0, 4, True, "grill", None, 2.0, {"top": 0.5})
    for name in ("heat", "trays", "fan", "mode", "minutes"):
        assert type(getattr(oven, name)) in (float, int, bool, str), name


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"heat": "180"}, TypeError, "heat is '180'; it must be a number"),
        ({"heat": None}, TypeError, "heat is None; it must be a number"),
        ({"heat": 0}, ValueError, "heat is 0; it must be above 0 and finite"),
        ({"heat": math.nan}, ValueError, "heat is nan; it must be above 0 and finite"),
        ({"heat": math.inf}, ValueError, "heat is inf; it must be above 0 and finite"),
        ({"trays": 2.0}, TypeError, "trays is 2.0; it must be an integer"),
        ({"trays": 5}, ValueError, "trays is 5; it must be at least 1 and at most 4"),
        ({"fan": 1}, TypeError, "fan is 1; it must be True or False"),
        ({"mode": "fry"}, ValueError, "mode is 'fry'; it must be one of 'bake', 'grill'"),
        ({"shelf": "left"}, ValueError, "shelf is 'left'; it must be one of 'top', 'bottom', or None"),
        ({"minutes": "2"}, TypeError, "minutes is '2'; it must be a number"),
        ({"rates": {"top": -1}}, ValueError, "rates['top'] is -1; it must be at least 0"),
        ({"rates": {"top": "x"}}, TypeError, "rates['top'] is 'x'; it must be a number"),
        ({"log": 5}, TypeError, "log is 5; it must be a path"),
    ],
)
def test_what_is_not_as_declared_is_named(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Oven(**{"heat": 1, **wrong})


@dataclass(frozen=True)
class Loaf:
    """A declaration of numbers in a row."""

    heats: Annotated[tuple[float, ...], Setting("degrees", within=Interval(gt=0))] = ()
    eggs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


def test_numbers_in_a_row() -> None:
    found = Loaf([np.float32(0.5), 2], np.array([1, 2]))  # type: ignore[arg-type]
    assert (found.heats, found.eggs) == ((0.5, 2.0), (1, 2))
    for wrong, message in (
        ({"heats": 1}, "heats is 1; it must be a list of numbers"),
        ({"heats": "12"}, "heats is '12'; it must be a list of numbers"),
        ({"heats": [1, "x"]}, r"heats\[1\] is 'x'; it must be a number"),
        ({"heats": [0]}, r"heats\[0\] is 0; it must be above 0"),
        ({"eggs": [1.5]}, r"eggs\[0\] is 1\.5; it must be an integer"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
            Loaf(**wrong)  # type: ignore[arg-type]


def test_a_misspelling_is_told_from_what_is_unknown() -> None:
    require_known(["heat"], ["heat", "trays"], "bake", "nothing is like it")
    with pytest.raises(TypeError, match=r"^bake has no argument 'tray'; did you mean trays\?$"):
        require_known(["heat", "tray"], ["heat", "trays"], "bake", "nothing is like it")
    with pytest.raises(TypeError, match=r"^bake has no argument 'xyz'; nothing is like it$"):
        require_known(["xyz"], ["heat"], "bake", "nothing is like it")


# What must repeat a declared name ---------------------------------------------------------------------------------

# What a call may give in more forms than a run keeps.
WIDER = {
    "devices": Sequence[str] | None,
    "init": Init | None,
    "lr_layers": Mapping[str, float] | None,
    "schedule": str | PathLike[str] | Sequence[Mapping[str, object]] | None,
}
DECLARED = {**arguments_of(Settings), **arguments_of(Conduct), **arguments_of(Options)}


def plain(kind: Any) -> Any:
    return bool if get_origin(kind) is Literal and isinstance(get_args(kind)[0], bool) else kind


def test_trains_arguments_are_the_declared_ones() -> None:
    given = get_type_hints(TrainArguments)
    assert given.keys() == DECLARED.keys() - {"net_options", "recipe"}
    for name, declared in DECLARED.items():
        if name in given and name not in WIDER:
            may_be_none = declared.may_be_none or name in arguments_of(Settings)
            assert given[name] == (plain(declared.kind) | None if may_be_none else plain(declared.kind)), name
    assert {name: given[name] for name in WIDER} == WIDER


def test_option_arguments_are_the_options() -> None:
    given = get_type_hints(OptionArguments)
    assert given == {name: plain(option.kind) for name, option in arguments_of(Options).items()}


def test_recipes_have_settings() -> None:
    hints = get_type_hints(Recipe)
    assert hints.pop("validation") is float
    assert hints.pop("schedule") is str  # in the form that a user gives it
    settings = {name: it for name, it in arguments_of(Settings).items() if name in hints}
    assert hints == {name: it.kind | None if it.may_be_none else it.kind for name, it in settings.items()}


def test_trains_docstring_tells_of_every_argument() -> None:
    (told,) = re.findall(r"\n    Args:\n(.*?)\n    Returns:", str(train.__doc__), re.DOTALL)
    entries = dict(re.findall(r"^        (\w+): (.*?)(?=^        \S|\Z)", told, re.DOTALL | re.MULTILINE))
    options = arguments_of(Options).keys()
    assert (
        entries.keys() - {"weight_init"}
        == {"data", "validation", "callback", *TrainArguments.__annotations__} - options
    )
    assert all(f"``{name}``" in entries["weight_init"] for name in options - {"weight_init"})
    for name, argument in arguments_of(Conduct).items():
        if type(argument.default) in (int, float):
            assert f"(default {argument.default})" in entries[name], name


def test_the_command_has_an_option_for_every_argument() -> None:
    (commands,) = [action.choices for action in _parser()._actions if action.dest == "command"]
    actions = {action.dest: action for action in commands["train"]._actions}
    assert actions.keys() - {"help", "debug"} == {"data", "validation", *TrainArguments.__annotations__}
    for name, argument in DECLARED.items():
        if name in actions and argument.setting.help:
            assert argument.setting.help in str(actions[name].help)
            takes_a_value = argument.choices and not isinstance(argument.choices[0], bool)
            assert tuple(actions[name].choices or ()) == (argument.choices if takes_a_value else ()), name


@pytest.mark.parametrize("parse", [int, float])
def test_the_command_reads_numbers_as_declared(parse: Callable[[str], Any]) -> None:
    for name, argument in DECLARED.items():
        if argument.kind is parse and argument.setting.help:
            found = getattr(_parser().parse_args(["train", f"--{name.replace('_', '-')}", "1"]), name)
            assert type(found) is parse, name
