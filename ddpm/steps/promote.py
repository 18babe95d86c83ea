"""A version against the champion: it takes its place only if it is better under the same measurement."""

from __future__ import annotations

from typing import Any

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.protocol import measurement_of, require_same_measurement
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.registry.gate import Decision, decide
from ddpm.registry.promotion import Entry, append, project_aliases, standing
from ddpm.registry.version import figures
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.steps.evaluate import evaluate
from ddpm.steps.task import load_plan, perform, read_pointer
from ddpm.store import Store, open_store


def promote(
    store: Store, tracking_uri: str, name: str, version: int, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings,
    progress: Progress, again: bool,
) -> dict[str, Any]:  # fmt: skip
    """Decide on a version and log it: name, version, aliases (the version's), champion, promoted, decision (why).

    Args:
        again: whether a version that was decided on before is decided on again where the champion has changed since.
            A run that is carried on must not: it would undo a rollback.
    """
    candidate = figures(tracking_uri, name, version)
    weights = candidate["protocol"]["generation"]["weights_sha256"]
    why = ""

    def against(champion: int | None) -> Decision:
        if champion is None:
            return decide(candidate, None, settings.copying_gate)
        theirs = figures(tracking_uri, name, champion)
        try:
            require_same_measurement(measurement_of(candidate), measurement_of(theirs))
        except Refused as problem:
            mine = measurement_of(candidate)["image_size"]
            other = measurement_of(theirs)["image_size"]
            if mine != other:
                return Decision(
                    False, f"the champion draws {other} px and this version {mine} px: they cannot be measured alike"
                )
            progress.say(f"the champion, version {champion}, is measured again: {problem}")
            theirs = evaluate(
                f"models:/{name}/{champion}", dataset_uri, settings, drawing, store, tracking_uri, progress
            )
        return decide(candidate, theirs, settings.copying_gate)

    def draft(log: list[Entry]) -> Entry | None:
        nonlocal why
        champion = standing(log).get("champion")
        last = next(
            (entry for entry in reversed(log) if entry["to"] == version and entry["action"] != "rollback"), None
        )
        if last:
            if last["weights_sha256"] != weights:
                raise WrongInput(
                    f"model_name: version {version} of {name} has other weights than in the promotion log {store.uri(f'registry/{name}')}, which must be another registry's; move that away, or give another model_name"
                )
            stands = champion == version or (last["action"] == "challenge" and last["from"] == champion)
            if stands or not again:
                why = last["why"]
                return None
        decision = against(champion)
        why = decision.why
        short = {metric: candidate[metric] for metric in ("metric", "fid", "fid_std", "kid", "kid_std", "n")}
        action = "promote" if decision.promote else "challenge"
        return {
            "action": action,
            "from": champion,
            "to": version,
            "why": why,
            "weights_sha256": weights,
            "figures": short,
        }

    append(store, name, draft)
    now = project_aliases(store, tracking_uri, name)
    return {
        "name": name,
        "version": version,
        "aliases": sorted(alias for alias, holder in now.items() if holder == version),
        "champion": now.get("champion"),
        "promoted": now.get("champion") == version,
        "decision": why,
    }


def task(plan_path: str, dataset_path: str, version_path: str, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan, dataset, version = load_plan(plan_path), read_pointer(dataset_path), read_pointer(version_path)
        facts = promote(
            open_store(plan.store),
            plan.tracking_uri,
            version["name"],
            version["version"],
            dataset["uri"],
            plan.evaluate,
            plan.draw,
            progress,
            again=False,
        )
        place = " and ".join(facts["aliases"]) or "neither champion nor challenger"
        progress.say(f"{facts['name']} version {facts['version']} is {place}: {facts['decision']}")
        return plan, facts

    perform("promote", work, output)
