"""`ddpm STEP`: every step by hand, on the same functions as the pipeline's components.

`--json` prints one JSON object on standard output; progress goes to standard error. Exit status: 0 done, 2 wrong input,
3 refused by a gate or a check, 1 failed.
"""

from __future__ import annotations

import argparse
import json
import sys

from ddpm.commands import COMMANDS, TEXT, Facts
from ddpm.errors import Outage, Refused, WrongInput
from ddpm.extensions import load_extensions
from ddpm.progress import Bars, open_progress
from ddpm.workplace import Workplace


def parser() -> argparse.ArgumentParser:
    """All commands with their flags."""
    whole = argparse.ArgumentParser(prog="ddpm", description=__doc__.split("\n")[0])
    steps = whole.add_subparsers(title="steps", metavar="STEP", required=True)
    for name, command in COMMANDS.items():
        added = steps.add_parser(name, help=command.text, description=command.text)
        added.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        added.set_defaults(body=command.body)
        for flags in command.flags:
            flags(added)
    return whole


def _print(facts: Facts, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    if list(facts) == [TEXT]:
        print(facts[TEXT])
        return
    for name, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{name}:")
            for row in value:
                print("   " + "  ".join(f"{key} {cell}" for key, cell in row.items()))
        else:
            print(f"{name}: {json.dumps(value) if isinstance(value, (dict, list)) else value}")


def main(argv: list[str] | None = None) -> int:
    try:
        load_extensions()
    except WrongInput as problem:
        print(f"ddpm: {problem}", file=sys.stderr)
        return 2
    arguments = parser().parse_args(argv)
    progress = open_progress()
    place = Workplace(progress, getattr(arguments, "store", ""), getattr(arguments, "tracking_uri", ""))
    facts: Facts | None = None
    status, problem_line = 0, ""
    try:
        facts = arguments.body(arguments, place)
    except WrongInput as problem:
        status, problem_line = 2, str(problem)
    except Refused as problem:
        status, problem_line, facts = 3, str(problem), problem.facts
    except Outage as problem:
        status, problem_line = 1, f"{problem}; the same command carries on"
    except KeyboardInterrupt:
        status, problem_line = 130, "stopped; the same command carries on"
    finally:
        if isinstance(progress, Bars):
            progress.close()
    if facts is not None:
        _print(facts, arguments.json)
    if status:
        print(f"ddpm: {problem_line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
