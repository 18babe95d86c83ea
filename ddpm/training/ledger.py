"""What a training writes beside its checkpoints: what it is (training.json), and, at its end, what came of it (done.json)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, NotRequired, TypedDict, cast

from ddpm.errors import WrongInput
from ddpm.meter import Spent
from ddpm.settings import ModelSettings, TrainSettings, pick
from ddpm.store import Damaged, Missing, Store
from ddpm.store.reading import misfit, read_json
from ddpm.training.checkpoint import Checkpoint
from ddpm.training.lineage import Ancestor, kept_folders
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
    skipped_not_finite: NotRequired[int | None]  # of these; None: not known; earlier releases wrote none
    rollbacks: int
    parameters: int  # of the network
    spent_budget: bool
    stopped: str  # why it ended
    spent: NotRequired[Spent]  # by all its processes, up to their last checkpoints; earlier releases wrote none
    lineage: NotRequired[list[Ancestor]]  # of one that began with other weights, or went on from others


class _Done(TypedDict):
    """Of done.json, what every release wrote."""

    checkpoint: str
    weights_sha256: str
    images_seen: int


class Ledger:
    """The two files. Raises WrongInput where `out` holds a training that is not the one described.

    One that has spent its budget may be given more epochs. It goes on in the same place, and `ended` is what came of it
    until then.
    """

    def __init__(
        self, out: Store, model: ModelSettings, settings: TrainSettings, dataset_digest: str, start: str | None
    ) -> None:
        self.out = out
        self.identity: dict[str, str | int | float | None] = {
            **{name: value for name, value in {**asdict(model), **asdict(settings)}.items() if name not in MAY_CHANGE},
            "dataset_digest": dataset_digest,
            "start": start,
        }
        before: dict[str, Any] = self._read("training.json") or {**self.identity}
        # In today's words; a setting that came later was at its default.
        before |= {**asdict(pick(ModelSettings, before)), **asdict(pick(TrainSettings, before))}
        self.lineage: list[Ancestor] = before.get("lineage", [])
        self.ended: Trained | None = None
        for name, value in self.identity.items():
            was: Any = before.get(name)
            if was == value:
                continue
            if name != "epochs" or not self._may_go_on(was, settings.epochs):
                raise WrongInput(
                    f"out: {out.root} holds a training with {name} {was!r}, not {value!r}; give another place, or the same settings"
                )
        self.epochs_before = int(before["epochs"])

    def _may_go_on(self, before: int, epochs: int) -> bool:
        """Whether a training of `before` epochs may have more of them. Raises WrongInput where that would change nothing."""
        if (done := self.finished()) is None or epochs < before:
            return False
        if not done.get("spent_budget", True):
            raise WrongInput(
                f"out: the training in {self.out.root} ended before its {before} epochs were over ({done.get('stopped')}), and more of them would change nothing; go on from it in another place with --start {done['checkpoint']}"
            )
        self.ended = done
        return True

    def _read(self, name: str) -> Any:
        """A file's JSON; None where there is none."""
        try:
            return read_json(self.out, name, dict[str, Any], "remove it, and run this again")
        except Missing:
            return None

    def descends(self, lineage: list[Ancestor]) -> None:
        """Keep where a training comes from that has no checkpoint yet.

        Raises WrongInput where it began with other weights, before it was stopped.
        """
        if self.lineage and self.lineage[-1]["weights_sha256"] != lineage[-1]["weights_sha256"]:
            raise WrongInput(
                f"init_from: {self.out.root} holds a training that began with weights {self.lineage[-1]['weights_sha256'][:12]}, and {lineage[-1]['reference']} are {lineage[-1]['weights_sha256'][:12]}; give another place"
            )
        self.lineage = lineage

    def begin(self) -> None:
        lineage = {"lineage": self.lineage} if self.lineage else {}
        self.out.write("training.json", json.dumps({**self.identity, **lineage}, indent=1).encode())

    def finished(self) -> Trained | None:
        """What a training that has ended here returned; None where none has. Its checkpoints are where `out` is now."""
        done = self._read("done.json")
        if done is not None and (problem := misfit(done, _Done)):
            raise Damaged(f"{self.out.uri('done.json')} is damaged: {problem}; remove it, and run this again")
        if done is None or _folder(done["last_checkpoint"]) in kept_folders(self.lineage):  # given more epochs since
            return None
        for name in ("checkpoint", "last_checkpoint"):
            done[name] = self.out.uri("/".join(done[name].split("/")[-2:]))  # the folder may have been moved
        return done

    def goes_on(self, rate: str) -> None:
        """Keep that the training that had `ended` goes on, and what becomes of its rate, in words."""
        assert self.ended is not None
        end: Ancestor = {
            "how": "epochs", "reference": self.ended["last_checkpoint"], "weights_sha256": self.ended["weights_sha256"],
            "images_seen": self.ended["images_seen"], "dataset_digest": str(self.identity["dataset_digest"]),
            "epochs": self.epochs_before, "rate": rate,
            "kept": sorted({_folder(self.ended["checkpoint"]), _folder(self.ended["last_checkpoint"])}),
        }  # fmt: skip
        self.lineage = [*self.lineage, end]

    def finish(self, facts: Trained) -> None:
        self.out.write("done.json", json.dumps(facts, indent=1).encode())


def _folder(uri: str) -> str:
    """The name of a checkpoint's folder, by its URI."""
    return "".join(uri.split("/")[-2:-1])


def ancestors_of(start: Checkpoint) -> list[Ancestor]:
    """The lineage of a training that goes on from this checkpoint. What its own folder keeps is no matter of ours."""
    facts = start.facts
    before = [
        cast(Ancestor, {name: value for name, value in one.items() if name != "kept"})
        for one in facts.get("lineage", [])
    ]
    return [
        *before,
        {
            "how": "start", "reference": start.uri, "weights_sha256": facts["sha256"]["weights.safetensors"],
            "images_seen": facts["images_seen"], "dataset_digest": facts.get("dataset_digest"),
        },
    ]  # fmt: skip


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
