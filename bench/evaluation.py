"""A second evaluation against the same data set, beside torch-fidelity's own command, which looks at both sides.

Both are processes, timed from start to end, on the same files, with the same network (of random weights: they cost what
the published ones do). Ours computes FID, KID, precision, recall and the Inception Score as theirs does, and besides
intervals, the noise floor and the search for copies.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.table import Row, in_turns
from ddpm.data.ingest import ingest
from ddpm.pictures import png
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import open_store

SETTINGS = {"pictures": 256, "image_size": 64, "rounds": 1}


def run(settings: dict[str, Any], say: Callable[[str], None]) -> list[Row]:
    pictures, size = settings["pictures"], settings["image_size"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        weights = _random_weights(root)
        for name, seed in (("real", 0), ("generated", 1)):
            _draw(root / name, pictures, size, seed)
        source = IngestSettings(
            source=str(root / "real"), dataset_name="bench", image_size=size, held_out=0.0, max_pictures=0
        )
        facts = ingest(source, open_store(str(root / "store")), Quiet(), 1)
        ours = [
            sys.executable, "-m", "ddpm.cli", "evaluate", "--generated", str(root / "generated"), "--dataset", facts["uri"],
            "--store", str(root / "store"), "--weights", str(weights), "--json",
        ]  # fmt: skip
        subset = str(min(1000, pictures // 2))
        theirs = [
            sys.executable, "-m", "torch_fidelity.fidelity", "--input1", str(root / "generated"), "--input2", str(root / "real"),
            "--fid", "--kid", "--prc", "--isc", "--kid-subset-size", subset, "--feature-extractor", "inception-v3-compat",
            "--feature-extractor-weights-path", str(weights), "--no-cache", "--json", "--silent",
        ]  # fmt: skip
        if not torch.cuda.is_available():
            theirs.append("--cpu")
        else:
            theirs += ["--gpu", "0"]
        first = _seconds(ours)
        say(f"a first evaluation, with the real pictures: {first:.1f} s")
        found = in_turns(
            {"ours": lambda: _seconds(ours), "torch-fidelity": lambda: _seconds(theirs)}, settings["rounds"]
        )
    mine, other = (sorted(found[name])[len(found[name]) // 2] for name in ("ours", "torch-fidelity"))
    metric = f"second evaluation of {pictures} pictures"
    return [
        Row("evaluation", metric, "s", mine, {"torch-fidelity": other}, other / mine),
        Row("evaluation", f"first evaluation of {pictures} pictures", "s", first),
    ]


def _seconds(command: list[str]) -> float:
    began = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed: {ran.stderr[-2000:]}")
    json.loads(ran.stdout)
    return time.monotonic() - began


def _draw(folder: Path, n: int, size: int, seed: int) -> None:
    """Pictures of blurred noise: what is on them does not matter here."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    for number in range(n):
        rough = torch.from_numpy(random.random((1, 3, size, size), dtype=np.float32))
        smooth = torch.nn.functional.avg_pool2d(rough, 9, 1, 4)[0].permute(1, 2, 0).numpy()
        stretched = (smooth - smooth.min()) / (smooth.max() - smooth.min())
        (folder / f"{number:04d}.png").write_bytes(png((255 * stretched).astype(np.uint8)))


def _random_weights(folder: Path) -> Path:
    """A file such as torch-fidelity loads, of seeded random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, *arguments: Any, **named: Any) -> None:  # keeps what the constructor drew
            return None

    path = folder / "weights.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Unloaded("inception-v3-compat", ["64"], feature_extractor_weights_path=str(path))
    for name, weight in network.named_parameters():
        if name.endswith("conv.weight"):  # PyTorch's own start shrinks what passes through so many layers to nothing
            torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path
