"""How pictures are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.fields import Typed, require, setting
from ddpm.settings.model import ModelSettings
from ddpm.settings.words import MOST

SAMPLERS = ["ancestral", "ddim", "dpm-solver++", "heun"]  # ddpm.model.sampling has them; `register` adds to them
CHURNING = ["heun"]  # those of them that take churn


@dataclass(frozen=True)
class DrawSettings(Typed):
    """How pictures are drawn from a model."""

    sampler: str = setting("ddim", "how noise becomes a picture", choices=SAMPLERS)
    sampling_steps: int = setting(250, "steps of the sampler", low=1, high=100_000)
    churn: float = setting(0.0, "S_churn, noise that the sampler heun adds on the way", low=0, high=MOST, zero="none")
    guidance: float = setting(
        1.0,
        "guidance of networks with classes (classifier-free), or away from a weaker model; 1: none",
        low=0,
        high=1000,
    )
    sample_batch: int = setting(256, "pictures that go through the network at once", low=1, high=65_536)

    def check(self) -> None:
        require(
            self.churn == 0 or self.sampler in CHURNING,
            "churn",
            self.churn,
            f"0 for the sampler {self.sampler}; only {', '.join(CHURNING)} churns",
        )


def require_guidance(guide: str, drawing: DrawSettings) -> None:
    """Raise WrongInput where a guide is given that nothing is led away from."""
    require(
        not guide or drawing.guidance > 1, "guidance", drawing.guidance, "more than 1, as 1.25, where there is a guide"
    )


def require_drawable(model: ModelSettings, drawing: DrawSettings, guided: bool = False) -> None:
    """Raise WrongInput where no pictures can be drawn so from such a model; `guided`: it has a weaker one as its guide."""
    require(
        model.objective == "edm" or drawing.sampling_steps <= model.timesteps,
        "sampling_steps",
        drawing.sampling_steps,
        f"at most the model's timesteps, {model.timesteps}",
    )
    require(
        drawing.guidance == 1 or model.classes > 0 or guided,
        "guidance",
        drawing.guidance,
        "1 (none) for a model with neither classes nor a guide",
    )
