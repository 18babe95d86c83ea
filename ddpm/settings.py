"""What a person may set: frozen, typed, validated, one class a step.

A field has the same name here, on the command line, in the pipeline's parameters, in MLflow's params and in a
preset, so no name may appear in two classes. The defaults are the founding recipe for photographs (DDPM, Ho et al.
2020, https://arxiv.org/abs/2006.11239, at the founding experiment's rate and budget); `pipelines/presets/` holds the
other ones.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from ddpm.errors import WrongInput

FORMAT_VERSION = 1
OBJECTIVES = ("epsilon",)
SCHEDULES = ("linear",)
SAMPLERS = ("ancestral", "ddim", "dpm-solver++")
EXTRACTORS = ("inception", "classifier")
INCEPTION_LAYERS = (64, 192, 768, 2048)
FOUNDING_MULTS = "1-2-4-8 1-2-3-6 1-2-3 1-2-4"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def parse_mults(text: str) -> tuple[int, ...]:
    """Channel multipliers as people write them, `1-2-4`, as numbers, one for each resolution from the finest down."""
    if not re.fullmatch(r"[1-9][0-9]*(-[1-9][0-9]*)*", str(text)):
        raise WrongInput(
            f"channel_mults: '{text}' is not a list of multipliers; write whole numbers from 1 up, as in 1-2-4"
        )
    return tuple(int(part) for part in text.split("-"))


def require_halvable(image_size: int, channel_mults: str) -> None:
    """A U-Net of L levels halves its input L-1 times: refuse a size for which that does not come out even."""
    levels = len(parse_mults(channel_mults))
    step = 2 ** (levels - 1)
    if image_size % step:
        nearest = max(step, round(image_size / step) * step)
        raise WrongInput(
            f"image_size: {image_size} cannot be halved {levels - 1} times, as channel_mults {channel_mults} needs; "
            f"the nearest size that can is {nearest}"
        )


def require(ok: bool, name: str, value: Any, right: str) -> None:
    if not ok:
        raise WrongInput(f"{name}: {value!r} will not do; it must be {right}")


def require_name(name: str, value: str) -> None:
    require(
        bool(NAME.fullmatch(value)) and len(value) <= 100,
        name,
        value,
        "letters, digits, '.', '_' and '-', beginning with a letter or digit, and at most 100 of them",
    )


class Typed:
    """Checks each field's type on construction, so that a preset's `lr: fast` is caught where it enters."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, spec.name, _as_type(spec.name, spec.type, getattr(self, spec.name)))
        self.check()

    def check(self) -> None:
        """Raise WrongInput for values out of range."""


def _as_type(name: str, kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return value
    if kind == "bool" and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind == "bool" and isinstance(value, bool):
            return value
        if kind == "int" and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        if kind == "float" and not isinstance(value, bool):
            return float(value)
        if kind == "str" and isinstance(value, (str, int, float)):
            return str(value)
    except (TypeError, ValueError, OverflowError):
        pass  # said below, with the field's name
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    raise WrongInput(f"{name}: {value!r} is not {words.get(kind, kind)}")


@dataclass(frozen=True)
class IngestSettings(Typed):
    """How pictures become a data set."""

    source: str = "digits"  # a named source, a folder, an archive, … (see docs/data.md)
    dataset_name: str = "digits"
    image_size: int = 64  # pixels a side, after crop and resize
    held_out: float = 0.1  # the fraction set aside, by content hash, and never trained on
    max_pictures: int = 0  # take at most so many, chosen by the hash of their names; 0: all
    min_side: int = 0  # a picture whose shorter side has fewer pixels is set aside; 0: half of image_size
    drop_duplicates: bool = False  # keep one of the pictures that have the same pixels; else they are only reported
    quarantine_limit: float = 0.05  # more than this fraction of pictures that cannot be used stops the ingest

    @property
    def smallest_side(self) -> int:
        """min_side, or what stands for it."""
        return self.min_side or (self.image_size + 1) // 2

    def check(self) -> None:
        if not self.source:
            raise WrongInput(
                "source: missing; name a folder of pictures (DATA=/path/to/class/folders) or a named source"
            )
        require_name("dataset_name", self.dataset_name)
        require(1 <= self.image_size <= 4096, "image_size", self.image_size, "from 1 to 4096")
        require(0 <= self.held_out < 1, "held_out", self.held_out, "a fraction from 0 to below 1")
        require(self.max_pictures >= 0, "max_pictures", self.max_pictures, "0 (all) or more")
        require(self.min_side >= 0, "min_side", self.min_side, "0 (half of image_size) or more pixels")
        require(0 <= self.quarantine_limit <= 1, "quarantine_limit", self.quarantine_limit, "a fraction from 0 to 1")


@dataclass(frozen=True)
class ModelSettings(Typed):
    """What one must know to run a set of weights: the U-Net and the diffusion process it was fitted for."""

    channel_mults: str = "1-2-4"  # channels at each resolution, in units of base_channels
    base_channels: int = 64
    blocks: int = 2  # residual blocks at each resolution on the way down
    attention_resolution: int = 16  # self-attention at this resolution and below; 0: only at the bottom
    dropout: float = 0.0
    objective: str = "epsilon"
    schedule: str = "linear"
    timesteps: int = 1000

    def check(self) -> None:
        parse_mults(self.channel_mults)
        require(
            self.base_channels >= 4 and self.base_channels % 4 == 0,
            "base_channels",
            self.base_channels,
            "a multiple of 4",
        )
        require(self.blocks >= 1, "blocks", self.blocks, "at least 1")
        require(self.attention_resolution >= 0, "attention_resolution", self.attention_resolution, "0 or more")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        require(self.objective in OBJECTIVES, "objective", self.objective, f"one of {', '.join(OBJECTIVES)}")
        require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        require(self.timesteps >= 2, "timesteps", self.timesteps, "at least 2")


@dataclass(frozen=True)
class TrainSettings(Typed):
    """How weights are fitted. The clock is images seen; an epoch is one pass over the training pictures."""

    lr: float = 7e-5
    epochs: int = 100
    batch_size: int = 64
    warmup_images: int = 0  # the rate rises linearly over these
    decay_fraction: float = 0.3  # of the whole budget, at its end, over which the rate falls to 0 (final training only)
    ema_half_life: int = 50_000  # images; shorter at the start (5% of the images seen)
    flip: bool = True  # mirror pictures left to right at random
    precision: str = "fp32"  # fp32, or bf16 autocast round the network
    guard_factor: float = 10.0  # a step whose gradient norm is this many times the running median is skipped
    patience: int = 0  # epochs without a better held-out loss after which training stops; 0: never
    held_out_every: int = 5  # epochs between held-out losses, each a chance for a new best checkpoint
    checkpoint_seconds: float = 60.0
    train_seed: int = 0  # a run mixes its name into it: runs of other names are repetitions

    def check(self) -> None:
        require(0 < self.lr < 1, "lr", self.lr, "above 0 and below 1, for instance 7e-5")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.warmup_images >= 0, "warmup_images", self.warmup_images, "0 or more")
        require(0 <= self.decay_fraction <= 1, "decay_fraction", self.decay_fraction, "from 0 to 1")
        require(self.ema_half_life >= 1, "ema_half_life", self.ema_half_life, "at least 1 image")
        require(self.precision in ("fp32", "bf16"), "precision", self.precision, "fp32 or bf16")
        require(self.guard_factor > 1, "guard_factor", self.guard_factor, "above 1")
        require(self.patience >= 0, "patience", self.patience, "0 (never stop early) or more epochs")
        require(self.held_out_every >= 1, "held_out_every", self.held_out_every, "at least 1 epoch")
        require(self.checkpoint_seconds > 0, "checkpoint_seconds", self.checkpoint_seconds, "above 0")
        require(0 <= self.train_seed < 2**31, "train_seed", self.train_seed, "from 0 to 2147483647")


@dataclass(frozen=True)
class SearchSettings(Typed):
    """The study: which trials, how long, and how each is scored."""

    trials: int = 12
    trial_epochs: int = 50
    mults_choices: str = FOUNDING_MULTS  # what the search may choose from, separated by spaces
    founding_lr: float = 7e-5  # each of the four founding lists is tried first, at this rate
    lr_low: float = 1e-5
    lr_high: float = 1e-3
    prune_every: int = 0  # epochs between interim scores at which a hopeless trial is pruned; 0: no pruning
    score_n: int = 2048  # pictures a trial is scored on
    score_steps: int = 20  # DPM-Solver++ steps for them

    def check(self) -> None:
        require(self.trials >= 1, "trials", self.trials, "at least 1")
        require(self.trial_epochs >= 1, "trial_epochs", self.trial_epochs, "at least 1")
        require(bool(self.choices), "mults_choices", self.mults_choices, "one list or more, as in '1-2-4 1-2-3'")
        for choice in self.choices:
            parse_mults(choice)
        require(0 < self.founding_lr < 1, "founding_lr", self.founding_lr, "above 0 and below 1")
        require(0 < self.lr_low < 1, "lr_low", self.lr_low, "above 0 and below 1")
        require(self.lr_low <= self.lr_high < 1, "lr_high", self.lr_high, f"from lr_low ({self.lr_low}) to below 1")
        require(self.prune_every >= 0, "prune_every", self.prune_every, "0 (no pruning) or more epochs")
        require(self.score_n >= 16, "score_n", self.score_n, "at least 16 pictures")
        require(self.score_steps >= 1, "score_steps", self.score_steps, "at least 1")

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(self.mults_choices.replace(",", " ").split())


@dataclass(frozen=True)
class EvaluateSettings(Typed):
    """How generated pictures are drawn and measured."""

    extractor: str = "inception"
    layer: int = 2048  # Inception's feature layer; the classifier has one layer only
    weights: str = ""  # Inception's weights: a path or URI; empty: downloaded once into the store
    weights_sha256: str = ""  # what the weights file must have; empty: any file, and its digest is in the protocol
    n: int = 0  # generated pictures; 0: as many as there are training pictures
    sampler: str = "ddim"
    sampling_steps: int = 250
    sample_batch: int = 256
    sample_seed: int = 0

    def check(self) -> None:
        require(self.extractor in EXTRACTORS, "extractor", self.extractor, f"one of {', '.join(EXTRACTORS)}")
        require(self.layer in INCEPTION_LAYERS, "layer", self.layer, f"one of {', '.join(map(str, INCEPTION_LAYERS))}")
        require(
            bool(re.fullmatch(r"([0-9a-f]{64})?", self.weights_sha256)),
            "weights_sha256",
            self.weights_sha256,
            "64 hexadecimal digits, or empty",
        )
        require(self.n == 0 or self.n >= 16, "n", self.n, "0 (as many as training pictures) or at least 16")
        require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        require(self.sampling_steps >= 1, "sampling_steps", self.sampling_steps, "at least 1")
        require(self.sample_batch >= 1, "sample_batch", self.sample_batch, "at least 1")
        require(0 <= self.sample_seed < 2**62, "sample_seed", self.sample_seed, "from 0 to 2**62-1")


@dataclass(frozen=True)
class RegistrySettings(Typed):
    """Where the winner goes."""

    model_name: str = "ddpm-digits"

    def check(self) -> None:
        require_name("model_name", self.model_name)


S = TypeVar("S")


def pick(kind: type[S], parameters: dict[str, Any]) -> S:
    """Build `kind` from those of the flat parameters that are its fields."""
    names = {spec.name for spec in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in parameters.items() if name in names})
