"""A team's databases and buckets, saved into a folder and restored from it.

    python docker/backup.py save                    # says the name of what it made, as in 20261125T224512Z
    python docker/backup.py list
    python docker/backup.py verify NAME             # reads every byte again
    python docker/backup.py restore NAME            # into databases and buckets that hold nothing
    python docker/backup.py forget NAME             # and the bytes that no other backup has

A folder (--folder, /backups where it is not said) holds the bytes of each object and dump once, as `blobs/SHA256`, and for
each backup a manifest, NAME.json, which is written last: what was cut off is no backup. Databases come first, so that
what they name is among the objects that are copied after them.

PostgreSQL is reached as PGHOST, PGUSER and PGPASSWORD say, by pg_dump and pg_restore; the object store as DDPM_S3_… do. A
backup holds what the servers hold, the hashes of MLflow's passwords among it. Exit status: 0 done, 2 wrong input, 3
refused (there is something already; bytes are damaged), 1 failed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from provision import BUCKETS, DATABASES, ended

from ddpm.arguments import Parser
from ddpm.errors import Outage, Refused, WrongInput
from ddpm.legible import tell
from ddpm.store import Damaged, FileStore, Missing, S3Store

FORMAT = 1
BEGUN = "restoring.json"  # an object of the last bucket while a restore is under way: the same one may carry on

Blob = dict[str, Any]  # {"sha256": str, "bytes": int}


# -- saving ---------------------------------------------------------------------------------------------------------


def save(folder: FileStore) -> str:
    """Save all databases and buckets; the backup's name."""
    name = _now()
    databases = {database: _keep(folder, _dump(database)) for database in DATABASES}
    buckets = {bucket: dict(_copied(folder, S3Store(f"s3://{bucket}"))) for bucket in BUCKETS}
    manifest = {"format_version": FORMAT, "databases": databases, "buckets": buckets}
    if not folder.create(_file(name), json.dumps(manifest, indent=1).encode()):
        raise Refused(f"a backup {name} was made in this second already; try again")
    tell(f"{name}: {_words(manifest)}", sys.stdout)
    return name


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _copied(folder: FileStore, store: S3Store) -> Iterator[tuple[str, Blob]]:
    for key in store.list(""):
        try:
            yield key, _keep(folder, store.read(key))
        except Missing:  # deleted since it was listed: nothing that is whole names it any more
            continue


def _keep(folder: FileStore, data: bytes) -> Blob:
    """The bytes as a blob of the folder; where they lie there already, and whole, nothing is written."""
    blob: Blob = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    try:
        folder.local(_key(blob), blob["sha256"])
    except (Missing, Damaged):
        folder.write(_key(blob), data)
    return blob


def _dump(database: str) -> bytes:
    return _program(["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--dbname={database}"])


def _program(command: list[str], data: bytes | None = None) -> bytes:
    """A program of PostgreSQL's; what it writes. Raises Outage with its own words where it fails."""
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise WrongInput(f"there is no {command[0]} here; install PostgreSQL's client, as new as its server") from None
    if done.returncode:
        raise Outage(f"{command[0]}: {' '.join(done.stderr.decode(errors='replace').split())}")
    return done.stdout


# -- restoring ------------------------------------------------------------------------------------------------------


def restore(folder: FileStore, name: str) -> None:
    """Put a backup into databases and buckets that hold nothing.

    All of it is read and checked before anything is written. One that was cut off is carried on by the same command.
    Raises Refused where there is something already, or the backup's bytes are others.
    """
    manifest = verify(folder, name)
    last = S3Store(f"s3://{BUCKETS[-1]}")
    if not _was_begun(last, name):
        _require_nothing()
        last.create(BEGUN, json.dumps({"backup": name}).encode())
    for bucket, objects in manifest["buckets"].items():
        store = S3Store(f"s3://{bucket}")
        there = set(store.list(""))
        for key, blob in objects.items():
            data = folder.read(_key(blob))
            if key not in there or store.read(key) != data:
                store.write(key, data)
    for database, blob in manifest["databases"].items():
        if not _tables(database):  # each came whole, in one transaction
            _fill(database, folder.read(_key(blob)))
    last.delete(BEGUN)
    tell(f"{name}: restored, {_words(manifest)}", sys.stdout)


def _was_begun(last: S3Store, name: str) -> bool:
    try:
        other = json.loads(last.read(BEGUN))["backup"]
    except Missing:
        return False
    if other != name:
        raise Refused(f"restoring {other} was begun here and is not done; carry on with that one, or empty all of it")
    return True


def _require_nothing() -> None:
    for bucket in BUCKETS:
        if found := next(S3Store(f"s3://{bucket}").list(""), None):
            raise Refused(f"bucket {bucket} holds objects ({found}, say); restore into an empty one")
    for database in DATABASES:
        if tables := _tables(database):
            raise Refused(f"database {database} holds tables ({tables[0]}, say); restore into an empty one")


def _tables(database: str) -> list[str]:
    import psycopg

    ours = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relnamespace = 'public'::regnamespace"
    with psycopg.connect(dbname=database) as server:
        return [row[0] for row in server.execute(f"{ours} ORDER BY relname")]


def _fill(database: str, dump: bytes) -> None:
    """What was dumped, as the database's owner's, in one transaction."""
    import psycopg

    with psycopg.connect(dbname=database) as server:
        owner = server.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
        (role,) = owner.fetchone() or ("",)
    flags = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
    _program(["pg_restore", *flags, f"--role={role}", f"--dbname={database}"], dump)


# -- the folder -----------------------------------------------------------------------------------------------------


def verify(folder: FileStore, name: str) -> dict[str, Any]:
    """The manifest of a backup, all of whose bytes were read. Raises Refused where some are damaged or missing."""
    manifest = _manifest(folder, name)
    bad = []
    for what, blob in _blobs(manifest):
        try:
            folder.local(_key(blob), blob["sha256"])
        except (Missing, Damaged):
            bad.append(what)
    if bad:
        raise Refused(
            f"{name}: the bytes of {len(bad)} of {len([*_blobs(manifest)])} are damaged or gone, {bad[0]} first"
        )
    return manifest


def names(folder: FileStore) -> list[str]:
    return [key.removesuffix(".json") for key in folder.list("") if "/" not in key and key.endswith(".json")]


def forget(folder: FileStore, name: str) -> None:
    """Remove a backup, and the blobs that no other one names."""
    mine = {_key(blob) for _, blob in _blobs(_manifest(folder, name))}
    others = {_key(blob) for other in names(folder) if other != name for _, blob in _blobs(_manifest(folder, other))}
    folder.delete(_file(name))  # first: what is cut off now leaves bytes, and no backup that lacks some
    for key in mine - others:
        folder.delete(key)
    tell(f"{name}: forgotten", sys.stdout)


def _manifest(folder: FileStore, name: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(folder.read(_file(name)))
    except Missing:
        raise WrongInput(
            f"there is no backup {name} in {folder.root}; there are {', '.join(names(folder)) or 'none'}"
        ) from None
    if manifest.get("format_version") != FORMAT:
        raise WrongInput(
            f"{name} is of another release (format {manifest.get('format_version')}); restore it with that one"
        )
    return manifest


def _blobs(manifest: dict[str, Any]) -> Iterator[tuple[str, Blob]]:
    for database, blob in manifest["databases"].items():
        yield f"database {database}", blob
    for bucket, objects in manifest["buckets"].items():
        for key, blob in objects.items():
            yield f"{bucket}/{key}", blob


def _words(manifest: dict[str, Any]) -> str:
    found = [blob for _, blob in _blobs(manifest)]
    objects = len(found) - len(manifest["databases"])
    return f"{len(manifest['databases'])} databases and {objects:,} objects, {sum(blob['bytes'] for blob in found):,} bytes"


def _file(name: str) -> str:
    return f"{name}.json"


def _key(blob: Blob) -> str:
    return f"blobs/{blob['sha256']}"


# -- the command line -----------------------------------------------------------------------------------------------


def _do(arguments: Any) -> None:
    folder = FileStore(arguments.folder)
    if arguments.what == "save":
        save(folder)
    elif arguments.what == "list":
        for name in names(folder):
            tell(f"{name}: {_words(_manifest(folder, name))}", sys.stdout)
    elif arguments.what == "verify":
        tell(f"{arguments.name}: whole, {_words(verify(folder, arguments.name))}", sys.stdout)
    else:
        {"restore": restore, "forget": forget}[arguments.what](folder, arguments.name)


def main() -> int:
    os.umask(0o077)  # nobody else's to read
    parser = Parser(
        prog="backup.py", description="Save a team's databases and buckets into a folder, and restore them."
    )
    parser.add_argument("--folder", default="/backups", help="where backups lie (default /backups)")
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    for what in ("save", "list"):
        commands.add_parser(what)
    for what in ("verify", "restore", "forget"):
        commands.add_parser(what).add_argument("name", help="as `list` says it")
    return ended("backup.py", lambda: _do(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
