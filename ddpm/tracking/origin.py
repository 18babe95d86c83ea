"""Which code, packages, process and pipeline made a run."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from ddpm.credentials import without_password
from ddpm.places import KFP_PAGES

PIPELINE = ("kfp.pipeline_run_id", "kfp.pipeline_run_url")  # as Kubeflow's own MLflow plugin calls them
PACKAGES = ("ddpm", "kfp", "mlflow", "numpy", "optuna", "torch", "torch-fidelity", "torchvision")


IMAGE = (
    "DDPM_IMAGE"  # the variable that says which image a process runs in: the images have it, and the pipeline's tasks
)


def image() -> str:
    """The container image that runs, by its name, as $DDPM_IMAGE says; empty on a machine without containers."""
    return os.environ.get(IMAGE, "")


def code_version() -> str:
    """The git commit that runs, with `-dirty` where files differ from it; $DDPM_COMMIT in an image; else `unknown`."""
    if stated := os.environ.get("DDPM_COMMIT"):
        return stated
    try:
        ran = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--match="],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return ran.stdout.strip()


def package_versions() -> dict[str, str]:
    """The versions of the packages that results depend on, as tags."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # the engine's image has no MLflow, for one
            found[f"version.{name}"] = importlib.metadata.version(name)
    return found


def pipeline_tags(session: str) -> dict[str, str]:
    """Which run of a Kubeflow Pipelines server this process works for, as tags; nothing where no server runs it.

    Args:
        session: the run's id there.
    """
    if not os.environ.get("KFP_POD_NAME"):  # which KFP gives every task's container
        return {}
    pages = without_password(os.environ.get(KFP_PAGES, "")).rstrip("/")
    found = (session, f"{pages}/#/runs/details/{session}" if pages else "")
    return {name: value for name, value in zip(PIPELINE, found, strict=True) if value}


def user_name() -> str:
    """Who runs this, also where the user has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def process_name(pid: int | None = None) -> str:
    """A process, as no other one on this machine was or will be: its machine, PID namespace, PID, and when it began."""
    import psutil

    process = psutil.Process(pid)
    return f"{_place()} {process.pid} {process.create_time():.2f}"


def session_name() -> str:
    """The process that leads this one's session, as `make run`'s runner leads its tasks', each a process of its own."""
    import psutil

    try:
        return process_name(os.getsid(0) or None)  # 0: it is outside of this container
    except psutil.Error:
        return process_name()


def has_gone(process: str) -> bool:
    """Whether the process of that name is known to have ended: only those of this machine and namespace can be known."""
    import psutil

    words = process.rsplit(" ", 2)
    if len(words) < 3 or words[0] != _place():
        return False
    _, pid, began = words
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(began)) > 1
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def _place() -> str:
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: there are no namespaces
        return platform.node()
