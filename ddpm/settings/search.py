"""The study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddpm.fields import Typed, require, setting
from ddpm.settings.model import MULTS, parse_mults
from ddpm.settings.words import MOST

FOUNDING_MULTS = "1-2-4-8 1-2-3-6 1-2-3 1-2-4"
SEARCH_SAMPLERS = ("tpe", "random", "gp")
RUNG_SCORES = ("fid", "loss")
LIST = r"[\s,]*([^\s,]+([\s,]+[^\s,]+)*)?[\s,]*"
LIST_FORM = "different values, separated by spaces, or empty"


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
    first_rung: int = setting(
        0,
        "epochs after which trials wait for one another and those that are surely among the worse ones end, and again at each rung_factor times as many",
        low=0,
        high=MOST,
        zero="no trial ends early",
        was="prune_every",
    )
    rung_factor: int = setting(
        2, "at each rung the best one in so many trials goes on, and all in a tie with those", low=2, high=10
    )
    rung_score: str = setting(
        "fid",
        "by what trials are compared at a rung: FID as at their end, or the held-out loss, which takes no drawing",
        choices=RUNG_SCORES,
    )
    score_n: int = setting(2048, "pictures a trial is scored on", low=16, high=MOST)
    score_steps: int = setting(20, "DPM-Solver++ steps for them", low=1, high=100_000)
    finalists: int = setting(
        1,
        "so many of the best trials are scored anew, by which the best is chosen; 1: the trials' own scores choose",
        low=1,
        high=100,
    )
    finalist_n: int = setting(
        0,
        "pictures that each finalist is scored on, of seeds of their own",
        low=16,
        high=MOST,
        zero="four times score_n",
    )

    def check(self) -> None:
        require(self.lr_low <= self.lr_high, "lr_high", self.lr_high, f"from lr_low ({self.lr_low}) to below 1")
        for name, values in self.varied.items():
            require(len({*map(_value, values)}) == len(values), CHOICES[name], getattr(self, CHOICES[name]), LIST_FORM)
        lists = [parse_mults(listed) for listed in self.choices]
        require(len({*lists}) == len(lists), "mults_choices", self.mults_choices, "lists of which no two are equal")
        require(
            self.finalists == 1 or self.final_n > self.score_n,
            "finalist_n",
            self.finalist_n,
            f"more than score_n ({self.score_n}), or 0: four times as many",
        )
        mixed = [CHOICES[name] for name in ("objective", "schedule") if name in self.varied]
        require(
            not self.rungs or self.rung_score != "loss" or not mixed,
            "rung_score",
            self.rung_score,
            f"fid with {' and '.join(mixed)}: losses of different ones do not compare",
        )

    @property
    def rungs(self) -> list[int]:
        """The epochs at which trials are compared and may end, the first one first."""
        found, epoch = [], self.first_rung
        while 0 < epoch < self.trial_epochs:
            found.append(epoch)
            epoch *= self.rung_factor
        return found

    @property
    def final_n(self) -> int:
        """How many pictures a finalist is scored on."""
        return self.finalist_n or 4 * self.score_n

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


def _value(text: str) -> float | str:
    """What a choice means: 64 and 064 are the same, and so are 1k and 1000."""
    try:
        return float(text.replace("k", "000"))
    except ValueError:
        return text


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())
