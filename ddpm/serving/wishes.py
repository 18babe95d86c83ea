"""What a caller may ask for, as OpenAPI shows it, and what that comes to for a version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from ddpm import settings as names
from ddpm.errors import WrongInput
from ddpm.fields import shown
from ddpm.model.model import Model
from ddpm.model.sampling import Between
from ddpm.numerals import DIGITS, NUMBER
from ddpm.serving.settings import ServeSettings
from ddpm.settings import DrawSettings, require_drawable

MOST_SEED = 2**62 - 1


def _in_digits(form: re.Pattern[str], example: str) -> BeforeValidator:
    """A number that comes as text, in a path or a query, is written as everybody writes it: see `ddpm.numerals`."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and not form.fullmatch(value):
            raise PydanticCustomError("in_digits", "write it in digits, as in {example}", {"example": example})
        return value

    return BeforeValidator(check)


Whole = Annotated[int, _in_digits(DIGITS, "7")]
Real = Annotated[float, _in_digits(NUMBER, "1.5")]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Format = Literal["png", "grid", "json"]


def _samplers(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "string", "enum": list(names.SAMPLERS)}, {"type": "null"}]


class How(BaseModel):
    """How pictures are drawn; what is not said is the version's own way."""

    model_config = ConfigDict(extra="forbid")

    steps: Whole | None = Field(None, ge=1, description="steps of the sampler", examples=[50])
    sampler: str | None = Field(
        None, max_length=100, description="how noise becomes a picture", json_schema_extra=_samplers, examples=["ddim"]
    )
    label: Whole | None = Field(
        None, ge=0, le=MOST_SEED, description="the class, where the model has classes; else each seed's own"
    )
    guidance: Real | None = Field(
        None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="guidance, where the model has classes or a guide; 1: none",
    )


Alias = Annotated[
    str | None,
    Field(
        max_length=100,
        description="which version answers, as in challenger; else the champion, but for the canary's share",
        examples=["champion"],
    ),
]


class Asked(How):
    """How a picture is drawn, and by which version."""

    alias: Alias = None


class Single(Asked):
    """How one picture is drawn, and whether it is to be kept."""

    download: bool = Field(False, description="as a file to be kept, named after its seed", examples=[False])


class Frames(Asked):
    """How a picture appears."""

    frames: Whole = Field(16, ge=2, description="states from noise to the picture, which is the last", examples=[16])


class Wish(How):
    """Pictures by seeds: listed, as a range, or on the way from one to another."""

    model_config = ConfigDict(
        extra="forbid", strict=True,
        json_schema_extra={"examples": [{"seed": 7}, {"seed": 0, "n": 16, "format": "grid"}, {"seeds": [3, 1, 4], "format": "json"}, {"seed": 3, "walk_to": 9, "n": 8, "format": "json"}]},
    )  # fmt: skip

    seeds: list[Seed] | None = Field(None, min_length=1, description="which pictures; or seed and n")
    seed: Seed | None = Field(None, description="the first picture's seed; the others' follow it")
    n: int | None = Field(None, ge=1, description="how many; 1 where nothing is said")
    walk_to: Seed | None = Field(
        None,
        description="a walk: the n pictures lead from seed's to this one's, both included, all drawn by seed's version and, where no label is said, as seed's class",
    )
    format: Format | None = Field(
        None,
        description="png: one picture; grid: all in one PNG; json: PNGs in base64. Else png for one, grid for more",
    )


class Picture(BaseModel):
    """A picture, and who drew it, how, as JSON holds it."""

    seed: int = Field(description="its seed; on a walk, the first one's")
    share: float | None = Field(None, description="on a walk, how far towards the other seed")
    version: str = Field(description="which drew it: with a canary it follows from the seed")
    alias: str
    sampler: str
    steps: int
    guidance: float
    label: int | None = Field(None, description="its class, where the model has classes")
    sha256: str = Field(description="of the PNG")
    png: str = Field(description="the PNG, in base64")


class Pictures(BaseModel):
    """Pictures, and what they have in common: with a canary two versions share them, and what differs is null here."""

    version: str | None
    alias: str | None
    sampler: str | None
    steps: int | None
    guidance: float | None
    images: list[Picture]


@dataclass(frozen=True)
class Order:
    """What a wish comes to: seeds, and the form of the answer."""

    seeds: Sequence[int | Between]
    form: Format


def order(wish: Wish, settings: ServeSettings) -> Order:
    """Raises WrongInput for what contradicts itself, or is too much."""
    if (wish.seeds is None) == (wish.seed is None):
        raise WrongInput("seeds: give either seeds, a list, or seed, with n where it is more than one")
    if wish.seeds is not None and (wish.n is not None or wish.walk_to is not None):
        raise WrongInput("n: it goes with seed; leave it out where seeds are listed, and walk_to too")
    n = len(wish.seeds) if wish.seeds is not None else wish.n or 1
    require_few(n, settings)
    form: Format = wish.format or ("png" if n == 1 else "grid")
    if form == "png" and n > 1:
        raise WrongInput(f"format: png is one picture, and {n} are asked for; say grid or json")
    if wish.seeds is not None:
        return Order(wish.seeds, form)
    assert wish.seed is not None
    if wish.walk_to is None:
        if wish.seed + n - 1 > MOST_SEED:
            raise WrongInput(f"seed: the last picture's seed would be above {MOST_SEED}; begin lower")
        return Order(range(wish.seed, wish.seed + n), form)
    if n < 2:
        raise WrongInput("n: a walk has at least its two ends; say n from 2 up")
    return Order([Between(wish.seed, wish.walk_to, i / (n - 1)) for i in range(n)], form)


def require_few(pictures: int, settings: ServeSettings) -> None:
    """Raises WrongInput for more pictures than a request may ask for."""
    if pictures > settings.most_n:
        raise WrongInput(f"n: {pictures} pictures are too many for one request; ask for at most {settings.most_n}")


def require_steps(how: How, settings: ServeSettings) -> None:
    """Raises WrongInput for more steps than a request may ask for."""
    if how.steps is not None and how.steps > settings.most_steps:
        raise WrongInput(
            f"steps: {shown(how.steps)} are too many for one request; ask for at most {settings.most_steps}"
        )


def drawing_of(model: Model, how: How) -> DrawSettings:
    """The way of drawing that is asked for. Raises WrongInput for one that the model does not know."""
    found = model.drawing_with(sampler=how.sampler, sampling_steps=how.steps, guidance=how.guidance)
    require_drawable(model.settings, found, model.guide is not None)
    if how.label is not None and how.label >= model.settings.classes:
        has = f"classes 0 to {model.settings.classes - 1}" if model.settings.classes else "no classes"
        raise WrongInput(f"label: {how.label} will not do; the model has {has}")
    return found
