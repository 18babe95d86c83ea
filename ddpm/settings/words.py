"""What several of the settings have in common: what a name is, and how large numbers may be."""

from __future__ import annotations

import re

from ddpm.errors import WrongInput
from ddpm.fields import require

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME_FORM = "letters, digits, '.', '_' and '-', beginning with a letter or digit, and at most 100 of them"
MOST = 10**6  # of epochs, say: bounds that nobody meets, and that keep a slip of the pen from what no machine has
PICTURES = 10**9
LARGEST_SEED = 2**62 - 1


def require_seeds(name: str, first: int, n: int) -> None:
    """Raise WrongInput where the last of n pictures, whose seeds begin with `first`, has none that is allowed."""
    if first + n - 1 > LARGEST_SEED:
        raise WrongInput(
            f"{name}: {first} and {n:,} pictures will not do: the last one's seed would be above {LARGEST_SEED}; begin lower"
        )


def require_name(name: str, value: str) -> None:
    require(bool(re.fullmatch(NAME, value)), name, value, NAME_FORM)
