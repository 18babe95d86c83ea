"""How what `init_from` names becomes weights to begin a training with: a checkpoint, a version, an exported folder."""

from __future__ import annotations

from ddpm.errors import WrongInput
from ddpm.places import without_file_scheme
from ddpm.registry.version import is_exported, resolve
from ddpm.store import Missing
from ddpm.training.initial import Initial, of_checkpoint, of_model


def open_initial(reference: str, tracking_uri: str) -> Initial:
    """The weights that a reference names; raw ones and averages of a checkpoint, of anything else what it draws with.

    Raises Missing, or WrongInput for what is no checkpoint or version of ours, or damaged.
    """
    place = without_file_scheme(reference)
    try:
        if place.startswith("models:") or is_exported(place):
            return of_model(resolve(place, tracking_uri))
        return of_checkpoint(place)
    except WrongInput as problem:  # Damaged among them
        kind = Missing if isinstance(problem, Missing) else WrongInput
        raise kind(f"init_from: {str(problem).removeprefix('model: ')}") from None
