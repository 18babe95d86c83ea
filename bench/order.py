"""The network with its weights in either order in memory, channels first and channels last: steps of training, and evaluations
as in drawing; see docs/benchmarks.md.

    make bench BENCH=order SET='image_size=64 base_channels=64 blocks=2 batch=8'

What is timed is the network's own part of a step, forward, backward and Adam, on the CPU: by this process's processor time,
with one of torch's threads, so that what others do beside it counts little. `ddpm.device.memory_format` says which order is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.peers import require_precision
from bench.table import Row, in_turns, rate_row
from ddpm.device import keep_memory
from ddpm.model.unet import UNet
from ddpm.settings import ModelSettings

SETTINGS: dict[str, Any] = {
    "image_size": 32,
    "base_channels": 32,
    "channel_mults": "1-2-4",
    "blocks": 1,
    "dropout": 0.1,
    "batch": 32,
    "precision": "fp32",  # that training computes in, or bf16; on a CPU drawing is in fp32
    "rounds": 5,
    "seconds": 1.0,  # that a turn lasts at least
}
ORDERS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


def run(settings: dict[str, Any], say: Callable[[str], None]) -> list[Row]:
    precision = require_precision(settings["precision"])
    device, before = torch.device("cpu"), torch.get_num_threads()
    keep_memory(device)
    model = ModelSettings(**{name: settings[name] for name in ("base_channels", "channel_mults", "blocks", "dropout")})
    size, batch, seconds = settings["image_size"], settings["batch"], settings["seconds"]
    x, t = torch.randn(batch, 3, size, size), torch.rand(batch)
    rows = []
    torch.set_num_threads(1)
    try:
        for what, of in ((f"training, {precision}", partial(_training, precision)), ("drawing, fp32", _drawing)):
            work = {}
            for name, order in ORDERS.items():
                torch.manual_seed(0)
                work[name] = of(UNet(model, size).to(memory_format=order), x, t)  # type: ignore[call-overload]
                work[name]()  # the first chooses its kernels
            say(f"{what}, on a CPU with {torch.backends.cpu.get_cpu_capability()}")
            timed = {name: partial(_rate, one, batch, seconds) for name, one in work.items()}
            rates = in_turns(timed, settings["rounds"])
            rows.append(rate_row("order", f"{what}, channels last", "img/s", rates, "channels last"))
    finally:
        torch.set_num_threads(before)
    return rows


def _training(precision: str, net: UNet, x: Tensor, t: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            net(x, t).square().mean().backward()
        optimizer.step()

    return step


def _drawing(net: UNet, x: Tensor, t: Tensor) -> Callable[[], None]:
    net.eval()

    @torch.inference_mode()
    def evaluate() -> None:
        net(x, t)

    return evaluate


def _rate(work: Callable[[], None], pictures: int, seconds: float) -> float:
    """Pictures a second of processor time."""
    began, times = time.process_time(), 0
    while time.process_time() - began < seconds:
        work()
        times += 1
    return times * pictures / (time.process_time() - began)
