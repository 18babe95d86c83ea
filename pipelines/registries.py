"""Whether an image is there, by a look at its registry: a run whose image nobody can pull stands still for hours.

Asked is as anybody is: where a password is needed, or the registry cannot be reached from here, nobody knows, and that is
said. The nodes may know the password, and reach it.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

from ddpm.errors import WrongInput

SECONDS = 10  # that a registry may take
MOST_BYTES = 2**20  # of an answer that is read
KINDS = (
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
)  # fmt: skip
HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


def images_of(spec: dict[str, Any]) -> list[str]:
    """The images of a compiled pipeline's tasks, each once."""
    executors = spec["deploymentSpec"]["executors"].values()
    return sorted({one["container"]["image"] for one in executors})


def look(image: str) -> str:
    """What is to be said of an image: nothing where it is there. Raises WrongInput where its registry has none such."""
    host, name, reference = _parts(image)
    if not host:
        return f"image {image}: it names no registry, so that each node must have it already; `make image IMAGE=REGISTRY/NAME:TAG`, and a push, is what others need"
    scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", host) else "https"
    url = f"{scheme}://{HUB.get(host, host)}/v2/{name}/manifests/{reference}"
    try:
        status, asks = _head(url, "")
        if status == 401 and (token := _token(asks, name)):
            status, _ = _head(url, token)
    except (OSError, ValueError) as problem:  # of HTTP, TLS and JSON
        return f"image {image}: whether it is there is not known, since {host} does not answer here ({problem})"
    if status == 404:
        raise WrongInput(f"IMAGE: {host} has no {name} {reference}; push it, or name another (make image, docker push)")
    return "" if status == 200 else f"image {image}: whether it is there is not known; {host} answers {status} here"


def _parts(image: str) -> tuple[str, str, str]:
    """Registry (empty where none is named), name, and digest or tag."""
    place, _, digest = image.partition("@")
    first, slash, rest = place.partition("/")
    host = first if slash and (first == "localhost" or re.search(r"[.:]", first)) else ""
    name, colon, tag = (rest if host else place).rpartition(":")
    if not colon:
        name, tag = tag, "latest"
    return host, f"library/{name}" if host in HUB and "/" not in name else name, digest or tag


def _head(url: str, token: str) -> tuple[int, str]:
    """The status, and what is asked for where that is 401."""
    headers = {"Accept": ", ".join(KINDS), **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers, method="HEAD"), timeout=SECONDS
        ) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as problem:
        return problem.code, problem.headers.get("WWW-Authenticate", "")


def _token(asks: str, name: str) -> str:
    """What anybody is given to read; empty where a password is asked for."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', asks))
    if not asks.lower().startswith("bearer ") or not re.match(r"https?://", asked.get("realm", "")):
        return ""
    words = urlencode({"service": asked.get("service", ""), "scope": f"repository:{name}:pull"})
    try:
        with urllib.request.urlopen(f"{asked['realm']}?{words}", timeout=SECONDS) as answer:
            found = json.loads(answer.read(MOST_BYTES))
    except urllib.error.HTTPError:
        return ""
    return str(found.get("token") or found.get("access_token") or "") if isinstance(found, dict) else ""
