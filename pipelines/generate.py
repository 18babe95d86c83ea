"""What is written from the settings: `components/configure.py`, whose source KFP reads, and `docs/settings.md`.

`python -m pipelines.generate` writes them; with `--check` it says which of them are not what the settings say.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ddpm.fields import about_of, plain, range_of, type_of
from ddpm.legible import tell
from ddpm.plan import ROOMS, SEARCHED, fields, places
from ddpm.serving.settings import ServeSettings

ROOT = Path(__file__).parent.parent

COMPONENT = '''"""The run's settings, checked before anything else starts.

Written by `make compile` from the settings (ddpm/settings/), for KFP reads this file's own text. Do not edit it.
"""

from kfp import dsl

from components import component


@component
def configure(
{parameters}
    run_id: str,
    plan: dsl.Output[dsl.Artifact],
    second: dsl.Output[dsl.Artifact],
    note: dsl.Output[dsl.Markdown],
) -> str:
    others = ("plan", "second", "note", "run_id")
    settings = {{name: value for name, value in locals().items() if name not in ("others", *others)}}
    from ddpm.steps import configure as step

    return step.in_pipeline({{**settings, "run_name": run_name or run_id}}, run_id, plan.path, note.path, second.path)
'''

PAGE = """# The settings

Written by `make compile` from `ddpm/settings/`, where each is one field; do not edit it here. The names are the same in `SET='name=value …'`, as a command's flags (`--like-this`), in presets (`ddpm/presets/`), as the pipeline's parameters, and in MLflow. Values are checked before anything starts; nan and infinities are refused. Of a run, the search chooses {searched}; `ddpm train` has them as flags. A run has one more, which none of its steps is told: `search_workers`, the tasks that share the search, as their number (2 where nobody says otherwise, as in `SET='search_workers=4'`) or as a list of their numbers (`[0,1]`).

## A run's name and places

Without others, a machine keeps all of it below `var/` of the working folder; a cluster names its own.

{places}{rooms}"""


def component() -> str:
    """The text of `components/configure.py`: every setting of a run, with its type."""
    return COMPONENT.format(
        parameters="\n".join(f"    {spec.name}: {type_of(spec)}," for spec in (*places(), *fields()))
    )


def page() -> str:
    """The text of `docs/settings.md`: every setting by room, with meaning, type, range and default."""
    searched = ", and ".join(f"`{name}` by {chosen}" for name, chosen in SEARCHED.items())
    rooms = []
    for room, kind in {**ROOMS, "serving": ServeSettings}.items():
        rooms.append(f"\n## {room.capitalize()}\n\n{inspect.getdoc(kind)}\n\n{_table(dataclasses.fields(kind))}")
    return PAGE.format(places=_table(places()), rooms="".join(rooms), searched=searched)


def _table(specs: Iterable[dataclasses.Field[Any]]) -> str:
    rows = ["| name | meaning | type | range | default |", "|---|---|---|---|---|"]
    for spec in specs:
        unit = about_of(spec).unit
        default = "" if spec.default is dataclasses.MISSING else plain(spec.default)
        kind = f"{type_of(spec)}, {unit}" if unit else type_of(spec)
        cells = (f"`{spec.name}`", about_of(spec).meaning, kind, range_of(spec), default)
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(rows) + "\n"


WRITTEN: dict[str, Callable[[], str]] = {"components/configure.py": component, "docs/settings.md": page}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.generate", description="Write what follows from the settings."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 unless all say what the settings say"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the clone (default: the one that this file is in)")
    options = parser.parse_args(arguments)
    status = 0
    for name, text in WRITTEN.items():
        path = options.root / name
        if options.check and not (path.is_file() and path.read_text(encoding="utf-8") == text()):
            tell(f"{path} is not what the settings say; run `make compile` and commit it")
            status = 1
        elif not options.check:
            path.write_text(text(), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
