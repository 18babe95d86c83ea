"""Which quick score tells early how good a trial will be, and what successive halving by it saves.

    make bench BENCH=rungs

See docs/search.md.

Every list is trained at every rate to its budget, and scored on the way in several quick ways. At the end each is
measured once more, by pictures and seeds of their own, in the preset's own way of drawing. Printed is how well each quick
score ranks the settings as that does, and what the search's own halving makes of the same trials.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from scipy.stats import kendalltau, spearmanr

from bench.search import words_of
from bench.table import Row
from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import ingest
from ddpm.device import pick_device
from ddpm.evaluation.measure import Scores, score
from ddpm.evaluation.reference import Reference, open_reference
from ddpm.fields import require
from ddpm.model.model import Model
from ddpm.plan import Plan
from ddpm.presets import load_preset
from ddpm.progress import Quiet
from ddpm.search.halving import Halving, Rung, rung_at, rung_of_losses, rung_of_scores
from ddpm.search.trial import trial_settings
from ddpm.settings import SearchSettings
from ddpm.store import open_store
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

SETTINGS: dict[str, Any] = {
    "preset": "digits",
    "source": "",  # empty: the preset's
    "max_pictures": 0,
    "all": "",  # settings over the preset's, in words: 'base_channels=16 batch_size=32'
    "mults": "1-2-3,1-2-4",
    "rates": "3e-4,7e-4,2e-3,5e-3",
    "budget": 4,  # epochs of a trial
    "rungs": "1,2",
    "counts": "128,512",  # pictures of a quick score
    "steps": "20",  # of its sampler
    "final_n": 256,
    "repetition": 0,  # trainings of another number have other seeds
}
FINAL_SEED = 2**42  # the first of those that the final figures are of

Looks = dict[int, dict[str, Rung]]  # by epoch: each quick score


@dataclass(frozen=True)
class Trial:
    """What came of a setting."""

    name: str
    looks: Looks
    final: Scores


class Watcher(NoObserver):
    """Takes every quick score at every rung."""

    def __init__(self, rungs: list[int], ways: dict[int, list[int]], reference: Reference, batch: int) -> None:
        self.rungs, self.ways, self.reference, self.batch = rungs, ways, reference, batch
        self.looks: Looks = {}
        self.seconds: dict[str, list[float]] = {}
        self.losses: Callable[[], list[float]] = list  # the trainer's, once there is one

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        if epoch in self.rungs:
            self.looks[epoch] = found = {"held-out loss": rung_of_losses(self.losses())}
            for steps, counts in self.ways.items():
                began = time.monotonic()
                images = model.draw(range(max(counts)), model.quick(steps, self.batch))
                drawn = (time.monotonic() - began) / len(images)
                for n in counts:
                    began = time.monotonic()
                    scores = score(self.reference, images[:n], intervals=True)
                    way = f"{n} pictures in {steps} steps"
                    self.seconds.setdefault(way, []).append(n * drawn + time.monotonic() - began)
                    found[f"FID, {way}"] = rung_of_scores(scores.fid, scores.fid_std)
                    found[f"KID, {way}"] = rung_of_scores(scores.kid, scores.kid_std)
        return False


def run(settings: dict[str, Any], say: Callable[[str], None]) -> list[Row]:
    rungs = [int(epoch) for epoch in settings["rungs"].split(",")]
    halved = SearchSettings(trial_epochs=settings["budget"], first_rung=min(rungs)).rungs
    require({*halved} <= {*rungs}, "rungs", settings["rungs"], f"{','.join(map(str, halved))} and any others")
    counts = sorted(map(int, settings["counts"].split(",")))
    ways = dict.fromkeys(map(int, settings["steps"].split(",")), counts)
    with tempfile.TemporaryDirectory() as folder:
        plan = _plan(settings, folder)
        store = open_store(plan.store)
        data = open_dataset(ingest(plan.ingest, store, Quiet())["uri"])
        device = pick_device()
        reference = open_reference(plan.evaluate, data, store, str(device), Quiet())
        reference.prepare()
        trials = []
        points = list(itertools.product(plan.search.choices, map(float, settings["rates"].split(","))))
        for number, (mults, lr) in enumerate(points):
            watcher = Watcher(rungs, ways, reference, min(plan.draw.sample_batch, max(counts)))
            model, train = trial_settings(plan, {"channel_mults": mults, "lr": lr})
            trainer = Trainer(model, train, data, f"{folder}/trials/{number}", World(device))
            watcher.losses = trainer.held_out_losses
            began = time.monotonic()
            trainer.run(watcher, Quiet())
            images = trainer.averaged.draw(range(FINAL_SEED, FINAL_SEED + settings["final_n"]), plan.draw)
            final = score(reference, images, intervals=True)
            trials.append(Trial(f"{mults} at {lr:g}", watcher.looks, final))
            say(f"{mults} at {lr:g}: {final.named('fid')} {final.fid:.4g}, {time.monotonic() - began:.0f} s")
            for way, seconds in watcher.seconds.items():
                say(f"  {way}: {statistics.median(seconds):.2f} s a score")
    return [*correlations(trials, rungs), *replayed(trials, settings)]


def _plan(settings: dict[str, Any], folder: str) -> Plan:
    """The preset's, with a look every epoch."""
    given = {**load_preset(settings["preset"]), "held_out_every": 1, "first_rung": 0}
    given |= {"mults_choices": settings["mults"], "trial_epochs": settings["budget"]}
    given |= {"max_pictures": settings["max_pictures"], **words_of(settings["all"])}
    if settings["source"]:
        given["source"] = settings["source"]
    places = {
        "run_name": f"bench-{settings['repetition']}",
        "store": folder,
        "tracking_uri": "sqlite:////none",
        "study_storage": f"{folder}/study",
    }
    return Plan.from_parameters({**given, **places})


def correlations(trials: list[Trial], rungs: list[int]) -> list[Row]:
    """Of each quick score at each rung with the final FID: Spearman's, and Kendall's beside it."""
    final = [trial.final.fid for trial in trials]
    rows = []
    for epoch in rungs:
        for name in trials[0].looks[epoch]:
            quick = [trial.looks[epoch][name]["score"] for trial in trials]
            for unit, found in (("Spearman", spearmanr(quick, final)), ("Kendall", kendalltau(quick, final))):
                rows.append(Row("rungs", f"{name}, after epoch {epoch}", unit, float(found.statistic)))
    return rows


def replayed(trials: list[Trial], settings: dict[str, Any]) -> list[Row]:
    """The same trials, halved as one worker's search halves them, by each of the ways of scoring."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    best = min(trial.final.fid for trial in trials)
    halving = SearchSettings(trial_epochs=settings["budget"], first_rung=min(trials[0].looks))
    rows = []
    for name in trials[0].looks[halving.first_rung]:
        study = optuna.create_study(pruner=Halving(halving))
        going, epochs = [(study.ask(), trial) for trial in trials], 0
        for epoch in halving.rungs:
            for asked, trial in going:
                rung = trial.looks[epoch][name]
                asked.set_user_attr(rung_at(epoch), rung)
                asked.report(rung["score"], epoch)
            better = [(asked, trial) for asked, trial in going if not asked.should_prune()]
            epochs += epoch * (len(going) - len(better))
            going = better
        epochs += halving.trial_epochs * len(going)
        share = epochs / (halving.trial_epochs * len(trials))
        winner = min((trial.final for _, trial in going), key=lambda final: final.fid)
        rows.append(Row("rungs", f"images trained, halving by {name}", "of the grid's", share))
        rows.append(Row("rungs", "its winner", winner.named("fid"), winner.fid, {"grid": best}, best / winner.fid))
    return rows
