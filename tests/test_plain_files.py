"""What lies under a name that somebody chose: read where it is a plain file, and otherwise one line, at once."""

import io
import json
import os

import pytest

from ddpm.cli import main
from ddpm.data.sources import parse
from ddpm.errors import WrongInput
from ddpm.evaluation.extractors.weights import inception_weights
from ddpm.plain_files import NoPlainFile, read_plain
from ddpm.progress import Quiet
from ddpm.registry.log import read_log
from ddpm.search.study import open_storage
from ddpm.serving.limits import Tokens
from ddpm.serving.settings import ServeSettings
from ddpm.settings import EvaluateSettings
from ddpm.store import Damaged, open_store
from ddpm.store.reading import read_file, read_json, sealed_json
from pipelines.cluster import load_cluster
from pipelines.server import token_now


@pytest.fixture
def pipe(tmp_path):
    """A pipe that nobody writes to: whoever opens it to read waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_plain_file_is_read_up_to_its_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_plain(tmp_path / "a", 5) == b"12345"
    with pytest.raises(NoPlainFile) as problem:
        read_plain(tmp_path / "a", 4)
    assert problem.value.strerror == "it has 5 bytes, and 4 are the most that are read"
    (tmp_path / "empty").touch()
    assert read_plain(tmp_path / "empty") == b""
    with pytest.raises(NoPlainFile, match="it states no size, as the kernel's own files, and may never end"):
        read_plain("/proc/self/mountinfo")
    with pytest.raises(IsADirectoryError):
        read_plain(tmp_path)


@pytest.mark.parametrize("words", [["rank", "{}"], ["compare", "{}", "{}"], ["compare", "report.json", "{}"]])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_command_reads_no_pipe_and_no_device(pipe, tmp_path, monkeypatch, capsys, words, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"fid": 1}))
    path = str(pipe) if kind == "pipe" else "/dev/zero"
    assert main([word.format(path) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path} cannot be read: it is a {kind}, and no plain file; " in line


def test_standard_input_is_read_where_a_person_says_so(pipe, capsys, monkeypatch):
    given = io.TextIOWrapper(io.BytesIO(b"model,fid,kid\na,2,0.2\nb,1,0.1\n"))
    monkeypatch.setattr("sys.stdin", given)
    assert main(["rank", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == "b"
    assert main(["rank", str(pipe)]) == 2
    assert "it is a pipe, and no plain file; name a CSV file with" in (said := capsys.readouterr().err)
    assert "or - for standard input" in said
    monkeypatch.setattr("ddpm.plain_files.NAMED_BYTES", 4)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    assert main(["compare", "-", "b.json"]) == 2
    assert "- cannot be read: it has more than 4 bytes" in capsys.readouterr().err


def test_what_is_too_large_for_a_table_is_not_read(tmp_path, capsys):
    with open(tmp_path / "a.csv", "wb") as file:
        file.truncate(2**40)
    assert main(["rank", str(tmp_path / "a.csv")]) == 2
    assert "it has 1,099,511,627,776 bytes, and 67,108,864 are the most" in capsys.readouterr().err


def test_a_store_s_object_is_a_plain_file(pipe, tmp_path):
    store = open_store(str(tmp_path))
    with pytest.raises(Damaged, match=r"pipe is no object: it is a pipe, and no plain file; move it away"):
        store.read("pipe")
    with pytest.raises(Damaged, match="it is a pipe"):
        read_file(pipe, "a version's report", "register it again")
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(Damaged, match="it has 1,099,511,627,776 bytes, and 268,435,456 are the most"):
        read_json(store, "large.json", dict, "make it anew")
    with pytest.raises(Damaged, match="68,719,476,736 are the most"):
        store.read("large.json")


def test_a_pipe_in_the_promotion_log_is_damage_and_the_rest_is_shown(pipe, tmp_path):
    store = open_store(str(tmp_path / "store"))
    draft = {"action": "promote", "from": None, "to": 1, "why": "first", "figures": None, "at": "2026", "who": "ann"}
    store.create("registry/m/000001.json", sealed_json({"number": 1, **draft}))
    os.mkfifo(tmp_path / "store" / "registry" / "m" / "000002.json")
    log = read_log(store, "m")
    assert [entry["number"] for entry in log.entries] == [1]
    (said,) = log.damaged
    assert "000002.json is no object: it is a pipe" in said


def test_a_cluster_s_file_is_a_plain_file(pipe):
    with pytest.raises(WrongInput, match="CLUSTER: .*it is a pipe, and no plain file"):
        load_cluster(str(pipe))


def _cifar(path):
    _linked(path, "cifar/data_batch_1.bin")
    parse(f"cifar10:{path.parent / 'cifar'}").open()


def _flowers(path):
    _linked(path, "flowers/imagelabels.mat")
    (path.parent / "flowers" / "jpg").mkdir()
    parse(f"flowers102:{path.parent / 'flowers'}").open()


def _dogs(path):
    _linked(path, "dogs/train.parquet")
    parse(f"dalle-dogs:{path.parent / 'dogs'}").open()


def _linked(path, name):
    (path.parent / name).parent.mkdir()
    (path.parent / name).symlink_to(path)


def _tokens(path):
    Tokens.read(ServeSettings(tokens_file=str(path)))


def _kfp_token(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KFP_TOKEN_FILE", str(path))
        token_now()


def _journal(path):
    open_storage(str(path), Quiet())


def _weights(path):
    inception_weights(EvaluateSettings(weights=str(path)), open_store(str(path.parent)), Quiet())


@pytest.mark.parametrize("reads", [_cifar, _flowers, _dogs, _tokens, _kfp_token, _journal, _weights])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_no_file_that_somebody_names_is_waited_for(pipe, tmp_path, reads, kind):
    """A pipe that nobody writes to, and a link to one of the kernel's files, which state no size."""
    if kind == "endless":
        pipe.unlink()
        pipe.symlink_to("/proc/self/mountinfo")
    with pytest.raises(WrongInput) as problem:
        reads(pipe)
    assert "\n" not in str(problem.value) and str(tmp_path) in str(problem.value)
