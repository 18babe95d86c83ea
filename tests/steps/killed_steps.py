"""Every step of a run, each tried three times as a pipeline does it: the same call in a new process.

    python killed_steps.py PARAMETERS FOLDER     prints {step: [how each attempt ended]}

The first two end when all the work is done and nothing of it is kept yet, which is the worst moment: by SIGTERM, as an
eviction begins, and by SIGKILL. Processes are forked here, where nothing has been computed: in
a process that has, torch's threads would not survive that.
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

import mlflow  # noqa: F401
from ddpm.run import Run
from ddpm.steps import configure, evaluate, ingest, promote, register, search, train

ENDS = (signal.SIGTERM, signal.SIGKILL, None)


def attempt(call, key, ends):
    """Do a step, and end by a signal where its facts are about to be kept. Runs in a process of its own."""
    keep = Run.keep

    def ended(run, step, facts):
        if step == key and ends:
            os.kill(os.getpid(), ends)
        keep(run, step, facts)

    Run.keep = ended
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
        for ends in ENDS:
            process = multiprocessing.get_context("fork").Process(target=attempt, args=(call, key, ends))
            process.start()
            process.join(300)
            found.setdefault(key, []).append(process.exitcode)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
