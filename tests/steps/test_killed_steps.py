"""Whatever step is stopped or killed, its next attempt finds all that was done, and nothing is there twice: as SIGTERM comes
and a second later SIGKILL, with nothing begun in between, or SIGKILL alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm.attempts import lost
from ddpm.run import Run
from ddpm.run_page.close import close_run
from ddpm.search.study import open_study
from ddpm.tracking import open_client

STEPS = ("configure", "ingest", "search-0", "train", "evaluate", "register", "promote")


@pytest.fixture(scope="module")
def tried(tmp_path_factory, empty_database):
    """The run, and each step's attempts."""
    folder = tmp_path_factory.mktemp("killed")
    shutil.copy(empty_database, folder / "m.db")
    parameters = {
        "run_name": "killed", "store": str(folder / "store"), "tracking_uri": f"sqlite:///{folder}/m.db",
        "study_storage": str(folder / "journal"), "source": "digits", "dataset_name": "digits", "image_size": 8,
        "extractor": "classifier", "base_channels": 8, "blocks": 1, "attention_resolution": 4, "batch_size": 64,
        "mults_choices": "1-2", "founding_lr": 1e-3, "trials": 1, "trial_epochs": 1, "epochs": 3, "held_out_every": 1,
        "score_n": 64, "score_steps": 2, "evaluate_n": 64, "ema_half_lives": "500", "sampling_steps": 2, "noise_gate": 1,
        "model_name": "killed", "checkpoint_seconds": 1e-6,
    }  # fmt: skip
    program = Path(__file__).with_name("killed_steps.py")
    done = subprocess.run([sys.executable, program, json.dumps(parameters), folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    attempts = json.loads(done.stdout)
    ended = {step: [one["ended"] for one in found] for step, found in attempts.items()}
    assert ended == {step: [143, -9, *([-9] if step == "train" else []), 0] for step in STEPS}, done.stderr
    return Run.named("killed", parameters["store"]), attempts


@pytest.fixture
def run(tried):
    return tried[0]


def test_it_ends_well_and_each_attempt_is_accounted_for(run):
    assert close_run(run, "session", True)["state"] == "SUCCEEDED"
    assert run.attempts("session").failures() == []
    attempts = {step: [one["seconds"] for one in lost(run.folder) if one["key"] == step] for step in STEPS}
    for step, seconds in attempts.items():
        without_a_word = [one is None for one in seconds]
        assert without_a_word == [False, True, *([True] if step == "train" else [])], step


def test_at_sigterm_nothing_long_is_begun(tried):
    """There is a second: for a line that says how it ended, the leases that are let go, and word to MLflow."""
    _, attempts = tried
    for step in STEPS:
        noted = attempts[step][0]["noted"]
        assert [one for one in noted if "computes" in one] == [], f"{step}: a network is asked for something"
        written = [(one["writes"], one["bytes"]) for one in noted if "writes" in one]
        leases = [("leases/trial-000000/000001.json", 18), ("leases/worker-0/000001.json", 18)]
        assert written[:-1] == (leases if step == "search-0" else []), step
        ((key, size),) = written[-1:]
        assert key == f"attempts/session/{step}.json" and size < 1000
        assert {one["asks"] for one in noted if "asks" in one} <= {"log_batch", "set_terminated"}, step


def test_the_last_periodic_checkpoint_counts(tried):
    """The training goes on from the trial's end, and is stopped in the midst of its second epoch: the first one's end is
    where the next attempt begins."""
    begun = [[note["from"] for note in one["noted"] if "from" in note] for one in tried[1]["train"]]
    assert begun[:2] == [[25], [50]]


def test_nothing_is_there_twice(run):
    client = open_client(run.plan.tracking_uri)
    names = [one.info.run_name for one in client.search_runs([client.get_experiment_by_name("digits").experiment_id])]
    assert sorted(names) == ["final", "killed", "trial 0"]
    assert [one.version for one in client.search_model_versions("name='killed'")] == [1]
    study = open_study(run.plan.study_storage, "killed", run.plan.search)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]
    assert [len([*run.store.list(below)]) for below in ("datasets/digits/", "registry/killed/")] == [2, 1]


def test_what_was_trained_is_not_trained_again(run):
    facts = run.facts("train")
    assert facts["images_seen"] == 3 * 1600 and facts["trials"][0]["images_seen"] == 1600
