"""A team's servers as processes: PostgreSQL, an S3 server, and what docker/compose.yaml says of the rest."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from compose_file import FILE, ROOT, services, variables
from rclone_server import serving

NAMES = {name for name, kind, _ in variables() if kind == "?"}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass
class Team:
    """The services of the file, with this machine's addresses in place of the containers' names."""

    folder: Path
    postgres: int  # its port
    objects: str  # its address
    secrets: dict = field(default_factory=dict)
    ports: dict = field(default_factory=lambda: {"mlflow": free_port(), "serve": free_port()})

    @property
    def mlflow(self):
        return f"http://127.0.0.1:{self.ports['mlflow']}"

    @property
    def pictures(self):
        return f"http://127.0.0.1:{self.ports['serve']}"

    def moved(self, text):
        """A word of the file as it is here."""
        here = {
            "@postgres:5432/": f"@127.0.0.1:{self.postgres}/",
            "http://objects:8333": self.objects,
            "http://mlflow:5000": self.mlflow,
            "--port=5000": f"--port={self.ports['mlflow']}",
            "--port=8000": f"--port={self.ports['serve']}",
            "--host=0.0.0.0": "--host=127.0.0.1",
            "127.0.0.1:5000": f"127.0.0.1:{self.ports['mlflow']}",
            "http://127.0.0.1:8333": self.objects,
            "@127.0.0.1:5432/": f"@127.0.0.1:{self.postgres}/",
        }
        for there, ours in here.items():
            text = text.replace(there, ours)
        return text

    def environment(self, name):
        """What the service is told, and nothing that whoever runs the tests has."""
        service = services(self.secrets)[name]
        told = {variable: self.moved(value) for variable, value in service["environment"].items()}
        if told.get("PGHOST") == "postgres":
            told |= {"PGHOST": "127.0.0.1", "PGPORT": str(self.postgres)}
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            if source.startswith("."):  # a file of the clone: here with this machine's addresses in it
                copy = self.folder / Path(source).name
                copy.write_text(self.moved((FILE.parent / source).read_text()))
                told = {variable: value.replace(target, str(copy)) for variable, value in told.items()}
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {
            "PATH": programs,
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "AWS_EC2_METADATA_DISABLED": "true",
            **told,
        }

    def command(self, name):
        service = services(self.secrets)[name]
        return [self.moved(word) for word in [*service.get("entrypoint", []), *service["command"]]]

    def run(self, name, *words, said="", **changed):
        """A service that does its work and ends; `words` in place of those that the file has, `said` by who runs it."""
        entry = services(self.secrets)[name].get("entrypoint", [])
        command = [*entry, *words] if words else self.command(name)
        return subprocess.run(
            command, cwd=ROOT, env={**self.environment(name), **changed}, input=said, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    @contextlib.contextmanager
    def serving(self, name, health, **changed):
        """A service that stays, from when it answers at `health`."""
        log = self.folder / f"{name}.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                self.command(name), cwd=self.folder, env={**self.environment(name), **changed}, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while not _answers(health):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)

    def database(self, name, user, password):
        return psycopg.connect(
            host="127.0.0.1", port=self.postgres, dbname=name, user=user, password=password, autocommit=True
        )

    def administrator(self):
        return self.database("postgres", "postgres", self.secrets["POSTGRES_PASSWORD"])


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError as problem:
        problem.close()
        return False
    except OSError:
        return False


@pytest.fixture(scope="module")
def team(_postgres, tmp_path_factory):
    """Nothing is set up yet; MLflow does not run."""
    if not _postgres.answers():
        _postgres.up()
    secrets = {name: f"{name.lower().replace('_', '-')}-of-a-test" for name in NAMES}
    secrets["DDPM_TAG"] = "7"
    folder = tmp_path_factory.mktemp("team")
    keys = [f"{user},{secrets[f'OBJECTS_{user.upper()}_SECRET']}" for user in ("admin", "mlflow", "team")]
    with psycopg.connect(_postgres.url.replace("+psycopg", ""), autocommit=True) as server:
        server.execute(f"CREATE ROLE postgres SUPERUSER LOGIN PASSWORD '{secrets['POSTGRES_PASSWORD']}'")
    (folder / "objects").mkdir()
    with serving(folder / "objects", *keys) as objects:
        yield Team(folder, _postgres.port, objects, secrets)
