"""A tiny run: one step, which exits 1 at its first attempt. If the run succeeds, failed steps are tried again here.

The step tells its attempts apart by an object of the store, so that a success says too that tasks reach the store with
what they are given.
"""

import contextlib
import io
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components import component
from ddpm.errors import Outage, WrongInput
from ddpm.legible import tell
from ddpm.store import open_store
from pipelines.cluster import load_cluster
from pipelines.doctor.finding import Findings, ok, unknown, wrong
from pipelines.following import ENDED
from pipelines.pipeline import place_task, set_image
from pipelines.server import Unreachable, asked, check_endpoint, open_client, token_now

LONGEST = 30 * 60.0  # seconds: a large image is pulled in them


@component
def fail_once(store: str, key: str) -> None:
    """Exits 1 where the store has no such object yet, and makes it; otherwise takes it away."""
    import sys

    from ddpm.places import fill_places
    from ddpm.store import open_store

    place = open_store(fill_places({"store": store})["store"])
    if place.create(key, b""):
        sys.exit(1)
    place.delete(key)


def package(image: str, cluster: str) -> str:
    """The compiled run, whose pod asks for what the pipeline's small steps do."""

    @dsl.pipeline(name="ddpm-doctor", display_name="Doctor's probe")
    def probe(store: str, key: str) -> None:
        task = fail_once(store=store, key=key)
        place_task(task, "Fail once", 1, load_cluster(cluster).cpu)
        task.set_retry(1, backoff_duration="5s", backoff_factor=1.0, backoff_max_duration="3h")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.yaml")
        compiler.Compiler().compile(probe, str(path))
        return set_image(path.read_text(), image)


def look(endpoint: str, namespace: str, image: str, cluster: str, store: str, seconds: float) -> Findings:
    if not endpoint:
        yield unknown("probe run: no ENDPOINT=http://HOST:PORT is given")
        return
    key = f"doctor/{uuid.uuid4().hex}"
    try:
        run = _run(endpoint, namespace, package(image, cluster), {"store": store, "key": key}, seconds)
    except Unreachable as problem:
        yield wrong(f"probe run: {problem}")
        return
    page = f"{endpoint.rstrip('/')}/#/runs/details/{run.run_id}"
    began = _clear(store, key)
    if run.state == "SUCCEEDED":
        yield ok("probe run: a step that failed was tried again, and tasks reach the store")
    elif run.state not in ENDED:
        yield wrong(
            f"probe run: after {LONGEST / 60:.0f} minutes it is {run.state or 'PENDING'} still; {page} says what it waits for"
        )
    elif began is False:
        yield wrong(f"probe run: its step did not get as far as the store; its log says why: {page}")
    elif began:
        yield wrong(
            "probe run: a step that failed was not tried again; let Argo's retryPolicy be Always (deploy/kubeflow does that), and submit with RETRIES=3 until then"
        )
    else:
        yield wrong(
            f"probe run: it failed, because failed steps are not tried again here, or its step does not reach the store, which cannot be told from this machine; its log says which: {page}"
        )


def _run(endpoint: str, namespace: str, text: str, arguments: dict[str, Any], seconds: float) -> Any:
    token = token_now()
    check_endpoint(endpoint, token)
    client = open_client(endpoint, token, namespace)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.yaml")
        path.write_text(text)
        sent = {"arguments": arguments, "run_name": "doctor", "experiment_name": "doctor", "enable_caching": False}
        with contextlib.redirect_stdout(io.StringIO()):  # the client's links; the run's own is told below
            made = asked(
                lambda: client.create_run_from_pipeline_package(str(path), namespace=namespace or None, **sent)
            )
    tell(
        f"probe run: {endpoint.rstrip('/')}/#/runs/details/{made.run_id}, followed for up to {LONGEST / 60:.0f} minutes"
    )
    until = time.monotonic() + LONGEST
    while True:
        run = asked(lambda: client.get_run(made.run_id))
        if run.state in ENDED or time.monotonic() > until:
            return run
        time.sleep(seconds)


def _clear(store: str, key: str) -> bool | None:
    """Remove what the step left; whether it left it, None where the store cannot be reached from here."""
    if not store:
        return None
    try:
        place = open_store(store, hasty=True)
        left = place.exists(key)
        place.delete(key)
    except (WrongInput, Outage):
        return None
    return left
