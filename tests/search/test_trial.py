"""One trial, told to its study as it ended."""

from types import SimpleNamespace

import pytest
import torch

from ddpm.errors import Outage, Refused, WrongInput
from ddpm.evaluation.measure import Scores
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search import trial as room
from ddpm.search.study import create_study, open_study
from ddpm.search.trial import run_trial, trial_row
from ddpm.tracking import NoTrackedRun
from ddpm.training.world import World


class Heard(NoTrackedRun):
    """An MLflow run that remembers the figures it is told, and the exception that ended it."""

    def __init__(self):
        self.told, self.ended_by = {}, None

    def child(self, name, params, tags, training=False):
        assert training or not params, "what a training records must not end it"
        self.name, self.params, self.tags = name, params, dict(tags)
        return self

    def tag(self, name, value):
        self.tags[name] = value

    def metrics(self, values, step):
        self.told.update(values)

    def __exit__(self, kind, problem, trace):
        self.ended_by = kind


BEFORE = {"seconds": 1000.0, "joules": None}  # what processes that were killed had spent


class FakeTrainer:
    """Spends its budget, or is told otherwise by `outcome`."""

    outcome = "spent"
    averaged = "the averaged model"
    ledger = SimpleNamespace(lineage=[])
    schedule = SimpleNamespace(images_seen=lambda step: 256 * step, total_steps=6, epochs=lambda step: step)
    steps_done = 0
    spent_before = BEFORE

    def __init__(self, model, settings, data, out, world, initial):
        type(self).given = (model, settings, data, out)
        type(self).initial = initial

    def run(self, observer, progress, task):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        observer.saving()
        return {
            "images_seen": 768, "parameters": 1000, "skipped_steps": 2, "epochs": 3, "last_checkpoint": "/last",
            "spent_budget": self.outcome == "spent",
        }  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    plan = Plan.from_parameters(
        {
            "run_name": "one", "store": str(tmp_path / "store"), "tracking_uri": "sqlite:////none",
            "study_storage": str(tmp_path / "journal.log"), "trials": 1, "trial_epochs": 6, "first_rung": 2, "held_out_every": 1, "price_per_hour": 2.0,
        }
    )  # fmt: skip
    create_study(plan.study_storage, plan.run_name, plan.search)
    run = Run(plan)
    run.__dict__["tracker"] = Heard()
    monkeypatch.setattr(room, "Trainer", FakeTrainer)
    monkeypatch.setattr(room, "quick_scores", lambda *_, **__: Scores("fid_classifier", 12.5, 0.1, 0.25, 0.01, 64))
    return run


@pytest.mark.parametrize(
    ("outcome", "state", "fid", "problem"),
    [
        ("spent", "COMPLETE", 12.5, None),
        ("stopped", "PRUNED", None, None),
        (Refused("rollbacks: 3 were not enough"), "FAIL", None, "rollbacks: 3 were not enough"),
    ],
)
def test_a_trial_is_told_as_it_ended(run, digits, monkeypatch, outcome, state, fid, problem):
    monkeypatch.setattr(FakeTrainer, "outcome", outcome)
    study = open_study(run.plan.study_storage, run.name, run.plan.search)
    world = World(torch.device("cpu"))
    run_trial(run, study.ask(), SimpleNamespace(data=digits), world, Quiet())
    row = trial_row(study.trials[0])
    assert (row["state"], row["fid"], row["problem"]) == (state, fid, problem)
    assert row["kid"] == (0.25 if fid else None)
    assert (row["checkpoint"], row["images_seen"]) == ((None, None) if problem else ("/last", 768))
    assert study.trials[0].values == ([12.5] if fid else None)
    tracked = run.tracker
    assert (tracked.name, tracked.tags["kind"]) == ("trial 0", "trial")
    said = {"COMPLETE": "complete", "PRUNED": "pruned after 3 epochs", "FAIL": None}
    assert tracked.tags.get("outcome") == said[state]
    scores = {name: value for name, value in tracked.told.items() if not name.startswith("cost_")}
    assert scores == ({"fid_classifier": 12.5, "kid_classifier": 0.25, "parameters": 1000} if fid else {})
    assert 1000 <= row["seconds"] < 1100, "with those of the processes before"
    assert (row["joules"], row["devices"]) == (None, 1)
    assert row["budget_images"] == (None if problem else 1536)
    if not problem:
        assert tracked.told["cost_device_hours"] == pytest.approx(row["seconds"] / 3600, abs=0.01)
        assert tracked.told["cost_money"] == pytest.approx(2 * row["seconds"] / 3600, abs=0.01)
        assert tracked.told["cost_energy_kwh"] is None
    assert tracked.params["n"] == run.plan.search.score_n
    assert tracked.ended_by is (Refused if problem else None), "a pruned trial is no failure"
    model, settings, data, out = FakeTrainer.given
    assert (model.channel_mults, settings.lr, settings.epochs) == (row["channel_mults"], row["lr"], 6)
    assert data is digits and out == run.trial(0)
    assert FakeTrainer.initial.args == (run.initial,), "all trials begin with what the run keeps"


def test_one_that_is_cut_where_it_stands_is_told_to_mlflow_as_pruned(run, digits, monkeypatch):
    study = open_study(run.plan.study_storage, run.name, run.plan.search)
    trial = study.ask()
    trial.set_user_attr(room.STANDS, 2)
    monkeypatch.setattr(room, "goes_on", lambda trial: False)
    run_trial(run, trial, SimpleNamespace(data=digits), World(torch.device("cpu")), Quiet())
    assert study.trials[0].state.name == "PRUNED"
    assert (run.tracker.name, run.tracker.tags["outcome"]) == ("trial 0", "pruned after 2 epochs")


def one_trial(run, digits, require=lambda: None):
    study = open_study(run.plan.study_storage, run.name, run.plan.search)
    run_trial(run, study.ask(), SimpleNamespace(data=digits), World(torch.device("cpu")), Quiet(), require)


def states(run):
    return [trial.state.name for trial in open_study(run.plan.study_storage, run.name, run.plan.search).trials]


def test_a_fault_fails_its_trial_and_is_raised(run, digits, monkeypatch):
    """No other worker is to take up what would end it as well."""
    monkeypatch.setattr(FakeTrainer, "outcome", torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        one_trial(run, digits)
    row = trial_row(open_study(run.plan.study_storage, run.name, run.plan.search).trials[0])
    assert (row["state"], row["problem"]) == ("FAIL", "failed unexpectedly: OutOfMemoryError: CUDA out of memory")


@pytest.mark.parametrize("trouble", [Outage("away"), OSError(28, "no room"), WrongInput("store: no")])
def test_what_is_no_fault_of_the_trial_s_leaves_it_to_be_carried_on(run, digits, monkeypatch, trouble):
    monkeypatch.setattr(FakeTrainer, "outcome", trouble)
    with pytest.raises(type(trouble)):
        one_trial(run, digits)
    assert states(run) == ["RUNNING"]


@pytest.mark.parametrize(("asked", "outcome"), [(0, "spent"), (1, "spent"), (0, ValueError("a fault"))])
def test_one_that_another_worker_has_taken_over_is_that_one_s_to_save_and_to_tell(
    run, digits, monkeypatch, asked, outcome
):
    """It is asked before each checkpoint, and before the study is told."""
    monkeypatch.setattr(FakeTrainer, "outcome", outcome)
    times = []

    def require():
        times.append(1)
        if len(times) > asked:
            raise Outage("trial 0 was taken over")

    with pytest.raises(Outage, match="taken over"):
        one_trial(run, digits, require)
    assert states(run) == ["RUNNING"]
    assert len(times) == asked + 1
