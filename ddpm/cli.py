"""`ddpm STEP`: every step by hand, on the same functions as the pipeline's components. `ddpm` alone lists them.

`--json` prints one JSON object on standard output; progress goes to standard error. Exit status: 0 done, 2 wrong input,
3 refused by a gate or a check, 1 failed, 130 stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import ddpm
from ddpm.arguments import Parser, require_names
from ddpm.commands import COMMANDS, TEXT, Facts
from ddpm.errors import Outage, Refused, WrongInput, did_you_mean
from ddpm.extensions import load_extensions
from ddpm.failure import keep_traceback
from ddpm.fields import shown
from ddpm.legible import take_all_characters, tell
from ddpm.progress import Bars, open_progress
from ddpm.workplace import Workplace


def parser() -> Parser:
    """All commands with their flags."""
    whole = Parser(prog="ddpm", description="Every step from pictures to a promoted model, by hand.")
    whole.add_argument("--version", action="version", version=f"ddpm {ddpm.__version__}", help="show it and exit")
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
        tell(json.dumps(facts), sys.stdout)
        return
    if list(facts) == [TEXT]:
        tell(facts[TEXT], sys.stdout, layout=True)
        return
    for name, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            tell(f"{name}:", sys.stdout)
            for row in value:
                tell("   " + "  ".join(f"{key} {cell}" for key, cell in row.items()), sys.stdout)
        else:
            plain = isinstance(value, (dict, list))
            tell(f"{name}: {json.dumps(value, ensure_ascii=False) if plain else value}", sys.stdout)


def _read(words: list[str]) -> argparse.Namespace | None:
    """The command and its flags; None where there is none, and what there is was printed."""
    load_extensions()
    whole = parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
        import argcomplete

        argcomplete.autocomplete(whole)
    if not words:
        whole.print_help()
        return None
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        known = ", ".join(COMMANDS)
        raise WrongInput(f"there is no command {shown(words[0])}{did_you_mean(words[0], COMMANDS)}; there are {known}")
    arguments = whole.parse_args(words)
    require_names(arguments)
    return arguments


def _do(arguments: argparse.Namespace) -> Facts | None:
    """Do what a command line asks for."""
    progress = open_progress()
    try:
        place = Workplace(progress, getattr(arguments, "store", ""), getattr(arguments, "tracking_uri", None) or "")
        return arguments.body(arguments, place)
    finally:
        if isinstance(progress, Bars):
            progress.close()


def main(argv: list[str] | None = None) -> int:
    facts: Facts | None = None
    arguments, status, line = None, 0, ""
    take_all_characters()
    try:
        arguments = _read(sys.argv[1:] if argv is None else argv)
        facts = _do(arguments) if arguments else None
    except WrongInput as problem:
        status, line = 2, str(problem)
    except Refused as problem:
        status, line, facts = 3, str(problem), problem.facts
    except Outage as problem:
        status, line = 1, f"{problem}; the same command carries on"
    except KeyboardInterrupt:
        status, line = 130, "stopped; the same command carries on"
    except Exception as problem:  # a bug: in one line, with its traceback kept
        status, line = 1, keep_traceback(problem)
    if arguments and facts is not None and sys.stdout is not None:  # closed: nobody wants to know
        try:
            _print(facts, arguments.json)
            sys.stdout.flush()
        except OSError as problem:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is written to once more, at the end
            if isinstance(problem, BrokenPipeError):  # whoever read it has seen enough
                return status or 1
            if not status:
                status, line = 1, f"it is done, but standard output cannot be written: {problem.strerror}"
    if status:
        tell(f"ddpm: {line}")
    return status


if __name__ == "__main__":
    sys.exit(main())
