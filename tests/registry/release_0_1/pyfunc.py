"""A registered version as MLflow's own server sees it: code, not a pickle (models from code).

{"dataframe_records": [{"n": 2, "seed": 0}]}   to   [{"seed": 0, "images_png_b64": ["iVBOR…", "iVBOR…"]}]
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pandas
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from ddpm.device import pick_device
from ddpm.model.sampling import generate
from ddpm.pictures import png
from ddpm.registry.version import load_version

MOST = 1024  # pictures a row: a request must not take the server away for hours
BATCH = 16


class Generator(PythonModel):
    """Draws pictures seed … seed + n - 1 for each row of the input."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["weights.safetensors"]).parent
        self.model = load_version(folder, str(folder))

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        rows = []
        for n, seed in zip(model_input["n"], model_input["seed"], strict=True):
            if not (1 <= n <= MOST and seed >= 0):
                raise ValueError(f"n {n}, seed {seed}: n must be from 1 to {MOST}, and seed 0 or more")
            batches = generate(
                self.model.net, self.model.settings, self.model.image_size, range(int(seed), int(seed) + int(n)),
                self.model.facts["sampler"], self.model.facts["sampling_steps"], BATCH, pick_device(),
                churn=self.model.facts.get("churn", 0.0), guidance=self.model.facts.get("guidance", 1.0),
            )  # fmt: skip
            images = torch.cat(list(batches)).permute(0, 2, 3, 1).numpy()
            rows.append(
                {"seed": int(seed), "images_png_b64": [base64.b64encode(png(picture)).decode() for picture in images]}
            )
        return pandas.DataFrame(rows)


set_model(Generator())
