"""The study: its trials are run once each, by workers that race and are killed."""

import random
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ddpm.errors import WrongInput
from ddpm.search.claims import claim
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study, take_trials
from ddpm.settings import SearchSettings
from ddpm.store import open_store

SETTINGS = SearchSettings(trials=12, mults_choices="1-2-4-8 1-2-3-6 1-2-3 1-2-4", founding_lr=7e-5)


def work(storage, claims, worker, ran, pause):
    """A worker whose trials only wait; `ran` keeps who began and who ended what."""
    study = open_study(storage, "s", SETTINGS, worker)
    for trial in take_trials(study, open_store(claims), worker):
        chosen = suggest(trial, SETTINGS)
        with open(ran, "a") as file:
            file.write(f"{trial.number} {worker} {chosen['channel_mults']} {chosen['lr']!r}\n")
        time.sleep(pause * random.random())
        study.tell(trial, float(trial.number))


def start(storage, claims, worker, ran, pause):
    return subprocess.Popen([sys.executable, __file__, storage, claims, str(worker), str(ran), str(pause)])


@pytest.fixture(params=["journal", "sqlite"])
def storage(request, tmp_path):
    place = str(tmp_path / "journal.log") if request.param == "journal" else f"sqlite:///{tmp_path}/study.db"
    create_study(place, "s", SETTINGS)
    return place


def test_founding_lists_come_first_at_the_founding_rate(storage, tmp_path):
    work(storage, str(tmp_path / "claims"), 0, tmp_path / "ran", 0)
    trials = open_study(storage, "s", SETTINGS).trials
    assert [t.params["channel_mults"] for t in trials[:4]] == ["1-2-4-8", "1-2-3-6", "1-2-3", "1-2-4"]
    assert [t.params["lr"] for t in trials[:4]] == [7e-5] * 4
    assert len(trials) == 12 and len({t.params["lr"] for t in trials[4:]}) == 8, "the others are the sampler's"
    assert all(1e-5 <= t.params["lr"] <= 1e-3 for t in trials)


def test_creating_again_changes_nothing(storage):
    create_study(storage, "s", SETTINGS)
    assert len(open_study(storage, "s", SETTINGS).trials) == 12


def test_creation_that_was_cut_off_is_completed(tmp_path):
    place = str(tmp_path / "journal.log")
    study = optuna.create_study(storage=open_study_storage(place), study_name="s")
    study.enqueue_trial({"channel_mults": "1-2-4-8", "lr": 7e-5})
    create_study(place, "s", SETTINGS)
    assert len(open_study(place, "s", SETTINGS).trials) == 12


def open_study_storage(place):
    from ddpm.search.study import open_storage

    return open_storage(place)


def test_racing_workers_run_each_trial_once(storage, tmp_path):
    workers = [start(storage, str(tmp_path / "claims"), worker, tmp_path / "ran", 0.05) for worker in range(3)]
    for worker in workers:
        assert worker.wait(120) == 0
    numbers = sorted(int(line.split()[0]) for line in (tmp_path / "ran").read_text().splitlines())
    assert numbers == list(range(12))


def test_killed_workers_started_again_finish_the_study(tmp_path):
    """kill -9 at random moments: no trial is lost or doubled, and one that goes on keeps its parameters."""
    storage, claims, ran = str(tmp_path / "journal.log"), str(tmp_path / "claims"), tmp_path / "ran"
    create_study(storage, "s", SETTINGS)
    rng = random.Random(0)
    for _ in range(6):
        workers = [start(storage, claims, worker, ran, 0.6) for worker in range(2)]
        time.sleep(2.0 + rng.random())  # long enough to import and take a trial or two
        for worker in workers:
            worker.kill()
            worker.wait()
    for worker in [start(storage, claims, worker, ran, 0.0) for worker in range(2)]:
        assert worker.wait(120) == 0
    trials = open_study(storage, "s", SETTINGS).trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 12
    assert [t.value for t in trials] == [float(i) for i in range(12)]
    begun = [line.split() for line in ran.read_text().splitlines()]
    assert {int(row[0]) for row in begun} == set(range(12))
    assert len({tuple(row) for row in begun}) == 12, "a trial begun twice has the same worker and parameters"


def test_a_worker_that_died_between_its_claim_and_its_trial(storage, tmp_path):
    """The trial waits for it, and for nobody else."""
    claims = open_store(str(tmp_path / "claims"))
    assert claim(claims, 0, worker=1)
    work(storage, str(tmp_path / "claims"), 2, tmp_path / "ran", 0)
    states = [trial.state for trial in open_study(storage, "s", SETTINGS).trials]
    assert states == [TrialState.WAITING] + [TrialState.COMPLETE] * 11
    work(storage, str(tmp_path / "claims"), 1, tmp_path / "ran", 0)
    assert [line.split()[:2] for line in (tmp_path / "ran").read_text().splitlines()][-1] == ["0", "1"]
    assert open_study(storage, "s", SETTINGS).trials[0].state == TrialState.COMPLETE


def test_a_trial_that_moved_on_since_it_was_listed(storage, tmp_path):
    """Another process of the same worker has ended one and begun another: the one is skipped, the other taken up."""
    claims = open_store(str(tmp_path / "claims"))
    study, other = open_study(storage, "s", SETTINGS), open_study(storage, "s", SETTINGS)
    ours, theirs = take_trials(study, claims, 0), take_trials(other, claims, 0)
    assert next(ours).number == 0
    assert [next(theirs).number for _ in range(2)] == [0, 1]
    other.tell(1, 1.0)
    begun = next(theirs)
    chosen = suggest(begun, SETTINGS)
    taken = next(ours)
    assert taken.number == begun.number == 2
    assert suggest(taken, SETTINGS) == chosen
    study.tell(taken, 2.0)
    assert next(ours).number == 3


def test_a_trial_that_ends_while_it_is_being_begun(storage, tmp_path, monkeypatch):
    """The storage has answered that it was RUNNING already, and by now it is not."""
    claims = open_store(str(tmp_path / "claims"))
    study, other = open_study(storage, "s", SETTINGS), open_study(storage, "s", SETTINGS)
    begin = study._storage.set_trial_state_values

    def too_late(trial_id, state):
        (trial,) = (trial for trial in other.trials if trial._trial_id == trial_id)
        if trial.number:
            return begin(trial_id, state)
        assert other._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        assert not begin(trial_id, state), "the storage says who was first"
        other.tell(trial.number, 1.0)
        return False

    monkeypatch.setattr(study._storage, "set_trial_state_values", too_late)
    assert next(take_trials(study, claims, 0)).number == 1


def test_no_study_is_one_line(tmp_path):
    with pytest.raises(WrongInput, match="no study 'other'"):
        open_study(str(tmp_path / "journal.log"), "other", SETTINGS)
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="study_storage"):
        create_study(str(tmp_path / "file" / "journal.log"), "s", SETTINGS)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5]))


def test_a_study_in_postgresql_takes_its_password_from_the_environment(postgres, tmp_path, monkeypatch):
    """As it is kept, its URL holds none; psycopg reads $PGPASSWORD itself."""
    import psycopg

    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute("CREATE ROLE guarded LOGIN PASSWORD 'tr0ub4dor&3'")
        owner.execute("CREATE DATABASE guarded OWNER guarded")
    url = f"postgresql+psycopg://guarded@127.0.0.1:{postgres.port}/guarded"
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(WrongInput, match="password authentication failed"):
        create_study(url, "run", SETTINGS)
    monkeypatch.setenv("PGPASSWORD", "tr0ub4dor&3")
    create_study(url, "run", SETTINGS)
    assert len(open_study(url, "run", SETTINGS).trials) == SETTINGS.trials
