"""Whether an image is there, by a look at its registry: a run whose image nobody can pull stands still for hours.

Asked is as anybody is, and then with the login that this machine has there (`pipelines/logins.py`). Where that is not
enough, or the registry cannot be reached from here, nobody knows, and that is said. The nodes may know a password, and
reach it.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode, urlsplit

from ddpm.errors import WrongInput
from ddpm.fields import shown
from pipelines.logins import HUB, SECRET, Login, login_for

SECONDS = 10  # that a registry may take
MOST_BYTES = 2**20  # of an answer that is read
KINDS = (
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
)  # fmt: skip
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))(?::[0-9]+)?"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)


def check_image(image: str) -> str:
    """The image's name, as it is. Raises WrongInput for what no node could pull."""
    if not _IMAGE.fullmatch(image):
        raise WrongInput(
            f"IMAGE: {shown(image)} is no image; write REGISTRY/NAME:TAG, or REGISTRY/NAME@sha256: and the 64 digits that a push tells; names have no capitals"
        )
    return image


def images_of(spec: dict[str, Any]) -> list[str]:
    """The images of a compiled pipeline's tasks, each once."""
    executors = spec["deploymentSpec"]["executors"].values()
    return sorted({one["container"]["image"] for one in executors})


def look(image: str) -> str:
    """What is to be said of an image: nothing where it is there. Raises WrongInput where its registry has none such."""
    host, name, reference = _parts(image)
    if not host:
        return f"image {image}: it names no registry, so that each node must have it already; `make image IMAGE=REGISTRY/NAME:TAG`, and a push, is what others need"
    url = f"{_scheme(host)}://{HUB[-1] if host in HUB else host}/v2/{name}/manifests/{reference}"
    known, login = f"image {image}: whether it is there is not known", Login()
    try:
        status = _ask(url, name, login)
        if status in (401, 403, 404) and (login := login_for(host)):  # some say 404 of what is not for everybody
            status = _ask(url, name, login)
    except (OSError, http.client.HTTPException, ValueError) as problem:  # of TLS, HTTP and JSON
        return f"{known}, since {host} does not answer here ({problem})"
    if status == 404:
        raise WrongInput(f"IMAGE: {host} has no {name} {reference}; push it, or name another (make image, docker push)")
    why = f", and {login.said}" if status in (401, 403) else ""
    return "" if status == 200 else f"{known}; {host} answers {status} here{why}"


def _scheme(host: str) -> str:
    """http to this machine alone: a password goes nowhere else in the clear."""
    return "http" if urlsplit(f"//{host}").hostname in ("localhost", "127.0.0.1") else "https"


def _parts(image: str) -> tuple[str, str, str]:
    """Registry (empty where none is named), name, and digest or tag."""
    place, _, digest = image.partition("@")
    first, slash, rest = place.partition("/")
    host = first if slash and (first == "localhost" or re.search(r"[.:]", first)) else ""
    name, colon, tag = (rest if host else place).rpartition(":")
    if not colon:
        name, tag = tag, "latest"
    return host, f"library/{name}" if host in HUB and "/" not in name else name, digest or tag


def _ask(url: str, name: str, login: Login) -> int:
    """The status that is answered to somebody with this login, by whatever the registry asks for where it asks."""
    status, asks = _head(url, "")
    scheme = asks.partition(" ")[0].lower()
    if status == 401 and scheme == "basic" and login.basic:
        status, _ = _head(url, f"Basic {login.basic}")
    elif status == 401 and scheme == "bearer" and (token := _token(asks, name, login)):
        status, _ = _head(url, f"Bearer {token}")
    return status


def _head(url: str, authorization: str) -> tuple[int, str]:
    """The status, and what is asked for where that is 401."""
    request = urllib.request.Request(url, headers={"Accept": ", ".join(KINDS)}, method="HEAD")
    try:
        with urllib.request.urlopen(_with(request, authorization), timeout=SECONDS) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as problem:
        return problem.code, problem.headers.get("WWW-Authenticate", "")


def _with(request: urllib.request.Request, authorization: str) -> urllib.request.Request:
    """The same with a secret, which is not passed on where another place is named in the answer."""
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    return request


def _token(asks: str, name: str, login: Login) -> str:
    """What somebody with this login is given to read; empty where that is refused."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', asks))
    realm = urlsplit(asked.get("realm", ""))
    if not realm.hostname or realm.scheme not in ("https", _scheme(realm.netloc)):
        return ""
    words = {"service": asked.get("service", ""), "scope": f"repository:{name}:pull"}
    if login.identity:
        words |= {"grant_type": "refresh_token", "client_id": "ddpm", "refresh_token": login.identity}
        request = urllib.request.Request(asked["realm"], data=urlencode(words).encode())
    else:
        request = urllib.request.Request(f"{asked['realm']}?{urlencode(words)}")
    try:
        basic = f"Basic {login.basic}" if login.basic else ""
        with urllib.request.urlopen(_with(request, basic), timeout=SECONDS) as answer:
            found = json.loads(answer.read(MOST_BYTES))
    except (urllib.error.HTTPError, RecursionError):
        return ""
    token = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else ""
    return token if isinstance(token, str) and SECRET.fullmatch(token) else ""
