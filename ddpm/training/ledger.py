"""What a training writes beside its checkpoints: what it is (training.json), and, at its end, what came of it (done.json)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ddpm.errors import WrongInput
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.store import Missing, Store
from ddpm.training.checkpoint import Checkpoint

# On the way; micro_batch changes roundings only, and dropout's masks.
MAY_CHANGE = ("checkpoint_seconds", "resident", "micro_batch")


class Ledger:
    """The two files. Raises WrongInput where `out` holds a training that is not the one described."""

    def __init__(
        self, out: Store, model: ModelSettings, settings: TrainSettings, dataset_digest: str, start: str | None
    ) -> None:
        self.out = out
        self.identity: dict[str, Any] = {
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

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads(self.out.read(name))
        except Missing:
            return None
        except ValueError:
            raise WrongInput(
                f"out: {self.out.uri(name)} is damaged: it is not JSON; remove it, and run this again"
            ) from None

    def begin(self) -> None:
        self.out.write("training.json", json.dumps(self.identity, indent=1).encode())

    def finished(self) -> dict[str, Any] | None:
        """What a training that has ended here returned."""
        return self._read("done.json")

    def finish(self, facts: dict[str, Any]) -> None:
        self.out.write("done.json", json.dumps(facts, indent=1).encode())


def require_fits(
    start: Checkpoint, model: ModelSettings, image_size: int, batch: int, total_steps: int, epochs: int
) -> None:
    """Raise WrongInput where a training cannot go on from this checkpoint."""
    facts = start.facts
    if start.model_settings != model or facts["image_size"] != image_size:
        raise WrongInput(
            f"start: {start.uri} is of another model; give its settings and a data set of {facts['image_size']} px"
        )
    if facts["step"] * batch != facts["images_seen"]:
        raise WrongInput(
            f"start: {start.uri} was trained with another batch size; give batch_size {facts['images_seen'] // max(facts['step'], 1)}"
        )
    if facts["step"] > total_steps:
        raise WrongInput(
            f"start: {start.uri} has {facts['epoch']:g} epochs behind it, more than epochs ({epochs}); give more epochs"
        )
