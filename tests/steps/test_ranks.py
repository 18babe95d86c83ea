"""A step in several processes, of one container and of two nodes: under a real torchrun, on the CPU."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from node_processes import NodeProcesses
from trainer_stub import own_pod, runtime

from ddpm.errors import WrongInput
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.steps import ingest, ranks, search, train, trainjob
from ddpm.steps.configure import configure
from ddpm.steps.trainjob import Nodes
from ddpm.tracking import open_client

# A step: each rank leaves a file, and ends as it is told.
STEP = """
import os, pathlib, signal, sys, time

def in_pipeline(folder, *, ends):
    mine = pathlib.Path(folder, os.environ["RANK"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mine.write_text(os.environ["WORLD_SIZE"])
    try:
        if ends == "waits" or (ends == "refused" and mine.name == "1"):
            time.sleep(300)
        if ends == "refused":
            sys.exit(3)
    except SystemExit as ended:
        mine.write_text(str(ended.code))
        raise
"""


@pytest.fixture
def step(tmp_path, monkeypatch):
    """The name of a module whose `in_pipeline` torchrun's processes find."""
    (tmp_path / "a_step.py").write_text(STEP)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "left").mkdir()
    return "a_step"


def left(folder):
    return {file.name: file.read_text() for file in sorted((folder / "left").iterdir())}


def test_all_ranks_do_the_step_and_its_status_is_rank_0s(step, tmp_path, capfd):
    assert ranks.run_in_ranks(2, step, [str(tmp_path / "left")], {"ends": "well"}) == 0
    assert left(tmp_path) == {"0": "2", "1": "2"}
    assert ranks.run_in_ranks(2, step, [str(tmp_path / "left")], {"ends": "refused"}) == 3, "torchrun's own is 1"
    assert left(tmp_path)["0"] == "3", "and a rank that waits for it has been ended"


def test_who_ends_the_task_ends_its_ranks(step, tmp_path):
    code = "import sys; from ddpm.steps.ranks import run_in_ranks; sys.exit(run_in_ranks(2, sys.argv[1], [sys.argv[2]], {'ends': 'waits'}))"
    task = subprocess.Popen([sys.executable, "-c", code, step, tmp_path / "left"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while left(tmp_path) != {"0": "2", "1": "2"}:
        assert task.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    task.send_signal(signal.SIGTERM)
    assert task.wait(timeout=60) == 143
    assert left(tmp_path) == {"0": "143", "1": "143"}, "each was left the time to end as it does"


@pytest.mark.parametrize("told", ["two", "0", "-1", "65", "1.5"])
def test_no_number_of_processes_is_wrong_input(monkeypatch, told):
    monkeypatch.setenv(ranks.VARIABLE, told)
    with pytest.raises(WrongInput, match="DDPM_PROCESSES: '"):
        ranks.processes()


def test_a_batch_that_search_or_final_training_cannot_share_is_refused_before_the_search(monkeypatch):
    places = {"run_name": "a", "store": "/a", "tracking_uri": "http://127.0.0.1:1", "study_storage": "/b"}
    ranks.require_shared([64, 65])
    monkeypatch.setenv(ranks.TRAINING, "16")
    ranks.require_shared([64, 128])
    with pytest.raises(WrongInput, match="batch_size: 65 pictures cannot be shared by the 16 processes of the final"):
        ranks.require_shared([64, 65])
    with pytest.raises(WrongInput, match="batch_size: 24 pictures"):
        configure({**places, "batch_size": 64, "batch_choices": "64 24"}, Quiet())
    monkeypatch.setenv(ranks.SEARCHING, "6")
    with pytest.raises(WrongInput) as problem:
        ranks.require_shared([96, 64])
    assert str(problem.value) == (
        "batch_size: 64 pictures cannot be shared by the 6 processes of each search worker; give a multiple of 48"
    )
    with pytest.raises(WrongInput, match="by the 6 processes of each search worker and the 16 processes of the final"):
        ranks.require_shared([50])
    monkeypatch.setenv(ranks.TRAINING, "many")
    with pytest.raises(WrongInput, match="DDPM_TRAINING_PROCESSES: 'many' will not do"):
        ranks.require_shared([64])


class Told:
    """A world whose rank 0 has no trial to train, and says so."""

    leads = False

    def __init__(self):
        self.asked = 0

    def broadcast(self, value):
        self.asked += 1


@pytest.fixture(scope="module")
def searched(tmp_path_factory, empty_database):
    """A run up to its final training, and the paths of what its tasks have written."""
    folder = tmp_path_factory.mktemp("ranks")
    shutil.copy(empty_database, folder / "m.db")
    plan = Plan.from_parameters({
        "run_name": "ranks", "store": str(folder / "store"), "tracking_uri": f"sqlite:///{folder}/m.db",
        "study_storage": str(folder / "journal"), "source": "digits", "dataset_name": "digits", "image_size": 8,
        "extractor": "classifier", "base_channels": 8, "blocks": 1, "attention_resolution": 4, "batch_size": 64,
        "mults_choices": "1-2", "founding_lr": 1e-3, "trials": 1, "trial_epochs": 1, "epochs": 2, "held_out_every": 1,
        "score_n": 64, "score_steps": 2, "ema_half_lives": "500", "sampling_steps": 2,
    })  # fmt: skip
    run = configure(plan.parameters(), Quiet(), "session")
    paths = {name: str(folder / f"{name}.json") for name in ("plan", "dataset", "trials", "checkpoint")}
    Path(paths["plan"]).write_text(json.dumps({"plan": json.loads(run.plan.to_json()), "session": "session"}))
    before = signal.getsignal(signal.SIGTERM)
    ingest.in_pipeline(paths["plan"], output=paths["dataset"])
    search.in_pipeline(paths["plan"], paths["dataset"], worker=0, output=paths["trials"])
    signal.signal(signal.SIGTERM, before)
    return run, paths


def test_without_a_trial_a_rank_beside_rank_0_is_done(searched):
    run, paths = searched
    world = Told()
    search.train_along(run, json.loads(Path(paths["dataset"]).read_text()), world)
    assert world.asked == 1


def trained(searched):
    """The facts of its final training, from nothing."""
    run, paths = searched
    shutil.rmtree(run.final, ignore_errors=True)
    run.folder.delete("train.json")
    page = Path(paths["checkpoint"]).with_name("study.html")
    page.unlink(missing_ok=True)
    train.in_pipeline(paths["plan"], paths["dataset"], study=str(page), output=paths["checkpoint"])
    assert page.read_bytes() == run.folder.read("study.html"), "the task has it, wherever it was made"
    assert run.attempts("session").failures() == []
    client = open_client(run.plan.tracking_uri)
    names = [one.info.run_name for one in client.search_runs([client.get_experiment_by_name("digits").experiment_id])]
    assert sorted(names) == ["final", "ranks", "trial 0"], "of several processes one alone records"
    facts = json.loads(Path(paths["checkpoint"]).read_text())
    assert run.facts("train") == {**facts, "session": "session"}
    return facts


@pytest.fixture(scope="module")
def in_one_container(searched, tmp_path_factory):
    """The facts of a training in two processes, and which of them have imported an extension."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "witness.py").write_text(
        f"import os, pathlib\npathlib.Path({str(folder)!r}, 'rank ' + os.environ['RANK']).touch()\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("DDPM_EXTENSIONS", "witness")
        patch.setenv(ranks.VARIABLE, "2")
        return trained(searched), sorted(path.name for path in folder.glob("rank *"))


def test_a_training_in_as_many_processes_as_it_is_told(searched, in_one_container):
    """Each rank imports a witness. What comes of it is one training: rank 0 alone keeps and records."""
    facts, seen = in_one_container
    assert seen == ["rank 0", "rank 1"]
    assert facts["images_seen"] >= 2 * 1600 and facts["checkpoint"].startswith(searched[0].final)
    assert facts["devices"] == 2 and facts["waited"] > 0 and facts["at_work"] <= facts["seconds"]


def test_two_nodes_give_what_two_processes_of_one_node_give(searched, in_one_container, kubernetes, monkeypatch, capfd):
    """The TrainJob's own command, really run as two torchruns of one process each: the same facts, to the last digit."""
    processes = NodeProcesses()
    stub = kubernetes(runtime(), own_pod(env=[("DDPM_PROGRESS", "events")]), pods=processes)
    one_each = {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}
    nodes = Nodes(count=2, processes=1, threads=1, runtime="ddpm", seconds=600, resources=one_each, pod={})
    monkeypatch.setenv(trainjob.VARIABLE, nodes.to_json())
    before = signal.getsignal(signal.SIGTERM)
    try:
        facts = trained(searched)
    finally:
        processes.close()
        signal.signal(signal.SIGTERM, before)
    assert stub.jobs == {}
    assert '"task": "final training"' in capfd.readouterr().out, "the first node's progress is in the step's own log"
    measured = {"seconds", "at_work", "waited", "spent", "images_per_second"}  # what a clock says
    assert facts["at_work"] < facts["seconds"] and 0 < facts["waited"] < 2 * facts["seconds"]
    expected, _ = in_one_container
    assert set(facts) == set(expected)
    assert {name: facts[name] for name in facts if name not in measured} == {
        name: expected[name] for name in expected if name not in measured
    }
