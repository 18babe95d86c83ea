"""Pictures in a folder of this machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddpm.data.sources.layout import by_folders
from ddpm.data.sources.source import Content, PassedOver, Source, is_picture, keep, no_pictures
from ddpm.data.sources.spec import Spec, path_after, plain_path, telling
from ddpm.errors import WrongInput
from ddpm.store import tree


@dataclass(frozen=True)
class Folder(Spec):
    """`folder:/path`, or a path that is no archive's."""

    path: Path

    @classmethod
    def recognise(cls, source: str) -> Folder | None:
        path = path_after("folder", source, "folder") or plain_path(source)
        return None if path is None else cls(path)

    @classmethod
    def form(cls) -> str:
        return "folder:DIR"

    def check(self) -> None:
        require_pictures(self.path)

    def open(self) -> Source:
        return from_folder(self.path)

    def title(self) -> str:
        return telling(self.path.absolute().parts)

    def absolute(self) -> str:
        return str(self.path.absolute())

    def local_paths(self) -> tuple[Path, ...]:
        return (self.path.absolute(),)


RIGHT = {errno.ENAMETOOLONG: "make its folders fewer or their names shorter"}


def walk(folder: Path) -> Iterator[str]:
    """All files below the folder, relative to it; hidden ones are passed over. Raises WrongInput for what cannot be listed."""

    def unlisted(problem: OSError) -> None:
        right = RIGHT.get(problem.errno or 0, "ask for permission")
        raise WrongInput(
            f"source: {_short(problem.filename)} cannot be read: {problem.strerror}; {right}, or name another folder"
        )

    for parent, folders, files in tree.walk(str(folder), unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                raise WrongInput(
                    f"source: {_short(f'{parent}/{name}')} is a link to a folder, which is not followed; name the folder itself"
                )
        inside = os.path.relpath(parent, folder)
        for name in files:
            if not name.startswith("."):
                yield name if inside == "." else f"{inside}/{name}"


def _short(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:100]}…{path[-80:]}"


def require_pictures(folder: Path) -> None:
    """Raise WrongInput unless the folder is there, can be read and holds a picture."""
    if not folder.exists():
        raise WrongInput(f"source: there is no folder {folder}; name one that holds pictures, or class folders of them")
    if not folder.is_dir():
        raise WrongInput(
            f"source: {folder} is a file; name the folder that holds the pictures, or write archive:{folder}"
        )
    passed_over = PassedOver()
    for name in walk(folder):
        if is_picture(name):
            return
        passed_over.add(name)
    raise WrongInput(no_pictures(folder, passed_over))


def from_folder(folder: Path, kind: str = "folder", facts: dict[str, str] | None = None) -> Source:
    """Pictures below a folder. Its own folders are the classes; pictures beside them have none."""
    require_pictures(folder)
    contents: dict[str, Content] = {}
    passed_over = PassedOver()
    for name in walk(folder):
        if is_picture(name):
            keep(contents, folder, name, f"{folder}/{name}")
        else:
            passed_over.add(name)
    return by_folders(kind, contents, facts or {}, passed_over)
