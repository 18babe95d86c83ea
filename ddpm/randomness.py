"""Counted randomness: every draw comes from a generator keyed by what it is for.

Nothing draws from a shared stream, so a resume, another batch size or another worker changes no draw but its own.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def key(*parts: int | str) -> int:
    """A 63-bit seed from the parts: the same parts give the same seed on any machine."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """A generator on `device`, seeded by `key(*parts)`."""
    import torch  # 4 s, and the search's workers need only `key` before they have a trial

    return torch.Generator(device=device).manual_seed(key(*parts))
