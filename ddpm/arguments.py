"""What the command line takes: a flag for every setting and place, and the files that commands read."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from ddpm.errors import WrongInput
from ddpm.places import default_places
from ddpm.plan import ROOMS, load_preset


def chosen_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The preset's parameters, and over them whatever was given as a flag."""
    preset = load_preset(arguments.preset) if arguments.preset else {}
    names = {spec.name for kind in ROOMS.values() for spec in dataclasses.fields(kind)}
    return {**preset, **{name: value for name, value in vars(arguments).items() if name in names and value is not None}}


def read_json(path: str) -> dict[str, Any]:
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
    parser.add_argument("--preset", metavar="NAME", help="take settings from pipelines/presets/NAME.yaml")
    for kind in kinds:
        group = parser.add_argument_group(kind.__doc__.split("\n")[0] if kind.__doc__ else kind.__name__)
        for spec in dataclasses.fields(kind):
            if spec.name not in without:
                names = [f"--{spec.name.replace('_', '-')}"] + ([f"--{spec.name}"] if "_" in spec.name else [])
                group.add_argument(
                    *names, dest=spec.name, metavar=str(spec.type).upper(), help=f"default: {spec.default}"
                )


def place_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    texts = {
        "store": "object store: a folder or s3://BUCKET/PREFIX", "tracking_uri": "MLflow", "run_name": "the run's name; given again, it resumes",
        "study_storage": "Optuna: a journal file's path or a database URL",
    }  # fmt: skip
    defaults = default_places()
    for name in names:
        parser.add_argument(
            f"--{name.replace('_', '-')}", f"--{name}", dest=name, default=defaults.get(name), required=name not in defaults,
            help=f"{texts[name]} (default: {defaults.get(name, 'none')})",
        )  # fmt: skip
