"""A run in one object: what `summary.json`, `var/last-run.json` and the table at a run's end show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict, cast

from ddpm.attempts import SECOND, Failure, in_words, lost
from ddpm.cost import Cost, Costs, costs, trial_cost
from ddpm.evaluation.figures.table import measured
from ddpm.evaluation.harder import harder
from ddpm.evaluation.report import NoiseFloor, Protocol, Recognisable, Report
from ddpm.run import Run
from ddpm.training.lineage import Ancestor

MOST_ROWS = 200  # of a table of trials: a study may have thousands
STEPS = ("configure", "ingest", "search", "train", "evaluate", "register", "promote")
SECOND_STEPS = ("ingest", "train", "evaluate", "register", "promote")  # those that a second set goes through
ALL_STEPS = (*STEPS, *(f"{SECOND}{step}" for step in SECOND_STEPS))  # as their facts are kept


class _AnyDataset(TypedDict):
    name: str
    uri: str
    digest: str
    n: int  # training pictures
    held_out: int  # their number


class SummedDataset(_AnyDataset, total=False):
    """The data set."""

    taken: str  # where there are more pictures: "600 of 8,189 pictures (max_pictures)"


class SummedTrial(TypedDict):
    """A row of the study; figures are None unless it was completed, their deviations too where they were not kept."""

    number: int
    channel_mults: str | None
    lr: float | None
    point: dict[str, Any]  # what else was varied, by the settings' names
    state: str  # Optuna's
    fid: float | None
    kid: float | None
    fid_std: float | None
    kid_std: float | None
    seconds: float | None
    images_seen: int | None
    cost: Cost | None  # None where it has not come to a rung or its end


class SummedFinalist(TypedDict):
    """One of the best trials, scored anew by more pictures before the choice."""

    trial: int
    n: int  # pictures
    fid: float
    kid: float
    fid_std: float
    kid_std: float
    mean_rank: float  # among them


class SummedFinal(TypedDict, total=False):
    """The final training and its figures."""

    checkpoint: str
    skipped_steps: int
    lineage: list[Ancestor]  # what it went on from, and began with, the oldest first
    metric: str
    fid: float
    fid_std: float
    kid: float
    kid_std: float
    noise_floor: NoiseFloor
    recognisable: Recognisable | None
    figures: dict[str, float | None]  # all that were measured, by name


class SummedModel(TypedDict):
    name: str
    version: int
    new: bool
    aliases: list[str]
    decision: str  # why


class SummedSet(TypedDict, total=False):
    """What came of a set of pictures: after a failure, of the steps that ended."""

    dataset: SummedDataset
    final: SummedFinal
    protocol: Protocol
    grid: str  # URIs, as is the page
    page: str
    model: SummedModel
    images_seen: int  # by the final training, what came before it included


class SummedTransfer(SummedSet, total=False):
    """What came of the second set."""

    begun_from: str  # scratch, or winner
    harder: str  # how much harder it was than the first


class Summary(SummedSet, total=False):
    """What there is of a run: after a failure, of the steps that ended. Its set is the first."""

    run_name: str
    state: str  # SUCCEEDED or FAILED
    ended: str  # when, as "2026-01-31 12:00 UTC"
    error: str
    failed: list[Failure]  # the steps that failed, in the order in which they did; see `ddpm.attempts`
    session: str  # the run of the pipeline, by its runner's id, that it tells of
    trials: list[SummedTrial]
    best: int  # a trial's number
    best_why: str
    tied: list[int]  # trials that chance may have put behind it
    finalists: list[SummedFinalist]  # the best first; none where the trials' own scores chose
    transfer: SummedTransfer  # of the second set, where there is one
    seconds: dict[str, float]  # by step; of the search, of its longest worker
    cost: Costs
    runs_page: str  # where MLflow's pages show it among others, from the # of their address on
    mlflow_run: str  # and by itself


NOT_KEPT = {"fid_std": None, "kid_std": None}  # by runs from before trials had intervals


def gather(
    run: Run, succeeded: bool, error: str = "", failed: Sequence[Failure] = (), session: str = "", over: bool = False
) -> Summary:
    """The summary of what the run's steps have left so far. Without an `error` its words are those that failed.

    Args:
        over: whether nobody is at work on it any more.
    """
    price = run.plan.cost.price_per_hour
    facts = {step: known for step in STEPS if (known := run.facts(step))}
    summary: Summary = {"run_name": run.name, "state": "SUCCEEDED" if succeeded else "FAILED", "seconds": {}}
    summary["ended"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if error := error or "; ".join(map(in_words, failed)):
        summary["error"] = error
    if failed:
        summary["failed"] = [*failed]
    if session:
        summary["session"] = session
    if trained := facts.get("train"):
        rows = [{**NOT_KEPT, "point": {}, **row, "cost": trial_cost(row, price)} for row in trained["trials"]]
        summary["trials"] = [_part(SummedTrial, row) for row in rows]
        summary["best"], summary["best_why"] = trained["best"], trained["best_why"]
        summary["tied"] = trained.get("tied", [])
        summary["finalists"] = [_part(SummedFinalist, one) for one in trained.get("finalists", [])]
    summary.update(_of_set(facts))
    if run.second:
        on_second = {step: known for step in SECOND_STEPS if (known := run.second.facts(step))}
        summary["transfer"] = _transfer(run, facts, on_second)
        facts |= {f"{SECOND}{step}": known for step, known in on_second.items()}
    summary["seconds"] = {step: known["seconds"] for step, known in facts.items()}
    if workers := run.workers():
        summary["seconds"]["search"] = max(worker["seconds"] for worker in workers)
    taken = costs(facts, workers, lost(run.folder, over), price)
    summary["cost"] = {**taken, "steps": {step: taken["steps"][step] for step in ALL_STEPS if step in taken["steps"]}}
    return summary


def _of_set(facts: Mapping[str, dict[str, Any]]) -> SummedSet:
    """What the steps that a set has gone through have left, by their names."""
    found: SummedSet = {}
    if dataset := facts.get("ingest"):
        found["dataset"] = _part(SummedDataset, dataset)
    if trained := facts.get("train"):
        found["final"], found["images_seen"] = _part(SummedFinal, trained), trained["images_seen"]
    if report := facts.get("evaluate"):
        found["final"] = {**found.get("final", {}), **_part(SummedFinal, report)}
        found["final"]["figures"] = {figure.name: report.get(figure.name) for figure, _ in measured()}
        found["protocol"], found["grid"], found["page"] = report["protocol"], report["grid"], report["page"]
    if version := facts.get("register"):
        decided = {"aliases": [], "decision": "", **facts.get("promote", {})}
        found["model"] = _part(SummedModel, {**decided, **version})
    return found


def _transfer(run: Run, first: Mapping[str, dict[str, Any]], facts: Mapping[str, dict[str, Any]]) -> SummedTransfer:
    """What came of the second set, whose steps have left these facts."""
    found: SummedTransfer = {"begun_from": run.plan.transfer.transfer_from, **_of_set(facts)}
    if "evaluate" in first and "evaluate" in facts:
        found["harder"] = harder(cast("Report", first["evaluate"]), cast("Report", facts["evaluate"]))
    return found


def network(trial: SummedTrial) -> str:
    """A trial's multipliers, and what else was varied."""
    return ", ".join([
        trial["channel_mults"] or "–", *(f"{name} {value}" for name, value in trial.get("point", {}).items())
    ])  # fmt: skip


def most_telling(trials: Sequence[SummedTrial], best: int | None = None) -> list[SummedTrial]:
    """Those that a table has room for, by number: the chosen one, and the others by their FID, completed ones first."""
    if len(trials) <= MOST_ROWS:
        return [*trials]
    order = sorted(trials, key=lambda row: (row["number"] != best, math.inf if row["fid"] is None else row["fid"]))
    return sorted(order[:MOST_ROWS], key=lambda row: row["number"])


def not_shown(trials: Sequence[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]]) -> str:
    """What became of the trials that a table has no room for, in a sentence; empty where it shows them all."""
    numbers = {row["number"] for row in shown}
    left = Counter(row["state"].lower() for row in trials if row["number"] not in numbers)
    words = ", ".join(f"{count:,} {state}" for state, count in left.most_common())
    return f"{left.total():,} more trials are not shown ({words}); MLflow has them." if left else ""


def priced(summary: Summary) -> bool:
    """Whether somebody said what a device costs."""
    return "cost" in summary and summary["cost"]["price_per_hour"] > 0


def _part(kind: Any, facts: dict[str, Any]) -> Any:
    """Those of a step's facts that the summary shows. Raises KeyError where one is missing that must be there."""
    return {name: facts[name] for name in kind.__annotations__ if name in facts or name in kind.__required_keys__}
