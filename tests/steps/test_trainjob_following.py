"""A TrainJob taken up, followed and ended by the step's own task, against an API that checks what it is given."""

import signal

import pytest
from trainer_stub import JOBS, OWN_POD, own_pod
from trainjob_life import FACTS, failing, killed, leaving, looks

from ddpm.errors import Outage, Refused, WrongInput
from ddpm.steps.trainjob import following, train_in_job


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
    killed(stub, run, nodes, wanted, told)
    uid = stub.job()["metadata"]["uid"]
    stub.add(own_pod("the-second"))
    monkeypatch.setenv("KFP_POD_NAME", "the-second")

    def first_pod_goes(stub, job):
        assert job["metadata"]["ownerReferences"][0]["name"] == "the-second"
        stub.lose_pod(OWN_POD)

    stub.on_read = looks(lambda stub, job: None, first_pod_goes, leaving(run, facts=FACTS))
    assert train_in_job(nodes, run, told, wanted) == FACTS
    assert [call for call in stub.calls if call.startswith("POST")] == [f"POST {JOBS}"], "no second one"
    assert uid and stub.jobs == {}
    assert any(line.endswith("an earlier attempt began it; this one goes on with it") for line in told.lines)


def test_an_outcome_that_nobody_took_is_taken(kubernetes, run, nodes, wanted, told):
    stub = kubernetes()
    killed(stub, run, nodes, wanted, told)
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
    killed(stub, run, nodes, wanted, told)
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
    killed(stub, run, nodes, wanted, told)
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
