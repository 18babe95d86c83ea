"""The promotion log, which is the truth of who was champion when, and why.

    STORE/registry/NAME/000001.json   {number, at, who, action, from, to, why, weights_sha256, files_sha256, figures}

Every entry is written create-if-absent: of two writers only one gets a number, and the other looks and decides again.
Actions:

    promote     `to` takes the place of the champion, `from`
    challenge   `to` stays a challenger
    rollback    the champion before, `to`, has its place back
    gone        `to` is in MLflow no more: it loses what aliases it has
"""

from __future__ import annotations

import datetime
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from ddpm.store import Damaged, Missing, Store
from ddpm.store.reading import read_json, sealed_json
from ddpm.tracking import user_name

UNLISTED = 10  # times that one looks for an entry that is there by `create` and not by `list`
RIGHT = "put the entry back, or move the whole log away and promote anew; `ddpm history` shows what can be read"


class ShortFigures(TypedDict):
    """What a log says of the figures that it went by."""

    metric: str
    fid: float
    fid_std: float
    kid: float
    kid_std: float
    n: NotRequired[int]


Draft = TypedDict(
    "Draft",
    {
        "action": Literal["promote", "challenge", "rollback", "gone"],
        "from": int | None,  # the champion at that moment
        "to": int,
        "why": str,
        "weights_sha256": NotRequired[str | None],
        "files_sha256": NotRequired[str | None],  # of the version's list of files; earlier releases wrote none
        "figures": ShortFigures | None,
    },
)


class Entry(Draft):
    """An entry as it is kept."""

    number: int
    at: str  # ISO 8601, UTC
    who: str


@dataclass(frozen=True)
class Log:
    """What can be read of a log, the oldest entry first; what is damaged, by name; and objects that are none of its."""

    entries: list[Entry]
    damaged: list[str]
    strays: list[str]


def read_log(store: Store, name: str) -> Log:
    """The model's promotion log, as far as it can be read."""
    log = Log([], [], [])
    numbers: dict[int, str] = {}
    for key in store.list(f"registry/{name}"):
        found = re.fullmatch(r"([0-9]{6}|[1-9][0-9]{6,17})\.json", key.rpartition("/")[2])
        if found and int(found[1]):
            numbers[int(found[1])] = key
        else:
            log.strays.append(store.uri(key))
    before = 0
    for number in sorted(numbers):
        if number != before + 1:  # a gap is said once, however wide it is
            missing = store.uri(f"registry/{name}/{before + 1:06d}.json")
            log.damaged.append(f"{missing} is missing; {RIGHT}")
        before = number
        try:
            entry = read_json(store, numbers[number], Entry, RIGHT)
            if entry["number"] != number:
                raise Damaged(f"{store.uri(numbers[number])} is damaged: it calls itself {entry['number']}; {RIGHT}")
            log.entries.append(entry)
        except (Damaged, Missing) as problem:
            log.damaged.append(str(problem))
    return log


def entries(store: Store, name: str) -> list[Entry]:
    """The whole log. Raises Damaged, which names the first entry that is missing or cannot be read."""
    log = read_log(store, name)
    if log.damaged:
        raise Damaged(f"the promotion log of {name}: {log.damaged[0]}")
    return log.entries


def standing(log: list[Entry]) -> dict[str, int]:
    """Which version has which alias, by the log alone. `previous` is the last of the champions before this one."""
    champion: int | None = None
    challenger: int | None = None
    line: list[int] = []  # of champions, each where it was one last
    for entry in log:
        version = entry["to"]
        if entry["action"] == "challenge":
            challenger = version
            continue
        line = [one for one in line if one != version]
        challenger = None if challenger == version else challenger
        if entry["action"] == "gone":
            champion = None if champion == version else champion
        else:
            champion = version
            line.append(version)
    previous = next((one for one in reversed(line) if one != champion), None)
    held = {"champion": champion, "challenger": challenger, "previous": previous}
    return {alias: version for alias, version in held.items() if version is not None}


def weights_in(log: list[Entry]) -> dict[int, str]:
    """The digest of each version's weights, of those whose weights the log knows."""
    return {entry["to"]: sha256 for entry in log if (sha256 := entry.get("weights_sha256"))}


def append(store: Store, name: str, draft: Callable[[list[Entry]], Draft | None]) -> Entry | None:
    """Write the entry that `draft` makes of the log as it stands; None where it makes none. A lost race drafts again.

    Raises Damaged for a log that is not whole, whose next entry nobody can number.
    """
    length, unlisted = -1, 0
    while unlisted < UNLISTED:  # a lost race makes the log longer: that is no waiting
        log = entries(store, name)
        if len(log) == length:
            unlisted += 1
            time.sleep(random.uniform(0, 0.02 * 2**unlisted))
        else:
            length, unlisted = len(log), 0
        drafted = draft(log)
        if drafted is None:
            return None
        number = len(log) + 1
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry: Entry = {"number": number, "at": at, "who": user_name(), **drafted}
        if store.create(_key(name, number), sealed_json(entry)):
            return entry
    raise Damaged(
        f"the promotion log of {name}: {store.uri(_key(name, length + 1))} is there, and the store does not list it; look at the store"
    )


def _key(name: str, number: int) -> str:
    return f"registry/{name}/{number:06d}.json"
