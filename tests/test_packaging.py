"""What is installed: the wheel holds what the package reads, and what is imported is declared."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("ddpm", "pipelines", "components", "bench")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel that this tree builds, as installed: its own files and no others of this tree."""
    tree, made = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("made")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "ddpm", tree / "ddpm", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, made], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(made / "site")
    return made / "site"


def test_the_wheel_holds_every_file_of_the_package(unpacked):
    def held(folder):
        files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(folder)) for path in files}

    assert held(unpacked / "ddpm") == held(ROOT / "ddpm")


def test_presets_are_found_in_an_installed_wheel(unpacked, tmp_path):
    code = "import ddpm; from ddpm.presets import load_preset; print(ddpm.__file__, load_preset('digits')['epochs'])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(unpacked)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout.split() == [str(unpacked / "ddpm" / "__init__.py"), "64"], found.stderr


def imported(folder: str) -> dict[str, str]:
    """Each top-level name that the folder's files import, also inside functions, and the first file that does."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for name in names:
                found.setdefault(name.split(".")[0], str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("folder", OURS)
def test_what_is_imported_is_declared(folder):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["pipeline"] + extras["serve"] + extras["dashboard"]
    lines += extras["bench"] if folder == "bench" else []
    declared = {re.split(r"[\[<>=~! ;]", line)[0] for line in lines}
    makers = packages_distributions()
    third = {
        name: path
        for name, path in imported(folder).items()
        if name not in {*sys.stdlib_module_names, *OURS, "__future__"}
    }
    assert third, "a folder that imports nothing is not where this looks"
    undeclared = {
        name: path
        for name, path in third.items()
        if not {maker.lower().replace("_", "-") for maker in makers.get(name, [])} & declared
    }
    assert undeclared == {}


def test_the_contract_between_steps_names_them_all():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (named,) = (set(c["modules"]) for c in contracts if c["name"] == "no step imports a step")
    there = {f"ddpm.steps.{path.stem}" for path in (ROOT / "ddpm" / "steps").glob("*.py")}
    assert named == there - {"ddpm.steps.__init__", "ddpm.steps.task", "ddpm.steps.ranks"}


@pytest.mark.parametrize(
    "modules",
    [
        "ddpm.steps.task, ddpm.steps.configure, ddpm.steps.ingest",
        "pipelines.local",
        "ddpm.steps.summarise, ddpm.commands.figures",
    ],
)
def test_what_computes_nothing_waits_for_no_engine(modules):
    """torch alone takes as long as some tasks do, and as a person waits to be told of a wrong setting: who needs it imports it."""
    code = f"import sys, {modules}; print({{'torch', 'scipy.stats', 'mlflow', 'kfp'}} & {{*sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "set()\n"
