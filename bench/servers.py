"""The servers that `bench.serving` asks: started, each a process of its own, held to some cores; and the bare sampler."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from bench.contest import Say

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


def make_model(settings: dict[str, Any], folder: Path, say: Say) -> tuple[str, str, str]:
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


def bare_sampler(reference: str, registry: str, settings: dict[str, Any]) -> Callable[[], float]:
    """The sampler by itself, in this process, in the engine's own batch: pictures a second."""
    from dataclasses import replace

    import torch

    from ddpm.registry.version import resolve

    torch.set_num_threads(settings["cores"])
    model = resolve(reference, registry)
    drawing = replace(model.drawing, sampling_steps=settings["steps"])

    def work() -> float:
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores_of(settings["cores"]))
        try:
            began, drawn = time.perf_counter(), 0
            while time.perf_counter() - began < settings["seconds"]:
                drawn += len(model.draw(range(drawn, drawn + drawing.sample_batch), drawing))
            return drawn / (time.perf_counter() - began)
        finally:
            os.sched_setaffinity(0, everywhere)

    return work


@contextlib.contextmanager
def running(command: list[str], ready: str, registry: str, folder: str, cores: int) -> Iterator[int]:
    """A server that answers at `ready`: its process's id. It ends with the context."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(cores), "MLFLOW_TRACKING_URI": registry, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with open(Path(folder, f"{len(os.listdir(folder))}.log"), "w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        os.sched_setaffinity(process.pid, cores_of(cores))
        try:
            end = time.monotonic() + START_SECONDS
            while get(ready) != 200:
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"{command[:6]} did not start:\n{log.read()[-2000:]}")
                time.sleep(0.5)
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)  # MLflow's has children
            process.wait()


def cores_of(n: int) -> set[int]:
    """The first of those that this process may use."""
    return set(sorted(os.sched_getaffinity(0))[:n])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


def resident(pid: int) -> float:
    """A process's resident memory, in MiB."""
    import psutil

    return psutil.Process(pid).memory_info().rss / 2**20


def get(url: str) -> int:
    return _send(urllib.request.Request(url))


def post(url: str, body: dict[str, Any]) -> int:
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
