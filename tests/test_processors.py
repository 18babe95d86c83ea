"""How many processors a process takes for its own: a container's share of their time, not the machine's number."""

import os
import subprocess
import sys

import pytest

from ddpm import processors


@pytest.fixture
def group(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "cpu").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("files", "share", "mine"),
    [
        ({"cpu.max": "400000 100000\n"}, 4, 4),
        ({"cpu.max": "150000 100000\n"}, 2, 2),
        ({"cpu.max": "20000 100000\n"}, 1, 1),
        ({"cpu.max": "max 100000\n"}, 0, 64),
        ({"cpu/cpu.cfs_quota_us": "800000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0, 64),
        ({"cpu.max": "9900000 100000\n"}, 99, 64),
        ({"cpu.max": "\n"}, 0, 64),
        ({}, 0, 64),
    ],
)
def test_a_container_s_share(group, files, share, mine):
    for name, text in files.items():
        (group / name).write_text(text)
    assert (processors.share(), processors.processors()) == (share, mine)


@pytest.mark.parametrize(("limit", "told", "threads"), [(3, None, "3"), (3, "2", "2"), (0, None, None)])
def test_threads_are_as_many_unless_they_are_told(limit, told, threads):
    code = f"import os, sys, types; fake = types.ModuleType('ddpm.processors'); fake.share = lambda: {limit}; fake.processors = lambda: {limit}; sys.modules['ddpm.processors'] = fake; import ddpm; print(os.environ.get('OMP_NUM_THREADS'))"
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment = {**kept, **({"OMP_NUM_THREADS": told} if told else {})}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    assert found.stdout.strip() == str(threads)
