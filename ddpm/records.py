"""What a training by hand leaves beside its checkpoints, for people: its curves and its previews, as files.

    OUT/curves.csv              a row for each number of images seen, a column for each figure
    OUT/samples/000012345.png   what was drawn after so many images, as the network learned
    OUT/noising.png, OUT/denoising.png

Where MLflow has a place, its run is told the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ddpm.pictures import png
from ddpm.store import Missing, Store, open_store
from ddpm.tracking import NoTrackedRun, TrackedRun, Tracker

CURVES = "curves.csv"
SEEN = "images_seen"


class Records(NoTrackedRun):
    """Takes what a run in MLflow takes, keeps it as files of a store, and passes it on.

    As a context it ends the run in MLflow as its block ended. A training that goes on goes on in its files: rows after the
    checkpoint that it went on from are written again, and are the same.
    """

    def __init__(self, store: Store, run: TrackedRun | NoTrackedRun) -> None:
        self.store, self.run = store, run
        self._rows = self._read()
        self._changed = False

    def _read(self) -> dict[int, dict[str, str]]:
        try:
            rows = csv.DictReader(io.StringIO(self.store.read(CURVES).decode()))
        except Missing:
            return {}
        return {int(row.pop(SEEN)): {name: value for name, value in row.items() if value} for row in rows}

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        found = {name: f"{value:.6g}" for name, value in values.items() if value is not None}
        self._rows.setdefault(step, {}).update(found)
        self._changed = True
        self.run.metrics(values, step)

    def flush(self) -> None:
        if self._changed:
            names = list(dict.fromkeys(name for row in self._rows.values() for name in row))
            text = io.StringIO()
            table = csv.DictWriter(text, [SEEN, *names], lineterminator="\n")
            table.writeheader()
            table.writerows({SEEN: seen, **self._rows[seen]} for seen in sorted(self._rows))
            self.store.write(CURVES, text.getvalue().encode())
            self._changed = False
        self.run.flush()

    def tag(self, name: str, value: str) -> None:
        self.run.tag(name, value)

    def picture(self, name: str, picture: np.ndarray, step: int | None = None) -> None:
        self.store.write(_file(name, step), png(picture))
        self.run.picture(name, picture, step)

    def has_picture(self, name: str, step: int) -> bool:
        """Whether it was drawn before the training was carried on."""
        return self.store.exists(_file(name, step))

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()
        problem = exception[1]
        self.run.finish("FINISHED" if problem is None else "FAILED" if isinstance(problem, Exception) else "KILLED")


def _file(name: str, step: int | None) -> str:
    return f"{name}.png" if step is None else f"{name}/{step:09d}.png"


def records_of(out: str, tracking_uri: str, params: Mapping[str, Any], dataset: Mapping[str, Any]) -> Records:
    """The records of a training by hand into `out`; of MLflow's, its run goes by the end of that and is found again by it.

    Args:
        tracking_uri: MLflow's; empty: there is no place.
        dataset: its name, digest, URI and number of training pictures.
    """
    store = open_store(out)
    if not tracking_uri:
        return Records(store, NoTrackedRun())
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", store.root.rstrip("/").rpartition("/")[2]).strip("-._")
    name = f"{words[:80] or 'training'}-{hashlib.sha256(store.root.encode()).hexdigest()[:6]}"
    tracker = Tracker(tracking_uri, name, dataset["name"])
    tracker.open(params)
    run = tracker.parent()
    run.tag("ddpm.kind", "training")
    run.tag("out", store.root)
    run.dataset(dataset)
    return Records(store, run)
