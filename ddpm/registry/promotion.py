"""MLflow's aliases, which are a projection of the promotion log, and the ways in which they move.

Whatever moves looks first (`settle`): a version that the log gives an alias to may have been deleted in MLflow's pages,
and the log may be another registry's.
"""

from __future__ import annotations

from typing import Any

from ddpm.errors import Refused, WrongInput
from ddpm.registry.catalogue import WEIGHTS_TAG, open_registry, version_of, versions
from ddpm.registry.log import Draft, Entry, append, entries, standing, weights_in
from ddpm.registry.promoter import VARIABLES as PROMOTER
from ddpm.registry.promoter import as_promoter
from ddpm.store import Store
from ddpm.tracking import open_client

ALIASES = ("champion", "challenger", "previous")
LOOKS = 100  # at a log that grows under one's hands, before one gives up to set aliases by it
TOO_FAST = "the promotion log of {name}, {log}, grows faster than its aliases can be set; do the same once more when others have ended"


def settle(store: Store, client: Any, name: str) -> list[Entry]:
    """The log, with every version that it gives an alias to and that is in MLflow no more logged as gone.

    Raises WrongInput where the log is another registry's.
    """
    seen: list[Entry] = []

    def draft(log: list[Entry]) -> Draft | None:
        seen[:] = log
        return _gone(store, client, name, log)

    for _ in range(LOOKS):
        if append(store, name, draft) is None:
            return list(seen)
    raise Refused(TOO_FAST.format(name=name, log=store.uri(f"registry/{name}")))


def as_settled(store: Store, client: Any, name: str) -> list[Entry]:
    """The log as `settle` would leave it; nothing is written."""
    log = entries(store, name)
    while drafted := _gone(store, client, name, log):  # each turn, one version fewer
        log.append({"number": len(log) + 1, "at": "", "who": "", **drafted})
    return log


def _gone(store: Store, client: Any, name: str, log: list[Entry]) -> Draft | None:
    """The entry for the first version with an alias that is in MLflow no more; None where all are there."""
    now = standing(log)
    held = {alias: (now[alias], version_of(client, name, now[alias])) for alias in ALIASES if alias in now}
    gone = [(alias, number) for alias, (number, version) in held.items() if version is None]
    there = {number: version for number, version in held.values() if version is not None}
    _require_same_registry(store, name, log, versions(client, name) if gone else there, whole=bool(gone))
    if not gone:
        return None
    alias, number = gone[0]
    why = f"version {number}, the {alias}, is in MLflow no more"
    return {"action": "gone", "from": now.get("champion"), "to": number, "why": why, "figures": None}


def _require_same_registry(store: Store, name: str, log: list[Entry], there: dict[int, Any], whole: bool) -> None:
    """Raise WrongInput where the log is another registry's than the one with these versions (`whole`: with no others).

    A registry never gives a number twice. So a version that it lacks was deleted, if it has another of the log's, by
    its weights, or has counted on beyond them all. It is another one where a number has other weights, or where
    nothing speaks for it.
    """
    place, weights = store.uri(f"registry/{name}"), weights_in(log)
    mine = [number for number, version in there.items() if number in weights and WEIGHTS_TAG in version.tags]
    for number in mine:
        if there[number].tags[WEIGHTS_TAG] != weights[number]:
            raise WrongInput(
                f"model_name: version {number} of {name} has other weights than in the promotion log {place}, which must be another registry's; move that away, or give another model_name"
            )
    if whole and not mine and max(there, default=0) <= max(entry["to"] for entry in log):
        raise WrongInput(
            f"model_name: MLflow has none of the versions of {name} that the promotion log {place} names, which must be another registry's; name that as tracking_uri, move the log away, or give another model_name"
        )


def project_aliases(store: Store, tracking_uri: str, name: str) -> dict[str, int]:
    """Set MLflow's aliases to what the log says, and drop those it does not give; returns what it says."""
    from mlflow.exceptions import MlflowException

    client = open_client(tracking_uri)
    for _ in range(LOOKS):
        log = settle(store, client, name)
        wanted = standing(log)
        there = client.get_registered_model(name).aliases
        try:
            with as_promoter():
                for alias in ALIASES:
                    if alias in wanted and int(there.get(alias, -1)) != wanted[alias]:
                        client.set_registered_model_alias(name, alias, str(wanted[alias]))
                    elif alias not in wanted and alias in there:
                        client.delete_registered_model_alias(name, alias)
        except MlflowException as problem:
            if problem.error_code == "PERMISSION_DENIED":
                raise WrongInput(
                    f"model_name: MLflow does not let this account set the aliases of {name}, which the promotion log gives; the account that may goes into {' and '.join(PROMOTER)}, and the same again sets them"
                ) from None
            if problem.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue  # deleted since we looked
        if len(entries(store, name)) == len(
            log
        ):  # else another writer was at it, and ours may have overwritten its aliases
            return wanted
    raise Refused(TOO_FAST.format(name=name, log=store.uri(f"registry/{name}")))


def rollback(store: Store, tracking_uri: str, name: str, why: str) -> Entry:
    """Give the previous champion its place back. Raises Refused where there is none, WrongInput where it is not whole.

    It is not asked to draw its recorded sample: it was champion, and who goes back is in a hurry.
    """
    from ddpm.registry.version import resolve  # it imports torch

    entries(store, name)  # a log that is not whole is said first
    client = open_registry(tracking_uri, f"models:/{name}")
    settle(store, client, name)

    def draft(log: list[Entry]) -> Draft:
        now = standing(log)
        if "previous" not in now:
            raise Refused(f"{name} has no previous champion to go back to; `ddpm history` shows its log")
        resolve(f"models:/{name}/{now['previous']}", tracking_uri)
        return {
            "action": "rollback",
            "from": now.get("champion"),
            "to": now["previous"],
            "why": why,
            "weights_sha256": weights_in(log).get(now["previous"]),
            "figures": None,
        }

    entry = append(store, name, draft)
    assert entry is not None
    project_aliases(store, tracking_uri, name)
    return entry
