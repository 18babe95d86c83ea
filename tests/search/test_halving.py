"""Successive halving: who goes on at a rung, and what a rung keeps."""

import dataclasses
from types import SimpleNamespace

import optuna
import pytest
import torch
from optuna.trial import Trial

from ddpm.data.dataset import Split
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.measure import Scores
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search import trial as room
from ddpm.search.halving import Halving, Rungs, rung_of_losses, rung_of_scores, surely_worse
from ddpm.search.study import create_study, open_study, take_trials
from ddpm.search.trial import trial_row
from ddpm.search.worker import require_losses
from ddpm.settings import SearchSettings
from ddpm.tracking import NoTrackedRun
from ddpm.training.observer import NoObserver
from ddpm.training.world import World

SETTINGS = SearchSettings(trials=4, trial_epochs=8, first_rung=2, mults_choices="1-2", founding_lr=1e-3)


class Recorder(NoObserver):
    def __init__(self):
        self.told = []

    def metrics(self, values, images_seen):
        self.told.append(values)


class Died(BaseException):
    """kill -9."""


def scoring(*fids, std=0.1):
    """Scores one after the other; more must not be asked for."""
    left = list(fids)
    return lambda model: Scores("fid_classifier", left.pop(0), std, 0.25, 0.01, 64)


@pytest.fixture
def study(tmp_path):
    place = str(tmp_path / "journal.log")
    create_study(place, "s", SETTINGS)
    return open_study(place, "s", SETTINGS)


def looked(trial, quick, epochs=range(1, 9), recorder=None):
    """Train through the epochs; the one at which it ended, None where it came to its end."""
    rungs = Rungs(trial, SETTINGS, recorder or Recorder(), quick, list)
    return next((epoch for epoch in epochs if rungs.looked(epoch, 100 * epoch, None)), None)


def test_rungs_are_where_the_budget_says():
    assert SETTINGS.rungs == [2, 4], "not at the end, where a trial is scored anyway"
    assert SearchSettings(trial_epochs=30, first_rung=1, rung_factor=3).rungs == [1, 3, 9, 27]
    assert SearchSettings(trial_epochs=30).rungs == []
    assert SearchSettings(trial_epochs=30, first_rung=30).rungs == []


def test_the_worse_half_ends_at_the_first_rung_and_the_better_goes_on(study):
    recorder = Recorder()
    assert looked(study.ask(), scoring(10.0, 9.0), recorder=recorder) is None
    assert recorder.told == [{"interim_fid_classifier": fid, "interim_kid_classifier": 0.25} for fid in (10.0, 9.0)]
    assert looked(study.ask(), scoring(20.0)) == 2
    assert looked(study.ask(), scoring(5.0, 12.0)) == 4, "a rung later others are better"
    assert looked(study.ask(), scoring(9.0, 8.0)) is None, "second of four"


def test_what_chance_may_have_put_behind_goes_on(study):
    """The interval of the difference of two figures with these deviations is 1.96 √2 times as wide."""
    assert looked(study.ask(), scoring(10.0, 9.0, std=1.0)) is None
    assert looked(study.ask(), scoring(12.7, 11.7, std=1.0)) is None
    assert looked(study.ask(), scoring(12.8, std=1.0)) == 2


def test_losses_are_compared_picture_by_picture():
    """A difference far below the losses' own spread is no chance where every picture says the same."""
    spread = [0.01 * picture for picture in range(192)]
    ours, worse = (
        rung_of_losses(spread),
        rung_of_losses([0.001 * (1 + picture % 2) + loss for picture, loss in enumerate(spread)]),
    )
    assert len(ours["parts"]) == 64 and worse["score"] - ours["score"] == pytest.approx(0.0015)
    assert surely_worse(worse, ours) and not surely_worse(ours, worse)
    mixed = rung_of_losses([loss + (0.1 if picture % 6 < 3 else -0.09) for picture, loss in enumerate(spread)])
    assert mixed["score"] > ours["score"] and not surely_worse(mixed, ours)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_compared_with_nothing(bad):
    """It fails the trial, as a training that blew up does: one of them must not end the search."""
    with pytest.raises(Refused, match="the held-out loss at a rung is not finite"):
        rung_of_losses([0.1] * 31 + [bad])
    with pytest.raises(Refused, match="the FID at a rung is not finite"):
        rung_of_scores(bad, 0.1)


def test_by_losses_nothing_is_drawn(tmp_path):
    settings = SearchSettings(trials=2, trial_epochs=2, first_rung=1, mults_choices="1-2", rung_score="loss")
    create_study(str(tmp_path / "j"), "s", settings)
    study = open_study(str(tmp_path / "j"), "s", settings)
    ended = []
    for worse in (0.0, 0.5):
        losses = [worse + 0.1 * picture for picture in range(16)]
        ended.append(
            Rungs(study.ask(), settings, Recorder(), scoring(), lambda losses=losses: losses).looked(1, 100, None)
        )
    assert ended == [False, True]


def test_losses_that_do_not_compare_are_refused(digits):
    with pytest.raises(WrongInput, match="rung_score: 'loss' will not do; it must be fid with objective_choices"):
        SearchSettings(rung_score="loss", first_rung=1, objective_choices="v edm")
    settings = SearchSettings(rung_score="loss", first_rung=1)
    few = dataclasses.replace(digits, held_out=Split(digits.held_out.images[:15], digits.held_out.labels[:15]))
    with pytest.raises(WrongInput, match="loss needs at least 16 held-out pictures, and digits has 15; give fid"):
        require_losses(settings, few)
    require_losses(settings, digits)


def test_without_rungs_nobody_is_scored_on_the_way(tmp_path):
    settings = SearchSettings(trials=1, trial_epochs=8)
    create_study(str(tmp_path / "j"), "s", settings)
    study = open_study(str(tmp_path / "j"), "s", settings)
    assert isinstance(study.pruner, optuna.pruners.NopPruner)
    rungs = Rungs(study.ask(), settings, Recorder(), scoring(), list)
    assert not any(rungs.looked(epoch, 100, None) for epoch in range(1, 9))


def again(study, trial):
    """The trial, as another process takes it up."""
    return Trial(open_study_again(study), trial._trial_id)


def open_study_again(study):
    return optuna.load_study(study_name="s", storage=study._storage, pruner=Halving(SETTINGS))


def test_a_trial_that_is_taken_up_keeps_its_rungs(study):
    """Its training goes back to before them; they are neither scored nor told anew, and the end is the same."""
    looked(study.ask(), scoring(10.0, 9.0))
    good, bad = study.ask(), study.ask()
    assert looked(good, scoring(9.5), range(1, 4)) is None
    assert looked(again(study, good), scoring(8.5)) is None, "one more score, at the second rung"
    assert trial_row(study.trials[1])["rungs"] == {
        "2": {"score": 9.5, "std": 0.1, "parts": [], "hopeless": False},
        "4": {"score": 8.5, "std": 0.1, "parts": [], "hopeless": False},
    }  # fmt: skip
    assert looked(bad, scoring(30.0)) == 2
    assert looked(again(study, bad), scoring()) == 2, "killed before it was told that it had ended"
    assert study.trials[2].intermediate_values == {2: 30.0}


def test_a_trial_that_an_earlier_release_began_goes_on(study):
    """That one told scores every few epochs, without their deviations."""
    looked(study.ask(), scoring(10.0, 9.0))
    begun = study.ask()
    for epoch in (4, 6):
        begun.report(30.0, epoch)
    assert looked(again(study, begun), scoring(30.0), range(4, 9)) is None


@pytest.mark.parametrize("moment", ["report", "should_prune"])
def test_a_trial_killed_within_a_rung_is_judged_by_the_score_that_it_has(study, monkeypatch, moment):
    looked(study.ask(), scoring(10.0, 9.0))
    bad = study.ask()

    def die(*_):
        raise Died

    with monkeypatch.context() as killed:
        killed.setattr(bad, moment, die)
        with pytest.raises(Died):
            looked(bad, scoring(30.0))
    assert looked(again(study, bad), scoring()) == 2
    assert study.trials[1].intermediate_values == {2: 30.0}


def test_a_pruned_trial_has_stopped_early(tmp_path, digits, monkeypatch):
    """Of real trainings the second, far worse at its rung, ends there, and its study knows both; the third, whose score at
    its rung is no number, fails for that, and the search goes on."""
    plan = Plan.from_parameters({
        "run_name": "s", "store": str(tmp_path / "store"), "tracking_uri": "sqlite:////none",
        "study_storage": str(tmp_path / "journal"), "trials": 4, "trial_epochs": 4, "epochs": 4, "first_rung": 1,
        "held_out_every": 1, "base_channels": 8, "blocks": 1, "attention_resolution": 4, "image_size": 8,
        "mults_choices": "1-2", "founding_lr": 1e-3, "score_n": 16, "score_steps": 2, "batch_size": 64, "price_per_hour": 2.0,
    })  # fmt: skip
    create_study(plan.study_storage, "s", plan.search)
    run = Run(plan)
    run.__dict__["tracker"] = SimpleNamespace(child=lambda *_, **__: NoTrackedRun())
    fids = scoring(10.0, 9.0, 8.0, 50.0, float("nan"), std=0.1)
    monkeypatch.setattr(room, "quick_scores", lambda *_: fids(None))
    study = open_study(plan.study_storage, "s", plan.search)
    taken = take_trials(study, run.folder, 0, Quiet())
    for _ in range(3):
        trial, lease = next(taken)
        with lease:
            room.run_trial(run, trial, SimpleNamespace(data=digits), World(torch.device("cpu")), Quiet(), lease.require)
    whole, pruned, failed, waiting = map(trial_row, study.trials)
    assert (whole["state"], whole["images_seen"], whole["budget_images"]) == ("COMPLETE", 1024, 1024)
    assert (pruned["state"], pruned["images_seen"], pruned["budget_images"]) == ("PRUNED", 256, 1024)
    assert (
        pruned["rungs"] == {"1": {"score": 50.0, "std": 0.1, "parts": [], "hopeless": True}} and pruned["fid"] is None
    )
    assert (failed["state"], failed["problem"], failed["rungs"]) == (
        "FAIL",
        "the FID at a rung is not finite; lower lr_high",
        {},
    )
    assert waiting["state"] == "WAITING"
