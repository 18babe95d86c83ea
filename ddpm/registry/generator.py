"""A registered version as MLflow's own server sees it.

{"dataframe_records": [{"n": 2, "seed": 0}]}   to   [{"seed": 0, "images_png_b64": ["iVBOR…", "iVBOR…"]}]
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pandas
from mlflow.pyfunc import PythonModel

from ddpm.pictures import png
from ddpm.registry.version import load_version

MOST = 1024  # pictures a row: a request must not take the server away for hours


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
            images = self.model.draw(range(int(seed), int(seed) + int(n))).permute(0, 2, 3, 1).numpy()
            rows.append(
                {"seed": int(seed), "images_png_b64": [base64.b64encode(png(picture)).decode() for picture in images]}
            )
        return pandas.DataFrame(rows)
