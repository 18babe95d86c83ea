"""What samplers go by while trials stand at rungs."""

import math

import optuna
import pytest
from optuna.trial import TrialState

from ddpm.search.halving import STANDS, rung_of_scores
from ddpm.search.sampler import ByRungs, make_sampler
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study
from ddpm.settings import SearchSettings

RATES = {"founding_lr": 1e-4, "lr_low": 1e-5, "lr_high": 1e-2}


def settings(sampler="tpe", **changes):
    lists = "1-2-4-8 1-2-3-6 1-2-3 1-2-4"
    given = {
        "trials": 8,
        "trial_epochs": 8,
        "first_rung": 2,
        "mults_choices": lists,
        "search_sampler": sampler,
        **RATES,
    }
    return SearchSettings(**given | changes)


def study_of(tmp_path, given):
    place = str(tmp_path / "journal.log")
    create_study(place, "s", given)
    return open_study(place, "s", given)


def stand(trial, fid, epoch=2):
    trial.set_user_attr(f"rung_{epoch}", rung_of_scores(fid, 0.1))
    trial.report(fid, epoch)
    trial.set_user_attr(STANDS, epoch)


@pytest.fixture
def at_random(monkeypatch):
    """The names of parameters that a sampler has chosen at random, since it had too little to go by."""
    chosen, choose = [], optuna.samplers.RandomSampler.sample_independent

    def noted(self, study, trial, name, distribution):
        chosen.append(name)
        return choose(self, study, trial, name, distribution)

    monkeypatch.setattr(optuna.samplers.RandomSampler, "sample_independent", noted)
    return chosen


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_trials_that_stand_are_what_it_goes_by(tmp_path, at_random, sampler):
    """None has ended, and the fifth trial is chosen by the four founding ones."""
    given = settings(sampler)
    study = study_of(tmp_path, given)
    for fid in (10.0, 11.0, 12.0):
        trial = study.ask()
        suggest(trial, given)
        stand(trial, fid)
    fourth = study.ask()
    suggest(fourth, given)
    early = study.ask()
    suggest(early, given)
    assert {*at_random} == {"channel_mults", "lr"}, "three are too few to go by"
    at_random.clear()
    stand(fourth, 9.0)
    found = suggest(study.ask(), given)
    assert at_random == [] and found["channel_mults"] in given.choices and 1e-5 <= found["lr"] <= 1e-2


def test_it_moves_to_where_the_rungs_are_better(tmp_path):
    """Rates that stood well are near what it proposes next, though none of these trials has ended."""
    given = settings(trials=30, mults_choices="1-2", founding_first=False)
    study = study_of(tmp_path, given)
    for _ in range(24):
        trial = study.ask()
        stand(trial, 10.0 + abs(math.log10(suggest(trial, given)["lr"] / 1e-3)))
    proposed = [suggest(study.ask(), given)["lr"] for _ in range(6)]
    assert sum(2e-4 < lr < 5e-3 for lr in proposed) >= 4, "of three decades"


def test_they_are_shown_as_what_they_would_have_ended_as(tmp_path):
    """To the estimators as pruned, to the process, which goes by complete ones, by the first rung's score; nothing is told."""
    given = settings()
    study = study_of(tmp_path, given)
    complete, stands, begun, asking = (study.ask() for _ in range(4))
    for trial in (complete, stands, begun):
        suggest(trial, given)
    stand(complete, 12.0)
    stand(complete, 9.0, 4)
    study.tell(complete, 7.0)
    stand(stands, 11.0)
    frozen = study.trials[asking.number]
    seen, _ = make_sampler(given, 0)._copy(study, frozen)
    assert [(trial.state.name, trial.value) for trial in seen.trials[:4]] == [
        ("COMPLETE", 7.0), ("PRUNED", None), ("RUNNING", None), ("RUNNING", None),
    ]  # fmt: skip
    assert seen.trials[1].intermediate_values == {2: 11.0}
    seen, me = make_sampler(settings("gp"), 0)._copy(study, frozen)
    assert [trial.value for trial in seen.trials[:3]] == [12.0, 11.0, None]
    assert me.number == asking.number and [trial.number for trial in seen.trials] == list(range(8))
    assert [trial.state for trial in study.trials[:4]] == [TrialState.COMPLETE] + [TrialState.RUNNING] * 3


@pytest.mark.parametrize(
    ("changes", "wrapped"), [({}, True), ({"sampler": "gp"}, True), ({"sampler": "random"}, False), ({"first_rung": 0}, False)]
)  # fmt: skip
def test_only_where_there_are_rungs_and_something_goes_by_them(changes, wrapped):
    assert isinstance(make_sampler(settings(**changes), 0), ByRungs) == wrapped


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_founding_rate_out_of_the_range_is_no_obstacle(tmp_path, sampler):
    """It is tried as it was asked for, and what is chosen by it is in the range."""
    given = settings(sampler, founding_lr=2e-2, founding_first=True)
    study = study_of(tmp_path, given)
    for fid in (10.0, 11.0, 12.0, 13.0):
        trial = study.ask()
        assert suggest(trial, given)["lr"] == 2e-2
        stand(trial, fid)
    assert 1e-5 <= suggest(study.ask(), given)["lr"] <= 1e-2
