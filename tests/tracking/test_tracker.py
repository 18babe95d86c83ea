"""Runs in MLflow, as a person finds them there."""

import subprocess
import sys

import numpy as np
import pytest

from ddpm.errors import Outage, WrongInput
from ddpm.tracking import Tracker, open_client


def runs(place, experiment="digits"):
    client = open_client(place)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_a_run_with_trials(place, tmp_path):
    tracker = Tracker(place, "run-1", "digits")
    parent = tracker.open({"lr": 0.001, "channel_mults": "1-2-4"})
    with tracker.child("trial 0", {"lr": 0.002}, {"kind": "trial"}) as run:
        run.metrics({"loss": 0.5, "fid": None}, 64)
        run.metrics({"loss": 0.4}, 128)
        run.picture("samples", np.zeros((8, 8, 3), dtype=np.uint8), step=64)
        run.picture("noising", np.zeros((8, 8, 3), dtype=np.uint8))
        run.file("report.json", b"{}")
        run.dataset(
            {"name": "digits", "digest": "d" * 64, "uri": "/store/datasets/digits/d.json", "n": 3, "held_out": 1}
        )
    client = open_client(place)
    trial = client.get_run(run.run_id)
    assert trial.info.status == "FINISHED"
    assert trial.data.tags["mlflow.parentRunId"] == parent
    assert trial.data.params == {"lr": "0.002"}
    assert [(m.step, m.value) for m in client.get_metric_history(run.run_id, "loss")] == [(64, 0.5), (128, 0.4)]
    assert "fid" not in trial.data.metrics
    files = {file.path for file in client.list_artifacts(run.run_id)}
    assert {"images", "noising.png", "report.json"} <= files
    entered = trial.inputs.dataset_inputs[0].dataset
    assert (entered.name, entered.digest) == ("digits", "d" * 36)
    assert trial.data.tags["dataset_digest"] == "d" * 64
    whole = client.get_run(parent)
    assert whole.data.params == {"lr": "0.001", "channel_mults": "1-2-4"}
    assert len(whole.data.tags["git_commit"]) >= 7
    assert whole.data.tags["version.torch"]
    assert whole.info.artifact_uri.startswith((tmp_path / "deep" / "artifacts").as_uri())


def test_the_same_names_again_continue_the_same_runs(place):
    for attempt in range(2):
        tracker = Tracker(place, "run-1", "digits")
        tracker.open({"lr": 0.001})
        with tracker.child("trial 0", {"lr": 0.002}, {}) as run:
            run.metrics({"loss": 1.0}, attempt)
        with tracker.parent() as parent:
            parent.metrics({"fid": 1.0}, 0)
    assert len(runs(place)) == 2
    other = Tracker(place, "run-2", "digits")
    other.open({"lr": 0.5})
    assert len(runs(place)) == 3


def test_what_a_resumed_run_is_told_again_is_there_once(place):
    """A killed training goes on from its last checkpoint, and tells once more what it told after it."""
    black = np.zeros((8, 8, 3), dtype=np.uint8)
    for steps in (range(1, 4), range(2, 6)):
        tracker = Tracker(place, "run-1", "digits")
        tracker.open({})
        with tracker.child("trial 0", {}, {}) as run:
            for step in steps:
                run.metrics({"loss": 1 / step}, step)
                run.picture("samples", black, step)
        with tracker.parent() as parent:
            parent.metrics({"fid": 1.0}, 0)
    client = open_client(place)
    assert [(m.step, m.value) for m in client.get_metric_history(run.run_id, "loss")] == [
        (s, 1 / s) for s in range(1, 6)
    ]
    assert len(client.get_metric_history(parent.run_id, "fid")) == 1
    files = [file.path for file in client.list_artifacts(run.run_id, "images") if file.path.endswith(".png")]
    assert len(files) == 5


def test_failing_and_stopping_are_told_apart(place):
    tracker = Tracker(place, "run-1", "digits")
    ids = {}
    for name, problem in (("failed", RuntimeError), ("stopped", KeyboardInterrupt), ("ended", SystemExit)):
        with pytest.raises(problem), tracker.child(name, {}, {}) as run:
            ids[name] = run.run_id
            run.metrics({"loss": 1.0}, 0)
            raise problem
    client = open_client(place)
    assert {name: client.get_run(run_id).info.status for name, run_id in ids.items()} == {
        "failed": "FAILED", "stopped": "KILLED", "ended": "KILLED",
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt), tracker.child("last", {}, {}):
        raise KeyboardInterrupt
    parent = tracker.open({})
    assert client.get_run(parent).info.status == "KILLED", "nobody comes after to say so of the whole"
    with tracker.child("last", {}, {}):
        assert client.get_run(parent).info.status == "RUNNING", "it is carried on"
    assert client.get_run(ids["failed"]).data.metrics == {"loss": 1.0}, "what waited was sent"


def test_more_params_and_metrics_than_one_batch_takes(place):
    tracker = Tracker(place, "run-1", "digits")
    run_id = tracker.open({f"p{i}": i for i in range(230)})
    with tracker.parent() as run:
        for step in range(1200):
            run.metrics({"loss": step}, step)
    client = open_client(place)
    assert len(client.get_run(run_id).data.params) == 230
    assert len(client.get_metric_history(run_id, "loss")) == 1200
    assert client.get_run(run_id).info.status == "RUNNING", "the parent ends when it is told to"


def test_processes_that_open_a_fresh_database_at_once(tmp_path):
    place = f"sqlite:///{tmp_path}/fresh/mlflow.db"
    code = "import sys; from ddpm.tracking import Tracker; print(Tracker(sys.argv[1], sys.argv[2], 'digits').open({'a': 1}))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, place, f"run-{number}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for number in range(3)
    ]
    for process in started:
        _, problems = process.communicate(timeout=120)
        assert process.returncode == 0, problems.decode()[-2000:]
    assert len(runs(place)) == 3


@pytest.mark.parametrize("uri", ["mlflow.db", "http://127.0.0.1:9", "gopher://x", "mysql+nodriver://u@h/d"])
def test_a_place_that_cannot_be_used_is_one_line(uri, monkeypatch):
    monkeypatch.setattr("ddpm.tracking.client._answered", set())  # none of them ever did
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    kind = Outage if uri.startswith("http:") else WrongInput  # nobody answers there: that may pass
    with pytest.raises(kind, match="tracking_uri: ") as problem:
        open_client(uri)
    assert "\n" not in str(problem.value)


def test_a_second_set_s_records_of_the_whole_stand_beside_the_first_s(place):
    tracker = Tracker(place, "r", "beside")
    other = tracker.beside("transfer")
    for one, fid in ((tracker, 1.0), (other, 2.0)):
        one.open({"lr": fid})
        with one.parent() as run:
            run.metrics({"fid": fid}, 0)
            run.tag("aliases", str(fid))
            run.file("report.json", b"{}")
            run.flush()
            assert run.history("fid") == [(0, fid)]
        with one.child("transfer" if one is other else "final", {"lr": fid}, {}) as child:
            child.metrics({"fid": fid}, 0)
    assert other.open({}) == tracker.open({})
    found = open_client(tracker.tracking_uri)
    whole = found.get_run(tracker.open({})).data
    assert whole.metrics == {"fid": 1.0, "transfer_fid": 2.0}
    assert (whole.params["lr"], whole.params["transfer_lr"]) == ("1.0", "2.0")
    assert (whole.tags["aliases"], whole.tags["transfer_aliases"]) == ("1.0", "2.0")
    assert {file.path for file in found.list_artifacts(tracker.open({}))} == {"report.json", "transfer_report.json"}
    assert found.get_run(child.run_id).data.metrics == {"fid": 2.0}, "a nested run has its own name for that"


def test_a_training_whose_run_is_deleted_meanwhile_goes_on_to_its_end(place, capsys):
    """As somebody does in MLflow's UI."""
    with Tracker(place, "run-1", "digits").child("trial 0", {}, {}) as run:
        run.metrics({"loss": 1.0}, 0)
    with Tracker(place, "run-1", "digits").child("trial 0", {}, {}, training=True) as run:
        open_client(place).delete_run(run.run_id)
        run.metrics({"loss": 0.5}, 1)
        run.flush()
    said = capsys.readouterr()
    assert "MLflow did not take a run's end" in said.out + said.err


def test_a_server_that_fails_ends_no_training(place, monkeypatch, capsys):
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("DDPM_PATIENCE", "0")
    with Tracker(place, "run-1", "digits").child("trial 0", {}, {}) as run:
        run.metrics({"loss": 1.0}, 0)

    def broken(*arguments, **named):
        raise MlflowException("API request to endpoint /api failed with error code 500 != 200")

    with Tracker(place, "run-1", "digits").child("trial 0", {}, {}, training=True) as run:
        for name in ("get_metric_history", "log_batch", "set_terminated"):
            monkeypatch.setattr(run.client._inner, name, broken)
        run.metrics({"loss": 0.5}, 1)
        run.flush()
    said = capsys.readouterr()
    assert "the training goes on" in said.out + said.err
    assert "records of run" in said.out + said.err, "and what was lost is said"


def test_a_run_that_mlflow_does_not_take_is_no_fault_of_what_is_recorded_in_it(place, monkeypatch):
    """An Outage: a trial is carried on, and not failed."""
    from mlflow.exceptions import MlflowException

    tracker = Tracker(place, "run-1", "digits")
    tracker.open({})

    def refused(*arguments, **named):
        raise MlflowException("PERMISSION_DENIED: no experiment of yours")

    monkeypatch.setattr(tracker._open()._inner, "create_run", refused)
    with pytest.raises(Outage, match=r"MLflow does not take trial 0 of run run-1 \(PERMISSION_DENIED: .*\); mend that"):
        tracker.child("trial 0", {}, {}, training=True)
