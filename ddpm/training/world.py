"""The processes of one training, as `torchrun` starts them: one a GPU, or several on the CPU.

Each takes its share of every batch, and they average their gradients. The first, rank 0, alone writes, reports and
decides, and broadcasts what the others must know.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from ddpm.device import pick_device
from ddpm.errors import Refused, WrongInput
from ddpm.numerals import count

PATIENCE = timedelta(hours=2)  # that a rank waits for another: rank 0 also scores and writes

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among those of a training."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank; a plain JSON-like one. On other ranks `value` is not looked at."""
        if self.size == 1:
            return value
        box = [value if self.leads else None]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
        return box[0]

    def decide(self, work: Callable[[], T]) -> T:
        """What rank 0 alone finds out, on every rank, a plain JSON-like value; and where it raises Refused, all do."""
        if self.size == 1:
            return work()
        found, refusal = None, ""
        if self.leads:
            try:
                found = work()
            except Refused as problem:
                refusal = str(problem)
        found, refusal = self.broadcast((found, refusal))
        if refusal:
            raise Refused(refusal)
        return found

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """A tensor's mean over the ranks."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
            value = value / self.size
        return value

    def average(self, tensors: list[torch.Tensor]) -> None:
        """Make tensors of one type their means over the ranks, in one exchange.

        Not DistributedDataParallel, which exchanges on the way back: what fails there on one rank alone, as where its
        memory runs out, cannot be tried again without the others.
        """
        if self.size == 1:
            return
        flat = self.mean(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


@contextlib.contextmanager
def join_world() -> Iterator[World]:
    """The world that torchrun's environment describes, for as long as the block lasts; without it, a world of one."""
    size = _told("WORLD_SIZE", "1")
    if size == 1:
        yield World(pick_device())
        return
    device = pick_device()
    if device.type == "cuda":
        local = _told("LOCAL_RANK")
        if local >= torch.cuda.device_count():
            raise WrongInput(
                f"--nproc-per-node: this machine has {torch.cuda.device_count()} GPUs; give at most as many"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(device, _told("RANK"), size)
    finally:
        torch.distributed.destroy_process_group()


def _told(variable: str, default: str = "") -> int:
    """What torchrun says of the world. Raises WrongInput where somebody else said something else."""
    text = os.environ.get(variable, default)
    try:
        return count(text)
    except ValueError:
        raise WrongInput(f"{variable}: {text!r} will not do; start processes by torchrun, which sets it") from None
