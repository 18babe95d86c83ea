"""What a person asked for, `PRESET=… DATA=… SET='epochs=60 trials=4'`, as the pipeline's parameters."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from ddpm.arguments import setting_words
from ddpm.data import sources
from ddpm.data.catalogue import find_dataset, is_name, source_or_dataset
from ddpm.errors import WrongInput
from ddpm.fields import renamed, shown
from ddpm.places import local_path, require_place
from ddpm.plan import Plan, fields, set_words
from ddpm.presets import load_preset
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.settings import BY_TRIAL
from ddpm.store import FileStore, Missing, Store, open_store

WORKERS = "search_workers"
MOST_WORKERS = 1000
# Settings that may name a file of this machine, and how they name one that a cluster reaches.
FILES = {
    "weights": "s3://bucket/weights.pth",
    "init_from": "s3://bucket/checkpoint or models:/NAME@champion",
    "guide": "s3://bucket/checkpoint or models:/NAME/3",
}


def parse_changes(text: str, words: Sequence[str] = ()) -> dict[str, str]:
    """What SET says, and further `NAME=VALUE` words, as a dictionary. All of it is understood, or WrongInput is raised:
    for a name said twice, a word of another form, and what a shell would take for more (`setting_words`)."""
    changes: dict[str, str] = {}
    for word in (*setting_words(text), *words):
        name, sign, value = word.partition("=")
        if not sign or not name.isidentifier():
            raise WrongInput(f"SET: {shown(word)} is not NAME=VALUE, as in epochs=60 (values with spaces in quotes)")
        if name in changes:
            raise WrongInput(f"{name}: given twice; say it once")
        changes[name] = value
    return changes


def is_here(place: str) -> bool:
    """Whether a place is a path of this machine: no URI, no version of a registered model, and no trial of the run's."""
    return place not in ("", BY_TRIAL) and "://" not in place and not place.startswith("models:")


def parse_workers(value: str) -> list[int]:
    """How many search workers (`2`), or which (`[0, 1]`), as the list that the pipeline loops over."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):  # a number of more digits than Python reads is a ValueError too
        found = None
    if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= MOST_WORKERS:
        return list(range(found))
    if (
        isinstance(found, list)
        and found
        and len(found) <= MOST_WORKERS
        and all(type(item) is int and 0 <= item < 2**31 for item in found)
        and len(set(found)) == len(found)
    ):
        return found
    raise WrongInput(
        f"{WORKERS}: {shown(value)} will not do; write how many, as in 2 (at most {MOST_WORKERS}), or their numbers, as in [0,1]"
    )


def gather(
    preset: str, data: str, run_name: str, changes: dict[str, str], places: dict[str, str]
) -> tuple[Plan, list[int]]:
    """The checked plan, and the search's workers: the preset, over it DATA, over that SET.

    Args:
        places: defaults for store, tracking_uri and study_storage; SET may name others.
    """
    changes = renamed(changes, fields())
    workers = parse_workers(changes.pop(WORKERS, "2"))
    for name in ("run_name", "source"):
        if name in changes:
            raise WrongInput(f"SET names {name}; give it as {'RUN_NAME' if name == 'run_name' else 'DATA'}=… instead")
    for name in FILES:
        if is_here(changes.get(name, "")):
            changes[name] = str(local_path(changes[name]))  # a task has a folder of its own
    store = open_store(changes.get("store") or places["store"])
    settings: dict[str, Any] = load_preset(preset)
    if data:
        require_place("DATA", data)
        source = source_or_dataset(data, store, Quiet())
        settings.update(_kept_names(_from_data(source), run_name, store))
    if second := changes.get("transfer_source", ""):
        changes = {**changes, **_second(second, changes, store)}
    if is_name(other := changes.get("judge_other", "")):
        changes["judge_other"] = find_dataset(other, store, Quiet())
    return Plan.from_parameters({**places, **settings, **changes, "run_name": run_name}), workers


def _from_data(data: str) -> dict[str, str]:
    """The source, and names for its data set and its model: another source must not go by the preset's names."""
    spec = sources.parse(data)
    return {"source": spec.absolute(), "dataset_name": spec.name, "model_name": f"ddpm-{spec.name}"}


def _second(said: str, changes: dict[str, str], store: Store) -> dict[str, str]:
    """The second set's source as a task reads it, and its name where none is given."""
    with sources.said_of("transfer_source"):
        require_place("transfer_source", said)
        spec = sources.parse(source_or_dataset(said, store, Quiet()))
    name = changes.get("transfer_dataset_name") or spec.name
    return {"transfer_source": spec.absolute(), "transfer_dataset_name": name}


def _kept_names(derived: dict[str, str], run_name: str, store: Store) -> dict[str, str]:
    """The same, with the names that a run of this name and source has already: another release may have derived others.

    A store that is not on this machine is not asked: whoever submits may not reach it.
    """
    if not isinstance(store, FileStore):
        return derived
    try:
        plan = Run.named(run_name, store.root).plan
    except Missing:
        return derived
    if plan.ingest.source != derived["source"]:
        return derived
    return {**derived, "dataset_name": plan.ingest.dataset_name, "model_name": plan.registry.model_name}


def words_of(preset: str, data: str, run_name: str, changes: dict[str, str], runner: str) -> str:
    """The command that asks for the same again, or, without a name, for a new run of the same."""
    words = ["make run", f"PRESET={preset}"]
    if run_name:
        words.append(f"RUN_NAME={run_name}")
    if data:
        words.append(f"DATA={shlex.quote(data)}")
    if changes:
        words.append(set_words(changes))
    if runner != "subprocess":
        words.append(f"RUNNER={runner}")
    return " ".join(words)
