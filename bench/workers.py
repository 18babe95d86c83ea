"""Workers of a search, real processes, on trials that take a moment: none is run twice, none is lost; see docs/search.md.

For each number of workers a study is run to its end, and one worker more is killed for ever (kill -9) as soon as it is at
work on a trial, which another has to take up. `storage` names a database, on which studies of names of their own are made.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from bench.table import Row
from ddpm.errors import Refused
from ddpm.progress import Quiet
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study, take_trials
from ddpm.settings import SearchSettings
from ddpm.store import open_store

SETTINGS: dict[str, Any] = {
    "workers": "2,4,8",
    "trials": 100,
    "seconds": 0.05,  # of a trial
    "storage": "",  # a database's URL; empty: a journal
}
LONGEST = 600.0  # seconds for which processes are waited for


def run(settings: dict[str, Any], say: Callable[[str], None]) -> list[Row]:
    rows = []
    for count in map(int, settings["workers"].split(",")):
        with tempfile.TemporaryDirectory() as folder:
            storage, name = settings["storage"] or f"{folder}/journal", f"workers-{uuid.uuid4().hex}"
            of = SearchSettings(trials=settings["trials"])
            create_study(storage, name, of, Quiet())
            seconds = _race(count, storage, name, of, settings["seconds"], Path(folder))
            trials, begun = open_study(storage, name, of).trials, _noted(folder, "begun")
        say(f"{count} workers and one that was killed: {len(trials)} trials in {seconds:.1f} s")
        complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
        twice = sum(times > 1 for times in Counter(begun).values())
        rows += [
            Row("workers", f"{count} workers, trials lost", "trials", settings["trials"] - complete),
            Row("workers", f"{count} workers, trials begun again", "trials (the killed worker's is one)", twice),
            Row("workers", f"{count} workers, trials", "a second", complete / seconds),
        ]
    return rows


def _race(count: int, storage: str, name: str, of: SearchSettings, seconds: float, folder: Path) -> float:
    """Run the study by so many workers, and one that is killed at its first trial; the seconds from there on."""
    context = multiprocessing.get_context("spawn")
    lost = context.Process(target=_work, args=(storage, name, of, count, LONGEST, folder))
    lost.start()
    deadline = time.monotonic() + LONGEST
    while not _noted(folder, "begun"):
        if time.monotonic() > deadline or not lost.is_alive():
            raise Refused("the worker that was to be killed has begun nothing")
        time.sleep(0.01)
    workers = [context.Process(target=_work, args=(storage, name, of, n, seconds, folder)) for n in range(count)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    lost.kill()
    for worker in (lost, *workers):
        worker.join(LONGEST)
    if [worker.exitcode for worker in workers] != [0] * count:
        raise Refused(f"workers ended with {[worker.exitcode for worker in workers]}")
    return time.monotonic() - began


def _work(storage: str, name: str, of: SearchSettings, worker: int, seconds: float, folder: Path) -> None:
    study = open_study(storage, name, of, worker, Quiet())
    for trial, lease in take_trials(study, open_store(str(folder / "run")), worker, Quiet()):
        with lease:
            suggest(trial, of)
            with (folder / f"begun-{worker}").open("a") as file:
                file.write(f"{trial.number}\n")
            time.sleep(seconds)
            lease.require()
            study.tell(trial, float(trial.number))


def _noted(folder: str | Path, what: str) -> list[int]:
    return [int(line) for path in Path(folder).glob(f"{what}-*") for line in path.read_text().split()]
