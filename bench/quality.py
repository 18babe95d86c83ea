"""What the benchmarks of quality share: train by a recipe, as far as a budget goes, and measure what it draws.

Whatever is trained or measured is kept, so that a benchmark that was ended goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ddpm.api import open_dataset
from ddpm.data.dataset import PictureSet
from ddpm.device import pick_device
from ddpm.evaluation.evaluate import evaluate
from ddpm.evaluation.report import Report, number_in
from ddpm.model.model import Model
from ddpm.places import default_places
from ddpm.progress import Quiet
from ddpm.registry.initial import open_initial
from ddpm.settings import DrawSettings, EvaluateSettings, ModelSettings, TrainSettings
from ddpm.store import open_store
from ddpm.training.checkpoint import alike_averages, load_model
from ddpm.training.ledger import Trained
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

Say = Callable[[str], None]
OTHER_SEEDS = 10**9  # choosing sees other pictures than those that are reported

SETTINGS: dict[str, Any] = {
    "dataset": "flowers102",  # a name in the store, or a manifest's URI
    "store": "var/store",
    "out": "var/bench/quality",  # what is trained and measured
    "channel_mults": "1-2-4",
    "base_channels": 32,
    "blocks": 2,
    "attention_resolution": 16,
    "batch_size": 128,
    "images": 500_000,  # the budget of a training
    "train_seed": 0,
    "precision": "fp32",
    "compile": "auto",
    "init_from": "",  # weights to begin with: an exported folder, a checkpoint, a version
    "layer": 768,
    "weights": "",  # of Inception; empty: those that the store has or fetches
    "n": 0,  # pictures a draw; 0: as many as the training pictures
    "draws": 3,
    "choose_n": 2048,  # pictures by which one of several averages is chosen; 0: as many as the training pictures
    "sampler": "dpm-solver++",
    "sampling_steps": 20,
    "sample_batch": 256,
}

FOUNDING: dict[str, Any] = {
    "objective": "epsilon", "schedule": "linear", "lr": 7e-5, "decay_fraction": 0.0, "ema_half_lives": "50k",
}  # fmt: skip
OURS: dict[str, Any] = {
    "objective": "edm", "lr": 1e-3, "adam_beta2": 0.99, "warmup_images": 20_000, "decay_fraction": 0.4, "augment": 0.12,
    "dropout": 0.1, "ema_half_lives": "10k 25k 50k",
}  # fmt: skip

# The founding recipe and ours, and ours but for one thing.
RECIPES: dict[str, dict[str, Any]] = {
    "founding": FOUNDING,
    "founding-2e-4": {**FOUNDING, "lr": 2e-4},
    "founding-5e-4": {**FOUNDING, "lr": 5e-4},
    "founding-1e-3": {**FOUNDING, "lr": 1e-3},
    "founding-5e-4-batch-32": {**FOUNDING, "lr": 5e-4, "batch_size": 32},
    "ours": OURS,
    "ours-3e-4": {**OURS, "lr": 3e-4},
    "ours-2e-3": {**OURS, "lr": 2e-3},
    "ours-epsilon": {**OURS, "objective": "epsilon"},
    "ours-v": {**OURS, "objective": "v", "schedule": "cosine", "min_snr_gamma": 5.0},
    "ours-no-augmentation": {**OURS, "augment": 0.0},
    "ours-no-dropout": {**OURS, "dropout": 0.0},
    "ours-no-decay": {**OURS, "decay_fraction": 0.0},
    "ours-no-warmup": {**OURS, "warmup_images": 0},
    "ours-beta2-0.999": {**OURS, "adam_beta2": 0.999},
    "ours-batch-64": {**OURS, "batch_size": 64},
    "ours-batch-32": {**OURS, "batch_size": 32},
    "ours-batch-32-5e-4": {**OURS, "batch_size": 32, "lr": 5e-4},
    "ours-batch-32-epsilon": {**OURS, "batch_size": 32, "objective": "epsilon"},
    "ours-batch-32-no-warmup": {**OURS, "batch_size": 32, "warmup_images": 0},
    "ours-batch-32-no-decay": {**OURS, "batch_size": 32, "decay_fraction": 0.0},
    "ours-batch-32-no-augmentation": {**OURS, "batch_size": 32, "augment": 0.0},
    "ours-batch-32-no-dropout": {**OURS, "batch_size": 32, "dropout": 0.0},
    "ours-batch-32-no-average": {**OURS, "batch_size": 32, "ema_half_lives": "1"},  # the last weights
    "ours-batch-16-5e-4": {**OURS, "batch_size": 16, "lr": 5e-4},
}


@dataclass(frozen=True)
class Place:
    """Where pictures, trainings and figures are."""

    settings: Mapping[str, Any]
    data: PictureSet
    out: Path
    say: Say

    @classmethod
    def of(cls, settings: Mapping[str, Any], say: Say) -> Place:
        return cls(settings, open_dataset(settings["dataset"], settings["store"]), Path(settings["out"]), say)

    def folder(self, name: str) -> Path:
        return self.out / f"{self.data.name}-{self.data.image_size}px" / name

    # -- training --------------------------------------------------------------------------------------------------

    def settings_of(self, recipe: Mapping[str, Any], images: int) -> tuple[ModelSettings, TrainSettings]:
        """A recipe's settings, for a budget in images: as many epochs as go into it, one at least."""
        asked = self.settings
        model = {name: asked[name] for name in ("channel_mults", "base_channels", "blocks", "attention_resolution")}
        train = {name: asked[name] for name in ("batch_size", "train_seed", "precision", "compile", "init_from")}
        epochs = max(1, images // len(self.data.train))
        train |= {"epochs": epochs, "held_out_every": max(1, epochs // 10)}
        network = ModelSettings.__dataclass_fields__
        model |= {name: value for name, value in recipe.items() if name in network}
        train |= {name: value for name, value in recipe.items() if name not in network}
        return ModelSettings(**model), TrainSettings(**train)

    def trained(self, name: str, recipe: Mapping[str, Any], images: int = 0) -> Trained:
        """The facts of a training by a recipe; it goes on where it was. `last_checkpoint` is what it came to."""
        images = images or self.settings["images"]
        model, train = self.settings_of(recipe, images)
        out = self.folder(name) / f"{images}-{train.train_seed}"
        begun = partial(open_initial, train.init_from, default_places()["tracking_uri"])
        trainer = Trainer(model, train, self.data, str(out), World(pick_device()), initial=begun)
        facts = trainer.run(NoObserver(), Quiet())
        spent = facts["spent"]
        self.say(
            f"{name}: {facts['images_seen']:,} images, {facts['parameters']:,} weights, {spent['seconds']:,.0f} s"
            f" ({facts['images_seen'] / max(spent['seconds'], 1e-9):,.0f} images/s), loss {facts['loss']}, held-out"
            f" {facts['held_out_loss']}, {facts['skipped_steps']} steps skipped ({facts.get('skipped_not_finite')} of"
            f" them for gradients that were not finite), {facts['rollbacks']} times back; {spent}"
        )
        return facts

    def average_of(self, checkpoint: str, half_lives: tuple[int, ...]) -> Model:
        """The best of a training's averages, by FID on seeds of their own."""
        distinct = [same[0] for same in alike_averages(checkpoint, half_lives)]
        models = {life: load_model(f"{checkpoint}#{life}") for life in distinct}
        if len(models) == 1:
            return next(iter(models.values()))
        found = {
            life: self.figures(f"choosing, half-life {life}", model, n=self.settings["choose_n"], draws=1,
                               sample_seed=OTHER_SEEDS)["fid"]
            for life, model in models.items()
        }  # fmt: skip
        return models[min(found, key=lambda life: found[life])]

    # -- measuring -------------------------------------------------------------------------------------------------

    def drawing(self, **changes: Any) -> DrawSettings:
        asked = self.settings
        drawing = DrawSettings(
            sampler=asked["sampler"], sampling_steps=asked["sampling_steps"], sample_batch=asked["sample_batch"]
        )
        return replace(drawing, **changes)

    def report(self, model: Model, drawing: DrawSettings, n: int, draws: int, sample_seed: int = 0) -> Report:
        how = EvaluateSettings(
            layer=self.settings["layer"], weights=self.settings["weights"], evaluate_n=n, seeds=draws,
            sample_seed=sample_seed,
        )  # fmt: skip
        return evaluate(model, self.data, how, drawing, open_store(self.settings["store"]), Quiet())

    def figures(
        self, name: str, model: Model, drawing: DrawSettings | None = None, n: int | None = None,
        draws: int | None = None, sample_seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """What a model's pictures come to, and is said."""
        began, asked = time.monotonic(), self.settings
        drawing = drawing or self.drawing()
        report = self.report(
            model, drawing, asked["n"] if n is None else n, asked["draws"] if draws is None else draws, sample_seed
        )
        copying = report["copying"]
        found = {
            "name": name, "fid": number_in(report, "fid"), "fid_interval": report["intervals"].get("fid"),
            "floor": report["noise_floor"]["fid"], "excess": report["excess"]["fid"],
            "excess_interval": report["excess"].get("fid_interval"), "kid": number_in(report, "kid"),
            "kid_interval": report["intervals"].get("kid"), "precision": number_in(report, "precision"),
            "recall": number_in(report, "recall"), "copies": copying["share"], "copies_held_out": copying["share_held_out"],
            "n": report["n"], "seeds": [row.get("fid") for row in report["seeds"]], "nfe": report["cost"]["nfe"],
            "seconds": report["cost"]["seconds"], "weights": model.origin.weights_sha256,
            "checkpoint": model.origin.checkpoint, "grid": report["grid"], "sampler": drawing.sampler, "steps": drawing.sampling_steps,
            "guidance": drawing.guidance,
        }  # fmt: skip
        self.say(f"{json.dumps(found)}  ({time.monotonic() - began:.0f} s)")
        return found

    def keep(self, table: str, rows: list[dict[str, Any]]) -> Path:
        """A table's rows as JSON, among what was trained."""
        path = self.folder(f"{table}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=1) + "\n")
        return path
