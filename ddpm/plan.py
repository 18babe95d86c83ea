"""A whole run: the settings of every step, and the places it is kept in; and the presets that name good ones."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm.errors import WrongInput
from ddpm.settings import (
    FORMAT_VERSION,
    NAME,
    DrawSettings,
    EvaluateSettings,
    IngestSettings,
    JudgeSettings,
    ModelSettings,
    RegistrySettings,
    SearchSettings,
    TrainSettings,
    Typed,
    pick,
    require,
    require_drawable,
    require_halvable,
    require_name,
)


@dataclass(frozen=True)
class Plan(Typed):
    """A whole run: its name, its places, and the settings of every step."""

    run_name: str
    store: str  # object store: a folder, file:///… or s3://bucket/prefix
    tracking_uri: str  # MLflow
    study_storage: str  # Optuna: a database URL, or the path of a journal file
    ingest: IngestSettings = field(default_factory=IngestSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    draw: DrawSettings = field(default_factory=DrawSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)

    def check(self) -> None:
        require_name("run_name", self.run_name)
        for name in ("store", "tracking_uri", "study_storage"):
            require(bool(getattr(self, name)), name, getattr(self, name), "a place: a path or a URI")
        for choice in self.search.choices:
            require_halvable(self.ingest.image_size, choice)
        require_drawable(self.model, self.draw)
        require(
            self.search.prune_every % self.train.held_out_every == 0,
            "prune_every",
            self.search.prune_every,
            f"0 or a multiple of held_out_every ({self.train.held_out_every})",
        )
        require(
            self.search.trial_epochs <= self.train.epochs,
            "trial_epochs",
            self.search.trial_epochs,
            f"at most epochs ({self.train.epochs}): the winner goes on from its trial",
        )

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Plan:
        """Build and check a plan from flat parameters; a name that is no setting is refused."""
        known = parameter_names()
        for name in parameters:
            if name in SEARCHED:
                raise WrongInput(f"{name}: the search chooses it; what it may choose is said by {SEARCHED[name]}")
            if name not in known:
                raise WrongInput(f"'{name}' is not a setting; the settings are {', '.join(known)}")
        places = {name: parameters[name] for name in PLACES if name in parameters}
        missing = [name for name in PLACES if name not in places]
        if missing:
            raise WrongInput(f"{missing[0]}: missing; a plan needs {', '.join(PLACES)}")
        return cls(**places, **{room: pick(kind, parameters) for room, kind in ROOMS.items()})

    def parameters(self) -> dict[str, Any]:
        """The plan, flat: what `from_parameters` takes and MLflow keeps."""
        flat: dict[str, Any] = {name: getattr(self, name) for name in PLACES}
        for room in ROOMS:
            flat.update(dataclasses.asdict(getattr(self, room)))
        return {name: flat[name] for name in parameter_names()}

    def to_json(self) -> str:
        return json.dumps({"format_version": FORMAT_VERSION, **self.parameters()}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        parameters = json.loads(text)
        version = parameters.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise WrongInput(f"plan: format_version {version} is not known here; this release reads {FORMAT_VERSION}")
        return cls.from_parameters(parameters)


PLACES = ("run_name", "store", "tracking_uri", "study_storage")
ROOMS: dict[str, type] = {
    "ingest": IngestSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "search": SearchSettings,
    "draw": DrawSettings,
    "evaluate": EvaluateSettings,
    "judge": JudgeSettings,
    "registry": RegistrySettings,
}


# Settings of a network and its training that a run has one of for every trial.
SEARCHED = {"channel_mults": "mults_choices", "lr": "founding_lr, lr_low and lr_high"}


def fields() -> list[dataclasses.Field[Any]]:
    """Every setting of a run but its places, in the order of the steps."""
    found = [spec for kind in ROOMS.values() for spec in dataclasses.fields(kind)]
    return [spec for spec in found if spec.name not in SEARCHED]


def parameter_names() -> list[str]:
    """Every name that may be set for a run, in the order of the steps."""
    return [*PLACES, *(spec.name for spec in fields())]


def load_preset(name: str) -> dict[str, Any]:
    """The parameters of `pipelines/presets/NAME.yaml`."""
    import yaml

    folder = Path(__file__).parent.parent / "pipelines" / "presets"
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        raise WrongInput(
            f"preset: there is none named '{name}'; there are {', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}"
        )
    return yaml.safe_load(path.read_text()) or {}
