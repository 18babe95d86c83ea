"""Servers that run in this process or in one of their own, and what they answer."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import uvicorn


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A server that runs, by its address; `server` is it where it is one of this process, else its process."""

    address: str
    server: object

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def ask(self, path, body=None, method=None, **headers):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as problem:
            with problem:
                return Answer(problem.code, {k.lower(): v for k, v in problem.headers.items()}, problem.read())


def train(out, digits, seed, **model):
    """A tiny network, hardly trained: its checkpoint's URI."""
    import torch

    from ddpm.progress import Quiet
    from ddpm.settings import ModelSettings, TrainSettings
    from ddpm.training.observer import NoObserver
    from ddpm.training.trainer import Trainer
    from ddpm.training.world import World

    settings = TrainSettings(lr=1e-3, epochs=1, flip=False, train_seed=seed)
    network = ModelSettings(
        channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4, timesteps=50, **model
    )
    return Trainer(network, settings, digits, str(out), World(torch.device("cpu"))).run(NoObserver(), Quiet())[
        "checkpoint"
    ]


@contextlib.contextmanager
def running(reference, registry="", **settings):
    """A server, as `ddpm serve` runs it, in a thread of this process."""
    from ddpm.progress import Quiet
    from ddpm.serving.run import config_for, listen, open_server
    from ddpm.serving.settings import ServeSettings

    chosen = ServeSettings(**{"port": 0, "follow": 0.05, "batch": 16, **settings})
    door = listen(chosen)
    server = open_server(reference, registry, chosen, Quiet())
    runner = uvicorn.Server(config_for(server))
    thread = threading.Thread(target=runner.run, args=([door],), daemon=True)
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{door.getsockname()[1]}", server)
    finally:
        runner.should_exit = True
        thread.join()
        door.close()


@contextlib.contextmanager
def process(reference, *flags):
    """`ddpm serve` as a process of its own, which ends by SIGTERM with the context, with status 0."""
    command = [sys.executable, "-m", "ddpm.cli", "serve", "--model", reference, "--port", "0", "--batch", "16", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            address = next(line.split()[2].rstrip(";") for line in server.stderr if line.startswith("serving at"))
            yield Site(address, server)
        finally:
            os.kill(server.pid, signal.SIGTERM)
            ended, said = server.wait(60), server.stderr.read()
    assert ended == 0 and "Traceback" not in said, said


def until(true, seconds=60.0):
    """Wait for something that must become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.02)
