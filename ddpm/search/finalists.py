"""The finalists: the best trials of a study, scored anew by more pictures of other seeds before one is chosen.

The best of many scores is too good by chance, and differences between the first are often below the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, cast

from ddpm.data.dataset import open_dataset
from ddpm.device import pick_device
from ddpm.evaluation.figures.numbers import plus_minus
from ddpm.evaluation.reference import open_reference
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.search.trial import TrialRow, quick_scores, trial_name
from ddpm.training import checkpoint

FINALISTS = "finalists"  # of the run's facts
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


def kept_finalists(run: Run) -> list[Finalist]:
    """Those that the run has scored; none before that."""
    return cast("list[Finalist]", (run.facts(FINALISTS) or {FINALISTS: []})[FINALISTS])


def score_finalists(run: Run, rows: Sequence[TrialRow], dataset_uri: str, progress: Progress) -> list[Finalist]:
    """Score these completed trials, the best first. The run keeps what came of it: asked again, it has the same figures.

    Raises Refused where a figure is not finite.
    """
    if kept := kept_finalists(run):
        return kept
    plan = run.plan
    reference = open_reference(plan.evaluate, open_dataset(dataset_uri), run.store, str(pick_device()), progress)
    found: list[Finalist] = []
    for row in rows:
        name = trial_name(row["number"])
        model = checkpoint.load_model(str(row["checkpoint"]))
        task = f"finalists: {name}, {len(found) + 1} of {len(rows)}"
        scores = quick_scores(plan, reference, model, progress, task, FIRST_SEED, plan.search.final_n)
        with run.tracker.child(name, {}, {}) as tracked:
            figures = {f"finalist_{key}": value for key, value in scores.by_key().items()}
            tracked.metrics(figures, row["images_seen"] or 0)
        fid, kid = plus_minus(scores.fid, scores.fid_std), plus_minus(scores.kid, scores.kid_std, 3)
        progress.say(f"finalist {name}: {scores.named('fid')} {fid}  {scores.named('kid')} {kid}")
        found.append({
            "trial": row["number"], "metric": scores.metric, "n": scores.n, "fid": scores.fid, "kid": scores.kid, "fid_std": scores.fid_std,
            "kid_std": scores.kid_std,
        })  # fmt: skip
    run.keep_once(FINALISTS, {FINALISTS: found})
    return kept_finalists(run)
