"""The library in a few functions, for a notebook or a script of one's own.

    import ddpm

    model = ddpm.open_model("models:/ddpm-digits@champion")
    ddpm.show(model.draw(range(16)))

All of them are to be had from `ddpm` itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image
from torch import Tensor

from ddpm.data import dataset as datasets
from ddpm.data.catalogue import find_dataset
from ddpm.data.dataset import PictureSet
from ddpm.errors import WrongInput
from ddpm.evaluation.report import Report
from ddpm.model.model import Model
from ddpm.pictures import grid
from ddpm.places import default_places
from ddpm.progress import Progress, Quiet
from ddpm.registry.version import resolve, resolve_or_folder
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.store import open_store

__all__ = ["evaluate", "open_dataset", "open_model", "report_page", "show"]


def open_dataset(dataset: str | Path, store: str = "") -> PictureSet:
    """A data set: by name (`digits`, `digits@abcd1234`), or by its manifest's URI. Pictures are read when asked for.

    Args:
        store: where names are looked up; empty: below `var/`.

    Raises WrongInput, which says what there is, where there is none such.
    """
    return datasets.open_dataset(find_dataset(str(dataset), open_store(store or default_places()["store"]), Quiet()))


def open_model(reference: str | Path, tracking_uri: str = "") -> Model:
    """The model that a reference names: models:/NAME@ALIAS, models:/NAME/VERSION, a checkpoint's URI, an exported folder.

    Args:
        tracking_uri: MLflow's, for registered models; empty: $MLFLOW_TRACKING_URI, or the database below `var/`.

    Raises WrongInput, which says what there is, where it names none.
    """
    return resolve(str(reference), tracking_uri or default_places()["tracking_uri"])


def show(images: Tensor, columns: int | None = None) -> Image.Image:
    """Pictures uint8 [n,3,h,w], or one, [3,h,w], as one picture, in rows; notebooks show it as it is."""
    images = images[None] if images.dim() == 3 else images
    if not len(images):
        raise WrongInput("images: there are none to show; give one at least")
    return Image.fromarray(grid(images, columns))


def evaluate(
    generated: Model | str | Path,
    dataset: PictureSet | str | Path,
    settings: EvaluateSettings | None = None,
    drawing: DrawSettings | None = None,
    store: str = "",
    tracking_uri: str = "",
    progress: Progress | None = None,
) -> Report:
    """The report of generated pictures: figures with intervals and noise floors, copying, coverage, protocol.

    Args:
        generated: a model, a reference to one, or a folder of pictures.
        dataset: what it is measured against, opened, or as `open_dataset` takes it.
        drawing: how a model draws; None: its own way, in batches as large as measuring takes.
        store: where the report, and what was computed of the real pictures, is kept; empty: below `var/`.

    Raises WrongInput for what cannot be measured, Refused where the figures would mean nothing.
    """
    from ddpm.evaluation.evaluate import evaluate as measure  # it needs more than the engine has

    places = default_places()
    found = generated
    if not isinstance(found, Model):
        found = resolve_or_folder(str(found), tracking_uri or places["tracking_uri"])
    data = dataset if isinstance(dataset, PictureSet) else open_dataset(dataset, store)
    how = drawing or DrawSettings()
    if drawing is None and isinstance(found, Model):
        how = replace(found.drawing, sample_batch=how.sample_batch)
    return measure(
        found, data, settings or EvaluateSettings(), how, open_store(store or places["store"]), progress or Quiet()
    )


def report_page(report: Report) -> str:
    """A report as one page of HTML that holds all of itself; its pictures are read from where it says they are."""
    from ddpm.evaluation.page.render import page_of  # it needs more than the engine has

    return page_of(report)
