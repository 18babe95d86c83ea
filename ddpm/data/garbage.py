"""What lies in a store and is named by nothing, and its removal.

    blobs/…                    named by no manifest in datasets/
    ingested/…                 a record of shards, or of a manifest, that are not there or are garbage themselves
    datasets/NAME/DIGEST.*     beside no DIGEST.json
    .writing-…, and uploads    begun and never ended

and what other rooms' rules say of what they write. Whatever else is there is left alone: runs, promotion logs, answers of
judges, and features and weights, which may be of data sets in other stores. What is younger than a day is spared, because
its writer may not be through: it names things last. A writer that takes up something old renews it first (`Store.renew`),
and its age is looked at again as it goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ddpm.data.manifest import blob_key, read_manifest
from ddpm.errors import Refused, WrongInput
from ddpm.fields import require
from ddpm.progress import Progress
from ddpm.store import Entry, Missing, Store

HOURS = 24.0
MANIFEST = re.compile(r"datasets/[^/]+/[0-9a-f]{64}\.json")

Entries = Mapping[str, Entry]
Rule = Callable[[Store, Entries], Iterator[tuple[str, str]]]  # keys that nothing names, and why each is garbage


def collect_garbage(
    store: Store, progress: Progress, delete: bool = False, older_than: float = HOURS, rules: Iterable[Rule] = ()
) -> dict[str, Any]:
    """List what nothing names, and remove it if asked.

    Args:
        rules: of what other rooms write (`ddpm/steps/gc.py`); that of data sets is known here.
        older_than: hours; what was written or renewed since then is spared.

    Returns: garbage [{object, bytes, age_hours, why}], bytes (of all), deleted (number of objects).
    Raises: Refused where a manifest cannot be read, since then nobody knows what it names.
    """
    require(older_than >= 0, "older_than", older_than, "0 or more hours")
    now = store.now()
    limit = now - older_than * 3600
    # Objects are listed before manifests are read: what a manifest names that is written meanwhile is seen there.
    entries = {entry.key: entry for entry in store.entries("")}
    if not entries:
        progress.say(f"{store.root} holds no objects")
    found = [(entries[key], why) for key, why in sorted(_unnamed(store, entries, rules).items())]
    unfinished = [entry for entry in store.unfinished() if entry.modified < limit]
    found = [(entry, why) for entry, why in found if entry.modified < limit]
    deleted = _delete(store, found, unfinished, limit, progress) if delete else 0
    rows = [*found, *((entry, "begun and never ended") for entry in unfinished)]
    return {
        "garbage": [
            {"object": store.uri(entry.key), "bytes": entry.bytes, "age_hours": round((now - entry.modified) / 3600, 1), "why": why}
            for entry, why in rows
        ],
        "bytes": sum(entry.bytes for entry, _ in rows),
        "deleted": deleted,
    }  # fmt: skip


def _delete(
    store: Store, found: list[tuple[Entry, str]], unfinished: list[Entry], limit: float, progress: Progress
) -> int:
    """Remove what is still as it was found; how many there were. Manifests are read again: one may have come since."""
    named = _named_blobs(store)
    deleted, total = 0, len(found) + len(unfinished)
    for done, (entry, _) in enumerate(found, 1):
        if entry.key not in named and store.delete_older(entry.key, limit):
            deleted += 1
        progress.update("deleting", done, total, f"{done:,} of {total:,} objects")
    for done, entry in enumerate(unfinished, len(found) + 1):
        store.delete_unfinished(entry)
        deleted += 1
        progress.update("deleting", done, total, f"{done:,} of {total:,} objects")
    return deleted


def _unnamed(store: Store, entries: Entries, rules: Iterable[Rule]) -> dict[str, str]:
    """Keys that nothing names, and why each is garbage, whatever their age."""
    named = _named_blobs(store)
    found = {key: "named by no manifest" for key in entries if key.startswith("blobs/") and key not in named}
    found.update(_records(store, entries, named))
    for rule in (_beside_manifests, *rules):
        found.update(rule(store, entries))
    return found


def _named_blobs(store: Store) -> set[str]:
    named = set()
    for key in store.list("datasets"):
        if not MANIFEST.fullmatch(key):
            continue
        try:
            _, manifest = read_manifest(store.uri(key))
        except Missing:  # deleted since it was listed
            continue
        except WrongInput as problem:
            raise Refused(
                f"nothing is collected while a manifest cannot be read, for it may name anything: {problem}"
            ) from None
        named |= {blob_key(shard["sha256"]) for shards in manifest["shards"].values() for shard in shards}
    return named


def _records(store: Store, entries: Entries, named: set[str]) -> Iterator[tuple[str, str]]:
    for key in entries:
        if not key.startswith("ingested/"):
            continue
        try:
            record = json.loads(store.read(key).rpartition(b"\n")[2])
            shards = [blob_key(shard["sha256"]) for shard in record.get("shards", {}).values()]
        except Missing:  # deleted since it was listed
            continue
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            yield key, "a record that cannot be read"
            continue
        if "dataset" in record and not store.exists(record["dataset"]):
            yield key, "its data set is not there"
        elif any(shard not in named for shard in shards):
            yield key, "names a shard that no manifest names"


def _beside_manifests(store: Store, entries: Entries) -> Iterator[tuple[str, str]]:
    for key in entries:
        manifest = re.sub(r"\.html$", ".json", key)
        if MANIFEST.fullmatch(manifest) and manifest not in entries and not store.exists(manifest):
            yield key, "beside no manifest"
