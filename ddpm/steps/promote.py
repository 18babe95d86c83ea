"""A version against the champion: it takes its place only if it is better under the same measurement."""

from __future__ import annotations

from typing import TypedDict

from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.evaluate import evaluate
from ddpm.evaluation.protocol import measurement_of, require_same_measurement
from ddpm.evaluation.report import Report
from ddpm.progress import Progress
from ddpm.registry.gate import Decision, decide
from ddpm.registry.promotion import Draft, Entry, ShortFigures, append, project_aliases, standing
from ddpm.registry.version import Registered, figures, resolve
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
        again: whether a version that was decided on before is decided on again where the champion has changed since.
            A run that is carried on must not: it would undo a rollback.
    """
    candidate = figures(place.tracking_uri, name, version)
    weights = candidate["protocol"]["generation"]["weights_sha256"]
    why = ""

    def against(champion: int | None) -> Decision:
        if champion is None:
            return decide(candidate, None, settings.copying_gate)
        theirs = figures(place.tracking_uri, name, champion)
        try:
            require_same_measurement(measurement_of(candidate), measurement_of(theirs))
        except Refused as problem:
            mine = measurement_of(candidate)["image_size"]
            other = measurement_of(theirs)["image_size"]
            if mine != other:
                return Decision(
                    False, f"the champion draws {other} px and this version {mine} px: they cannot be measured alike"
                )
            place.progress.say(f"the champion, version {champion}, is measured again: {problem}")
            model, data = resolve(f"models:/{name}/{champion}", place.tracking_uri), open_dataset(dataset_uri)
            theirs = evaluate(model, data, settings, drawing, place.store, place.progress)
        return decide(candidate, theirs, settings.copying_gate)

    def draft(log: list[Entry]) -> Draft | None:
        nonlocal why
        champion = standing(log).get("champion")
        last = _decided(log, version)
        if last:
            if last["weights_sha256"] != weights:
                raise WrongInput(
                    f"model_name: version {version} of {name} has other weights than in the promotion log {place.store.uri(f'registry/{name}')}, which must be another registry's; move that away, or give another model_name"
                )
            stands = champion == version or (last["action"] == "challenge" and last["from"] == champion)
            if stands or not again:
                why = last["why"]
                return None
        decision = against(champion)
        why = decision.why
        return {
            "action": "promote" if decision.promote else "challenge",
            "from": champion,
            "to": version,
            "why": why,
            "weights_sha256": weights,
            "figures": _short(candidate),
        }

    append(place.store, name, draft)
    now = project_aliases(place.store, place.tracking_uri, name)
    return {
        "name": name,
        "version": version,
        "aliases": sorted(alias for alias, holder in now.items() if holder == version),
        "champion": now.get("champion"),
        "promoted": now.get("champion") == version,
        "decision": why,
    }


def _decided(log: list[Entry], version: int) -> Entry | None:
    """The last entry in which the gate decided on a version."""
    return next((entry for entry in reversed(log) if entry["to"] == version and entry["action"] != "rollback"), None)


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
        parent.finish("FINISHED")  # the last step: after a person's retry on a cluster no exit task comes
    place = " and ".join(facts["aliases"]) or "neither champion nor challenger"
    progress.say(f"{facts['name']} version {facts['version']} is {place}: {facts['decision']}")
    return facts
