"""What a person may set: frozen, typed, validated, one class a step. docs/settings.md is the list of it all.

A field has the same name here, on the command line, in the pipeline's parameters, in MLflow's params and in a
preset, so no name may appear in two classes. It is written once, with its meaning and its range (`ddpm.fields`). The
defaults are the founding recipe for photographs (DDPM, Ho et al. 2020, https://arxiv.org/abs/2006.11239, at the
founding experiment's rate and budget); `ddpm/presets/` holds the other ones.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.errors import WrongInput
from ddpm.fields import Typed, require, setting

FORMAT_VERSION = 1
OBJECTIVES = ("epsilon", "v", "edm")
SCHEDULES = ("linear", "cosine")
SAMPLERS = ["ancestral", "ddim", "dpm-solver++", "heun"]  # ddpm.model.sampling has them; `register` adds to them
CHURNING = ["heun"]  # those of them that take churn
PRECISIONS = ("fp32", "bf16", "fp64")
EXTRACTORS = ["inception", "classifier"]  # ddpm.evaluation.extractors.table has them; `register` adds to them
LANGUAGES = ("en", "hu")  # in which the judge can be asked
INCEPTION_LAYERS = (64, 192, 768, 2048)
AUTO = ("auto", "always", "never")
AUTO_WAS = {"yes": "always", True: "always", "no": "never", False: "never"}  # YAML takes yes and no for booleans
FOUNDING_MULTS = "1-2-4-8 1-2-3-6 1-2-3 1-2-4"
SEARCH_SAMPLERS = ("tpe", "random", "gp")
LIST = r"[\s,]*([^\s,]+([\s,]+[^\s,]+)*)?[\s,]*"
LIST_FORM = "different values, separated by spaces, or empty"

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME_FORM = "letters, digits, '.', '_' and '-', beginning with a letter or digit, and at most 100 of them"
MULTS = r"[1-9][0-9]?(-[1-9][0-9]?){0,9}"
MULTS_FORM = "whole numbers from 1 up, as in 1-2-4, at most ten, each below 100"
HALF_LIFE = r"[1-9][0-9]{0,8}k?"
HALF_LIVES_FORM = (
    "different whole numbers of images from 1, k for thousands, at most eight, separated by spaces, as in '10k 50k'"
)
MOST = 10**6  # of epochs, say: bounds that nobody meets, and that keep a slip of the pen from what no machine has
PICTURES = 10**9


def parse_mults(text: str) -> tuple[int, ...]:
    """Channel multipliers as people write them, `1-2-4`, as numbers, one for each resolution from the finest down."""
    require(bool(re.fullmatch(MULTS, str(text))), "channel_mults", text, MULTS_FORM)
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


def require_name(name: str, value: str) -> None:
    require(bool(re.fullmatch(NAME, value)), name, value, NAME_FORM)


@dataclass(frozen=True)
class IngestSettings(Typed):
    """How pictures become a data set."""

    source: str = setting(
        "digits",
        "where the pictures come from (docs/data.md)",
        pattern=r"(?s).*\S.*",
        form="a folder of pictures (DATA=/path/to/class/folders), an archive, or a named source",
        place=True,
    )
    dataset_name: str = setting("digits", "what the data set is called", pattern=NAME, form=NAME_FORM)
    image_size: int = setting(64, "a picture's side, after crop and resize", unit="pixels", low=1, high=4096)
    held_out: float = setting(0.1, "the fraction set aside, by content hash, and never trained on", low=0, below=1)
    max_pictures: int = setting(
        0, "take at most so many, chosen by the hash of their names", low=0, high=PICTURES, zero="all"
    )
    min_side: int = setting(
        0,
        "a picture whose shorter side is smaller is set aside",
        unit="pixels",
        low=0,
        high=4096,
        zero="half of image_size",
    )
    drop_duplicates: bool = setting(False, "keep one of the pictures with the same pixels; else they are only reported")
    quarantine_limit: float = setting(
        0.05, "a larger fraction of pictures that cannot be used stops the ingest", low=0, high=1
    )

    @property
    def smallest_side(self) -> int:
        """min_side, or what stands for it."""
        return self.min_side or (self.image_size + 1) // 2


@dataclass(frozen=True)
class ModelSettings(Typed):
    """What one must know to run a set of weights: the U-Net and the diffusion process it was fitted for."""

    channel_mults: str = setting(
        "1-2-4", "channels at each resolution, finest first, in units of base_channels", pattern=MULTS, form=MULTS_FORM
    )
    base_channels: int = setting(
        64, "the unit that channel multipliers multiply", unit="channels", low=4, high=4096, multiple=4
    )
    blocks: int = setting(2, "residual blocks at each resolution on the way down", low=1, high=64)
    attention_resolution: int = setting(
        16, "self-attention at this resolution and below", unit="pixels", low=0, high=4096, zero="only at the bottom"
    )
    dropout: float = setting(0.0, "share of a residual block's values that training sets to 0", low=0, below=1)
    augment: float = setting(
        0.0,
        "probability of each non-leaky augmentation, usually 0.12 (the network is told of them)",
        low=0,
        high=1,
        zero="none",
    )
    classes: int = setting(
        0, "class labels that the network is told, as many as the data set has", low=0, high=100_000, zero="none"
    )
    objective: str = setting(
        "epsilon",
        "what the network predicts: epsilon (DDPM), v, or edm (preconditioned, continuous noise levels)",
        choices=OBJECTIVES,
    )
    schedule: str = setting("linear", "how noise grows with the timestep; edm has none", choices=SCHEDULES)
    timesteps: int = setting(1000, "noise levels of the diffusion process", low=2, high=100_000)


@dataclass(frozen=True)
class TrainSettings(Typed):
    """How weights are fitted. The clock is images seen; an epoch is one pass over the training pictures."""

    lr: float = setting(7e-5, "Adam's learning rate", above=0, below=1)
    epochs: int = setting(100, "the whole budget, in passes over the training pictures", low=1, high=MOST)
    batch_size: int = setting(64, "pictures a step, over all processes", low=1, high=MOST)
    warmup_images: int = setting(
        0, "the learning rate rises linearly over these", unit="images", low=0, high=10**12, zero="at once"
    )
    decay_fraction: float = setting(
        0.3, "share of the budget, at its end, over which the rate falls to 0 (final training only)", low=0, high=1
    )
    adam_beta2: float = setting(0.999, "decay of Adam's mean of squared gradients", above=0, below=1)
    clip_norm: float = setting(
        1.0, "gradients are clipped to this norm, as in DDPM's own code", low=0, high=MOST, zero="no clipping"
    )
    min_snr_gamma: float = setting(
        0.0, "weigh noise levels by min-SNR, usually 5; edm has a weight of its own", low=0, high=MOST, zero="off"
    )
    # `k`, since Kubeflow's client sends a text that looks like a number as one, which its server then refuses.
    ema_half_lives: str = setting(
        "50k",
        "half-lives of the averaged weights, in images; shorter at the start (5% of the images seen)",
        pattern=rf"{HALF_LIFE}( {HALF_LIFE}){{0,7}}",
        form=HALF_LIVES_FORM,
    )
    flip: bool = setting(True, "mirror pictures left to right at random")
    label_dropout: float = setting(
        0.1, "share of pictures whose class the network is not told, for guidance", low=0, high=1
    )
    precision: str = setting("fp32", "what the network computes in; bf16: autocast round it", choices=PRECISIONS)
    micro_batch: int = setting(
        0,
        "pictures that go through the network at once; halved when memory runs out",
        low=0,
        high=MOST,
        zero="the whole batch",
    )
    compile: str = setting("auto", "torch.compile; auto: on a GPU", choices=AUTO, spelt=AUTO_WAS)
    resident: str = setting(
        "auto",
        "pictures kept on the device, else fetched ahead from disk; auto: where they fit",
        choices=AUTO,
        spelt=AUTO_WAS,
    )
    guard_factor: float = setting(
        10.0,
        "a step whose gradient norm is this many times the running median is skipped",
        above=1,
        high=MOST,
        zero="off",
    )
    patience: int = setting(
        0, "epochs without a better held-out loss after which training stops", low=0, high=MOST, zero="never"
    )
    held_out_every: int = setting(
        5, "epochs between held-out losses, each a chance for a new best checkpoint", low=1, high=MOST
    )
    checkpoint_seconds: float = setting(60.0, "time between checkpoints", unit="seconds", above=0, high=MOST)
    init_from: str = setting(
        "",
        "weights to begin with, clock and optimizer anew: a checkpoint (folder or URI), models:/NAME@ALIAS or an exported folder; empty: random ones",
        place=True,
    )
    init_partial: bool = setting(
        False, "of init_from take what agrees in name and shape, where not all does; else that is refused"
    )
    train_seed: int = setting(
        0,
        "seed of training's random numbers; a run mixes its name into it: runs of other names are repetitions",
        low=0,
        high=2**31 - 1,
    )

    def check(self) -> None:
        lives = self.half_lives
        require(len({*lives}) == len(lives), "ema_half_lives", self.ema_half_lives, HALF_LIVES_FORM)
        words = (str(life) if life % 1000 else f"{life // 1000}k" for life in lives)
        object.__setattr__(self, "ema_half_lives", " ".join(words))  # one spelling, so that equal settings are equal

    @property
    def half_lives(self) -> tuple[int, ...]:
        """The averages' half-lives, in images; the first is drawn from until another is chosen."""
        return tuple(int(part.replace("k", "000")) for part in self.ema_half_lives.split())


def _choices(name: str) -> Any:
    """The setting that lists what the search may choose of another."""
    return setting(
        "", f"values of {name} that the search may choose from; empty: {name} alone", pattern=LIST, form=LIST_FORM
    )


@dataclass(frozen=True)
class SearchSettings(Typed):
    """The study: which trials, how long, and how each is scored."""

    trials: int = setting(12, "models that are tried", low=1, high=10_000)
    trial_epochs: int = setting(
        50, "epochs that each is trained; the winner then goes on to all epochs", low=1, high=MOST
    )
    mults_choices: str = setting(
        FOUNDING_MULTS,
        "channel multipliers that the search may choose from",
        pattern=rf"[\s,]*{MULTS}([\s,]+{MULTS})*[\s,]*",
        form="one list or more, separated by spaces, as in '1-2-4 1-2-3'",
    )
    founding_first: bool = setting(
        True, "each list of mults_choices is tried first, at founding_lr and the first of every other list"
    )
    founding_lr: float = setting(
        7e-5, "each of the four founding lists is tried first, at this learning rate", above=0, below=1
    )
    lr_low: float = setting(1e-5, "the lowest learning rate that the search may choose", above=0, below=1)
    lr_high: float = setting(1e-3, "the highest learning rate that the search may choose", above=0, below=1)
    base_choices: str = _choices("base_channels")
    dropout_choices: str = _choices("dropout")
    augment_choices: str = _choices("augment")
    objective_choices: str = _choices("objective")
    schedule_choices: str = _choices("schedule")
    batch_choices: str = _choices("batch_size")
    half_life_choices: str = _choices("ema_half_lives")
    search_sampler: str = setting(
        "tpe",
        "how the search chooses: Parzen estimators, at random, or a Gaussian process (slower, for few trials)",
        choices=SEARCH_SAMPLERS,
    )
    prune_every: int = setting(
        0, "epochs between interim scores at which a hopeless trial is pruned", low=0, high=MOST, zero="no pruning"
    )
    score_n: int = setting(2048, "pictures a trial is scored on", low=16, high=MOST)
    score_steps: int = setting(20, "DPM-Solver++ steps for them", low=1, high=100_000)

    def check(self) -> None:
        require(self.lr_low <= self.lr_high, "lr_high", self.lr_high, f"from lr_low ({self.lr_low}) to below 1")
        for name, values in self.varied.items():
            require(len(set(values)) == len(values), CHOICES[name], getattr(self, CHOICES[name]), LIST_FORM)

    @property
    def choices(self) -> tuple[str, ...]:
        """The lists of multipliers that the search may choose from."""
        return _listed(self.mults_choices)

    @property
    def varied(self) -> dict[str, tuple[str, ...]]:
        """What else it chooses, by the setting's name, and from what."""
        return {name: found for name, listed in CHOICES.items() if (found := _listed(getattr(self, listed)))}


# By the setting that is chosen, the one that lists what it may be.
CHOICES = {
    "base_channels": "base_choices", "dropout": "dropout_choices", "augment": "augment_choices",
    "objective": "objective_choices", "schedule": "schedule_choices", "batch_size": "batch_choices",
    "ema_half_lives": "half_life_choices",
}  # fmt: skip


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


@dataclass(frozen=True)
class DrawSettings(Typed):
    """How pictures are drawn from a model."""

    sampler: str = setting("ddim", "how noise becomes a picture", choices=SAMPLERS)
    sampling_steps: int = setting(250, "steps of the sampler", low=1, high=100_000)
    churn: float = setting(0.0, "S_churn, noise that the sampler heun adds on the way", low=0, high=MOST, zero="none")
    guidance: float = setting(1.0, "classifier-free guidance of networks with classes; 1: none", low=0, high=1000)
    sample_batch: int = setting(256, "pictures that go through the network at once", low=1, high=65_536)

    def check(self) -> None:
        require(
            self.churn == 0 or self.sampler in CHURNING,
            "churn",
            self.churn,
            f"0 for the sampler {self.sampler}; only {', '.join(CHURNING)} churns",
        )


@dataclass(frozen=True)
class EvaluateSettings(Typed):
    """How generated pictures are measured."""

    extractor: str = setting(
        "inception",
        "what turns pictures into features: Inception-v3, or a classifier by the set's own labels",
        choices=EXTRACTORS,
    )
    layer: int = setting(2048, "Inception's feature layer; the classifier has one layer only", choices=INCEPTION_LAYERS)
    weights: str = setting("", "Inception's weights, a path or URI; empty: downloaded once into the store", place=True)
    weights_sha256: str = setting(
        "",
        "digest that the weights file must have; empty: any file, and its digest is in the protocol",
        pattern="([0-9a-f]{64})?",
        form="64 hexadecimal digits, or empty",
    )
    # Not `n`, which is false to whoever reads YAML 1.1, kubectl for one.
    evaluate_n: int = setting(0, "generated pictures", low=16, high=10**8, zero="as many as training pictures", was="n")
    sample_seed: int = setting(0, "seed of the first picture; the others' follow it", low=0, high=2**62 - 1)
    seeds: int = setting(
        1,
        "draws of evaluate_n pictures, each from seeds of its own; figures are their means, with their spread",
        low=1,
        high=100,
    )
    copying_gate: float = setting(
        0.05, "no version is promoted of which surely a larger share of pictures are copies; 1: any may", low=0, high=1
    )
    noise_gate: float = setting(
        0.75,
        "how far from real pictures a model's first champion must stay below, in shares of the way to noise, by KID: 0 as real ones are, 1 as noise is; 1: any may be",
        low=0.01,
        high=1,
    )
    lineage_gate: float = setting(
        0.1,
        "the least share of pictures that the data sets of a version and of the champion have in common, for the two to be measured against each other",
        low=0,
        high=1,
        zero="any two are, and the log says so",
    )


def require_one_weight(model: ModelSettings, train: TrainSettings) -> None:
    """Raise WrongInput where noise levels would be weighed twice."""
    if model.objective == "edm" and train.min_snr_gamma:
        raise WrongInput("min_snr_gamma: edm has a weight of its own, on which min-SNR must not be stacked; give 0")


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

    judge_url: str = setting("", "an OpenAI-compatible endpoint, as in https://host/v1; empty: nobody is asked")
    judge_model: str = setting("", "the model's name there; the key is read from $DDPM_JUDGE_KEY")
    judge_subject: str = setting("", "what the data set's pictures show, in judge_language, as in 'flowers'")
    judge_language: str = setting("en", "language of the question", choices=LANGUAGES)
    judge_n: int = setting(
        50, "generated pictures shown, among as many real ones and as many of something else", low=10, high=100_000
    )
    judge_other: str = setting(
        "", "a data set's URI: pictures of something else; empty: real ones with their tiles shuffled", place=True
    )
    judge_seed: int = setting(
        0, "seed of the order in which pictures are shown, and of their choice", low=0, high=2**62 - 1
    )
    judge_max_tokens: int = setting(
        16,
        "length of an answer; a model that thinks before it answers needs a thousand and more",
        unit="tokens",
        low=1,
        high=MOST,
    )
    judge_timeout: float = setting(60.0, "time for one request", unit="seconds", above=0, high=86_400)
    judge_retries: int = setting(
        3, "times that a picture is shown again after a refusal, an unreadable answer or a failure", low=0, high=1000
    )
    judge_concurrency: int = setting(2, "requests under way at a time", low=1, high=16)
    judge_per_minute: float = setting(60.0, "how fast they may be sent", unit="requests a minute", above=0, high=MOST)
    judge_requests: int = setting(500, "requests in all", low=1, high=10**9)
    judge_seconds: float = setting(1800.0, "time for all requests", unit="seconds", above=0, high=10**8)
    judge_input_price: float = setting(
        0.0, "price of a million tokens sent, in any currency", low=0, high=10**9, zero="free, or not known"
    )
    judge_output_price: float = setting(
        0.0, "price of a million tokens of answers", low=0, high=10**9, zero="free, or not known"
    )
    judge_budget: float = setting(
        1.0,
        "most that may be spent, in that currency: no request is sent that might exceed it; counts where prices are given",
        above=0,
        high=10**12,
    )

    def check(self) -> None:
        """A URL is kept with the run, where everybody reads it: it must hold no secret. It needs a model and a subject."""
        if not self.judge_url:
            return
        try:
            parts = urlsplit(self.judge_url)
        except ValueError as problem:
            raise WrongInput(
                f"judge_url: it is no URL: {problem}; write an endpoint's address, as in https://host/v1"
            ) from None
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

    model_name: str = setting(
        "ddpm-digits", "the registered model of which the winner becomes a version", pattern=NAME, form=NAME_FORM
    )


@dataclass(frozen=True)
class CostSettings(Typed):
    """What a run's work costs, so that it can be said."""

    price_per_hour: float = setting(
        0.0, "what an hour of one device costs, in any currency", low=0, high=10**9, zero="not given"
    )


S = TypeVar("S")


def pick(kind: type[S], parameters: dict[str, Any]) -> S:
    """Build `kind` from those of the flat parameters that are its fields."""
    names = {spec.name for spec in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in parameters.items() if name in names})
