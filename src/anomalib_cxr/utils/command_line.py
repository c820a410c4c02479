"""Parsers of commands that are functions: options from the signature, help from the docstring."""

from __future__ import annotations

import inspect
import re
from argparse import SUPPRESS, Action, ArgumentTypeError
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from docstring_parser import parse
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter


class HelpFormatter(DefaultHelpFormatter):
    """Help that names required options and defaults, without Python types."""

    def _get_help_string(self, action: Action) -> str:
        text, default = action.help or "", action.default
        if action.option_strings and getattr(action, "_required", False):  # where jsonargparse keeps it
            return f"{text} (required)"
        if default in {None, False, "", SUPPRESS}:
            return text
        return f"{text} (default: {','.join(map(str, default)) if isinstance(default, tuple) else default})"


_PLAIN = (
    (r'Parser key "(\w+)":\s*', r"--\1: "),
    (r"Expected a <class '(\w+)'>", r"expected \1"),
    (r"Expected a typing\.Literal\[(.*?)\]", r"expected one of \1"),
    (r"\. Got value: ", ", got "),
)
"""Messages of jsonargparse in the terms of a command line."""


class Parser(ArgumentParser):
    """Parser whose errors are a short message and a hint, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with a message.

        Args:
            message: Reason.
            ex: Exception behind it, which knows the parser of the verb.
        """
        program = getattr(ex, "subcommand_parser", self).prog.replace(" [options]", "")
        if missing := re.match(r"Option '(.*)' is required", message):
            *verb, name = missing[1].split(".")
            program, message = " ".join([program, *verb]), f"missing argument: {name}"
        for pattern, words in _PLAIN:
            message = re.sub(pattern, words, message)
        self.exit(2, f"{program}: {message}\n  options: {program} --help\n")


def verb_parser(verb: Callable[..., None], positional: Mapping[str, Mapping[str, Any]]) -> Parser:
    """Return the parser of a function's arguments: flags for booleans, lists by commas, all else by its type.

    Args:
        verb: The function; its docstring documents each argument.
        positional: Arguments without dashes, paths unless they have a `type`, with settings of `add_argument`.

    Example:
        >>> def count(folder: Path, sizes: tuple[int, ...] = (1, 2), deep: bool = False) -> None:
        ...     '''Count files.
        ...
        ...     Args:
        ...         folder: Folder.
        ...         sizes: Sizes.
        ...         deep: Also in folders below.
        ...     '''
        >>> arguments = verb_parser(count, {"folder": {}}).parse_args(["here", "--sizes", "3,4", "--deep"])
        >>> arguments.folder, arguments.sizes, arguments.deep
        (PosixPath('here'), (3, 4), True)
    """
    documentation = parse(verb.__doc__ or "")
    documented = {argument.arg_name: argument.description for argument in documentation.params}
    types = get_type_hints(verb)
    parser = Parser(description=documentation.short_description, formatter_class=HelpFormatter, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with options of this command.")
    for name, parameter in inspect.signature(verb).parameters.items():
        required = parameter.default is parameter.empty
        settings: dict[str, Any] = {"help": documented[name]} | ({} if required else {"default": parameter.default})
        if name in positional:
            parser.add_argument(name, **{"type": given_path, **positional[name]}, **settings)
        elif isinstance(parameter.default, bool):
            parser.add_argument(f"--{name}", action=ActionYesNo, **settings)
        elif isinstance(parameter.default, tuple):
            parser.add_argument(f"--{name}", type=_separated(get_args(types[name])[0]), **settings)
        else:
            is_path = Path in {types[name], *get_args(types[name])}
            parser.add_argument(f"--{name}", type=given_path if is_path else types[name], required=required, **settings)
    return parser


class EmptyPathError(ArgumentTypeError, ValueError):
    """An empty path; of the two types argparse shows the message of one, and jsonargparse that of the other."""


def given_path(text: Any) -> Path:
    """Return a path that was given; an empty one, as of a variable that is not set, would be the current folder.

    Args:
        text: Text of the path.

    Raises:
        EmptyPathError: If the text is empty.

    Example:
        >>> given_path("archive")
        PosixPath('archive')
    """
    if not str(text).strip():
        raise EmptyPathError("an empty path, expected a file or a folder")
    return Path(text)


def _separated(item: Any) -> Callable[[Any], tuple[Any, ...]]:
    """Return the reader of a list whose items, integers, texts or literal strings, are separated by commas."""
    choices = get_args(item)

    def read(value: Any) -> tuple[Any, ...]:
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        values = tuple(str(part).strip() if choices or item is str else int(part) for part in parts)
        if unknown := [part for part in values if choices and part not in choices]:
            raise ValueError(f"{', '.join(map(str, unknown))}: not one of {', '.join(choices)}")
        return values

    read.__name__ = ",".join(choices) or (
        "name,..." if item is str else "integer,..."
    )  # argparse's name of a wrong value

    return read
