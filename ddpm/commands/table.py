"""What a command is, and the flags that several of them have."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ddpm.arguments import (
    number_type,
    output_type,
    place_flags,
    place_type,
    required_flag,
    settings_flags,
)
from ddpm.fields import About, plain
from ddpm.settings import (
    JudgeSettings,
    RegistrySettings,
    pick,
)
from ddpm.workplace import Workplace

Facts = Mapping[str, Any]
Body = Callable[[argparse.Namespace, Workplace], Facts | None]  # None: another process of the same command speaks
Flags = Callable[[argparse.ArgumentParser], Any]

TEXT = "text"  # the one fact of a command that has its own words for a person


@dataclass(frozen=True)
class Command:
    """A command: what it does, its own words for that, and its flags."""

    body: Body
    text: str
    flags: tuple[Flags, ...]


COMMANDS: dict[str, Command] = {}


def command(text: str, *flags: Flags) -> Callable[[Body], Body]:
    """Make a function the command of its name."""

    def added(body: Body) -> Body:
        COMMANDS[body.__name__] = Command(body, text, flags)
        return body

    return added


def flag(*names: str, **options: Any) -> Flags:
    """A flag of the command's own; `--two-words` is understood as `--two_words` too."""
    more = [name.replace("-", "_").replace("__", "--", 1) for name in names if "-" in name.removeprefix("--")]
    return lambda parser: parser.add_argument(*names, *more, **options)


def place(name: str, **options: Any) -> Flags:
    """A flag that takes a path or a URL, which must not be empty."""
    return flag(name, type=place_type(name.removeprefix("--")), **options)


def output(name: str, **options: Any) -> Flags:
    """A flag that names a file or a folder of this machine, which is written."""
    return flag(name, type=output_type(name.removeprefix("--")), **options)


def number(
    name: str, kind: str, default: float | None, meaning: str, metavar: str | None = None, *, required: bool = False,
    otherwise: str = "", **bounds: Any,
) -> Flags:  # fmt: skip
    """A flag that takes an int or a float; the bounds are those of a setting (`ddpm.fields.About`).

    Args:
        otherwise: what stands for it where there is no default.
    """
    about, plain_name = About(meaning, **bounds), name.removeprefix("--").replace("-", "_")
    says = "required" if required else f"default: {otherwise or plain(default)}"
    return flag(
        name, type=number_type(plain_name, kind, about), default=default, required=required, metavar=metavar,
        help=f"{meaning} [{about.range}; {says}]",
    )  # fmt: skip


def places(*names: str) -> Flags:
    return lambda parser: place_flags(parser, *names)


def settings(*kinds: type, without: tuple[str, ...] = ()) -> Flags:
    return lambda parser: settings_flags(parser, *kinds, without=without)


def required(kind: type, name: str, *more: str) -> Flags:
    """One field of the settings, which must be given."""
    return lambda parser: required_flag(parser, kind, name, *more)


A_DATASET = "its name (the one ingested last), NAME@DIGEST (the digest's beginning), or its manifest's URI"
DATASET = place("--dataset", required=True, metavar="DATASET", help=f"the data set: {A_DATASET}")
GENERATED = place(
    "--generated", required=True, metavar="REF-or-DIR", help="a model, as for `ddpm sample`, or a folder of pictures"
)
MODEL = place(
    "--model", required=True, metavar="REF",
    help="a checkpoint's URI, models:/NAME@ALIAS, models:/NAME/VERSION, or an exported folder",
)  # fmt: skip
GUIDE = place(
    "--guide", metavar="REF",
    help="a weaker model of the same pictures, which a guidance above 1 leads away from, as a short training of the same kind (default: none)",
)  # fmt: skip
MODEL_NAME = required(RegistrySettings, "model_name")


def dataset_of(arguments: argparse.Namespace, place: Workplace) -> str:
    """The URI of the data set that is meant. Raises WrongInput where there is none such."""
    return find_dataset(arguments.dataset, place)


def judging(chosen: dict[str, Any], place: Workplace) -> JudgeSettings:
    """Who is asked, with the URI of the other data set, which may be said by its name."""
    asked = pick(JudgeSettings, chosen)
    return dataclasses.replace(asked, judge_other=find_dataset(asked.judge_other, place) if asked.judge_other else "")


def find_dataset(said: str, place: Workplace) -> str:
    from ddpm.data.catalogue import find_dataset

    return find_dataset(said, place.store, place.progress)
