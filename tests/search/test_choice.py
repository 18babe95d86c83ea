"""The choice among a run's trials, and how they and the winner train."""

import json

import pytest
import torch
from optuna.trial import TrialState

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.measure import Scores
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search import choice as choosing
from ddpm.search import finalists as room
from ddpm.search.choice import averages_found, choose, choose_average, guide_of, winner_settings
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study
from ddpm.search.trial import trial_settings
from ddpm.settings import DrawSettings, GuideSettings, ModelSettings, TrainSettings
from ddpm.tracking import NoTrackedRun
from ddpm.training.checkpoint import load_model
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

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
    choice = choose(run, "/no/data", Quiet())
    assert choice["best"] == 3
    assert choice["best_why"].startswith("trial 3 has the best mean rank, 1.5 (FID rank 2, KID rank 1 of 4)")
    assert choice["trials"][3] == {
        "number": 3, "channel_mults": "1-2-4", "lr": 7e-5, "point": {}, "joules": None, "devices": None, "state": "COMPLETE", "fid": 24.49, "kid": 0.296, "fid_std": None, "kid_std": None, "seconds": 1.5,
        "images_seen": 768, "budget_images": None, "rungs": {}, "parameters": 1000, "checkpoint": "/trials/x", "problem": None,
    }  # fmt: skip
    assert [row["number"] for row in choice["trials"]] == [0, 1, 2, 3]
    assert choice["ranking"][0] == {"trial": "trial 3", "fid_rank": 2.0, "kid_rank": 1.0, "mean_rank": 1.5}
    assert sorted(row["mean_rank"] for row in choice["ranking"]) == [1.5, 2.5, 3.0, 3.0]
    assert json.loads(json.dumps(choice)) == choice, "it goes into the run's facts as it is"


def test_a_choice_by_chance_is_told_as_a_tie(run):
    """With wide intervals the best's figures are those of others too."""
    end_trials(run, *[TrialState.COMPLETE] * 4, fid_std=2.0, kid_std=0.03)
    choice = choose(run, "/no/data", Quiet())
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
    choice = choose(run, "/no/data", Quiet())
    assert [row["trial"] for row in choice["ranking"]] == ["trial 3", "trial 1"]
    failed, _, pruned, _ = choice["trials"]
    assert (failed["state"], failed["fid"], failed["problem"]) == ("FAIL", None, "trial 0 blew up")
    assert (pruned["state"], pruned["fid"], pruned["images_seen"]) == ("PRUNED", None, 768)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "trial 0 is not finished; start a worker of the search"),
        ([TrialState.COMPLETE] * 3, "trial 3 is not finished"),
        ([TrialState.PRUNED] * 4, "none of 4 trials was completed: all were pruned"),
        ([TrialState.PRUNED, TrialState.FAIL, *[TrialState.PRUNED] * 2], "none of 4 .*: trial 1 blew up"),
    ],
)
def test_no_choice_is_one_line(run, states, words):
    end_trials(run, *states)
    with pytest.raises(Refused, match=words) as problem:
        choose(run, "/no/data", Quiet())
    assert "\n" not in str(problem.value)


def test_the_winner_trains_on_from_its_trial(run, tmp_path):
    end_trials(run, *[TrialState.COMPLETE] * 4)
    choice = choose(run, "/no/data", Quiet())
    model, final = winner_settings(run.plan, choice["trials"][choice["best"]])
    of_trial, trial = trial_settings(run.plan, {"channel_mults": "1-2-4", "lr": 7e-5})
    assert model == of_trial and model.channel_mults == "1-2-4"
    assert (final.lr, final.epochs, final.patience) == (7e-5, 9, 5)
    assert final.decay_fraction == run.plan.train.decay_fraction
    assert (trial.lr, trial.epochs, trial.patience, trial.decay_fraction) == (7e-5, 3, 0, 0.0)
    assert trial.train_seed == final.train_seed
    other = run_named("two", tmp_path)
    assert trial_settings(other.plan, {"channel_mults": "1-2-4", "lr": 7e-5})[1].train_seed != trial.train_seed


def test_the_guide_is_the_winner_as_its_trial_left_it_or_what_the_run_keeps(monkeypatch):
    monkeypatch.setattr("ddpm.training.checkpoint.load_model", lambda uri: uri)
    monkeypatch.setattr("ddpm.search.choice.read_initial", lambda place: place)
    monkeypatch.setattr("ddpm.search.choice.as_model", lambda kept: kept)
    chosen = {"best": 1, "trials": [{"checkpoint": "file:///a"}, {"checkpoint": "file:///b"}]}
    for guide, named in (("trial", "file:///b"), ("models:/m@champion", "s/runs/r/guide"), ("", None)):
        plan = Plan(
            "r", "s", "sqlite:///x", "j", draw=DrawSettings(guidance=1.5 if guide else 1.0), guide=GuideSettings(guide)
        )
        assert guide_of(Run(plan), chosen) == named


def test_a_single_average_needs_no_choice(tmp_path):
    run = run_named("one", tmp_path)
    assert choose_average(run, (500,), "/no/checkpoint", "/no/data", NoTrackedRun(), Quiet()) == 500
    with pytest.raises(WrongInput):
        choose_average(run_named("two", tmp_path), (500, 50), "/no/checkpoint", "/no/data", NoTrackedRun(), Quiet())


class Said(Quiet):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_averages_that_a_short_training_makes_the_same_are_scored_once(digits, tmp_path, monkeypatch):
    model = ModelSettings("1-2", base_channels=8, blocks=1, attention_resolution=4)
    settings = TrainSettings(lr=1e-3, epochs=2, batch_size=64, flip=False, ema_half_lives="10 500 5000")
    uri = Trainer(model, settings, digits, str(tmp_path / "out"), World(torch.device("cpu"))).run(
        NoObserver(), Quiet()
    )["checkpoint"]
    scored = []

    def score(plan, reference, model, progress, task, seed):
        scored.append(model.origin.weights_sha256)
        return Scores("fid_768", 3.0 - len(scored), 0.05, 0.01, 0.001, 64)

    monkeypatch.setattr(choosing, "quick_scores", score)
    monkeypatch.setattr(choosing, "open_dataset", lambda uri: uri)
    monkeypatch.setattr(choosing, "open_reference", lambda *_: "the reference")
    run, told, said = run_named("one", tmp_path), Heard(), Said()
    assert choose_average(run, settings.half_lives, uri, "/data", told.child("final", {}, {}), said) == 500
    assert scored == [digest(uri, 10), digest(uri, 500)] and load_model(uri).origin.weights_sha256 == digest(uri, 5000)
    assert said.lines == [
        "averaged weights: those of half-lives 500, 5000 are the same (a half-life is at most 5% of the images seen); 500 stands for them",
        "averaged weights: fid_768 (n=64) by half-life  10: 2 ± 0.098  500: 1 ± 0.098  → 500",
    ]
    assert choose_average(run, (500, 5000), uri, "/data", told, said) == 500 and len(scored) == 2, "nothing to choose"


def digest(uri, half_life):
    return load_model(f"{uri}#{half_life}").origin.weights_sha256


class Heard(NoTrackedRun):
    def __init__(self):
        self.told = {}

    def child(self, name, params, tags):
        self.name = name
        return self

    def metrics(self, values, step):
        self.told[self.name] = (values, step)


@pytest.fixture
def scored_run(tmp_path, monkeypatch):
    """Four trials on the founding figures, by which trials 3, 2 and 0 are the best, in this order."""
    run = run_named("one", tmp_path, finalists=3, score_n=512)
    end_trials(run, *[TrialState.COMPLETE] * 4, fid_std=0.01, kid_std=0.001)
    run.__dict__["tracker"] = Heard()
    monkeypatch.setattr(room, "open_dataset", lambda uri: uri)
    monkeypatch.setattr(room, "open_reference", lambda *_: "the reference")
    monkeypatch.setattr(room.checkpoint, "load_model", lambda uri: uri)
    return run


def scored(monkeypatch, std, figures):
    """Let the finalists, in their order, have these figures; returns what was asked for."""
    asked, left = [], list(figures)

    def quick_scores(plan, reference, model, progress, task, first_seed, n):
        asked.append((model, first_seed, n))
        if isinstance(figures := left.pop(0), BaseException):
            raise figures
        fid, kid = figures
        return Scores("fid_768", fid, std, kid, std / 10, n)

    monkeypatch.setattr(room, "quick_scores", quick_scores)
    return asked


FIGURES = [(24.6, 0.31), (18.0, 0.28), (24.0, 0.30)]  # of trials 3, 2 and 0


def test_the_choice_is_made_by_more_pictures_of_other_seeds(scored_run, monkeypatch):
    asked = scored(monkeypatch, 0.01, FIGURES)
    choice = choose(scored_run, "/data", Quiet())
    assert asked == [("/trials/x", 2**41, 2048)] * 3, "four times score_n"
    assert (choice["best"], choice["tied"]) == (2, [])
    assert [(one["trial"], one["fid"], one["mean_rank"]) for one in choice["finalists"]] == [
        (2, 18.0, 1.0), (0, 24.0, 2.0), (3, 24.6, 3.0),
    ]  # fmt: skip
    assert choice["ranking"][0]["trial"] == "trial 3", "by the trials' own scores"
    assert choice["trials"][2]["fid"] == 18.30, "which stay as they were"
    assert choice["best_why"] == (
        "trial 2 has the best mean rank, 1 (FID rank 1, KID rank 1 of 3). Ranked are the 3 best trials, scored anew by "
        "2,048 pictures of other seeds; by their own scores it would be trial 3."
    )
    assert scored_run.tracker.told["trial 2"] == ({"finalist_fid_768": 18.0, "finalist_kid_768": 0.28}, 768)
    assert sorted(scored_run.tracker.told) == ["trial 0", "trial 2", "trial 3"]
    assert json.loads(json.dumps(choice)) == choice


def test_a_difference_below_the_noise_is_told(scored_run, monkeypatch):
    scored(monkeypatch, 5.0, FIGURES)
    choice = choose(scored_run, "/data", Quiet())
    assert (choice["best"], choice["tied"]) == (2, [0, 3])
    assert "It is a tie with trial 0 and trial 3, by the 95% intervals: trial 2 FID 18 ± 9.8" in choice["best_why"]


def test_finalists_are_scored_once(scored_run, monkeypatch):
    """Another machine's figures may differ in the last digits; the final training has begun with the first choice."""
    scored(monkeypatch, 0.01, FIGURES)
    first = choose(scored_run, "/data", Quiet())
    scored(monkeypatch, 0.01, [])
    assert choose(scored_run, "/data", Quiet()) == first


def test_a_finalist_that_was_scored_is_not_scored_again(scored_run, monkeypatch):
    """Killed at the second of three, the run carries on there, and what MLflow was told it is told once more."""
    scored(monkeypatch, 0.01, [FIGURES[0], KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        choose(scored_run, "/data", Quiet())
    assert scored_run.facts("finalists") is None
    scored_run.tracker.told.clear()
    asked = scored(monkeypatch, 0.01, FIGURES[1:])
    choice = choose(scored_run, "/data", Quiet())
    assert len(asked) == 2 and sorted(scored_run.tracker.told) == ["trial 0", "trial 2", "trial 3"]
    assert [(one["trial"], one["fid"]) for one in choice["finalists"]] == [(2, 18.0), (0, 24.0), (3, 24.6)]


NO_NUMBER = Refused("fid_768: fid of 2048 pictures is nan, not a number; look at the pictures")


def test_a_finalist_without_figures_is_left_out_and_the_others_are_chosen_among(scored_run, monkeypatch):
    heard = []
    progress = Quiet()
    progress.say = heard.append
    scored(monkeypatch, 0.01, [NO_NUMBER, *FIGURES[1:]])
    choice = choose(scored_run, "/data", progress)
    assert choice["best"] == 2 and [one["trial"] for one in choice["finalists"]] == [2, 0]
    assert choice["best_why"].endswith(
        "Ranked are 2 of the 3 best trials, scored anew by 2,048 pictures of other seeds; by their own scores it would be "
        f"trial 3. Left out is trial 3: {NO_NUMBER}."
    )
    assert heard[0] == f"finalist trial 3 is left out: {NO_NUMBER}"
    scored(monkeypatch, 0.01, [])
    assert choose(scored_run, "/data", Quiet()) == choice, "it stays so"


def test_one_finalist_that_has_figures_is_chosen_and_without_any_there_is_no_choice(scored_run, tmp_path, monkeypatch):
    scored(monkeypatch, 0.01, [NO_NUMBER, FIGURES[1], NO_NUMBER])
    choice = choose(scored_run, "/data", Quiet())
    assert choice["best"] == 2 and "Ranked is 1 of the 3 best trials, scored anew by" in choice["best_why"]
    run = run_named("two", tmp_path, finalists=3, score_n=512)
    end_trials(run, *[TrialState.COMPLETE] * 4)
    scored(monkeypatch, 0.01, [NO_NUMBER] * 3)
    with pytest.raises(
        Refused, match="none of the 3 best trials can be chosen: fid_768: fid of 2048 .*; lower lr_high"
    ):
        choose(run, "/data", Quiet())


def test_finalists_that_an_earlier_release_scored_are_kept(scored_run, monkeypatch):
    """It kept all of them at once, and left none out."""
    scored(monkeypatch, 0.01, FIGURES)
    choice = choose(scored_run, "/data", Quiet())
    kept = scored_run.facts("finalists")
    del kept["left_out"]
    scored_run.keep("finalists", kept)
    assert choose(scored_run, "/data", Quiet()) == choice


def test_a_single_completed_trial_needs_no_finalists(tmp_path, monkeypatch):
    run = run_named("two", tmp_path, finalists=3)
    end_trials(run, TrialState.COMPLETE, *[TrialState.PRUNED] * 3)
    scored(monkeypatch, 0.01, [])
    choice = choose(run, "/data", Quiet())
    assert (choice["best"], choice["finalists"], run.facts("finalists")) == (0, [], None)
