"""A TrainJob that Kubernetes does not take, or that somebody has left; and what the ranks leave of their own trouble."""

import pytest
from trainer_stub import OWN_POD, own_pod, runtime
from trainjob_life import FACTS, killed, leaving

from ddpm.errors import Outage, Refused, WrongInput
from ddpm.steps.trainjob import end_left_over, rank, train_in_job


def test_an_outage_of_kubernetes_is_waited_out(kubernetes, run, nodes, wanted, told, capfd):
    def goes(stub, job):
        stub.away, stub.on_read = 2, leaving(run, facts=FACTS)

    kubernetes(on_read=goes)
    assert train_in_job(nodes, run, told, wanted) == FACTS
    assert "Kubernetes' API answers with status 503; waiting for up to 5 s" in capfd.readouterr().err


def test_a_quota_that_is_full_is_waited_out(kubernetes, run, nodes, wanted, told, capfd):
    kubernetes(on_read=leaving(run, facts=FACTS)).full = 2
    assert train_in_job(nodes, run, told, wanted) == FACTS
    said = capfd.readouterr().err
    assert "Kubernetes has no room for it: trainjobs.trainer.kubeflow.org" in said and "exceeded quota: ddpm" in said


def test_a_quota_that_stays_full_is_an_outage_and_says_nothing_of_rights(
    kubernetes, run, nodes, wanted, told, monkeypatch
):
    monkeypatch.setenv("DDPM_PATIENCE", "0")
    stub = kubernetes()
    stub.full = 1
    with pytest.raises(Outage, match="exceeded quota: ddpm, .*; the step carries on when it is tried again") as ended:
        train_in_job(nodes, run, told, wanted)
    assert "\n" not in str(ended.value) and "rights" not in str(ended.value) and stub.jobs == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"without": ("runtimePatches",)},
            'unknown field "spec.runtimePatches"; Kubeflow Trainer 2.2 or later is needed',
        ),
        ({"forbidden": ("trainjobs",)}, "trainjobs is forbidden: User cannot .* it; deploy/trainer has the rights"),
        ({"forbidden": ("pods",)}, "pods is forbidden"),
    ],
    ids=["an older Trainer", "no right to TrainJobs", "no right to pods"],
)
def test_what_kubernetes_refuses_is_one_line_and_no_attempt_mends_it(
    kubernetes, run, nodes, wanted, told, options, words
):
    stub = kubernetes(**options)
    with pytest.raises(WrongInput, match=words) as refused:
        train_in_job(nodes, run, told, wanted)
    assert "\n" not in str(refused.value) and stub.jobs == {}


def test_without_a_runtime_or_a_trainer_it_says_what_to_do(kubernetes, run, nodes, wanted, told):
    kubernetes(own_pod())
    with pytest.raises(WrongInput, match="specified trainingRuntime ddpm must be created before; .* deploy/trainer"):
        train_in_job(nodes, run, told, wanted)
    kubernetes(own_pod(), without="all")
    with pytest.raises(WrongInput, match="install Kubeflow Trainer 2.2 or later"):
        train_in_job(nodes, run, told, wanted)


def test_outside_of_a_task_s_pod_there_is_no_image_to_train_with(kubernetes, run, nodes, wanted, told, monkeypatch):
    kubernetes(runtime())
    with pytest.raises(WrongInput, match=f"namespace kubeflow has no pod '{OWN_POD}'"):
        train_in_job(nodes, run, told, wanted)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with pytest.raises(WrongInput, match="needs Kubernetes' API, and none is known here"):
        train_in_job(nodes, run, told, wanted)


def test_the_exit_task_ends_what_a_killed_step_has_left(kubernetes, run, nodes, wanted, told, monkeypatch):
    stub = kubernetes()
    assert end_left_over(run) == "", "without nodes there is nothing, and nobody is asked"
    assert stub.calls == []
    monkeypatch.setenv("DDPM_TRAINJOB", nodes.to_json())
    assert end_left_over(run) == ""
    killed(stub, run, nodes, wanted, told)
    assert end_left_over(run) == "" and stub.jobs, "of a step that is at work, another run's of this name, it is not"
    stub.pods[OWN_POD]["status"]["phase"] = "Failed"
    assert end_left_over(run).endswith("was left by a step that was killed; it is ended")
    assert stub.jobs == {}
    stub.forbidden = {"trainjobs"}
    assert "is left is not known: Kubernetes, asked to get trainjobs" in end_left_over(run)


def test_a_rank_s_own_words(run):
    with pytest.raises(SystemExit, match="3"):
        rank.leave(run.folder, "one", lambda: _raise(Refused("the guard turned back too often")))
    with pytest.raises(Refused, match="the guard turned back too often"):
        rank.outcome_of(run.folder, "one")
    with pytest.raises(ZeroDivisionError):
        rank.leave(run.folder, "two", lambda: 1 / 0)
    with pytest.raises(Outage, match="failed unexpectedly: ZeroDivisionError"):
        rank.outcome_of(run.folder, "two")
    rank.leave(run.folder, "three", lambda: FACTS)
    assert rank.outcome_of(run.folder, "three") == FACTS
    assert rank.outcome_of(run.folder, "four") is None


def _raise(problem):
    raise problem
