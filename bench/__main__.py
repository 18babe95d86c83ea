"""`make bench`: each benchmark is a module here with `SETTINGS`, its defaults, and `run(settings, say)`, its rows."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from bench.table import Row, table, write
from ddpm.arguments import setting_words
from ddpm.errors import WrongInput
from ddpm.places import require_output

BENCHES: tuple[str, ...] = ("training", "sampling", "ingest", "evaluation", "serving")  # in the order in which they run
# They train for long, or compare us with ourselves, and run when they are named.
NAMED = ("search", "rungs", "workers", "recipes", "drawing", "spikes", "order")


def _read_settings(texts: list[str], names: list[str]) -> dict[str, dict[str, Any]]:
    """The settings of each benchmark, with those given by `name=value`, in the type of their default."""
    settings = {name: dict(importlib.import_module(f"bench.{name}").SETTINGS) for name in names}
    for pair in (word for text in texts for word in setting_words(text)):
        key, equals, value = pair.partition("=")
        having = [name for name in names if key in settings[name]]
        if not equals or not having:
            known = sorted({key for found in settings.values() for key in found})
            sys.exit(f"bench: '{pair}' sets nothing; write name=value, with one of {', '.join(known)}")
        for name in having:
            kind = type(settings[name][key])
            try:
                settings[name][key] = kind(value)
            except ValueError:
                sys.exit(f"bench: {key}: '{value}' is no {kind.__name__}")
    return settings


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "benches", nargs="*", metavar="BENCH", help=f"which (default: {', '.join(BENCHES)}); or {', '.join(NAMED)}"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", default="var/bench.json", metavar="FILE")
    arguments = parser.parse_args(argv)
    names = arguments.benches or list(BENCHES)
    for name in names:
        if name not in BENCHES + NAMED:
            parser.error(f"there is no benchmark '{name}'; there are {', '.join(BENCHES + NAMED)}")
    try:
        require_output("out", arguments.out)
        settings = _read_settings(arguments.set, names)
        rows: list[Row] = []
        for name in names:
            rows += importlib.import_module(f"bench.{name}").run(
                settings[name], lambda text, name=name: print(f"{name}: {text}", file=sys.stderr, flush=True)
            )
            # After each: a later one that fails must not take the earlier ones with it.
            write(Path(arguments.out), rows)
    except WrongInput as problem:
        sys.exit(f"bench: {problem}")
    print(table(rows))


if __name__ == "__main__":
    main()
