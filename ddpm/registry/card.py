"""A model's card: what it is, how one draws from it, and what was measured of it."""

from __future__ import annotations

import json

from ddpm.evaluation.figures.table import FIGURES
from ddpm.evaluation.report import Report
from ddpm.model.model import Model


def card(model: Model, form: str, weights: str, report: Report | None) -> str:
    """README.md: what the model is, how one draws from it, and what was measured."""
    settings, origin, size = model.settings, model.origin, model.image_size
    averaged = "averaged (EMA)" if weights == "ema" else "raw, not averaged"
    lines = [
        f"# A diffusion model of {size}×{size} pictures",
        "",
        f"- U-Net: channel multipliers {settings.channel_mults}, base {settings.base_channels}, {settings.blocks} blocks, attention at {settings.attention_resolution} pixels and below; {sum(p.numel() for p in model.net.parameters()):,} parameters",
        f"- Objective {settings.objective}, schedule {settings.schedule}, {settings.timesteps} timesteps",
        f"- Weights: {averaged}, after {origin.images_seen:,} pictures seen of the data set {origin.dataset_digest or 'unknown'}",
        f"- From: {origin.reference}",
        "",
        "## Draw from it",
        "",
    ]
    if form == "diffusers":
        lines += [
            "```python",
            "from diffusers import DDPMPipeline",
            "",
            'pipeline = DDPMPipeline.from_pretrained(".")',
            f"image = pipeline(num_inference_steps={settings.timesteps}).images[0]",
            "```",
        ]
    else:
        lines += ["    ddpm sample --model . --n 16 --out pictures"]
    if report is not None:
        floor, fid, kid = report["noise_floor"], FIGURES["fid"], FIGURES["kid"]
        lines += [
            "",
            "## Figures",
            "",
            f"| {fid.named(report)} | {kid.named(report)} | noise floor, real against real | pictures |",
            "|---|---|---|---|",
            f"| {report['fid']:.4g} ± {report['fid_std']:.2g} | {report['kid']:.4g} ± {report['kid_std']:.2g} | {floor['fid']:.4g}, KID {floor['kid']:.2g} | {report['n']:,} |",
            "",
            "They compare with figures of the same measurement alone. How it was measured:",
            "",
            "```json",
            json.dumps(report["protocol"], indent=1, sort_keys=True),
            "```",
        ]
    return "\n".join(lines) + "\n"
