"""A command of `ddpm` as a person types it, in this process."""

import contextlib
import io
import json
from dataclasses import dataclass

from ddpm.cli import main


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


def ddpm(*words, cwd=None):
    """The command, in this process: its imports take ten seconds."""
    with (
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        status = main([str(word) for word in words])
    return Ended(status, out.getvalue(), err.getvalue())


def facts_of(*words, cwd=None, status=0):
    found = ddpm(*words, "--json", cwd=cwd)
    assert found.returncode == status, found.stderr
    assert len(found.stdout.splitlines()) == 1, "one JSON object and nothing else"
    return json.loads(found.stdout)
