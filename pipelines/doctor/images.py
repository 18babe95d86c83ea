"""The images that pods are made of: whether their registries have them, asked as `make submit` asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ddpm.errors import WrongInput, did_you_mean
from ddpm.fields import shown
from pipelines import registries
from pipelines.doctor.finding import Findings, ok, unknown, wrong

OVERLAYS = Path(__file__).parents[2] / "deploy" / "overlays"
KUSTOMIZATION = "kustomization.yaml"


def look(images: list[str]) -> Findings:
    for image in images:
        try:
            words = registries.look(image)
        except WrongInput as problem:
            yield wrong(f"image {image}: {str(problem).removeprefix('IMAGE: ')}")
            continue
        yield unknown(words) if words else ok(f"image {image} is there")


def servers_images(overlay: str) -> list[str]:
    """The images that an overlay of deploy/ names, each once. Raises WrongInput where there is no such overlay."""
    known = sorted(path.parent.name for path in OVERLAYS.glob(f"*/{KUSTOMIZATION}"))
    if overlay not in known:
        raise WrongInput(
            f"OVERLAY: there is none named {shown(overlay)}; there are {', '.join(known)}{did_you_mean(overlay, known)}"
        )
    named: list[tuple[str, str]] = []  # by name, and by tag or digest
    for one in _images(OVERLAYS / overlay):
        alike = [found for found in named if found[0] == one["name"]] or [(one["name"], "")]
        for found in alike:
            by = f"@{one['digest']}" if "digest" in one else f":{one['newTag']}" if "newTag" in one else found[1]
            named = [*(other for other in named if other != found), (one.get("newName", found[0]), by)]
    return sorted({f"{name}{by}" for name, by in named})


def _images(folder: Path) -> Iterator[dict[str, Any]]:
    """The entries of a kustomization's `images`, after those of what it is made of: to it these are called as they say."""
    facts = yaml.safe_load((folder / KUSTOMIZATION).read_text())
    for part in (*facts.get("resources", ()), *facts.get("components", ())):
        if (folder / part / KUSTOMIZATION).is_file():
            yield from _images(folder / part)
    yield from facts.get("images", ())
