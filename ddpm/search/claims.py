"""Which worker has which trial: an object of the run's claims, which only one writer can create.

    CLAIMS/NNNNNN.json   {"worker": N} of the trial with this number

A claim is never given back. So a worker that was killed and is started again finds the trials that are its own, and
nobody else runs them meanwhile.
"""

from __future__ import annotations

import json

from ddpm.store import Store


def claim(claims: Store, trial: int, worker: int) -> bool:
    """Whether the trial of this number is this worker's: claimed now, or before it was killed."""
    key, mine = f"{trial:06d}.json", json.dumps({"worker": worker}).encode()
    return claims.create(key, mine) or claims.read(key) == mine
