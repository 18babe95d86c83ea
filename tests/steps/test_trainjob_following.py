"""A TrainJob taken up, followed and ended by the step's own task, against an API that checks what it is given."""

import json
import signal

import pytest
from trainer_stub import OWN_POD, own_pod, runtime

from ddpm.errors import Outage, Refused, WrongInput
from ddpm.steps.trainjob import end_left_over, following, rank, train_in_job
from ddpm.steps.trainjob.manifest import OUTCOME

FACTS = {"checkpoint": "s3://bucket/final/checkpoint-1", "images_seen": 7}


def leaving(run, **found):
    """At a look: rank 0 has left this, and the TrainJob is over."""

    def on_read(stub, job):
        folder, outcome = run.folder, job["metadata"]["annotations"][OUTCOME]
        folder.write(f"trainjob/{outcome}.json", json.dumps(found).encode())
        stub.phase(job, "Succeeded", "Succeeded")
        stub.say(job, "Complete" if "facts" in found else "Failed")
        stub.on_read = None

    return on_read


def looks(*steps):
    """At each look one of these, in turn."""
    left = list(steps)

    def on_read(stub, job):
        if left:
            left.pop(0)(stub, job)

    return on_read


def failing(*phases, **more):
    def on_read(stub, job):
        stub.phase(job, *phases, **more)
        stub.say(job, "Failed", "FailedJobs", "jobset failed")

    return on_read


def test_what_rank_0_leaves_is_what_the_step_gets_and_nothing_is_left_behind(kubernetes, run, nodes, wanted, told):
    stub = kubernetes(on_read=leaving(run, facts=FACTS))
    assert train_in_job(nodes, run, told, wanted) == FACTS
    assert stub.jobs == {} and list(stub.pods) == [OWN_POD]
    assert [*run.folder.list("trainjob/")] == []
    assert told.lines[0].endswith("2 nodes with 8 processes each are asked for")
    assert told.lines[-1].endswith("it is over (Complete)")


@pytest.mark.parametrize(
    ("status", "kind"), [(2, WrongInput), (3, Refused), (1, Outage)], ids=["wrong input", "refused", "failed"]
)
def test_what_rank_0_ends_with_is_what_the_step_ends_with(kubernetes, run, nodes, wanted, told, status, kind):
    stub = kubernetes(on_read=leaving(run, error="batch_size: 5 will not do", status=status))
    with pytest.raises(kind, match="batch_size: 5 will not do"):
        train_in_job(nodes, run, told, wanted)
    assert stub.jobs == {}


def test_the_log_of_the_first_node_is_passed_on_once_and_its_state_is_told(
    kubernetes, run, nodes, wanted, told, capsys
):
    def waits(stub, job):
        said = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available",
        }
        stub.phase(job, "Running", "Pending", conditions=[said])
        writes(stub, 2)

    def trains(stub, job):
        stub.phase(job, "Running", "Running")
        writes(stub, 4)

    def writes(stub, many):
        first, second = sorted(name for name in stub.pods if name != OWN_POD)
        stub.logs[first] = "".join(f"2026-01-01T00:00:0{min(n, 2)}.0Z line {n}\n" for n in range(many))
        stub.logs[second] = "2026-01-01T00:00:00.0Z of the second node\n"

    suspended = looks(
        lambda stub, job: stub.say(job, "Suspended"), lambda stub, job: job.pop("status"), waits, waits, trains, leaving(run, facts=FACTS)
    )  # fmt: skip
    kubernetes(on_read=suspended)
    train_in_job(nodes, run, told, wanted)
    assert capsys.readouterr().out.splitlines() == [f"line {n}" for n in range(4)], "of two with one time, both"
    assert [line.split(": ", 1)[1] for line in told.lines[1:]] == [
        "it is suspended, and waits for its turn",
        "0 of 2 nodes at work; node 0: its pod is made; node 1: its pod is made",
        "1 of 2 nodes at work; node 1: Unschedulable, 0/3 nodes are available",
        "2 of 2 nodes at work",
        "it is over (Complete)",
    ]


def test_a_node_that_fails_without_a_word_says_how(kubernetes, run, nodes, wanted, told, capsys):
    def fails(stub, job):
        stub.logs = {name: f"2026-01-01T00:00:00.0Z of {name}\n" for name in stub.pods}
        failing("Running", "Failed", ended=("OOMKilled", 137))(stub, job)

    stub = kubernetes(on_read=fails)
    with pytest.raises(
        Outage, match=r"ended without an outcome: node 1 \(OOMKilled, exit status 137\); what was trained"
    ):
        train_in_job(nodes, run, told, wanted)
    assert stub.jobs == {}
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("of ddpm-mine-1") and "-node-0-0-" in first
    assert second.startswith("node 1: of ddpm-mine-1") and "-node-0-1-" in second


def test_without_a_pod_that_failed_it_says_what_the_trainjob_says(kubernetes, run, nodes, wanted, told):
    kubernetes(on_read=failing("Pending", "Pending"))
    with pytest.raises(Outage, match="ended without an outcome: FailedJobs jobset failed"):
        train_in_job(nodes, run, told, wanted)


def test_a_second_attempt_goes_on_with_what_the_first_has_left(kubernetes, run, nodes, wanted, told, monkeypatch):
    """The first was killed: its TrainJob trains on, and is the second's from here on, so that the end of the first's pod does it no harm."""
    stub = kubernetes()
    _killed(stub, run, nodes, wanted, told)
    uid = stub.job()["metadata"]["uid"]
    stub.add(own_pod("the-second"))
    monkeypatch.setenv("KFP_POD_NAME", "the-second")

    def first_pod_goes(stub, job):
        assert job["metadata"]["ownerReferences"][0]["name"] == "the-second"
        stub.lose_pod(OWN_POD)

    stub.on_read = looks(lambda stub, job: None, first_pod_goes, leaving(run, facts=FACTS))
    assert train_in_job(nodes, run, told, wanted) == FACTS
    assert [call for call in stub.calls if call.startswith("POST")] == [f"POST {following_path()}"], "no second one"
    assert uid and stub.jobs == {}
    assert any(line.endswith("an earlier attempt began it; this one goes on with it") for line in told.lines)


def test_an_outcome_that_nobody_took_is_taken(kubernetes, run, nodes, wanted, told):
    stub = kubernetes()
    _killed(stub, run, nodes, wanted, told)
    leaving(run, facts=FACTS)(stub, stub.job())
    assert train_in_job(nodes, run, told, wanted) == FACTS
    assert len([call for call in stub.calls if call.startswith("POST")]) == 1


@pytest.mark.parametrize("is_other", ["failed", "complete, its outcome taken", "of another image"])
def test_what_cannot_be_gone_on_with_is_replaced_when_its_last_pod_is_gone(
    kubernetes, run, nodes, wanted, told, is_other
):
    ended = []

    class Slow:
        """Pods that take a while to end."""

        def begin(self, stub, job, pods):
            assert not [one for one in stub.pods.values() if one["metadata"]["name"] in ended], "never two at a time"

        def end(self, job):
            ended.extend(name for name in stub.pods if name != OWN_POD)
            return False

        def log(self, pod):
            return ""

    stub = kubernetes()
    _killed(stub, run, nodes, wanted, told)
    before, stub.doing = stub.job(), Slow()
    if is_other == "of another image":
        stub.add(own_pod(image="registry.example/ddpm@sha256:1"))
    else:
        stub.say(before, "Failed" if is_other == "failed" else "Complete")
    name = before["metadata"]["name"]

    def looked(stub, job):
        if "deletionTimestamp" in job["metadata"]:
            stub.looked = getattr(stub, "looked", 0) + 1
            if stub.looked == 3:
                stub.gone(name)
        elif job["metadata"]["uid"] != before["metadata"]["uid"]:
            stub.doing = type("Quick", (Slow,), {"end": lambda self, job: True})()
            leaving(run, facts=FACTS)(stub, job)

    stub.on_read = looked
    assert train_in_job(nodes, run, told, wanted) == FACTS
    assert len([call for call in stub.calls if call.startswith("POST")]) == 2
    assert any(line.endswith("an earlier attempt's is replaced") for line in told.lines)


def test_pods_that_outlive_their_trainjob_are_waited_for(kubernetes, run, nodes, wanted, told, monkeypatch):
    """So it is for a moment where Kubernetes deleted it with the first attempt's pod."""
    stub = kubernetes()
    _killed(stub, run, nodes, wanted, told)
    stub.phase(stub.job(), "Running", "Running")
    stub.jobs.clear()
    monkeypatch.setattr(following, "LONGEST_END", 0.05)
    with pytest.raises(Outage, match=r"pods of an earlier TrainJob ddpm-mine-1-\w{8} will not go"):
        train_in_job(nodes, run, told, wanted)
    assert stub.jobs == {}


def test_a_step_that_is_stopped_ends_it_at_once(kubernetes, run, nodes, wanted, told):
    """As the step's task does at SIGTERM; nothing is waited for then."""

    def stop(number, frame):
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, stop)
    stub = kubernetes()
    told.say = lambda text: signal.raise_signal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="143"):
            train_in_job(nodes, run, told, wanted)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stub.jobs == {}


def test_another_attempt_s_is_not_ended_by_the_one_before(kubernetes, run, nodes, wanted, told):
    """A task on a node that was cut off comes back when a second attempt has taken its TrainJob over."""

    def taken(stub, job):
        job["metadata"]["ownerReferences"][0] |= {"name": "the-second", "uid": "another"}
        stub.on_read = failing("Failed", "Failed")

    stub = kubernetes(on_read=taken)
    with pytest.raises(Outage):
        train_in_job(nodes, run, told, wanted)
    assert len(stub.jobs) == 1


def test_one_that_somebody_deletes_is_told(kubernetes, run, nodes, wanted, told):
    stub = kubernetes(on_read=lambda stub, job: stub.gone(job["metadata"]["name"]))
    with pytest.raises(Outage, match="was deleted by somebody"):
        train_in_job(nodes, run, told, wanted)
    assert stub.jobs == {}


def test_an_outage_of_kubernetes_is_waited_out(kubernetes, run, nodes, wanted, told, capfd):
    def goes(stub, job):
        stub.away, stub.on_read = 2, leaving(run, facts=FACTS)

    kubernetes(on_read=goes)
    assert train_in_job(nodes, run, told, wanted) == FACTS
    assert "Kubernetes' API answers with status 503; waiting for up to 5 s" in capfd.readouterr().err


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
    _killed(stub, run, nodes, wanted, told)
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


def following_path():
    return "/apis/trainer.kubeflow.org/v1alpha1/namespaces/kubeflow/trainjobs"


def _killed(stub, run, nodes, wanted, told):
    """An attempt that was killed as soon as it had begun: it could end nothing."""

    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(following, "_end", lambda *arguments: None)
        patch.setattr(following, "_see_through", kill)
        train_in_job(nodes, run, told, wanted)
    assert len(stub.jobs) == 1
