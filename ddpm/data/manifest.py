"""How a data set lies in a store, and how its manifest is read.

STORE/datasets/NAME/DIGEST.json          the manifest: what the pictures are, which shards hold them
STORE/blobs/sha256/ab/abcd…              a shard: safetensors, images uint8 [n,3,H,W] and labels int64 [n]
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ddpm.errors import WrongInput
from ddpm.settings import FORMAT_VERSION
from ddpm.store import Store, open_store


def blob_key(sha256: str) -> str:
    """Where a blob lies in its store."""
    return f"blobs/sha256/{sha256[:2]}/{sha256}"


def canonical(manifest: dict[str, Any]) -> bytes:
    """The manifest's bytes, which its digest is taken over: sorted keys, no white space that depends on taste."""
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def read_manifest(uri: str) -> tuple[Store, dict[str, Any]]:
    """The store that a data set lies in, and its manifest.

    Raises Missing where there is none, WrongInput where what is there is no manifest or not the one its name says.
    """
    parts = uri.rsplit("/", 3)
    if len(parts) != 4 or parts[1] != "datasets" or not parts[3].endswith(".json"):
        raise WrongInput(
            f"'{uri}' is not a data set's URI; give STORE/datasets/NAME/DIGEST.json, as `ddpm ingest` prints it"
        )
    store = open_store(parts[0] or "/")
    data = store.read("/".join(parts[1:]))
    digest = parts[3].removesuffix(".json")
    if hashlib.sha256(data).hexdigest() != digest:
        raise WrongInput(f"{uri} is damaged: its sha256 is not the digest in its name; ingest it again")
    try:
        manifest = json.loads(data)
        version = manifest.get("format_version")
    except (ValueError, AttributeError):
        raise WrongInput(f"{uri} is no manifest; remove it, or name one that `ddpm ingest` printed") from None
    if version != FORMAT_VERSION:
        raise WrongInput(f"{uri}: format_version {version} is not known here; this release reads {FORMAT_VERSION}")
    return store, manifest
