"""Workers of a search that come, are killed and never come back: no trial is run twice at a time, and none is lost."""

import dataclasses
import os
import random
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import TrialState
from toy import SETTINGS, Halved, Toy

from ddpm.search import journal, study


@pytest.fixture(params=["journal", "postgres"])
def toy(request, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "LOOK_SECONDS", 0.05)
    if request.param == "journal":
        # One who is killed while it writes leaves its lock, which others break when it is old enough; 30 s by default.
        monkeypatch.setattr(journal, "JournalFileOpenLock", partial(JournalFileOpenLock, grace_period=3))
        return Toy(str(tmp_path / "journal.log"), tmp_path / "run")
    server = request.getfixturevalue("postgres")
    return Toy(server.database(), tmp_path / "run")


def require_whole(toy, killed=()):
    """Each asked trial has ended once, as one of the numbers of workers told it."""
    trials = toy.study.trials
    assert [(trial.number, trial.state, trial.value) for trial in trials] == [
        (number, TrialState.COMPLETE, float(number)) for number in range(toy.settings.trials)
    ]
    assert sorted(int(number) for number, _ in toy.noted("ended")) == list(range(toy.settings.trials))
    begun = [number for number, *_ in toy.noted("begun")]
    assert {number for number in begun if begun.count(number) > 1} <= {str(number) for number in killed}
    chosen = {(number, *point) for number, _, *point in toy.noted("begun")}
    assert len(chosen) == toy.settings.trials, "what is taken up keeps its parameters"


@pytest.mark.parametrize(
    ("toy", "count"), [("journal", 2), ("journal", 4), ("journal", 8), ("postgres", 8)], indirect=["toy"]
)
def test_as_many_workers_as_there_are_run_each_trial_once(toy, count):
    workers = [toy.start(worker, 0.02) for worker in range(count)]
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * count
    require_whole(toy)


def test_the_trial_of_a_worker_that_is_killed_for_ever_is_taken_up_by_another(toy):
    """In the same run, and without anybody's help: the one that is left waits for it."""
    lost = toy.start(0, 0.0, (0,))
    toy.wait_for("begun 0 0")
    other = toy.start(1)
    toy.wait_for("ended 11 1")
    assert toy.study.trials[0].state == TrialState.RUNNING and other.is_alive()
    lost.kill()
    other.join(60)
    assert other.exitcode == 0
    require_whole(toy, killed=[0])
    assert toy.noted("ended")[-1] == ["0", "1"]
    lost.join()


def test_all_are_killed_again_and_again(toy):
    rng = random.Random(0)
    killed = set()
    for _ in range(5):
        workers = [toy.start(worker, 0.1) for worker in range(4)]
        time.sleep(0.15 + 0.2 * rng.random())
        for worker in workers:
            worker.kill()
            worker.join()
        ended = {number for number, _ in toy.noted("ended")}
        killed |= {number for number, *_ in toy.noted("begun")} - ended
    toy.work(9)  # by whatever number
    states = [trial.state for trial in toy.study.trials]
    assert states == [TrialState.COMPLETE] * SETTINGS.trials
    told_and_killed = {str(trial.number) for trial in toy.study.trials} - {number for number, _ in toy.noted("ended")}
    assert told_and_killed <= killed, "one that was killed between its telling and its note"
    chosen = {(number, *point) for number, _, *point in toy.noted("begun")}
    assert len(chosen) == SETTINGS.trials


HALVED = dataclasses.replace(SETTINGS, trial_epochs=2, first_rung=1, rung_factor=4)


@pytest.mark.parametrize("trouble", ["none", "workers are killed", "one is killed for ever", "the database is killed"])
def test_halving_by_several_workers_ends_each_trial_once(request, tmp_path, monkeypatch, trouble):
    """Who of the worse ones goes on depends on who came first. The best one always does, and all end."""
    monkeypatch.setattr(study, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(journal, "JournalFileOpenLock", partial(JournalFileOpenLock, grace_period=3))
    server = request.getfixturevalue("postgres") if trouble == "the database is killed" else None
    toy = Halved(server.database() if server else str(tmp_path / "journal.log"), tmp_path / "run", HALVED)
    rng = random.Random(1)
    for _ in range(5 if trouble == "workers are killed" else 0):
        workers = [toy.start(worker, 0.1) for worker in range(4)]
        time.sleep(0.15 + 0.2 * rng.random())
        for worker in workers:
            worker.kill()
            worker.join()
    workers = [toy.start(worker, 0.02) for worker in range(4)]
    if server:
        toy.wait_for("begun")
        server.kill()
        server.up()
    elif trouble == "one is killed for ever":
        toy.wait_for("begun")
        workers.pop().kill()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    states = [trial.state.name for trial in toy.study.trials]
    assert {*states} == {"COMPLETE", "PRUNED"} and len(states) == HALVED.trials and states[2] == "COMPLETE"
    if trouble == "none":
        begun = toy.noted("begun")
        assert len(begun) == len({*map(tuple, begun)}), "no part of a trial is run twice"
        assert sorted(number for number, stood in begun if stood == "0") == sorted(map(str, range(HALVED.trials)))
        ended = [number for what in ("ended", "pruned") for number, _ in toy.noted(what)]
        assert sorted(ended) == sorted(map(str, range(HALVED.trials)))


@pytest.mark.parametrize("toy", ["journal"], indirect=True)
def test_a_worker_that_stands_still_is_waited_for(toy):
    """SIGSTOP is no death: on this machine a process is judged by its life, and not by its silence."""
    still = toy.start(0, 0.3)
    toy.wait_for("begun 0 0")
    os.kill(still.pid, signal.SIGSTOP)
    other = toy.start(1)
    toy.wait_for("ended 11 1")
    os.kill(still.pid, signal.SIGCONT)
    for worker in (still, other):
        worker.join(60)
    require_whole(toy)


def test_the_database_is_killed_while_several_are_at_work(postgres, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "LOOK_SECONDS", 0.05)
    toy = Toy(postgres.database(), tmp_path / "run")
    workers = [toy.start(worker, 0.1) for worker in range(3)]
    toy.wait_for("ended")
    postgres.kill()
    postgres.up()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    require_whole(toy)


@pytest.mark.parametrize("toy", ["journal"], indirect=True)
def test_one_that_waits_says_for_what(toy, monkeypatch):
    theirs, said = toy.take(1), []
    held = [next(theirs) for _ in range(toy.settings.trials)]

    def end_one(seconds):
        trial, lease = held.pop(0)
        with lease:
            trial.study.tell(trial, 1.0)

    monkeypatch.setattr(study.time, "sleep", end_one)
    assert list(toy.take(2, SimpleNamespace(say=said.append))) == [], "each ended while it was waited for"
    numbers = ", ".join(map(str, range(toy.settings.trials)))
    assert said == [f"worker 2: waiting for trial {numbers}, which other workers are at work on"]
