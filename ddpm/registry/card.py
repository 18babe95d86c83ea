"""A model's card: what it is, how one draws from it, what was measured of it, what it is for, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ddpm.evaluation.figures.table import FIGURES
from ddpm.evaluation.report import Copying, NoiseFloor, Report, number_in
from ddpm.model.model import Model

UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Provenance:
    """Where a version comes from, as far as it is known."""

    dataset_name: str = ""
    dataset_licence: str = ""
    study: str = ""
    trial: str = ""
    commit: str = ""
    image: str = ""  # the container's


def card(
    model: Model,
    form: str,
    weights: str,
    report: Report | None,
    provenance: Provenance | None = None,
    grid: str = "",
    short: bool = False,
) -> str:
    """README.md, in Markdown.

    Args:
        form: safetensors, diffusers or space, of a folder; or a version's reference, models:/NAME/VERSION.
        weights: ema or raw.
        grid: where a picture of samples is, from the card's place.
        short: without what a program reads.
    """
    settings, origin, size = model.settings, model.origin, model.image_size
    averaged = "averaged (EMA)" if weights == "ema" else "raw, not averaged"
    lines = [
        f"# A diffusion model of {size}×{size} pictures",
        "",
        *([f"![samples: the first seeds, not chosen]({grid})", ""] if grid else []),
        f"- U-Net: channel multipliers {settings.channel_mults}, base {settings.base_channels}, {settings.blocks} blocks, attention at {settings.attention_resolution} pixels and below; {sum(p.numel() for p in model.net.parameters()):,} parameters",
        f"- Objective {settings.objective}, schedule {settings.schedule}, {settings.timesteps} timesteps",
        f"- Weights: {averaged}, after {origin.images_seen:,} pictures seen of the data set {origin.dataset_digest or 'unknown'}",
        *([_guide(model, model.guide)] if model.guide else []),
        *([f"- From: {place}"] if (place := _from(model, form)) else []),
        "",
        "## Draw from it",
        "",
        *_how_to_draw(model, form),
    ]
    if report is not None:
        lines += _figures(report, short)
    if provenance is not None:
        lines += [*_intended_use(provenance), *_provenance(model, provenance)]
    return "\n".join(lines) + "\n"


def _guide(model: Model, guide: Model) -> str:
    origin = guide.origin
    return f"- Guided: by {model.drawing.guidance:g} away from a weaker model of the same pictures (sha256 {origin.weights_sha256[:12]}…, after {origin.images_seen:,} pictures seen), which comes with it"


def _from(model: Model, form: str) -> str:
    return model.origin.reference if form in ("safetensors", "diffusers") else model.origin.checkpoint


def _how_to_draw(model: Model, form: str) -> Sequence[str]:
    if form == "diffusers":
        return [
            "```python",
            "from diffusers import DDPMPipeline",
            "",
            'pipeline = DDPMPipeline.from_pretrained(".")',
            f"image = pipeline(num_inference_steps={model.settings.timesteps}).images[0]",
            "```",
        ]
    reference = {"safetensors": ".", "space": "model"}.get(form, form)
    return [f"    ddpm sample --model {reference} --n 16 --out pictures"]


def _figures(report: Report, short: bool) -> list[str]:
    floor = report.get("noise_floor") or NoiseFloor()
    rows = [
        f"| {FIGURES[key].named(report)} | {_number(number_in(report, key))} | {_between(report, key)} | {_number(number_in(floor, key))} |"
        for key in ("fid", "kid", "precision", "recall")
        if number_in(report, key) is not None
    ]
    of = f"Of {report['n']:,} pictures. " if "n" in report else ""
    lines = [
        "",
        "## Figures",
        "",
        f"{of}They compare with figures of the same measurement alone.",
        "",
        "| figure | value | 95% interval | noise floor, real against real |",
        "|---|---|---|---|",
        *rows,
        "",
        "## Copying",
        "",
        _copying(report.get("copying")),
    ]
    if not short:
        protocol = json.dumps(report["protocol"], indent=1, sort_keys=True)
        lines += ["", "## How it was measured", "", "```json", protocol, "```"]
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _between(report: Report, key: str) -> str:
    ends = (report.get("intervals") or {}).get(key) or []
    if len(ends) == 2 and None not in ends:  # nobody knows those of a figure that was not finite
        return f"{ends[0]:.4g} to {ends[1]:.4g}"
    std = number_in(report, f"{key}_std")
    return "" if std is None else f"± {1.96 * std:.2g}"


def _copying(found: Copying | None) -> str:
    if not found:
        return "Nobody looked whether it copies its training pictures."
    usual = found.get("share_held_out")
    beside = "" if usual is None else f" Of held-out real pictures {usual:.1%} look so too."
    return f"{found['share']:.1%} of its pictures look like copies of training pictures.{beside}"


def _intended_use(of: Provenance) -> list[str]:
    data = f"the data set {of.dataset_name}" if of.dataset_name else "its data set"
    return [
        "",
        "## Intended use",
        "",
        f"Drawing pictures like those of {data}, each from a number: for study, for tests, for play. It takes no text, and knows nothing but these pictures.",
        "",
        "Not for passing its pictures off as photographs of what was there, nor beyond what the data's licence allows: "
        f"{of.dataset_licence or UNKNOWN}.",
    ]


def _provenance(model: Model, of: Provenance) -> list[str]:
    facts = {
        "data set": f"{of.dataset_name} {model.origin.dataset_digest or ''}".strip(),
        "licence of the data": of.dataset_licence,
        "study": of.study,
        "trial": of.trial,
        "commit": of.commit,
        "image": of.image,
        "sha256 of the weights": model.origin.weights_sha256,
    }
    return ["", "## Provenance", "", *(f"- {name}: {value or UNKNOWN}" for name, value in facts.items())]
