"""Where generated pictures come from: a model that draws them, or a folder of files."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm.data.dataset import PictureSet
from ddpm.data.packing import FORMATS, Unusable, decode
from ddpm.data.sources.source import MAX_BYTES, printable
from ddpm.errors import WrongInput
from ddpm.evaluation.report import Generation
from ddpm.model.drawing import draw_told
from ddpm.model.model import Model
from ddpm.plain_files import read_plain
from ddpm.progress import Progress
from ddpm.settings import DrawSettings, EvaluateSettings, require_drawable, require_seeds
from ddpm.store.tree import walk

GRID = re.compile(r"grid(-\d+-\d+)?\.png")  # as `ddpm sample` calls them
READ = 64  # files of a folder that are open at once


@dataclass(frozen=True)
class Generated:
    """Generated pictures: draws of n pictures each, in batches uint8 [b,3,h,w]."""

    n: int
    draws: Iterable[Iterable[Tensor]]
    generation: Callable[[], Generation]  # that half of the protocol; a folder's is known once it has been read
    model: Model | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)  # of what lies beside them

    def first(self, n: int) -> Tensor:
        """The first n pictures uint8 [n,3,h,w]; fewer where there are fewer."""
        taken: list[Tensor] = []
        for batch in next(iter(self.draws)):
            taken.append(batch)
            if sum(map(len, taken)) >= n:
                break
        return torch.cat(taken)[:n]


def open_generated(
    found: Model | Path, data: PictureSet, settings: EvaluateSettings, drawing: DrawSettings, progress: Progress
) -> Generated:
    """The pictures of a model, or of a folder, that are to be measured against a data set.

    Raises WrongInput where they are of another size, or cannot be had as asked for.
    """
    if isinstance(found, Path):
        return _of_folder(found, data, settings)
    return _of_model(found, data, settings, drawing, progress)


def first_pictures(
    found: Model | Path, data: PictureSet, settings: EvaluateSettings, drawing: DrawSettings, n: int, progress: Progress
) -> Tensor:
    """The first n pictures uint8 [n,3,h,w] of what `open_generated` takes; fewer where a folder holds fewer."""
    few = dataclasses.replace(settings, evaluate_n=0 if isinstance(found, Path) else max(n, 16), seeds=1)
    return open_generated(found, data, few, drawing, progress).first(n)


# -- a model ---------------------------------------------------------------------------------------------------------


def _of_model(
    model: Model, data: PictureSet, settings: EvaluateSettings, drawing: DrawSettings, progress: Progress
) -> Generated:
    if model.image_size != data.image_size:
        raise WrongInput(
            f"generated: {model.origin.reference} draws {model.image_size} px and the data set has {data.image_size} px; evaluate on a data set of the same size"
        )
    require_drawable(model.settings, drawing, model.guide is not None)
    n = settings.evaluate_n or len(data.train)
    require_seeds("sample_seed", settings.sample_seed, n * settings.seeds)
    firsts = range(settings.sample_seed, settings.sample_seed + n * settings.seeds, n)
    generation: Generation = {
        "weights_sha256": model.origin.weights_sha256,
        "weights": "ema",
        **cast(Generation, dataclasses.asdict(drawing)),
        "seeds": [settings.sample_seed, settings.sample_seed + n * settings.seeds],
        "draws": settings.seeds,
    }
    if model.guide and drawing.guidance != 1:
        generation["guide"] = model.guide.origin.weights_sha256
    draws = (_draw(model, drawing, range(first, first + n), progress) for first in firsts)
    return Generated(n, draws, lambda: generation, model)


def _draw(model: Model, drawing: DrawSettings, seeds: range, progress: Progress) -> Iterator[Tensor]:
    yield from draw_told(model, seeds, drawing, progress, "drawing pictures")
    progress.drop("drawing pictures")


# -- a folder of pictures --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contents:
    """What a folder holds: pictures, in the order of their names; how many files of each ending, and pictures by the
    folder below, that are passed over. A grid.png, which `ddpm sample` writes, is no picture of the folder.
    """

    pictures: list[Path]
    others: dict[str, int]
    below: dict[str, int]

    @property
    def passed_over(self) -> list[str]:
        """What is to be said of it."""
        found = []
        if n := sum(self.others.values()):
            what = "1 file beside the pictures is" if n == 1 else f"{n:,} files beside the pictures are"
            found.append(f"{what} passed over: {counted(self.others)}")
        if n := sum(self.below.values()):
            found.append(f"{n:,} pictures in folders below are not taken, only the folder's own: {counted(self.below)}")
        return found


def counted(found: Mapping[str, int], most: int = 6) -> str:
    """Names with their counts, as 3 .pdf, 1 .mpg; the most frequent ones."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {printable(name)}" for name, count in ordered[:most]) + (
        " …" if len(found) > most else ""
    )


def look_into(folder: Path) -> Contents:
    """What a folder of generated pictures holds."""
    pictures: list[Path] = []
    others: dict[str, int] = {}
    below: dict[str, int] = {}
    endings = frozenset(ending for ending, form in Image.registered_extensions().items() if form in FORMATS)
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            # What cannot be listed is not counted: it is a count for a notice, of what is not taken anyway.
            files = (Path(name) for _, _, names in walk(str(path), lambda problem: None) for name in names)
            if inside := sum(_is_picture(file, endings) for file in files):
                below[f"in {path.name}/"] = inside
        elif _is_picture(path, endings):
            if not GRID.fullmatch(path.name):
                pictures.append(path)
        else:
            kind = "hidden" if path.name.startswith(".") else path.suffix.lower() or "without an ending"
            others[kind] = others.get(kind, 0) + 1
    return Contents(pictures, others, below)


def _is_picture(path: Path, endings: frozenset[str]) -> bool:
    return path.suffix.lower() in endings and not path.name.startswith(".")


def _of_folder(folder: Path, data: PictureSet, settings: EvaluateSettings) -> Generated:
    """The folder's pictures in the order of their names, whatever ingest would read."""
    contents = look_into(folder)
    paths = contents.pictures
    if not paths:
        but = "".join(f"; {words}" for words in contents.passed_over)
        raise WrongInput(
            f"generated: {folder} itself holds no pictures (PNG, JPEG, WebP …){but}; give a folder of generated pictures, a checkpoint or a model reference"
        )
    if settings.evaluate_n not in (0, len(paths)):
        raise WrongInput(
            f"evaluate_n: {settings.evaluate_n}, but {folder} holds {len(paths)} pictures; give that, or leave it out"
        )
    if settings.seeds != 1:
        raise WrongInput(f"seeds: {settings.seeds}, but a folder is one draw; leave seeds out, or name a model")
    digest = hashlib.sha256()

    def read() -> Iterator[Tensor]:
        for start in range(0, len(paths), READ):
            batch = np.stack([_read_picture(path, data.image_size) for path in paths[start : start + READ]])
            images = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
            digest.update(images.numpy().tobytes())
            yield images

    return Generated(
        len(paths),
        [read()],
        lambda: {"pictures": str(folder), "sha256": digest.hexdigest()},
        warnings=contents.passed_over,
    )


def _read_picture(path: Path, image_size: int) -> np.ndarray:
    try:
        picture = np.array(decode(read_plain(path, MAX_BYTES)))
    except (Unusable, OSError) as problem:
        raise WrongInput(
            f"generated: {path} cannot be used: {getattr(problem, 'strerror', None) or problem}; draw it again, or remove it"
        ) from None
    if picture.shape[:2] != (image_size, image_size):
        raise WrongInput(
            f"generated: {path} is {picture.shape[1]}x{picture.shape[0]}, and the data set's pictures are {image_size}x{image_size}; sizes must be equal"
        )
    return picture
