"""One contest: ours against each peer at its FLOPs, in turns, and the rows that come of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench import flops
from bench.contestant import Contestant
from bench.peers import DIFFUSERS, LUCIDRAINS, MATRIX, NETWORKS, OURS, Contest, require_precision
from bench.table import Rates, Row, in_turns, rate_row

Say = Callable[[str], None]
PEERS = (DIFFUSERS, LUCIDRAINS)


def contests(settings: dict[str, Any], nfe: int = 0) -> list[Contest]:
    """What the settings ask for, once for each precision."""
    device = settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    precisions = settings["precision"] or ("fp32 bf16" if _quick_bf16(device) else "fp32")
    one = Contest(
        settings["image_size"], settings["batch"], "", bool(settings["compile"]), device, settings["channel_mults"],
        settings["base_channels"], nfe=nfe,
    )  # fmt: skip
    return [replace(one, precision=require_precision(name)) for name in precisions.replace(",", " ").split()]


def _quick_bf16(device: str) -> bool:
    """Whether the device computes in bf16 itself, so that one would train in it."""
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported()


def run_contest(bench: str, contest: Contest, rounds: int, seconds: float, say: Say) -> list[Row]:
    """Build all contestants, let them take turns, and give the rows. Prints what was matched, and how long starts took."""
    backward = contest.nfe == 0
    passes = max(contest.nfe, 1)
    target, mine, entries = {}, {}, [(MATRIX, contest)]
    for peer in PEERS:
        target[peer] = flops.counted(partial(NETWORKS[peer], contest), contest.image_size, backward)
        model = flops.matched(target[peer], contest.model, contest.image_size, backward)
        mine[peer] = flops.ours(model, contest.image_size, backward)
        say(
            f"{contest.precision}, {contest.image_size} px: {peer} {contest.mults} of {contest.base_channels} has {target[peer] / 1e9:.1f} GFLOP a picture and pass; ours {model.channel_mults} of {model.base_channels}, {model.blocks} blocks, attention at {model.attention_resolution} and below, has {mine[peer] / 1e9:.1f} ({mine[peer] / target[peer] - 1:+.1%})"
        )
        like = {name: getattr(model, name) for name in ("base_channels", "blocks", "attention_resolution")}
        entries += [(peer, contest), (OURS, replace(contest, **like))]
    with ExitStack() as stack:
        started = [stack.enter_context(Contestant(who, entry)) for who, entry in entries]
        for one in started:
            say(f"{one.who}: first {'step' if backward else 'batch'} after {one.first_seconds:.1f} s")
        names = [MATRIX, *(f"{who}{peer}" for peer in PEERS for who in ("", f"{OURS} as "))]
        named = dict(zip(names, started, strict=True))
        rates = in_turns({name: partial(one.work, seconds) for name, one in named.items()}, rounds)
    rows, ratios = [], []
    for peer in PEERS:
        pair: Rates = {OURS: rates[f"{OURS} as {peer}"], peer: rates[peer]}
        where = f"{contest.precision}, at its FLOPs"
        speed = rate_row(bench, f"speed, {where}", "img/s", pair)
        work = {OURS: mine[peer] * passes / 1e9, peer: target[peer] * passes / 1e9}
        done = {name: [rate * work[name] for rate in found] for name, found in pair.items()}
        share = {
            name: [100e9 * rate / most for rate, most in zip(found, rates[MATRIX], strict=True)]
            for name, found in done.items()
        }
        peak = {OURS: named[f"{OURS} as {peer}"].peak_mib, peer: named[peer].peak_mib}
        rows += [
            speed,
            rate_row(bench, f"arithmetic, {where}", "GFLOP/s", done),
            rate_row(bench, f"share of the matrix rate, {where}", "%", share),
            Row(bench, f"peak memory, {where}", "MiB", peak[OURS], {peer: peak[peer]}, peak[peer] / peak[OURS]),
        ]
        ratios.append(rows[-3].ratio)  # by arithmetic, so that what the match leaves over counts for nobody
    most = statistics.median(rates[MATRIX]) / 1e9
    rows.append(Row(bench, f"matrix rate of this machine, {contest.precision}", "GFLOP/s", most))
    closest = min(ratio for ratio in ratios if ratio is not None)
    rows.append(Row(bench, f"speed over the closest peer, {contest.precision}", "times", closest, {}, closest))
    return rows
