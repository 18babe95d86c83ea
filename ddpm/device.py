"""Where tensors live, and how many threads work on them."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import sys
import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch
from torch import nn

from ddpm.errors import WrongInput

SMALL = 32  # a network is small that begins with fewer channels
VECTORS = ("AVX2", "AVX512")  # a processor's instructions with which both orders of weights were measured


def pick_device() -> torch.device:
    """What $DDPM_DEVICE names; without it the CUDA device where there is one, else the CPU.

    Apple's GPU must be asked for: nobody has compared what it computes with the others yet. Raises WrongInput where the
    machine has not what is named.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    named = os.environ.get("DDPM_DEVICE")
    if not named:
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there.get(named):
        has = ", ".join(kind for kind, found in there.items() if found)
        raise WrongInput(f"DDPM_DEVICE: {named!r} is not to be had here; give one of: {has}")
    return torch.device(named)


def device_name(device: torch.device) -> str:
    """As a person would say it: the GPU's product name, or `cpu` with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple's GPU"
    return f"cpu ({os.cpu_count()} cores)"


def memory_of(device: torch.device) -> int:
    """Bytes that this process may have there in all: the GPU's, or the machine's, the container's or the shell's limit."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        known.append(soft)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # another kind of cgroup, none, or "max": no limit
            known.append(int(Path(file).read_text()))
    return min(known)


def memory_format(device: torch.device) -> torch.memory_format:
    """How the weights of convolutions lie in memory where a network trains: with channels last, as a GPU's convolutions want
    them, and those of a processor with AVX2 or AVX-512 (docs/benchmarks.md has by how much); elsewhere as torch has them."""
    wanted = device.type == "cuda" or (device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in VECTORS)
    return torch.channels_last if wanted else torch.contiguous_format


def drawing_format(device: torch.device) -> torch.memory_format:
    """How they lie where a network draws: on a CPU as in training, whose own averages are drawn from while it goes on; on a
    GPU as torch has them, for with channels last it draws a little faster here and slower there (docs/results.md)."""
    return memory_format(device) if device.type == "cpu" else torch.contiguous_format


_placing = threading.Lock()


def placed(net: nn.Module, device: torch.device) -> nn.Module:
    """The network itself, where and as it is to draw. One on a GPU stays as it is: a training's average, which a recorded
    step knows by its address.

    What is right already is not touched, and one thread at a time changes anything: others may be drawing from it.
    """
    order = drawing_format(device)
    with _placing, torch.inference_mode(False):  # weights that were made in that mode could never be trained again
        if not all(_lies(weight, device, order) for weight in net.parameters()):
            net.to(device=device, memory_format=order)  # type: ignore[call-overload]
    return net


def _lies(weight: torch.Tensor, device: torch.device, order: torch.memory_format) -> bool:
    there = weight.device.type == device.type and device.index in (None, weight.device.index)
    return there and (device.type != "cpu" or weight.dim() != 4 or weight.is_contiguous(memory_format=order))


def keep_memory(device: torch.device) -> None:
    """On the CPU, let this process keep the memory that tensors free, for the next ones, until it ends.

    Otherwise glibc hands every large tensor back to the system, which zeroes its pages anew, for thousands of tensors a
    step: a ninth of the time of a training step in fp32, and a quarter of that of Inception's features. The peak is the
    same within a few percent, but the process stays near it. A C library without `mallopt` goes on as it does.
    """
    if device.type == "cpu" and sys.platform == "linux":
        _keep_memory()


@functools.cache
def _keep_memory() -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        library.mallopt(trim_threshold, -1)  # never give back the heap's end
        library.mallopt(mmap_max, 0)  # and take everything from the heap


class _OneThread(threading.local):
    """While a thread is inside, torch works for it with one thread, and afterwards with as many as before.

    The number is each thread's own, OpenMP's and MKL's, once it has asked for it: where two are inside at once, as a
    server's that draws and the one that loads the next version, each must put back its own.
    """

    def __init__(self) -> None:
        self._inside, self._before = 0, 0

    def __enter__(self) -> None:
        if not self._inside:
            self._before = torch.get_num_threads()
            torch.set_num_threads(1)
        self._inside += 1

    def __exit__(self, *exception: object) -> None:
        self._inside -= 1
        if not self._inside:
            torch.set_num_threads(self._before)


_one_thread = _OneThread()


def keep_threads() -> None:
    """To be called as a thread begins that will draw: it keeps the number of torch's threads that it first asks for, which
    is one where another thread is inside `threads_for` then."""
    torch.get_num_threads()


def threads_for(channels: int, device: torch.device) -> AbstractContextManager[None]:
    """On the CPU, run what is inside with one thread where the network is small, going by the channels it begins with.

    The operations of a small network take microseconds, and a second thread that must wait for its core holds up the
    first: on two cores, two threads train the digits' network 1.3 times as fast as one while the machine is idle, and a
    third as fast while another program is busy. One thread also makes results independent of the number of cores.
    """
    return _one_thread if device.type == "cpu" and channels < SMALL else nullcontext()
