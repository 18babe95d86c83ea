"""What a judge is shown: generated pictures, and among them, as controls, real ones and something else."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.data.manifest import read_manifest
from ddpm.errors import WrongInput
from ddpm.evaluation.generated import first_pictures
from ddpm.evaluation.report import Verdict
from ddpm.judge.judge import judge
from ddpm.model.model import Model
from ddpm.progress import Progress
from ddpm.randomness import generator
from ddpm.settings import DrawSettings, EvaluateSettings, JudgeSettings
from ddpm.store import Store

KEY = "DDPM_JUDGE_KEY"  # in the environment, and nowhere else
TILES = 4  # a side, of a picture whose tiles are shuffled


def judge_with_controls(
    found: Model | Path, name: str, data: PictureSet, settings: EvaluateSettings, drawing: DrawSettings, asked: JudgeSettings,
    store: Store, progress: Progress,
) -> Verdict:  # fmt: skip
    """The verdict on the first `judge_n` pictures of a model or a folder, which the verdict's protocol calls `name`.

    Raises WrongInput where nobody is to be asked, or the pictures cannot be had as asked for.
    """
    if not asked.judge_url:
        raise WrongInput("judge_url: missing; give the address of an OpenAI-compatible endpoint, as in https://host/v1")
    check_judge(asked, data.image_size)
    n = asked.judge_n
    # Unseen pictures where there are enough of them: the judge has seen neither, so training pictures do as well.
    split = "held out" if len(data.held_out) >= n else "training"
    real = data.held_out.images if split == "held out" else data.train.images
    pictures = {
        "generated": first_pictures(found, data, settings, drawing, n, progress),
        "real": _some(real, n, asked.judge_seed, "real"),
        "other": _others(data, asked),
    }
    verdict = judge(pictures, asked, _key(), store, progress)
    other = asked.judge_other or "real pictures, their 4x4 tiles shuffled"
    verdict["protocol"] |= {"generated": name, "real": f"{split} pictures of {data.uri}", "other": other}
    return verdict


def check_judge(settings: JudgeSettings, image_size: int) -> None:
    """Raise WrongInput unless the data set of something else is there, with pictures of the same size."""
    if settings.judge_url and settings.judge_other:
        size = read_manifest(settings.judge_other)[1]["image_size"]
        if size != image_size:
            raise WrongInput(
                f"judge_other: its pictures have {size} px and the others {image_size} px, by which a judge would know them; give one of the same size"
            )


def _key() -> str:
    """The key, without the end of line that a file's has. Raises WrongInput, without its words, for what no header takes."""
    found = os.environ.get(KEY, "").strip()
    if not (found.isascii() and found.isprintable()):
        raise WrongInput(f"{KEY}: it holds characters that no HTTP header takes; set it again")
    return found


def _others(data: PictureSet, settings: JudgeSettings) -> Tensor:
    if settings.judge_other:
        return _some(open_dataset(settings.judge_other).train.images, settings.judge_n, settings.judge_seed, "other")
    real = _some(data.train.images, settings.judge_n, settings.judge_seed, "other")
    return scrambled(real, settings.judge_seed)


def _some(images: Tensor, n: int, seed: int, kind: str) -> Tensor:
    return images[torch.randperm(len(images), generator=generator("cpu", "judge", kind, seed))[:n]]


def scrambled(images: Tensor, seed: int) -> Tensor:
    """Pictures uint8 [n,3,h,w] with their 4x4 tiles in another order, each in its own: the same colours, no subject."""
    n, _, h, w = images.shape
    tall, wide = -(-h // TILES), -(-w // TILES)
    padded = F.pad(images.float(), (0, wide * TILES - w, 0, tall * TILES - h), mode="replicate").to(torch.uint8)
    tiles = padded.unfold(2, tall, tall).unfold(3, wide, wide).flatten(2, 3)  # [n,3,16,tall,wide]
    for i in range(n):
        order = torch.randperm(TILES**2, generator=generator("cpu", "scrambled", seed, i))
        tiles[i] = tiles[i][:, order]
    joined = tiles.unflatten(2, (TILES, TILES)).permute(0, 1, 2, 4, 3, 5)
    return joined.reshape(n, 3, tall * TILES, wide * TILES)[:, :, :h, :w].contiguous()
