"""The exponential moving average of the weights, on a clock of images seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RAMP = 0.05  # a half-life's share of the images seen, at most


def ema_decay(batch: int, images_seen: int, half_life: float, ramp: float = RAMP) -> float:
    """The factor beta that keeps the average for one step of `batch` images: 0.5 ** (batch / half-life).

    The half-life is at most `ramp` of the images seen, so that a short run's average is not mostly its start
    (Karras et al. 2022, https://arxiv.org/abs/2206.00364, training code).
    """
    return 0.5 ** (batch / max(min(half_life, ramp * images_seen), 1e-8))


@torch.no_grad()
def update_ema(ema: Sequence[Tensor], weights: Sequence[Tensor], share: float | Tensor) -> None:
    """ema <- (1 - share) * ema + share * weights, in place; sequences of tensors of equal shapes. `share` is 1 - decay.

    One that is a scalar tensor on their device is never waited for.
    """
    if isinstance(share, float):
        torch._foreach_lerp_(list(ema), list(weights), share)
    else:
        away = torch._foreach_sub(list(weights), list(ema))
        torch._foreach_mul_(away, share)
        torch._foreach_add_(list(ema), away)
