"""Ingest killed at any moment, and raced by others of its kind: nothing is lost, doubled or decoded again."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from ddpm.data.verify import verify

KILLS = 50


def a_zip(path, count=400):
    """Small pictures in one file: four buckets at 240 pixels (see shards.py)."""
    import zipfile

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)).save(buffer, "JPEG")
            archive.writestr(f"{number % 3}/{number:04d}.jpg", buffer.getvalue())
    return path


def start(source, store, workers=2):
    command = [
        sys.executable,
        "-m",
        "ddpm.cli",
        "ingest",
        str(source),
        "--name",
        "set",
        "--image-size",
        "160",
        "--json",
    ]
    return subprocess.Popen(
        [*command, "--store", str(store), "--workers", str(workers), "--min-side", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def finished(process):
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def manifests(store):
    return sorted((store / "datasets").rglob("[!.]*.json"))


def records(store):
    return set((store / "ingested").rglob("[!.]*.json"))


def test_killed_at_random_moments_it_goes_on_where_it_was(tmp_path):
    source = a_zip(tmp_path / "in.zip")
    began = time.monotonic()
    whole = finished(start(source, tmp_path / "whole", workers=1))
    took = time.monotonic() - began
    chance = random.Random(0)
    store, number, kills = tmp_path / "store-0", 0, 0
    while kills < KILLS:
        before = records(store)
        process = start(source, store)
        try:
            process.wait(chance.uniform(0.1, 0.9) * took)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        assert before <= records(store), "what was done stays done"
        if process.returncode == 0:
            assert [path.stem for path in manifests(store)] == [whole["digest"]]
            number += 1
            store = tmp_path / f"store-{number}"
        else:
            assert all(verify(str(path))["ok"] and path.stem == whole["digest"] for path in manifests(store))
    kept = {path: os.stat(path).st_mtime_ns for path in records(store)}
    again = finished(start(source, store))
    of_this_place = {name: again[name] for name in ("uri", "datasheet", "reused")}
    assert again == {**whole, **of_this_place}
    assert all(os.stat(path).st_mtime_ns == written for path, written in kept.items()), (
        "a bucket that was done was redone"
    )
    blobs = [path.name for path in (store / "blobs").rglob("[!.]*") if path.is_file()]
    named = [
        shard["sha256"] for shards in json.loads(manifests(store)[0].read_text())["shards"].values() for shard in shards
    ]
    assert sorted(blobs) == sorted(named), "each shard once, and none that the manifest does not name"


def test_several_at_once_publish_one(tmp_path):
    source = a_zip(tmp_path / "in.zip", count=300)
    racers = [start(source, tmp_path / "store", workers=1 + n % 2) for n in range(4)]
    facts = [finished(process) for process in racers]
    assert len({found["uri"] for found in facts}) == 1
    assert [path.stem for path in manifests(tmp_path / "store")] == [facts[0]["digest"]]
    assert verify(facts[0]["uri"])["ok"]


def test_workers_end_with_the_one_who_started_them(tmp_path):
    import psutil

    process = start(a_zip(tmp_path / "in.zip"), tmp_path / "store")
    children = []
    while len(children) < 2 and process.poll() is None:
        children = psutil.Process(process.pid).children()
        time.sleep(0.01)
    assert len(children) == 2
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert (len(gone), alive) == (2, [])
