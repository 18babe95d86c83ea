"""The finalists: the best trials of a study, scored anew by more pictures of other seeds before one is chosen.

The best of many scores is too good by chance, and differences between the first are often below the noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict, cast

from ddpm.data.dataset import open_dataset
from ddpm.device import pick_device
from ddpm.errors import Refused
from ddpm.evaluation.figures.numbers import plus_minus
from ddpm.evaluation.measure import Scores
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.search.trial import TrialRow, quick_scores, trial_name
from ddpm.training import checkpoint

FINALISTS = "finalists"  # of the run's facts; with a trial's number behind it, what came of that one
FIRST_SEED = 2**41  # of those that finalists are drawn from, which nothing else uses


class Finalist(TypedDict):
    """A finalist, and what it scored."""

    trial: int
    metric: str  # what its FID is called: "fid_768"
    n: int  # pictures
    fid: float
    kid: float
    fid_std: float
    kid_std: float


class LeftOut(TypedDict):
    """A finalist that has no figures."""

    trial: int
    problem: str  # why


class Scored(TypedDict):
    """What came of all finalists."""

    finalists: list[Finalist]
    left_out: list[LeftOut]


def score_finalists(run: Run, rows: Sequence[TrialRow], dataset_uri: str, progress: Progress) -> Scored:
    """Score these completed trials, the best first; one whose figures are not finite is left out, which is said.

    The run keeps what came of each as soon as there is something, and then of all: asked again, it has the same figures.
    Raises Refused where none of them has figures.
    """
    if kept := _kept(run):
        return kept
    reference: Reference | None = None
    found: list[Finalist] = []
    left_out: list[LeftOut] = []
    for number, row in enumerate(rows, 1):
        name, own = trial_name(row["number"]), f"{FINALISTS}/{row['number']:03d}"
        if run.facts(own) is None:
            if reference is None:
                data = open_dataset(dataset_uri)
                reference = open_reference(run.plan.evaluate, data, run.store, str(pick_device()), progress)
            run.keep_once(own, _score(run, row, reference, progress, f"finalists: {name}, {number} of {len(rows)}"))
        facts = cast("dict[str, Any]", run.facts(own))
        if "problem" in facts:
            left_out.append(cast(LeftOut, facts))
            progress.say(f"finalist {name} is left out: {facts['problem']}")
            continue
        found.append(cast(Finalist, facts))
        scores = Scores(**{key: value for key, value in facts.items() if key != "trial"})
        with run.tracker.child(name, {}, {}) as tracked:
            figures = {f"finalist_{key}": value for key, value in scores.by_key().items()}
            tracked.metrics(figures, row["images_seen"] or 0)
        fid, kid = plus_minus(scores.fid, scores.fid_std), plus_minus(scores.kid, scores.kid_std, 3)
        progress.say(f"finalist {name}: {scores.named('fid')} {fid}  {scores.named('kid')} {kid}")
    if not found:
        raise Refused(f"none of the {len(rows)} best trials can be chosen: {left_out[0]['problem']}; lower lr_high")
    run.keep_once(FINALISTS, {FINALISTS: found, "left_out": left_out})
    return cast(Scored, _kept(run))


def _kept(run: Run) -> Scored | None:
    """What the run has of all its finalists; None before there are any."""
    if (kept := run.facts(FINALISTS)) is None:
        return None
    return {"finalists": kept[FINALISTS], "left_out": kept.get("left_out", [])}  # earlier releases left none out


def _score(run: Run, row: TrialRow, reference: Reference, progress: Progress, task: str) -> Finalist | LeftOut:
    model = checkpoint.load_model(str(row["checkpoint"]))
    try:
        scores = quick_scores(run.plan, reference, model, progress, task, FIRST_SEED, run.plan.search.final_n)
    except Refused as problem:
        return {"trial": row["number"], "problem": str(problem)}
    return cast(Finalist, {"trial": row["number"], **dataclasses.asdict(scores)})
