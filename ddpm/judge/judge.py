"""Asking a vision model how much pictures resemble the data set's subject, from 1 to 5, with controls among them.

A judge's number says nothing by itself: one that gives everything a 4 is not looking. So real pictures and pictures of
something else are shuffled among the generated ones, and the generated ones' score is given only where the judge told
those two apart. Answers are kept in the store, by picture, question and model: asked again, only what is missing is
asked, and paid.

    judge/answers/KEY.json      one answer
"""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from torch import Tensor

from ddpm.evaluation.report import ToldApart, Verdict
from ddpm.judge.bounds import Bounds, Spent
from ddpm.judge.endpoint import Endpoint, Hopeless, Unanswered
from ddpm.judge.scores import mean_of, told_apart
from ddpm.pictures import png
from ddpm.progress import Progress
from ddpm.randomness import key
from ddpm.settings import JudgeSettings
from ddpm.store import Missing, Store
from ddpm.store.reading import read_json

KINDS = ("generated", "real", "other")
SHOWN_SIDE = 224  # pixels a side at least: small pictures are enlarged without smoothing by a whole factor
ENOUGH = 10  # answers of each kind
ANSWERED = 0.8  # share of each kind's pictures that must have an answer: what a judge will not look at is no sample
FAILURES_IN_A_ROW = 8
SCORE = re.compile(r"[1-5]")

# What is asked. The second part is added when an answer could not be read.
PROMPTS = {
    "en": (
        "Look at this small picture and judge one thing only: how much does it look like a genuine picture of {subject}?\n"
        "5: clearly {subject}, nothing is wrong with it\n"
        "4: {subject}, with slight flaws\n"
        "3: one can make out {subject}, but a good part is wrong\n"
        "2: hardly anything of {subject} can be made out\n"
        "1: not {subject} at all, or only colours and noise\n"
        "Sharpness and size do not count. Answer with one digit from 1 to 5 and nothing else.",
        "\nWrite the digit alone: no word, no sign, no explanation.",
    ),
    "hu": (
        "Nézd meg ezt a kis képet, és egyetlen dolgot ítélj meg: mennyire hasonlít valódi képre, amelyen ez látható: {subject}?\n"
        "5: egyértelműen ez látható rajta, és semmi hiba nincs benne\n"
        "4: ez látható rajta, apróbb hibákkal\n"
        "3: felismerhető, de jókora része hibás\n"
        "2: alig ismerhető fel belőle valami\n"
        "1: egyáltalán nem ez látható rajta, vagy csak színek és zaj\n"
        "Az élesség és a méret nem számít. Egyetlen számjeggyel felelj, 1-től 5-ig, és mást ne írj.",
        "\nCsak magát a számjegyet írd le: se szót, se jelet, se magyarázatot.",
    ),
}


@dataclass(frozen=True)
class Shown:
    """A picture as the judge sees it. `key` names the answer: the same picture is asked about once."""

    kind: str
    png: bytes
    key: str


def question(settings: JudgeSettings) -> str:
    """What is asked about each picture."""
    return PROMPTS[settings.judge_language][0].format(subject=settings.judge_subject)


def judge(
    pictures: dict[str, Tensor], settings: JudgeSettings, api_key: str, store: Store, progress: Progress
) -> Verdict:
    """The verdict on pictures uint8 [n,3,h,w] by kind: "generated", "real" and "other", which are the controls.

    Returns `reported` and, where it is false, `why`; `score`, the generated ones' (None unless reported); `controls`,
    each with mean, low, high (95%) and n; `auc`, how well real and other were told apart; `distribution`, how many
    pictures of each kind had a 1 … a 5; what was `counted`; `stopped`, by which bound; `protocol`. It never raises for
    what an endpoint does: the verdict says it.
    """
    shown = _shuffled(pictures, settings)
    bounds = Bounds(settings)
    counted = {"answers": 0, "kept": 0, "refusals": 0, "unreadable": 0, "failures": 0, "rate_limited": 0, "given_up": 0}
    scores = _ask_all(shown, settings, api_key, store, bounds, counted, progress)
    by_kind = {kind: [scores[p.key] for p in shown if p.kind == kind and p.key in scores] for kind in KINDS}
    asked = {kind: sum(p.kind == kind for p in shown) for kind in KINDS}
    auc = told_apart(by_kind["real"], by_kind["other"])
    why = _not_reported(by_kind, asked, auc, bounds.stopped)
    return {
        "reported": not why,
        "why": why,
        "score": None if why else mean_of(by_kind["generated"]),
        "controls": {kind: mean_of(by_kind[kind]) for kind in ("real", "other")},
        "auc": auc,
        "distribution": {
            kind: [by_kind[kind].count(score) for score in range(1, 6)]
            for kind in KINDS
            if kind != "generated" or not why
        },
        "pictures": asked,
        "counted": {"requests": bounds.requests, **counted},
        "tokens": {"sent": bounds.tokens_in, "answered": bounds.tokens_out},
        "cost": round(bounds.cost, 6) if bounds.priced else None,
        "seconds": round(bounds.seconds, 2),
        "stopped": bounds.stopped,
        "protocol": {
            "url": settings.judge_url,
            "model": settings.judge_model,
            "question": question(settings),
            "seed": settings.judge_seed,
        },
    }  # fmt: skip


def _shuffled(pictures: dict[str, Tensor], settings: JudgeSettings) -> list[Shown]:
    """All pictures in an order that follows from the seed and tells nothing of their kinds."""
    shown = []
    for kind in KINDS:
        for picture in pictures[kind].permute(0, 2, 3, 1).cpu().numpy():
            data = png(_enlarged(picture))
            identity = json.dumps([settings.judge_url, settings.judge_model, question(settings)]).encode()
            shown.append(Shown(kind, data, hashlib.sha256(identity + data).hexdigest()))
    order = np.random.default_rng(key("judge", settings.judge_seed)).permutation(len(shown))
    return [shown[i] for i in order]


def _enlarged(picture: np.ndarray) -> np.ndarray:
    factor = max(1, -(-SHOWN_SIDE // min(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _ask_all(
    shown: list[Shown], settings: JudgeSettings, api_key: str, store: Store, bounds: Bounds, counted: dict[str, int], progress: Progress
) -> dict[str, int]:  # fmt: skip
    """Scores by key: those that are kept, and then those that are answered until all are, or a bound is reached."""
    scores: dict[str, int] = {}
    for picture in {p.key: p for p in shown}.values():
        if (kept := _kept(store, picture.key)) is not None:
            scores[picture.key] = kept
    counted["kept"] = len(scores)
    missing = [p for p in {p.key: p for p in shown}.values() if p.key not in scores]
    endpoint = Endpoint(
        settings.judge_url, settings.judge_model, api_key, settings.judge_timeout, settings.judge_max_tokens
    )
    total = len(missing) + len(scores)

    def ask(picture: Shown) -> None:
        score = _ask_one(picture, settings, endpoint, bounds, counted)
        if score is not None:
            store.create(f"judge/answers/{picture.key}.json", json.dumps({"score": score}).encode())
            scores[picture.key] = score
            progress.update("the judge", len(scores), total, f"{len(scores)} of {total} pictures")

    with ThreadPoolExecutor(settings.judge_concurrency) as asking:
        try:
            for done in [asking.submit(ask, picture) for picture in missing]:
                done.result()
        except BaseException:
            bounds.stop("stopped")
            raise
    return scores


class Answer(TypedDict):
    """judge/answers/KEY.json"""

    score: int


def _kept(store: Store, name: str) -> int | None:
    try:
        right = "remove it: the picture is shown again"
        return read_json(store, f"judge/answers/{name}.json", Answer, right)["score"]
    except Missing:
        return None


def _ask_one(
    picture: Shown, settings: JudgeSettings, endpoint: Endpoint, bounds: Bounds, counted: dict[str, int]
) -> int | None:
    """A picture's score; None where there is none after all retries, or a bound was reached."""
    asked, remind = question(settings), PROMPTS[settings.judge_language][1]
    tries, unreadable = 0, False
    while tries <= settings.judge_retries:
        try:
            bounds.await_turn()
        except Spent:
            return None
        try:
            reply = endpoint.ask(asked + (remind if unreadable else ""), picture.png)
        except Unanswered as problem:
            bounds.settle(None, problem.kind != "refusals", problem.wait)
            _count(counted, problem.kind, bounds)
            if problem.kind == "failures" and bounds.failures >= FAILURES_IN_A_ROW:
                bounds.stop(f"{FAILURES_IN_A_ROW} requests failed in a row, the last with {problem}")
            tries += problem.kind != "rate_limited"  # that is not the picture's fault; number and time bound it
            continue
        except Hopeless as problem:
            bounds.settle(None, True)
            bounds.stop(str(problem))
            return None
        bounds.settle((reply.tokens_in, reply.tokens_out), False)
        text = reply.text.strip()
        if not reply.refused and SCORE.fullmatch(text):
            _count(counted, "answers", bounds)
            return int(text)
        unreadable = not reply.refused
        _count(counted, "refusals" if reply.refused else "unreadable", bounds)
        tries += 1
    _count(counted, "given_up", bounds)
    return None


def _count(counted: dict[str, int], what: str, bounds: Bounds) -> None:
    with bounds.lock:
        counted[what] += 1


def _not_reported(by_kind: dict[str, list[int]], asked: dict[str, int], auc: ToldApart | None, stopped: str) -> str:
    """Why the generated pictures' score is not given; empty where it is."""
    ended = f" ({stopped})" if stopped else ""
    for kind in KINDS:
        if len(by_kind[kind]) < ENOUGH:
            return f"{len(by_kind[kind])} {kind} pictures have an answer, and {ENOUGH} are needed{ended}"
    for kind in KINDS:
        if not stopped and len(by_kind[kind]) < ANSWERED * asked[kind]:
            return f"only {len(by_kind[kind])} of {asked[kind]} {kind} pictures have an answer, and {ANSWERED:.0%} are needed"
    if auc is None or not auc["passed"]:
        return "the judge does not tell real pictures from those of something else"
    return ""
