"""The program itself: what it lists, completes, and says when something goes wrong."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typed import ddpm

import ddpm as ddpm_package
from ddpm import failure
from ddpm.cli import main
from ddpm.commands import COMMANDS
from ddpm.failure import keep_traceback


def test_alone_it_lists_its_commands():
    found = ddpm()
    assert (found.returncode, found.stderr) == (0, "")
    for name, command in COMMANDS.items():
        assert name in found.stdout
        assert command.text.split()[0] in found.stdout


def test_it_says_its_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"ddpm {ddpm_package.__version__}\n"


@pytest.mark.parametrize(
    ("line", "comes"),
    [
        ("ddpm tr", ["train"]),
        ("ddpm train --label-d", ["--label-dropout"]),
        ("ddpm train --objective ", ["edm", "epsilon", "v"]),
        ("ddpm evaluate --preset q", ["quick"]),
    ],
)
def test_the_shell_completes(line, comes, tmp_path):
    """As argcomplete's shell function asks for it."""
    asked = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "out"),
    }  # fmt: skip
    subprocess.run([Path(sys.executable).parent / "ddpm"], env={**os.environ, **asked}, check=True, capture_output=True)
    assert sorted(word.strip() for word in (tmp_path / "out").read_text().split("\n")) == comes


@pytest.mark.parametrize("shown", [False, True])
def test_what_nobody_foresaw_is_one_line_with_its_traceback_kept(shown, tmp_path, monkeypatch):
    def broken(arguments, place):
        raise KeyError("at postgresql://u:tr0ub4dor@h/d")

    monkeypatch.setitem(COMMANDS, "gc", replace(COMMANDS["gc"], body=broken))
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DDPM_DEBUG", "1" if shown else "")
    found = ddpm("gc", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    *before, line = found.stderr.splitlines()
    assert line.startswith("ddpm: failed unexpectedly: KeyError: 'at postgresql://u:…@h/d'")
    kept = [*(tmp_path / "cache").glob("tracebacks/*.txt")]
    text = "\n".join(before) if shown else kept[0].read_text()
    assert "in broken" in text and "tr0ub4dor" not in text
    assert (kept == [] and before) if shown else (before == [] and f"the traceback is in {kept[0]}" in line)


def test_a_full_disk_is_said_in_its_own_words():
    full = failure.said(OSError(errno.ENOSPC, "No space left on device", "/x/grid.png"))
    assert (
        full
        == "/x/grid.png cannot be written: there is no room on the disk; make some, and the same command carries on"
    )


def test_few_tracebacks_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path))
    folder = tmp_path / "tracebacks"
    folder.mkdir()
    for number in range(30):
        (folder / f"20000101-0000{number:02d}-1.txt").touch()
    assert str(folder) in keep_traceback(MemoryError())
    assert len([*folder.iterdir()]) == 20
    monkeypatch.setenv("DDPM_CACHE", "/proc/nowhere")
    assert keep_traceback(MemoryError()).endswith("DDPM_DEBUG=1 shows the traceback")


def test_the_installed_command(tmp_path):
    command = Path(sys.executable).parent / "ddpm"
    listed = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    for step in "ingest verify train search sample evaluate compare rank register promote rollback history".split():
        assert step in listed
    refused = subprocess.run(
        [command, "ingest", "rainbow", "--name", "x", "--store", tmp_path], capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("ddpm: source: there is none named 'rainbow'")


@pytest.mark.parametrize(
    ("closed", "status", "said"),
    [
        (">/dev/full", 1, "ddpm: it is done, but standard output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
    ],
)
def test_where_nothing_can_be_told_that_is_one_line_and_no_traceback(tmp_path, closed, status, said):
    words = f"{sys.executable} -m ddpm.cli rank models.csv {closed}"
    (tmp_path / "models.csv").write_text("model,fid,kid\na,1,2\n")
    found = subprocess.run(["bash", "-c", words], cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (status, said)


def test_what_the_terminals_encoding_lacks_is_shown_as_python_writes_it(tmp_path):
    (tmp_path / "models.csv").write_text("model,fid,kid\nrösti,1,2\n", encoding="utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "ddpm.cli", "rank", "models.csv"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert "best: r\\xf6sti" in found.stdout


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"[" * 100_000, "it is not JSON"), (b"1" * 5000, "it is not JSON"), (b"\xff\xfe\0", "it is not JSON"), (b"", "it is empty"), (b"[1]", "it is [1]")],
)  # fmt: skip
def test_a_report_that_is_none_is_said_to_be_none(tmp_path, data, what):
    (tmp_path / "report.json").write_bytes(data)
    found = ddpm("compare", "report.json", "report.json", cwd=tmp_path)
    assert found.returncode == 2
    right = "give a report that `ddpm evaluate --json` printed, or - for standard input"
    assert found.stderr == f"ddpm: report.json is damaged: {what}; {right}\n"


@pytest.mark.parametrize("path", ["report.json/below", ".", "nowhere.json"])
def test_a_report_that_cannot_be_read_is_said(tmp_path, path):
    (tmp_path / "report.json").touch()
    found = ddpm("compare", path, path, cwd=tmp_path)
    assert found.returncode == 2 and f"ddpm: {path} cannot be read: " in found.stderr
