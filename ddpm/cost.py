"""What a run took: time, pictures, device-hours, energy and money, of each step and of the whole.

A device-hour is an hour for which a step held the device that it works on, be it a GPU or the machine itself. Who holds a
device pays for it, at work or not: the hours in which one waited, for the other nodes of a training or for other workers'
trials, are among them, and counted apart as well. What waits for its turn, as a TrainJob in a queue, holds none. Attempts
that came to nothing are part of it, as far as they have said how long they were. Energy is that of the trainings, the
trials' scores among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from ddpm.attempts import SECOND, Lost

ON_DEVICE = ("search", "train", "evaluate", "promote")  # steps that hold one; on a cluster they are given a GPU
HOUR = 3600
JOULES = 3_600_000  # of a kilowatt-hour


class Cost(TypedDict):
    """What something took; a step's `seconds` are those of all its workers together."""

    seconds: float
    device_hours: float
    waiting_hours: float  # of these, those in which a device was held and waited
    images: int | None  # pictures trained on; None: nothing is trained there
    energy_kwh: float | None  # None: not measured
    money: float | None  # None: no price is given
    lost_seconds: float  # of these, those of attempts that came to nothing
    lost_unknown: int  # attempts that were killed, of which nobody knows how long they were


class Saved(TypedDict):
    """What pruning saved of a study, against every trial's whole budget."""

    trials: int  # that were pruned
    images: int  # that they did not train on
    share: float  # of the whole budget of all that ended
    device_hours: float  # for the images, at each trial's own speed
    money: float | None  # None: no price is given


class Costs(TypedDict):
    price_per_hour: float  # of a device; 0: not given
    steps: dict[str, Cost]
    run: Cost
    saved: Saved | None  # None: nothing was pruned, or by an earlier release, which did not keep what that saved


def cost(
    seconds: float, price: float, devices: int = 1, images: int | None = None, joules: float | None = None,
    lost: Iterable[Lost] = (), at_work: float | None = None, waited: float = 0.0,
) -> Cost:  # fmt: skip
    """Of so many seconds on so many devices (0: it holds none), besides attempts that were lost on as many.

    Args:
        at_work: of the seconds, those in which all devices were at work; None: all of them.
        waited: seconds that devices waited, each device's added up.
    """
    lost = [*lost]
    wasted = sum(one["seconds"] or 0.0 for one in lost)
    waiting = waited / HOUR if devices else 0.0
    hours = ((seconds if at_work is None else at_work) + wasted) * devices / HOUR + waiting
    return {
        "seconds": round(seconds + wasted, 2), "device_hours": hours, "waiting_hours": waiting, "images": images,
        "energy_kwh": None if joules is None else joules / JOULES, "money": price * hours if price else None,
        "lost_seconds": round(wasted, 2), "lost_unknown": sum(one["seconds"] is None for one in lost),
    }  # fmt: skip


def trial_cost(row: Mapping[str, Any], price: float) -> Cost | None:
    """Of a trial, by its row; None where it has not come to a rung or its end."""
    if (seconds := row.get("seconds")) is None:
        return None
    return cost(seconds, price, row.get("devices") or 1, row.get("images_seen"), row.get("joules"))


def saved(rows: Iterable[Mapping[str, Any]], price: float) -> Saved | None:
    """What pruning saved, by a study's rows; None where nothing was pruned."""
    known = [row for row in rows if row.get("budget_images") and row["state"] != "FAIL"]
    pruned = [row for row in known if row["state"] == "PRUNED"]
    if not pruned:
        return None
    left = [row["budget_images"] - row["images_seen"] for row in pruned]
    spent = [row["seconds"] * (row.get("devices") or 1) / HOUR / row["images_seen"] for row in pruned]  # hours an image
    hours = sum(images * each for images, each in zip(left, spent, strict=True))
    return {
        "trials": len(pruned), "images": sum(left), "share": sum(left) / sum(row["budget_images"] for row in known),
        "device_hours": hours, "money": price * hours if price else None,
    }  # fmt: skip


def saved_in_words(found: Saved, price: float) -> str:
    """What pruning saved, in a line."""
    trials = "1 trial ended" if found["trials"] == 1 else f"{found['trials']} trials ended"
    money = "" if found["money"] is None else f", {found['money']:.4g} at {price:g} an hour"
    return f"{trials} early, which saved {found['images']:,} pictures, {found['share']:.0%} of all trials' budgets: about {found['device_hours']:.3g} device-hours{money}"


def costs(
    facts: Mapping[str, Mapping[str, Any]], workers: Sequence[Mapping[str, Any]], lost: Sequence[Lost], price: float
) -> Costs:
    """Of a run, by what its steps and its search's workers left, and by the attempts that came to nothing."""
    trained = facts.get("train", {})
    on_second = f"{SECOND}train"
    # Several workers may have had a turn of one trial: its seconds are of all of them.
    by_number = {row["number"]: row for worker in workers for row in worker.get("trials", [])}
    rows = trained["trials"] if trained else [*by_number.values()]
    trials = [row for row in rows if row.get("seconds") is not None]
    held = {  # by the ranks of a step that has several
        "search": max((row.get("devices") or 1 for row in rows), default=1), "train": trained.get("devices") or 1,
        on_second: facts.get(on_second, {}).get("devices") or 1,
    }  # fmt: skip
    steps = {}
    for step in dict.fromkeys([*facts, *(["search"] if workers else []), *(_step(one["key"]) for one in lost)]):
        gone = [one for one in lost if _step(one["key"]) == step]
        devices = held.get(step, 1) if step.removeprefix(SECOND) in ON_DEVICE else 0
        if step == "search":
            # A worker that was killed has not said how long it was at work, but its trials' checkpoints have.
            wasted = sum(one["seconds"] or 0.0 for one in gone)
            tried = sum(row["seconds"] for row in trials) - wasted
            seconds = max(sum(done["seconds"] for done in workers), tried)
            at_work = max(sum(done.get("at_work", done["seconds"]) for done in workers), tried)
            waited = sum(done.get("waited", 0.0) for done in workers)
            images: int | None = sum(row.get("images_seen") or 0 for row in trials)
            joules = _sum(row.get("joules") for row in trials)
        else:
            found = facts.get(step, {})
            seconds, at_work = found.get("seconds", 0.0), found.get("at_work")
            waited, images, joules = found.get("waited", 0.0), None, None
        if step == "train" and trained:
            begun = trained["trials"][trained["best"]]["images_seen"] or 0  # the winner goes on from its trial
            images, joules = trained["images_seen"] - begun, trained.get("spent", {}).get("joules")
        if step == on_second and (other := facts.get(on_second)):
            images, joules = other["images_seen"], other.get("spent", {}).get("joules")
        steps[step] = cost(seconds, price, devices, images, joules, gone, at_work, waited)
    return {"price_per_hour": price, "steps": steps, "run": _whole(steps, price), "saved": saved(rows, price)}


def in_words(found: Cost, price: float) -> str:
    """What it took, but for its seconds, in a line."""
    parts = [hours_in_words(found, " device-hours")]
    parts += [f"{found['images']:,} pictures trained on"] if found["images"] is not None else []
    parts += ["energy not measured" if found["energy_kwh"] is None else f"{found['energy_kwh']:.3g} kWh"]
    parts += [
        "no price given (price_per_hour)" if found["money"] is None else f"{found['money']:.4g} at {price:g} an hour"
    ]
    if found["lost_seconds"] or found["lost_unknown"]:
        unknown = f"{found['lost_unknown']} that were killed, of unknown length" if found["lost_unknown"] else ""
        known = f"{found['lost_seconds']:.0f} s" if found["lost_seconds"] else ""
        parts += [f"in attempts that came to nothing {' and '.join(filter(None, (known, unknown)))}"]
    return ", ".join(parts)


def hours_in_words(found: Cost, unit: str = "") -> str:
    """Its device-hours, and how many of them waited, from a hundredth on: every search looks round for a moment."""
    hours, waiting = found["device_hours"], found.get("waiting_hours", 0.0)  # an earlier release counted none apart
    return f"{hours:.3g}{unit}" + (f" ({waiting:.2g} of them waiting)" if waiting >= hours / 100 > 0 else "")


def logged(found: Cost) -> dict[str, float | None]:
    """It as metrics."""
    return {
        "cost_seconds": found["seconds"], "cost_device_hours": found["device_hours"],
        "cost_waiting_hours": found["waiting_hours"], "cost_images": found["images"], "cost_energy_kwh": found["energy_kwh"], "cost_money": found["money"],
    }  # fmt: skip


def _whole(steps: Mapping[str, Cost], price: float) -> Cost:
    """All steps together. Its energy is known where that of every training is."""
    hours = sum(one["device_hours"] for one in steps.values())
    waiting = sum(one["waiting_hours"] for one in steps.values())
    images = [one["images"] for one in steps.values() if one["images"] is not None]
    return {
        "seconds": round(sum(one["seconds"] for one in steps.values()), 2), "device_hours": hours,
        "waiting_hours": waiting, "images": sum(images) if images else None,
        "energy_kwh": _sum(one["energy_kwh"] for one in steps.values() if one["images"] is not None),
        "money": price * hours if price else None,
        "lost_seconds": round(sum(one["lost_seconds"] for one in steps.values()), 2),
        "lost_unknown": sum(one["lost_unknown"] for one in steps.values()),
    }  # fmt: skip


def _step(key: str) -> str:
    """The step whose facts are kept under a key: search-0 is the search's worker 0, transfer-train a second set's train."""
    step, _, number = key.rpartition("-")
    return step if number.isdigit() else key


def _sum(values: Iterable[float | None]) -> float | None:
    """None where one is not known, or there are none."""
    known = [*values]
    return None if not known or None in known else sum(value for value in known if value is not None)
