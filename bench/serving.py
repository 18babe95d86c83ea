"""Serving: `ddpm serve`, `mlflow models serve` and diffusers behind plain FastAPI, beside the bare sampler, in one run.

One tiny untrained model is registered and exported; each server is a process of its own that stays up. They take turns,
with the bare sampler among them; ratios are taken within each round. Servers and sampler are held to the same cores, with
as many threads; who asks has the others. See docs/serving.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench.contest import Say
from bench.table import Row, in_turns, rate_row

SETTINGS: dict[str, Any] = {
    "image_size": 16,
    "channel_mults": "1-2",
    "base_channels": 32,
    "steps": 10,  # of DDIM
    "cores": 1,  # that each server, and the bare sampler, may use
    "callers": 32,  # at saturation, each asking for one picture at a time
    "rounds": 3,
    "seconds": 6.0,
    "requests": 10000,  # over which memory is looked at; 0: not
    "peers": 1,  # 0: ours alone
}
OURS, BARE, MLFLOW, DIFFUSERS = "ddpm serve", "bare sampler", "mlflow models serve", "diffusers behind FastAPI"
START_SECONDS = 300.0
DIFFUSERS_APP = """
import io, sys
import torch, uvicorn
from diffusers import DDIMScheduler, DDPMPipeline
from fastapi import FastAPI, Response

pipeline = DDPMPipeline.from_pretrained(sys.argv[1])
from diffusers import DDIMPipeline
pipeline = DDIMPipeline(pipeline.unet, DDIMScheduler.from_config(pipeline.scheduler.config))
pipeline.set_progress_bar_config(disable=True)
app = FastAPI()

@app.get("/{seed}.png")
def image(seed: int, steps: int) -> Response:
    drawn = pipeline(generator=torch.Generator().manual_seed(seed), num_inference_steps=steps).images[0]
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png")

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


@dataclass
class Asked:
    """What some seconds of asking came to."""

    pictures: int
    seconds: float
    waits: list[float]
    busy: int  # answers of 429
    failures: list[str]

    @property
    def rate(self) -> float:
        return self.pictures / self.seconds


Draw = Callable[[int], int]  # asks for the picture of a seed; returns the status


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="ddpm-bench-") as folder, contextlib.ExitStack() as up:
        reference, registry, exported = _model(settings, Path(folder), say)
        steps, ports = settings["steps"], [_free_port() for _ in range(3)]
        servers: dict[str, tuple[list[str], str, Draw]] = {
            OURS: (
                [sys.executable, "-m", "ddpm.cli", "serve", "--model", reference, "--tracking-uri", registry, "--follow", "0", "--port", str(ports[0])],
                f"http://127.0.0.1:{ports[0]}/readyz",
                lambda seed: _get(f"http://127.0.0.1:{ports[0]}/v1/images/{seed}.png?steps={steps}"),
            ),
            MLFLOW: (
                [sys.executable, "-m", "mlflow", "models", "serve", "-m", reference, "--env-manager", "local", "--port", str(ports[1])],
                f"http://127.0.0.1:{ports[1]}/ping",
                lambda seed: _post(f"http://127.0.0.1:{ports[1]}/invocations", {"dataframe_records": [{"n": 1, "seed": seed}]}),
            ),
            DIFFUSERS: (
                [sys.executable, "-c", DIFFUSERS_APP, exported, str(ports[2])],
                f"http://127.0.0.1:{ports[2]}/openapi.json",
                lambda seed: _get(f"http://127.0.0.1:{ports[2]}/{seed}.png?steps={steps}"),
            ),
        }  # fmt: skip
        if not settings["peers"]:
            servers = {OURS: servers[OURS]}
        pids = {}
        for name, (command, ready, draw) in servers.items():
            pids[name] = up.enter_context(_running(command, ready, registry, folder, settings["cores"]))
            assert draw(0) == 200, name
            say(f"{name} is up")
        found: dict[str, list[Asked]] = {name: [] for name in servers}

        def saturated(name: str) -> float:
            found[name].append(_ask(servers[name][2], settings["callers"], settings["seconds"]))
            say(f"{name}: {found[name][-1].rate:.3g} pictures a second")
            return found[name][-1].rate

        work = {name: lambda name=name: saturated(name) for name in servers}
        rates = in_turns({**work, BARE: _bare(reference, registry, settings)}, settings["rounds"])
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
        rows += _below(servers, {name: statistics.median(rates[name]) for name in servers}, settings["seconds"])
        if settings["requests"]:
            quick: Draw = lambda seed: _get(f"http://127.0.0.1:{ports[0]}/v1/images/{seed}.png?steps=1")  # noqa: E731
            rows.append(_memory(quick, pids[OURS], settings["requests"], settings["callers"], say))
        return rows


def _below(servers: dict[str, tuple[list[str], str, Draw]], rates: dict[str, float], seconds: float) -> list[Row]:
    """p95 of the time to a picture with one caller at half of saturation, and of one who asks alone; in batches of ours."""
    alone = {name: _ask(draw, 1, seconds) for name, (_, _, draw) in servers.items()}
    half = {name: _ask(draw, 8, seconds, every=2 / rates[name]) for name, (_, _, draw) in servers.items()}
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
    before = _resident(pid)
    asked = _ask(draw, callers, 1e9, requests - requests // 10)
    assert not asked.failures, asked.failures[:3]
    say(f"memory {before:.0f} MiB, and {_resident(pid):.0f} after {requests:,} requests")
    return Row("serving", f"memory grown over {requests:,} requests", "MiB", _resident(pid) - before)


# -- asking --------------------------------------------------------------------------------------------------------


def _ask(draw: Draw, callers: int, seconds: float, most: int = 10**9, every: float = 0.0) -> Asked:
    """Callers who each ask for one picture after the other; `every`: a request begins each so many seconds, over all."""
    lock, seeds, waits, failures, busy = threading.Lock(), iter(range(1, most + 1)), [], [], 0
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
                    waits.append(time.perf_counter() - asked)
                elif status == 429:
                    busy += 1
                else:
                    failures.append(f"seed {seed}: status {status}")

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Asked(len(waits), time.perf_counter() - began, waits, busy, failures)


def _get(url: str) -> int:
    return _send(urllib.request.Request(url))


def _post(url: str, body: dict[str, Any]) -> int:
    return _send(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}))


def _send(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code
    except OSError:
        return 0


# -- who is asked --------------------------------------------------------------------------------------------------


def _model(settings: dict[str, Any], folder: Path, say: Say) -> tuple[str, str, str]:
    """An untrained model, registered (its reference and the registry) and exported for diffusers (the folder)."""
    import torch

    from ddpm.data.dataset import PictureSet, Split
    from ddpm.progress import Quiet
    from ddpm.registry.export import export
    from ddpm.registry.version import register
    from ddpm.settings import ModelSettings, TrainSettings
    from ddpm.training.checkpoint import read_facts
    from ddpm.training.observer import NoObserver
    from ddpm.training.trainer import Trainer
    from ddpm.training.world import World

    size = settings["image_size"]
    images = torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.zeros(64, dtype=torch.int64))
    data = PictureSet("memory:", "0" * 64, "noise", size, [], split, split, cast(Any, {}))
    model = ModelSettings(channel_mults=settings["channel_mults"], base_channels=settings["base_channels"])
    trainer = Trainer(model, TrainSettings(epochs=1), data, str(folder / "trained"), World(torch.device("cpu")))
    checkpoint = trainer.run(NoObserver(), Quiet())["checkpoint"]
    generation = {
        "weights_sha256": read_facts(checkpoint)["sha256"]["ema.safetensors"], "sampler": "ddim",
        "sampling_steps": settings["steps"],
    }  # fmt: skip
    measurement = {"extractor": "none", "n": 16, "image_size": size, "dataset_digest": "0" * 64}
    report: Any = {
        "metric": "fid", "fid": 1.0, "fid_std": 0.1, "kid": 0.1, "kid_std": 0.01, "n": 16, "noise_floor": {"fid": 0.1, "kid": 0.0},
        "protocol": {"measurement": measurement, "generation": generation},
    }  # fmt: skip
    registry = f"sqlite:///{folder}/mlflow/mlflow.db"
    register(registry, "bench", checkpoint, report, None, {})
    export(checkpoint, "diffusers", str(folder / "diffusers"), registry)
    say(
        f"a model of {size} px, {settings['channel_mults']} of {settings['base_channels']}, {settings['steps']} steps of DDIM"
    )
    return "models:/bench/1", registry, str(folder / "diffusers")


def _bare(reference: str, registry: str, settings: dict[str, Any]) -> Callable[[], float]:
    """The sampler by itself, in this process, in the engine's own batch: pictures a second."""
    from dataclasses import replace

    import torch

    from ddpm.registry.version import resolve

    torch.set_num_threads(settings["cores"])
    model = resolve(reference, registry)
    drawing = replace(model.drawing, sampling_steps=settings["steps"])

    def work() -> float:
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, _cores(settings["cores"]))
        try:
            began, drawn = time.perf_counter(), 0
            while time.perf_counter() - began < settings["seconds"]:
                drawn += len(model.draw(range(drawn, drawn + drawing.sample_batch), drawing))
            return drawn / (time.perf_counter() - began)
        finally:
            os.sched_setaffinity(0, everywhere)

    return work


@contextlib.contextmanager
def _running(command: list[str], ready: str, registry: str, folder: str, cores: int) -> Iterator[int]:
    """A server that answers at `ready`: its process's id. It ends with the context."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(cores), "MLFLOW_TRACKING_URI": registry, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with open(Path(folder, f"{len(os.listdir(folder))}.log"), "w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        os.sched_setaffinity(process.pid, _cores(cores))
        try:
            end = time.monotonic() + START_SECONDS
            while _get(ready) != 200:
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"{command[:6]} did not start:\n{log.read()[-2000:]}")
                time.sleep(0.5)
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)  # MLflow's has children
            process.wait()


def _cores(n: int) -> set[int]:
    """The first of those that this process may use."""
    return set(sorted(os.sched_getaffinity(0))[:n])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


def _resident(pid: int) -> float:
    """A process's resident memory, in MiB."""
    import psutil

    return psutil.Process(pid).memory_info().rss / 2**20
