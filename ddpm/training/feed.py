"""Training pictures on the device: all of them where they fit, else fetched ahead from the mapped files."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ddpm.data.dataset import Split

SHARE = 0.4  # of the device's free memory that a resident data set may take
AHEAD = 4  # batches fetched before they are asked for

Batch = tuple[Tensor, Tensor]


def free_bytes(device: torch.device) -> int:
    """Of the device's memory, or of the machine's: half of all, where the system does not say what is free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if "SC_AVPHYS_PAGES" in os.sysconf_names:  # Linux; macOS has none
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class Feed:
    """Batches of a split, by number: uint8 images [b,3,h,w] and int64 labels [b], on the device.

    `rows_of(number)` says which rows a batch holds (int64 [b], on the CPU). `resident`: yes, no, or auto (where it fits).
    """

    def __init__(
        self, split: Split, rows_of: Callable[[int], Tensor], device: torch.device, resident: str = "auto"
    ) -> None:
        self.split, self.rows_of, self.device = split, rows_of, device
        self.resident = resident == "always" or (resident == "auto" and split.nbytes <= SHARE * free_bytes(device))
        if self.resident:
            self._images, self._labels = split.images.to(device), split.labels.to(device)
        else:
            self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="feed")
            self._coming: dict[int, Future[Batch]] = {}

    def batch(self, number: int) -> Batch:
        """The batch of that number. The next ones are fetched meanwhile: it is quick where numbers rise one by one."""
        if self.resident:
            rows = self.rows_of(number).to(self.device, non_blocking=True)
            return self._images[rows], self._labels[rows]
        for ahead in range(number, number + AHEAD):
            if ahead not in self._coming:
                self._coming[ahead] = self._fetcher.submit(self._fetch, self.rows_of(ahead))
        self._coming = {key: coming for key, coming in self._coming.items() if key >= number}
        images, labels = self._coming.pop(number).result()
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _fetch(self, rows: Tensor) -> Batch:
        images, labels = self.split.take(rows)
        if self.device.type == "cuda":
            return images.pin_memory(), labels.pin_memory()
        return images, labels

    def close(self) -> None:
        if not self.resident:
            self._fetcher.shutdown(cancel_futures=True)
