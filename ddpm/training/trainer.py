"""The training loop. It knows no tracker, no study and no pipeline: it reports to the observer it is handed.

Its clock is the number of images seen. Every draw is keyed by the step, so that a run that was killed and started
again takes the same steps with the same numbers as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from dataclasses import asdict
from typing import Any, Protocol

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ddpm.data.dataset import PictureSet
from ddpm.device import threads_for
from ddpm.errors import Refused, WrongInput
from ddpm.model.diffusion import Diffusion, to_unit
from ddpm.model.unet import UNet
from ddpm.progress import Progress
from ddpm.randomness import generator, key
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.store import Missing, Store, open_store
from ddpm.training import checkpoint
from ddpm.training.ema import ema_decay, update_ema
from ddpm.training.guard import SpikeGuard

CLIP_NORM = 1.0  # gradients are clipped to this norm, as in DDPM's own training code
LOG_EVERY = 50  # steps between looks at the device's counters
HOPELESS = 64  # skipped steps in a row after which the weights are taken for lost
HELD_OUT_PICTURES = 512  # at most so many pictures in a held-out loss


class Observer(Protocol):
    """What the loop tells, and asks, the one who started it."""

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        """Figures of the last steps: loss, grad_norm, lr, skipped_steps, images_per_second, held_out_loss."""

    def looked(self, epoch: int, images_seen: int, net: nn.Module) -> bool:
        """After each held-out loss, with the averaged network. True ends the training here."""

    def saving(self) -> None:
        """A checkpoint follows: a run that is killed goes on from it, and will not tell again what it told before."""


class NoObserver:
    """Nobody watches."""

    def metrics(self, values: dict[str, float], images_seen: int) -> None: ...

    def looked(self, epoch: int, images_seen: int, net: nn.Module) -> bool:
        return False

    def saving(self) -> None: ...


def memory_format(device: torch.device) -> torch.memory_format:
    """How weights lie in memory: with channels last on a GPU, whose convolutions want them so."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


class Trainer:
    """One training run, writing its checkpoints to `out`; the same `out` again resumes it.

    `start` is the URI of a checkpoint to go on from (weights, average, optimizer and clock) where `out` has none yet.
    Raises WrongInput where `out` holds a training with other settings, or cannot be written.
    """

    def __init__(
        self, model: ModelSettings, settings: TrainSettings, data: PictureSet, out: str, device: torch.device,
        start: str | None = None,
    ) -> None:  # fmt: skip
        self.model, self.settings, self.data, self.device, self.start = model, settings, data, device, start
        self.out: Store = open_store(out)
        if len(data.train) == 0:
            raise WrongInput(f"{data.uri}: no training pictures; ingest more, or hold out fewer")
        self.batch = min(settings.batch_size, len(data.train))
        self.epoch_steps = len(data.train) // self.batch
        self.total_steps = settings.epochs * self.epoch_steps
        torch.manual_seed(key(settings.train_seed, "weights"))
        self.net: nn.Module = UNet(model, data.image_size).to(device)
        self.net = self.net.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.ema_net = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.weights, self.ema = list(self.net.parameters()), list(self.ema_net.parameters())
        self.diffusion = Diffusion(model).to(device)
        self.optimizer = torch.optim.Adam(self.weights, lr=settings.lr, fused=True)
        self.guard = SpikeGuard(settings.guard_factor, device)
        self.images = data.train.images.to(device)
        self._order: tuple[int, Tensor] | None = None  # the epoch whose shuffled order it is
        self.step = 0
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": 0}
        self.last_loss = math.nan
        self.stopped = ""  # why it ended before its budget was spent
        # Losses of the steps since the last report; kept in checkpoints, so that none is lost.
        self.untold: list[Tensor] = []
        self._restore()

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self, observer: Observer, progress: Progress, task: str = "training") -> dict[str, Any]:
        """Train to the end of the budget, or until nothing improves. Returns the facts that `ddpm train` prints.

        Raises Refused when the weights are not finite at the end.
        """
        if (finished := self._finished()) is not None:
            progress.update(task, 1, 1, "was done already")
            return finished
        self.out.write("training.json", json.dumps(self._identity(), indent=1).encode())
        with threads_for(self.model.base_channels, self.device):
            self._train(observer, progress, task)
        return self._finish(progress, task)

    def _train(self, observer: Observer, progress: Progress, task: str) -> None:
        saved = clock = time.monotonic()
        timed = 0
        if self.step == self.total_steps and checkpoint.pointed(self.out, "last") is None:
            self._save(best=True)  # the start has the whole budget behind it: it is the result
        while self.step < self.total_steps and not self.stopped:
            loss, norm = self._train_step()
            self.untold.append(loss)
            timed += 1  # steps since `clock`, which a resumption or a look sets anew
            ends_epoch = self.step % self.epoch_steps == 0
            ends_run = self.step == self.total_steps
            epoch = self.step // self.epoch_steps
            looks = ends_run or (ends_epoch and epoch % self.settings.held_out_every == 0)
            if looks or len(self.untold) >= LOG_EVERY:
                now = time.monotonic()
                self.last_loss = float(torch.stack(self.untold).mean())
                self._require_progress()
                speed = timed * self.batch / max(now - clock, 1e-9)
                observer.metrics(
                    {
                        "loss": self.last_loss,
                        "grad_norm": float(norm),
                        "lr": self._lr(),
                        "skipped_steps": self.guard.skipped(),
                        "images_per_second": speed,
                        "epoch": self.step / self.epoch_steps,
                    },
                    self.images_seen,
                )
                note = f"epoch {math.ceil(self.step / self.epoch_steps)}/{self.settings.epochs}  loss {self.last_loss:.4f}  {speed:,.0f} img/s"
                progress.update(task, self.step, self.total_steps + 1, note)  # +1: not done before its checkpoint is
                self.untold, timed, clock = [], 0, now
            if looks:
                improved = self._look(epoch, observer)
                if observer.looked(epoch, self.images_seen, self.ema_net):
                    self.stopped = "ended by its observer"
                elif self._stale(epoch):
                    self.stopped = f"no better held-out loss for {self.settings.patience} epochs"
                if improved or ends_run or self.stopped:
                    observer.saving()
                    self._save(best=improved)
                    saved = time.monotonic()
                timed, clock = 0, time.monotonic()  # the look is no part of the training's speed
            elif time.monotonic() - saved > self.settings.checkpoint_seconds:
                observer.saving()
                self._save(best=False)
                timed, saved = 0, time.monotonic()
                clock = saved

    def _require_progress(self) -> None:
        """Raise Refused where so many steps in a row were skipped that no calm one will follow."""
        skipped = self.guard.skipped_in_a_row()
        if skipped >= HOPELESS:
            raise Refused(
                f"the gradients blew up: the last {skipped} steps were all skipped, after {self.images_seen:,} images; lower lr (it is {self.settings.lr:g}; in a run, founding_lr and lr_high)"
            )

    def _train_step(self) -> tuple[Tensor, Tensor]:
        """One step; returns its loss and gradient norm, both still on the device."""
        settings = self.settings
        draw = generator(self.device, settings.train_seed, "step", self.step)
        x0 = to_unit(self.images[self._batch_indices()])
        if settings.flip:
            mirrored = torch.rand(self.batch, 1, 1, 1, device=self.device, generator=draw) < 0.5
            x0 = torch.where(mirrored, x0.flip(3), x0)
        t = torch.randint(self.model.timesteps, (self.batch,), device=self.device, generator=draw)
        eps = torch.randn(x0.shape, device=self.device, generator=draw)
        if self.model.dropout:
            torch.manual_seed(key(settings.train_seed, "dropout", self.step))  # its masks come from the global stream
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr()
        self.net.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = self.diffusion.loss(self.net, x0, t, eps).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        # The fused kernel leaves weights, moments and step count alone where found_inf is 1.
        self.optimizer.found_inf = self.guard.judge(norm)  # type: ignore[attr-defined]
        nn.utils.clip_grads_with_norm_(self.weights, CLIP_NORM, norm)
        self.optimizer.step()
        self.step += 1
        update_ema(self.ema, self.weights, ema_decay(self.batch, self.images_seen, settings.ema_half_life))
        return loss.detach(), norm

    @property
    def images_seen(self) -> int:
        return self.step * self.batch

    def _lr(self) -> float:
        """The rate for the next step: a linear warm-up, then constant, then a linear fall to 0 over the last part."""
        settings = self.settings
        lr = settings.lr
        if settings.warmup_images:
            lr *= min(1.0, (self.images_seen + self.batch) / settings.warmup_images)
        if settings.decay_fraction:
            lr *= min(1.0, (self.total_steps - self.step) / (settings.decay_fraction * self.total_steps))
        return lr

    def _batch_indices(self) -> Tensor:
        epoch, position = divmod(self.step, self.epoch_steps)
        if self._order is None or self._order[0] != epoch:
            draw = generator("cpu", self.settings.train_seed, "order", epoch)
            self._order = (epoch, torch.randperm(len(self.data.train), generator=draw).to(self.device))
        return self._order[1][position * self.batch : (position + 1) * self.batch]

    # -- looking ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def held_out_loss(self) -> float:
        """The averaged network's loss on fixed triples of held-out picture, timestep and noise; NaN without pictures."""
        images = self.data.held_out.images[:HELD_OUT_PICTURES]
        if len(images) == 0:
            return math.nan
        draw = generator("cpu", "held-out loss")
        t = (torch.arange(len(images)) * self.model.timesteps) // len(images)  # evenly over the timesteps
        eps = torch.randn(images.shape, generator=draw)
        total = 0.0
        for rows in torch.arange(len(images)).split(self.batch):
            x0, at, noise = (part.to(self.device) for part in (to_unit(images[rows]), t[rows], eps[rows]))
            total += float(self.diffusion.loss(self.ema_net, x0, at, noise).sum())
        return total / len(images)

    def _look(self, epoch: int, observer: Observer) -> bool:
        """Take the held-out loss; True where it is the best so far (or where there is none to go by)."""
        loss = self.held_out_loss()
        if math.isnan(loss) and len(self.data.held_out) == 0:
            self.best = {"loss": math.inf, "epoch": epoch}
            return True
        observer.metrics({"held_out_loss": loss}, self.images_seen)
        if loss < self.best["loss"]:
            self.best = {"loss": loss, "epoch": epoch}
            return True
        return False

    def _stale(self, epoch: int) -> bool:
        return 0 < self.settings.patience <= epoch - self.best["epoch"] and len(self.data.held_out) > 0

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        optimizer = dict(self.guard.state())
        for name, weight in self.net.named_parameters():
            for slot, value in self.optimizer.state[weight].items():
                optimizer[f"{slot}.{name}"] = value
        return {
            "weights": dict(self.net.named_parameters()),
            "ema": dict(self.ema_net.named_parameters()),
            "optimizer": optimizer,
        }

    def _identity(self) -> dict[str, Any]:
        """What must be equal for one training to be another's resumption."""
        settings = {**asdict(self.model), **asdict(self.settings)}
        del settings["checkpoint_seconds"]  # changes no number
        return {**settings, "dataset_digest": self.data.digest, "start": self.start}

    def _save(self, best: bool) -> None:
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
            "stopped": self.stopped,
            "untold_losses": [float(loss) for loss in self.untold],
        }
        folder = checkpoint.write_checkpoint(self.out, self._tensors(), facts, self.model, self.settings)
        if best:
            checkpoint.point(self.out, "best", folder)
        checkpoint.point(self.out, "last", folder)
        kept = checkpoint.pointed(self.out, "best")
        keep = {folder} | ({kept.split("/")[-2]} if kept else set())
        checkpoint.prune_checkpoints(self.out, keep)

    def _restore(self) -> None:
        """Take up what `out` holds, or else `start`, or else nothing."""
        self._require_same()
        last = checkpoint.pointed(self.out, "last")
        if last is None and self.start is None:
            return
        read = checkpoint.read_checkpoint(last or str(self.start))
        if last is None:
            self._require_fits(read)
        else:
            self.untold = [torch.tensor(loss, device=self.device) for loss in read.facts["untold_losses"]]
            best = read.facts["best"]
            self.best = {"loss": math.inf if best["loss"] is None else best["loss"], "epoch": best["epoch"]}
            self.stopped = read.facts["stopped"]
        self.net.load_state_dict(read.tensors["weights"])
        self.ema_net.load_state_dict(read.tensors["ema"])
        optimizer = read.tensors["optimizer"]
        self.guard.load(optimizer)
        for name, weight in self.net.named_parameters():
            # Moments must lie in memory as their weights do: the fused kernel walks through both side by side.
            moments = {
                slot: torch.empty_like(weight).copy_(optimizer[f"{slot}.{name}"]) for slot in ("exp_avg", "exp_avg_sq")
            }
            self.optimizer.state[weight] = {"step": optimizer[f"step.{name}"].to(self.device), **moments}
        self.step = read.facts["step"]
        self.last_loss = math.nan if read.facts["loss"] is None else read.facts["loss"]

    def _require_same(self) -> None:
        try:
            before = json.loads(self.out.read("training.json"))
        except Missing:
            return
        for name, value in self._identity().items():
            if before.get(name) != value:
                raise WrongInput(
                    f"out: {self.out.root} holds a training with {name} {before.get(name)!r}, not {value!r}; give another place, or the same settings"
                )

    def _require_fits(self, read: checkpoint.Checkpoint) -> None:
        if read.model_settings != self.model or read.facts["image_size"] != self.data.image_size:
            raise WrongInput(
                f"start: {self.start} is of another model; give its settings and a data set of {read.facts['image_size']} px"
            )
        if read.facts["step"] * self.batch != read.facts["images_seen"]:
            raise WrongInput(
                f"start: {self.start} was trained with another batch size; give batch_size {read.facts['images_seen'] // max(read.facts['step'], 1)}"
            )
        if read.facts["step"] > self.total_steps:
            raise WrongInput(
                f"start: {self.start} has {read.facts['epoch']:g} epochs behind it, more than epochs ({self.settings.epochs}); give more epochs"
            )

    def _finished(self) -> dict[str, Any] | None:
        try:
            return json.loads(self.out.read("done.json"))
        except Missing:
            return None

    def _finish(self, progress: Progress, task: str) -> dict[str, Any]:
        self._require_progress()
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
            "loss": self.last_loss,
            "held_out_loss": self.best["loss"] if math.isfinite(self.best["loss"]) else None,
            "skipped_steps": self.guard.skipped(),
            "parameters": sum(weight.numel() for weight in self.weights),
            "spent_budget": self.step == self.total_steps,
            "stopped": self.stopped or "the budget was spent",
        }
        self.out.write("done.json", json.dumps(facts, indent=1).encode())
        progress.update(task, 1, 1, f"{self.images_seen:,} images  loss {self.last_loss:.4f}  {facts['stopped']}")
        return facts
