"""Where options may stand among a command's words, how lists may be written, and what an error looks like."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from pyalexnet.architecture import Options, activation_names, feature_names
from pyalexnet.cli import _parser
from pyalexnet.cli.arguments import is_layer
from pyalexnet.cli.parser import CommandParser, is_numbers


def commands(parser: argparse.ArgumentParser, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command's words and parser, those of ``figure`` too."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield names, parser
    for action in below:
        for name, inner in action.choices.items():
            yield from commands(inner, (*names, name))


def positional_words(parser: argparse.ArgumentParser, most: bool) -> list[str]:
    """As many as there may be, but two at most of what may be any number, or as few."""
    words = []
    for action in parser._get_positional_actions():
        counts = {None: (1, 1), "?": (0, 1), "*": (0, 2), "+": (1, 2)}[action.nargs]
        words += [f"{action.dest}-{number}" for number in range(counts[most])]
    return words


def option_words(action: argparse.Action) -> Iterator[list[str]]:
    """The ways to write an option."""
    flag = action.option_strings[-1]
    if action.nargs == 0:
        yield [flag]
    elif flag in ("--devices", "--lrs", "--race-lrs", "--seeds"):
        first, second = ("cpu:0", "cpu:1") if flag == "--devices" else ("1", "2")
        yield from ([flag, f"{first},{second}"], [flag, first, second], [f"{flag}={first},{second}"])
    else:
        other = {"--memory-limit": "3GiB", "--lr-layers": "conv1=0,fc8=2"}.get(flag, "3")
        value = next(iter(map(str, action.choices))) if action.choices else other
        yield from ([flag, value], [f"{flag}={value}"])


COMMANDS = dict(commands(_parser()))


def test_the_layers_of_all_nets_are_known() -> None:
    for options in (Options(), Options(second_lrn=True), Options(towers=1, filters="2014")):
        names = activation_names(options)
        assert [name for name in names if not is_layer(name)] == []
        assert is_layer(",".join(names))
    assert [text for text in ("conv", "conv1_", "fc6,", "run", "cat1.jpg", "1") if is_layer(text)] == []
    help_texts = [" ".join(COMMANDS[name].format_help().split()) for name in (("features",), ("figure", "units"))]
    assert all(", ".join(list(feature_names(Options()))[:-1]) in text for text in help_texts)


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_option_may_stand_anywhere(name: tuple[str, ...]) -> None:
    parser = _parser()
    for most in (False, True):
        words = positional_words(COMMANDS[name], most)
        for action in COMMANDS[name]._get_optional_actions():
            if isinstance(action, argparse._HelpAction):
                continue
            expected = None
            for option, place in itertools.product(option_words(action), range(len(words), -1, -1)):
                found = vars(parser.parse_args([*name, *words[:place], *option, *words[place:]]))
                expected = expected or found
                assert found == expected, (option, place)
                given = [value for value in found.values() if isinstance(value, str)]
                lists = [value for value in found.values() if isinstance(value, list)]
                assert set(words) <= {*given, *itertools.chain(*lists)}


def test_options_may_stand_between_all_positional_arguments() -> None:
    words = [
        "neighbours",
        "--layer",
        "fc6",
        "run",
        "--count",
        "3",
        "set",
        "--quiet",
        "a.jpg",
        "--devices",
        "cpu:0",
        "b",
    ]
    found = _parser().parse_args(words)
    assert (found.model, found.data, found.queries) == ("run", "set", ["a.jpg", "b"])
    assert (found.layer, found.count, found.quiet, found.devices) == ("fc6", 3, True, ["cpu:0"])


def test_behind_two_dashes_all_words_are_positional() -> None:
    found = _parser().parse_args(["predict", "run", "--top", "2", "--", "-a.jpg", "--top"])
    assert (found.model, found.images, found.top) == ("run", ["-a.jpg", "--top"], 2)
    assert _parser().parse_args(["predict", "--", "run", "--devices", "cpu:0"]).images == ["--devices", "cpu:0"]


def test_options_may_be_cut_short_and_files_look_like_options() -> None:
    assert _parser().parse_args(["predict", "run", "a.jpg", "--to", "2"]).top == 2
    assert _parser().parse_args(["predict", "run", "--a b.jpg"]).images == ["--a b.jpg"]


def lists() -> CommandParser:
    parser = CommandParser(prog="measure")
    parser.add_list("--numbers", float, continues=is_numbers)
    parser.add_argument("--number-of", type=int)
    parser.add_argument("words", nargs="*")
    return parser


@pytest.mark.parametrize(
    ("given", "numbers", "words"),
    [
        (["--numbers", "1,2", "a"], [1, 2], ["a"]),
        (["--numbers", "1", "2", "a"], [1, 2], ["a"]),
        (["a", "--numbers", "1,", "2"], None, None),
        (["--numbers", "1, 2", "a", "3"], [1, 2], ["a", "3"]),
        (["--numbers", "1 2", "3"], [1, 2, 3], []),
        (["--numbers=1", "2", "--", "3"], [1, 2], ["3"]),
        (["--numbers", "-1", "-2e-3", "a"], [-1, -2e-3], ["a"]),
        (["--numbers", "1", "--number-of", "2"], [1], []),
        (["--numbe", "1", "2"], None, None),  # ambiguous
        (["--numbers"], None, None),
        (["--numbers", "--number-of", "2"], None, None),
        (["--numbers="], None, None),
        (["--numbers", ""], None, None),
        (["--numbers", " "], None, None),
        (["--numbers", "1,,2"], None, None),
        (["--numbers", ",1"], None, None),
        (["--numbers", "one"], None, None),
    ],
)
def test_lists(given: list[str], numbers: list[float] | None, words: list[str] | None) -> None:
    if numbers is None:
        with pytest.raises(SystemExit, match="2"):
            lists().parse_args(given)
    else:
        found = lists().parse_args(given)
        assert (found.numbers, found.words) == (numbers, words)


def test_an_abbreviated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _parser().parse_args(["train", "--dev", "cpu:0", "cpu:1", "photos"]).data == "photos"
    monkeypatch.setattr("sys.argv", ["measure", "--numbers", "1", "2"])
    assert lists().parse_args().numbers == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "many"], "pyalexnet train: argument --epochs: invalid int value: 'many'"),
        (
            ["train", "--devices", "cpu:0,,cpu:1"],
            "pyalexnet train: argument --devices: 'cpu:0,,cpu:1' has an empty part",
        ),
        (["train", "--lr-layers", "conv1=0,conv1=2"], "argument --lr-layers: 'conv1=0,conv1=2' names conv1 twice"),
        (["train", "--devices="], "pyalexnet train: argument --devices: '' has an empty part"),
        (["ablate", "digits", "--lrs", "0.1,x"], "pyalexnet ablate: argument --lrs: '0.1,x': could not convert"),
        (["evaluate", "run", "--memory-limit", "9" * 400], "--memory-limit: '99999999999999999999' is inf bytes"),
        (["evaluate", ""], "pyalexnet evaluate: argument MODEL: it is empty"),
        (["predict", "run", "a.jpg", ""], "pyalexnet predict: argument IMAGE: it is empty"),
        (["train", "--out", ""], "pyalexnet train: argument --out: it is empty"),
        (["evaluate"], "pyalexnet evaluate: the following arguments are required: MODEL"),
        (["figure", "filters", "run"], "pyalexnet figure filters: the following arguments are required: FILE"),
        (["predict", "run", "a.jpg", "--no\x1b[31m"], r"pyalexnet predict: unrecognized arguments: --no\x1b[31m"),
        (
            ["predict", "m", "ph", "--tops", "3"],
            "predict: unrecognized arguments: --tops; did you mean --top?",
        ),
        (["train", "--epocs=3"], "pyalexnet train: unrecognized arguments: --epocs=3; did you mean --epochs?"),
        (["evaluate", "--veiws", "1"], "pyalexnet evaluate: unrecognized arguments: --veiws; did you mean --views?"),
        (["evaluate", "--veiws"], "pyalexnet evaluate: unrecognized arguments: --veiws; did you mean --views?"),
        (["predict", "run", "a", "--xyz"], "pyalexnet predict: unrecognized arguments: --xyz (see"),
        (["trian"], "; did you mean train? (see pyalexnet --help)"),
        (["--verison"], "pyalexnet: unrecognized arguments: --verison; did you mean --version? (see pyalexnet --help)"),
        (["figure", "--hepl"], "pyalexnet figure: unrecognized arguments: --hepl; did you mean --help?"),
        (["figure", "filter", "run"], "; did you mean filters? (see pyalexnet figure --help)"),
        (["train", "--preset", "papers"], "; did you mean paper? (see pyalexnet train --help)"),
        (["train", "a\0b"], "pyalexnet train: argument DATA: it has a NUL"),
        (["train", "--out", "a\0b"], "pyalexnet train: argument --out: it has a NUL"),
        (["predict", "run", "a.jpg", "a\0b"], "pyalexnet predict: argument IMAGE: it has a NUL"),
        (["features", "run", "set", "--held-out", "--files", "out.npz"], "not allowed with argument --held-out"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        _parser().parse_args(arguments)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert message in shown
