"""Command lines as people write them: options anywhere, lists with commas or spaces, errors in one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

from pyalexnet.cli.status import WRONG_INPUT
from pyalexnet.system.checks import nearest
from pyalexnet.system.names import printable
from pyalexnet.system.ranks import is_answered_here, is_told_here

Item = TypeVar("Item")

# What subcommands are added to; and what options are, a parser or a group of one.
Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
Container: TypeAlias = argparse._ActionsContainer

_ENDS_OPTIONS = "--"


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that takes options before, between and behind positional arguments, in every Python.

    Python's own fills the positional arguments with what stands before an option, those that may be left out included,
    and then has no place for what stands behind it. Its two passes for that, ``parse_intermixed_args``, cannot be asked
    for where there are subcommands, and lose a ``--``; here each subcommand's parser makes two passes of its own.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As in ArgumentParser."""
        super().__init__(*arguments, **options)
        self.suggest_on_error = False  # newer Pythons' own suggestions, which are no questions
        self._lists: dict[str, Callable[[str], bool]] = {}

    def add_list(
        self,
        flag: str,
        item: Callable[[str], Item],
        *,
        continues: Callable[[str], bool],
        group: Container | None = None,
        **options: Any,
    ) -> None:
        """An option with a list for a value, written ``a,b`` or ``a b``.

        Args:
            flag: its name, which begins with ``--``.
            item: what a text of the list becomes; it raises ValueError or ArgumentTypeError for those that are none.
            continues: whether a word behind the list's first is more of it, and no positional argument.
            group: where the help shows it (default: among the options).
            **options: further arguments of ``add_argument``.
        """

        def items(text: str) -> list[Item]:
            parts = [part for between in text.split(",") for part in between.split() or [""]]
            if "" in parts:
                raise argparse.ArgumentTypeError(f"{text!r} has an empty part; give values as a,b or a b")
            try:
                return [item(part) for part in parts]
            except ValueError as error:
                raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error

        self._lists[flag] = continues
        (group or self).add_argument(flag, type=items, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in ArgumentParser, which comes here for each subcommand too."""
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is not None:
            if words and self._is_unknown_option(words[0]):
                self._require_known(words[:1])
            return super().parse_known_args(words, namespace)
        end = words.index(_ENDS_OPTIONS) if _ENDS_OPTIONS in words else len(words)
        usage, actions = self.usage, self._actions
        self.usage = self.format_usage().removeprefix("usage: ").replace("%", "%%")  # as --help shows it
        self._actions = self._get_optional_actions()
        try:
            namespace, left = super().parse_known_args(self._with_lists_joined(words[:end]), namespace)
        finally:
            self.usage, self._actions = usage, actions
        self._require_known(word for word in left if word.startswith("--") and " " not in word)  # or it is no option
        namespace, unknown = super().parse_known_args([*left, *words[end:]], namespace)
        self._require_known(unknown)
        for action in self._actions:
            value = getattr(namespace, action.dest, None)
            for text in value if isinstance(value, list) else [value]:
                if text == "" or (isinstance(text, str) and "\0" in text):  # which can name no file
                    fault = "it has a NUL" if text else "it is empty"
                    self.error(f"argument {'/'.join(action.option_strings) or action.metavar}: {fault}")
        return namespace, []

    def error(self, message: str) -> NoReturn:
        """End the program with one line, of ranks one; the usage, which may take twenty, is what ``--help`` is for."""
        line = f"{self.prog}: {printable(message)} (see {self.prog} --help)"
        self.exit(WRONG_INPUT, f"{line}\n" if is_told_here(ValueError(line)) else None)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As in ArgumentParser, but help and version fail where they cannot be written; of ranks the first answers."""
        if file is not sys.stdout:
            super()._print_message(message, file)
        elif is_answered_here():
            file.write(message)

    def _is_unknown_option(self, word: str) -> bool:
        return word.startswith("-") and not any(name.startswith(word) for name in self._option_string_actions)

    def _require_known(self, unknown: Iterable[str]) -> None:
        """End the program where there are words that are no arguments; of options, ask what was meant."""
        words = list(unknown)
        if not words:
            return
        flags = (word.partition("=")[0] for word in words if word.startswith("-"))
        meant = next(filter(None, (nearest(flag, self._option_string_actions) for flag in flags)), "")
        self.error(f"unrecognized arguments: {' '.join(words)}{meant and f'; {meant}'}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As in ArgumentParser, but a wrong command or choice is answered by what may have been meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if meant := nearest(str(value), map(str, action.choices or ())):
                error.message += f"; {meant}"
            raise

    def _with_lists_joined(self, words: Sequence[str]) -> list[str]:
        """``--list a b c`` as ``--list=a,b c`` where c is no more of the list."""
        joined: list[str] = []
        place = 0
        while place < len(words):
            word = words[place]
            place += 1
            flag, equals, value = word.partition("=")
            continues = self._list_named(flag)
            if continues is not None:
                values = [value] if equals else []
                # The first value may be of any form, so that an error can name it; an option it is only as a number.
                if not equals and place < len(words) and (words[place][:1] != "-" or continues(words[place])):
                    values.append(words[place])
                    place += 1
                while values and place < len(words) and continues(words[place]):
                    values.append(words[place])
                    place += 1
                word = f"{flag}={','.join(values)}" if values else flag
            joined.append(word)
        return joined

    def _list_named(self, flag: str) -> Callable[[str], bool] | None:
        """By its name or, as in all options, an unambiguous beginning of it."""
        if flag in self._option_string_actions or not flag.startswith("--"):
            return self._lists.get(flag)
        found = [name for name in self._option_string_actions if name.startswith(flag)]
        return self._lists.get(found[0]) if len(found) == 1 else None


def is_device(text: str) -> bool:
    """Whether a text is device names, such as ``cpu:0`` or ``cuda:0,cuda:1``."""
    return re.fullmatch(r"[a-z]+:\d+(,[a-z]+:\d+)*", text) is not None


def is_numbers(text: str) -> bool:
    """Whether a text is numbers, such as ``1`` or ``0.01,1e-3``."""
    try:
        return bool([float(part) for part in text.split(",")])
    except ValueError:
        return False
