"""Samplers, sources, extractors and figures of one's own, in every process that should know them.

$DDPM_EXTENSIONS names Python modules, separated by spaces. Importing one registers what it brings. The commands, the
pipeline's tasks and `make run` do so before anything else; in a container the modules must be in the image.
"""

from __future__ import annotations

import importlib
import os

from ddpm.errors import WrongInput

VARIABLE = "DDPM_EXTENSIONS"


def load_extensions() -> None:
    """Import the modules that the environment names. Raises WrongInput for one that cannot be imported."""
    for name in os.environ.get(VARIABLE, "").split():
        try:
            importlib.import_module(name)
        except ImportError as problem:
            raise WrongInput(
                f"{VARIABLE}: {name} cannot be imported ({problem}); name modules that are on PYTHONPATH"
            ) from None
