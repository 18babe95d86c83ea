"""A model as a Hugging Face Space: push the folder, and a page serves it.

README.md             the Space's settings, and the model's card
Dockerfile, app.py    how it is started; `python app.py` does so anywhere
requirements.txt      the packages that it needs, as they are here
model/                weights.safetensors, settings.json, the card again and, of a registered version, its report.json and
                      provenance.json
ddpm/                 this library, which no package index has
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import cast

from ddpm.evaluation.report import Report, finite
from ddpm.fields import about_of
from ddpm.model.model import Model
from ddpm.plan import fields
from ddpm.registry.folder import CARD

PORT = 7860  # where Spaces look
PLACES = {spec.name for spec in fields() if about_of(spec).place}  # settings that say where something lies
NEEDS = ("fastapi", "numpy", "pillow", "prometheus-client", "pydantic", "safetensors", "torch", "uvicorn")
KINDS = (".py", ".html", ".css", ".js", ".j2", ".yaml", ".typed")  # of the library's files

SETTINGS = f"""---
title: A diffusion model
colorFrom: indigo
colorTo: gray
sdk: docker
app_port: {PORT}
pinned: false
---

"""

APP = '''"""A page on which a number becomes a picture: python app.py"""

import sys
from pathlib import Path

from ddpm.errors import STATUS, status_of
from ddpm.legible import tell
from ddpm.progress import Lines
from ddpm.serving.run import serve
from ddpm.serving.settings import from_environment

if __name__ == "__main__":
    try:
        serve(str(Path(__file__).parent / "model"), "", from_environment({}), Lines())
    except tuple(STATUS) as problem:
        tell(f"app.py: {problem}")
        sys.exit(status_of(problem))
'''

CONTAINER = f"""FROM python:3.11-slim
RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/app
COPY requirements.txt .
RUN pip install --no-cache-dir --requirement requirements.txt
COPY . .
USER user
ENV DDPM_SERVE_HOST=0.0.0.0 DDPM_SERVE_PORT={PORT} DDPM_SERVE_ANYONE=true DDPM_SERVE_ALLOWED_HOSTS=*
CMD ["python", "app.py"]
"""


def public_model(model: Model) -> Model:
    """A model that tells no stranger where its files lie: what is no registered version goes by its weights' digest."""
    origin = model.origin
    registered = origin.reference.startswith("models:/")
    reference = origin.reference if registered else f"weights:{origin.weights_sha256[:12]}"
    settings = {name: value for name, value in origin.settings.items() if name not in PLACES}
    guide = public_model(model.guide) if model.guide else None
    return replace(model, guide=guide, origin=replace(origin, reference=reference, checkpoint="", settings=settings))


def public(report: Report) -> Report:
    """A report without where files lie on the machine that wrote it, its checkpoint's, page's and pictures' among them,
    and without numbers that JSON has no word for."""
    protocol = report["protocol"]
    generation = {name: value for name, value in (protocol.get("generation") or {}).items() if name != "checkpoint"}
    told = {name: value for name, value in report.items() if name not in ("grid", "page", "pictures")}
    return cast(Report, finite({**told, "protocol": {**protocol, "generation": generation}}))


def space_files(model_files: dict[str, bytes], card: str) -> dict[str, bytes]:
    """The Space of a model whose files these are, with its card. Raises PackageNotFoundError without the server's packages."""
    library = Path(__file__).parents[1]
    requirements = "".join(f"{name}=={importlib.metadata.version(name).partition('+')[0]}\n" for name in NEEDS)
    return {
        "README.md": (SETTINGS + card).encode(),
        "app.py": APP.encode(),
        "Dockerfile": CONTAINER.encode(),
        "requirements.txt": requirements.encode(),
        **{f"model/{name}": data for name, data in {**model_files, CARD: card.encode()}.items()},
        **{
            f"ddpm/{path.relative_to(library)}": path.read_bytes()
            for path in sorted(library.rglob("*"))
            if path.suffix in KINDS
        },
    }
