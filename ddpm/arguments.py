"""What the command line takes: a flag for every setting and place, and the files that commands read."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from ddpm.errors import WrongInput
from ddpm.fields import describe, plain, type_of
from ddpm.places import default_places
from ddpm.plan import ROOMS, places
from ddpm.presets import load_preset, preset_names


def chosen_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The preset's parameters, and over them whatever was given as a flag."""
    preset = load_preset(arguments.preset) if arguments.preset else {}
    names = {spec.name for kind in ROOMS.values() for spec in dataclasses.fields(kind)}
    return {**preset, **{name: value for name, value in vars(arguments).items() if name in names and value is not None}}


def read_json(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise WrongInput(f"there is no file {path}; give a report that `ddpm evaluate --json` printed") from None
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError):
        raise WrongInput(f"{path} is not JSON; give a report that `ddpm evaluate --json` printed") from None


def read_candidates(path: Path) -> list[Any]:
    from ddpm.search.ranking import Candidate

    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        raise WrongInput(
            f"{path} is no CSV file; give one with the columns model, fid, kid and, if you like, parameters"
        ) from None
    try:
        return [
            Candidate(row["model"], float(row["fid"]), float(row["kid"]), int(row.get("parameters") or 0))
            for row in rows
        ]
    except (KeyError, TypeError):
        raise WrongInput(f"{path} lacks a column; it needs model, fid, kid and, if you like, parameters") from None
    except ValueError as problem:
        raise WrongInput(f"{path}: {problem}; fid and kid are numbers, parameters a whole one") from None


def settings_flags(parser: argparse.ArgumentParser, *kinds: type, without: tuple[str, ...] = ()) -> None:
    """A flag for every field of the settings, `--like-this` or `--like_this`; and --preset."""
    parser.add_argument(
        "--preset", metavar="NAME", help=f"settings that suit a data set (one of {', '.join(preset_names())})"
    )
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
            says = f"default: {default}" if default else "required"
            add_flag(parser, field, says, default=default, required=default is None)


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
    names = dict.fromkeys((*aliases, f"--{field.name.replace('_', '-')}", f"--{field.name}"))
    text = describe(field, *more).replace("%", "%%")
    parser.add_argument(*names, dest=field.name, metavar=type_of(field).upper(), help=text, **options)
