"""The second set of pictures."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ddpm.fields import Typed, require, setting
from ddpm.settings.words import MOST, NAME, NAME_FORM

FROM = ("scratch", "winner")
NAME_OR_NONE, NAME_OR_NONE_FORM = f"({NAME})?", f"empty, or {NAME_FORM}"


@dataclass(frozen=True)
class TransferSettings(Typed):
    """A second set of pictures, on which the winner's network is trained, evaluated, registered and promoted as on the first.

    All other settings hold for both sets, but that the judge is asked about the first alone, and a guide guides that alone.
    """

    transfer_source: str = setting(
        "", "where a second set of pictures comes from (docs/data.md); empty: there is none", place=True
    )
    transfer_dataset_name: str = setting(
        "",
        "what the second data set is called; from the command line, empty: its source's own name",
        pattern=NAME_OR_NONE,
        form=NAME_OR_NONE_FORM,
    )
    transfer_image_size: int = setting(
        0, "a picture's side in the second set", unit="pixels", low=1, high=4096, zero="image_size"
    )
    transfer_classes: int = setting(
        0,
        "class labels that the network is told of the second set, as many as it has",
        low=0,
        high=100_000,
        zero="none",
    )
    transfer_epochs: int = setting(
        0, "the budget on the second set, in passes over its training pictures", low=1, high=MOST, zero="epochs"
    )
    transfer_from: str = setting(
        "scratch", "what training on the second set begins with: nothing, or the weights of the winner", choices=FROM
    )
    transfer_model_name: str = setting(
        "",
        "the registered model of which what is trained on the second set becomes a version; empty: ddpm- and transfer_dataset_name",
        pattern=NAME_OR_NONE,
        form=NAME_OR_NONE_FORM,
    )

    def check(self) -> None:
        """Without a second set nothing may be said of one: it would be passed over."""
        if self.transfer_source:
            require(
                bool(self.transfer_dataset_name), "transfer_dataset_name", "", f"the second data set's: {NAME_FORM}"
            )
            return
        for spec in fields(self):
            if (value := getattr(self, spec.name)) != spec.default:
                require(False, spec.name, value, f"{spec.default!r} where no transfer_source is given")

    @property
    def registered_name(self) -> str:
        """transfer_model_name, or what stands for it."""
        return self.transfer_model_name or f"ddpm-{self.transfer_dataset_name}"
