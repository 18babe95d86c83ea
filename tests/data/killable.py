"""An ingest that is hit by a signal at a step that is asked for: python killable.py SOURCE STORE WORKERS STEP SIGNAL

A step is a worker started, or a file or folder of the store about to be opened, made, named, renewed or removed. A clock
would hit a loaded machine elsewhere, and mostly while it imports. STEP 0: none. Prints what `ingest` returns.
"""

import itertools
import json
import os
import signal
import sys

import ddpm.data.shards
from ddpm.data.ingest import ingest
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import open_store

TOUCHES = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.utime"}

if __name__ == "__main__":
    source, store, workers, step, name = sys.argv[1:]
    steps = itertools.count(1)

    def look(event, arguments):
        touched = event in TOUCHES and str(arguments[0]).startswith(store)
        if (touched or event == "subprocess.Popen") and next(steps) == int(step):
            os.kill(os.getpid(), signal.Signals[name])

    sys.addaudithook(look)
    ddpm.data.shards.SHARD_PICTURES = 30
    settings = IngestSettings(source=source, dataset_name="set", image_size=16)
    print(json.dumps(ingest(settings, open_store(store), Quiet(), int(workers))))
