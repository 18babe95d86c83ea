"""Every step of a run, each tried several times as a pipeline does it: the same call in a new process.

    python killed_steps.py PARAMETERS FOLDER     prints {step: [how each attempt ended, and what it noted]}

An attempt ends in one of these ways:

STOPPED  by SIGTERM, as an eviction begins: where there is much work, in the midst of it. What it begins from then on is
         noted, for it has a second
KILLED   by SIGKILL when all the work is done and nothing of it is kept yet, which is the worst moment
CUT      by SIGTERM at that moment, and by SIGKILL while it writes its last line: the second was too short
DONE     well

Processes are forked here, where nothing has been computed: in a process that has, torch's threads would not survive that.
"""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import matplotlib.pyplot  # noqa: F401 - here, once, and not in each of the processes
import optuna.importance  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch_fidelity  # noqa: F401
from torch.nn.modules.module import register_module_forward_pre_hook

import mlflow  # noqa: F401
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.steps import configure, evaluate, ingest, promote, register, search, task, train
from ddpm.store.files import FileStore
from ddpm.tracking.client import Client

STOPPED, KILLED, CUT, DONE = "stopped", "killed", "cut", "done"
ENDS = (STOPPED, KILLED, DONE)
MORE = {"train": (STOPPED, KILLED, CUT, DONE)}
# Where a step has much to do: the bar of it, and how far it is when SIGTERM comes.
MIDST = {
    "ingest": ("ingesting", 0.2),
    "search-0": ("trial 0 (1 of 1) · 1-2", 0.8),
    "train": ("final training", 0.8),
    "evaluate": ("drawing pictures", 0.3),
}


class Noting(Quiet):
    """A step's progress, which notes where the work of its bar begins, and stops the process in the midst of it."""

    def __init__(self, key, ends, note):
        self.bar, self.at = MIDST.get(key, ("", 1.0))
        self.stops, self.note, self.begun = ends == STOPPED, note, False

    def update(self, task, done, total, note=""):
        if task != self.bar:
            return
        if not self.begun:
            self.note({"from": done})
        self.begun = True
        if self.stops and self.at < done / total < 1:
            os.kill(os.getpid(), signal.SIGTERM)


def watch(note):
    """Note what is begun from now on: what is written to the store, asked of MLflow, and computed by a network."""

    def noted(kept):
        return lambda store, key, data: (note({"writes": key, "bytes": len(data)}), kept(store, key, data))[1]

    FileStore.write, FileStore.create = noted(FileStore.write), noted(FileStore.create)
    asked = Client.__getattr__
    Client.__getattr__ = lambda client, name: (note({"asks": name}), asked(client, name))[1]
    register_module_forward_pre_hook(lambda module, given: note({"computes": type(module).__name__}))


def attempt(call, key, ends, noted):
    """Do a step, and end as is said. Runs in a process of its own."""

    def note(facts):
        with open(noted, "a") as file:
            file.write(json.dumps(facts) + "\n")

    def ended(run, step, facts, _keep=Run.keep):
        if step == key and ends == CUT:
            kept = FileStore._finished_file
            FileStore._finished_file = lambda *given: (kept(*given), os.kill(os.getpid(), signal.SIGKILL))
        if step == key and ends != DONE:
            os.kill(os.getpid(), signal.SIGKILL if ends == KILLED else signal.SIGTERM)
        _keep(run, step, facts)

    def stop(number, frame, _stop=task._stop):
        if ends == STOPPED:
            watch(note)
        _stop(number, frame)

    Run.keep, task._stop, task.open_progress = ended, stop, lambda: Noting(key, ends, note)
    with open(os.devnull, "w") as sys.stdout:
        call()


def main(parameters, folder):
    def path(name):
        return str(Path(folder, name))

    plan, dataset, trials, checkpoint, report, version = map(
        path, ("plan", "dataset", "trials", "final", "report", "version")
    )
    given = json.loads(parameters)
    steps = {
        "configure": lambda: configure.in_pipeline(given, "session", plan, path("note"), path("second")),
        "ingest": lambda: ingest.in_pipeline(plan, output=dataset),
        "search-0": lambda: search.in_pipeline(plan, dataset, worker=0, output=trials),
        "train": lambda: train.in_pipeline(plan, dataset, study=path("study.html"), output=checkpoint),
        "evaluate": lambda: evaluate.in_pipeline(plan, dataset, checkpoint, page=path("page.html"), output=report),
        "register": lambda: register.in_pipeline(plan, dataset, checkpoint, report, output=version),
        "promote": lambda: promote.in_pipeline(plan, dataset, version, output=path("decision")),
    }  # fmt: skip
    found = {}
    for key, call in steps.items():
        for number, ends in enumerate(MORE.get(key, ENDS)):
            noted = Path(path(f"{key}-{number}"))
            noted.touch()
            process = multiprocessing.get_context("fork").Process(target=attempt, args=(call, key, ends, noted))
            process.start()
            process.join(300)
            notes = [json.loads(line) for line in noted.read_text().splitlines()]
            found.setdefault(key, []).append({"ended": process.exitcode, "noted": notes})
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
