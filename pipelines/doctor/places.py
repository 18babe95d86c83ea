"""The object store, MLflow and the study's database, as the tasks are told of them, looked at from this machine."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from ddpm.credentials import masked
from ddpm.errors import Outage, WrongInput
from ddpm.places import VARIABLES, require_place
from ddpm.store import account, open_store
from ddpm.tracking import open_client
from pipelines.doctor.finding import Findings, ok, unknown, wrong

SECONDS = 10.0
OLDEST_MLFLOW = 3  # its first part: a version is a LoggedModel, which 2 has not


def look() -> Findings:
    for name, (title, of) in {
        "store": ("object store", _store), "tracking_uri": ("MLflow", _mlflow), "study_storage": ("study", _study),
    }.items():  # fmt: skip
        place = os.environ.get(VARIABLES[name], "")
        if not place:
            yield unknown(f"{title}: neither this shell nor the ConfigMap says where it is ({VARIABLES[name]})")
            continue
        server = (
            os.environ.get(account.PLACE[0]) or os.environ.get("AWS_ENDPOINT_URL", "") if name == "store" else place
        )
        if _inside(server):
            yield unknown(
                f"{title}: {urlsplit(server).hostname} is a name of the cluster's own network; PROBE=1 looks from there, or run this in a pod"
            )
            continue
        try:
            require_place(name, place)
            yield from of(place)
        except (WrongInput, Outage) as problem:
            yield wrong(f"{title}: {problem}")


def _inside(place: str) -> bool:
    """Whether a host's name is one that only a cluster's own network knows, and this machine does not."""
    host = urlsplit(place).hostname or ""
    bare = re.fullmatch(r"[a-z][a-z0-9-]*", host) and host != "localhost"
    if not (bare or re.search(r"\.svc(\.|$)", host)):
        return False
    import socket

    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return True
    return False


def _store(place: str) -> Findings:
    store = open_store(place, hasty=True)
    if limits := store.probe():
        yield wrong(f"object store: {limits}")
    else:
        yield ok(f"object store: {store.root} is written and read, and keeps to conditions")


def _mlflow(place: str) -> Findings:
    if not place.startswith(("http://", "https://")):
        yield wrong(f"MLflow: {masked(place)} is no server's address; tasks need http://HOST:PORT")
        return
    open_client(place)
    version = _asked(f"{place.rstrip('/')}/version")
    found = re.match(r"(\d+)\.\d+", version)
    if not found:
        yield unknown(f"MLflow: {place} answers, and does not say its version; {OLDEST_MLFLOW} or later is needed")
        return
    if int(found[1]) < OLDEST_MLFLOW:
        yield wrong(f"MLflow: {place} is version {version}; {OLDEST_MLFLOW} or later is needed")
        return
    listed = _asked(f"{place.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1")
    open_to_all = "; it asks nobody for a password, so that whoever reaches it may change it" if listed else ""
    yield ok(f"MLflow {version} at {place}{open_to_all}")


def _asked(url: str) -> str:
    """What a stranger is answered; empty where he is not."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return answer.read(10_000).decode(errors="replace").strip()
    except (urllib.error.URLError, OSError, ValueError):
        return ""


def _study(place: str) -> Findings:
    """Connect only: the tables are made by the first run."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        seconds = {"connect_timeout": int(SECONDS)} if place.startswith("postgresql") else {}
        engine = create_engine(place, poolclass=NullPool, connect_args=seconds)
        there = inspect(engine).has_table("studies")
    except (SQLAlchemyError, ImportError) as problem:
        words = " ".join(str(getattr(problem, "orig", None) or problem).split())[:160]
        raise WrongInput(
            f"{masked(place)} cannot be used ({words}); see that it runs, and {VARIABLES['study_storage']}"
        ) from None
    yield ok(f"study: {masked(place)} answers; {'its tables are there' if there else 'a first run makes its tables'}")
