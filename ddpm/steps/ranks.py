"""A step in several processes of one container, by torchrun: one a GPU.

$DDPM_PROCESSES says how many; the compiled pipeline sets it where a step has more than one GPU. The task's own process
starts torchrun and waits for it; in each of torchrun's the same step begins anew, as a rank of one world
(`ddpm/training/world.py`): rank 0 does what the step does, the others train along.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ddpm import numerals
from ddpm.errors import WrongInput
from ddpm.processors import processors

if TYPE_CHECKING:
    from ddpm.training.world import World

VARIABLE = "DDPM_PROCESSES"
# What configure is told: those of each search worker, and those of the final training, on all its nodes.
SEARCHING, TRAINING = "DDPM_SEARCH_PROCESSES", "DDPM_TRAINING_PROCESSES"
MOST, MOST_IN_ALL = 64, 64 * 64


def processes() -> int:
    """In how many processes a step that can is to run. Raises WrongInput for no such number; 1 in torchrun's own."""
    return 1 if "TORCHELASTIC_RUN_ID" in os.environ else _told(VARIABLE, MOST)


def require_shared(batches: Iterable[int]) -> None:
    """Raise WrongInput for a batch that search or final training could not share: that would come out hours later."""
    sharing = {
        "each search worker": _told(SEARCHING, MOST),
        "the final training": _told(TRAINING, MOST_IN_ALL),
    }
    for batch in batches:
        if cannot := [f"the {count} processes of {whose}" for whose, count in sharing.items() if batch % count]:
            raise WrongInput(
                f"batch_size: {batch} pictures cannot be shared by {' and '.join(cannot)}; give a multiple of {math.lcm(*sharing.values())}"
            )


def _told(variable: str, most: int) -> int:
    told = os.environ.get(variable, "") or "1"
    if not numerals.DIGITS.fullmatch(told) or not 1 <= numerals.count(told[:20]) <= most:
        raise WrongInput(f"{variable}: '{told}' will not do; it must be a number of processes, from 1 to {most}")
    return numerals.count(told)


def run_in_ranks(count: int, module: str, paths: Sequence[str], more: dict[str, Any]) -> int:
    """Call `module.in_pipeline(*paths, **more)` in so many processes; the exit status, which is rank 0's where it left one.

    What stops this process stops them: they are given the time to leave as after Ctrl-C.
    """
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder, "status")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        call = json.dumps({"paths": [*paths], "more": more})
        threads = {"OMP_NUM_THREADS": str(max(1, processors() // count))}  # each has a share of the processors
        running = subprocess.Popen(
            [*torchrun, "-m", __name__, module, call, str(status)], env={**os.environ, **threads}
        )
        before = signal.signal(signal.SIGTERM, lambda *_: running.terminate())
        try:
            ended = running.wait()
        finally:
            running.kill()  # after Ctrl-C, say; nothing where it has ended
            signal.signal(signal.SIGTERM, before)
        return int(status.read_text()) if status.is_file() else ended


@contextmanager
def joined() -> Iterator[tuple[World, float]]:
    """The world of this process, once all are there; and for how many seconds they waited for that, each one's added up.

    A node's wait begins when its torchrun does: from then on it holds its devices.
    """
    import torch  # pipelines import this file, and need none

    from ddpm.training.world import join_world

    with join_world() as world:
        waited = 0.0
        if world.size > 1:
            torchrun = psutil.Process(os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None)
            mine = torch.tensor(max(0.0, time.time() - torchrun.create_time()), device=world.device)
            waited = float(world.mean(mine)) * world.size
        yield world, waited


def main(module: str, call: str, status: str) -> None:
    """In one of torchrun's processes: the step. How rank 0 ends is kept, for torchrun's own status is always 1."""
    given = json.loads(call)
    try:
        importlib.import_module(module).in_pipeline(*given["paths"], **given["more"])
    except SystemExit as ended:
        if os.environ["RANK"] == "0":
            Path(status).write_text(str(ended.code))
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
