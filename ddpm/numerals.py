"""Numbers in text that somebody else wrote: digits as everybody reads them.

Python's own int() and float() also take `7_0` (70), ` 7 ` and the digits of every script, so that a slip of the finger, or a
name that only looks like a number, would be another number without a word.
"""

from __future__ import annotations

import re

WHOLE = re.compile(r"[+-]?[0-9]+")
DIGITS = re.compile(r"[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE | re.ASCII)


def whole(text: str) -> int:
    """A whole number, as in `7` or `-7`. Raises ValueError for what is none."""
    return int(_as(WHOLE, text))


def count(text: str) -> int:
    """A whole number from 0, in digits alone, as in `7`. Raises ValueError for what is none."""
    return int(_as(DIGITS, text))


def number(text: str) -> float:
    """A number, as in `0.5`, `7e-5`, or what stands for none that is finite. Raises ValueError for what is none."""
    return float(_as(NUMBER, text))


def _as(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text[:100]!r} is no number that is written in digits")
    return text
