"""The promotion log by itself: what is whole, what is not, and who has which alias by it."""

import json
import os
import subprocess
import sys

import pytest

from ddpm.cli import main
from ddpm.registry.log import append, entries, read_log, standing
from ddpm.store import Damaged, open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def entry(action, came, to):
    return {"action": action, "from": came, "to": to, "why": "x", "weights_sha256": str(to), "figures": None}


def filled(store, *drafts):
    for draft in drafts or (entry("promote", None, 1), entry("promote", 1, 2), entry("promote", 2, 3)):
        append(store, "m", lambda log, draft=draft: draft)
    return store


def test_an_entry_that_earlier_releases_wrote_is_read(store):
    filled(store)
    key = "registry/m/000002.json"
    known = json.loads(store.read(key))
    for name in ("seal_sha256", "weights_sha256"):
        del known[name]
    store.write(key, json.dumps(known).encode())
    assert [one["to"] for one in entries(store, "m")] == [1, 2, 3]


DAMAGES = {
    "gone": None,
    "empty": b"",
    "garbage": os.urandom(99),
    "other JSON": b'{"note": 1}',
    "a list": b"[]",
    "another number": json.dumps({**entry("promote", 1, 2), "number": 7, "at": "x", "who": "x"}).encode(),
    "half": b'{"number": 2, "at": "x", ',
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_said_by_name_and_nothing_loops(store, damage, capsys):
    filled(store)
    key = "registry/m/000002.json"
    store.delete(key) if damage is None else store.write(key, damage)
    with pytest.raises(Damaged, match="promotion log of m: .*000002.json is .*"):
        entries(store, "m")
    with pytest.raises(Damaged, match=r"000002.json"):
        append(store, "m", lambda log: pytest.fail("nobody drafts by half a log"))
    assert [one["to"] for one in read_log(store, "m").entries] == [1, 3], "what can be read is shown"
    assert main(["history", "--model-name", "m", "--store", store.root, "--json"]) == 3
    shown = capsys.readouterr()
    assert [one["to"] for one in json.loads(shown.out)["entries"]] == [1, 3]
    assert "000002.json" in shown.err and len(shown.err.strip().splitlines()) == 1
    nowhere = f"sqlite:///{store.root}/mlflow.db"
    assert main(["rollback", "--model-name", "m", "--store", store.root, "--why", "x", "--tracking-uri", nowhere]) == 2
    assert "000002.json" in capsys.readouterr().err
    assert list(store.list("registry/m"))[-1] == "registry/m/000003.json", "nothing was written"


def test_every_changed_byte_of_what_an_entry_says_is_seen(store):
    filled(store)
    data = store.read("registry/m/000002.json")
    for place in range(0, data.index(b"seal_sha256") - 1):
        changed = bytearray(data)
        changed[place] ^= 2
        store.write("registry/m/000002.json", bytes(changed))
        with pytest.raises(Damaged, match="000002.json"):
            entries(store, "m")


def test_a_gap_is_said_once_however_wide_it_is(store):
    filled(store)
    store.write("registry/m/000500.json", store.read("registry/m/000003.json"))
    assert [line.split(" ")[0].rpartition("/")[2] for line in read_log(store, "m").damaged] == [
        "000004.json",
        "000500.json",
    ]


@pytest.mark.parametrize("far", ["999999999999", "000009"])
def test_an_entry_far_behind_the_others_is_a_gap_that_is_said_at_once(store, far):
    filled(store, entry("promote", None, 1))
    store.write(f"registry/m/{far}.json", b"{}")
    log = read_log(store, "m")
    assert [one["number"] for one in log.entries] == [1]
    assert "000002.json is missing" in log.damaged[0]


def test_another_spelling_of_a_number_is_a_stray(store):
    filled(store)
    store.write("registry/m/0000001.json", b"{}")
    assert len(read_log(store, "m").strays) == 1


def test_a_stray_object_is_no_entry_and_stops_nobody(store, capsys):
    filled(store)
    store.write("registry/m/note.json", b'{"note": 1}')
    assert [one["to"] for one in entries(store, "m")] == [1, 2, 3]
    assert main(["history", "--model-name", "m", "--store", store.root]) == 0
    assert "note.json is no entry of the log" in capsys.readouterr().err


def test_a_store_that_lists_less_than_it_holds_is_not_waited_for_for_ever(store, monkeypatch):
    filled(store)
    monkeypatch.setattr("ddpm.registry.log.time.sleep", lambda seconds: None)
    listed = store.list
    monkeypatch.setattr(store, "list", lambda prefix: [key for key in listed(prefix) if "000003" not in key])
    with pytest.raises(Damaged, match="000003.json is there, and the store does not list it"):
        append(store, "m", lambda log: entry("promote", 2, 4))


def test_racing_writers_lose_no_entry(store):
    code = (
        "import sys; from ddpm.registry.log import append; from ddpm.store import open_store\n"
        "for i in range(10):\n"
        "    append(open_store(sys.argv[1]), 'm', lambda log: {'action': 'challenge', 'from': None, 'to': int(sys.argv[2]) * 100 + i,"
        " 'why': str(len(log)), 'figures': None})\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code, store.root, str(number)]) for number in range(3)]
    assert [racer.wait(300) for racer in racers] == [0, 0, 0]
    log = entries(store, "m")
    assert [one["number"] for one in log] == list(range(1, 31))
    assert sorted(one["to"] for one in log) == sorted(n * 100 + i for n in range(3) for i in range(10))
    assert [one["why"] for one in log] == [str(i) for i in range(30)], "each decided on the log as it was"


def test_who_has_which_alias_follows_from_the_log():
    log = [entry("promote", None, 1), entry("challenge", 1, 2), entry("challenge", 1, 3), entry("promote", 1, 3)]
    assert standing(log[:2]) == {"champion": 1, "challenger": 2}
    assert standing(log) == {"champion": 3, "previous": 1}
    assert standing([*log, entry("rollback", 3, 1)]) == {"champion": 1, "previous": 3}


def test_what_is_gone_has_no_alias_and_the_one_before_it_is_previous():
    log = [entry("promote", None, 1), entry("promote", 1, 2), entry("promote", 2, 3), entry("challenge", 3, 4)]
    assert standing([*log, entry("gone", 3, 4)]) == {"champion": 3, "previous": 2}
    assert standing([*log, entry("gone", 3, 2)]) == {"champion": 3, "challenger": 4, "previous": 1}
    assert standing([*log, entry("gone", 3, 3)]) == {"challenger": 4, "previous": 2}
    assert standing([*log, entry("gone", 3, 3), entry("rollback", None, 2)]) == {
        "champion": 2, "challenger": 4, "previous": 1,
    }  # fmt: skip


def test_append_of_nothing_is_nothing(store):
    assert append(store, "m", lambda log: None) is None
    assert entries(store, "m") == []


def test_the_page_shows_the_log_by_itself(store, tmp_path, capsys):
    filled(store)
    append(store, "m", lambda log: {**entry("rollback", 3, 2), "why": "<script>alert(1)</script>"})
    file = tmp_path / "log.html"
    assert main(["history", "--model-name", "m", "--store", store.root, "--html", str(file)]) == 0
    page = file.read_text()
    assert "champion: version 2; challenger: none; previous: version 3." in page
    assert "&lt;script&gt;" in page and "<script" not in page
    assert not [word for word in ("http://", "https://", "src=", "@import", "url(") if word in page], (
        "it asks for nothing"
    )
    assert page.index("is champion again") < page.index("became champion"), "the newest first"
    store.write("registry/m/000002.json", b"")
    assert main(["history", "--model-name", "m", "--store", store.root, "--html", str(file)]) == 3
    assert "The log is damaged." in file.read_text() and "000002.json is damaged: it is empty" in file.read_text()


CONTROLS = "\x1b[2J\x1b]0;owned\x07\n\r\x00\x85\u202e\u2028"


def test_the_page_and_the_terminal_show_what_a_name_holds_and_obey_none_of_it(store, tmp_path, capsys, monkeypatch):
    """Names of people and of files, and the reasons that they gave, with what clears a screen or turns text round."""
    monkeypatch.setattr("ddpm.registry.log.user_name", lambda: f"ann{CONTROLS}<b>")
    append(store, "m", lambda log: {**entry("promote", None, 1), "why": f"because{CONTROLS}&<i>"})
    stray = CONTROLS.replace("\x00", "").replace("/", "")
    (tmp_path / "store" / "registry" / "m" / f"{stray}.json").write_text("{}")
    file = tmp_path / "log.html"
    assert main(["history", "--model-name", "m", "--store", store.root, "--html", str(file)]) == 0
    page, (out, err) = file.read_text(encoding="utf-8"), capsys.readouterr()
    for text in (page, out, err):
        assert not {character for character in text if character in CONTROLS and character != "\n"} - {*"[2J]0;owned"}
    shown = r"\x1b[2J\x1b]0;owned\x07\n\r\x00\x85\u202e\u2028"
    assert f"<td>ann{shown}&lt;b&gt;</td>" in page and f"because{shown}&amp;&lt;i&gt;</td>" in page
    assert f"because{shown}&<i>" in out.replace("\\\\", "\\")
    assert r"\x1b[2J" in err and "is no entry of the log" in err
    (tmp_path / "store" / "registry" / "m" / "000003.json").write_text("{}")
    assert main(["history", "--model-name", "m", "--store", store.root, "--html", str(file)]) == 3
    assert "000002.json is missing" in file.read_text(encoding="utf-8")
