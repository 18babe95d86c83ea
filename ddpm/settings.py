"""What a person may set: frozen, typed, validated, one class a step.

A field has the same name here, on the command line, in the pipeline's parameters, in MLflow's params and in a
preset, so no name may appear in two classes. The defaults are the founding recipe for photographs (DDPM, Ho et al.
2020, https://arxiv.org/abs/2006.11239, at the founding experiment's rate and budget); `pipelines/presets/` holds the
other ones.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.errors import WrongInput

FORMAT_VERSION = 1
OBJECTIVES = ("epsilon", "v", "edm")
SCHEDULES = ("linear", "cosine")
SAMPLERS = ["ancestral", "ddim", "dpm-solver++", "heun"]  # ddpm.model.sampling has them; `register` adds to them
CHURNING = ["heun"]  # those of them that take churn
PRECISIONS = ("fp32", "bf16", "fp64")
EXTRACTORS = ("inception", "classifier")
LANGUAGES = ("en", "hu")  # in which the judge can be asked
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
    augment: float = 0.0  # probability of each non-leaky augmentation (the network is told of them); 0: none
    classes: int = 0  # class labels that the network is told: 0 (none), or as many as the data set has
    objective: str = "epsilon"  # epsilon (DDPM), v, or edm (preconditioned, continuous noise levels)
    schedule: str = "linear"  # linear or cosine; edm has none
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
        require(0 <= self.augment <= 1, "augment", self.augment, "a probability, for instance 0.12")
        require(self.classes >= 0, "classes", self.classes, "0, or as many as the data set has")
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
    adam_beta2: float = 0.999
    clip_norm: float = 1.0  # gradients are clipped to this norm, as in DDPM's own code; 0: not
    min_snr_gamma: float = 0.0  # weigh noise levels by min-SNR, usually 5; 0: not; edm has a weight of its own
    ema_half_lives: str = (
        "50000"  # of the averaged weights, in images, separated by spaces; shorter at the start (5% of the images seen)
    )
    flip: bool = True  # mirror pictures left to right at random
    label_dropout: float = 0.1  # share of pictures whose class the network is not told, for guidance
    precision: str = "fp32"  # fp32, bf16 (autocast round the network), or fp64
    micro_batch: int = (
        0  # pictures that go through the network at once; 0: the whole batch; halved when memory runs out
    )
    compile: str = "auto"  # torch.compile: yes, no, or auto (on a GPU)
    resident: str = "auto"  # pictures kept on the device: yes, no (fetched ahead from disk), or auto (where they fit)
    guard_factor: float = (
        10.0  # a step whose gradient norm is this many times the running median is skipped; 0: none is
    )
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
        require(0 < self.adam_beta2 < 1, "adam_beta2", self.adam_beta2, "above 0 and below 1")
        require(self.clip_norm >= 0, "clip_norm", self.clip_norm, "0 (no clipping) or more")
        require(self.min_snr_gamma >= 0, "min_snr_gamma", self.min_snr_gamma, "0 (off) or more, usually 5")
        require(
            bool(re.fullmatch(r"[1-9][0-9]*( [1-9][0-9]*)*", self.ema_half_lives))
            and len(set(self.half_lives)) == len(self.half_lives),
            "ema_half_lives",
            self.ema_half_lives,
            "different whole numbers of images from 1, separated by spaces, as in '10000 50000'",
        )
        require(0 <= self.label_dropout <= 1, "label_dropout", self.label_dropout, "from 0 to 1")
        require(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        require(self.micro_batch >= 0, "micro_batch", self.micro_batch, "0 (the whole batch) or more")
        for name in ("compile", "resident"):
            require(getattr(self, name) in ("auto", "yes", "no"), name, getattr(self, name), "auto, yes or no")
        require(
            self.guard_factor == 0 or self.guard_factor > 1, "guard_factor", self.guard_factor, "0 (off) or above 1"
        )
        require(self.patience >= 0, "patience", self.patience, "0 (never stop early) or more epochs")
        require(self.held_out_every >= 1, "held_out_every", self.held_out_every, "at least 1 epoch")
        require(self.checkpoint_seconds > 0, "checkpoint_seconds", self.checkpoint_seconds, "above 0")
        require(0 <= self.train_seed < 2**31, "train_seed", self.train_seed, "from 0 to 2147483647")

    @property
    def half_lives(self) -> tuple[int, ...]:
        """The averages' half-lives; the first is the one that is drawn from until another is chosen."""
        return tuple(int(part) for part in self.ema_half_lives.split())


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
class DrawSettings(Typed):
    """How pictures are drawn from a model."""

    sampler: str = "ddim"
    sampling_steps: int = 250
    churn: float = 0.0  # of the sampler heun: S_churn, noise that is added on the way
    guidance: float = 1.0  # of networks with classes: classifier-free guidance; 1: none
    sample_batch: int = 256  # pictures that go through the network at once

    def check(self) -> None:
        require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        require(self.sampling_steps >= 1, "sampling_steps", self.sampling_steps, "at least 1")
        require(self.churn >= 0, "churn", self.churn, "0 (none) or more")
        require(
            self.churn == 0 or self.sampler in CHURNING,
            "churn",
            self.churn,
            f"0 for the sampler {self.sampler}; only {', '.join(CHURNING)} churns",
        )
        require(self.guidance >= 0, "guidance", self.guidance, "0 or more; 1 is none")
        require(self.sample_batch >= 1, "sample_batch", self.sample_batch, "at least 1")


@dataclass(frozen=True)
class EvaluateSettings(Typed):
    """How generated pictures are measured."""

    extractor: str = "inception"
    layer: int = 2048  # Inception's feature layer; the classifier has one layer only
    weights: str = ""  # Inception's weights: a path or URI; empty: downloaded once into the store
    weights_sha256: str = ""  # what the weights file must have; empty: any file, and its digest is in the protocol
    n: int = 0  # generated pictures; 0: as many as there are training pictures
    sample_seed: int = 0
    seeds: int = 1  # draws of n pictures, each from seeds of its own; figures are their means, with their spread
    copying_gate: float = 0.05  # no version is promoted of which surely more pictures are copies than this; 1: any may

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
        require(0 <= self.sample_seed < 2**62, "sample_seed", self.sample_seed, "from 0 to 2**62-1")
        require(1 <= self.seeds <= 100, "seeds", self.seeds, "from 1 to 100 draws")
        require(0 <= self.copying_gate <= 1, "copying_gate", self.copying_gate, "a share from 0 to 1")


def require_drawable(model: ModelSettings, drawing: DrawSettings) -> None:
    """Raise WrongInput where no pictures can be drawn so from such a model."""
    require(
        model.objective == "edm" or drawing.sampling_steps <= model.timesteps,
        "sampling_steps",
        drawing.sampling_steps,
        f"at most the model's timesteps, {model.timesteps}",
    )
    require(
        drawing.guidance == 1 or model.classes > 0, "guidance", drawing.guidance, "1 (none) for a model without classes"
    )


@dataclass(frozen=True)
class JudgeSettings(Typed):
    """Who is asked, besides the metrics, how much pictures resemble the data set's subject. Off where there is no URL."""

    judge_url: str = ""  # an OpenAI-compatible endpoint, as in https://host/v1; empty: nobody is asked
    judge_model: str = ""  # its name there; its key is read from $DDPM_JUDGE_KEY
    judge_subject: str = ""  # what the data set's pictures show, in judge_language, as in "flowers"
    judge_language: str = "en"  # of the question: en or hu
    judge_n: int = 50  # generated pictures shown, among as many real ones and as many of something else
    judge_other: str = ""  # a data set's URI: pictures of something else; empty: real ones with their tiles shuffled
    judge_seed: int = 0  # of the order in which pictures are shown, and of their choice
    judge_max_tokens: int = 16  # of an answer; a model that thinks before it answers needs a thousand and more
    judge_timeout: float = 60.0  # seconds for one request
    judge_retries: int = 3  # times that a picture is shown again after a refusal, an unreadable answer or a failure
    judge_concurrency: int = 2  # requests under way at a time
    judge_per_minute: float = 60.0  # requests
    judge_requests: int = 500  # in all
    judge_seconds: float = 1800.0  # in all
    judge_input_price: float = 0.0  # for a million tokens sent, in any currency
    judge_output_price: float = 0.0  # for a million tokens of answers
    judge_budget: float = (
        1.0  # in that currency: no request is sent that might exceed it; counts where prices are given
    )

    def check(self) -> None:
        if self.judge_url:
            self._check_endpoint()
        require(self.judge_language in LANGUAGES, "judge_language", self.judge_language, " or ".join(LANGUAGES))
        require(self.judge_n >= 10, "judge_n", self.judge_n, "at least 10 pictures")
        require(0 <= self.judge_seed < 2**62, "judge_seed", self.judge_seed, "from 0 to 2**62-1")
        require(self.judge_retries >= 0, "judge_retries", self.judge_retries, "0 or more")
        require(1 <= self.judge_concurrency <= 16, "judge_concurrency", self.judge_concurrency, "from 1 to 16")
        for name in ("judge_input_price", "judge_output_price"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 (free, or not known) or more")
        for name in ("judge_max_tokens", "judge_requests"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("judge_timeout", "judge_per_minute", "judge_seconds", "judge_budget"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "above 0")

    def _check_endpoint(self) -> None:
        """A URL is kept with the run, where everybody reads it: it must hold no secret."""
        parts = urlsplit(self.judge_url)
        plain = parts.scheme in ("http", "https") and parts.hostname and not parts.fragment
        if "@" in parts.netloc or parts.query:
            raise WrongInput(
                "judge_url: it must hold no user, password or query, for it is kept with the run; a key goes into $DDPM_JUDGE_KEY"
            )
        require(bool(plain), "judge_url", self.judge_url, "an endpoint's address, as in https://host/v1")
        for name, what in (
            ("judge_model", "a model of the endpoint"),
            ("judge_subject", "what the data set's pictures show, as in 'flowers'"),
        ):
            require(bool(getattr(self, name).strip()), name, getattr(self, name), what)


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
