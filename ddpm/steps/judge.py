"""A vision model's word on generated pictures, with real ones and others among them as controls."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.errors import WrongInput
from ddpm.judge import judge as judging
from ddpm.evaluation.generated import first_pictures
from ddpm.randomness import generator
from ddpm.registry.version import resolve_or_folder
from ddpm.settings import DrawSettings, EvaluateSettings, JudgeSettings
from ddpm.workplace import Workplace

KEY = "DDPM_JUDGE_KEY"  # in the environment, and nowhere else


def judge(
    place: Workplace, generated: str, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings, asked: JudgeSettings
) -> dict[str, Any]:  # fmt: skip
    """The verdict of `ddpm.evaluation.judge` on the first `judge_n` pictures of a folder, a checkpoint or a model."""
    if not asked.judge_url:
        raise WrongInput("judge_url: missing; give the address of an OpenAI-compatible endpoint, as in https://host/v1")
    data = open_dataset(dataset_uri)
    judging.check_judge(asked, data.image_size)
    n = asked.judge_n
    # Unseen pictures where there are enough of them: the judge has seen neither, so training pictures do as well.
    split = "held out" if len(data.held_out) >= n else "training"
    real = data.held_out.images if split == "held out" else data.train.images
    found = resolve_or_folder(generated, place.tracking_uri)
    pictures = {
        "generated": first_pictures(found, data, settings, drawing, n, place.progress),
        "real": _some(real, n, asked.judge_seed, "real"),
        "other": _others(data, asked),
    }
    verdict = judging.judge(pictures, asked, _key(), place.store, place.progress)
    other = asked.judge_other or "real pictures, their 4x4 tiles shuffled"
    verdict["protocol"] |= {"generated": generated, "real": f"{split} pictures of {dataset_uri}", "other": other}
    return verdict


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
    return judging.scrambled(real, settings.judge_seed)


def _some(images: Tensor, n: int, seed: int, kind: str) -> Tensor:
    return images[torch.randperm(len(images), generator=generator("cpu", "judge", kind, seed))[:n]]
