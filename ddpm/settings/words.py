"""What several of the settings have in common: what a name is, and how large numbers may be."""

from __future__ import annotations

import re

from ddpm.fields import require

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME_FORM = "letters, digits, '.', '_' and '-', beginning with a letter or digit, and at most 100 of them"
MOST = 10**6  # of epochs, say: bounds that nobody meets, and that keep a slip of the pen from what no machine has
PICTURES = 10**9


def require_name(name: str, value: str) -> None:
    require(bool(re.fullmatch(NAME, value)), name, value, NAME_FORM)
