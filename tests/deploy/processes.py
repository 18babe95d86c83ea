"""The manifests as kubectl makes them, and what they start in containers as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import policies
import yaml

PROGRAMS = Path(sys.executable).parent
FILLED_IN = re.compile(r"\$\((\w+)\)")  # by Kubernetes, from a container's environment


def kustomize(folder: Path) -> list[policies.Object]:
    """The objects of a kustomization. YAML 1.1's `y` and `no` count as what kubectl reads, for it quotes them."""
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return list(yaml.safe_load_all(made.stdout))


def plain(name: str) -> str:
    """A name as it was before kustomize added the digest of the content."""
    return re.sub(r"-[a-z0-9]{10}$", "", name)


def held(objects: list[policies.Object], kind: str, name: str, namespace: str | None = None) -> dict[str, str]:
    """The data of a Secret or a ConfigMap, by the name that it had before kustomize added the digest of its content."""
    for one in policies.of_kind(objects, kind):
        before = plain(one["metadata"]["name"])
        if before == name and namespace in (None, policies.namespace(one)):
            return policies.secret_values(one) if kind == "Secret" else one["data"]
    raise AssertionError(f"no {kind} {name}")


def pods(objects: list[policies.Object], name: str) -> policies.Pods:
    return next(one for one in policies.pods(objects) if one.labels["app.kubernetes.io/name"] == name)


def started(objects: list[policies.Object], name: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a pod's container, with what Kubernetes fills in filled in."""
    pod = pods(objects, name)
    (container,) = pod.spec["containers"]
    environment = {}
    for source in container.get("envFrom", []):
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if key in source:
                environment |= held(objects, kind, plain(source[key]["name"]), pod.namespace)
    environment |= {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
    words = [*container["command"], *container["args"]]
    return [FILLED_IN.sub(lambda told: environment[told[1]], word) for word in words], environment


def free_ports(number: int, beside: int = 0) -> list[int]:
    """Ports that nobody listens at now, each with the one `beside` numbers above it."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < number:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if not beside:
                found.append(port)
            elif port + beside < 65536:
                with contextlib.suppress(OSError):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port + beside))
                    found.append(port)
        return found


def environment(**told: str) -> dict[str, str]:
    """This process's, without anybody's credentials, and what is told."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DDPM_", "MLFLOW_", "PG"))}
    return {**own, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", **told}


@contextlib.contextmanager
def running(
    words: list[Any], log: Path, url: str, seconds: float = 120, **more: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers at `url`; it is killed at the end, with all that it started: MLflow's server is a child."""
    with open(log, "ab") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True, **more)
    try:
        until(lambda: answers(url), seconds, process, log)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(holds: Callable[[], bool], seconds: float, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + seconds
    while not holds():
        said = log.read_text()[-4000:]
        assert process.poll() is None, f"{process.args[0]} ended with status {process.returncode}: {said}"
        assert time.monotonic() < end, f"{process.args[0]} does not answer after {seconds:g} s: {said}"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
