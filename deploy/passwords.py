"""Writes an overlay's secrets from the .example beside each: `make secrets OVERLAY=dev`, or python3 deploy/passwords.py dev.

`${NAME}` in a template becomes what the environment says for NAME, or a value drawn at random, the same one wherever it
stands; `${NAME:sha256}` becomes its digest. What is there is never overwritten, and files are readable by their owner alone.
It needs Python's standard library only. Exit status: 0 done, 2 wrong input, 1 failed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sys
from pathlib import Path

OVERLAYS = Path(__file__).resolve().parent / "overlays"
TEMPLATE = ".example"
BLANK = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?P<digest>:sha256)?\}")
FIT = re.compile(r"[A-Za-z0-9._~-]{12,}")  # nothing that JSON, an env file or a URL would read as something else


class Values(dict[str, str]):
    """Each name's value: the environment's, or drawn when it is first asked for. Raises ValueError for one that will not do."""

    def __missing__(self, name: str) -> str:
        told = os.environ.get(name)
        if told is not None and not FIT.fullmatch(told):
            raise ValueError(f"{name}: it needs 12 characters or more, of A-Z a-z 0-9 . _ ~ -")
        self[name] = told if told is not None else secrets.token_urlsafe(24)
        return self[name]


def filled(template: str, values: Values, untold: set[str]) -> str:
    """The template with every blank filled in; `untold` gets the names of which only a digest is written."""

    def value(blank: re.Match[str]) -> str:
        word = values[blank["name"]]
        if not blank["digest"]:
            return word
        untold.add(blank["name"])
        return hashlib.sha256(word.encode()).hexdigest()

    return BLANK.sub(value, template)


def write(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The files written, and the values that stand in none of them. Raises ValueError where there are secrets already."""
    templates = sorted(folder.glob(f"*{TEMPLATE}"))
    there = [file.with_suffix("").name for file in templates if file.with_suffix("").exists()]
    if there:
        raise ValueError(
            f"{folder} has {', '.join(there)} already; to draw all anew, remove every file but the {TEMPLATE}s"
        )
    values, untold = Values(), set[str]()
    texts = {file.with_suffix(""): filled(file.read_text(), values, untold) for file in templates}
    written: list[Path] = []
    try:
        for path, text in texts.items():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                written.append(path)
                file.write(text)
    except OSError:
        for path in written:  # some without the others would be of no use, and in the way
            path.unlink()
        raise
    return list(texts), {name: values[name] for name in sorted(untold)}


def main(arguments: list[str]) -> int:
    known = sorted(folder.parent.name for folder in OVERLAYS.glob("*/secrets"))
    if len(arguments) != 1 or arguments[0] not in known:
        sys.stderr.write(f"name one overlay: {', '.join(known)} (gpu and kserve take dev's)\n")
        return 2
    try:
        files, untold = write(OVERLAYS / arguments[0] / "secrets")
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except OSError as problem:
        sys.stderr.write(f"the secrets cannot be written: {problem}\n")
        return 1
    sys.stdout.write("".join(f"{file.relative_to(OVERLAYS.parent.parent)}\n" for file in files))
    for name, value in untold.items():
        sys.stdout.write(f"{name}={value}  (kept nowhere: note it)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
