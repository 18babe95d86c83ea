"""Ingest beside a bare loop that decodes and resizes the same files in as many processes; and how much memory it takes.

Both are whole commands, from their start to their end. The loop keeps nothing: no hashes, no shards, no store.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from bench.table import Row, in_turns, rate_row

SETTINGS: dict[str, Any] = {
    "photographs": 1200,  # of about the size of Flowers102's
    "rounds": 3,
    "small_pictures": 20_000,  # for the memory, and
    "many_pictures": 100_000,  # for whether it grows
}
LOOP = """
import sys
from PIL import Image
import numpy as np
for name in open(sys.argv[1]).read().split("\\n"):
    with Image.open(name) as picture:
        rgb = picture.convert("RGB")
        side = min(rgb.size)
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        rgb = rgb.crop((left, top, left + side, top + side)).resize((64, 64), Image.Resampling.LANCZOS)
        np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))
"""


def run(settings: dict[str, Any], say: Callable[[str], None]) -> list[Row]:
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        say(f"{settings['photographs']:,} photographs in {cores} processes")
        photographs = _photographs(Path(folder, "photographs"), settings["photographs"], (667, 500))
        rates = in_turns(
            {
                "ours": lambda: len(photographs) / _ingest(Path(folder), photographs[0].parent)[0],
                "bare loop": lambda: len(photographs) / _loop(Path(folder), photographs, cores),
            },
            settings["rounds"],
        )
        rows = [rate_row("ingest", "photographs", "pictures/s", rates)]
        for name in ("small_pictures", "many_pictures"):
            say(f"{settings[name]:,} small pictures")
            pictures = _photographs(Path(folder, name), settings[name], (64, 64))
            seconds, peak = _ingest(Path(folder), pictures[0].parent)
            rows.append(Row("ingest", f"peak memory, {len(pictures):,} at 64x64", "MB", peak / 1e6))
            rows.append(Row("ingest", f"{len(pictures):,} at 64x64", "pictures/s", len(pictures) / seconds))
    return rows


def _photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs that differ, of the smoothness and file size of photographs."""
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (40, size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    bases = [np.asarray(Image.fromarray(grain).resize(size, Image.Resampling.BICUBIC)) for grain in coarse]
    files = []
    for number in range(count):
        picture = bases[number % len(bases)].copy()
        picture[0:8, 0:64] = np.frombuffer(np.random.default_rng(number).bytes(8 * 64 * 3), np.uint8).reshape(8, 64, 3)
        files.append(folder / f"{number:06d}.jpg")
        Image.fromarray(picture).save(files[-1], quality=85)
    return files


def _ingest(folder: Path, pictures: Path) -> tuple[float, int]:
    """Seconds, and the most memory of all its processes together (proportional set sizes), in bytes."""
    with tempfile.TemporaryDirectory(dir=folder) as store:
        command = [sys.executable, "-m", "ddpm.cli", "ingest", str(pictures), "--name", "x", "--store", store, "--json"]
        began = time.perf_counter()
        process = subprocess.Popen([*command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = [0]
        watching = threading.Thread(target=_watch, args=(process.pid, peak))
        watching.start()
        status = process.wait()
        seconds = time.perf_counter() - began
        watching.join()
    if status:
        raise RuntimeError(f"ingest ended with status {status}")
    return seconds, peak[0]


def _watch(pid: int, peak: list[int]) -> None:
    while True:
        try:
            parent = psutil.Process(pid)
            sizes = [found.memory_full_info().pss for found in [parent, *parent.children()]]
            if parent.status() == psutil.STATUS_ZOMBIE:
                return
            peak[0] = max(peak[0], sum(sizes))
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied, FileNotFoundError):
            if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        time.sleep(0.5)


def _loop(folder: Path, files: list[Path], cores: int) -> float:
    lists = []
    for number in range(cores):
        lists.append(folder / f"list-{number}")
        lists[-1].write_text("\n".join(map(str, files[number::cores])))
    began = time.perf_counter()
    processes = [subprocess.Popen([sys.executable, "-c", LOOP, str(name)]) for name in lists]
    if max([process.wait() for process in processes]):
        raise RuntimeError("the bare loop failed")
    return time.perf_counter() - began
