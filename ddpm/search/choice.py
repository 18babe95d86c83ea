"""The choices that a run makes: the best of its trials, how that one trains on, and the average it is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from ddpm.data.dataset import open_dataset
from ddpm.device import pick_device
from ddpm.errors import Refused
from ddpm.evaluation.figures.numbers import Z, plus_minus
from ddpm.evaluation.measure import Scores
from ddpm.evaluation.reference import open_reference
from ddpm.model.model import Model
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.search.finalists import Finalist, LeftOut, score_finalists
from ddpm.search.ranking import Candidate, Ranked, explain, rank, ties
from ddpm.search.study import open_study
from ddpm.search.trial import TRIAL, TrialRow, point_settings, quick_scores, trial_name, trial_row
from ddpm.settings import BY_TRIAL, ModelSettings, TrainSettings
from ddpm.tracking import NoTrackedRun, TrackedRun
from ddpm.training import checkpoint
from ddpm.training.ema import RAMP
from ddpm.training.initial import as_model, read_initial

AVERAGES_SEED = 2**40  # the first of the seeds by which averages are compared


class Ranks(TypedDict):
    fid_rank: float
    kid_rank: float
    mean_rank: float


class TrialRanks(Ranks):
    trial: str  # "trial N"


class FinalistRanks(Finalist, Ranks):
    """A finalist among the others."""


class Choice(TypedDict):
    """The study's trials, and the best of them."""

    trials: list[TrialRow]  # by number
    best: int  # a trial's number
    best_why: str
    tied: list[int]  # those that chance may have put behind it, by the intervals
    ranking: list[TrialRanks]  # of the completed ones, by their own scores, the best first
    finalists: list[FinalistRanks]  # those scored anew, by which the best was chosen, the best first; may be none


def choose(run: Run, dataset_uri: str, progress: Progress) -> Choice:
    """The best of the run's trials, by mean rank, of the finalists where there are any.

    Raises Refused while one is unfinished, or where none was completed.
    """
    study = open_study(run.plan.study_storage, run.name, run.plan.search, progress=progress)
    trials = study.get_trials(deepcopy=False)
    unfinished = [trial.number for trial in trials if not trial.state.is_finished()]
    if unfinished:
        raise Refused(
            f"trial {unfinished[0]} is not finished; start a worker of the search, by any number that is not at work, and it will be"
        )
    rows = [trial_row(trial) for trial in trials]
    best = [rows[_number(one.candidate)] for one in rank_trials(rows)][: run.plan.search.finalists]
    if len(best) == 1:
        return choose_among(rows)
    scored = score_finalists(run, best, dataset_uri, progress)
    return choose_among(rows, scored["finalists"], scored["left_out"])


def rank_trials(rows: Sequence[TrialRow]) -> list[Ranked]:
    """The completed ones of a study's trials, all of them finished, by their own scores. Raises Refused where there is none."""
    completed = [
        Candidate(
            trial_name(row["number"]), row["fid"], row["kid"], row["parameters"] or 0, row["fid_std"], row["kid_std"]
        )
        for row in rows
        if row["fid"] is not None and row["kid"] is not None
    ]
    if not completed:
        why = next((row["problem"] for row in rows if row["problem"]), "all were pruned")
        raise Refused(f"none of {len(rows)} trials was completed: {why}; widen or lower the search's rates")
    return rank(completed)


def choose_among(rows: list[TrialRow], finalists: Sequence[Finalist] = (), left_out: Sequence[LeftOut] = ()) -> Choice:
    """The best of a study's trials, all of them finished: of the finalists, by their figures, where there are any.

    Args:
        left_out: those that have none.
    """
    own = rank_trials(rows)
    ranked, why = own, explain(own)
    if finalists:
        ranked = rank([
            Candidate(trial_name(one["trial"]), one["fid"], one["kid"], rows[one["trial"]]["parameters"] or 0, one["fid_std"], one["kid_std"])
            for one in finalists
        ])  # fmt: skip
        first = own[0].candidate.model
        otherwise = "" if first == ranked[0].candidate.model else f"; by their own scores it would be {first}"
        best = f"the {len(finalists) + len(left_out)} best trials"
        whom = f"Ranked are {best}" if not left_out else f"Ranked {_are(len(finalists))} of {best}"
        why = f"{explain(ranked)} {whom}, scored anew by {finalists[0]['n']:,} pictures of other seeds{otherwise}."
        why += "".join(f" Left out is {trial_name(one['trial'])}: {one['problem']}." for one in left_out)
    of_trial = {one["trial"]: one for one in finalists}
    return {
        "trials": rows,
        "best": _number(ranked[0].candidate),
        "best_why": why,
        "tied": sorted(map(_number, ties(ranked))),
        "ranking": [{"trial": one.candidate.model, **_ranks(one)} for one in own],
        "finalists": [{**of_trial[_number(one.candidate)], **_ranks(one)} for one in ranked] if finalists else [],
    }


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


def _ranks(ranked: Ranked) -> Ranks:
    return {"fid_rank": ranked.fid_rank, "kid_rank": ranked.kid_rank, "mean_rank": ranked.mean_rank}


def _number(candidate: Candidate) -> int:
    return int(candidate.model.removeprefix(TRIAL))


def winner_settings(plan: Plan, winner: TrialRow) -> tuple[ModelSettings, TrainSettings]:
    """How the winner, a completed trial, trains on: at its own point of the search space, for the full budget."""
    assert winner["channel_mults"] is not None and winner["lr"] is not None
    return point_settings(
        plan, {"channel_mults": winner["channel_mults"], "lr": winner["lr"], **winner.get("point", {})}
    )


def guide_of(run: Run, chosen: Choice) -> Model | None:
    """The weaker model that guides the winner's pictures, as the run keeps it; None where nothing does."""
    if run.plan.guide.guide == BY_TRIAL:
        return checkpoint.load_model(chosen["trials"][chosen["best"]]["checkpoint"] or "")
    return as_model(read_initial(run.guide)) if run.plan.guide.guide else None


def choose_average(
    run: Run, half_lives: tuple[int, ...], uri: str, dataset_uri: str, tracked: TrackedRun | NoTrackedRun, progress: Progress
) -> int:  # fmt: skip
    """Of a checkpoint's averages, the one whose pictures have the lowest FID is drawn from, from now on. Its half-life.

    They are compared on seeds of their own, which no report uses: the best of several is too good on its own seeds. Those
    that are the same weights are scored once; where all are, there is nothing to compare.
    """
    plan = run.plan
    if len(half_lives) == 1:
        return half_lives[0]
    alike = checkpoint.alike_averages(uri, half_lives)
    for same in alike:
        if len(same) > 1:
            named = ", ".join(map(str, same))
            progress.say(
                f"averaged weights: those of half-lives {named} are the same (a half-life is at most {RAMP:.0%} of the images seen); {same[0]} stands for them"
            )
    distinct = [same[0] for same in alike]
    if len(distinct) == 1:
        return distinct[0]
    reference = open_reference(plan.evaluate, open_dataset(dataset_uri), run.store, str(pick_device()), progress)
    scores = {}
    for half_life in distinct:
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
