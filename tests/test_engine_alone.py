"""The engine in an environment that has torch, numpy, safetensors and pillow, what they need, and nothing else."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDS = ("torch", "numpy", "safetensors", "pillow")
PROGRAM = """
import importlib, pkgutil, sys
import ddpm.model, ddpm.training, ddpm.store, ddpm.data.dataset, ddpm.data.packing
for room in (ddpm.model, ddpm.training):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)

import torch
from ddpm.data.dataset import PictureSet, Split
from ddpm.progress import Quiet
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.checkpoint import load_model
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

images = torch.arange(32 * 192, dtype=torch.int64).remainder(256).to(torch.uint8).view(32, 3, 8, 8)
split = Split(images, torch.zeros(32, dtype=torch.int64))
data = PictureSet("memory:", "0" * 64, "some", 8, [], split, split, {})
model = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1)
trained = Trainer(
    model, TrainSettings(epochs=1, batch_size=16), data, sys.argv[1], World(torch.device("cpu"))
).run(NoObserver(), Quiet())
drawn = load_model(trained["checkpoint"]).draw([0, 1])
import ddpm
assert ddpm.show(ddpm.open_model(trained["checkpoint"]).draw([0, 1])).size[0] > 0 and ddpm.open_dataset
print(tuple(drawn.shape), drawn.dtype, sorted({"mlflow", "optuna", "kfp", "boto3", "scipy"} & set(sys.modules)))
"""


def distributions(names):
    """Those named, and all that they need here, by their metadata."""
    found, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        needed = (need for need in found[name].requires or () if "extra ==" not in need)
        waiting += [re.match(r"[A-Za-z0-9._-]+", need)[0] for need in needed]
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder that holds just these packages, as links."""
    folder = tmp_path_factory.mktemp("alone")
    for distribution in distributions(NEEDS).values():
        tops = {file.parts[0] for file in distribution.files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            link = folder / top
            if not link.exists():
                link.symlink_to(distribution.locate_file(top))
    return folder


def run(alone, program, *arguments):
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(alone)!r}]\n{program}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_it_trains_and_draws(alone, tmp_path):
    found = run(alone, PROGRAM, str(tmp_path / "out"))
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "(2, 3, 8, 8) torch.uint8 []"


def test_the_benchmarks_of_quality_can_be_carried_to_such_a_machine(alone):
    """Figures need torch-fidelity's Inception besides; nothing else of them is missing."""
    found = run(alone, "import bench.recipes, bench.drawing, bench.spikes")
    assert found.returncode == 0, found.stderr


def test_the_environment_is_bare(alone):
    found = run(alone, "import optuna")
    assert found.returncode == 1 and "No module named 'optuna'" in found.stderr
