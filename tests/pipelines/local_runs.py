"""`make run`'s program, started on a tiny budget, and what is left of its processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
TINY = [
    *"trials=3 trial_epochs=1 epochs=2 held_out_every=1 score_n=64 score_steps=4 finalist_n=96 evaluate_n=64 sampler=ddim sampling_steps=4".split(),
    "ema_half_lives=20 150",
    "base_channels=8",
    "noise_gate=1",  # in two epochs next to nothing is learned
]


def command(var, *more):
    return [sys.executable, "-m", "pipelines.local", "--var", str(var), *more]


def start(var, *more):
    return subprocess.Popen(
        command(var, *more),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(var, *more, **environment):
    return subprocess.run(
        command(var, *more), cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=1200
    )  # fmt: skip


def processes_of(var):
    """Everything that still runs for a run below `var`."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = " ".join(process.info["cmdline"] or []) + (process.info["environ"] or {}).get("TMPDIR", "")
        if str(var) in words and process.pid != os.getpid():
            found.append(process)
    return found


def wait_until_gone(var, seconds=20):
    deadline = time.monotonic() + seconds
    while (left := processes_of(var)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
