"""A source of one's own: pictures that a function draws, as a data set by name.

    python examples/own_source.py STORE

A named source is one function and one row of NAMED. It takes the path in `rings:/path` (None: there is none) and a
revision, and returns pictures whose bytes are read later, one by one.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import ddpm
from ddpm.data.ingest import ingest
from ddpm.data.sources import NAMED, Picture, Source
from ddpm.progress import open_progress
from ddpm.settings import IngestSettings
from ddpm.store import open_store

SIZE, COUNT = 32, 200
CLASSES = ["small", "large"]


def ring(number: int) -> bytes:
    """A PNG of a ring in a colour of its own; every other one is large."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    distance = np.hypot(x, y) - (6, 12)[number % 2]
    colour = np.random.default_rng(number).integers(64, 256, 3)
    picture = np.clip(2 - np.abs(distance), 0, 1)[..., None] * colour
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def rings(path: Path | None, revision: str) -> Source:
    """Rings, small and large."""
    pictures = [Picture(f"{number:04d}.png", number % 2, ring(number)) for number in range(COUNT)]
    return Source("rings", CLASSES, pictures, {"origin": "drawn by examples/own_source.py", "licence": "none needed"})


NAMED["rings"] = rings

settings = IngestSettings(source="rings", dataset_name="rings", image_size=SIZE)
facts = ingest(settings, open_store(sys.argv[1]), open_progress())
print(f"{facts['n']} training and {facts['held_out']} held-out pictures: {facts['uri']}")
data = ddpm.open_dataset(facts["uri"])
print(f"classes {', '.join(data.classes)}; images {tuple(data.train.images.shape)}")
