"""Promotions and rollbacks of one model by several processes at once, and whether all ends as the log says.

python tests/registry/racing.py FOLDER ACTS PROCESSES      makes the versions, races, checks, and prints what came of it
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from ddpm.errors import Refused
from ddpm.model.unet import UNet
from ddpm.progress import Quiet
from ddpm.registry.log import entries, standing
from ddpm.registry.promotion import rollback
from ddpm.registry.version import register
from ddpm.settings import DrawSettings, EvaluateSettings, ModelSettings, TrainSettings
from ddpm.steps.promote import promote
from ddpm.store import open_store
from ddpm.tracking import open_client
from ddpm.training.checkpoint import read_facts, write_checkpoint
from ddpm.workplace import Workplace

VERSIONS = 4
MODEL = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4)


def places(folder: Path) -> tuple[str, str]:
    return f"sqlite:///{folder}/mlflow/mlflow.db", str(folder / "store")


def make_versions(folder: Path) -> None:
    """Versions of different weights, each better than the one before."""
    for number in range(VERSIONS):
        torch.manual_seed(number)
        weights = UNet(MODEL, 8).state_dict()
        out = open_store(str(folder / f"out{number}"))
        standing = {"images_seen": 1, "image_size": 8, "dataset_digest": "abc"}
        made = write_checkpoint(out, {"weights": weights, "ema": weights}, standing, MODEL, TrainSettings())
        uri = out.uri(f"{made}/checkpoint.json")
        report = {
            "metric": "fid_classifier", "fid": 5.0 - number, "fid_std": 0.05, "kid": 0.5 - 0.1 * number, "kid_std": 0.005,
            "n": 64, "precision": 0.5, "copying": {"share": 0.0, "share_held_out": 0.0, "excess_low": -0.1},
            "noise_floor": {"fid": 0.1, "kid": 0.0},
            "protocol": {
                "measurement": {"extractor": "classifier", "n": 64, "image_size": 8, "dataset_digest": "abc"},
                "generation": {
                    "weights_sha256": read_facts(uri)["sha256"]["ema.safetensors"], "sampler": "ddim", "sampling_steps": 2,
                },
            },
        }  # fmt: skip
        report["key"] = f"reports/{number:064d}"
        register(places(folder)[0], "m", uri, report, None, {})
        open_store(places(folder)[1]).create(f"{report['key']}.json", json.dumps(report).encode())


def act(folder: Path, seed: int, acts: int) -> dict[str, int]:
    """One process's promotions and rollbacks, as its seed has them; how many of each came to what."""
    tracking, store = places(folder)
    where, draw, did = Workplace(Quiet(), store, tracking), random.Random(seed), Counter[str]()
    for _ in range(acts):
        if draw.random() < 0.4:
            try:
                rollback(where.store, tracking, "m", why=f"racer {seed}")
                did["rollback"] += 1
            except Refused:
                did["nothing to go back to"] += 1
        else:
            version = draw.randint(1, VERSIONS)
            found = promote(where, "m", version, "unused", EvaluateSettings(), DrawSettings(), again=True)
            did["champion" if found["promoted"] else "not champion"] += 1
    return dict(did)


def race(folder: Path, acts: int, processes: int) -> dict[str, object]:
    """Let so many processes act, `acts` in all; what each came to, and what is wrong: nothing, if all is well."""
    shares = [acts // processes + (number < acts % processes) for number in range(processes)]
    began = time.monotonic()
    racers = [
        subprocess.Popen([sys.executable, __file__, str(folder), "--act", str(seed), str(share)], stdout=subprocess.PIPE, text=True)
        for seed, share in enumerate(shares)
    ]  # fmt: skip
    did, wrong = Counter[str](), []
    for racer in racers:
        said, _ = racer.communicate()
        if racer.returncode:
            wrong.append(f"a process ended with {racer.returncode}")
        else:
            did.update(json.loads(said))
    tracking, store = places(folder)
    log = entries(open_store(store), "m")  # raises where a number is missing
    logged = Counter(entry["action"] for entry in log)
    aliases = {a: int(v) for a, v in open_client(tracking).get_registered_model("m").aliases.items()}
    champion: int | None = None
    for entry in log:
        if entry["from"] != champion:
            wrong.append(f"entry {entry['number']} takes {entry['from']} for the champion, which was {champion}")
        champion = entry["to"] if entry["action"] in ("promote", "rollback") else champion
    if logged["rollback"] != did["rollback"]:
        wrong.append(f"{did['rollback']} rollbacks, of which the log has {logged['rollback']}")
    if sum(did.values()) != acts:
        wrong.append(f"{sum(did.values())} acts of {acts} ended")
    if aliases != standing(log) or "champion" not in aliases:
        wrong.append(f"the aliases are {aliases}, and by the log {standing(log)}")
    seconds = round(time.monotonic() - began)
    return {"acts": dict(did), "log": dict(logged), "aliases": aliases, "seconds": seconds, "wrong": wrong}


if __name__ == "__main__":
    here = Path(sys.argv[1]).absolute()
    if sys.argv[2] == "--act":
        print(json.dumps(act(here, int(sys.argv[3]), int(sys.argv[4]))))
    else:
        here.mkdir(parents=True, exist_ok=True)
        make_versions(here)
        found = race(here, int(sys.argv[2]), int(sys.argv[3]))
        print(json.dumps(found, indent=1))
        sys.exit(1 if found["wrong"] else 0)
