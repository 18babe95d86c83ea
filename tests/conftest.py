"""Pictures, an S3 server, a PostgreSQL server and an MLflow database that every room's tests may use."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def pytest_collection_modifyitems(config, items):
    """Tests of a GPU are left out where there is none: no test of the others goes by it."""
    of_a_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if of_a_gpu:
        import torch

        if not torch.cuda.is_available():
            config.hook.pytest_deselected(items=of_a_gpu)
            items[:] = [item for item in items if item not in of_a_gpu]


@pytest.fixture(autouse=True)
def of_one_process():
    """What a process is told once and then believes does not go from one test to the next: which places have answered,
    and MLflow's tracking URI, which its server's app and `set_tracking_uri` leave behind for all."""
    kept = {"ddpm.tracking.client": "_answered", "ddpm.store.transfer": "_answered"}
    before = {module: set(getattr(sys.modules[module], name)) for module, name in kept.items() if module in sys.modules}
    yield
    for module, name in kept.items():
        if module in sys.modules:
            setattr(sys.modules[module], name, before.get(module, set()))
    told = sys.modules.get("mlflow.tracking._tracking_service.utils")
    if told is not None and told._tracking_uri is not None:
        told._tracking_uri = None
        os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def digits():
    """256 training and 64 held-out digits at 8x8, as ingest publishes them."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    from ddpm.data.dataset import PictureSet, Split

    raw = load_digits()
    grey = torch.from_numpy(np.round(raw.images * 255 / 16).astype(np.uint8))
    images, labels = grey[:, None].repeat(1, 3, 1, 1), torch.from_numpy(raw.target.astype(np.int64))
    return PictureSet(
        uri="memory:digits", digest="0" * 64, name="digits", image_size=8, classes=[str(i) for i in range(10)],
        train=Split(images[:256], labels[:256]), held_out=Split(images[256:320], labels[256:320]), manifest={},
    )  # fmt: skip


@pytest.fixture(scope="session")
def moto():
    """The address of an S3 server that keeps to conditions, and checks no signature."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ, start):
        """As S3 does, and moto's threads do not: between its look for an object and its writing there is a gap."""
        with alone:
            return app(environ, start)

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """The file of an MLflow database in which nothing is yet: making one takes longer than most tests."""
    from ddpm.tracking import open_client

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_client(f"sqlite:///{path}")
    return path


class PostgresServer:
    """One that listens at a port of this machine; `down` ends it at once, as a crash does."""

    def __init__(self, folder, port):
        self.data, self.log, self.port, self.made = folder / "data", folder / "log", port, 0
        self.url = f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"

    def program(self, name, *arguments):
        """As a user that is not root, which PostgreSQL refuses."""
        user = "nobody" if os.getuid() == 0 else None
        subprocess.run(
            [PROGRAMS / name, "-D", self.data, *arguments], user=user, check=True, capture_output=True, cwd="/", timeout=120
        )  # fmt: skip

    def up(self):
        options = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        self.program("pg_ctl", "-w", "-l", self.log, "-o", options, "start")

    def answers(self):
        asked = [PROGRAMS / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def down(self):
        self.program("pg_ctl", "-m", "immediate", "stop")

    def kill(self):
        """As kill -9 of its first process, and of all that this leaves."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        processes = [first := psutil.Process(pid), *first.children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=60)

    def database(self):
        """The URL of one of its own, which nobody has used."""
        import psycopg

        self.made += 1
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as owner:
            owner.execute(f"CREATE DATABASE fresh_{self.made}")
        return self.url.replace("/postgres", f"/fresh_{self.made}")


@pytest.fixture(scope="session")
def _postgres():
    if PROGRAMS is None:
        pytest.skip("PostgreSQL's programs are not in /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="ddpm-postgres-"))
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = PostgresServer(folder, port)
    server.program("initdb", "--no-sync", "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale", "C")
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"host all guarded,postgres,mlflow,optuna 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    server.up()
    yield server
    server.down()
    shutil.rmtree(folder)


@pytest.fixture
def postgres(_postgres):
    """A PostgreSQL server of the tests' own, running, which can be stopped and started."""
    yield _postgres
    if not _postgres.answers():
        _postgres.up()
