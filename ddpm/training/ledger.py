"""What a training writes beside its checkpoints: what it is (training.json), and, at its end, what came of it (done.json)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, TypedDict

from ddpm.errors import WrongInput
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.store import Damaged, Missing, Store
from ddpm.store.reading import misfit, read_json
from ddpm.training.checkpoint import Checkpoint
from ddpm.training.schedule import Schedule

# On the way; micro_batch changes roundings only, and dropout's masks.
MAY_CHANGE = ("checkpoint_seconds", "resident", "micro_batch")


class Trained(TypedDict):
    """What came of a training: done.json, and what `ddpm train` prints."""

    checkpoint: str  # URI of the best
    last_checkpoint: str  # URI
    weights_sha256: str  # of the last step's raw weights, as a safetensors file
    images_seen: int
    epochs: float
    loss: float | None  # mean of the last steps; None: of no step
    held_out_loss: float | None  # the best; None without held-out pictures
    skipped_steps: int
    rollbacks: int
    parameters: int  # of the network
    spent_budget: bool
    stopped: str  # why it ended


class _Done(TypedDict):
    """Of done.json, what every release wrote."""

    checkpoint: str
    weights_sha256: str
    images_seen: int


class Ledger:
    """The two files. Raises WrongInput where `out` holds a training that is not the one described."""

    def __init__(
        self, out: Store, model: ModelSettings, settings: TrainSettings, dataset_digest: str, start: str | None
    ) -> None:
        self.out = out
        self.identity: dict[str, str | int | float | None] = {
            **{name: value for name, value in {**asdict(model), **asdict(settings)}.items() if name not in MAY_CHANGE},
            "dataset_digest": dataset_digest,
            "start": start,
        }
        before = self._read("training.json") or self.identity
        for name, value in self.identity.items():
            if before.get(name) != value:
                raise WrongInput(
                    f"out: {out.root} holds a training with {name} {before.get(name)!r}, not {value!r}; give another place, or the same settings"
                )

    def _read(self, name: str) -> Any:
        """A file's JSON; None where there is none."""
        try:
            return read_json(self.out, name, dict[str, Any], "remove it, and run this again")
        except Missing:
            return None

    def begin(self) -> None:
        self.out.write("training.json", json.dumps(self.identity, indent=1).encode())

    def finished(self) -> Trained | None:
        """What a training that has ended here returned; None where none has. Its checkpoints are where `out` is now."""
        done = self._read("done.json")
        if done is not None and (problem := misfit(done, _Done)):
            raise Damaged(f"{self.out.uri('done.json')} is damaged: {problem}; remove it, and run this again")
        if done is not None:
            for name in ("checkpoint", "last_checkpoint"):
                done[name] = self.out.uri("/".join(done[name].split("/")[-2:]))  # the folder may have been moved
        return done

    def finish(self, facts: Trained) -> None:
        self.out.write("done.json", json.dumps(facts, indent=1).encode())


def require_fits(start: Checkpoint, model: ModelSettings, image_size: int, schedule: Schedule) -> None:
    """Raise WrongInput where a training cannot go on from this checkpoint."""
    facts = start.facts
    if start.model_settings != model or facts["image_size"] != image_size:
        raise WrongInput(
            f"start: {start.uri} is of another model; give its settings and a data set of {facts['image_size']} px"
        )
    if schedule.images_seen(facts["step"]) != facts["images_seen"]:
        raise WrongInput(
            f"start: {start.uri} was trained with another batch size; give batch_size {facts['images_seen'] // max(facts['step'], 1)}"
        )
    if facts["step"] > schedule.total_steps:
        raise WrongInput(
            f"start: {start.uri} has {facts['epoch']:g} epochs behind it, more than epochs ({schedule.settings.epochs}); give more epochs"
        )
