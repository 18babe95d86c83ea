"""A run that somebody else has begun in MLflow, as Kubeflow's plugin does: it is adopted, and nothing is there twice."""

import pytest

from ddpm.tracking import Tracker, open_client, pipeline_tags

SESSION = "5f9f8a2e-kfp"


@pytest.fixture
def plugin(place, monkeypatch):
    """Begins what the plugin does for a run of the pipeline, and says so as a task's environment does; the whole's id."""
    client = open_client(place)

    def begin(experiment="Default", session=SESSION):
        known = client.get_experiment_by_name(experiment)
        where = known.experiment_id if known else client.create_experiment(experiment)
        tags = {"kfp.pipeline_run_id": session, "kfp.pipeline_run_url": f"https://kfp/#/runs/details/{session}"}
        whole = client.create_run(where, tags=tags, run_name="a display name").info.run_id
        loop = client.create_run(where, tags={"mlflow.parentRunId": whole}, run_name="workers").info.run_id
        task = client.create_run(where, tags={"mlflow.parentRunId": loop}, run_name="search").info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", task)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", where)
        monkeypatch.setenv("KFP_POD_NAME", "ddpm-x-search")
        return whole

    return begin


def whole_runs(place):
    """Those that no other run is above."""
    client = open_client(place)
    everywhere = [one.experiment_id for one in client.search_experiments()]
    return [run for run in client.search_runs(everywhere) if "mlflow.parentRunId" not in run.data.tags]


def tracked(place, known=""):
    return Tracker(place, "run-1", "digits", known)


def test_the_run_of_the_whole_is_adopted(place, plugin):
    whole = plugin()
    tracker = tracked(place)
    assert tracker.open({"lr": 0.001}, pipeline_tags(SESSION)) == whole
    with tracker.child("trial 0", {"lr": 0.002}, {"kind": "trial"}) as run:
        run.metrics({"loss": 0.5}, 64)
    client = open_client(place)
    found = client.get_run(whole)
    assert found.data.params == {"lr": "0.001"}
    assert len(found.data.tags["git_commit"]) >= 7
    assert client.get_run(run.run_id).data.tags["mlflow.parentRunId"] == whole
    assert [one.info.run_id for one in whole_runs(place)] == [whole]
    assert tracker.pipeline() == {
        "kfp.pipeline_run_id": SESSION,
        "kfp.pipeline_run_url": f"https://kfp/#/runs/details/{SESSION}",
    }
    assert client.get_experiment_by_name("digits") is None, "nor an experiment that would be empty"


def test_it_is_found_again_by_another_task_and_by_who_has_no_such_environment(place, plugin, monkeypatch):
    whole = plugin("team")
    assert tracked(place).open({"lr": 0.001}) == whole
    assert tracked(place).open({}) == whole, "the next task"
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name)
    tracker = tracked(place, known=whole)
    assert tracker.open({}) == whole, "a page that is made on a laptop"
    assert tracker.run_page() == f"#/experiments/{open_client(place).get_run(whole).info.experiment_id}/runs/{whole}"
    assert len(whole_runs(place)) == 1


@pytest.mark.parametrize("known", [True, False], ids=["remembered", "by its name"])
def test_a_run_that_is_carried_on_stays_where_it_was(place, plugin, known):
    """A second run of the pipeline: the plugin begins another whole, which says where its records are."""
    first = tracked(place).open({"lr": 0.001})
    other = plugin()
    assert tracked(place, first if known else "").open({"lr": 0.001}, pipeline_tags(SESSION)) == first
    client = open_client(place)
    assert client.get_run(other).data.tags["ddpm.recorded_in"] == first
    assert client.get_run(first).data.tags["kfp.pipeline_run_id"] == SESSION, "the one that works on it now"
    with tracked(place, first if known else "").child("trial 0", {}, {}) as run:
        assert client.get_run(run.run_id).data.tags["mlflow.parentRunId"] == first
    assert {one.info.run_id for one in whole_runs(place)} == {first, other}


def test_one_that_is_another_run_s_is_left_alone(place, plugin, capsys):
    whole = plugin()
    assert Tracker(place, "run-0", "digits").open({"lr": 1.0}) == whole
    assert tracked(place).open({"lr": 2.0}) != whole
    assert "that run is run run-0's; run run-1 is recorded in one of its own" in capsys.readouterr().err
    assert open_client(place).get_run(whole).data.params == {"lr": "1.0"}


@pytest.mark.parametrize("named", ["0" * 32, "no id at all"])
def test_one_that_is_not_there_is_said_and_another_begun(place, monkeypatch, capsys, named):
    monkeypatch.setenv("MLFLOW_RUN_ID", named)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "4711")
    run = tracked(place).open({"lr": 2.0})
    said = capsys.readouterr().err
    assert f"has no run {named}; what is done is recorded in a run of its own" in said
    assert "has no experiment 4711; the data set's is taken" in said
    client = open_client(place)
    assert client.get_run(run).info.experiment_id == client.get_experiment_by_name("digits").experiment_id


def test_one_that_was_deleted_is_no_more(place, plugin, capsys):
    """Nor are those that were nested in it."""
    whole = plugin()
    tracked(place).open({"lr": 0.001})
    open_client(place).delete_run(whole)
    other = tracked(place, whole).open({"lr": 0.001})
    assert [run.info.run_id for run in whole_runs(place)] == [other]
    assert f"has no run {whole}; what is done is recorded in a run of its own" in capsys.readouterr().err


def test_an_experiment_by_itself_is_kept_to(place, monkeypatch):
    client = open_client(place)
    where = client.create_experiment("team")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", where)
    assert client.get_run(tracked(place).open({"lr": 2.0})).info.experiment_id == where


def test_a_run_says_which_of_kubeflow_s_it_is(monkeypatch):
    assert pipeline_tags(SESSION) == {}, "no server runs it"
    monkeypatch.setenv("KFP_POD_NAME", "ddpm-x")
    assert pipeline_tags(SESSION) == {"kfp.pipeline_run_id": SESSION}
    monkeypatch.setenv("DDPM_KFP_URL", "https://kubeflow.example/pipeline/")
    assert (
        pipeline_tags(SESSION)["kfp.pipeline_run_url"] == f"https://kubeflow.example/pipeline/#/runs/details/{SESSION}"
    )
