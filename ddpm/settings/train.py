"""How weights are fitted."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.errors import WrongInput
from ddpm.fields import Typed, require, setting
from ddpm.settings.model import ModelSettings
from ddpm.settings.words import MOST

PRECISIONS = ("fp32", "bf16", "fp64")
AUTO = ("auto", "always", "never")
AUTO_WAS = {"yes": "always", True: "always", "no": "never", False: "never"}  # YAML takes yes and no for booleans
HALF_LIFE = r"[1-9][0-9]{0,8}k?"
HALF_LIVES_FORM = (
    "different whole numbers of images from 1, k for thousands, at most eight, separated by spaces, as in '10k 50k'"
)


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
    compile: str = setting(
        "auto", "torch.compile, and on a GPU a CUDA graph; auto: on a GPU", choices=AUTO, spelt=AUTO_WAS
    )
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


def require_one_weight(model: ModelSettings, train: TrainSettings) -> None:
    """Raise WrongInput where noise levels would be weighed twice."""
    if model.objective == "edm" and train.min_snr_gamma:
        raise WrongInput("min_snr_gamma: edm has a weight of its own, on which min-SNR must not be stacked; give 0")
