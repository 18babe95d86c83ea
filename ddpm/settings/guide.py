"""What a run's guidance leads away from."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.fields import Typed, setting

BY_TRIAL = "trial"  # the guide is what the winner was at its trial's end


@dataclass(frozen=True)
class GuideSettings(Typed):
    """The weaker model that guides a run's winner (autoguidance): in its report, and in the version that comes of it."""

    guide: str = setting(
        "",
        "what a guidance above 1 leads away from: trial (the winner as its trial left it), or a reference to a weaker model of the same pictures, as models:/NAME/3, which the run keeps; empty: nothing",
    )
