"""The guard against gradient spikes: it skips steps out of the ordinary, and turns back where skipping is not enough.

At a rate of 1e-3 the founding experiment lost a run to one spike. Whether to skip a step is decided on the device,
without waiting for it; the optimizer's fused kernel honours it by leaving weights and moments as they are. The host reads
the counts every few dozen steps, at a check: a calm state is remembered there, and a troubled one is turned back to it.
"""

from __future__ import annotations

import math
import statistics
from typing import TypedDict

import torch
from torch import Tensor

WINDOW = 128  # norms that the running median looks back on
WARM = 16  # norms it must have seen before it judges
IN_A_ROW = 4  # steps skipped in a row up to a check that are trouble; a burst that has passed changed nothing
LOSS_EXCESS = 3.0  # of the median of the last checks' losses, by which a loss may exceed it before it is trouble
LOSSES = 16  # checks' losses that the median looks back on
LOWER = 0.5  # the rate's factor, each time it turns back
CALM = 4  # calm checks in a row after which the rate is raised again by one such factor
MOST_ROLLBACKS = 10  # in force at once, at which the training is given up


class GuardFacts(TypedDict, total=False):
    """What a checkpoint's manifest keeps of the guard. Those of before there were rollbacks have none of it."""

    rollbacks: int
    lowered: int
    calm: float
    calm_losses: list[float]
    stuck: int


class SpikeGuard:
    """Keeps the last gradient norms and counts what it skipped. State: norms [WINDOW] (NaN: none yet), counts [3], not_finite [].

    With factor 0 it skips nothing, and never turns back.
    """

    def __init__(self, factor: float, device: torch.device) -> None:
        self.factor = factor
        self.norms = torch.full((WINDOW,), torch.nan, device=device)
        self.counts = torch.zeros(3, device=device)  # accepted, skipped, skipped since the last accepted one
        self.not_finite = torch.zeros((), device=device)  # skipped ones whose norm was not finite; NaN: not known
        self.checked = (0.0, 0.0)  # accepted and skipped at the last check
        self.rollbacks = 0  # in all
        self.lowered = 0  # rollbacks whose lower rate is in force
        self.calm = 0.0  # checks in a row, since the rate was last changed
        self.losses: list[float] = []  # of the last calm checks
        self.stuck = 0  # checks in a row at which steps were being skipped

    @torch.no_grad()
    def judge(self, norm: Tensor) -> Tensor:
        """1.0 where the step with this gradient norm (a scalar) must be skipped, else 0.0; a scalar on the device.

        Only accepted norms enter the window: a burst of spikes must not become the new normal.
        """
        norm = norm.float()
        accepted, skipped, in_a_row = self.counts.unbind()
        outlying = (accepted >= WARM) & (norm > self.factor * self.norms.nanmedian())
        skip = (~norm.isfinite() | outlying).float() * (1.0 if self.factor else 0.0)
        # A mask rather than an index: indexing by a tensor would wait for the device.
        slot = torch.arange(WINDOW, device=self.norms.device) == accepted % WINDOW
        # Into the same memory: a recorded step finds them where they were.
        self.norms.copy_(torch.where(slot & (skip == 0), norm, self.norms))
        self.counts.copy_(torch.stack([accepted + 1 - skip, skipped + skip, (in_a_row + 1) * skip]))
        self.not_finite.add_((~norm.isfinite()).float() * skip)
        return skip

    def troubled(self, loss: float, share: float = 1.0) -> bool:
        """At a check, with the mean loss since the last one (NaN: of no step): whether to turn back. Waits for the device.

        `share` is how many steps there were, of the usual number. The mean of few varies more, and may be as much higher.
        """
        if not self.factor:
            return False
        accepted, skipped, in_a_row = self.counts.tolist()
        mostly_skipped = (
            skipped - self.checked[1] > accepted - self.checked[0] and skipped - self.checked[1] >= IN_A_ROW
        )
        self.checked = (accepted, skipped)
        skipping = mostly_skipped or in_a_row >= IN_A_ROW
        self.stuck = self.stuck + 1 if skipping else 0
        usual = statistics.median(self.losses) if self.losses else math.inf
        much_higher = loss > (1 + LOSS_EXCESS / math.sqrt(min(1.0, share))) * usual
        if skipping or much_higher:
            return True
        if not math.isnan(loss):
            self.losses = [*self.losses, loss][-LOSSES:]
        self.calm += min(1.0, share)
        if self.lowered and self.calm >= CALM:
            self.lowered, self.calm = self.lowered - 1, 0.0
        return False

    def turned_back(self) -> None:
        """Count a rollback, and begin again with what came in a row.

        Where steps were being skipped at the check before too, the remembered weights' own gradients are above the ordinary:
        all steps from there would be skipped, at any rate. So norms and losses are forgotten, and what comes is ordinary once
        it is warm.
        """
        if self.stuck > 1:
            self.norms.fill_(torch.nan)
            self.counts[0], self.checked, self.losses = 0, (0.0, self.checked[1]), []
        self.rollbacks += 1
        self.lowered += 1
        self.calm = 0.0
        self.counts[2] = 0

    @property
    def lr_factor(self) -> float:
        return LOWER**self.lowered

    def skipped(self) -> int:
        """Steps skipped so far. Waits for the device."""
        return int(self.counts[1].item())

    def skipped_not_finite(self) -> int | None:
        """Those of them whose gradient was seen not to be finite; the others' was out of the ordinary. Waits for the device.

        None: not known, since an earlier release, which did not count them, had skipped some.
        """
        seen = float(self.not_finite.item())
        return None if math.isnan(seen) else int(seen)

    def state(self) -> dict[str, Tensor]:
        return {"guard.norms": self.norms, "guard.counts": self.counts, "guard.not_finite": self.not_finite}

    def facts(self) -> GuardFacts:
        return {
            "rollbacks": self.rollbacks, "lowered": self.lowered, "calm": self.calm, "calm_losses": self.losses, "stuck": self.stuck,
        }  # fmt: skip

    def load(self, state: dict[str, Tensor], facts: GuardFacts) -> None:
        self.norms.copy_(state["guard.norms"])
        self.counts.copy_(state["guard.counts"])
        if "guard.not_finite" in state:
            self.not_finite.copy_(state["guard.not_finite"])
        elif self.skipped():  # a checkpoint of an earlier release: nobody counted them
            self.not_finite.fill_(math.nan)
        self.checked = (float(self.counts[0]), float(self.counts[1]))  # checkpoints are written at checks
        self.rollbacks, self.lowered = facts.get("rollbacks", 0), facts.get("lowered", 0)
        self.calm, self.losses = facts.get("calm", 0.0), list(facts.get("calm_losses", ()))
        self.stuck = facts.get("stuck", 0)


class Snapshot:
    """Copies of tensors as they were when all was calm, on their own device."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.copies = [tensor.detach().clone(memory_format=torch.preserve_format) for tensor in tensors]

    @torch.no_grad()
    def renew(self, tensors: list[Tensor]) -> None:
        torch._foreach_copy_(self.copies, [tensor.detach() for tensor in tensors])

    @torch.no_grad()
    def restore(self, tensors: list[Tensor]) -> None:
        """Put the copies' values back into the tensors they were taken of."""
        torch._foreach_copy_([tensor.detach() for tensor in tensors], self.copies)
