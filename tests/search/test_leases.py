"""Leases: a living process keeps its own, a dead one's is taken over at once, one of another machine when it is silent."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from ddpm.errors import Outage, WrongInput
from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search import leases
from ddpm.search.leases import Lease
from ddpm.search.worker import search
from ddpm.store import Damaged, open_store
from ddpm.training.world import World

HOLDER = """
import sys
from ddpm.search.leases import Lease
from ddpm.store import open_store
try:
    with Lease(open_store(sys.argv[1]), "worker-1", "worker 1", print):
        print("held", flush=True)
        sys.stdin.readline()
except ValueError as problem:
    print(problem, flush=True)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def lease(folder, say=lambda text: pytest.fail(text)):
    return Lease(open_store(str(folder)), "worker-1", "worker 1", say)


def names(folder):
    return sorted(path.name for path in (folder / "leases" / "worker-1").iterdir())


def elsewhere(folder, age=0.0):
    """A lease held by a process of another machine, renewed so many seconds ago."""
    path = folder / "leases" / "worker-1" / "000004.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"machine": "other", "host": "node-7", "process": 12, "began": 1.0}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_second_living_one_is_refused_and_a_killed_ones_is_taken_at_once(tmp_path):
    holder = start(tmp_path)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(WrongInput) as problem, lease(tmp_path):
        pytest.fail("it is held")
    assert str(problem.value) == (
        f"worker 1 is at work already (process {holder.pid} on this machine); wait for its end, or give another number"
    )
    holder.kill()  # and not waited for: a zombie does no work
    while leases.psutil.Process(holder.pid).status() != leases.psutil.STATUS_ZOMBIE:
        pass
    with lease(tmp_path) as held:
        held.require()
        assert names(tmp_path) == ["000002.json"]
    holder.wait()


def test_one_that_was_let_go_is_free(tmp_path):
    for number in (1, 2):
        with lease(tmp_path):
            assert names(tmp_path) == [f"{number:06d}.json"]
        with Lease(open_store(str(tmp_path)), "worker-2", "worker 2", pytest.fail):
            pass


def test_of_racing_processes_one_has_it(tmp_path):
    racers = [start(tmp_path) for _ in range(3)]
    said = [racer.stdout.readline() for racer in racers]
    assert said.count("held\n") == 1
    assert sum("is at work already" in line for line in said) == 2
    for racer in racers:
        racer.communicate("end\n", timeout=60)


def test_one_is_taken_where_nobody_has_it_and_without_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(leases.time, "sleep", pytest.fail)
    path = elsewhere(tmp_path, age=20)
    assert not lease(tmp_path).take(), "it may be at work"
    os.utime(path, (time.time() - leases.EXPIRES_AFTER - 1,) * 2)
    ours = lease(tmp_path)
    assert ours.take() and not lease(tmp_path).take(), "it is this process's, which lives"
    with ours:
        ours.require()
        assert names(tmp_path) == ["000005.json"], "the same as was taken"
    again = lease(tmp_path)
    assert again.take()
    again.release()
    assert lease(tmp_path).take()


def test_a_silent_one_of_another_machine_is_succeeded(tmp_path):
    elsewhere(tmp_path, age=leases.EXPIRES_AFTER + 1)
    with lease(tmp_path):
        assert names(tmp_path) == ["000005.json"]


def test_one_of_another_machine_that_renews_is_at_work(tmp_path, monkeypatch):
    path = elsewhere(tmp_path, age=20)
    said = []
    monkeypatch.setattr(leases.time, "sleep", lambda seconds: os.utime(path))
    with (
        pytest.raises(WrongInput, match="is at work already .process 12 on node-7.; wait for its end"),
        lease(tmp_path, said.append),
    ):
        pytest.fail("it is held")
    assert said == ["worker 1: waiting for up to 25 s to see whether process 12 on node-7 is still at work"]


def test_one_of_another_machine_that_stays_silent_is_succeeded_in_the_end(tmp_path, monkeypatch):
    path = elsewhere(tmp_path, age=20)
    store = open_store(str(tmp_path))
    waited = []

    def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(leases.time, "sleep", sleep)
    monkeypatch.setattr(store, "now", lambda: path.stat().st_mtime + 20 + 10 * len(waited))
    with Lease(store, "worker-1", "worker 1", lambda text: None) as held:
        held.require()
        assert names(tmp_path) == ["000005.json"]
    assert len(waited) == 3


def test_one_that_was_taken_over_is_told(tmp_path):
    with lease(tmp_path) as held:
        elsewhere_path = tmp_path / "leases" / "worker-1" / "000002.json"
        elsewhere_path.write_text(json.dumps({"machine": "other", "host": "node-7", "process": 12, "began": 1.0}))
        with pytest.raises(Outage, match="worker 1 was taken over by process 12 on node-7"):
            held.require()


def test_a_second_worker_of_a_number_is_refused_before_it_touches_the_study(tmp_path):
    plan = Plan.from_parameters(
        {
            "run_name": "one", "store": str(tmp_path / "store"), "tracking_uri": "sqlite:////no/x.db",
            "study_storage": str(tmp_path / "journal.log"),
        }
    )  # fmt: skip
    run = Run(plan)
    with (
        Lease(run.folder, "worker-1", "worker 1", pytest.fail),
        pytest.raises(WrongInput, match=r"^worker 1 of run one is at work already \(process \d+ on this machine\)"),
    ):
        search(run, "no data set", 1, Quiet(), World(torch.device("cpu")))
    assert not (tmp_path / "journal.log").exists()
    with pytest.raises(WrongInput, match="no data set"):
        search(run, "no data set", 1, Quiet(), World(torch.device("cpu")))


def test_one_that_is_stopped_lets_go_without_waiting_for_a_store_that_is_away(tmp_path, monkeypatch):
    """By a store that is given up where it does not answer at once, and whatever its renewal waits for."""
    opened, store = [], open_store(str(tmp_path))
    monkeypatch.setattr(leases, "open_store", lambda root, hasty: opened.append(hasty) or open_store(root))
    held = Lease(store, "worker-1", "worker 1", lambda text: None)
    with pytest.raises(SystemExit), held:
        monkeypatch.setattr(store, "write", lambda key, data: pytest.fail("it would wait"))
        monkeypatch.setattr(held._renewing, "join", lambda: pytest.fail("it would wait"))
        raise SystemExit(143)
    assert opened == [True]
    with lease(tmp_path):
        assert names(tmp_path) == ["000002.json"], "it is free at once"
    monkeypatch.setattr(leases, "open_store", lambda root, hasty: away())
    with pytest.raises(SystemExit), lease(tmp_path):
        raise SystemExit(143)


def away():
    raise Outage("the store does not answer")


def test_a_holder_renews(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.01)
    with lease(tmp_path):
        path = tmp_path / "leases" / "worker-1" / "000001.json"
        os.utime(path, (1, 1))
        while path.stat().st_mtime == 1:
            pass


@pytest.mark.parametrize("data", [b"", b"[]", b"[" * 100_000, b'{"process": "1"}', b'{"machine": "this", "began": []}'])
def test_one_whose_note_is_damaged_ends_by_its_time(tmp_path, data):
    path = elsewhere(tmp_path, age=leases.EXPIRES_AFTER + 1)
    modified = path.stat().st_mtime
    path.write_bytes(data)
    os.utime(path, (modified, modified))
    with lease(tmp_path):
        assert names(tmp_path) == ["000005.json"]


def test_a_number_that_is_there_and_never_listed_ends_the_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(leases.time, "sleep", lambda seconds: None)
    folder = tmp_path / "leases" / "worker-1"
    folder.mkdir(parents=True)
    (folder / "000001.json").symlink_to("nowhere")
    with pytest.raises(Damaged, match="000001.json is there, and the store does not list it; look at the store"):
        lease(tmp_path).__enter__()
    waiting = lease(tmp_path)
    with pytest.raises(Damaged):
        for _ in range(leases.UNLISTED):
            assert not waiting.take()


def test_what_else_lies_among_leases_is_none(tmp_path):
    folder = tmp_path / "leases" / "worker-1"
    folder.mkdir(parents=True)
    (folder / "notes.json").write_text("{}")
    (folder / ".DS_Store").write_text("x")
    with lease(tmp_path):
        assert {"000001.json", "notes.json"} <= {*names(tmp_path)}


def test_a_process_that_cannot_be_is_dead(tmp_path):
    path = elsewhere(tmp_path)
    path.write_text(json.dumps({"machine": leases.this_machine(), "host": "h", "process": -1, "began": 1.0}))
    with lease(tmp_path):
        assert "000005.json" in names(tmp_path)
