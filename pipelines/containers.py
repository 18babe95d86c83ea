"""Tasks in containers of a Docker engine: what they see of this machine, how they are started, followed and removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.data import sources
from ddpm.errors import WrongInput
from ddpm.legible import tell
from ddpm.places import cache_folder, without_file_scheme
from ddpm.plan import Plan

LABEL = "ddpm.run"  # on every container, so that whoever ends the run finds them
# Variables of ours that a container is given, by how they begin.
PASSED_ON = (
    "AWS_",
    "DDPM_DEVICE",
    "DDPM_EXTENSIONS",
    "DDPM_JUDGE_KEY",
    "DDPM_PATIENCE",
    "DDPM_S3_",
    "MLFLOW_TRACKING_",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "PGPASSWORD",
    "HF_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
T = TypeVar("T")


def check_engine(image: str) -> None:
    """Raise WrongInput unless an engine answers and has the image."""
    import docker

    try:
        client = docker.from_env()
        client.images.get(image)
        client.close()
    except docker.errors.ImageNotFound:
        raise WrongInput(
            f"RUNNER=docker: the engine has no image {image}; make it with `make image`, or pull it"
        ) from None
    except docker.errors.DockerException:
        raise WrongInput(
            "RUNNER=docker: no Docker engine answers; start one (DOCKER_HOST says where), or leave RUNNER out"
        ) from None


def variables() -> dict[str, str]:
    """The environment of every container: credentials of ours, and the way in which tasks report."""
    ours = {name: value for name, value in os.environ.items() if name.upper().startswith(PASSED_ON)}
    # The user in the container is ours, who has no home there.
    return {
        **ours,
        "HOME": "/tmp",
        "DDPM_CACHE": str(cache_folder()),
        "DDPM_PROGRESS": "events",
        "PYTHONUNBUFFERED": "1",
    }


def mounts(plan: Plan, var: Path) -> dict[str, str]:
    """Folders that the tasks see at the same path, with their mode: var and places to write, pictures and weights to read."""
    found = {str(var): "rw"}
    store = urlsplit(plan.store).path if plan.store.startswith("file:") else plan.store
    written = (
        store,
        str(cache_folder().absolute()),
        str(Path(plan.study_storage).parent),
        str(Path(urlsplit(plan.tracking_uri).path).parent),
    )
    models = [_folder(reference) for reference in (plan.train.init_from, plan.guide.guide)]
    pictures = (str(path) for source in plan.sets().values() for path in sources.parse(source).local_paths())
    read = (*pictures, plan.evaluate.weights, *models)
    for path in written:
        if path.startswith("/") and path != "/" and not Path(path).is_relative_to(var):
            Path(path).mkdir(parents=True, exist_ok=True)
            found[path] = "rw"
    for path in read:
        if path.startswith("/") and path != "/" and Path(path).exists():
            found.setdefault(path, "ro")
    return found


def _folder(reference: str) -> str:
    """Where the files of a model of this machine lie: beside a checkpoint.json lies the rest."""
    path = without_file_scheme(reference.partition("#")[0])
    return path if Path(path).is_dir() else str(Path(path).parent)


def run(
    image: str,
    command: list[str],
    environment: dict[str, str],
    mounted: dict[str, str],
    run_name: str,
    follow: Callable[[Iterable[str]], T],
) -> tuple[T, int]:
    """Run a command in a container, which is removed whatever happens; what `follow` made of its lines, and its status."""
    import docker

    client: Any = docker.from_env()
    with_gpu = "nvidia" in client.info()["Runtimes"]
    container = client.containers.run(
        image,
        command,
        detach=True,
        init=True,  # passes signals on, and buries what the task leaves
        labels={LABEL: run_name},
        environment=environment,
        volumes={path: {"bind": path, "mode": mode} for path, mode in mounted.items()},
        user=f"{os.getuid()}:{os.getgid()}",  # so that what it writes is ours
        network_mode="host",
        shm_size="1g",
        device_requests=[docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])] if with_gpu else [],
    )
    try:
        followed = follow(whole_lines(container.logs(stream=True, follow=True)))
        return followed, container.wait()["StatusCode"]
    finally:
        container.remove(force=True)
        client.close()


def whole_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines from the engine's chunks, which end anywhere, also within a character."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def remove_all(run_name: str) -> None:
    """End and remove the run's containers."""
    import docker

    try:
        client = docker.from_env()
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={run_name}"}):
            container.remove(force=True)
        client.close()
    except docker.errors.DockerException as problem:
        tell(f"the containers of run {run_name} could not all be removed: {problem}")
