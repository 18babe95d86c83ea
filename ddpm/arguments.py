"""What the command line takes: a flag for every setting and place, and the files that commands read."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

from ddpm.credentials import holds_password, masked_url
from ddpm.errors import WrongInput, did_you_mean
from ddpm.fields import SHOWN, About, about_of, as_type, checked, describe, plain, require, type_of
from ddpm.places import default_places, kept_tracking, require_output, require_place
from ddpm.plain_files import read_named
from ddpm.plan import ROOMS, places
from ddpm.presets import load_preset, preset_names
from ddpm.settings import NAME
from ddpm.store.reading import parse_json

if TYPE_CHECKING:
    from ddpm.evaluation.report import Report

LONGEST = 500  # characters of argparse's own words


class _Told(Exception):
    """WrongInput on its way through argparse, which takes a ValueError for a word that its `type` could not read."""


class Parser(argparse.ArgumentParser):
    """Raises WrongInput where argparse would print its usage and exit, and says which flag may have been meant.

    Flags are written out: `--epoch` is no `--epochs`, for it would mean another one as soon as there are two.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._given: list[str] = []  # the words that it is reading

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Looks at the names of the flags first: a misspelt one is not to be told as another that is missing."""
        if self._subparsers is None:
            for word in args or ():
                name = word.partition("=")[0]
                if word == "--":
                    break
                if name.startswith("--") and name not in self._option_string_actions:
                    close = did_you_mean(name, self._option_string_actions)
                    raise WrongInput(
                        f"there is no flag {name[:SHOWN]}{close}; `{self.prog} --help` lists what there is"
                    )
        self._given = [*(args or ())]
        try:
            return super().parse_known_args(args, namespace)
        except _Told as problem:
            raise WrongInput(str(problem)) from None

    def error(self, message: str) -> NoReturn:
        for word in self._given:  # as a whole: a password in it may hold a space
            message = message.replace(word, masked_url(word)) if holds_password(word) else message
        if found := re.fullmatch(r"(?s)argument ([^:]+): (.*)", message):
            message = f"{found[1].split('/')[0].removeprefix('--').replace('-', '_')}: {found[2]}"
        message = " ".join(message.split())
        message = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
        raise WrongInput(f"{message}; `{self.prog} --help` lists what there is")


def place_type(name: str) -> Callable[[str], str]:
    """The `type` of a flag that takes a path or a URL (`ddpm.places.require_place`)."""

    def read(text: str) -> str:
        with _telling():
            require_place(name, text)
        return text

    return read


def output_type(name: str) -> Callable[[str], str]:
    """The `type` of a flag that names a file or folder of this machine that is written (`ddpm.places.require_output`)."""

    def read(text: str) -> str:
        with _telling():
            require_output(name, text)
        return os.path.expanduser(text)

    return read


def number_type(name: str, kind: str, about: About) -> Callable[[str], Any]:
    """The `type` of a flag that takes an int or a float within bounds."""

    def read(text: str) -> Any:
        with _telling():
            value = as_type(name, kind, text)
            require(about.admits(value), name, value, about.range)
        return value

    return read


# What a backslash or single quotes keep as it is, and what stands in double ones.
_QUOTED = re.compile(r"""\\.|'[^']*'|("(?:[^"\\]|\\.)*")""", re.DOTALL)
SIGNS = "();<>|&#"  # with which a shell would do something else, and no setting begins


def setting_words(text: str) -> list[str]:
    """`name=value 'name=a value'` as its words, parted by spaces, tabs or line ends; quotes are as in a shell.

    No shell reads it: raises WrongInput for what one would do more with, by name.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=SIGNS)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        raise WrongInput("SET: a quote is opened and not closed; close it") from None
    if sign := next((word for word in words if not word.strip(SIGNS)), None):
        raise WrongInput(
            f"SET: '{sign[:SHOWN]}' is not understood there; part settings by spaces, and put a value that holds it in quotes"
        )
    if found := re.search(r"\$[\w{(?@$!*-]|`", _QUOTED.sub(r"\1", text)):
        raise WrongInput(
            f"SET: '{found[0][:1]}' is expanded by nobody; write out what is meant, or put a value that holds it in single quotes"
        )
    return words


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except WrongInput as problem:
        raise _Told(str(problem)) from None


def chosen_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The preset's parameters, and over them whatever was given as a flag."""
    preset = load_preset(arguments.preset) if arguments.preset else {}
    names = {spec.name for kind in ROOMS.values() for spec in dataclasses.fields(kind)}
    return {**preset, **{name: value for name, value in vars(arguments).items() if name in names and value is not None}}


def require_names(arguments: argparse.Namespace) -> None:
    """Raise WrongInput where a model's or a data set's name will not do, whichever command it was given to."""
    for kind in ROOMS.values():
        for field in dataclasses.fields(kind):
            given = getattr(arguments, field.name, None)
            if about_of(field).pattern == NAME and given is not None:
                checked(field, given)


def read_report(path: str) -> Report:
    """A report that a person names; `-`: standard input. Raises WrongInput for what is none."""
    right = "give a report that `ddpm evaluate --json` printed, or - for standard input"
    try:
        data = read_named(path)
    except OSError as problem:
        raise WrongInput(f"{path} cannot be read: {problem.strerror}; {right}") from None
    return cast("Report", parse_json(data, dict[str, Any], path, right))


def settings_flags(parser: argparse.ArgumentParser, *kinds: type, without: tuple[str, ...] = ()) -> None:
    """A flag for every field of the settings, `--like-this` or `--like_this`; and --preset."""
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"settings that suit a data set (one of {', '.join(preset_names())}; default: none, and each flag's own)",
    ).completer = lambda **_: preset_names()  # type: ignore[attr-defined]
    for kind in kinds:
        group_flags(parser, kind, without)


def group_flags(
    parser: argparse.ArgumentParser,
    kind: type,
    without: tuple[str, ...] = (),
    default: str | None = None,
    variable: str = "",
) -> None:
    """A flag for every field of one class of settings; `default` says what stands for those that are not given, and
    `variable` how the variables of the environment begin that may say it."""
    group = parser.add_argument_group((kind.__doc__ or kind.__name__).split("\n")[0].removesuffix("."))
    for field in dataclasses.fields(kind):
        if field.name not in without:
            told = f"${variable}{field.name.upper()}, or " if variable else ""
            add_flag(group, field, f"default: {told}{default or plain(field.default)}")


def place_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """A flag for each of a run's places, with its default on this machine, if it has one."""
    defaults = default_places()
    for field in places():
        if field.name in names:
            default = defaults.get(field.name)
            says = f"default: {masked_url(default)}" if default else "required"
            add_flag(parser, field, says, default=default, required=default is None, type=flag_type(field))


def tracking_flag(parser: argparse.ArgumentParser) -> None:
    """A flag for MLflow's place, for a command that can do without: by default that which there is, or none."""
    (field,) = (field for field in places() if field.name == "tracking_uri")
    says = "default: $MLFLOW_TRACKING_URI, or var/mlflow/mlflow.db, where there is one; else files alone"
    add_flag(parser, field, says, default=kept_tracking() or None, type=flag_type(field))


def required_flag(parser: argparse.ArgumentParser, kind: type, name: str, *aliases: str) -> None:
    """A flag for one field of settings that must be given; it may have other names, `--like-this`, before its own."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    add_flag(parser, field, "required", aliases=aliases, required=True)


def add_flag(
    parser: argparse._ActionsContainer,
    field: dataclasses.Field[Any],
    *more: str,
    aliases: tuple[str, ...] = (),
    **options: Any,
) -> None:
    """A flag for one field, with what the field says of itself, and `more`, as its help. The settings check what is given."""
    spelt = (*aliases, f"--{field.name.replace('_', '-')}", f"--{field.name}")
    names = dict.fromkeys((*spelt, f"--{was}") if (was := about_of(field).was) else spelt)
    text = describe(field, *more).replace("%", "%%")
    added = parser.add_argument(*names, dest=field.name, metavar=type_of(field).upper(), help=text, **options)
    if choices := ("true", "false") if type_of(field) == "bool" else about_of(field).choices:
        added.completer = lambda **_: map(str, choices)  # type: ignore[attr-defined]


def flag_type(field: dataclasses.Field[Any]) -> Callable[[str], Any]:
    return place_type(field.name) if about_of(field).place else str
