"""What is served: the version that an alias points at, swapped when it moves; and another one beside it.

A request takes its version once, at its beginning, and keeps it: a swap drops and mixes nothing. A version is swapped in
only after it has been loaded, checked and measured, beside the running one.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ddpm.device import keep_threads
from ddpm.errors import Outage, Refused, WrongInput
from ddpm.evaluation.report import Report
from ddpm.model.model import BATCH, Model
from ddpm.outages import wait_out
from ddpm.randomness import key
from ddpm.registry.aliases import holders, told_card, weights_of
from ddpm.registry.card import card
from ddpm.registry.exported import card_of, exported, report_of, without_places
from ddpm.registry.sample import Surroundings, surroundings, verify
from ddpm.registry.space import public, public_model
from ddpm.registry.version import figures, resolve
from ddpm.serving.settings import ServeSettings
from ddpm.serving.shapes import Shape, choose, fixed, measure
from ddpm.settings import require_drawable
from ddpm.store import Missing

log = logging.getLogger("ddpm.serving")

FOLLOWED = re.compile(r"models:/(?P<name>[^@/]+)@(?P<alias>[^@/]+)")
VERSION = re.compile(r"models:/(?P<name>[^@/]+)/(?P<version>[0-9]+)")
FIXED = "model"  # what a reference without an alias is called here
CLOSE_SECONDS = 5.0  # for a look under way; one at a registry that is away would take longer, and holds nothing
WARM_STEPS = 4  # of a version's first drawing


@dataclass(frozen=True, eq=False)
class Served:
    """A version that draws: its model, how it draws here, and what is known of it."""

    reference: str
    model: Model
    measured: list[Shape]
    checked: str  # how it was, before it was served
    report: Report | None
    card: str
    on: Surroundings  # what it draws on

    @property
    def shapes(self) -> tuple[int, ...]:
        return choose(self.measured)

    @property
    def arithmetic(self) -> int:
        """The batch whose bytes a picture has: the engine's own, or the one that a person chose."""
        return BATCH if any(shape.pictures == BATCH for shape in self.measured) else self.measured[0].pictures

    def seconds(self, pictures: int) -> float:
        """Of one evaluation of the network for so many pictures, in the batches that they take."""
        of = {shape.pictures: shape.seconds for shape in self.measured}
        full, rest = divmod(pictures, self.shapes[-1])
        last = next(shape for shape in self.shapes if shape >= rest)
        return full * of[self.shapes[-1]] + (of[last] if rest else 0.0)


def load(reference: str, tracking_uri: str, settings: ServeSettings) -> Served:
    """A version, checked and measured. Raises WrongInput or Refused for one that will not do."""
    model = public_model(resolve(reference, tracking_uri))
    require_drawable(model.settings, model.drawing, model.guide is not None)  # else every request would be refused
    found = VERSION.fullmatch(model.origin.reference)
    report: Report | None
    if found:
        name, number = found["name"], int(found["version"])
        report, told = figures(tracking_uri, name, number), told_card(tracking_uri, name, number)
    else:
        folder = exported(reference)
        report, told = (report_of(folder), card_of(folder)) if folder else (None, "")
    report = public(report) if report else None
    checked = _check(model, tracking_uri)
    measured = fixed(model, settings.batch) if settings.batch else measure(model, settings.latency)
    told = without_places(told) or card(model, "safetensors", "ema", report)
    return Served(model.origin.reference, model, measured, checked, report, told, surroundings(model))


def _check(model: Model, tracking_uri: str) -> str:
    """How the model was checked, in words. Raises Refused where it does not draw its recorded sample."""
    verified = verify(model, tracking_uri)
    if verified.reproduced is False:
        raise Refused(f"model: {model.origin.reference} does not draw its recorded sample: {verified.says}")
    if verified.reproduced is None:
        model.draw([0], model.quick(WARM_STEPS, 1))
    return verified.says


Load = Callable[[str, str, ServeSettings], Served]


@dataclass
class State:
    """What the follower knows: which versions it refused, by reference, and why; whether the registry answers, and still
    has the alias."""

    refused: dict[str, str] = field(default_factory=dict)
    registry: str = ""  # what is the matter with it, if anything
    alias: str = ""  # and with the alias that is followed
    swaps: int = 0

    def without_reasons(self) -> State:
        """The same for strangers: reasons hold the addresses and paths of stores and registries."""
        told = "the log says why"
        return replace(self, refused=dict.fromkeys(self.refused, told), registry=self.registry and f"amiss; {told}")


class Versions:
    """Which version answers under which alias. Readers see one dict or the next, never half of a change."""

    def __init__(self, reference: str, tracking_uri: str, settings: ServeSettings, load: Load = load) -> None:
        self.reference, self.tracking_uri, self.settings, self._load = reference, tracking_uri, settings, load
        followed = FOLLOWED.fullmatch(reference)
        self.name = followed["name"] if followed else ""
        self.main = followed["alias"] if followed else FIXED
        self.beside = settings.beside if settings.beside != self.main else ""  # a version is not beside itself
        self.by_alias: dict[str, Served] = {}
        self.state = State()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- who answers ---------------------------------------------------------------------------------------------------

    def may_answer(self, alias: str | None) -> dict[str, Served]:
        """By alias, the versions one of which answers: the one that is asked for, or whose share of the seeds is not none.

        Raises WrongInput for an alias that is not served.
        """
        now = self.by_alias
        if alias is not None:
            if alias not in now:
                raise WrongInput(f"alias: nothing is served as {alias!r}; there is {' and '.join(now)}")
            return {alias: now[alias]}
        share, _ = self.canary(now)
        names = [*([self.main] if share < 1 else []), *([self.beside] if share > 0 else [])]
        return {name: now[name] for name in names}

    def canary(self, now: dict[str, Served]) -> tuple[float, str]:
        """The share of the seeds that the version beside answers for, and this in words. One of another picture size has
        none: a grid or a tensor of both could not be made."""
        share = self.settings.canary if self.beside in now else 0.0
        if not share:
            return 0.0, "none"
        its, size = now[self.beside].model.image_size, now[self.main].model.image_size
        if its != size:
            return 0.0, f"{self.beside} draws {its} px and {self.main} {size} px, so that it answers by its alias alone"
        return share, f"{self.beside} answers for {share:g} of the seeds"

    def places(self, may: Iterable[str], seeds: Sequence[int]) -> dict[str, list[int]]:
        """By alias, which of the seeds it answers for, among those of `may_answer`: the same ones each time, so that a
        seed's picture does not change from request to request."""
        names, found = list(may), dict[str, list[int]]()
        for place, seed in enumerate(seeds):
            beside = self.beside in names and key("canary", seed) < self.settings.canary * 2**63
            found.setdefault(self.beside if beside else names[0], []).append(place)
        return found

    # -- what is loaded ------------------------------------------------------------------------------------------------

    def open(self, say: Callable[[str], None]) -> None:
        """Load what is to be served. Raises Outage where the registry does not answer, after $DDPM_PATIENCE seconds of
        trying, and WrongInput or Refused where the main version will not do."""
        named = VERSION.fullmatch(self.reference) or FOLLOWED.fullmatch(self.reference)
        aliases = self._wait_for(named["name"], say) if named else {}
        if not self.name:
            self.by_alias = {self.main: self._load(self.reference, self.tracking_uri, self.settings)}
            return
        wanted = f"models:/{self.name}/{aliases[self.main]}" if self.main in aliases else self.reference
        self.by_alias = {self.main: self._load(wanted, self.tracking_uri, self.settings)}
        self.look(aliases)

    def _wait_for(self, name: str, say: Callable[[str], None]) -> dict[str, int]:
        """The model's aliases, when the registry answers."""
        return wait_out(
            lambda: holders(self.tracking_uri, name),
            lambda problem: str(problem) if isinstance(problem, Outage) else "",
            "start it, or give the --tracking-uri of another one",
            say,
        )

    def follow(self) -> None:
        """Look at the aliases again and again, in a thread of its own, until `close`."""
        if self.name and self.settings.follow:
            self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _follow(self) -> None:
        keep_threads()
        while not self._stop.wait(self.settings.follow):
            try:
                self.look(holders(self.tracking_uri, self.name))
            except Outage as problem:  # what runs goes on as it is
                self._heard(str(problem))
            except Exception as problem:
                log.exception("looking at the registry failed")
                self._heard(f"{type(problem).__name__}: {problem}")

    def _heard(self, problem: str) -> None:
        if problem and problem != self.state.registry:
            log.warning("%s; what is served goes on as it is", problem)
        if self.state.registry and not problem:
            log.info("the registry answers again")
        self.state.registry = problem

    def look(self, aliases: dict[str, int]) -> None:
        """Serve what the aliases say, as far as it will do."""
        now = dict(self.by_alias)
        wanted = {
            alias: f"models:/{self.name}/{aliases[alias]}" for alias in (self.main, self.beside) if alias in aliases
        }
        loaded = {
            one.reference: one for one in now.values() if one.reference in wanted.values() and self._is_still(one)
        }
        self._heard("")
        self._saw(aliases)
        self.state.refused = {ref: why for ref, why in self.state.refused.items() if ref in wanted.values()}
        for alias, reference in wanted.items():
            if alias in now and now[alias] is loaded.get(reference):
                continue
            served = loaded.get(reference) or self._try(reference)
            if served:
                now[alias] = loaded[reference] = served
        if self.beside not in wanted or now.get(self.beside) is now.get(self.main):
            now.pop(self.beside, None)
        before, self.by_alias = self.by_alias, now
        for alias in now:
            if before.get(alias) is not now[alias]:
                self.state.swaps += 1
                log.info("%s is %s now", alias, now[alias].reference)
        if (words := self.canary(now)[1]) != self.canary(before)[1]:
            log.info("canary: %s", words)
        for alias in before.keys() - now.keys():
            log.info("%s is served no more beside %s", alias, self.main)

    def _is_still(self, served: Served) -> bool:
        """Whether the registry has these weights by that number: a model that is deleted and registered anew counts from
        1 again."""
        number = int(served.reference.rpartition("/")[2])
        return weights_of(self.tracking_uri, self.name, number) in (None, served.model.origin.weights_sha256)

    def _saw(self, aliases: dict[str, int]) -> None:
        """Notice an alias that was deleted, or its version or model with it: whoever did it may want it back."""
        gone = "" if self.main in aliases else f"{self.main} is no alias of {self.name} any more"
        if gone and not self.state.alias:
            log.warning("%s; %s goes on being served", gone, self.by_alias[self.main].reference)
        if self.state.alias and not gone:
            log.info("%s is an alias of %s again", self.main, self.name)
        self.state.alias = gone

    def _try(self, reference: str) -> Served | None:
        """The version, or None where it will not do: then it is known why. One that cannot be read now is tried again."""
        before = self.state.refused.get(reference, "")
        if before and not before.startswith(AGAIN):
            return None
        try:
            began = time.monotonic()
            served = self._load(reference, self.tracking_uri, self.settings)
        except Missing as problem:  # files may come back
            self.state.refused[reference] = f"{AGAIN} {problem}"
        except (WrongInput, Refused) as problem:
            self.state.refused[reference] = str(problem)
        except Exception as problem:  # whatever it is, the running version must go on
            self.state.refused[reference] = f"{AGAIN} {type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        else:
            self.state.refused.pop(reference, None)
            log.info("%s was loaded and checked in %.1f s: %s", reference, time.monotonic() - began, served.checked)
            return served
        if self.state.refused[reference] != before:
            log.error("%s is refused, and what is served goes on: %s", reference, self.state.refused[reference])
        return None


AGAIN = "cannot be had now and is tried again:"
