"""A setting is one dataclass field, and all else follows from it: its check, its `--help`, its row in docs/settings.md.

lr: float = setting(7e-5, "the learning rate", above=0, below=1)
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ddpm.credentials import masked_url
from ddpm.errors import WrongInput
from ddpm.numerals import WHOLE, number, whole
from ddpm.places import require_no_password, require_place

T = TypeVar("T")
LONGEST = 4000  # characters of a text; MLflow keeps no longer ones
SHOWN = 120  # characters of a wrong value that are repeated
ABOUT = "about"  # the key of a field's metadata under which its `About` is


@dataclass(frozen=True)
class About:
    """What a field means, and which values will do.

    Args:
        meaning: in a few words that end without a full stop.
        unit: what a number counts or measures, as in "pixels".
        low, high: the smallest and the largest value.
        above, below: bounds that are no values themselves.
        multiple: of whole numbers, only the multiples of this one will do.
        zero: what 0 stands for; it will do wherever the bounds are.
        choices: the only values that will do; a list may grow later.
        pattern: a regular expression that a text must match as a whole, and `form`, which says it in words.
        place: whether a text says where something is: a path or a URL (`ddpm.places.require_place`), or empty.
        was: the setting's name in an earlier release, which is still understood (`renamed`).
        spelt: other words for values, those of earlier releases and what YAML makes of them, which are still understood.
    """

    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    multiple: int = 0
    zero: str = ""
    choices: Sequence[Any] = ()
    pattern: str = ""
    form: str = ""
    place: bool = False
    was: str = ""
    spelt: Mapping[Any, Any] = dataclasses.field(default_factory=dict)

    def admits(self, value: Any) -> bool:
        """Whether the value, which has the field's type, will do. Of numbers, nan and the infinities never do."""
        if self.choices:
            return value in self.choices
        if isinstance(value, str):
            return not self.pattern or bool(re.fullmatch(self.pattern, value))
        if self.zero and value == 0:
            return True
        return (
            (isinstance(value, int) or math.isfinite(value))  # an int may be too large to be asked
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (not self.multiple or value % self.multiple == 0)
        )

    @property
    def range(self) -> str:
        """The values that will do, in words; empty where all of the type will."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.form:
            return self.form
        if self.multiple:
            return f"a multiple of {self.multiple}" + ("" if self.high is None else f", at most {self.high}")
        zero = f"0 ({self.zero})" if self.zero else "0"
        end = "" if self.high is None else str(self.high)
        end = end if self.below is None else f"below {self.below}"
        if self.low is not None:
            low = zero if self.low == 0 else str(self.low)
            words = f"from {low} to {end}" if end else f"{zero} or more" if self.low == 0 else f"at least {low}"
        elif self.above is not None:
            words = f"above {self.above}" + (f" and {'' if self.below is not None else 'at most '}{end}" if end else "")
        else:
            return ""
        return f"{zero} or {words}" if self.zero and self.low != 0 else words


def setting(default: T, meaning: str, **bounds: Any) -> T:
    """A field of settings with its default; the other arguments are those of `About`."""
    return dataclasses.field(default=default, metadata=about(meaning, **bounds))


def about(meaning: str, **bounds: Any) -> dict[str, About]:
    """The metadata of a field of settings, for one that has no default."""
    return {ABOUT: About(meaning, **bounds)}


def about_of(field: dataclasses.Field[Any]) -> About:
    """What the field says of itself. Raises KeyError for one that was not written with `setting` or `about`."""
    return field.metadata[ABOUT]


def renamed(parameters: Mapping[str, Any], fields: Iterable[dataclasses.Field[Any]]) -> dict[str, Any]:
    """The parameters, with the names of today for those of earlier releases. Raises WrongInput where both are given."""
    today = {about_of(field).was: field.name for field in fields if about_of(field).was}
    for name in parameters:
        if today.get(name, name) != name and today[name] in parameters:
            raise WrongInput(f"{name}: {today[name]} is given too, which is what it is called now; say it once")
    return {today.get(name, name): value for name, value in parameters.items()}


def type_of(field: dataclasses.Field[Any]) -> str:
    """The name of the field's type: int, float, bool or str."""
    return field.type if isinstance(field.type, str) else field.type.__name__


def range_of(field: dataclasses.Field[Any]) -> str:
    """The values that will do, in words; empty where all texts or numbers will."""
    return "true or false" if type_of(field) == "bool" else about_of(field).range


def describe(field: dataclasses.Field[Any], *more: str) -> str:
    """Meaning, unit and range in one line, and whatever else is to stand with them."""
    unit_and_range = ", ".join(part for part in (about_of(field).unit, range_of(field)) if part)
    rest = "; ".join(part for part in (unit_and_range, *more) if part)
    return about_of(field).meaning + (f" [{rest}]" if rest else "")


def plain(value: Any) -> str:
    """A value as a person writes it: `true`, `7e-5`; an empty text is called so."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e-0", "e-")
    return str(value) or "empty"


def require(ok: bool, name: str, value: Any, right: str) -> None:
    """Raise WrongInput in the one form that all settings share, unless `ok`."""
    if not ok:
        raise WrongInput(f"{name}: {shown(value)} will not do; it must be {right}")


def shown(value: Any) -> str:
    """A value that somebody gave, quoted; the beginning of a long one."""
    text = repr(masked_url(value) if isinstance(value, str) else value)  # first: a cut would hide where a password ends
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


class Typed:
    """Settings that check each field's type and range on construction: a preset's `lr: fast` is caught where it enters.

    Text becomes the field's type, so that flags and presets may be given as they were read.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if dataclasses.is_dataclass(value):
                continue  # it has checked itself
            object.__setattr__(self, field.name, checked(field, value))
        self.check()
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if isinstance(value := getattr(self, field.name), str):
                require_no_password(field.name, value)

    def check(self) -> None:
        """Raise WrongInput for values that do not go together."""


def checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """The value as the field's type. Raises WrongInput where it will not do."""
    about, name = about_of(field), field.name
    value = as_type(name, type_of(field), about.spelt.get(value, value))
    right = range_of(field)
    if isinstance(value, float) and not math.isfinite(value):
        right = f"a finite number, {right}"
    require(about.admits(value), name, value, right)
    require(len(str(value)) <= LONGEST, name, value, f"at most {LONGEST} characters long")
    if about.place and value:
        require_place(name, value)
    return value


def as_type(name: str, kind: str, value: Any) -> Any:
    """A value as int, float, bool or str. Raises WrongInput where it is none."""
    if kind == "bool" and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind == "bool" and isinstance(value, bool):
            return value
        if kind == "int" and not isinstance(value, bool):
            return _as_whole(value)
        if kind == "float" and not isinstance(value, bool):
            return number(value) if isinstance(value, str) else float(value)
        if kind == "str" and isinstance(value, (str, int, float)):
            return str(value)
    except (TypeError, ValueError, OverflowError):
        pass  # said below, with the field's name
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    raise WrongInput(f"{name}: {shown(value)} is not {words.get(kind, kind)}")


def _as_whole(value: Any) -> int:
    """The whole number that the value is, also as `5.0`; never by way of a float, which holds 53 bits of a seed."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and WHOLE.fullmatch(value):
        return whole(value)
    found = number(value) if isinstance(value, str) else float(value)
    if found != int(found):
        raise ValueError(value)
    return int(found)
