"""The promotion log, which is the truth, and MLflow's aliases, which are its projection.

    STORE/registry/NAME/000001.json   {number, at, who, action, from, to, why, weights_sha256, figures}

Every entry is written create-if-absent: of two writers only one gets a number, and the other looks and decides again.
Actions: `promote` (from the old champion to the new), `challenge` (the version stays a challenger), `rollback`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any, Literal, TypedDict

from ddpm.errors import Refused, WrongInput
from ddpm.store import Store
from ddpm.tracking import open_client, user_name

ALIASES = ("champion", "challenger", "previous")


class ShortFigures(TypedDict):
    """What a log says of the figures that it went by."""

    metric: str
    fid: float
    fid_std: float
    kid: float
    kid_std: float
    n: int


Draft = TypedDict(
    "Draft",
    {
        "action": Literal["promote", "challenge", "rollback"],
        "from": int | None,
        "to": int,
        "why": str,
        "weights_sha256": str | None,
        "figures": ShortFigures | None,
    },
)


class Entry(Draft):
    """An entry as it is kept."""

    number: int
    at: str  # ISO 8601, UTC
    who: str


def entries(store: Store, name: str) -> list[Entry]:
    """The model's promotion log, the oldest entry first."""
    return [json.loads(store.read(key)) for key in store.list(f"registry/{name}") if key.endswith(".json")]


def standing(log: list[Entry]) -> dict[str, int]:
    """Which version has which alias, by the log alone."""
    found: dict[str, int] = {}
    for entry in log:
        if entry["action"] == "challenge":
            found["challenger"] = entry["to"]
        else:
            if entry["from"] is not None:
                found["previous"] = entry["from"]
            found["champion"] = entry["to"]
            if found.get("challenger") == entry["to"]:
                del found["challenger"]
            if found.get("previous") == entry["to"]:
                del found["previous"]
    return found


def append(store: Store, name: str, draft: Callable[[list[Entry]], Draft | None]) -> Entry | None:
    """Write the entry that `draft` makes of the log as it stands; None where it makes none. A lost race drafts again."""
    while True:
        log = entries(store, name)
        drafted = draft(log)
        if drafted is None:
            return None
        number = len(log) + 1
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry: Entry = {"number": number, "at": at, "who": user_name(), **drafted}
        if store.create(f"registry/{name}/{number:06d}.json", json.dumps(entry, indent=1).encode()):
            return entry


def project_aliases(store: Store, tracking_uri: str, name: str) -> dict[str, int]:
    """Set MLflow's aliases to what the log says, and drop those it does not give; returns what it says."""
    client = open_client(tracking_uri)
    log = entries(store, name)
    while True:
        wanted = standing(log)
        there = client.get_registered_model(name).aliases
        for alias in ALIASES:
            if alias in wanted and int(there.get(alias, -1)) != wanted[alias]:
                _set_alias(client, store, name, alias, wanted[alias])
            elif alias not in wanted and alias in there:
                client.delete_registered_model_alias(name, alias)
        before, log = log, entries(store, name)
        if len(log) == len(before):  # else another writer was at it, and ours may have overwritten its aliases
            return wanted


def _set_alias(client: Any, store: Store, name: str, alias: str, version: int) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(name, alias, str(version))
    except MlflowException:
        raise WrongInput(
            f"model_name: {name} has no version {version}, which is {alias} by the promotion log {store.uri(f'registry/{name}')}; that must be another registry's: move it away, or give another model_name"
        ) from None


def rollback(store: Store, tracking_uri: str, name: str, why: str) -> Entry:
    """Give the previous champion its place back. Raises Refused where there is none."""

    def draft(log: list[Entry]) -> Draft:
        now = standing(log)
        if "previous" not in now:
            raise Refused(f"{name} has no previous champion to go back to; `ddpm history` shows its log")
        return {
            "action": "rollback",
            "from": now["champion"],
            "to": now["previous"],
            "why": why,
            "weights_sha256": None,
            "figures": None,
        }

    entry = append(store, name, draft)
    assert entry is not None
    project_aliases(store, tracking_uri, name)
    return entry
