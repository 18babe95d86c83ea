"""The guard against gradient spikes: it skips a step whose gradient is not finite or far out of the ordinary.

At a rate of 1e-3 the founding experiment lost a run to one such step. The decision is made on the device, without
waiting for it; the optimizer's fused kernel honours it by leaving weights and moments as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 128  # norms that the running median looks back on
WARM = 16  # norms it must have seen before it judges


class SpikeGuard:
    """Keeps the last gradient norms and counts what it skipped. State: norms [WINDOW] (NaN: none yet) and counts [3]."""

    def __init__(self, factor: float, device: torch.device) -> None:
        self.factor = factor
        self.norms = torch.full((WINDOW,), torch.nan, device=device)
        self.counts = torch.zeros(3, device=device)  # accepted, skipped, skipped since the last accepted one

    @torch.no_grad()
    def judge(self, norm: Tensor) -> Tensor:
        """1.0 where the step with this gradient norm (a scalar) must be skipped, else 0.0; a scalar on the device.

        Only accepted norms enter the window: a burst of spikes must not become the new normal.
        """
        accepted, skipped, in_a_row = self.counts.unbind()
        outlying = (accepted >= WARM) & (norm > self.factor * self.norms.nanmedian())
        skip = (~norm.isfinite() | outlying).float()
        # A mask rather than an index: indexing by a tensor would wait for the device.
        slot = torch.arange(WINDOW, device=self.norms.device) == accepted % WINDOW
        self.norms = torch.where(slot & (skip == 0), norm, self.norms)
        self.counts = torch.stack([accepted + 1 - skip, skipped + skip, (in_a_row + 1) * skip])
        return skip

    def skipped(self) -> int:
        """Steps skipped so far. Waits for the device."""
        return int(self.counts[1].item())

    def skipped_in_a_row(self) -> int:
        """Steps skipped since the last one that was not. Waits for the device."""
        return int(self.counts[2].item())

    def state(self) -> dict[str, Tensor]:
        return {"guard.norms": self.norms, "guard.counts": self.counts}

    def load(self, state: dict[str, Tensor]) -> None:
        self.norms.copy_(state["guard.norms"])
        self.counts.copy_(state["guard.counts"])
