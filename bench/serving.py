"""Serving: `ddpm serve`, `mlflow models serve` and diffusers behind plain FastAPI, beside the bare sampler, in one run.

One tiny untrained model is registered and exported; each server is a process of its own that stays up. They take turns,
with the bare sampler among them; ratios are taken within each round. Servers and sampler are held to the same cores, with
as many threads; who asks has the others. See docs/serving.md.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contest import Say
from bench.servers import DIFFUSERS_APP, bare_sampler, free_port, get, make_model, post, resident, running
from bench.table import Row, in_turns, rate_row

SETTINGS: dict[str, Any] = {
    "image_size": 16,
    "channel_mults": "1-2",
    "base_channels": 32,
    "steps": 10,  # of DDIM
    "cores": 1,  # that each server, and the bare sampler, may use
    "callers": 32,  # at saturation, each asking for one picture at a time
    "peer_callers": 2,  # they draw one request after the other: more would only wait
    "rounds": 3,
    "seconds": 12.0,
    "requests": 10000,  # over which memory is looked at; 0: not
    "peers": 1,  # 0: ours alone
}
OURS, BARE, MLFLOW, DIFFUSERS = "ddpm serve", "bare sampler", "mlflow models serve", "diffusers behind FastAPI"


@dataclass
class Asked:
    """What some seconds of asking came to."""

    callers: int
    ends: list[float]  # when each picture came, in seconds
    waits: list[float]  # for how long each was waited
    busy: int  # answers of 429
    failures: list[str]

    @property
    def rate(self) -> float:
        """Pictures a second, from when every caller has had one, for the first batch holds the first caller's alone.

        It is the slope of their number over time: they come in bursts, a batch at once, and an end may cut one.
        """
        ends = self.ends[self.callers :] if len(self.ends) > self.callers + 1 else self.ends
        return statistics.linear_regression(ends, range(len(ends))).slope


Draw = Callable[[int], int]  # asks for the picture of a seed; returns the status


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="ddpm-bench-") as folder, contextlib.ExitStack() as up:
        reference, registry, exported = make_model(settings, Path(folder), say)
        steps, ports = settings["steps"], [free_port() for _ in range(3)]
        servers: dict[str, tuple[list[str], str, Draw]] = {
            OURS: (
                [sys.executable, "-m", "ddpm.cli", "serve", "--model", reference, "--tracking-uri", registry, "--follow", "0", "--port", str(ports[0])],
                f"http://127.0.0.1:{ports[0]}/readyz",
                lambda seed: get(f"http://127.0.0.1:{ports[0]}/v1/images/{seed}.png?steps={steps}"),
            ),
            MLFLOW: (
                [sys.executable, "-m", "mlflow", "models", "serve", "-m", reference, "--env-manager", "local", "--port", str(ports[1])],
                f"http://127.0.0.1:{ports[1]}/ping",
                lambda seed: post(f"http://127.0.0.1:{ports[1]}/invocations", {"dataframe_records": [{"n": 1, "seed": seed}]}),
            ),
            DIFFUSERS: (
                [sys.executable, "-c", DIFFUSERS_APP, exported, str(ports[2])],
                f"http://127.0.0.1:{ports[2]}/openapi.json",
                lambda seed: get(f"http://127.0.0.1:{ports[2]}/{seed}.png?steps={steps}"),
            ),
        }  # fmt: skip
        if not settings["peers"]:
            servers = {OURS: servers[OURS]}
        pids = {}
        for name, (command, ready, draw) in servers.items():
            pids[name] = up.enter_context(running(command, ready, registry, folder, settings["cores"]))
            assert draw(0) == 200, name
            say(f"{name} is up")
        found: dict[str, list[Asked]] = {name: [] for name in servers}

        def saturated(name: str) -> float:
            callers = settings["callers" if name == OURS else "peer_callers"]
            found[name].append(_ask(servers[name][2], callers, settings["seconds"]))
            say(f"{name}: {found[name][-1].rate:.3g} pictures a second")
            return found[name][-1].rate

        work = {name: lambda name=name: saturated(name) for name in servers}
        rates = in_turns({**work, BARE: bare_sampler(reference, registry, settings)}, settings["rounds"])
        rows = [
            rate_row(
                "serving",
                "at saturation, pictures of one a request",
                "img/s",
                {n: r for n, r in rates.items() if n != BARE},
                OURS,
            )
        ]
        of_bare = statistics.median(mine / bare for mine, bare in zip(rates[OURS], rates[BARE], strict=True))
        rows.append(
            Row(
                "serving",
                "share of the bare sampler's rate",
                "",
                of_bare,
                {BARE: statistics.median(rates[BARE])},
                of_bare,
            )
        )
        for name, asked in found.items():
            if name == OURS:
                failures = [text for one in asked for text in one.failures]
                assert not failures, failures[:3]
                rows.append(Row("serving", "failures at saturation, but 429", "", 0.0))
        rows += _below(
            servers,
            {name: statistics.median(rates[name]) for name in servers},
            settings["seconds"],
            settings["callers"],
        )
        if settings["requests"]:
            quick: Draw = lambda seed: get(f"http://127.0.0.1:{ports[0]}/v1/images/{seed}.png?steps=1")  # noqa: E731
            rows.append(_memory(quick, pids[OURS], settings["requests"], settings["callers"], say))
        return rows


def _below(
    servers: dict[str, tuple[list[str], str, Draw]], rates: dict[str, float], seconds: float, callers: int
) -> list[Row]:
    """p95 of the time to a picture with one caller at half of saturation, and of one who asks alone; in batches of ours."""
    long = {name: max(seconds, 8 / rates[name]) for name in servers}  # long enough for some answers
    alone = {name: _ask(draw, 1, long[name]) for name, (_, _, draw) in servers.items()}
    # As many callers as never have to wait for one another's answers: otherwise they ask in step with the batches.
    half = {name: _ask(draw, callers, long[name], every=2 / rates[name]) for name, (_, _, draw) in servers.items()}
    one_batch = statistics.median(alone[OURS].waits)
    rows = []
    for metric, asked in (("alone", alone), ("at half of saturation", half)):
        p95 = {name: 1000 * statistics.quantiles(one.waits, n=20)[-1] for name, one in asked.items()}
        peers = {name: value for name, value in p95.items() if name != OURS}
        rows.append(
            Row("serving", f"p95 {metric}", "ms", p95[OURS], peers, min(peers.values()) / p95[OURS] if peers else None)
        )
    rows.append(Row("serving", "p95 at half of saturation, in batches of one", "", rows[-1].ours / 1000 / one_batch))
    return rows


def _memory(draw: Draw, pid: int, requests: int, callers: int, say: Say) -> Row:
    """How much the server has grown over so many requests, after a tenth of them: MiB."""
    _ask(draw, callers, 1e9, requests // 10)
    before = resident(pid)
    asked = _ask(draw, callers, 1e9, requests - requests // 10)
    assert not asked.failures, asked.failures[:3]
    say(f"memory {before:.0f} MiB, and {resident(pid):.0f} after {requests:,} requests")
    return Row("serving", f"memory grown over {requests:,} requests", "MiB", resident(pid) - before)


# -- asking --------------------------------------------------------------------------------------------------------


def _ask(draw: Draw, callers: int, seconds: float, most: int = 10**9, every: float = 0.0) -> Asked:
    """Callers who each ask for one picture after the other; `every`: a request begins each so many seconds, over all."""
    lock, seeds, busy = threading.Lock(), iter(range(1, most + 1)), 0
    ends: list[float] = []
    waits: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()

    def caller() -> None:
        nonlocal busy
        while time.perf_counter() - began < seconds:
            with lock:
                seed = next(seeds, None)
            if seed is None:
                return
            if (early := began + seed * every - time.perf_counter()) > 0:
                time.sleep(early)
            asked = time.perf_counter()
            status = draw(seed)
            with lock:
                if status == 200:
                    ends.append(time.perf_counter())
                    waits.append(ends[-1] - asked)
                elif status == 429:
                    busy += 1
                else:
                    failures.append(f"seed {seed}: status {status}")

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Asked(callers, ends, waits, busy, failures)
