"""One trial, told to its study as it ended."""

from types import SimpleNamespace

import pytest
import torch

from ddpm.errors import Refused
from ddpm.evaluation.measure import Scores
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search import trial as room
from ddpm.search.study import create_study, open_study
from ddpm.search.trial import Pruner, run_trial, trial_row
from ddpm.tracking import NoTrackedRun
from ddpm.training.world import World


class Heard(NoTrackedRun):
    """An MLflow run that remembers the figures it is told, and the exception that ended it."""

    def __init__(self):
        self.told, self.ended_by = {}, None

    def child(self, name, params, tags, training):
        assert training, "what it records must not end it"
        self.name, self.params, self.tags = name, params, tags
        return self

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
    spent_before = BEFORE

    def __init__(self, model, settings, data, out, world, initial):
        type(self).given = (model, settings, data, out)
        type(self).initial = initial

    def run(self, observer, progress, task):
        if self.outcome == "refused":
            raise Refused("rollbacks: 3 were not enough")
        return {
            "images_seen": 768, "parameters": 1000, "skipped_steps": 2, "epochs": 3, "last_checkpoint": "/last",
            "spent_budget": self.outcome == "spent",
        }  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    plan = Plan.from_parameters(
        {
            "run_name": "one", "store": str(tmp_path / "store"), "tracking_uri": "sqlite:////none",
            "study_storage": str(tmp_path / "journal.log"), "trials": 1, "trial_epochs": 6, "prune_every": 2, "held_out_every": 1, "price_per_hour": 2.0,
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
        ("refused", "FAIL", None, "rollbacks: 3 were not enough"),
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
    scores = {name: value for name, value in tracked.told.items() if not name.startswith("cost_")}
    assert scores == ({"fid_classifier": 12.5, "kid_classifier": 0.25, "parameters": 1000} if fid else {})
    assert 1000 <= row["seconds"] < 1100, "with those of the processes before"
    assert (row["joules"], row["devices"]) == (None, 1)
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


def test_a_trial_is_scored_on_the_way_and_a_hopeless_one_ends(run):
    recorder = SimpleNamespace(looked=lambda *_: False, metrics=lambda values, _: told.append(values))
    told, reported = [], []
    trial = SimpleNamespace(report=lambda fid, epoch: reported.append(epoch), should_prune=lambda: reported[-1] == 4)
    pruner = Pruner(trial, run.plan, None, recorder, Quiet(), "its score")
    assert [pruner.looked(epoch, 100 * epoch, None) for epoch in range(1, 7)] == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]
    assert reported == [2, 4], "every second epoch, but not at the end, where it is scored anyway"
    assert told == [{"interim_fid_classifier": 12.5, "interim_kid_classifier": 0.25}] * 2
