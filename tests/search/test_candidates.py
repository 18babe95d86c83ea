"""A table of models as people's programs save it."""

import sys

import pytest

from ddpm.errors import Refused, WrongInput
from ddpm.search.candidates import read_candidates
from ddpm.search.ranking import Candidate

PLAIN = "model,fid,kid,parameters\na,12.5,0.01,900\nb,10.1,0.02,\n"
FOUND = [Candidate("a", 12.5, 0.01, 900), Candidate("b", 10.1, 0.02)]
SEMICOLONS = PLAIN.replace(",", ";").replace(".", ",")
TABS = PLAIN.replace(",", "\t")


def table(folder, data):
    (folder / "table.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_candidates(folder / "table.csv").models


def test_a_file_that_is_called_like_standard_input_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "-").write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    assert read_candidates("./-").models == FOUND


def test_standard_input_that_is_closed_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(WrongInput, match="^- cannot be read: standard input is closed; name a CSV file"):
        read_candidates("-")


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        b"\xef\xbb\xbf" + PLAIN.encode(),
        SEMICOLONS,
        b"\xef\xbb\xbf" + SEMICOLONS.encode(),
        PLAIN.replace(",", ";"),
        TABS,
        TABS.replace(".", ",").encode("utf-16"),
        PLAIN.replace("\n", "\r\n") + "\r\n,,,\r\n",
        "\n" + PLAIN.replace("model,fid,kid", " Model, FID, KID ").replace(",12.5", ", 12.5"),
        "sep=,\r\n" + PLAIN.replace("\n", "\r\n"),
        b"\xef\xbb\xbfsep=;\n" + SEMICOLONS.encode(),
        "sep=\t\n\n" + TABS,
        PLAIN.replace("900", "900.0"),
        SEMICOLONS.replace("900", "900,0"),
        'kid,note,model,fid,parameters\n0.01,"old, but good",a,12.5,900\n0.02,,b,10.1,0\n',
    ],
    ids=[
        "plain",
        "mark",
        "semicolons",
        "excel-de",
        "points",
        "tabs",
        "unicode-text",
        "crlf",
        "spaces",
        "excel-sep",
        "excel-sep-de",
        "sep-tab",
        "floats",
        "decimal-comma",
        "order",
    ],
)
def test_however_it_was_saved(tmp_path, data):
    assert table(tmp_path, data) == FOUND


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "no column model"),
        ("model,fid\na,1\n", "no column kid"),
        ("model,fid,FID,kid\na,1,2,3\n", "more than one column fid"),
        ("model,fid,kid,n,N\na,1,0.1,5,6\n", "more than one column n; leave one"),
        ("model,fid,kid,parameters,parameters\na,1,0.1,5,6\n", "more than one column parameters; leave one"),
        ("model,fid,kid\na,12,5,0,01\n", "row of a has 5 cells and the first line 3"),
        ("model,fid,kid\na,12.5\n", "row of a has 2 cells"),
        ("model;fid;kid\na;1.234,5;0,1\n", "row of a: .*1.234.5"),
        ("model,fid,kid\na,low,0.1\n", "row of a: .*low"),
        ("model,fid,kid,parameters\na,1,0.1,2.5\n", "row of a: .*2.5"),
        ("model,fid,kid,n\na,1,0.1,128.5\n", "row of a: '128.5' is no whole number"),
        ("model,fid,kid,n\na,1,0.1,-1\n", "row of a: '-1' is no whole number"),
        ("model,fid,kid\na,1,0.1\n,2,0.2\n", "row 2 has no model; name each"),
        ('model,fid,kid\n"  ",2,0.2\n', "row 1 has no model"),
        (b"PK\x03\x04\xff\xfe\x00", "no CSV file"),
        ('model,fid,kid\n"' + "a" * 200_000, "no CSV file"),
    ],
)
def test_what_is_no_such_table_is_refused_by_its_row(tmp_path, data, words):
    with pytest.raises(WrongInput, match=words):
        table(tmp_path, data)


def test_figures_are_called_by_their_features_and_their_number_of_pictures(tmp_path):
    table(tmp_path, "model,FID_768,KID_768,n\na,1,0.1,128\nb,2,0.2,128\n")
    found = read_candidates(tmp_path / "table.csv")
    assert (found.fid, found.kid) == ("fid_768 (n=128)", "kid_768 (n=128)")
    for header, n in (("fid (n=128),kid (n=128)", "128"), ("fid (n=1,605),kid", "1605"), ("FID(N = 128),kid", "128.0")):
        quoted = ",".join(f'"{cell}"' for cell in ("model", *header.rsplit(",", 1), "n"))
        table(tmp_path, f"{quoted}\na,1,0.1,{n}\n")
        found = read_candidates(tmp_path / "table.csv")
        shown = f"{int(float(n))}"
        assert (found.fid, found.kid) == (f"fid (n={shown})", f"kid (n={shown})")
    table(tmp_path, "model;fid_768 (n=128);kid_768 (n=128)\na;1;0,1\n")
    assert read_candidates(tmp_path / "table.csv").kid == "kid_768 (n=128)"
    for sign in (";", "\t"):
        table(tmp_path, sign.join(["model", "fid_768 (n=1,024)", "kid_768 (n=1,024)\na", "1", "0,1\n"]))
        assert read_candidates(tmp_path / "table.csv").kid == "kid_768 (n=1024)", "as many commas as separators"
    table(tmp_path, PLAIN)
    assert read_candidates(tmp_path / "table.csv").fid == "fid", "nobody knows of how many"


@pytest.mark.parametrize("of", ["", "_768"])
def test_their_spread_is_another_column(tmp_path, of):
    header = f"model,fid{of},fid{of}_std,kid{of},kid_std\n"
    assert table(tmp_path, f"{header}a,12.5,0.3,0.01,0.002\n") == [Candidate("a", 12.5, 0.01)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("model,fid,kid,n\na,1,0.1,64\nb,2,0.2,128\n", "of 64 and of 128 pictures do not compare"),
        ("model,fid,kid,n\na,1,0.1,\nb,2,0.2,128\n", "of an unknown number and of 128 pictures"),
        ("model,fid (n=64),kid (n=128)\na,1,0.1\n", "of 64 and of 128 pictures"),
        ("model,fid (n=64),kid,n\na,1,0.1,128\n", "of 64 and of 128 pictures"),
        ("model,fid (n=64),kid,n\na,1,0.1,\n", "of an unknown number and of 64 pictures"),
        ("model,fid_768,kid_2048\na,1,0.1\n", "different features"),
    ],
)
def test_figures_that_do_not_compare_are_refused(tmp_path, data, words):
    with pytest.raises(Refused, match=words):
        table(tmp_path, data)


def test_a_folder_or_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(WrongInput, match="cannot be read"):
            read_candidates(path)
