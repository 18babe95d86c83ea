"""The library in a few functions, for a notebook or a script of one's own.

    import ddpm

    model = ddpm.open_model("models:/ddpm-digits@champion")
    ddpm.show(model.draw(range(16)))

All of them are to be had from `ddpm` itself.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.evaluation.evaluate import evaluate as measure
from ddpm.evaluation.page.render import page_of as report_page
from ddpm.evaluation.report import Report
from ddpm.model.model import Model
from ddpm.pictures import grid
from ddpm.places import default_places
from ddpm.progress import Progress, Quiet
from ddpm.registry.version import resolve, resolve_or_folder
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.store import open_store

__all__ = ["evaluate", "open_dataset", "open_model", "report_page", "show"]


def open_model(reference: str, tracking_uri: str = "") -> Model:
    """The model that a reference names: models:/NAME@ALIAS, models:/NAME/VERSION, a checkpoint's URI, an exported folder.

    Args:
        tracking_uri: MLflow's, for registered models; empty: $MLFLOW_TRACKING_URI, or the database below `var/`.

    Raises WrongInput, which says what there is, where it names none.
    """
    return resolve(reference, tracking_uri or default_places()["tracking_uri"])


def show(images: Tensor, columns: int | None = None) -> Image.Image:
    """Pictures uint8 [n,3,h,w] as one picture, in rows; notebooks show it as it is."""
    return Image.fromarray(grid(images, columns))


def evaluate(
    generated: Model | str | Path,
    dataset: PictureSet | str,
    settings: EvaluateSettings | None = None,
    drawing: DrawSettings | None = None,
    store: str = "",
    tracking_uri: str = "",
    progress: Progress | None = None,
) -> Report:
    """The report of generated pictures: figures with intervals and noise floors, copying, coverage, protocol.

    Args:
        generated: a model, a reference to one, or a folder of pictures.
        dataset: what it is measured against, opened or by its manifest's URI.
        drawing: how a model draws; None: its own way.
        store: where the report, and what was computed of the real pictures, is kept; empty: below `var/`.

    Raises WrongInput for what cannot be measured, Refused where the figures would mean nothing.
    """
    places = default_places()
    found = generated
    if not isinstance(found, Model):
        found = resolve_or_folder(str(found), tracking_uri or places["tracking_uri"])
    data = open_dataset(dataset) if isinstance(dataset, str) else dataset
    how = drawing or (found.drawing if isinstance(found, Model) else DrawSettings())
    return measure(
        found, data, settings or EvaluateSettings(), how, open_store(store or places["store"]), progress or Quiet()
    )
