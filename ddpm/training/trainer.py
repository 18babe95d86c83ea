"""The training loop. It knows no tracker, no study and no pipeline: it reports to the observer it is handed.

Its clock is the number of images seen. Every draw is keyed by the step, so that a run that was killed and started
again takes the same steps with the same numbers as one that was not. All that waits for the device, and every decision,
happens at checks, which come at fixed steps; there the state is always a good one, and only there it is saved.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ddpm.data.dataset import PictureSet
from ddpm.device import keep_memory, threads_for
from ddpm.errors import Refused, WrongInput
from ddpm.model.diffusion import Diffusion
from ddpm.model.model import Model, suited
from ddpm.model.unet import UNet
from ddpm.progress import Progress
from ddpm.randomness import key
from ddpm.settings import ModelSettings, TrainSettings, pick
from ddpm.store import Store, open_store
from ddpm.training import checkpoint
from ddpm.training.batches import Batches
from ddpm.training.ema import ema_decay, update_ema
from ddpm.training.gradients import Gradients
from ddpm.training.guard import MOST_ROLLBACKS, Snapshot, SpikeGuard
from ddpm.training.held_out import by_band, held_out_losses
from ddpm.training.ledger import Ledger, require_fits
from ddpm.training.observer import Observer
from ddpm.training.world import World

CHECK_EVERY = {"cpu": 10, "cuda": 50}  # steps between checks, about: each waits for the device
MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, for each weight


def memory_format(device: torch.device) -> torch.memory_format:
    """How weights lie in memory: with channels last on a GPU, whose convolutions want them so."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


class Trainer:
    """One training run, writing its checkpoints to `out`; the same `out` again resumes it.

    `start` is the URI of a checkpoint to go on from (weights, averages, optimizer and clock) where `out` has none yet.
    In a world of several processes each takes its share of every batch, and rank 0 alone writes and reports.
    Raises WrongInput where `out` holds a training with other settings or damaged checkpoints only, or cannot be written.
    """

    def __init__(
        self, model: ModelSettings, settings: TrainSettings, data: PictureSet, out: str, device: torch.device,
        start: str | None = None, world: World | None = None,
    ) -> None:  # fmt: skip
        self.model, self.settings, self.data, self.device, self.start = model, settings, data, device, start
        self.world = world or World(device)
        self.out: Store = open_store(out)
        keep_memory(device)
        self.notices: list[str] = []  # what a person should hear of, at the next occasion
        self._require_trainable()
        self.batch = min(settings.batch_size, len(data.train))
        if self.batch % self.world.size:
            raise WrongInput(
                f"batch_size: {self.batch} pictures cannot be shared by {self.world.size} processes; give a multiple of that"
            )
        self.epoch_steps = len(data.train) // self.batch
        self.look_steps = settings.held_out_every * self.epoch_steps  # between looks
        self.checks = max(1, round(self.look_steps / CHECK_EVERY[device.type]))  # in as many steps
        self.total_steps = settings.epochs * self.epoch_steps
        self.dtype = torch.float64 if settings.precision == "fp64" else torch.float32
        torch.manual_seed(key(settings.train_seed, "weights"))
        self.net: nn.Module = UNet(model, data.image_size).to(device, self.dtype)
        self.net = self.net.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.averages = {
            half_life: copy.deepcopy(self.net).requires_grad_(False).eval() for half_life in settings.half_lives
        }
        self.ema_net = self.averages[settings.half_lives[0]]
        self.weights = list(self.net.parameters())
        self.diffusion = Diffusion(model).to(device)
        self.optimizer = torch.optim.Adam(self.weights, lr=settings.lr, betas=(0.9, settings.adam_beta2), fused=True)
        for weight in self.weights:  # as Adam would at its first step: the guard must have a state to turn back to
            zeros = {slot: torch.zeros_like(weight, memory_format=torch.preserve_format) for slot in MOMENTS}
            self.optimizer.state[weight] = {"step": torch.zeros((), device=device), **zeros}
        self.guard = SpikeGuard(settings.guard_factor, device)
        self.batches = Batches(data.train, model, settings, self.diffusion, self.batch, self.world, self.dtype)
        self.step = 0
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": 0}
        self.last_loss = math.nan
        self.stopped = ""  # why it ended before its budget was spent
        self.untold: list[Tensor] = []  # losses of the steps since the last check
        self.saved: str | None = None  # the last checkpoint that is known to be whole
        self.ledger = Ledger(self.out, model, settings, data.digest, start)
        compiled = settings.compile == "yes" or (settings.compile == "auto" and device.type == "cuda")
        self.gradients = Gradients(
            torch.compile(self.net) if compiled else self.net,  # type: ignore[arg-type]
            self.diffusion, model, settings, self.world, self.batch // self.world.size, self.notices.append,
        )  # fmt: skip
        self._restore()
        if self.world.broadcast(self.step) != self.step:
            raise WrongInput(f"out: {self.out.root} is not the same place for all ranks; name one that all can read")
        self.good = Snapshot(self._state())

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
        if model.objective == "edm" and settings.min_snr_gamma:
            raise WrongInput("min_snr_gamma: edm has a weight of its own, on which min-SNR must not be stacked; give 0")

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self, observer: Observer, progress: Progress, task: str = "training") -> dict[str, Any]:
        """Train to the end of the budget, or until nothing improves. Returns the facts that `ddpm train` prints.

        Raises Refused where the guard had to turn back too often, or the weights are not finite at the end.
        """
        if (finished := self.world.broadcast(self.ledger.finished())) is not None:
            if self.step == self.total_steps or self.stopped or self.saved is None:
                progress.update(task, 1, 1, "was done already")
                return finished
            self.notices.append("its last steps are taken again")  # they were in the checkpoint that is damaged
        if self.world.leads:
            self.ledger.begin()
        try:
            with threads_for(self.model.base_channels, self.device):
                self._train(observer, progress, task)
        finally:
            self.batches.feed.close()
        return self._finish(progress, task)

    def _train(self, observer: Observer, progress: Progress, task: str) -> None:
        saved = clock = time.monotonic()
        timed = 0
        if self.step == self.total_steps and checkpoint.pointed(self.out, "last") is None:
            self._save(best=True)  # the start has the whole budget behind it: it is the result
        while self.step < self.total_steps and not self.stopped:
            self._tell(progress, task)
            loss, norm = self._train_step()
            self.untold.append(loss)
            timed += 1  # steps since `clock`, which a resumption or a look sets anew
            ends_epoch, ends_run = self.step % self.epoch_steps == 0, self.step == self.total_steps
            epoch = self.step // self.epoch_steps
            looks = ends_run or (ends_epoch and epoch % self.settings.held_out_every == 0)
            # As many checks as fit between two looks, evenly spaced: the last, at a look, has as many steps as the others.
            if not ends_run and self.step * self.checks % self.look_steps >= self.checks:
                continue
            self._check()
            now = time.monotonic()
            speed = timed * self.batch / max(now - clock, 1e-9)
            figures = {
                "loss": self.last_loss, "grad_norm": float(norm), "lr": self._lr(), "skipped_steps": self.guard.skipped(),
                "rollbacks": self.guard.rollbacks, "images_per_second": speed, "epoch": self.step / self.epoch_steps,
            }  # fmt: skip
            observer.metrics(figures, self.images_seen)
            note = f"epoch {math.ceil(self.step / self.epoch_steps)}/{self.settings.epochs}  loss {self.last_loss:.4f}  {speed:,.0f} img/s"
            progress.update(task, self.step, self.total_steps + 1, note)  # +1: not done before its checkpoint is
            improved = looks and self._look(epoch, observer)
            due = time.monotonic() - saved > self.settings.checkpoint_seconds
            if self.world.broadcast(improved or ends_run or bool(self.stopped) or due):
                observer.saving()
                self._save(best=improved)
                saved = time.monotonic()
            timed, clock = 0, time.monotonic()  # neither a look nor a save is part of the training's speed

    def _tell(self, progress: Progress, task: str) -> None:
        for notice in self.notices:
            progress.say(f"{task}: {notice}")
        self.notices.clear()

    def _check(self) -> None:
        """Read the device's counts; remember the state where all is calm, and turn back to the last such where it is not."""
        losses = torch.stack(self.untold)  # NaN: skipped
        self.untold = []
        self.last_loss = float(self.world.mean(losses).nanmean())
        share = len(losses) / CHECK_EVERY[self.device.type]
        if not self.world.broadcast(self.guard.troubled(self.last_loss, share)):
            self.good.renew(self._state())
            return
        if self.guard.lowered == MOST_ROLLBACKS:
            raise Refused(
                f"the gradients blew up, and turning back {MOST_ROLLBACKS} times did not help, after {self.images_seen:,} images; lower lr (it is {self.settings.lr:g}; in a run, founding_lr and lr_high)"
            )
        self.good.restore(self._state())
        self.guard.turned_back()
        self.notices.append(
            f"a gradient spike at {self.images_seen:,} images: back to the last good weights, at {self.guard.lr_factor:g} of the rate"
        )

    def _state(self) -> list[Tensor]:
        """All that a step changes, in a fixed order: weights, averages, moments, and the norms that the guard knows."""
        averages = [average for net in self.averages.values() for average in net.parameters()]
        adam = [self.optimizer.state[weight][slot] for weight in self.weights for slot in ("step", *MOMENTS)]
        return [*self.weights, *averages, *adam, self.guard.norms]

    # -- a step ----------------------------------------------------------------------------------------------------

    def _train_step(self) -> tuple[Tensor, Tensor]:
        """One step; returns its loss (NaN where the guard skipped it) and gradient norm, both still on the device."""
        self.net.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr()
        loss = self.gradients.take(self.batches.draw(self.step), self.step)
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        self.world.average(gradients)
        norm = nn.utils.get_total_norm(gradients)
        # The fused kernel leaves weights, moments and step count alone where found_inf is 1.
        skip = self.guard.judge(norm)
        self.optimizer.found_inf = skip  # type: ignore[attr-defined]
        if self.settings.clip_norm:
            nn.utils.clip_grads_with_norm_(self.weights, self.settings.clip_norm, norm)
        self.optimizer.step()
        self.step += 1
        for half_life, net in self.averages.items():
            update_ema(list(net.parameters()), self.weights, ema_decay(self.batch, self.images_seen, half_life))
        return torch.where(skip > 0, torch.nan, loss), norm

    @property
    def images_seen(self) -> int:
        return self.step * self.batch

    @property
    def averaged(self) -> Model:
        """The model of the first average's weights, as they are now: what previews and scores on the way are drawn from."""
        return Model(self.ema_net, self.model, self.data.image_size, suited(self.model), device=self.device)

    def _lr(self) -> float:
        """The rate for the next step: a linear warm-up, then constant, then a linear fall to 0 over the last part; all of
        it lowered by every rollback."""
        settings = self.settings
        lr = settings.lr * self.guard.lr_factor
        if settings.warmup_images:
            lr *= min(1.0, (self.images_seen + self.batch) / settings.warmup_images)
        if settings.decay_fraction:
            lr *= min(1.0, (self.total_steps - self.step) / (settings.decay_fraction * self.total_steps))
        return lr

    # -- looking ---------------------------------------------------------------------------------------------------

    def held_out_losses(self) -> list[float]:
        return held_out_losses(
            self.ema_net, self.diffusion, self.model, self.data.held_out, self.gradients.micro, self.device, self.dtype
        )

    def held_out_loss(self) -> float:
        """The averaged network's mean loss on the fixed triples; NaN without pictures."""
        losses = self.held_out_losses()
        return sum(losses) / len(losses) if losses else math.nan

    def _look(self, epoch: int, observer: Observer) -> bool:
        """Take the held-out loss, and ask the observer whether to go on: rank 0 does, and the others hear.

        True where the loss is the best so far (or where there is none to go by).
        """

        def look() -> tuple[bool, dict[str, Any], str]:
            best, stopped = self.best, ""
            losses = self.held_out_losses()
            mean = sum(losses) / len(losses) if losses else math.inf
            improved = not losses or mean < best["loss"]
            if losses:
                observer.metrics({"held_out_loss": mean, **by_band(losses, self.diffusion)}, self.images_seen)
            if improved:
                best = {"loss": mean, "epoch": epoch}
            if observer.looked(epoch, self.images_seen, self.averaged):
                stopped = "ended by its observer"
            elif losses and 0 < self.settings.patience <= epoch - best["epoch"]:
                stopped = f"no better held-out loss for {self.settings.patience} epochs"
            return improved, best, stopped

        improved, self.best, self.stopped = self.world.decide(look)
        return improved

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        optimizer = dict(self.guard.state())
        for name, weight in self.net.named_parameters():
            for slot, value in self.optimizer.state[weight].items():
                optimizer[f"{slot}.{name}"] = value
        tensors: dict[str, dict[str, Tensor]] = {"weights": dict(self.net.named_parameters()), "optimizer": optimizer}
        for half_life, net in self.averages.items():
            tensors[checkpoint.average_part(self.settings.half_lives, half_life)] = dict(net.named_parameters())
        return tensors

    def _save(self, best: bool) -> None:
        if not self.world.leads:
            return
        facts = {
            "image_size": self.data.image_size,
            "dataset_digest": self.data.digest,
            "dataset_uri": self.data.uri,
            "images_seen": self.images_seen,
            "step": self.step,
            "epoch": self.step / self.epoch_steps,
            "loss": self.last_loss if math.isfinite(self.last_loss) else None,
            "best": {**self.best, "loss": self.best["loss"] if math.isfinite(self.best["loss"]) else None},
            "skipped_steps": self.guard.skipped(),
            "guard": self.guard.facts(),
            "micro_batch": self.gradients.micro,
            "stopped": self.stopped,
        }
        folder = checkpoint.write_checkpoint(self.out, self._tensors(), facts, self.model, self.settings)
        if best:
            checkpoint.point(self.out, "best", folder)
        checkpoint.point(self.out, "last", folder)
        kept = [self.saved, checkpoint.pointed(self.out, "best")]  # the previous one, should this one be damaged
        checkpoint.prune_checkpoints(self.out, {folder, *(uri.split("/")[-2] for uri in kept if uri)})
        self.saved = self.out.uri(f"{folder}/{checkpoint.MANIFEST}")

    def _restore(self) -> None:
        """Take up what `out` holds, or else `start`, or else nothing."""
        read, damaged = checkpoint.last_undamaged(self.out)
        if read is not None and damaged:
            self.notices.append(f"{damaged}. Going on from the one before it, at {read.facts['images_seen']:,} images")
        resumes = read is not None
        if read is None:
            if self.start is None:
                return
            read = checkpoint.read_checkpoint(self.start)
            require_fits(read, self.model, self.data.image_size, self.batch, self.total_steps, self.settings.epochs)
        facts, optimizer = read.facts, read.tensors["optimizer"]
        if resumes:
            best = facts["best"]
            self.best = {"loss": math.inf if best["loss"] is None else best["loss"], "epoch": best["epoch"]}
            self.stopped = facts["stopped"]
            self._mend_best()
            self.gradients.micro = min(facts["micro_batch"], self.gradients.micro)
            self.saved = read.uri
        self.net.load_state_dict(read.tensors["weights"])
        for half_life, net in self.averages.items():
            # A start may have had fewer averages: a new one begins with what its first one is.
            had = pick(TrainSettings, facts["settings"]).half_lives
            part = checkpoint.average_part(had, half_life) if half_life in had else "ema"
            if half_life not in had:
                self.notices.append(f"the start has no average of half-life {half_life}: it begins as that of {had[0]}")
            net.load_state_dict(read.tensors[part])
        self.guard.load(optimizer, facts.get("guard", {}))
        for name, weight in self.net.named_parameters():
            # Moments lie in memory as their weights do: the fused kernel walks through both side by side.
            for slot, value in self.optimizer.state[weight].items():
                value.copy_(optimizer[f"{slot}.{name}"])
        self.step = facts["step"]
        self.last_loss = math.nan if facts["loss"] is None else facts["loss"]

    def _mend_best(self) -> None:
        """Where best.json is damaged: the best checkpoint is known by its epoch."""
        try:
            checkpoint.pointed(self.out, "best")
        except WrongInput as problem:
            self.notices.append(f"{problem}. It is mended")
            if self.world.leads:
                folder = checkpoint.folder_at(round(self.best["epoch"] * self.epoch_steps) * self.batch)
                checkpoint.point(self.out, "best", folder)

    def _finish(self, progress: Progress, task: str) -> dict[str, Any]:
        self._tell(progress, task)
        if not all(bool(weight.isfinite().all()) for weight in self.weights):
            raise Refused(
                f"the weights are not finite after {self.images_seen:,} images; lower lr (it is {self.settings.lr:g}; in a run, founding_lr and lr_high)"
            )
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.net.named_parameters()}
        facts = {
            "checkpoint": checkpoint.pointed(self.out, "best") or checkpoint.pointed(self.out, "last"),
            "last_checkpoint": checkpoint.pointed(self.out, "last"),
            "weights_sha256": hashlib.sha256(save_tensors(weights)).hexdigest(),
            "images_seen": self.images_seen,
            "epochs": self.step / self.epoch_steps,
            "loss": self.last_loss if math.isfinite(self.last_loss) else None,
            "held_out_loss": self.best["loss"] if math.isfinite(self.best["loss"]) else None,
            "skipped_steps": self.guard.skipped(),
            "rollbacks": self.guard.rollbacks,
            "parameters": sum(weight.numel() for weight in self.weights),
            "spent_budget": self.step == self.total_steps,
            "stopped": self.stopped or "the budget was spent",
        }
        facts = self.world.broadcast(facts)
        if self.world.leads:
            self.ledger.finish(facts)
        progress.update(task, 1, 1, f"{self.images_seen:,} images  loss {self.last_loss:.4f}  {facts['stopped']}")
        return facts
