"""A registered version as MLflow's own server sees it.

{"dataframe_records": [{"n": 2, "seed": 0}]}   to   [{"seed": 0, "images_png_b64": ["iVBOR…", "iVBOR…"]}]

MLflow checks no request against a schema here: of columns that are not in one, optional or not, it keeps none, and a
misspelt seed would be another picture without a word. So the signature has what comes out alone, and what may go in lies
beside it, as a JSON schema of a row among the version's metadata; it is held to here. Its server cannot tell us that a
client has gone. What it can is to give up after MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT seconds; then nobody is there for
the pictures, and drawing ends at the next step.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from ddpm.errors import WrongInput
from ddpm.pictures import png
from ddpm.registry.version import load_version

MOST = 1024  # pictures a request: one must not take the server away for hours
LARGEST_SEED = 2**63 - 1
EXACT = 2**53  # from here on a column of floats, as one with gaps is, no longer holds every whole number
ROW: dict[str, Any] = {  # as JSON schema has it
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": MOST},
        "seed": {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED},
    },
    "required": ["n"],
    "additionalProperties": False,
}


class Answer(MlflowException):
    """What a request is answered instead of pictures: one line, without MLflow's own words and the whole request in it."""

    def __init__(self, line: str, code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(line, error_code=code)
        self.line = line

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self.line})


@dataclass(frozen=True)
class Row:
    """Pictures seed … seed + n - 1."""

    n: int
    seed: int


def signature() -> ModelSignature:
    """What a version says of itself: what comes out. What may go in is said by `read_rows`."""
    return ModelSignature(outputs=Schema([ColSpec("long", "seed"), ColSpec(Array(DataType.string), "images_png_b64")]))


def read_rows(request: Any) -> list[Row]:
    """The rows of a request, `seed` drawn where it is not given. Raises Answer for what will not do."""
    try:
        table = request if isinstance(request, pandas.DataFrame) else pandas.DataFrame(request)
    except (ValueError, TypeError):
        raise Answer('no table: send {"dataframe_records": [{"n": 1, "seed": 0}]}') from None
    fields = [str(name) for name in table.columns]
    if unknown := [name for name in fields if name not in ROW["properties"]]:
        raise Answer(f"{unknown[0][:100]!r} is no field; a row has n and, if you like, seed")
    if twice := [name for name in set(fields) if fields.count(name) > 1]:
        raise Answer(f"{twice[0]}: it is there more than once; a row has n and, if you like, seed")
    if "n" not in table.columns or not len(table):
        raise Answer("n: missing; a row has n and, if you like, seed")
    if len(table) > MOST:
        raise Answer(f"{len(table)} rows will not do; a request may ask for {MOST} pictures in all")
    seeds = table["seed"] if "seed" in table.columns else [None] * len(table)
    rows = [
        Row(_whole("n", n), secrets.randbelow(2**31) if _is_none(seed) else _whole("seed", seed))
        for n, seed in zip(table["n"], seeds, strict=True)
    ]
    if (pictures := sum(row.n for row in rows)) > MOST:
        raise Answer(f"{pictures} pictures will not do; a request may ask for {MOST} in all")
    return rows


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _whole(name: str, value: Any) -> int:
    """A field's whole number, within its bounds; a column in which one is missing comes as floats."""
    low, high = (ROW["properties"][name][end] for end in ("minimum", "maximum"))
    if isinstance(value, float) and EXACT <= value <= high:
        raise Answer(
            f"{name}: {value:.0f} may not be the number that was sent, since the column came as floats; give every row its {name}, as a whole number"
        )
    try:
        number = int(value)
        if isinstance(value, (str, bytes, bool)) or number != value or not low <= number <= high:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        words = " ".join(repr(value).split())[:60]
        raise Answer(f"{name}: {words} will not do; it must be a whole number from {low} to {high}") from None
    return number


class Generator(PythonModel):
    """Draws pictures seed … seed + n - 1 for each row of the input."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["weights.safetensors"]).parent
        self.model = load_version(folder, str(folder))
        self._turn = threading.Lock()  # requests side by side would only slow each other down

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        rows = read_rows(model_input)
        try:
            images = self._draw([seed for row in rows for seed in range(row.seed, row.seed + row.n)])
            return pandas.DataFrame([{"seed": row.seed, "images_png_b64": list(islice(images, row.n))} for row in rows])
        except Answer:
            raise
        except WrongInput as problem:
            raise Answer(str(problem)) from None
        except Exception:
            logging.getLogger(__name__).exception("a request failed")  # for the server's log alone
            raise Answer("the pictures could not be drawn; the server's log says why", INTERNAL_ERROR) from None

    def _draw(self, seeds: list[int]) -> Iterator[str]:
        """Each seed's picture as PNG in base64. Raises Answer where MLflow's server has given the request up."""
        deadline = time.monotonic() + _patience()
        late = Answer("it took too long; ask for fewer pictures at a time", TEMPORARILY_UNAVAILABLE)
        found: list[str] = []

        def watch(*state: object) -> None:
            if time.monotonic() > deadline:
                raise late

        if not self._turn.acquire(timeout=min(max(deadline - time.monotonic(), 0.0), threading.TIMEOUT_MAX)):
            raise late
        try:
            for batch in self.model.draw_batches(seeds, watch=watch):
                pictures = batch.permute(0, 2, 3, 1).numpy()
                found += [base64.b64encode(png(picture)).decode() for picture in pictures]
        finally:
            self._turn.release()
        return iter(found)


def _patience() -> float:
    """For how many seconds a request is waited for: without limit where no server of MLflow's is around us."""
    if os.environ.get("_MLFLOW_IS_IN_SERVING_ENVIRONMENT") != "true":
        return threading.TIMEOUT_MAX
    return float(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get() or threading.TIMEOUT_MAX)
