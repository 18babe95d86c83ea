"""Workers of a search whose trials only wait: real processes, forked, so that they begin at once."""

import multiprocessing
import time
from pathlib import Path

from optuna.trial import TrialState

from ddpm.progress import Lines
from ddpm.search.halving import STANDS, goes_on, rung_at, rung_of_scores
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study, take_trials
from ddpm.settings import SearchSettings
from ddpm.store import open_store

SETTINGS = SearchSettings(trials=12, mults_choices="1-2-4-8 1-2-3-6 1-2-3 1-2-4", founding_lr=7e-5)


class Toy:
    """A study in `storage`, the folder of its run, and what its workers have noted: who began and who ended what."""

    def __init__(self, storage: str, folder: Path, settings: SearchSettings = SETTINGS):
        self.storage, self.folder, self.settings = storage, folder, settings
        folder.mkdir(exist_ok=True)
        create_study(storage, "s", settings)

    @property
    def study(self):
        return open_study(self.storage, "s", self.settings)

    def take(self, worker, progress=None):
        return take_trials(
            open_study(self.storage, "s", self.settings, worker),
            open_store(str(self.folder)),
            worker,
            progress or Lines(),
        )

    def work(self, worker, seconds=0.0, stuck=()):
        """Be a worker. Trials that it is stuck in have no end; each begins by naming its parameters."""
        for trial, lease in self.take(worker):
            with lease:
                chosen = suggest(trial, self.settings)
                self._note(f"begun {trial.number} {worker} {chosen['channel_mults']} {chosen['lr']!r}")
                time.sleep(3600 if trial.number in stuck else seconds)
                lease.require()
                trial.study.tell(trial, float(trial.number))
                self._note(f"ended {trial.number} {worker}")

    def start(self, worker, *arguments):
        process = multiprocessing.get_context("fork").Process(target=self.work, args=(worker, *arguments))
        process.start()
        return process

    def noted(self, what):
        """What has been noted so, in words, in this order."""
        path = self.folder / "noted"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[1:] for line in lines if line.startswith(what)]

    def wait_for(self, what, seconds=60):
        """Until there is such a note."""
        deadline = time.monotonic() + seconds
        while not self.noted(what):
            assert time.monotonic() < deadline, f"nobody has {what}"
            time.sleep(0.01)

    def _note(self, line):
        with (self.folder / "noted").open("a") as file:
            file.write(f"{line}\n")


class Halved(Toy):
    """Trials that come to a rung, the third one the best of them, and end there or later."""

    def work(self, worker, seconds=0.0):
        for trial, lease in self.take(worker):
            with lease:
                if not goes_on(trial):
                    trial.study.tell(trial, state=TrialState.PRUNED)
                    self._note(f"pruned {trial.number} {worker}")
                    continue
                suggest(trial, self.settings)
                stood = trial.user_attrs.get(STANDS, 0)
                self._note(f"begun {trial.number} {stood}")
                time.sleep(seconds)
                lease.require()
                if not stood:
                    trial.set_user_attr(rung_at(1), rung_of_scores(10.0 + abs(trial.number - 2), 0.1))
                    trial.report(10.0 + abs(trial.number - 2), 1)
                    trial.set_user_attr(STANDS, 1)
                    continue
                trial.study.tell(trial, float(trial.number))
                self._note(f"ended {trial.number} {worker}")
