"""A table of models as people's programs save it."""

import pytest

from ddpm.errors import WrongInput
from ddpm.search.candidates import read_candidates
from ddpm.search.ranking import Candidate

PLAIN = "model,fid,kid,parameters\na,12.5,0.01,900\nb,10.1,0.02,\n"
FOUND = [Candidate("a", 12.5, 0.01, 900), Candidate("b", 10.1, 0.02)]
SEMICOLONS = PLAIN.replace(",", ";").replace(".", ",")
TABS = PLAIN.replace(",", "\t")


def table(folder, data):
    (folder / "table.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_candidates(folder / "table.csv")


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
        'kid,note,model,fid,parameters\n0.01,"old, but good",a,12.5,900\n0.02,,b,10.1,0\n',
    ],
    ids=["plain", "mark", "semicolons", "excel-de", "points", "tabs", "unicode-text", "crlf", "spaces", "order"],
)
def test_however_it_was_saved(tmp_path, data):
    assert table(tmp_path, data) == FOUND


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "no column model"),
        ("model,fid\na,1\n", "no column kid"),
        ("model,fid,FID,kid\na,1,2,3\n", "more than one column fid"),
        ("model,fid,kid\na,12,5,0,01\n", "row of a has 5 cells and the first line 3"),
        ("model,fid,kid\na,12.5\n", "row of a has 2 cells"),
        ("model;fid;kid\na;1.234,5;0,1\n", "row of a: .*1.234.5"),
        ("model,fid,kid\na,low,0.1\n", "row of a: .*low"),
        ("model,fid,kid,parameters\na,1,0.1,2.5\n", "row of a: .*2.5"),
        (b"PK\x03\x04\xff\xfe\x00", "no CSV file"),
        ('model,fid,kid\n"' + "a" * 200_000, "no CSV file"),
    ],
)
def test_what_is_no_such_table_is_refused_by_its_row(tmp_path, data, words):
    with pytest.raises(WrongInput, match=words):
        table(tmp_path, data)


def test_a_folder_or_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(WrongInput, match="cannot be read"):
            read_candidates(path)
