"""A folder's tree, walked without recursion: it may be deeper than Python's stack."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator


def walk(top: str, unlisted: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk` does it, from the top: parent, folders (links to folders too), and files, all by name.

    Args:
        unlisted: told of a folder that cannot be listed, which is left out then.

    Whoever takes it may remove folders from the list, which are not entered then; links to folders never are.
    """
    waiting = [top]
    while waiting:
        parent = waiting.pop()
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else files).append(entry.name)
        except OSError as problem:
            unlisted(problem)
            continue
        folders.sort()
        yield parent, folders, sorted(files)
        waiting += [path for name in reversed(folders) if not os.path.islink(path := os.path.join(parent, name))]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle, say: whoever opens it is told
        return False
