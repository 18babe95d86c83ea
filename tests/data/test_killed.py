"""Ingest killed at any step, and raced by others of its kind: nothing is lost, doubled or decoded again."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from ddpm.data.verify import verify


def a_zip(path):
    """Small pictures in one file: more than one shard's (see killable.py)."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(80):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(buffer, "PNG")
            archive.writestr(f"{number % 3}/{number:04d}.png", buffer.getvalue())
    return path


def start(source, store, workers=2, step=0, hit_by=signal.SIGKILL):
    command = [sys.executable, Path(__file__).with_name("killable.py"), source, store, workers, step, hit_by.name]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)


def finished(process):
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def manifests(store):
    return sorted((store / "datasets").rglob("[!.]*.json"))


def records(store):
    return {path: os.stat(path).st_mtime_ns for path in (store / "ingested").rglob("[!.]*.json")}


def test_killed_step_after_step_it_goes_on_where_it_was(tmp_path):
    source, store = a_zip(tmp_path / "in.zip"), tmp_path / "store"
    whole = finished(start(source, tmp_path / "whole", workers=1))
    assert len(records(tmp_path / "whole")) > 3, "several buckets"
    for kills in itertools.count():
        before = records(store)
        process = start(source, store, step=kills + 1)
        out, _ = process.communicate()
        after = records(store)
        assert {path: after.get(path) for path in before} == before, "what was done stays done, and is not redone"
        assert all(verify(str(path))["ok"] and path.stem == whole["digest"] for path in manifests(store))
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills > 20
    of_this_place = {"uri": str(manifests(store)[0]), "reused": json.loads(out)["reused"]}
    assert json.loads(out) == {**whole, **of_this_place}
    blobs = [path.name for path in (store / "blobs").rglob("[!.]*") if path.is_file()]
    shards = json.loads(manifests(store)[0].read_text())["shards"].values()
    named = [shard["sha256"] for of_side in shards for shard in of_side]
    assert sorted(blobs) == sorted(named), "each shard once, and none that the manifest does not name"


def test_several_at_once_publish_one(tmp_path):
    source = a_zip(tmp_path / "in.zip")
    racers = [start(source, tmp_path / "store", workers=1 + n % 2) for n in range(4)]
    facts = [finished(process) for process in racers]
    assert len({found["uri"] for found in facts}) == 1
    assert [path.stem for path in manifests(tmp_path / "store")] == [facts[0]["digest"]]
    assert verify(facts[0]["uri"])["ok"]


def test_workers_end_with_the_one_who_started_them(tmp_path):
    process = start(a_zip(tmp_path / "in.zip"), tmp_path / "store", step=5, hit_by=signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it stands still, and its workers are there"
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert not alive
