"""A version against the champion: what the gate is given to go by, read where it can be trusted, or measured again.

A version's report is the one that it was registered with, by its digest in MLflow and in the promotion log. A
candidate's, and a champion's, is weighed where an evaluation put the very same one into the store, and otherwise the
version is measured again: a figure that somebody wrote into a file takes nobody's place and keeps none, whatever key and
digest he gave it. Of a report that has neither, as those of earlier releases, nobody can tell, and the log says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ddpm.data.dataset import PictureSet, open_dataset
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.evaluate import evaluate, is_stored
from ddpm.evaluation.protocol import measurement_of, require_same_measurement
from ddpm.evaluation.report import Report, is_findable
from ddpm.registry.catalogue import FILES_TAG, WEIGHTS_TAG, find
from ddpm.registry.folder import AGAIN
from ddpm.registry.gate import Decision, Rule, by_itself, decide
from ddpm.registry.lineage import shared
from ddpm.registry.log import Entry, standing
from ddpm.registry.sample import Verified
from ddpm.registry.version import figures, resolve
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.store import Damaged, Missing
from ddpm.tracking import open_client
from ddpm.workplace import Workplace

LINEAGE = "its data is the champion's"
SAMPLE_RULE = "it draws its recorded sample"


@dataclass(frozen=True)
class Contender:
    """A registered version with its report and its tags."""

    name: str
    version: int
    report: Report
    tags: dict[str, str]
    measured_here: bool = False  # whether the report is in the store

    @property
    def reference(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def weights_sha256(self) -> str:
        return self.report["protocol"]["generation"]["weights_sha256"]

    @property
    def dataset_digest(self) -> str:
        """Of the data set that it was trained on; of earlier releases' versions, that it was measured on."""
        return self.tags.get("dataset_digest") or self.report["protocol"]["measurement"].get("dataset_digest", "")


def contender(place: Workplace, name: str, version: int, log: list[Entry] | None = None) -> Contender:
    """A version as it was registered. Raises Damaged where its files, MLflow's tags and the log do not agree."""
    tags = dict(find(open_client(place.tracking_uri), f"models:/{name}/{version}").tags)
    for entry in log or []:
        logged, found = entry.get("files_sha256"), tags.get(FILES_TAG)
        if entry["to"] == version and logged and logged != found:
            raise Damaged(
                f"model: MLflow's tag {FILES_TAG} of {name} version {version} is not the one that entry {entry['number']} of the promotion log keeps; {AGAIN}"
            )
    report = figures(place.tracking_uri, name, version)
    measured = (report["protocol"].get("generation") or {}).get(WEIGHTS_TAG)
    if measured is None or measured != tags.get(WEIGHTS_TAG, measured):
        raise Damaged(f"model: the report of {name} version {version} is of other weights than its own; {_ANEW}")
    measured_here = bool(place.store_uri) and is_stored(place.store, report, f"the report of {name} version {version}")
    return Contender(name, version, report, tags, measured_here)


_ANEW = "evaluate its checkpoint, delete that version in MLflow, and register the checkpoint with the new report"


def weighed(
    place: Workplace, one: Contender, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings
) -> Contender:
    """The version with a report that an evaluation wrote into the store: its own, or a new one.

    A report of an earlier release is left as it is, and the decision says so of a candidate.
    """
    if one.measured_here or not is_findable(one.report):
        return one
    place.progress.say(
        f"the report of {one.name} version {one.version} is not in {place.store.root}, so nobody knows who wrote it: the version is measured again"
    )
    report = _measured(place, one, dataset_uri, settings, drawing)
    return dataclasses.replace(one, report=report, measured_here=True)


def contest(
    place: Workplace, candidate: Contender, log: list[Entry], dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings,
    verified: Callable[[], Verified], every_rule: bool = False,
) -> Decision:  # fmt: skip
    """What the gate says of a version, by the log as it stands: against the champion, or, where that is gone, against the
    one before it. One that would be promoted must draw its recorded sample again, which `verified` tries.

    Args:
        every_rule: look at all rules even where one has failed, and nothing can change the decision any more.
    """
    decision = _by_figures(place, candidate, log, dataset_uri, settings, drawing, every_rule)
    if not is_findable(candidate.report):
        why = f"{decision.why}; its report is one of an earlier release, and nobody can tell who wrote it"
        decision = dataclasses.replace(decision, why=why)
    if not decision.promote and not every_rule:
        return decision
    found = verified()
    rule = Rule(SAMPLE_RULE, found.reproduced is not False, found.says)
    rules = [*decision.rules, rule]
    if rule.passed or not decision.promote:
        return Decision(decision.promote, decision.why, rules)
    return Decision(False, f"it does not draw its recorded sample: {found.says}", rules)


def _by_figures(
    place: Workplace, candidate: Contender, log: list[Entry], dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings,
    every_rule: bool,
) -> Decision:  # fmt: skip
    now = standing(log)
    bar = now.get("champion", now.get("previous"))
    if bar is None:
        first = "the first version of this model" if not log else "there is no champion, and none before it is left"
        return decide(candidate.report, None, settings.copying_gate, settings.noise_gate, first=first)
    alone = by_itself(candidate.report, settings.copying_gate)
    if alone.promote:
        return _against(place, candidate, bar, log, dataset_uri, settings, drawing)
    if not every_rule:  # a champion is not measured again for a version that cannot take its place
        return alone
    try:
        against = _against(place, candidate, bar, log, dataset_uri, settings, drawing)
    except (WrongInput, Refused) as problem:
        against = Decision(False, "", [*alone.rules, Rule("it is measured as the champion is", False, str(problem))])
    return Decision(False, alone.why, against.rules)


def _against(
    place: Workplace, candidate: Contender, bar: int, log: list[Entry], dataset_uri: str, settings: EvaluateSettings,
    drawing: DrawSettings,
) -> Decision:  # fmt: skip
    """What the gate says of a version against another one, `bar`: the champion, or the one before it."""
    now, alone = standing(log), by_itself(candidate.report, settings.copying_gate)
    gates = settings.copying_gate, settings.noise_gate
    champion = contender(place, candidate.name, bar, log)
    theirs, mine = champion.report, candidate.report
    sizes = measurement_of(theirs)["image_size"], measurement_of(mine)["image_size"]
    if sizes[0] != sizes[1]:
        why = f"the champion draws {sizes[0]} px and this version {sizes[1]} px: they cannot be measured alike"
        return Decision(False, why, [*alone.rules, Rule("it draws pictures of the champion's size", False, why)])
    lineage = _lineage(champion, candidate, dataset_uri, settings.lineage_gate)
    if lineage.passed:
        theirs = _measured_alike(place, champion, mine, dataset_uri, settings, drawing)
    decision = _said_of(decide(mine, theirs, *gates, before=[lineage]), lineage, None if "champion" in now else bar)
    if is_findable(theirs):
        return decision
    old = f"the report of version {bar}, which it was measured against, is one of an earlier release, and nobody can tell who wrote it"
    return dataclasses.replace(decision, why=f"{decision.why}; {old}")


def _said_of(decision: Decision, lineage: Rule, previous: int | None) -> Decision:
    """The decision, with what must not go unsaid: that nobody asked whose data it was, or that the champion is gone."""
    words = [decision.why]
    if lineage.passed and lineage.says.startswith("lineage_gate 0"):
        words.append(lineage.says)
    if previous is not None:
        more = "" if decision.promote else "; `ddpm rollback` gives that its place back"
        words.append(f"there is no champion, so that it was measured against the one before, version {previous}{more}")
    return Decision(decision.promote, "; ".join(words), decision.rules)


def _measured_alike(
    place: Workplace, champion: Contender, mine: Report, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings
) -> Report:  # fmt: skip
    """The champion's report under the candidate's measurement: its own, if it was measured here, or a new one."""
    champion = weighed(place, champion, dataset_uri, settings, drawing)
    try:
        require_same_measurement(measurement_of(mine), measurement_of(champion.report))
        return champion.report
    except Refused as problem:
        place.progress.say(f"the champion, version {champion.version}, is measured again: {problem}")
    return _measured(place, champion, dataset_uri, settings, drawing)


def _measured(
    place: Workplace, one: Contender, dataset_uri: str, settings: EvaluateSettings, drawing: DrawSettings
) -> Report:
    """The report on a version's pictures, made now or found in the store, drawn as the other's are, but for guidance: by a
    guide it is the version's own, whichever of the two has one; by classes it is the other's."""
    model, data = resolve(one.reference, place.tracking_uri), open_dataset(dataset_uri)
    if model.guide is not None or not model.settings.classes:
        drawing = dataclasses.replace(drawing, guidance=model.drawing.guidance)
    return evaluate(model, data, settings, drawing, place.store, place.progress)


def _lineage(champion: Contender, candidate: Contender, dataset_uri: str, gate: float) -> Rule:
    """Whether a version's data and the champion's have enough pictures in common for figures to mean the same of both."""
    if champion.dataset_digest == candidate.dataset_digest:
        return Rule(LINEAGE, True, "the same data set")
    of = _short(champion), _short(candidate)
    if gate == 0:
        return Rule(
            LINEAGE, True, f"lineage_gate 0 measures across data sets: the champion's is {of[0]}, its own {of[1]}"
        )
    theirs, mine = _data_of(champion, ""), _data_of(candidate, dataset_uri)
    if theirs is None or mine is None:
        lost = of[0] if theirs is None else of[1]
        return Rule(
            LINEAGE, False,
            f"the champion was made from {of[0]} and this version from {of[1]}, and what these have in common cannot be told, for {lost} is not there; give another model_name, or lineage_gate 0 to measure them all the same",
        )  # fmt: skip
    found = shared(theirs, mine)
    words = f"{found.pictures:,} of {found.of:,} pictures ({found.share:.1%}) of the data set {of[1]} are in the champion's, {of[0]}, too"
    if found.share >= gate:
        return Rule(LINEAGE, True, f"{words}; lineage_gate {gate:.1%}")
    return Rule(
        LINEAGE, False,
        f"the champion is of other data: {words}, and lineage_gate asks for {gate:.1%}; give this one another model_name, or lineage_gate 0 to measure them all the same",
    )  # fmt: skip


def _short(one: Contender) -> str:
    """A data set, as a person tells it from others."""
    parts = one.tags.get("dataset_uri", "").rsplit("/", 2)
    return f"{parts[1] if len(parts) == 3 else 'unknown'} {one.dataset_digest[:12]}…"


def _data_of(one: Contender, asked: str) -> PictureSet | None:
    """The data set that a version was trained on; None where nobody knows it, or it is there no more."""
    for uri in (one.tags.get("dataset_uri", ""), asked):
        if uri.rpartition("/")[2].removesuffix(".json") != one.dataset_digest:
            continue
        try:
            return open_dataset(uri)
        except (Missing, WrongInput):
            continue
    return None
