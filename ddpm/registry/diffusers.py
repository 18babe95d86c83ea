"""A model in diffusers' words: what `diffusers.DDPMPipeline.from_pretrained(DIR)` loads.

    model_index.json, unet/, scheduler/

diffusers itself is not needed to write its format.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from ddpm.errors import WrongInput
from ddpm.model.diffusion import Diffusion
from ddpm.model.model import Model
from ddpm.model.unet import CHANNELS
from ddpm.settings import ModelSettings, parse_mults

DIFFUSERS_VERSION = "0.42.1"  # whose names and formulas these are; from_pretrained only compares it with its own
MAX_BETA = 0.999
PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction"}


def as_json(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode()


def diffusers_files(model: Model) -> dict[str, bytes]:
    """The model as diffusers' UNet2DModel and DDPMScheduler. Raises WrongInput for what these cannot say."""
    settings, state = model.settings, model.net.state_dict()
    if settings.objective not in PREDICTION_TYPES:
        raise WrongInput(
            f"objective: {settings.objective} has no counterpart in diffusers' DDPMPipeline, whose network sees x_t at a whole timestep; export epsilon or v models, or choose --format safetensors"
        )
    if model.guide is not None:
        raise WrongInput(
            "guide: diffusers' DDPMPipeline has one network, and knows no guide; export its checkpoint, which has none, or choose --format safetensors"
        )
    if settings.classes:
        raise WrongInput(
            "classes: diffusers' DDPMPipeline gives its network no class labels; export a model with classes 0, or choose --format safetensors"
        )
    if parse_mults(settings.channel_mults)[0] != 1:
        raise WrongInput(
            f"channel_mults: {settings.channel_mults} does not begin with 1, and diffusers' UNet2DModel has no other beginning; choose --format safetensors"
        )
    weights = save_tensors(diffusers_weights(settings, state), metadata={"format": "pt"})
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": DIFFUSERS_VERSION,
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    return {
        "model_index.json": as_json(index),
        "unet/config.json": as_json(_unet_config(settings, model.image_size)),
        "unet/diffusion_pytorch_model.safetensors": weights,
        "scheduler/scheduler_config.json": as_json(_scheduler_config(settings)),
    }


def _unet_config(settings: ModelSettings, image_size: int) -> dict[str, Any]:
    """The same network in UNet2DModel's words."""
    mults = parse_mults(settings.channel_mults)
    attends = [image_size // 2**level <= settings.attention_resolution for level in range(len(mults))]
    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": DIFFUSERS_VERSION,
        "sample_size": image_size,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "block_out_channels": [settings.base_channels * mult for mult in mults],
        "layers_per_block": settings.blocks,
        "down_block_types": ["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends],
        "up_block_types": ["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)],
        "mid_block_type": "UNetMidBlock2D",
        "add_attention": True,
        "attention_head_dim": None,  # one head, of all channels
        "norm_num_groups": settings.base_channels // 4,
        "norm_eps": 1e-5,
        "act_fn": "silu",
        "dropout": settings.dropout,
        "time_embedding_type": "positional",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "resnet_time_scale_shift": "default",
        "downsample_type": "conv",
        "downsample_padding": 1,
        "upsample_type": "conv",
        "center_input_sample": False,
    }


def _scheduler_config(settings: ModelSettings) -> dict[str, Any]:
    """The same process in DDPMScheduler's words; the betas themselves where it has no name for them."""
    scale = 1000 / settings.timesteps
    betas: dict[str, Any]
    if settings.schedule == "linear" and 0.02 * scale <= MAX_BETA:
        betas = {"beta_schedule": "linear", "beta_start": 1e-4 * scale, "beta_end": 0.02 * scale}
    elif settings.schedule == "cosine":
        betas = {"beta_schedule": "squaredcos_cap_v2"}
    else:
        abar = Diffusion(settings).abar.double()
        betas = {"trained_betas": (1 - abar / torch.cat([torch.ones(1), abar[:-1]])).tolist()}
    return {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": DIFFUSERS_VERSION,
        "num_train_timesteps": settings.timesteps,
        **betas,
        "prediction_type": PREDICTION_TYPES[settings.objective],
        "variance_type": "fixed_small",  # the posterior's
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "timestep_spacing": "leading",
    }


def diffusers_weights(settings: ModelSettings, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's weights under UNet2DModel's names.

    The augmentation's embedding is left out: it has no bias and its labels are zero when one samples, so that it adds
    nothing. Raises KeyError where a weight is left that has no place there.
    """
    left = dict(state)
    left.pop("embed_augment.weight", None)
    found: dict[str, Tensor] = {}

    def layer(ours: str, theirs: str) -> None:
        for part in ("weight", "bias"):
            found[f"{theirs}.{part}"] = left.pop(f"{ours}.{part}").contiguous()

    def stage(ours: str, block: str, number: int) -> None:
        resnet = f"{block}.resnets.{number}"
        names = {"norm1": "norm1", "conv1": "conv1", "embedding": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
        for mine, other in names.items():
            layer(f"{ours}.block.{mine}", f"{resnet}.{other}")
        if f"{ours}.block.skip.weight" in left:
            layer(f"{ours}.block.skip", f"{resnet}.conv_shortcut")
        if f"{ours}.attention.qkv.weight" in left:
            attention(f"{ours}.attention", f"{block}.attentions.{number}")

    def attention(ours: str, theirs: str) -> None:
        """Theirs are linear layers over pixels where ours are convolutions of one pixel, with q, k and v in one."""
        layer(f"{ours}.norm", f"{theirs}.group_norm")
        for part in ("weight", "bias"):
            qkv = left.pop(f"{ours}.qkv.{part}").flatten(1) if part == "weight" else left.pop(f"{ours}.qkv.{part}")
            for name, rows in zip("qkv", qkv.chunk(3), strict=True):
                found[f"{theirs}.to_{name}.{part}"] = rows.contiguous()
        found[f"{theirs}.to_out.0.weight"] = left.pop(f"{ours}.out.weight").flatten(1).contiguous()
        found[f"{theirs}.to_out.0.bias"] = left.pop(f"{ours}.out.bias").contiguous()

    levels = len(parse_mults(settings.channel_mults))
    layer("embed.0", "time_embedding.linear_1")
    layer("embed.2", "time_embedding.linear_2")
    layer("head", "conv_in")
    place = 0  # in our flat list, where the layers that halve and double stand between the stages
    for level in range(levels):
        if level:
            layer(f"down.{place}", f"down_blocks.{level - 1}.downsamplers.0.conv")
            place += 1
        for number in range(settings.blocks):
            stage(f"down.{place}", f"down_blocks.{level}", number)
            place += 1
    stage("middle.0", "mid_block", 0)
    stage("middle.1", "mid_block", 1)
    place = 0
    for level in range(levels):
        for number in range(settings.blocks + 1):
            stage(f"up.{place}", f"up_blocks.{level}", number)
            place += 1
        if level < levels - 1:
            layer(f"up.{place}.conv", f"up_blocks.{level}.upsamplers.0.conv")
            place += 1
    layer("tail.0", "conv_norm_out")
    layer("tail.2", "conv_out")
    if left:
        raise KeyError(f"weights without a place in UNet2DModel: {', '.join(left)}")
    return found
