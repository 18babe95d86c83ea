"""A PostgreSQL server of the tests' own, which can be stopped and started."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class Server:
    """One that listens at a port of this machine; `down` ends it at once, as a crash does."""

    def __init__(self, folder, port):
        self.data, self.log, self.port = folder / "data", folder / "log", port
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
    server = Server(folder, port)
    server.program("initdb", "--no-sync", "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale", "C")
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    server.up()
    yield server
    server.down()
    shutil.rmtree(folder)


@pytest.fixture
def postgres(_postgres):
    """The server, running."""
    yield _postgres
    if not _postgres.answers():
        _postgres.up()
