"""A model that draws: the one door from weights to pictures."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, SupportsIndex, TypeVar

import torch
from torch import Tensor, nn

from ddpm.device import keep_memory, pick_device, placed, threads_for
from ddpm.errors import WrongInput
from ddpm.model.diffusion import Denoiser, Diffusion, to_uint8
from ddpm.model.sampling import SAMPLERS, Between, PictureNoise, Watch, evaluations
from ddpm.settings import DrawSettings, ModelSettings, require_drawable

T = TypeVar("T")
AUTOCAST = {"cuda"}  # kinds of device on which the network draws in bf16
Seed = SupportsIndex | Between
Label = int | Sequence[int | None] | None  # of all pictures, or of each; None: the seed's own
BATCH = 16  # pictures at once where nobody asks for more: few enough for a request of one, on a CPU too


@dataclass(frozen=True)
class Origin:
    """Where a model's weights come from."""

    reference: str = ""  # models:/NAME/VERSION, or where its files lie
    checkpoint: str = ""  # the checkpoint's URI
    weights_sha256: str = ""  # of the file that holds the weights
    images_seen: int = 0
    dataset_digest: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # the network's and its training's, flat, as they were kept


def suited(settings: ModelSettings) -> DrawSettings:
    """How pictures of any model may be drawn: 250 steps of DDIM, or as many as its process has."""
    most = 250 if settings.objective == "edm" else min(250, settings.timesteps)
    return DrawSettings(sampler="ddim", sampling_steps=most, sample_batch=BATCH)


def whole_numbers(seeds: Iterable[Seed]) -> list[int | Between]:
    """Seeds as Python's own numbers: numpy's and torch's mean the same picture. Raises WrongInput for what is no seed."""
    try:
        found = [seed if isinstance(seed, Between) else operator.index(seed) for seed in seeds]
    except TypeError:
        raise WrongInput(f"seeds: {seeds!r} will not do; give whole numbers, as in range(16) or [3, 7]") from None
    numbers = [part for seed in found for part in ((seed.first, seed.second) if isinstance(seed, Between) else (seed,))]
    if numbers and min(numbers) < 0:
        raise WrongInput(f"seeds: {min(numbers)} will not do; seeds are whole numbers from 0")
    return found


def padded(values: Sequence[T], batch: int) -> list[T]:
    """As many as `batch`, the last one repeated."""
    return [*values, *[values[-1]] * (batch - len(values))]


def label_of(seed: int | Between, classes: int) -> int:
    """The class of a seed's picture where none is asked for; between two seeds, the first's."""
    return (seed.first if isinstance(seed, Between) else seed) % classes


@dataclass(frozen=True)
class Model:
    """A network with its weights, and all that one must know to draw pictures from it.

    `drawing` is how it draws where nothing else is asked for: a registered version's own way, or what suits any model.
    """

    net: nn.Module
    settings: ModelSettings
    image_size: int
    drawing: DrawSettings
    origin: Origin = Origin()
    guide: Model | None = None  # a weaker one of the same pictures, which `guidance` above 1 leads away from
    device: torch.device | str | None = None  # where it draws; None: pick_device()

    @property
    def place(self) -> torch.device:
        """Where it draws."""
        return torch.device(self.device or pick_device())

    @property
    def facts(self) -> dict[str, Any]:
        """How it draws, as versions that release 0.1 registered ask for it: they carry that question."""
        return dataclasses.asdict(self.drawing)

    def drawing_with(self, **given: Any) -> DrawSettings:
        """Its own way of drawing, but for what is given and not None. Churn belongs to its sampler, and goes with it."""
        changes = {name: value for name, value in given.items() if value is not None}
        own = dataclasses.asdict(self.drawing)
        if changes.get("sampler", self.drawing.sampler) != self.drawing.sampler:
            own.pop("churn")
        return DrawSettings(**{**own, **changes})

    def guided_by(self, weaker: Model) -> Model:
        """The same model with a weaker one as its guide: `guidance` above 1 then leads away from what that one draws.

        Autoguidance (Karras et al. 2024, https://arxiv.org/abs/2406.02507). The guide may be of any size and objective, and
        serves best as a short training of the same kind. Raises WrongInput where it is of another size or other classes,
        or this very model.
        """
        weaker.require_guides(self.image_size, self.settings.classes)
        if weaker.origin.weights_sha256 and weaker.origin.weights_sha256 == self.origin.weights_sha256:
            raise WrongInput("guide: it has the model's own weights, and leads nowhere; give a weaker model")
        return dataclasses.replace(self, guide=weaker)

    def require_guides(self, image_size: int, classes: int) -> None:
        """Raise WrongInput where this model cannot be the guide of one of such pictures."""
        for name, own, other in (
            ("picture size", image_size, self.image_size),
            ("number of classes", classes, self.settings.classes),
        ):
            if own != other:
                raise WrongInput(
                    f"guide: its {name} is {other}, and the model's is {own}; give one of the same pictures"
                )

    def asked_through(self, through: Callable[[nn.Module], nn.Module]) -> Model:
        """The same model, whose network, and its guide's, is asked by way of `through(network)`."""
        guide = self.guide and self.guide.asked_through(through)
        return dataclasses.replace(self, net=through(self.net), guide=guide)

    def quick(self, steps: int, sample_batch: int) -> DrawSettings:
        """DPM-Solver++ in few steps, at most as many as the process has: for previews, and for scores on the way."""
        most = steps if self.settings.objective == "edm" else min(steps, self.settings.timesteps)
        return DrawSettings(sampler="dpm-solver++", sampling_steps=most, sample_batch=sample_batch)

    def draw(self, seeds: Iterable[Seed], drawing: DrawSettings | None = None, label: Label = None) -> Tensor:
        """Pictures uint8 [n, 3, image_size, image_size] on the CPU, one for each seed; see `draw_batches`."""
        batches = list(self.draw_batches(seeds, drawing, label))
        return torch.cat(batches) if batches else torch.zeros(0, 3, self.image_size, self.image_size, dtype=torch.uint8)

    def draw_batches(
        self,
        seeds: Iterable[Seed],
        drawing: DrawSettings | None = None,
        label: Label = None,
        watch: Watch | None = None,
    ) -> Iterator[Tensor]:
        """Pictures, one for each seed, in batches as they are drawn: uint8 [b, 3, image_size, image_size] on the CPU.

        Every batch has the same shape, `sample_batch`, and the last is padded, so that on one device a seed's picture has
        the same bytes whatever else is drawn. A request for fewer is padded too: the shape chooses the arithmetic. A seed
        may be a place `Between` two of them. Of a network with classes a seed's picture is of class `label`, which may be
        a list, one for each; without one, of class seed mod classes (between two, the first's). `watch` sees each step's
        state (see `ddpm.model.sampling`), of padded batches too.

        Raises WrongInput where the model cannot draw so, has no such class, or a seed is no whole number from 0.
        """
        drawing = drawing or self.drawing
        wanted = whole_numbers(seeds)
        require_drawable(self.settings, drawing, self.guide is not None)
        return self._batches(wanted, drawing, self._labels(wanted, label), watch)

    def _labels(self, seeds: Sequence[int | Between], label: Label) -> list[int] | None:
        """Each picture's class; None for a network without classes. Raises WrongInput for a class that it has not."""
        classes = self.settings.classes
        given = list(label) if isinstance(label, Sequence) else [label] * len(seeds)
        if len(given) != len(seeds):
            raise WrongInput(f"label: {len(given)} are given for {len(seeds)} pictures; give one, or one for each")
        for one in given:
            if one is not None and not 0 <= one < classes:
                has = f"classes 0 to {classes - 1}" if classes else "no classes"
                raise WrongInput(f"label: {one} will not do; the model has {has}")
        return (
            [label_of(seed, classes) if one is None else one for seed, one in zip(seeds, given, strict=True)]
            if classes
            else None
        )

    def evaluations(self, drawing: DrawSettings | None = None) -> int:
        """Network evaluations a picture (NFE); guidance asks twice each time."""
        drawing = drawing or self.drawing
        continuous = self.settings.objective == "edm"
        steps = drawing.sampling_steps if continuous else min(drawing.sampling_steps, self.settings.timesteps)
        guided = drawing.guidance != 1  # which is refused where there is neither a guide nor a class
        return evaluations(drawing.sampler, steps) * (2 if guided else 1)

    def denoiser(self, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """The network as D(x, sigma) on the model's device, in the precision in which pictures are drawn there."""
        device = self.place
        net = placed(self.net, device).eval()
        guide = None
        if self.guide and guidance != 1:
            guide = dataclasses.replace(self.guide, device=device).denoiser(labels)
        return Denoiser(net, Diffusion(self.settings).to(device), device.type in AUTOCAST, labels, guidance, guide)

    @torch.inference_mode()
    def _batches(
        self, seeds: Sequence[int | Between], drawing: DrawSettings, told: list[int] | None, watch: Watch | None
    ) -> Iterator[Tensor]:
        """The samplers branch on sigma, which stays on the CPU so that they need not wait for the device."""
        device, batch = self.place, drawing.sample_batch
        keep_memory(device)
        row = SAMPLERS[drawing.sampler]
        solve = partial(row.solve, churn=drawing.churn) if row.churns else row.solve
        for start in range(0, len(seeds), batch):
            wanted = padded(seeds[start : start + batch], batch)
            noise = PictureNoise(wanted, self.image_size, device)
            labels = None if told is None else torch.tensor(padded(told[start : start + batch], batch), device=device)
            denoise = self.denoiser(labels, drawing.guidance)
            sigmas = denoise.diffusion.sampling_sigmas(drawing.sampling_steps)
            with threads_for(self.settings.base_channels, device):
                pictures = solve(denoise, denoise.diffusion.prior(noise(), sigmas[0]), sigmas, noise, watch)
            yield to_uint8(pictures[: len(seeds) - start]).cpu().contiguous()
