"""Where tensors live, and how many threads work on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 32  # a network is small that begins with fewer channels


def pick_device() -> torch.device:
    """The CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """As a person would say it: the GPU's product name, or `cpu` with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({os.cpu_count()} cores)"


@contextmanager
def threads_for(channels: int, device: torch.device) -> Iterator[None]:
    """On the CPU, run what is inside with one thread where the network is small, going by the channels it begins with.

    The operations of a small network take microseconds: with two threads it is as fast as with one where the machine
    is idle, and far slower where it is not, since a thread that must wait for its core holds up the other. One thread
    also makes results independent of the machine's number of cores.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and channels < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
