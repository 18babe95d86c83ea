"""Who one is to an image registry: the logins that `docker login` keeps in Docker's configuration file.

$DOCKER_CONFIG/config.json, or ~/.docker/config.json. What is read there is sent to that registry and shown to nobody.
Credential helpers, which are programs, are not asked.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm.plain_files import read_plain, why

MOST_BYTES = 2**20  # that the file may have
HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")  # Docker Hub's names, its own last
SECRET = re.compile(r"[!-~]+")  # what HTTP can carry, and does not repeat in a complaint


@dataclass(frozen=True)
class Login:
    """What there is for a registry: at most one of two secrets."""

    said: str = ""  # where it is from, or why there is none
    basic: str = field(default="", repr=False)  # as HTTP's Basic sends it
    identity: str = field(default="", repr=False)  # a token, to be exchanged for one that reads

    def __bool__(self) -> bool:
        return bool(self.basic or self.identity)


def login_for(host: str) -> Login:
    """The login that this machine's user has at a registry."""
    path = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
    try:
        kept = json.loads(read_plain(path, MOST_BYTES))
    except FileNotFoundError:
        return Login(f"there is no {path} with a login for it")
    except OSError as problem:
        return Login(f"{path} cannot be read ({why(problem)})")
    except (ValueError, RecursionError):
        return Login(f"{path} is no JSON")
    told = _facts(kept)
    for name, entry in _facts(told.get("auths")).items():
        if _host(name) == _host(host) and (found := _login(str(path), _facts(entry))):
            return found
    if told.get("credsStore") or any(_host(name) == _host(host) for name in _facts(told.get("credHelpers"))):
        return Login(f"{path} leaves its login to a credential helper, which is not asked")
    return Login(f"{path} has no login for it")


def registries_in(text: str) -> list[str]:
    """The registries that such a file, by its text, has logins for. Raises ValueError where it is none."""
    auths = _facts(_facts(json.loads(text)).get("auths"))
    return sorted({_host(name) for name, entry in auths.items() if _login("", _facts(entry))})


def _login(path: str, entry: dict[str, Any]) -> Login:
    """What an entry holds: nothing where a helper keeps the secret of it."""
    facts = {key: value for key, value in entry.items() if isinstance(value, str)}
    if SECRET.fullmatch(token := facts.get("identitytoken", "")):
        return Login(f"the token of {path} does not change that", identity=token)
    pair = f"{facts.get('username', '')}:{facts.get('password', '')}".encode()
    basic = base64.b64encode(pair).decode() if facts.get("password") else facts.get("auth", "")
    known = SECRET.fullmatch(basic)
    return Login(f"the login of {path} does not change that", basic=basic) if known else Login()


def _facts(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _host(name: str) -> str:
    """A registry as the file names it, maybe by a URL, and with a name and a password in it: its host alone."""
    host = (name.partition("://")[2] or name).partition("/")[0].rpartition("@")[2].lower()
    return HUB[0] if host in HUB else host
