"""Whatever step is stopped or killed, its next attempt finds all that was done, and nothing is there twice."""

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
def run(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("killed")
    shutil.copy(empty_database, folder / "m.db")
    parameters = {
        "run_name": "killed", "store": str(folder / "store"), "tracking_uri": f"sqlite:///{folder}/m.db",
        "study_storage": str(folder / "journal"), "source": "digits", "dataset_name": "digits", "image_size": 8,
        "extractor": "classifier", "base_channels": 8, "blocks": 1, "attention_resolution": 4, "batch_size": 64,
        "mults_choices": "1-2", "founding_lr": 1e-3, "trials": 1, "trial_epochs": 1, "epochs": 2, "held_out_every": 1,
        "score_n": 64, "score_steps": 2, "evaluate_n": 64, "ema_half_lives": "500", "sampling_steps": 2, "noise_gate": 1,
        "model_name": "killed",
    }  # fmt: skip
    program = Path(__file__).with_name("killed_steps.py")
    done = subprocess.run([sys.executable, program, json.dumps(parameters), folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert ended == {step: [143, -9, 0] for step in STEPS}, done.stderr
    return Run.named("killed", parameters["store"])


def test_it_ends_well_and_each_attempt_is_accounted_for(run):
    assert close_run(run, "session", True)["state"] == "SUCCEEDED"
    assert run.attempts("session").failures() == []
    attempts = {step: [one["seconds"] for one in lost(run.folder) if one["key"] == step] for step in STEPS}
    for step, seconds in attempts.items():
        assert sorted(one is None for one in seconds) == [False, True], f"{step}: stopped, and killed without a word"


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
    assert facts["images_seen"] == 2 * 1600 and facts["trials"][0]["images_seen"] == 1600
