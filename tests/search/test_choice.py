"""The choice among a run's trials, and how they and the winner train."""

import json

import pytest
from optuna.trial import TrialState

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.measure import Scores
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search.choice import averages_found, choose, choose_average, winner_settings
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study
from ddpm.search.trial import trial_settings
from ddpm.tracking import NoTrackedRun

FOUNDING = {"1-2-4-8": (24.92, 0.334), "1-2-3-6": (27.13, 0.328), "1-2-3": (18.30, 0.393), "1-2-4": (24.49, 0.296)}
FACTS = {"images_seen": 768, "parameters": 1000, "skipped_steps": 0, "checkpoint": "/trials/x", "seconds": 1.5}


def run_named(name, folder, **parameters):
    plan = Plan.from_parameters(
        {
            "run_name": name, "store": str(folder / "store"), "tracking_uri": f"sqlite:///{folder}/mlflow.db",
            "study_storage": str(folder / "journal.log"), "trials": 4, "mults_choices": " ".join(FOUNDING),
            "founding_lr": 7e-5, "trial_epochs": 3, "epochs": 9, "patience": 5, **parameters,
        }
    )  # fmt: skip
    create_study(plan.study_storage, plan.run_name, plan.search)
    return Run(plan)


@pytest.fixture
def run(tmp_path):
    return run_named("one", tmp_path)


def end_trials(run, *states, **more):
    """Let the first trials end so, with the attributes that trials have kept from the beginning."""
    study = open_study(run.plan.study_storage, run.name, run.plan.search)
    for state in states:
        trial = study.ask()
        fid, kid = FOUNDING[suggest(trial, run.plan.search)["channel_mults"]]
        facts = {"problem": f"trial {trial.number} blew up"} if state == TrialState.FAIL else FACTS
        for name, value in (
            {**facts, "fid": fid, "kid": kid, **more} if state == TrialState.COMPLETE else facts
        ).items():
            trial.set_user_attr(name, value)
        study.tell(trial, fid if state == TrialState.COMPLETE else None, state)


def test_the_founding_choice(run):
    end_trials(run, *[TrialState.COMPLETE] * 4)
    choice = choose(run)
    assert choice["best"] == 3
    assert choice["best_why"].startswith("trial 3 has the best mean rank, 1.5 (FID rank 2, KID rank 1 of 4)")
    assert choice["trials"][3] == {
        "number": 3, "channel_mults": "1-2-4", "lr": 7e-5, "point": {}, "joules": None, "devices": None, "state": "COMPLETE", "fid": 24.49, "kid": 0.296, "fid_std": None, "kid_std": None, "seconds": 1.5,
        "images_seen": 768, "parameters": 1000, "checkpoint": "/trials/x", "problem": None,
    }  # fmt: skip
    assert [row["number"] for row in choice["trials"]] == [0, 1, 2, 3]
    assert choice["ranking"][0] == {"trial": "trial 3", "fid_rank": 2.0, "kid_rank": 1.0, "mean_rank": 1.5}
    assert sorted(row["mean_rank"] for row in choice["ranking"]) == [1.5, 2.5, 3.0, 3.0]
    assert json.loads(json.dumps(choice)) == choice, "it goes into the run's facts as it is"


def test_a_choice_by_chance_is_told_as_a_tie(run):
    """With wide intervals the best's figures are those of others too."""
    end_trials(run, *[TrialState.COMPLETE] * 4, fid_std=2.0, kid_std=0.03)
    choice = choose(run)
    assert (choice["best"], choice["tied"]) == (3, [0, 1])
    assert "It is a tie with trial 0 and trial 1, by the 95% intervals" in choice["best_why"]
    assert (choice["trials"][3]["fid_std"], choice["trials"][3]["kid_std"]) == (2.0, 0.03)


def test_averages_within_their_intervals_are_told_as_a_tie():
    scores = {500: Scores("fid_768", 2.0, 0.05, 0.01, 0.001, 64), 50: Scores("fid_768", 2.1, 0.05, 0.01, 0.001, 64)}
    assert (
        averages_found(scores, 500)
        == "500: 2 ± 0.098  50: 2.1 ± 0.098  → 500, the lowest, in a tie with 50 by the 95% intervals"
    )
    scores[50] = Scores("fid_768", 2.3, 0.05, 0.01, 0.001, 64)
    assert averages_found(scores, 500).endswith("→ 500")


def test_only_completed_trials_are_ranked(run):
    end_trials(run, TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE)
    choice = choose(run)
    assert [row["trial"] for row in choice["ranking"]] == ["trial 3", "trial 1"]
    failed, _, pruned, _ = choice["trials"]
    assert (failed["state"], failed["fid"], failed["problem"]) == ("FAIL", None, "trial 0 blew up")
    assert (pruned["state"], pruned["fid"], pruned["images_seen"]) == ("PRUNED", None, 768)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "trial 0 is not finished; give the run as many search workers"),
        ([TrialState.COMPLETE] * 3, "trial 3 is not finished"),
        ([TrialState.PRUNED] * 4, "none of 4 trials was completed: all were pruned"),
        ([TrialState.PRUNED, TrialState.FAIL, *[TrialState.PRUNED] * 2], "none of 4 .*: trial 1 blew up"),
    ],
)
def test_no_choice_is_one_line(run, states, words):
    end_trials(run, *states)
    with pytest.raises(Refused, match=words) as problem:
        choose(run)
    assert "\n" not in str(problem.value)


def test_the_winner_trains_on_from_its_trial(run, tmp_path):
    end_trials(run, *[TrialState.COMPLETE] * 4)
    choice = choose(run)
    model, final = winner_settings(run.plan, choice["trials"][choice["best"]])
    of_trial, trial = trial_settings(run.plan, {"channel_mults": "1-2-4", "lr": 7e-5})
    assert model == of_trial and model.channel_mults == "1-2-4"
    assert (final.lr, final.epochs, final.patience) == (7e-5, 9, 5)
    assert final.decay_fraction == run.plan.train.decay_fraction
    assert (trial.lr, trial.epochs, trial.patience, trial.decay_fraction) == (7e-5, 3, 0, 0.0)
    assert trial.train_seed == final.train_seed
    other = run_named("two", tmp_path)
    assert trial_settings(other.plan, {"channel_mults": "1-2-4", "lr": 7e-5})[1].train_seed != trial.train_seed


def test_a_single_average_needs_no_choice(tmp_path):
    run = run_named("one", tmp_path)
    assert choose_average(run, (500,), "/no/checkpoint", "/no/data", NoTrackedRun(), Quiet()) == 500
    with pytest.raises(WrongInput):
        choose_average(run_named("two", tmp_path), (500, 50), "/no/checkpoint", "/no/data", NoTrackedRun(), Quiet())
