"""How far a whole run is, and about how long the rest will take.

A run's work is counted in pictures that go through the network: three a picture that trains, one a step of the sampler.
How fast they go is seen from those that went. Nets of different sizes take different times, so it is an estimate; of a
run that carries on, a trial that stands at a rung counts as still to do until it is heard of.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ddpm.attempts import SECOND
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.run import Run

TASK = "the whole run"
TRAINING = 3  # forward, and twice as much backward
SECONDS_TO_TELL = 10.0  # of work, from which its speed is known well enough
TRIAL = re.compile(r"trial (\d+) \(")
OVER = re.compile(r"trial (\d+) \(\d+ of \d+\)")  # dropped by that name: see `ddpm.search.trial.of_all`
FINALIST = re.compile(r"finalists: .*, (\d+) of \d+")
FINALISTS, FINAL, DRAWING, SCORE = "finalists", "final training", "drawing pictures", "its score"
SECOND_TRAINING, SECOND_DRAWING = "transfer training", "drawing the second set's pictures"
AFTER_TRIALS = (FINALISTS, FINAL, DRAWING, SECOND_TRAINING, SECOND_DRAWING)


class Estimate:
    """Hears a run's events, and tells how far it is once that can be said."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._clock = plan, clock
        self._work: dict[str, float] = {}  # of each stage; empty until the number of pictures is known
        self._done: dict[str, float] = {}  # share of each stage that is done
        self._before = 0.0  # work that took none of the seconds since it began
        self._began: float | None = None
        self._drawn: Counter[str] = Counter()  # draws that are over, of each stage that draws for a report

    def hear(self, event: dict[str, Any], progress: Progress) -> None:
        """Take in an event of `pipelines.runner`, and tell."""
        if (event.get("step"), event.get("state")) == ("ingest", "done"):
            facts = Run(self._plan).facts("ingest")
            self._work = work_of(self._plan, facts["n"], facts.get("second_n", 0)) if facts else {}
        elif "task" in event and self._work:
            stage, share = self._stage(event)
            if stage in self._work:
                self._take(stage, share)
        elif found := OVER.fullmatch(event.get("drop", "")):
            self._settle(f"trial {found[1]}")
            self._settle(f"score {found[1]}")
        elif event.get("drop") in (FINAL, SECOND_TRAINING):  # over before its last epoch: no use in more
            self._settle(event["drop"])
        elif event.get("drop") == DRAWING:
            self._drawn[self._drawing(event)] += 1
        elif SCORE in event.get("drop", "") and (found := TRIAL.match(event["drop"])):
            self._done[f"score {found[1]}"] = 1.0
        if self._began is not None:
            self._tell(progress)

    def end(self, progress: Progress) -> None:
        progress.drop(TASK)

    def _stage(self, event: dict[str, Any]) -> tuple[str, float]:
        task, share = event["task"], event["done"] / max(event["total"], 1e-9)
        if found := TRIAL.match(task):
            return f"{'score' if task.endswith(SCORE) else 'trial'} {found[1]}", share
        if found := FINALIST.fullmatch(task):
            return FINALISTS, (int(found[1]) - 1 + share) / finalists_of(self._plan)
        if task == DRAWING:
            stage = self._drawing(event)
            return stage, min(1.0, (self._drawn[stage] + share) / self._plan.evaluate.seeds)
        if task == FINAL:  # it goes on from where its trial ended
            behind = self._plan.search.trial_epochs / self._plan.train.epochs
            share = max(0.0, (share - behind) / max(1 - behind, 1e-9))
        return task, share

    @staticmethod
    def _drawing(event: dict[str, Any]) -> str:
        """Which stage draws; "" where it is none of a report."""
        return {"evaluate": DRAWING, f"{SECOND}evaluate": SECOND_DRAWING}.get(event["step"], "")

    def _take(self, stage: str, share: float) -> None:
        if stage not in self._done:
            if stage in AFTER_TRIALS:
                for earlier in list(self._work)[: list(self._work).index(stage)]:
                    self._settle(earlier)
            self._settle(stage, share)
        self._began = self._clock() if self._began is None else self._began
        self._done[stage] = max(share, self._done[stage])

    def _settle(self, stage: str, share: float = 1.0) -> None:
        """So much of a stage is done, or never will be, without this process having seen it go."""
        if (gained := share - self._done.get(stage, 0.0)) >= 0:
            self._done[stage] = share
            self._before += self._work.get(stage, 0.0) * gained

    def _so_far(self) -> float:
        return sum(self._work[stage] * share for stage, share in self._done.items() if stage in self._work)

    def _tell(self, progress: Progress) -> None:
        assert self._began is not None
        total, so_far = sum(self._work.values()), self._so_far()
        seconds, taken = self._clock() - self._began, so_far - self._before
        if seconds < SECONDS_TO_TELL or taken < 1:  # picture
            return
        left = (total - so_far) * seconds / taken
        progress.update(TASK, min(so_far, 0.99 * total), total, f"{in_words(left)} left")


def work_of(plan: Plan, pictures: int, of_second: int = 0) -> dict[str, float]:
    """The work of each stage of a run on so many training pictures, and on those of a second set, in their order."""
    search = plan.search
    score = search.score_n * search.score_steps
    work: dict[str, float] = {}
    for number in range(search.trials):
        work[f"trial {number}"] = TRAINING * search.trial_epochs * pictures
        work[f"score {number}"] = score
    if (anew := finalists_of(plan)) > 1:
        work[FINALISTS] = anew * search.final_n * search.score_steps
    work[FINAL] = TRAINING * (plan.train.epochs - search.trial_epochs) * pictures
    work[DRAWING] = _drawing(plan, pictures)
    if plan.transfer.transfer_source:
        second = plan.second()
        work[SECOND_TRAINING] = TRAINING * second.train.epochs * of_second
        work[SECOND_DRAWING] = _drawing(second, of_second)
    return work


def finalists_of(plan: Plan) -> int:
    """How many are planned; where trials failed there are fewer."""
    return min(plan.search.finalists, plan.search.trials)


def _drawing(plan: Plan, pictures: int) -> float:
    guided = 2 if plan.draw.guidance != 1 else 1
    return plan.evaluate.seeds * (plan.evaluate.evaluate_n or pictures) * plan.draw.sampling_steps * guided


def in_words(seconds: float) -> str:
    """About how long that is."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} min" if minutes < 100 else f"about {minutes // 60} h {minutes % 60} min"
