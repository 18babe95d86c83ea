"""The exit task: gathers what a run's steps left, whether it succeeded or not."""

from __future__ import annotations

import json
from typing import Any

from ddpm.errors import WrongInput
from ddpm.places import fill_places
from ddpm.run import Run

STEPS = ("configure", "ingest", "search", "train", "evaluate", "register", "promote")

UNSUCCESSFUL = ("FAILED", "CANCELED", "CANCELLED", "CANCELING")


def summarise(run_name: str, store: str, state: str, error: str = "") -> dict[str, Any]:
    """Write `runs/RUN_NAME/summary.json` and close the MLflow run; returns the summary.

    It holds what there is: after a failure, the facts of the steps that ended. Raises Missing for an unknown run.

    Args:
        state: KFP's word for how the run ended. Success has several (SUCCEEDED; COMPLETE or RUNNING where the server
            asks its metadata store), so what counts is that the last step left its facts, and that none failed.
    """
    run = Run.named(run_name, store)
    facts = {step: run.facts(step) for step in STEPS}
    workers = run.workers()
    succeeded = facts["promote"] is not None and state not in UNSUCCESSFUL
    summary: dict[str, Any] = {"run_name": run_name, "state": "SUCCEEDED" if succeeded else "FAILED", "seconds": {}}
    if error:
        summary["error"] = error
    if dataset := facts["ingest"]:
        summary["dataset"] = {key: dataset[key] for key in ("name", "uri", "digest", "n", "held_out")}
    if trained := facts["train"]:
        keys = ("number", "channel_mults", "lr", "state", "fid", "kid", "seconds", "images_seen")
        summary["trials"] = [{key: row[key] for key in keys} for row in trained["trials"]]
        summary["best"], summary["best_why"] = trained["best"], trained["best_why"]
        summary["final"] = {"checkpoint": trained["checkpoint"], "skipped_steps": trained["skipped_steps"]}
    if report := facts["evaluate"]:
        figures = ("metric", "fid", "fid_std", "kid", "kid_std", "noise_floor", "recognisable")
        summary["final"] = {**summary.get("final", {}), **{key: report[key] for key in figures}}
        summary["protocol"], summary["grid"] = report["protocol"], report["grid"]
        summary["page"] = report["page"]
    if version := facts["register"]:
        decided = facts["promote"] or {}
        summary["model"] = {
            **{key: version[key] for key in ("name", "version", "new")},
            "aliases": decided.get("aliases", []),
            "decision": decided.get("decision", ""),
        }
    for step, known in facts.items():
        if known:
            summary["seconds"][step] = known["seconds"]
    if workers:
        summary["seconds"]["search"] = max(worker["seconds"] for worker in workers)
    run.keep("summary", summary)
    with run.tracker.parent() as tracked:
        tracked.file("summary.json", json.dumps(summary, indent=1).encode())
        tracked.finish("FINISHED" if succeeded else "FAILED")
    return summary


def in_pipeline(run_name: str, store: str, state: str, error: str | None) -> None:
    try:
        summarise(run_name, fill_places({"store": store})["store"], state, error or "")
    except WrongInput as problem:
        # The run was refused before it had a plan: its own task has said why, and there is nothing to gather.
        print(f"nothing to summarise: {problem}", flush=True)
