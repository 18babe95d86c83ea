"""The training loop. It knows no tracker, no study and no pipeline: it reports to the observer it is handed.

Its clock is the number of images seen. Every draw is keyed by the step, so that a run that was killed and started
again takes the same steps with the same numbers as one that was not. All that waits for the device, and every decision,
happens at checks, which come at fixed steps; there the state is always a good one, and only there it is saved.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from ddpm.data.dataset import PictureSet
from ddpm.device import keep_memory, threads_for
from ddpm.errors import Refused, WrongInput
from ddpm.meter import NOTHING, Meter
from ddpm.model.diffusion import Diffusion
from ddpm.model.model import Model, suited
from ddpm.progress import Progress
from ddpm.settings import ModelSettings, TrainSettings, require_one_weight
from ddpm.store import Store, open_store
from ddpm.training import checkpoint
from ddpm.training.batches import Batches
from ddpm.training.gradients import Gradients
from ddpm.training.guard import MOST_ROLLBACKS, Snapshot
from ddpm.training.initial import Initial, agree, ancestor_of, of_checkpoint
from ddpm.training.learner import Learner
from ddpm.training.ledger import Ledger, Trained, ancestors_of, require_fits
from ddpm.training.lineage import in_words, kept_folders
from ddpm.training.looks import Best, Looks
from ddpm.training.observer import Observer
from ddpm.training.recipe import Recipe
from ddpm.training.recorded import Recorded, Work
from ddpm.training.schedule import Schedule
from ddpm.training.world import World

CHECK_EVERY = {"cpu": 10, "cuda": 50, "mps": 50}  # steps between checks, about: each waits for the device


class Trainer:
    """One training run, writing its checkpoints to `out`; the same `out` again resumes it.

    `start` is the URI of a checkpoint to go on from (weights, averages, optimizer and clock) where `out` has none yet.
    `initial` opens what the setting init_from names (weights and averages alone); None: it is a checkpoint.
    It runs on the world's device; of several processes each takes its share of every batch, and rank 0 alone writes and
    reports. Raises WrongInput where `out` holds a training with other settings or damaged checkpoints only, or cannot be
    written.
    """

    def __init__(
        self, model: ModelSettings, settings: TrainSettings, data: PictureSet, out: str, world: World,
        start: str | None = None, initial: Callable[[], Initial] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.settings, self.data, self.world, self.start = model, settings, data, world, start
        self.out: Store = open_store(out)
        keep_memory(world.device)
        self.notices: list[str] = []  # what a person should hear of, at the next occasion
        self.schedule = Schedule(settings, len(data.train), CHECK_EVERY[world.device.type])
        self._require_trainable()
        self.recipe = Recipe(model, settings, self.schedule, Diffusion(model).to(world.device), world)
        self.learner = Learner(self.recipe, data.image_size)
        self.batches = Batches(data.train, self.recipe)
        self.gradients = Gradients(self.learner.net, self.recipe, self.notices.append)
        recorded = self.gradients.compiled and world.device.type == "cuda" and world.size == 1
        self.work: Work = Recorded(self._work, self.batches.random, self.notices.append) if recorded else self._work
        self.steps_done = 0
        self.last_loss = math.nan
        self.untold: list[Tensor] = []  # losses of the steps since the last check
        self.meter = Meter(world.device, world.size)
        self.spent_before = self.spent = NOTHING  # by earlier processes; by all of them, up to the last checkpoint
        self.saved: str | None = None  # the last checkpoint that is known to be whole
        self.ledger = Ledger(self.out, model, settings, data.digest, start)
        self.looks = Looks(self.recipe, self.learner, self.gradients, self.ledger, data.held_out)
        self._restore(initial or (lambda: of_checkpoint(settings.init_from)))
        if world.broadcast(self.steps_done) != self.steps_done:
            raise WrongInput(f"out: {self.out.root} is not the same place for all ranks; name one that all can read")
        self.good = Snapshot(self.learner.state())

    def _require_trainable(self) -> None:
        data, model, settings = self.data, self.model, self.settings
        if len(data.train) == 0:
            raise WrongInput(f"{data.uri}: no training pictures; ingest more, or hold out fewer")
        if model.classes not in (0, len(data.classes)):
            raise WrongInput(f"classes: {model.classes}, but the data set has {len(data.classes)}; give that, or 0")
        if settings.patience and not len(data.held_out):
            self.notices.append(
                "nothing is held out, so that patience has nothing to go by: the whole budget will be spent"
            )
        require_one_weight(model, settings)
        if settings.precision == "fp64" and self.world.device.type == "mps":
            raise WrongInput("precision: Apple's GPU has no fp64; give fp32, or DDPM_DEVICE=cpu")
        batch, processes = self.schedule.batch, self.world.size
        if batch % processes:
            raise WrongInput(
                f"batch_size: {batch} pictures cannot be shared by {processes} processes; give a multiple of that"
            )

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self, observer: Observer, progress: Progress, task: str = "training") -> Trained:
        """Train to the end of the budget, until nothing improves, or until the observer lets it rest. Returns the facts
        that `ddpm train` prints.

        Raises Refused where the guard had to turn back too often, or the weights are not finite at the end.
        """
        finished: Trained | None = self.world.broadcast(self.ledger.finished())
        if finished is not None:
            if self.schedule.ends_run(self.steps_done) or self.looks.stopped or self.saved is None:
                progress.update(task, 1, 1, "done before")
                return finished
            self.notices.append("its last steps are taken again")  # they were in the checkpoint that is damaged
        if self.world.leads:
            self.ledger.begin()
        try:
            with threads_for(self.model.base_channels, self.world.device):
                self._train(observer, progress, task)
        finally:
            self.batches.feed.close()
            self.work = self._work  # what was recorded gives back its memory
        return self._finish(progress, task)

    def _train(self, observer: Observer, progress: Progress, task: str) -> None:
        schedule = self.schedule
        saved = clock = time.monotonic()
        timed, note = 0, "the first steps"
        self.looks.rests = self.world.broadcast(self.saved is not None and observer.rests())
        if schedule.ends_run(self.steps_done) and checkpoint.pointed(self.out, "last") is None:
            self._save(best=True)  # the start has the whole budget behind it: it is the result
        while not (schedule.ends_run(self.steps_done) or self.looks.stopped or self.looks.rests):
            self._tell(progress, task)
            # +1: not done before its checkpoint is
            progress.update(task, self.steps_done, schedule.total_steps + 1, note)
            _, norm = self.step()
            timed += 1  # steps since `clock`, which a resumption or a look sets anew
            if not schedule.is_check(self.steps_done):
                continue
            self.check()
            now = time.monotonic()
            speed = timed * schedule.batch / max(now - clock, 1e-9)
            epochs = schedule.epochs(self.steps_done)
            figures = {
                "loss": self.last_loss, "grad_norm": float(norm), "lr": self.lr, "skipped_steps": self.learner.guard.skipped(),
                "rollbacks": self.learner.guard.rollbacks, "images_per_second": speed, "epoch": epochs,
            }  # fmt: skip
            if (not_finite := self.learner.guard.skipped_not_finite()) is not None:
                figures["skipped_not_finite"] = not_finite
            observer.metrics(figures, self.images_seen)
            improved = False
            if schedule.is_look(self.steps_done):
                progress.update(task, self.steps_done, schedule.total_steps + 1, "looking at held-out pictures")
                improved = self._look(observer)
            note = f"epoch {math.ceil(epochs)}/{self.settings.epochs}  {self._losses()}  {speed:,.0f} img/s"
            progress.update(task, self.steps_done, schedule.total_steps + 1, note)
            due = time.monotonic() - saved > self.settings.checkpoint_seconds
            ends = schedule.ends_run(self.steps_done) or bool(self.looks.stopped) or self.looks.rests
            if self.world.broadcast(improved or ends or due):
                observer.saving()
                self._save(best=improved)
                saved = time.monotonic()
            timed, clock = 0, time.monotonic()  # neither a look nor a save is part of the training's speed

    def _losses(self) -> str:
        held_out = "" if math.isnan(self.looks.last) else f"held-out {self.looks.last:.4f}  "
        return f"{held_out}loss {self.last_loss:.4f}"

    def _tell(self, progress: Progress, task: str) -> None:
        for notice in self.notices:
            progress.say(f"{task}: {notice}")
        self.notices.clear()

    def check(self) -> None:
        """Read the device's counts; remember the state where all is calm, and turn back to the last such where it is not.

        Raises Refused where it has turned back too often.
        """
        losses = torch.stack(self.untold)  # NaN: skipped
        self.untold = []
        self.last_loss = float(self.world.mean(losses).nanmean())
        share = len(losses) / self.schedule.check_every
        if not self.world.broadcast(self.learner.guard.troubled(self.last_loss, share)):
            self.good.renew(self.learner.state())
            return
        if self.learner.guard.lowered == MOST_ROLLBACKS:
            raise Refused(self._blown_up())
        self.good.restore(self.learner.state())
        self.learner.guard.turned_back()
        self.notices.append(
            f"a gradient spike at {self.images_seen:,} images: back to the last good weights, at {self.learner.guard.lr_factor:g} of the rate"
        )

    def _blown_up(self) -> str:
        skipped, not_finite = self.learner.guard.skipped(), self.learner.guard.skipped_not_finite()
        skips = f"{skipped:,} steps were skipped"
        if not_finite is not None:
            skips += f", {not_finite:,} of them for gradients that were seen not to be finite"
        advice = f"lower lr (it is {self.settings.lr:g}; in a run, founding_lr and lr_high)"
        if self.settings.precision == "bf16" and not_finite:
            advice += ", or give precision fp32"
        return f"the gradients blew up, and turning back {MOST_ROLLBACKS} times did not help, after {self.images_seen:,} images ({skips}); {advice}"

    # -- a step ----------------------------------------------------------------------------------------------------

    def step(self) -> tuple[Tensor, Tensor]:
        """One step; returns its loss (NaN where the guard skipped it) and gradient norm, both still on the device.

        Where the schedule has a check after it, `check` must follow.
        """
        self.learner.net.train()
        self.gradients.seed(self.steps_done)
        self.learner.pace(self.lr, self.schedule.images_seen(self.steps_done + 1))
        loss, norm = self.work(*self.batches.fetch(self.steps_done))
        self.steps_done += 1
        self.untold.append(loss)
        return loss, norm

    def _work(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """All of a step that is the device's: it never waits for it, and depends on the step by what is in its memory."""
        loss = self.gradients.take(self.batches.draw(images, classes))
        norm, skipped = self.learner.update()
        return torch.where(skipped > 0, torch.nan, loss), norm

    @property
    def images_seen(self) -> int:
        return self.schedule.images_seen(self.steps_done)

    @property
    def averaged(self) -> Model:
        """The model of the first average's weights, as they are now: what previews and scores on the way are drawn from."""
        net, settings = self.learner.ema_net, self.model
        return Model(net, settings, self.data.image_size, suited(settings), device=self.world.device)

    @property
    def lr(self) -> float:
        """The rate of the next step."""
        return self.schedule.lr(self.steps_done, self.learner.guard.lr_factor)

    # -- looking ---------------------------------------------------------------------------------------------------

    def held_out_losses(self) -> list[float]:
        """The averaged network's loss on each of the fixed triples; empty without pictures."""
        return self.looks.losses()

    def _look(self, observer: Observer) -> bool:
        """Whether a look is the best so far. Without memory for it beside a recorded step, there is none from now on."""
        try:
            return self.looks.take(observer, self.steps_done, self.averaged)
        except torch.OutOfMemoryError:
            if self.work == self._work:
                raise
        self.work = self._work
        self.notices.append("memory ran out at a look: the GPU is handed its work one kernel at a time from now on")
        return self.looks.take(observer, self.steps_done, self.averaged)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _save(self, best: bool) -> None:
        if not self.world.leads:
            return
        facts: checkpoint.Standing = {
            "image_size": self.data.image_size,
            "dataset_digest": self.data.digest,
            "dataset_uri": self.data.uri,
            "images_seen": self.images_seen,
            "step": self.steps_done,
            "epoch": self.schedule.epochs(self.steps_done),
            "loss": _finite(self.last_loss),
            "best": {"loss": _finite(self.looks.best.loss), "epoch": self.looks.best.epoch},
            "skipped_steps": self.learner.guard.skipped(),
            "skipped_not_finite": self.learner.guard.skipped_not_finite(),
            "guard": self.learner.guard.facts(),
            "micro_batch": self.gradients.micro,
            "stopped": self.looks.stopped,
            "spent": self.meter.spent(self.spent_before),
        }
        self.spent = facts["spent"]
        if self.ledger.lineage:
            facts["lineage"] = self.ledger.lineage
        folder = checkpoint.write_checkpoint(self.out, self.learner.tensors(), facts, self.model, self.settings)
        if best:
            checkpoint.point(self.out, "best", folder)
        checkpoint.point(self.out, "last", folder)
        kept = [self.saved, checkpoint.pointed(self.out, "best")]  # the previous one, should this one be damaged
        branched = kept_folders(self.ledger.lineage)
        checkpoint.prune_checkpoints(self.out, {folder, *branched, *(uri.split("/")[-2] for uri in kept if uri)})
        self.saved = self.out.uri(f"{folder}/{checkpoint.MANIFEST}")

    def _restore(self, initial: Callable[[], Initial]) -> None:
        """Take up what `out` holds, or else `start`, or else the weights of init_from, or else nothing."""
        read, damaged = checkpoint.last_undamaged(self.out)
        if read is not None and damaged:
            self.notices.append(f"{damaged}. Going on from the one before it, at {read.facts['images_seen']:,} images")
        resumes = read is not None
        if read is None:
            if self.start is None:
                if self.settings.init_from:
                    self._begin_with(initial())
                return
            read = checkpoint.read_checkpoint(self.start)
            require_fits(read, self.model, self.data.image_size, self.schedule)
            self.ledger.descends(ancestors_of(read))
        facts = read.facts
        if resumes:
            best = facts["best"]
            self.looks.best = Best(math.inf if best["loss"] is None else best["loss"], best["epoch"])
            self.looks.stopped = facts["stopped"]
            self._mend_best()
            self.gradients.micro = min(facts["micro_batch"], self.gradients.micro)
            self.saved = read.uri
            self.spent_before = self.spent = facts.get("spent", NOTHING)
        self.notices += self.learner.load(read)
        self.steps_done = facts["step"]
        self.last_loss = math.nan if facts["loss"] is None else facts["loss"]
        if self.ledger.ended is not None:
            self._go_on(read.uri, self.ledger.ended, damaged)

    def _begin_with(self, initial: Initial) -> None:
        """Take up weights and averages of another training; clock and optimizer are new."""
        agreement = agree(initial, self.model, self.data.image_size, self.settings.init_partial)
        ancestor = ancestor_of(initial, agreement)
        self.ledger.descends([ancestor])
        self.learner.begin_with(initial, agreement.taken)
        self.notices.append(in_words(ancestor))
        if "embed_label.weight" in agreement.taken and initial.origin.dataset_digest != self.data.digest:
            self.notices.append("its classes are those of another data set: each begins as the one of its number there")

    def _go_on(self, uri: str, ended: Trained, damaged: str) -> None:
        """Go on where a training has spent its budget, since it was given more epochs."""
        if uri != ended["last_checkpoint"]:
            raise WrongInput(f"out: {damaged}; give epochs {self.ledger.epochs_before} once more, which mends it")
        share, epochs = f"{self.settings.decay_fraction:.0%}", self.settings.epochs
        fell = f"the rate, which had fallen to 0 over the last {share} of them, begins again at {self.lr:.3g} and falls over the last {share} of {epochs}, so that this is not what {epochs} epochs from the beginning would have been"
        self.ledger.goes_on(fell if self.settings.decay_fraction else f"the rate stays {self.lr:.3g}")
        self.notices.append(in_words(self.ledger.lineage[-1]))

    def _mend_best(self) -> None:
        """Where best.json is damaged: the best checkpoint is known by its epoch."""
        try:
            checkpoint.pointed(self.out, "best")
        except WrongInput as problem:
            self.notices.append(f"{problem}. It is mended")
            if self.world.leads:
                steps = round(self.looks.best.epoch * self.schedule.epoch_steps)
                checkpoint.point(self.out, "best", checkpoint.folder_at(self.schedule.images_seen(steps)))

    def _finish(self, progress: Progress, task: str) -> Trained:
        self._tell(progress, task)
        if not all(bool(weight.isfinite().all()) for weight in self.learner.weights):
            raise Refused(
                f"the weights are not finite after {self.images_seen:,} images; lower lr (it is {self.settings.lr:g}; in a run, founding_lr and lr_high)"
            )
        facts = self.world.decide(self._facts)
        if self.looks.rests:
            progress.drop(task)
            return facts
        if self.world.leads:
            self.ledger.finish(facts)
        if not facts["spent_budget"]:
            progress.drop(task)  # what follows is no work done
        progress.update(task, 1, 1, f"{facts['stopped']}  {self._losses()}  {self.images_seen:,} images")
        return facts

    def _facts(self) -> Trained:
        last = checkpoint.pointed(self.out, "last")
        if last is None:
            raise Refused(f"out: {self.out.root} holds no checkpoint any more; leave it alone, and train again")
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.learner.net.named_parameters()}
        facts: Trained = {
            "checkpoint": checkpoint.pointed(self.out, "best") or last,
            "last_checkpoint": last,
            "weights_sha256": hashlib.sha256(save_tensors(weights)).hexdigest(),
            "images_seen": self.images_seen,
            "epochs": self.schedule.epochs(self.steps_done),
            "loss": _finite(self.last_loss),
            "held_out_loss": _finite(self.looks.best.loss),
            "skipped_steps": self.learner.guard.skipped(),
            "skipped_not_finite": self.learner.guard.skipped_not_finite(),
            "rollbacks": self.learner.guard.rollbacks,
            "parameters": self.learner.parameters,
            "spent_budget": self.schedule.ends_run(self.steps_done),
            "stopped": self.looks.stopped or ("rests" if self.looks.rests else "all epochs done"),
            "spent": self.spent,
        }
        if self.ledger.lineage:
            facts["lineage"] = self.ledger.lineage
        return facts


def _finite(loss: float) -> float | None:
    """As JSON has it, which knows no NaN and no infinity."""
    return loss if math.isfinite(loss) else None
