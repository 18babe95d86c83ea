"""The gradient of a batch's mean loss, in as many parts as memory asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddpm.errors import Refused, WrongInput
from ddpm.randomness import key
from ddpm.training.batches import Batch
from ddpm.training.recipe import Recipe


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """PyTorch's own kernels of attention, for as long as it lasts: in the whole process, so that one thread alone may train.

    On Hopper PyTorch 2.11 and later prefer cuDNN's, which are known for gradients that are not finite where all that they
    are of is (https://github.com/pytorch/pytorch/issues/196678). What is only drawn goes by the device's usual ones.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


class Gradients:
    """Leaves gradients in a network's weights, compiled if the recipe says so.

    `micro`: pictures that go through it at once; `notify` is told of changes.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, notify: Callable[[str], None]) -> None:
        asked = recipe.settings.compile
        compiled = asked == "always" or (asked == "auto" and recipe.device.type == "cuda")
        self.compiled = compiled
        self.net: nn.Module = torch.compile(net) if compiled else net  # type: ignore[assignment]
        self.recipe, self.notify = recipe, notify
        self.micro = min(recipe.settings.micro_batch or recipe.share, recipe.share)

    def seed(self, step: int) -> None:
        """What `take` draws is that step's from now on: dropout's masks come from the global stream."""
        self.step = step
        if self.recipe.model.dropout:
            torch.manual_seed(key(self.recipe.settings.train_seed, "dropout", step, self.recipe.world.rank))

    def take(self, batch: Batch) -> Tensor:
        """Take the gradient of this process's share of a batch; returns its mean loss, still on the device.

        Where memory runs out the parts are halved, from now on, and the gradient is taken anew. Raises Refused where one
        picture is too much; of several processes one alone knows that, so that it is WrongInput there: no search may go on
        as if all did.
        """
        world = self.recipe.world
        while True:
            self.net.zero_grad(set_to_none=True)
            try:
                # Each part in a call of its own: what it holds of the graph ends with it, also where it fails.
                starts = range(0, len(batch), self.micro)
                with without_cudnn_attention():
                    return torch.stack(
                        [self._add(batch.part(slice(start, start + self.micro))) for start in starts]
                    ).sum()
            except torch.OutOfMemoryError:
                if self.recipe.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                    raise  # it is the recording that there is no room for
                if self.micro == 1:
                    raise (Refused if world.size == 1 else WrongInput)(
                        f"memory ran out with {self.micro} pictures at a time; give a smaller micro_batch, or a smaller network"
                    ) from None
            self.micro = math.ceil(self.micro / 2)
            self.seed(self.step)
            self.notify(f"memory ran out: {self.micro} pictures at a time from now on, in batches as large as before")

    def _add(self, part: Batch) -> Tensor:
        """Add a part's gradient; returns its part of the mean loss."""
        settings, diffusion = self.recipe.settings, self.recipe.diffusion
        with torch.autocast(part.x0.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            losses = diffusion.loss(
                self.net, part.x0, part.sigma, part.eps, part.labels, part.augment, settings.min_snr_gamma
            )
            mean = losses.sum() / self.recipe.share
            mean.backward()
        return mean.detach()
