"""What a picture costs in training, against its size and against the network's width: a figure and its numbers."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.contest import Say
from bench.contestant import Contestant
from bench.peers import DIFFUSERS, LUCIDRAINS, OURS, Contest
from bench.table import in_turns

TURNS = 2
WHO = (OURS, DIFFUSERS, LUCIDRAINS)


def draw_cost(path: Path, contest: Contest, sizes: list[int], widths: list[int], say: Say) -> None:
    """Measure at each size (at the contest's width) and at each width (at its size), and draw.

    All have the same multipliers and width, so that ours has diffusers' graph and denoising-diffusion-pytorch its own, of
    fewer FLOPs. The numbers go beside the figure, as JSON.
    """
    step = 2 ** contest.mults.count("-")
    points = {(size, contest.base_channels) for size in sizes if size % step == 0}
    points |= {(contest.image_size, width) for width in widths}
    cost: dict[str, dict[tuple[int, int], float]] = {who: {} for who in WHO}
    for size, width in sorted(points):
        with ExitStack() as stack:
            at = replace(contest, image_size=size, base_channels=width)
            started = {who: stack.enter_context(Contestant(who, at)) for who in WHO}
            rates = in_turns({who: partial(one.work, 1.0) for who, one in started.items()}, TURNS)
            for who, found in rates.items():
                cost[who][size, width] = 1000 / max(found)  # the turn that was disturbed least
        told = ", ".join(f"{who} {cost[who][size, width]:.3g}" for who in WHO)
        say(f"{size} px, width {width}, {contest.precision}: ms a picture: {told}")
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = [
        {"image_size": size, "base_channels": width, **{who: cost[who][size, width] for who in WHO}}
        for size, width in sorted(points)
    ]
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    _draw(path, contest, cost)


def _draw(path: Path, contest: Contest, cost: dict[str, dict[tuple[int, int], float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    by_size, by_width = figure.subplots(1, 2)
    for who, found in cost.items():
        across = [(size, ms) for (size, width), ms in sorted(found.items()) if width == contest.base_channels]
        along = [(width, ms) for (size, width), ms in sorted(found.items()) if size == contest.image_size]
        for axes, line in ((by_size, across), (by_width, along)):
            axes.plot(*zip(*line, strict=True), marker="o", label=f"{who} (fewer FLOPs)" if who == LUCIDRAINS else who)
    by_size.set(xlabel=f"pixels a side (width {contest.base_channels})", ylabel="ms a picture, training")
    by_width.set(xlabel=f"base channels ({contest.image_size} pixels)")
    for axes, ticks in ((by_size, {size for size, _ in cost[OURS]}), (by_width, {width for _, width in cost[OURS]})):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
        axes.grid(alpha=0.3)
    by_size.legend(frameon=False)
    figure.suptitle(f"{contest.mults}, batch {contest.batch}, {contest.precision}, {contest.device}")
    figure.savefig(path, dpi=120)
