"""A version against the champion: it takes its place only if it is better under the same measurement."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, TypedDict

from ddpm.data.ingest import DatasetFacts
from ddpm.errors import WrongInput
from ddpm.evaluation.report import Report
from ddpm.progress import Progress
from ddpm.registry.catalogue import FILES_TAG, find, open_registry
from ddpm.registry.contest import Contender, contender, contest, weighed
from ddpm.registry.gate import Decision
from ddpm.registry.log import Draft, Entry, ShortFigures, append, entries, standing
from ddpm.registry.promotion import as_settled, project_aliases, settle
from ddpm.registry.sample import Verified, verify
from ddpm.registry.version import Registered, resolve
from ddpm.run import Run
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.steps.task import task
from ddpm.workplace import Workplace


class Promoted(TypedDict):
    """What became of a version."""

    name: str
    version: int
    aliases: list[str]  # the version's
    champion: int | None
    promoted: bool
    decision: str  # why


def promote(
    place: Workplace, name: str, version: int, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings, again: bool
) -> Promoted:  # fmt: skip
    """Decide on a version and log it.

    Args:
        again: whether a version that was decided on before is decided on again, by these settings and against whoever
            is champion now; where that comes to the same, nothing is written. A run that is carried on must not: it
            would undo a rollback.
    """
    client = open_registry(place.tracking_uri, f"models:/{name}/{version}")
    before = entries(place.store, name)  # one that is not whole is said before anything else
    find(client, f"models:/{name}/{version}")
    log = settle(place.store, client, name)
    for entry in log[len(before) :]:
        place.progress.say(entry["why"])
    candidate = contender(place, name, version, log)
    verified = _verified(place, candidate)
    as_measured = functools.cache(lambda: weighed(place, candidate, dataset_uri, settings, drawing))
    decision = Decision(False, "")

    def draft(log: list[Entry]) -> Draft | None:
        nonlocal decision
        champion = standing(log).get("champion")
        last = _decided(log, version)
        if last:
            if last.get("weights_sha256") not in (candidate.weights_sha256, None):
                raise WrongInput(
                    f"model_name: version {version} of {name} has other weights than in the promotion log {place.store.uri(f'registry/{name}')}, which must be another registry's; move that away, or give another model_name"
                )
            if champion == version or not again:
                decision = Decision(False, last["why"])
                return None
        decision = contest(place, as_measured(), log, dataset_uri, settings, drawing, verified)
        action: Literal["promote", "challenge"] = "promote" if decision.promote else "challenge"
        same = last and (last["action"], last["from"], last["why"]) == (action, champion, decision.why)
        if same and action == "challenge":  # a promotion that was rolled back meanwhile is another one
            return None
        return {
            "action": action,
            "from": champion,
            "to": version,
            "why": decision.why,
            "weights_sha256": candidate.weights_sha256,
            "files_sha256": candidate.tags.get(FILES_TAG),
            "figures": _short(as_measured().report),
        }

    append(place.store, name, draft)
    now = project_aliases(place.store, place.tracking_uri, name)
    return {
        "name": name,
        "version": version,
        "aliases": sorted(alias for alias, holder in now.items() if holder == version),
        "champion": now.get("champion"),
        "promoted": now.get("champion") == version,
        "decision": decision.why,
    }


class Tried(TypedDict):
    """What would become of a version, and every rule that the gate went by."""

    name: str
    version: int
    champion: int | None
    would_promote: bool
    decision: str  # why
    rules: list[TriedRule]


class TriedRule(TypedDict):
    rule: str
    passed: bool
    says: str


def try_out(
    place: Workplace, name: str, version: int, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings
) -> Tried:  # fmt: skip
    """Decide on a version as `promote` would now, and write nothing: no entry, no alias."""
    client = open_registry(place.tracking_uri, f"models:/{name}/{version}")
    find(client, f"models:/{name}/{version}")
    log = as_settled(place.store, client, name)
    candidate = weighed(place, contender(place, name, version, log), dataset_uri, settings, drawing)
    verified, champion = _verified(place, candidate), standing(log).get("champion")
    decision = contest(place, candidate, log, dataset_uri, settings, drawing, verified, every_rule=True)
    rules = decision.rules
    if champion == version:
        decision = Decision(False, "it is the champion")
    return {
        "name": name,
        "version": version,
        "champion": champion,
        "would_promote": decision.promote,
        "decision": decision.why,
        "rules": [{"rule": rule.name, "passed": rule.passed, "says": rule.says} for rule in rules],
    }


def _verified(place: Workplace, candidate: Contender) -> Callable[[], Verified]:
    """Whether the version draws its recorded sample, found out when it is first asked."""

    @functools.cache
    def found() -> Verified:
        return verify(resolve(candidate.reference, place.tracking_uri), place.tracking_uri)

    return found


def _decided(log: list[Entry], version: int) -> Entry | None:
    """The last entry in which the gate decided on a version."""
    decided = (entry for entry in reversed(log) if entry["action"] in ("promote", "challenge"))
    return next((entry for entry in decided if entry["to"] == version), None)


def _short(report: Report) -> ShortFigures:
    return {
        "metric": report["metric"],
        "fid": report["fid"],
        "fid_std": report["fid_std"],
        "kid": report["kid"],
        "kid_std": report["kid_std"],
        "n": report["n"],
    }


@task("promote")
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, version: Registered) -> Promoted:
    facts = promote(
        run.workplace(progress), version["name"], version["version"], dataset["uri"], run.plan.evaluate, run.plan.draw, again=False
    )  # fmt: skip
    with run.tracker.parent() as parent:
        parent.tag("aliases", ", ".join(facts["aliases"]) or "none")
        parent.tag("decision", facts["decision"])
        if not run.second:  # the last step: after a person's retry on a cluster no exit task comes
            parent.finish("FINISHED")
    place = " and ".join(facts["aliases"]) or "neither champion nor challenger"
    progress.say(f"{facts['name']} version {facts['version']} is {place}: {facts['decision']}")
    return facts
