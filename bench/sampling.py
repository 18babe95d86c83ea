"""Sampling with DDIM, at equal FLOPs and equal numbers of evaluations; see docs/benchmarks.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.contest import Say, contests, run_contest
from bench.table import Row

SETTINGS: dict[str, Any] = {
    "image_size": 64,
    "batch": 8,
    "channel_mults": "1-2-4",
    "base_channels": 64,
    "compile": 0,
    "device": "",
    "nfe": 5,  # evaluations of the network a picture
    "rounds": 3,
    "seconds": 4.0,
}


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    [contest] = contests({**settings, "precision": "fp32"}, settings["nfe"])
    if contest.device != "cpu":
        contest = replace(contest, precision="bf16")  # as our own sampling computes on either
    return run_contest("sampling", contest, settings["rounds"], settings["seconds"], say)
