"""Writes images by digest into an overlay: `make pin OVERLAY=dev IMAGES='registry.example/team/ddpm-mlflow@sha256:… …'`.

An image goes where its `images` name it already, by the last part of its name. It needs Python's standard library only.
Exit status: 0 done, 2 wrong input (nothing is written then), 1 failed.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

OVERLAYS = Path(__file__).resolve().parent / "overlays"
PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"  # beside a digest it says nothing, and is left out
IMAGE = re.compile(
    rf"(?P<place>{PART}(?::[0-9]+)?/(?:{PART}/)*(?P<name>{PART}))(?::{TAG})?@(?P<digest>sha256:[0-9a-f]{{64}})"
)
ENTRY = r"^( *- )\{{name: {name},[^}}]*\}}"


def pinned(text: str, images: list[str]) -> str:
    """A kustomization with each image by its digest. Raises ValueError for what is no image, or is not among its own."""
    given: dict[str, str] = {}
    for image in images:
        found = IMAGE.fullmatch(image)
        if not found:
            raise ValueError(
                f"{image[:200]!r} is no image by digest; write REGISTRY/NAME@sha256:DIGEST, as a push tells it"
            )
        entry = f"{{name: {found['name']}, newName: {found['place']}, digest: {found['digest']}}}"
        if given.setdefault(found["name"], entry) != entry:
            raise ValueError(f"{image}: {found['name']} is given twice, and each time as another image; give it once")
        text, count = re.subn(ENTRY.format(name=re.escape(found["name"])), rf"\g<1>{entry}", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{image}: the overlay's `images` do not name {found['name']}, once, on a line of its own")
    return text


def write(path: Path, text: str) -> None:
    """Whole, or not at all."""
    handle, beside = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(beside, path.stat().st_mode)
        os.replace(beside, path)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise


def main(arguments: list[str]) -> int:
    known = sorted(file.parent.name for file in OVERLAYS.glob("*/kustomization.yaml") if "images:" in file.read_text())
    overlay, *images = arguments or [""]
    if overlay not in known or not images:
        sys.stderr.write(f"name one overlay ({', '.join(known)}; gpu takes dev's), and images by digest\n")
        return 2
    path = OVERLAYS / overlay / "kustomization.yaml"
    try:
        write(path, pinned(path.read_text(), images))
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except OSError as problem:
        sys.stderr.write(f"{path} cannot be written: {problem}\n")
        return 1
    sys.stdout.write(f"{path.relative_to(OVERLAYS.parent.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
