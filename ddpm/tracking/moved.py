"""A SQLite database of MLflow's whose folder was moved: it keeps the places of its artifacts as absolute paths."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

ARTIFACTS = "artifacts"  # the folder beside the database
KINDS = ("location", "uri", "source")  # what columns that keep a place are called


def follow(database: Path) -> str:
    """Have the places that the database keeps say where it lies now. Returns a line that says what moved; empty: nothing.

    Nothing is changed where the old name leads to the same folder still, as a link or another mount does.
    """
    here = database.parent
    if not database.is_file():
        return ""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return ""
        kept = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
        homes = {home for name, place in kept if (home := _home(name, place or ""))}
        gone = sorted(home for home in homes if home != here and not _same(home, here))
        for home in gone:
            _replace(connection, f"{home.as_uri()}/{ARTIFACTS}/", f"{here.as_uri()}/{ARTIFACTS}/")
    if not gone:
        return ""
    return f"MLflow's records were made in {gone[0]} and lie in {here} now: the places kept in them have been changed"


def _home(experiment: str, place: str) -> Path | None:
    """The folder of the database in which an experiment of ours was made; None for one with a place of its own."""
    parts = urlsplit(place)
    path = Path(unquote(parts.path))
    ours = parts.scheme == "file" and path.name == experiment and path.parent.name == ARTIFACTS
    return path.parent.parent if ours else None


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _replace(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Have every place below `old` lie below `new`."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        for column in [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]:
            if any(kind in column for kind in KINDS):
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) WHERE substr("{column}", 1, ?) = ?',
                    (new, len(old) + 1, len(old), old),
                )
