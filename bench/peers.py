"""The contestants: ours, diffusers and denoising-diffusion-pytorch, each as its own users train and sample with it.

Each function takes a Contest and returns a piece of work: called, it trains on one batch or draws one, and returns the
number of pictures. Peers are set as in their own training scripts, optimizer, average, data and logging included
(diffusers: examples/unconditional_image_generation/train_unconditional.py; denoising-diffusion-pytorch: its Trainer),
but for what the contest fixes: picture size, batch, precision, whether compiled, and pictures in memory instead of
files.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ddpm.errors import WrongInput
from ddpm.settings import ModelSettings, TrainSettings, parse_mults

Work = Callable[[], int]
PICTURES = 512  # of noise: what they show does not change how long they take
LR = 1e-4  # the peers' own
PRECISIONS = ("fp32", "bf16")  # bf16: autocast round the network


@dataclass(frozen=True)
class Contest:
    """What is the same for all. The network is a peer's width and multipliers, or our own settings."""

    image_size: int
    batch: int
    precision: str  # fp32, or bf16 autocast
    compile: bool
    device: str
    mults: str
    base_channels: int
    blocks: int = 2
    attention_resolution: int = 16
    nfe: int = 0  # network evaluations a picture; 0: train

    @property
    def autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def model(self) -> ModelSettings:
        return ModelSettings(
            channel_mults=self.mults, base_channels=self.base_channels, blocks=self.blocks,
            attention_resolution=self.attention_resolution,
        )  # fmt: skip


def require_precision(name: str) -> str:
    """The name itself. Raises WrongInput for one that nobody trains in here."""
    if name not in PRECISIONS:
        raise WrongInput(f"precision: {name!r} is none; give {' or '.join(PRECISIONS)}")
    return name


def _pictures(image_size: int) -> Tensor:
    """uint8 [PICTURES, 3, image_size, image_size]."""
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (PICTURES, 3, image_size, image_size), dtype=torch.uint8, generator=drawn)


def _compiled(net: nn.Module, contest: Contest) -> None:
    if contest.compile:
        net.compile()


# -- ours ----------------------------------------------------------------------------------------------------------


def ours_training(contest: Contest) -> Work:
    """The trainer's own step: data, noise, network, clipping, spike guard, optimizer and average."""
    from ddpm.data.dataset import PictureSet, Split
    from ddpm.data.manifest import Manifest
    from ddpm.training.trainer import Trainer
    from ddpm.training.world import World

    train = Split(_pictures(contest.image_size), torch.full((PICTURES,), -1))
    held_out = Split(train.images[:0], train.labels[:0])
    of_none = cast(Manifest, {})  # training does not look at it
    data = PictureSet("memory:noise", "0" * 64, "noise", contest.image_size, [], train, held_out, of_none)
    settings = TrainSettings(
        lr=LR, epochs=1_000_000, batch_size=contest.batch, precision=contest.precision,
        compile="always" if contest.compile else "never", held_out_every=1_000_000,
    )  # fmt: skip
    out = tempfile.mkdtemp(prefix="ddpm-bench-")  # stays empty: no checkpoint is written
    trainer = Trainer(contest.model, settings, data, out, World(torch.device(contest.device)))

    def work() -> int:
        trainer.step()
        if trainer.schedule.is_check(trainer.steps_done):
            trainer.check()
        return contest.batch

    return work


def ours_sampling(contest: Contest) -> Work:
    from ddpm.model.model import Model
    from ddpm.model.unet import UNet
    from ddpm.settings import DrawSettings

    net = UNet(contest.model, contest.image_size)
    _compiled(net, contest)

    drawing = DrawSettings(sampler="ddim", sampling_steps=contest.nfe, sample_batch=contest.batch)
    model = Model(net, contest.model, contest.image_size, drawing, device=torch.device(contest.device))

    def work() -> int:
        return len(model.draw(range(contest.batch)))

    return work


# -- diffusers -----------------------------------------------------------------------------------------------------


def diffusers_unet(contest: Contest) -> nn.Module:
    """UNet2DModel with the contest's multipliers and attention; all else, its heads of 8 channels too, by default."""
    from diffusers import UNet2DModel

    mults = parse_mults(contest.mults)
    attends = [contest.image_size // 2**level <= contest.attention_resolution for level in range(len(mults))]
    unet: Any = UNet2DModel(
        sample_size=contest.image_size,
        layers_per_block=contest.blocks,
        block_out_channels=tuple(contest.base_channels * mult for mult in mults),
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        norm_num_groups=math.gcd(32, contest.base_channels),
    )
    return unet


class _InMemory(Dataset[Tensor]):
    """Pictures as floats in low ... 1, mirrored at random, one at a time, as their DataLoaders take them."""

    def __init__(self, images: Tensor, low: float) -> None:
        self.images, self.low = images, low

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return image.float() * ((1 - self.low) / 255) + self.low


def _batches(contest: Contest, low: float) -> Iterator[Tensor]:
    loader = DataLoader(
        _InMemory(_pictures(contest.image_size), low), batch_size=contest.batch, shuffle=True, drop_last=True,
        pin_memory=contest.device != "cpu",
    )  # fmt: skip
    while True:
        yield from loader


def diffusers_training(contest: Contest) -> Work:
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    net = diffusers_unet(contest).to(contest.device).train()
    average = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)
    average.to(contest.device)
    process: Any = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=100_000)
    batches = _batches(contest, low=-1.0)
    _compiled(net, contest)

    def work() -> int:
        clean = next(batches).to(contest.device)
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, 1000, (len(clean),), device=clean.device)
        noisy = process.add_noise(clean, noise, timesteps)
        with contest.autocast:
            predicted = net(noisy, timesteps).sample
        loss = F.mse_loss(predicted.float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(net.parameters())
        loss.item()  # logged at every step
        return contest.batch

    return work


def diffusers_sampling(contest: Contest) -> Work:
    from diffusers import DDIMPipeline, DDIMScheduler

    net: Any = diffusers_unet(contest).to(contest.device).eval()
    _compiled(net, contest)
    pipeline: Any = DDIMPipeline(net, DDIMScheduler(num_train_timesteps=1000))
    pipeline.set_progress_bar_config(disable=True)

    def work() -> int:
        with contest.autocast:
            return len(pipeline(batch_size=contest.batch, num_inference_steps=contest.nfe, output_type="np").images)

    return work


# -- denoising-diffusion-pytorch -----------------------------------------------------------------------------------


def lucidrains_unet(contest: Contest) -> nn.Module:
    """Its Unet with the contest's multipliers; attention where it has it: linear, and full at the last level."""
    from denoising_diffusion_pytorch import Unet

    return Unet(dim=contest.base_channels, dim_mults=parse_mults(contest.mults))


def lucidrains_training(contest: Contest) -> Work:
    from denoising_diffusion_pytorch import GaussianDiffusion
    from ema_pytorch import EMA

    net = lucidrains_unet(contest)
    process = GaussianDiffusion(net, image_size=contest.image_size, timesteps=1000).to(contest.device).train()
    optimizer = torch.optim.Adam(process.parameters(), lr=LR, betas=(0.9, 0.99))
    average = EMA(process, beta=0.995, update_every=10).to(contest.device)
    batches = _batches(contest, low=0.0)
    _compiled(net, contest)

    def work() -> int:
        data = next(batches).to(contest.device)
        with contest.autocast:
            loss = process(data)
        loss.item()  # logged at every step
        loss.backward()
        nn.utils.clip_grad_norm_(process.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        return contest.batch

    return work


def lucidrains_sampling(contest: Contest) -> Work:
    from denoising_diffusion_pytorch import GaussianDiffusion

    net = lucidrains_unet(contest)
    process = GaussianDiffusion(net, image_size=contest.image_size, timesteps=1000, sampling_timesteps=contest.nfe)
    process = process.to(contest.device).eval()
    _compiled(net, contest)

    def work() -> int:
        with contest.autocast:
            return len(process.sample(batch_size=contest.batch))

    return work


# -- the machine ---------------------------------------------------------------------------------------------------


def matrix_products(contest: Contest) -> Work:
    """Square matrix products in the contest's precision; returns FLOPs instead of pictures."""
    size = 8192 if contest.device != "cpu" else 4096  # smaller ones fall short of what convolutions reach
    kind = torch.bfloat16 if contest.precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=contest.device, dtype=kind) for _ in range(2))

    def work() -> int:
        torch.mm(a, b)
        return 2 * size**3

    return work


OURS, DIFFUSERS, LUCIDRAINS, MATRIX = "ours", "diffusers", "denoising-diffusion-pytorch", "matrix products"
NETWORKS: dict[str, Callable[[Contest], nn.Module]] = {DIFFUSERS: diffusers_unet, LUCIDRAINS: lucidrains_unet}
TRAINING: dict[str, Callable[[Contest], Work]] = {
    OURS: ours_training, DIFFUSERS: diffusers_training, LUCIDRAINS: lucidrains_training, MATRIX: matrix_products,
}  # fmt: skip
SAMPLING: dict[str, Callable[[Contest], Work]] = {
    OURS: ours_sampling, DIFFUSERS: diffusers_sampling, LUCIDRAINS: lucidrains_sampling, MATRIX: matrix_products,
}  # fmt: skip
