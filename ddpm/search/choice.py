"""The choices that a run makes: the best of its trials, how that one trains on, and the average it is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

from ddpm.data.dataset import open_dataset
from ddpm.device import pick_device
from ddpm.errors import Refused
from ddpm.evaluation.figures.numbers import Z, plus_minus
from ddpm.evaluation.measure import Scores
from ddpm.evaluation.reference import open_reference
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.search.ranking import Candidate, explain, rank, ties
from ddpm.search.study import open_study
from ddpm.search.trial import TrialRow, point_settings, quick_scores, trial_row
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.tracking import NoTrackedRun, TrackedRun
from ddpm.training import checkpoint

TRIAL = "trial "  # before its number, where trials are ranked by name
AVERAGES_SEED = 2**40  # the first of the seeds by which averages are compared


class TrialRanks(TypedDict):
    trial: str  # "trial N"
    fid_rank: float
    kid_rank: float
    mean_rank: float


class Choice(TypedDict):
    """The study's trials, and the best of them."""

    trials: list[TrialRow]  # by number
    best: int  # a trial's number
    best_why: str
    tied: list[int]  # those that chance may have put behind it, by the intervals
    ranking: list[TrialRanks]  # of the completed ones, the best first


def choose(run: Run, progress: Progress | None = None) -> Choice:
    """The best of the run's trials, by mean rank. Raises Refused while one is unfinished, or where none was completed."""
    study = open_study(run.plan.study_storage, run.name, run.plan.search, progress=progress)
    trials = study.get_trials(deepcopy=False)
    unfinished = [trial.number for trial in trials if not trial.state.is_finished()]
    if unfinished:
        raise Refused(
            f"trial {unfinished[0]} is not finished; give the run as many search workers as it began with, and it will be"
        )
    return choose_among([trial_row(trial) for trial in trials])


def choose_among(rows: list[TrialRow]) -> Choice:
    """The best of a study's trials, all of them finished. Raises Refused where none was completed."""
    completed = [
        Candidate(
            f"{TRIAL}{row['number']}", row["fid"], row["kid"], row["parameters"] or 0, row["fid_std"], row["kid_std"]
        )
        for row in rows
        if row["fid"] is not None and row["kid"] is not None
    ]
    if not completed:
        why = next((row["problem"] for row in rows if row["problem"]), "all were pruned")
        raise Refused(f"none of {len(rows)} trials was completed: {why}; widen or lower the search's rates")
    ranked = rank(completed)
    return {
        "trials": rows,
        "best": int(ranked[0].candidate.model.removeprefix(TRIAL)),
        "best_why": explain(ranked),
        "tied": sorted(int(other.model.removeprefix(TRIAL)) for other in ties(ranked)),
        "ranking": [
            {"trial": r.candidate.model, "fid_rank": r.fid_rank, "kid_rank": r.kid_rank, "mean_rank": r.mean_rank}
            for r in ranked
        ],
    }


def winner_settings(plan: Plan, winner: TrialRow) -> tuple[ModelSettings, TrainSettings]:
    """How the winner, a completed trial, trains on: at its own point of the search space, for the full budget."""
    assert winner["channel_mults"] is not None and winner["lr"] is not None
    return point_settings(
        plan, {"channel_mults": winner["channel_mults"], "lr": winner["lr"], **winner.get("point", {})}
    )


def choose_average(
    run: Run, half_lives: tuple[int, ...], uri: str, dataset_uri: str, tracked: TrackedRun | NoTrackedRun, progress: Progress
) -> int:  # fmt: skip
    """Of a checkpoint's averages, the one whose pictures have the lowest FID is drawn from, from now on. Its half-life.

    They are compared on seeds of their own, which no report uses: the best of several is too good on its own seeds.
    """
    plan = run.plan
    if len(half_lives) == 1:
        return half_lives[0]
    reference = open_reference(plan.evaluate, open_dataset(dataset_uri), run.store, str(pick_device()), progress)
    scores = {}
    for half_life in half_lives:
        model = checkpoint.load_model(f"{uri}#{half_life}")
        scores[half_life] = quick_scores(
            plan, reference, model, progress, f"averaged weights, half-life {half_life}", AVERAGES_SEED
        )
        tracked.metrics({f"{scores[half_life].metric}_ema_{half_life}": scores[half_life].fid}, 0)
    best = min(scores, key=lambda half_life: scores[half_life].fid)
    checkpoint.choose_average(uri, best)
    progress.say(f"averaged weights: {scores[best].named('fid')} by half-life  {averages_found(scores, best)}")
    return best


def averages_found(scores: Mapping[int, Scores], best: int) -> str:
    """What each half-life scored, which was taken, and whether by more than chance."""
    found = "  ".join(f"{half_life}: {plus_minus(score.fid, score.fid_std)}" for half_life, score in scores.items())
    taken = scores[best]
    tied = [
        str(half_life)
        for half_life, score in scores.items()
        if half_life != best and abs(score.fid - taken.fid) <= Z * math.hypot(score.fid_std, taken.fid_std)
    ]
    tie = f", the lowest, in a tie with {' and '.join(tied)} by the 95% intervals" if tied else ""
    return f"{found}  → {best}{tie}"
