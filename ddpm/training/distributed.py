"""The processes of one training, as `torchrun` starts them: one a GPU, or several on the CPU.

Each takes its share of every batch. The first, rank 0, alone writes, reports and decides; the others hear.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from ddpm.device import pick_device
from ddpm.errors import WrongInput

PATIENCE = timedelta(hours=2)  # that a rank waits for another: rank 0 also scores and writes


@dataclass(frozen=True)
class World:
    """This process's place among those of a training."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def hear(self, said: Any) -> Any:
        """What rank 0 says, on every rank; a plain JSON-like value. On other ranks `said` is not looked at."""
        if self.size == 1:
            return said
        box = [said if self.leads else None]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
        return box[0]

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """A tensor's mean over the ranks."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
            value = value / self.size
        return value

    def share(self, net: nn.Module) -> nn.Module:
        """The network as one whose gradients are averaged over the ranks."""
        if self.size == 1:
            return net
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=devices, broadcast_buffers=False)


@contextlib.contextmanager
def join_world() -> Iterator[World]:
    """The world that torchrun's environment describes, for as long as the block lasts; without it, a world of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(pick_device())
        return
    device = pick_device()
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise WrongInput(
                f"--nproc-per-node: this machine has {torch.cuda.device_count()} GPUs; give at most as many"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(device, int(os.environ["RANK"]), size)
    finally:
        torch.distributed.destroy_process_group()
