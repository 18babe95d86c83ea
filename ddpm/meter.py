"""What a piece of work takes: seconds and, where NVIDIA's driver can be asked, energy."""

from __future__ import annotations

import time
from typing import TypedDict

import torch


class Spent(TypedDict):
    """Seconds, and the energy of the device meanwhile; None: it was not measured."""

    seconds: float
    joules: float | None


NOTHING: Spent = {"seconds": 0.0, "joules": 0.0}


class Meter:
    """Counts from when it is made. Of a GPU it is the whole GPU's energy, whoever else works there."""

    def __init__(self, device: torch.device, devices: int = 1) -> None:
        self._device = device if devices == 1 else None  # of several, only this process's own could be asked
        self._began, self._joules = time.monotonic(), _joules(self._device)

    def spent(self, before: Spent = NOTHING) -> Spent:
        """What was spent since, and before."""
        now = _joules(self._device)
        known = now is not None and self._joules is not None and before["joules"] is not None
        joules = before["joules"] + now - self._joules if known else None  # type: ignore[operator]
        return {"seconds": round(before["seconds"] + time.monotonic() - self._began, 2), "joules": joules}


def _joules(device: torch.device | None) -> float | None:
    """What a GPU has taken since its driver was loaded; None where nobody counts: the CPU, older GPUs, parts of a GPU,
    or where the package nvidia-ml-py, by which the driver is asked, is not installed."""
    if device is None or device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except pynvml.NVMLError:
        return None
