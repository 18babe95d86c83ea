"""Training, against diffusers and denoising-diffusion-pytorch, at equal FLOPs; see docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.contest import Say, contests, run_contest
from bench.cost import draw_cost
from bench.table import Row

SETTINGS: dict[str, Any] = {
    "image_size": 64,
    "batch": 16,
    "channel_mults": "1-2-4",
    "base_channels": 64,  # the peers'; ours follows from their FLOPs
    "precision": "",  # fp32, bf16, or both, separated by a comma; empty: both, and on a CPU without bf16 fp32 alone
    "compile": 0,  # 1: torch.compile, for all
    "device": "",  # empty: the GPU where there is one
    "rounds": 3,
    "seconds": 6.0,  # of a turn, at least; no less than one step
    "cost_sizes": "16,32,64",  # pictures' sizes and widths in the figure of costs
    "cost_widths": "16,32,64",
    "figure": "var/bench/cost.png",  # empty: none
}


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    asked = contests(settings)
    rows = []
    for contest in asked:
        rows += run_contest("training", contest, settings["rounds"], settings["seconds"], say)
    if settings["figure"]:
        sizes, widths = ([int(one) for one in settings[f"cost_{what}"].split(",")] for what in ("sizes", "widths"))
        draw_cost(Path(settings["figure"]), asked[-1], sizes, widths, say)
    return rows
