"""The search beside the whole grid: is what it chooses as good, and for how much of the training?

    make bench BENCH=search

The grid is a study too: every list of the preset at every rate, each to its whole budget. The other studies have the same
lists and as many trials, rates between the grid's, begin at the middle one, and end trials early. Each chooses as a run
does. What each chose is then trained anew, with training seeds that all have in common, and measured by pictures of one set
of seeds: so the verdict is on settings, and the best of many scores is no better for being that. See docs/search.md.

All of it is kept in `folder`, and the same command carries on there.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from scipy.stats import t

from bench.table import Row
from ddpm.arguments import setting_words
from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import ingest
from ddpm.device import pick_device
from ddpm.evaluation.measure import score
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.plan import Plan
from ddpm.presets import load_preset
from ddpm.progress import Lines, Quiet
from ddpm.search.choice import choose
from ddpm.search.space import Point
from ddpm.search.study import open_storage
from ddpm.search.trial import TrialRow, trial_settings
from ddpm.search.worker import search
from ddpm.steps.configure import configure
from ddpm.store import open_store
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

SETTINGS: dict[str, Any] = {
    "preset": "digits",
    "source": "",  # empty: the preset's
    "folder": "var/bench/search",
    "rates": "5e-4,1.2e-3,3e-3",  # the grid's, in order
    "studies": 3,
    "first": 0,  # the first study's number: others have other seeds
    "both": "base_channels=8 held_out_every=1",  # settings of the grid and of the studies, over the preset's
    "search": "trials=12 first_rung=1 rung_factor=4 rung_score=loss",  # those by which the studies differ
    "name": "halving",  # of the studies, for other settings in the same folder
    "repeats": 2,  # trainings of each choice
    "final_n": 1024,  # pictures of each
}
FINAL_SEED = 2**42  # the first of theirs

Say = Callable[[str], None]


@dataclass(frozen=True)
class Studied:
    """A study that has ended: what it chose, and what it took."""

    name: str
    choice: Point
    images: int
    seconds: float


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    rates = [float(rate) for rate in settings["rates"].split(",")]
    given = load_preset(settings["preset"])
    if settings["source"]:
        given["source"] = settings["source"]
    given |= words_of(settings["both"])
    given |= {"lr_low": rates[0], "lr_high": rates[-1], "founding_lr": rates[len(rates) // 2]}
    plan = _plan(settings, given, "grid")
    points = [{"channel_mults": mults, "lr": rate} for rate, mults in itertools.product(rates, plan.search.choices)]
    plan = _plan(settings, given | {"trials": len(points)}, "grid")
    _queue(plan, points)
    uri = ingest(plan.ingest, open_store(plan.store), Lines())["uri"]
    grid = _studied(plan, uri, say)
    numbers = range(settings["first"], settings["first"] + settings["studies"])
    found = [
        _studied(_plan(settings, given | words_of(settings["search"]), f"{settings['name']}-{number}"), uri, say)
        for number in numbers
    ]
    judge = Judge(plan, uri, settings, say)
    return rows(grid, found, {one.name: judge.figures(one.choice) for one in (grid, *found)})


def words_of(text: str) -> dict[str, Any]:
    """Settings written as words: 'base_channels=8 held_out_every=1'."""
    return dict(word.partition("=")[::2] for word in setting_words(text))


def _plan(settings: Mapping[str, Any], given: Mapping[str, Any], name: str) -> Plan:
    folder = Path(settings["folder"]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        "run_name": name,
        "store": str(folder / "store"),
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "study_storage": str(folder / "studies.log"),
    }
    return Plan.from_parameters({**given, **places})


def _queue(plan: Plan, points: list[Point]) -> None:
    """The grid's trials, as a study that `configure` finds queued."""
    storage = open_storage(plan.study_storage)
    study = optuna.create_study(storage=storage, study_name=plan.run_name, direction="minimize", load_if_exists=True)
    for point in points[len(study.get_trials(deepcopy=False)) :]:
        study.enqueue_trial(point)


def _studied(plan: Plan, uri: str, say: Say) -> Studied:
    """Run the study of a plan to its end, from wherever it is, and let it choose."""
    run = configure(plan.parameters(), Lines())
    search(run, uri, 0, Lines())
    choice = choose(run, uri, Lines())
    best = choice["trials"][choice["best"]]
    found = Studied(plan.run_name, _point(best), *_spent(choice["trials"]))
    states = [row["state"].lower() for row in choice["trials"]]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    say(f"{plan.run_name}: {counted}; {found.images:,} images in {found.seconds:,.0f} s; {choice['best_why']}")
    return found


def _point(row: TrialRow) -> Point:
    return {"channel_mults": row["channel_mults"], "lr": row["lr"], **row["point"]}


def _spent(trials: list[TrialRow]) -> tuple[int, float]:
    """Images trained on and seconds, of all trials together."""
    return sum(row["images_seen"] or 0 for row in trials), sum(row["seconds"] or 0.0 for row in trials)


class Judge:
    """Trains a choice anew, with the training seeds that all choices have in common, and measures what it draws."""

    def __init__(self, plan: Plan, uri: str, settings: Mapping[str, Any], say: Say) -> None:
        self.plan, self.data, self.settings, self.say = plan, open_dataset(uri), settings, say
        self.folder = Path(settings["folder"]) / "judged"

    def figures(self, point: Point) -> list[float]:
        """FID of each training; those that are kept are not had again."""
        return [self._figure(point, repetition) for repetition in range(self.settings["repeats"])]

    def _figure(self, point: Point, repetition: int) -> float:
        n, words = self.settings["final_n"], " ".join(f"{name}={value}" for name, value in point.items())
        folder = self.folder / words.replace(" ", ",") / str(repetition)
        kept = folder / f"fid-{n}.json"
        if not kept.exists():
            model, train = trial_settings(replace(self.plan, run_name=f"judged-{repetition}"), point)
            trainer = Trainer(model, train, self.data, str(folder / "training"), World(pick_device()))
            trainer.run(NoObserver(), Quiet())
            averaged = trainer.averaged
            quick = averaged.quick(self.plan.search.score_steps, self.plan.draw.sample_batch)
            fid = score(self._reference(), averaged.draw(range(FINAL_SEED, FINAL_SEED + n), quick)).fid
            kept.write_text(json.dumps({"fid": fid}))
            self.say(f"{words}, training {repetition}: FID {fid:.4g}")
        return float(json.loads(kept.read_text())["fid"])

    def _reference(self) -> Reference:
        place = open_store(self.plan.store)
        return open_reference(self.plan.evaluate, self.data, place, str(pick_device()), Quiet())


def rows(grid: Studied, found: list[Studied], figures: Mapping[str, list[float]]) -> list[Row]:
    """What each study took of what the grid took, and its choice's FID beside that of the grid's choice."""
    noise, freedom = _noise(figures.values())
    theirs = statistics.fmean(figures[grid.name])
    # 95%, of the difference of two means of so many trainings
    half = t.ppf(0.975, freedom) * noise * math.sqrt(2 / len(figures[grid.name]))
    listed = [Row("search", "the grid's images", "images", grid.images)]
    for one in found:
        ours, chosen = statistics.fmean(figures[one.name]), f"{one.choice['channel_mults']} at {one.choice['lr']:.2g}"
        listed += [
            Row("search", f"{one.name}: images trained", "of the grid's", one.images / grid.images),
            Row("search", f"{one.name}: its choice, {chosen}", "FID", ours, {f"{grid.choice['channel_mults']} at {grid.choice['lr']:.2g}": theirs}, theirs / ours),
        ]  # fmt: skip
    listed.append(Row("search", "half the 95% interval of such a difference, by other training seeds", "FID", half))
    within = sum(statistics.fmean(figures[one.name]) - theirs <= half for one in found)
    return [*listed, Row("search", "as good as the grid's choice, or within that", "of studies", within / len(found))]


def _noise(figures: Any) -> tuple[float, int]:
    """The standard deviation of a choice's FID over training seeds, of all choices together, and its degrees of freedom."""
    different = {tuple(each) for each in figures}
    freedom = sum(len(each) - 1 for each in different)
    squares = sum(sum((one - statistics.fmean(each)) ** 2 for one in each) for each in different)
    return math.sqrt(squares / freedom), freedom
