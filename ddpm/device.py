"""Where tensors live, and how many threads work on them."""

from __future__ import annotations

import os
import threading
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


class _Small:
    """How many are in `threads_for` with a small network: the number of threads is the whole process's."""

    def __init__(self) -> None:
        self.inside, self.before, self._lock = 0, 0, threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


_small = _Small()


@contextmanager
def threads_for(channels: int, device: torch.device) -> Iterator[None]:
    """On the CPU, run what is inside with one thread where the network is small, going by the channels it begins with.

    The operations of a small network take microseconds: with two threads it is as fast as with one where the machine
    is idle, and far slower where it is not, since a thread that must wait for its core holds up the other. One thread
    also makes results independent of the machine's number of cores.
    """
    if device.type != "cpu" or channels >= SMALL:
        yield
        return
    with _small:
        if not _small.inside:
            _small.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _small.inside += 1
    try:
        yield
    finally:
        with _small:
            _small.inside -= 1
            if not _small.inside:
                torch.set_num_threads(_small.before)
