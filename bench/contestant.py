"""A contestant in a process of its own, that works when it is told to.

So that its peak memory is its own, and that all can take turns without being built anew. The two sides write lines of
JSON to each other: seconds to work for, and what came of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.peers import SAMPLING, TRAINING, Contest

MIB = 2**20


class Contestant:
    """The parent's side: start it, ask it to work, and end it when leaving the `with` block."""

    def __init__(self, who: str, contest: Contest) -> None:
        self.who, self.contest, self.peak_mib = who, contest, 0.0
        environment = {**os.environ, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.contestant"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self.first_seconds = float(self._ask({"who": who, **asdict(contest)})["seconds"])

    def work(self, seconds: float) -> float:
        """Work for about so long, at least once; returns pictures (or FLOPs) a second."""
        answer = self._ask({"seconds": seconds})
        self.peak_mib = answer["peak_mib"]
        return float(answer["rate"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.who} ended with status {self.process.wait()}; what it said is above")
        return json.loads(line)

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()


def _peak_mib(device: str) -> float:
    """Of the device's memory where there is one, else of this process's (resident, libraries included)."""
    import torch

    if device != "cpu":
        return torch.cuda.max_memory_allocated() / MIB
    # Not getrusage: its peak begins with the parent's own.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    import torch

    from ddpm.device import threads_for

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(found: dict[str, float]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    question = json.loads(input())
    who = question.pop("who")
    contest = Contest(**question)
    wait = torch.cuda.synchronize if contest.device != "cpu" else lambda: None
    began = time.perf_counter()
    with threads_for(contest.base_channels, torch.device(contest.device)):
        work = (SAMPLING if contest.nfe else TRAINING)[who](contest)
        work()  # compiles, allocates
        wait()
        answer({"seconds": time.perf_counter() - began})
        for line in sys.stdin:
            seconds = json.loads(line)["seconds"]
            began, done = time.perf_counter(), 0
            while True:
                done += work()
                if time.perf_counter() - began >= seconds:
                    wait()
                    break
            answer({"rate": done / (time.perf_counter() - began), "peak_mib": _peak_mib(contest.device)})


if __name__ == "__main__":
    main()
