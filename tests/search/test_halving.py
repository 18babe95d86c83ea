"""Successive halving: who goes on at a rung, and what a rung keeps."""

import dataclasses
from types import SimpleNamespace

import optuna
import pytest
import torch
from optuna.trial import Trial, TrialState

from ddpm.data.dataset import Split
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.measure import Scores
from ddpm.meter import NOTHING
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search import trial as room
from ddpm.search import worker
from ddpm.search.halving import STANDS, Halving, Rungs, awaits, goes_on, rung_of_losses, rung_of_scores, surely_worse
from ddpm.search.study import _take_one, create_study, open_study, take_trials
from ddpm.search.trial import trial_row
from ddpm.settings import SearchSettings
from ddpm.store import open_store
from ddpm.store.reading import read_json
from ddpm.tracking import NoTrackedRun
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
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


def trained(trial, quick, epochs=range(1, 9), recorder=None, losses=list, settings=SETTINGS):
    """Train through the epochs; the one at which it ended or came to rest, None where it came to its end."""
    rungs = Rungs(trial, settings, recorder or Recorder(), quick, losses)
    return next((epoch for epoch in epochs if rungs.looked(epoch, 100 * epoch, None) or rungs.rests()), None)


def searched(study, folder, scores, std=0.1, settings=SETTINGS):
    """As one worker searches, its trials scored so at their rungs; who trained up to which epoch, in order, and who was
    judged hopeless."""
    order, quick = [], {number: scoring(*fids, std=std) for number, fids in scores.items()}
    for trial, lease in take_trials(study, open_store(str(folder)), 0, Quiet()):
        with lease:
            if not goes_on(trial):
                study.tell(trial, state=TrialState.PRUNED)
                order.append((trial.number, "pruned"))
                continue
            stood = trial.user_attrs.get(STANDS, 0)
            rung = trained(trial, quick[trial.number], range(stood + 1, settings.trial_epochs + 1))
            order.append((trial.number, rung or settings.trial_epochs))
            if rung:
                trial.set_user_attr(STANDS, rung)
            else:
                study.tell(trial, 1.0)
    return order


def test_rungs_are_where_the_budget_says():
    assert SETTINGS.rungs == [2, 4], "not at the end, where a trial is scored anyway"
    assert SearchSettings(trial_epochs=30, first_rung=1, rung_factor=3).rungs == [1, 3, 9, 27]
    assert SearchSettings(trial_epochs=30).rungs == []
    assert SearchSettings(trial_epochs=30, first_rung=30).rungs == []


def test_all_come_to_a_rung_before_the_best_of_them_go_on(study, tmp_path):
    """The first one, which had nobody to be worse than, is judged beside those that began after it."""
    scores = {0: [10.0], 1: [20.0], 2: [5.0, 12.0], 3: [9.0, 8.0]}
    assert searched(study, tmp_path / "run", scores) == [
        (0, 2), (1, 2), (2, 2), (3, 2),
        (2, 4), (3, 4), (0, "pruned"), (1, "pruned"),
        (3, 8), (2, "pruned"),
    ]  # fmt: skip
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "PRUNED", "PRUNED", "COMPLETE"]
    assert [max(trial.intermediate_values) for trial in study.trials] == [2, 2, 4, 4]


def test_its_scores_are_recorded(study):
    recorder = Recorder()
    assert trained(study.ask(), scoring(10.0), recorder=recorder) == 2
    assert recorder.told == [{"interim_fid_classifier": 10.0, "interim_kid_classifier": 0.25}]


def test_what_chance_may_have_put_behind_goes_on(study, tmp_path):
    """The interval of the difference of two figures with these deviations is 1.96 √2 times as wide."""
    scores = {0: [9.0, 9.0], 1: [10.0, 9.0], 2: [12.7, 11.7], 3: [12.8]}
    played = searched(study, tmp_path / "run", scores, std=1.0)
    assert [step for step in played if step[1] == "pruned"] == [(3, "pruned")]


def test_a_worker_with_nothing_else_to_do_takes_the_best_and_cuts_nobody_too_early(study, tmp_path):
    """Others are still on their way to the rung: the best that has come there goes on; what would be cut waits for them."""
    taken = take_trials(study, open_store(str(tmp_path / "run")), 0, Quiet())
    others = [next(taken) for _ in range(2)]
    for fid in (10.0, 9.0):
        trial, lease = next(taken)
        with lease:
            trial.set_user_attr(STANDS, trained(trial, scoring(fid)))
    best, best_lease = next(taken)
    assert best.number == 3 and goes_on(best)
    trials = study.trials
    assert [awaits(study.pruner, trial, trials) for trial in trials] == [False, False, True, False]
    for trial, lease in others:
        trial.set_user_attr(STANDS, trained(trial, scoring(20.0)))
        lease.release()
    second, lease = next(taken)
    assert second.number == 2 and goes_on(second), "by now it is among the better half"
    lease.release()
    best_lease.release()


def test_one_that_came_to_its_rung_since_it_was_listed_waits_as_well(study, tmp_path):
    """Another worker has let go of it meanwhile, with two still at work below the rung."""
    run = open_store(str(tmp_path / "run"))
    theirs = take_trials(study, run, 1, Quiet())
    held = [next(theirs) for _ in range(4)]
    for (trial, lease), fid in zip(held[:2], (9.0, 20.0), strict=True):
        trial.set_user_attr(STANDS, trained(trial, scoring(fid)))
        if trial.number == 0:
            lease.release()
    listed = study.get_trials(deepcopy=True)
    listed[1].user_attrs.pop(STANDS)  # as it was
    held[1][1].release()
    assert _take_one(study, [listed[1]], run, Quiet()) is None, "it would be cut, and others may yet come"
    best, lease = next(take_trials(study, run, 0, Quiet()))
    assert best.number == 0 and goes_on(best)
    for one in (lease, *(lease for _, lease in held[2:])):
        one.release()


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
    worse, better = study.ask(), study.ask()
    for trial, more in ((worse, 0.5), (better, 0.0)):
        rungs = Rungs(trial, settings, Recorder(), scoring(), lambda more=more: [more + 0.1 * n for n in range(16)])
        assert not rungs.looked(1, 100, None) and rungs.rests()
        assert rungs.scored == f"held-out loss {more + 0.75:.4f}"
        trial.set_user_attr(STANDS, 1)
    assert (goes_on(worse), goes_on(better)) == (False, True)


def test_losses_that_do_not_compare_are_refused(digits):
    with pytest.raises(WrongInput, match="rung_score: 'loss' will not do; it must be fid with objective_choices"):
        SearchSettings(rung_score="loss", first_rung=1, objective_choices="v edm")
    settings = SearchSettings(rung_score="loss", first_rung=1)
    few = dataclasses.replace(digits, held_out=Split(digits.held_out.images[:15], digits.held_out.labels[:15]))
    with pytest.raises(WrongInput, match="loss needs at least 16 held-out pictures, and digits has 15; give fid"):
        worker.require_losses(settings, few)
    worker.require_losses(settings, digits)


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


def stand(trial, fid):
    assert trained(trial, scoring(fid)) == 2
    trial.set_user_attr(STANDS, 2)


def test_a_trial_that_is_taken_up_keeps_its_rungs(study):
    """Its training goes back to before them; they are neither scored nor judged anew."""
    first, good, bad = study.ask(), study.ask(), study.ask()
    stand(first, 10.0)
    assert trained(good, scoring(9.5)) == 2, "and killed before its checkpoint was written"
    assert goes_on(again(study, good)) and trained(again(study, good), scoring()) == 2
    good.set_user_attr(STANDS, 2)
    assert goes_on(again(study, good))
    assert trained(again(study, good), scoring(8.5)) == 4, "from before the rung: one more score, at the second"
    assert study.trials[1].user_attrs["rung_2"] == {"score": 9.5, "std": 0.1, "parts": [], "hopeless": False}
    assert trial_row(study.trials[1])["rungs"] == {
        "2": {"score": 9.5, "std": 0.1, "parts": [], "hopeless": False},
        "4": {"score": 8.5, "std": 0.1, "parts": []},
    }
    stand(bad, 30.0)
    assert not goes_on(again(study, bad))
    assert not goes_on(again(study, bad)), "killed before that was told"
    assert study.trials[2].intermediate_values == {2: 30.0}


def test_what_an_earlier_release_has_judged_ends_at_its_rung(study):
    """That one judged a trial as it arrived, and kept no standing."""
    begun = study.ask()
    assert trained(begun, scoring(30.0)) == 2
    begun.set_user_attr("rung_2", {**begun.user_attrs["rung_2"], "hopeless": True})
    taken = again(study, begun)
    assert goes_on(taken), "since its checkpoint may be from before"
    rungs = Rungs(taken, SETTINGS, Recorder(), scoring(), list)
    assert rungs.looked(2, 200, None) and not rungs.rests()


def test_a_trial_that_an_earlier_release_began_goes_on(study):
    """One before that told scores every few epochs, without their deviations."""
    stand(study.ask(), 10.0)
    begun = study.ask()
    for epoch in (4, 6):
        begun.report(30.0, epoch)
    taken = again(study, begun)
    assert goes_on(taken) and trained(taken, scoring(30.0), range(4, 9)) == 4
    taken.set_user_attr(STANDS, 4)
    assert goes_on(again(study, begun))


@pytest.mark.parametrize("moment", ["report", "should_prune", "set_user_attr"])
def test_a_trial_killed_within_a_rung_is_judged_by_the_score_that_it_has(study, monkeypatch, moment):
    stand(study.ask(), 10.0)
    bad = study.ask()

    def die(*_):
        raise Died

    if moment == "report":
        with monkeypatch.context() as killed, pytest.raises(Died):
            killed.setattr(bad, moment, die)
            trained(bad, scoring(30.0))
        assert trained(again(study, bad), scoring()) == 2
        bad.set_user_attr(STANDS, 2)
    else:
        stand(bad, 30.0)
        taken = again(study, bad)
        with monkeypatch.context() as killed, pytest.raises(Died):
            killed.setattr(taken, moment, die)
            goes_on(taken)
    assert not goes_on(again(study, bad))
    assert study.trials[1].intermediate_values == {2: 30.0}


@pytest.fixture
def real(tmp_path, monkeypatch):
    """A run whose trials are trained in truth, and scored as told: `scores` are used up in the order of the trainings."""
    plan = Plan.from_parameters({
        "run_name": "s", "store": str(tmp_path / "store"), "tracking_uri": "sqlite:////none",
        "study_storage": str(tmp_path / "journal"), "trials": 4, "trial_epochs": 4, "epochs": 4, "first_rung": 1,
        "rung_factor": 4, "held_out_every": 1, "base_channels": 8, "blocks": 1, "attention_resolution": 4, "image_size": 8,
        "mults_choices": "1-2", "founding_lr": 1e-3, "score_n": 16, "score_steps": 2, "batch_size": 64, "price_per_hour": 2.0,
    })  # fmt: skip
    create_study(plan.study_storage, "s", plan.search)
    run = Run(plan)
    run.__dict__["tracker"] = SimpleNamespace(child=lambda *_, **__: NoTrackedRun())
    scores, said, dropped = [], [], []
    monkeypatch.setattr(room, "quick_scores", lambda *_: Scores("fid_classifier", scores.pop(0), 0.1, 0.25, 0.01, 64))
    progress = SimpleNamespace(say=said.append, update=lambda *_: None, drop=dropped.append)
    return SimpleNamespace(run=run, plan=plan, scores=scores, said=said, dropped=dropped, progress=progress)


def turns(real, digits):
    """As one worker has them; the trials' rows are made anew by `rows`."""
    study, world = open_study(real.plan.study_storage, "s", real.plan.search), World(torch.device("cpu"))
    for trial, lease in take_trials(study, real.run.folder, 0, Quiet()):
        with lease:
            room.run_trial(real.run, trial, SimpleNamespace(data=digits), world, real.progress, lease.require)
        yield trial.number


def rows(real):
    return [trial_row(trial) for trial in open_study(real.plan.study_storage, "s", real.plan.search).trials]


def test_a_pruned_trial_has_stopped_early(tmp_path, digits, real, monkeypatch):
    """Of real trainings the second, far worse at the rung, is never trained beyond it, and its study knows; the third, whose
    score at the rung is no number, fails for that; the others rest there, go on, and end as if they had not rested."""
    real.scores += [10.0, 50.0, float("nan"), 9.9, 8.0, 8.5]
    order, seconds = [], []
    for number in turns(real, digits):
        order.append(number)
        seconds.append(rows(real)[0]["seconds"])
    assert order == [0, 1, 2, 3, 3, 0, 1]
    assert seconds[-1] > seconds[0] > 0, "both turns count"
    first, pruned, failed, last = rows(real)
    assert (first["state"], first["images_seen"], first["budget_images"], first["fid"]) == ("COMPLETE", 1024, 1024, 8.5)
    assert (last["state"], last["images_seen"], last["fid"]) == ("COMPLETE", 1024, 8.0), "the better one first"
    assert (pruned["state"], pruned["images_seen"], pruned["budget_images"]) == ("PRUNED", 256, 1024)
    assert pruned["rungs"] == {"1": {"score": 50.0, "std": 0.1, "parts": [], "hopeless": True}}
    assert pruned["fid"] is None and pruned["seconds"] > 0
    assert (failed["state"], failed["problem"], failed["rungs"]) == (
        "FAIL", "the FID at a rung is not finite; lower lr_high", {},
    )  # fmt: skip
    task = f"trial 1 (2 of 4) · 1-2 · lr {pruned['lr']:.2g}"
    assert f"{task}: stands at epoch 1, FID 50 ± 0.2, until its turn comes again" in real.said
    assert f"{task}: pruned after 1 epochs" in real.said
    whole = [f"trial {number} ({number + 1} of 4)" for number in range(4)]
    assert [task for task in real.dropped if task in whole] == [whole[2], whole[1]], "before their end"
    real.dropped.clear()
    monkeypatch.setattr(worker, "open_dataset", lambda _: digits)
    monkeypatch.setattr(worker, "open_reference", lambda *_: SimpleNamespace(prepare=lambda: None))
    ran = worker.search(real.run, "digits", 0, real.progress, World(torch.device("cpu")))
    assert (ran["trials"], real.dropped) == ([], whole), "whoever carries on is told of those that are over"
    model, train = room.trial_settings(real.plan, {"channel_mults": "1-2", "lr": 1e-3})
    straight = Trainer(model, train, digits, str(tmp_path / "straight"), World(torch.device("cpu")))
    ended = read_json(open_store(real.run.trial(0)), "done.json", dict, "")
    assert ended["weights_sha256"] == straight.run(NoObserver(), Quiet())["weights_sha256"]


def test_one_killed_when_its_checkpoint_was_written_meets_its_rung_all_the_same(digits, real, monkeypatch):
    """It has not been noted yet that it stands there: taken up, it rests at once, and is judged beside the others."""
    real.scores += [10.0, 50.0, 40.0, 30.0, 8.0]
    set_user_attr, killed = Trial.set_user_attr, []

    def dies(self, name, value):
        if name == STANDS and self.number == 1 and not killed:
            killed.append(self.number)
            raise Died
        set_user_attr(self, name, value)

    monkeypatch.setattr(Trial, "set_user_attr", dies)
    with pytest.raises(Died):
        list(turns(real, digits))
    assert list(turns(real, digits)) == [1, 2, 3, 0, 3, 2, 1]
    assert [(row["state"], row["images_seen"]) for row in rows(real)] == [
        ("COMPLETE", 1024), ("PRUNED", 256), ("PRUNED", 256), ("PRUNED", 256),
    ]  # fmt: skip
    assert real.scores == [], "none is scored twice at a rung"


def test_what_several_turns_took_is_added_up(study):
    trial = study.ask()
    assert room._spent(trial, NOTHING) == NOTHING, "a new one"
    trial.set_user_attr("seconds", 3.0)
    trial.set_user_attr("joules", 5.0)
    assert room._spent(trial, {"seconds": 2.5, "joules": 4.0}) == {"seconds": 3.0, "joules": 5.0}
    later = {"seconds": 4.0, "joules": 6.0}
    assert room._spent(trial, later) == later, "a later turn was killed, and its checkpoint knows more"
