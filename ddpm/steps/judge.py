"""A vision model's word on generated pictures, with real ones and others among them as controls."""

from __future__ import annotations

from ddpm.data.dataset import open_dataset
from ddpm.evaluation.report import Verdict
from ddpm.judge.controls import judge_with_controls
from ddpm.registry.version import resolve_or_folder
from ddpm.settings import DrawSettings, EvaluateSettings, JudgeSettings
from ddpm.workplace import Workplace


def judge(
    place: Workplace, generated: str, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings, asked: JudgeSettings
) -> Verdict:  # fmt: skip
    """The verdict on pictures of a folder, a checkpoint or a model reference (ddpm/judge)."""
    data, found = open_dataset(dataset_uri), resolve_or_folder(generated, place.tracking_uri)
    return judge_with_controls(found, generated, data, settings, drawing, asked, place.store, place.progress)
