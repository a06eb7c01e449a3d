"""argparse's parser with dgm's errors: one line in plain words, with the nearest option."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from dgm.errors import BadInput, UnknownName


class Once(argparse._StoreAction):
    """Stores the value of an option, and refuses a second one, which argparse would take in the first one's place."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if option_string and self in parser.given:
            raise BadInput(f"{option_string} is there twice", "give it once")
        parser.given.append(self)
        super().__call__(parser, namespace, values, option_string)


class Parser(argparse.ArgumentParser):
    """A parser that raises an error where argparse would print its usage and exit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given: list[argparse.Action] = []
        for action in (None, "store"):
            self.register("action", action, Once)

    def error(self, message: str) -> NoReturn:
        raise BadInput(in_plain_words(message), f"see `{self.prog} --help`")

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):  # type: ignore[no-untyped-def, override]
        self.given.clear()
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            refuse_unknown(left[0], self)
        return parsed


def refuse_unknown(argument: str, parser: argparse.ArgumentParser) -> NoReturn:
    """Raises the error for an unknown argument, with the nearest option."""
    if argument.startswith("-"):
        raise UnknownName.of(f"option of {parser.prog}", argument.split("=")[0], options_of(parser))
    raise BadInput(f"{parser.prog} takes no further argument, got '{argument}'", f"see `{parser.prog} --help`")


def option_of(setting: str) -> str:
    """The option of a setting: words are separated by hyphens on the command line, by underscores in a recipe."""
    return f"--{setting.replace('_', '-')}"


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]


def in_plain_words(message: str) -> str:
    """argparse's message on an argument as a sentence.

    Example:
        >>> in_plain_words("argument --split: invalid choice: 'x' (choose from 'train', 'test')")
        "--split must be train or test, got 'x'"
        >>> in_plain_words("argument -n: expected one argument")
        '-n needs a value'
        >>> in_plain_words("the following arguments are required: run, --out")
        'missing: run, --out'
    """
    for pattern, sentence in (
        (r"the following arguments are required: (.*)", r"missing: \1"),
        (r"argument (\S+): expected one argument", r"\1 needs a value"),
        (r"argument (\S+): expected (\S+ \S+ \S+|\d+) arguments?", r"\1 needs \2 values"),
        (r"argument (\S+): ignored explicit argument (.*)", r"\1 takes no value, got \2"),
        (r"argument (\S+): (must .*)", r"\1 \2"),
    ):
        if match := re.fullmatch(pattern, message):
            return match.expand(sentence)
    if choice := re.fullmatch(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)", message):
        *others, last = choice[3].replace("'", "").split(", ")
        return f"{choice[1]} must be {', '.join(others)} or {last}, got {choice[2]}"
    return message
