"""How far generated pictures are from real ones, in shares of how far noise is: a scale that every extractor has.

What KID is worth depends on the features: of photographs 0.004 may be another animal, of digits half the classes
missing. Noise against the same real pictures says how far "nothing at all" is by the same network.
"""

from __future__ import annotations

from ddpm.evaluation.reference import NOISE, Reference
from ddpm.evaluation.report import BesideNoise, Excess, NoiseFloor


def beside_noise(reference: Reference, excess: Excess, floor: NoiseFloor) -> BesideNoise:
    """KID's excess over the noise floor, beside that of noise."""
    whole = reference.noise_kid - floor["kid"]
    if whole <= 0:
        return {"kid": reference.noise_kid, "n": NOISE, "share": None, "interval": None}
    interval = [end / whole for end in excess["kid_interval"]]
    return {"kid": reference.noise_kid, "n": NOISE, "share": excess["kid"] / whole, "interval": interval}
