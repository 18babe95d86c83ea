"""A whole run: the settings of every step, and the places it is kept in."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ddpm.credentials import without_password
from ddpm.errors import WrongInput, did_you_mean
from ddpm.fields import Typed, about, renamed, require
from ddpm.settings import (
    BY_TRIAL,
    CHOICES,
    FORMAT_VERSION,
    NAME,
    NAME_FORM,
    CostSettings,
    DrawSettings,
    EvaluateSettings,
    GuideSettings,
    IngestSettings,
    JudgeSettings,
    ModelSettings,
    RegistrySettings,
    SearchSettings,
    TrainSettings,
    TransferSettings,
    pick,
    require_drawable,
    require_guidance,
    require_halvable,
    require_one_weight,
)

PLACE = r"(?s).*\S.*"  # any text but none


@dataclass(frozen=True)
class Plan(Typed):
    """A whole run: its name, its places, and the settings of every step."""

    run_name: str = field(metadata=about("the run's name; given again, it resumes", pattern=NAME, form=NAME_FORM))
    store: str = field(
        metadata=about(
            "the object store", pattern=PLACE, form="a folder, file:///PATH or s3://BUCKET/PREFIX", place=True
        )
    )
    tracking_uri: str = field(
        metadata=about("MLflow's records", pattern=PLACE, form="sqlite:///PATH, or a server's URL", place=True)
    )
    study_storage: str = field(
        metadata=about("Optuna's study", pattern=PLACE, form="a journal file's path, or a database URL", place=True)
    )
    ingest: IngestSettings = field(default_factory=IngestSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    draw: DrawSettings = field(default_factory=DrawSettings)
    guide: GuideSettings = field(default_factory=GuideSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    cost: CostSettings = field(default_factory=CostSettings)

    def check(self) -> None:
        for name, value in self.parameters().items():
            if "{{" in str(value):  # as a path may; it would arrive otherwise than it was written
                raise WrongInput(
                    f"{name}: it holds '{{{{', with which Kubeflow's placeholders begin; give it, or a link to it, another name"
                )
        for choice in self.search.choices:
            require_halvable(self.ingest.image_size, choice)
        self._check_varied()
        require(
            self.search.first_rung % self.train.held_out_every == 0,
            "first_rung",
            self.search.first_rung,
            f"0 or a multiple of held_out_every ({self.train.held_out_every})",
        )
        require(
            self.search.trial_epochs <= self.train.epochs,
            "trial_epochs",
            self.search.trial_epochs,
            f"at most epochs ({self.train.epochs}): the winner goes on from its trial",
        )
        require_guidance(self.guide.guide, self.draw)
        require(
            self.guide.guide != BY_TRIAL or self.search.trial_epochs < self.train.epochs,
            "trial_epochs",
            self.search.trial_epochs,
            f"less than epochs ({self.train.epochs}), where the winner's trial is its guide",
        )
        if self.transfer.transfer_source:
            self._check_second()

    def _check_second(self) -> None:
        """Raise WrongInput for a second set that is the first by its names, or on which not every winner could be trained."""
        second = self.second()
        for name, of_first, of_second in (
            ("transfer_dataset_name", self.ingest.dataset_name, second.ingest.dataset_name),
            ("transfer_model_name", self.registry.model_name, second.registry.model_name),
        ):
            require(of_second != of_first, name, of_second, "another than the first set's")
        if self.transfer.transfer_from == "winner":
            require(
                self.transfer.transfer_classes == self.model.classes,
                "transfer_classes",
                self.transfer.transfer_classes,
                f"{self.model.classes}, as classes is, for transfer_from=winner; or transfer_from scratch",
            )

    def second(self) -> Plan:
        """The plan by which the second set goes through the same steps.

        A guide draws the first set's pictures: the second set's are drawn without. Raises WrongInput for a size that a list
        of multipliers cannot carry, and for guidance without classes.
        """
        given, draw = self.transfer, self.draw
        if self.guide.guide:
            draw = dataclasses.replace(draw, guidance=1.0)
        image_size, epochs = (
            given.transfer_image_size or self.ingest.image_size,
            given.transfer_epochs or self.train.epochs,
        )
        for choice in self.search.choices:
            try:
                require_halvable(image_size, choice)
            except WrongInput as problem:
                raise WrongInput(f"transfer_{problem}") from None
        require(
            draw.guidance == 1 or given.transfer_classes > 0,
            "transfer_classes",
            given.transfer_classes,
            f"as many as the second set has, for guidance ({draw.guidance:g})",
        )
        return dataclasses.replace(
            self,
            ingest=dataclasses.replace(
                self.ingest,
                source=given.transfer_source,
                dataset_name=given.transfer_dataset_name,
                image_size=image_size,
            ),
            model=dataclasses.replace(self.model, classes=given.transfer_classes),
            train=dataclasses.replace(self.train, epochs=epochs, init_from="", init_partial=False),
            search=dataclasses.replace(self.search, trial_epochs=min(self.search.trial_epochs, epochs)),
            draw=draw,
            guide=GuideSettings(),
            judge=JudgeSettings(),
            registry=RegistrySettings(model_name=given.registered_name),
            transfer=TransferSettings(),
        )

    def sets(self) -> dict[str, str]:
        """Where the pictures of the run's sets come from, by the setting that says it."""
        second = self.transfer.transfer_source
        return {"source": self.ingest.source, **({"transfer_source": second} if second else {})}

    def at(self, point: Mapping[str, Any]) -> tuple[ModelSettings, TrainSettings]:
        """The network and its training with these settings otherwise. Raises WrongInput for a value that will not do."""
        of_model = {spec.name for spec in dataclasses.fields(ModelSettings)}
        model = {name: value for name, value in point.items() if name in of_model}
        train = {name: value for name, value in point.items() if name not in of_model}
        return dataclasses.replace(self.model, **model), dataclasses.replace(self.train, **train)

    def _check_varied(self) -> None:
        """Raise WrongInput for a value among those that the search may choose from with which no trial could be run."""
        guided = bool(self.guide.guide)
        require_drawable(self.model, self.draw, guided)
        for name, values in self.search.varied.items():
            for value in values:
                try:
                    model, train = self.at({name: value})
                    require_drawable(model, self.draw, guided)
                    require_one_weight(model, train)
                except WrongInput as problem:
                    raise WrongInput(f"{CHOICES[name]}: {value} is no choice: {problem}") from None

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Plan:
        """Build and check a plan from flat parameters; a name that is no setting is refused."""
        known = parameter_names()
        parameters = renamed(parameters, fields())
        for name in parameters:
            if name in SEARCHED:
                raise WrongInput(f"{name}: the search chooses it; what it may choose is said by {SEARCHED[name]}")
            if name not in known:
                raise WrongInput(
                    f"'{name}' is not a setting{_meant(name, known)}; docs/settings.md has them all: {', '.join(known)}"
                )
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
        # Release 0.1 kept the passwords of places; they are not taken from there.
        for name in PLACES:
            parameters[name] = without_password(str(parameters.get(name, "")))
        if version != FORMAT_VERSION:
            raise WrongInput(f"plan: format_version {version} is not known here; this release reads {FORMAT_VERSION}")
        return cls.from_parameters(parameters)


def _meant(name: str, known: Iterable[str]) -> str:
    """What somebody who wrote it will have meant, in brackets; nothing where that is not known."""
    if name.rsplit("_", 1)[-1].lower() in OF_CLUSTER:
        return " (nodes and GPUs are said by a CLUSTER file, as in train: {nodes: 2, accelerators: 4}; docs/cluster.md)"
    return did_you_mean(name, known)


PLACES = ("run_name", "store", "tracking_uri", "study_storage")
ROOMS: dict[str, type] = {
    "ingest": IngestSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "search": SearchSettings,
    "draw": DrawSettings,
    "guide": GuideSettings,
    "evaluate": EvaluateSettings,
    "judge": JudgeSettings,
    "registry": RegistrySettings,
    "transfer": TransferSettings,
    "cost": CostSettings,
}


# How names end that are no settings: what tasks ask of a cluster is compiled in.
OF_CLUSTER = ("node", "nodes", "gpu", "gpus", "accelerator", "accelerators")

# Settings of a network and its training that a run has one of for every trial.
SEARCHED = {"channel_mults": "mults_choices", "lr": "founding_lr, lr_low and lr_high"}


def set_words(changes: Mapping[str, Any]) -> str:
    """What a person writes to have these settings: `SET='epochs=60 trials=4'`, as the shell reads it."""
    return f"SET={shlex.quote(' '.join(f'{name}={_quoted(str(value))}' for name, value in changes.items()))}"


def _quoted(value: str) -> str:
    """A value within SET, which is quoted itself: in the other kind of quotes where they will do."""
    plain = shlex.quote(value) == value
    return value if plain else shlex.quote(value) if re.search(r'["\\$`]', value) else f'"{value}"'


def places() -> list[dataclasses.Field[Any]]:
    """A run's name and places, as fields."""
    return [spec for spec in dataclasses.fields(Plan) if spec.name in PLACES]


def fields() -> list[dataclasses.Field[Any]]:
    """Every setting of a run but its places, in the order of the steps."""
    found = [spec for kind in ROOMS.values() for spec in dataclasses.fields(kind)]
    return [spec for spec in found if spec.name not in SEARCHED]


def parameter_names() -> list[str]:
    """Every name that may be set for a run, in the order of the steps."""
    return [spec.name for spec in (*places(), *fields())]
