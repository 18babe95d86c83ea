"""What a training changes: a network's weights, their moving averages, Adam's moments, and what the guard has seen."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddpm.device import memory_format
from ddpm.model.unet import UNet, require_room
from ddpm.randomness import key
from ddpm.settings import TrainSettings, pick
from ddpm.training.checkpoint import Checkpoint, average_part
from ddpm.training.ema import ema_decay, update_ema
from ddpm.training.guard import SpikeGuard
from ddpm.training.initial import Initial
from ddpm.training.recipe import Recipe

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, for each weight
SKIPS_BY_ITSELF = {"cpu", "cuda"}  # kinds of device whose fused Adam changes nothing where found_inf is 1


class Learner:
    """A new network of a recipe, for pictures of this size. All ranks' are equal, to the bit."""

    def __init__(self, recipe: Recipe, image_size: int) -> None:
        self.recipe, settings, device = recipe, recipe.settings, recipe.device
        numbers = 1 + 1 + len(MOMENTS) + len(settings.half_lives)  # the weight, its gradient, moments and averages
        require_room(recipe.model, image_size, numbers * recipe.dtype.itemsize, device)
        torch.manual_seed(key(settings.train_seed, "weights"))
        self.net: nn.Module = UNet(recipe.model, image_size).to(device, recipe.dtype)
        self.net = self.net.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.weights = list(self.net.parameters())
        self.averages = {
            half_life: copy.deepcopy(self.net).requires_grad_(False).eval() for half_life in settings.half_lives
        }
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.Adam(
            self.weights, lr=settings.lr, betas=(0.9, settings.adam_beta2), fused=True, capturable=on_gpu
        )
        self.lr: float | Tensor = settings.lr
        self.shares: Sequence[float | Tensor] = [0.0 for _ in self.averages]  # of the weights, in each average's step
        self.numbers: Sequence[Tensor] = []  # both, where a recorded step finds them
        if on_gpu:
            self.numbers = torch.zeros(1 + len(self.averages), device=device).unbind()
            self.lr, *self.shares = self.numbers
        for weight in self.weights:  # as Adam would at its first step: the guard must have a state to turn back to
            zeros = {slot: torch.zeros_like(weight, memory_format=torch.preserve_format) for slot in MOMENTS}
            self.optimizer.state[weight] = {"step": torch.zeros((), device=device), **zeros}
        self.guard = SpikeGuard(settings.guard_factor, device)

    @property
    def ema_net(self) -> nn.Module:
        """The network with the average that pictures are drawn from until another is chosen."""
        return self.averages[self.recipe.settings.half_lives[0]]

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.weights)

    def pace(self, lr: float, images_seen: int) -> None:
        """The rate of the next update, and how far it moves the averages. `images_seen` includes that step's."""
        shares = [1 - ema_decay(self.recipe.schedule.batch, images_seen, half_life) for half_life in self.averages]
        if not self.numbers:
            self.lr, self.shares = lr, shares
        for there, number in zip(self.numbers, (lr, *shares), strict=False):
            there.fill_(number)

    def update(self) -> tuple[Tensor, Tensor]:
        """Change the weights by their gradients, and the averages with them, unless the guard says no.

        Returns the gradient's norm, and 1.0 where the step was skipped, else 0.0: scalars, still on the device.
        """
        recipe = self.recipe
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        recipe.world.average(gradients)
        norm = nn.utils.get_total_norm(gradients)
        # The fused kernel leaves weights, moments and step count alone where found_inf is 1; elsewhere the host must ask.
        skip = self.guard.judge(norm)
        self.optimizer.found_inf = skip  # type: ignore[attr-defined]
        if recipe.settings.clip_norm:
            nn.utils.clip_grads_with_norm_(self.weights, recipe.settings.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        if recipe.device.type in SKIPS_BY_ITSELF or not skip.item():
            self.optimizer.step()
        for share, net in zip(self.shares, self.averages.values(), strict=True):
            update_ema(list(net.parameters()), self.weights, share)
        return norm, skip

    def state(self) -> list[Tensor]:
        """All that a step changes, in a fixed order: weights, averages, moments, and the norms that the guard knows."""
        averages = [average for net in self.averages.values() for average in net.parameters()]
        adam = [self.optimizer.state[weight][slot] for weight in self.weights for slot in ("step", *MOMENTS)]
        return [*self.weights, *averages, *adam, self.guard.norms]

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The same as a checkpoint keeps it: by part, and by name."""
        optimizer = dict(self.guard.state())
        for name, weight in self.net.named_parameters():
            for slot, value in self.optimizer.state[weight].items():
                optimizer[f"{slot}.{name}"] = value
        tensors: dict[str, dict[str, Tensor]] = {"weights": dict(self.net.named_parameters()), "optimizer": optimizer}
        for half_life, net in self.averages.items():
            tensors[average_part(self.recipe.settings.half_lives, half_life)] = dict(net.named_parameters())
        return tensors

    def begin_with(self, initial: Initial, taken: Sequence[str]) -> None:
        """Take over these tensors of another network, and of its averages; optimizer and guard stay as new."""
        self.net.load_state_dict({name: initial.weights[name] for name in taken}, strict=False)
        for half_life, net in self.averages.items():
            average = initial.average(half_life)
            net.load_state_dict({name: average[name] for name in taken}, strict=False)

    def load(self, read: Checkpoint) -> list[str]:
        """Take up a checkpoint's state. Returns what a person should hear of.

        It may have other averages: one that it has not begins with what its first one is.
        """
        notices, optimizer = [], read.tensors["optimizer"]
        self.net.load_state_dict(read.tensors["weights"])
        had = pick(TrainSettings, read.facts["settings"]).half_lives
        for half_life, net in self.averages.items():
            if half_life not in had:
                notices.append(f"the start has no average of half-life {half_life}: it begins as that of {had[0]}")
            net.load_state_dict(read.tensors[average_part(had, half_life) if half_life in had else "ema"])
        self.guard.load(optimizer, read.facts.get("guard", {}))
        for name, weight in self.net.named_parameters():
            # Moments lie in memory as their weights do: the fused kernel walks through both side by side.
            for slot, value in self.optimizer.state[weight].items():
                value.copy_(optimizer[f"{slot}.{name}"])
        return notices
