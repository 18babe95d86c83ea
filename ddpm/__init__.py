"""From a folder of pictures to a trained, evaluated, registered and served diffusion model.

For a notebook or a script: `open_model`, `open_dataset`, `evaluate`, `show` (ddpm/api.py). They are imported when they
are first asked for: torch alone takes seconds, and the commands need less.
"""

import os
from typing import TYPE_CHECKING, Any

from ddpm.processors import processors as _processors
from ddpm.processors import share as _share

if TYPE_CHECKING:
    from ddpm.api import evaluate, open_dataset, open_model, report_page, show

# OpenMP's threads wait for each other by spinning: where another program wants a core too, they keep it from the thread
# that they wait for. Sleeping is as fast on an idle machine and degrades gently. Read when torch is loaded, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# As many as the machine has processors, unless told: in a container with less of their time they would be held up.
if _share():
    os.environ.setdefault("OMP_NUM_THREADS", str(_processors()))

__version__ = "0.1.0"
__all__ = ["evaluate", "open_dataset", "open_model", "report_page", "show"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ddpm' has no attribute {name!r}")
    from ddpm import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
