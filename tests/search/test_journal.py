"""The study's journal: what a full disk or a crash does to its end is mended, what else is broken is said."""

import errno
import json
import os

import pytest
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import TrialState

from ddpm.errors import Outage, WrongInput
from ddpm.progress import Quiet
from ddpm.search import journal
from ddpm.search.study import create_study, open_storage, open_study
from ddpm.settings import SearchSettings

SETTINGS = SearchSettings(trials=3, mults_choices="1-2")


class Heard(Quiet):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "journal.log"
    create_study(str(path), "s", SETTINGS)
    return path


def cut(path):
    """Leave half of the last line; what the file holds without it."""
    data = path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(data[: last + (len(data) - last) // 2])
    return data[:last]


def test_half_a_record_at_the_end_is_cut_off_and_said(place):
    kept = cut(place)
    heard = Heard()
    open_storage(str(place), heard)
    assert place.read_bytes() == kept
    assert len(heard.said) == 1 and f"{place} ended in half a record" in heard.said[0]
    heard.said.clear()
    create_study(str(place), "s", SETTINGS, heard)
    assert heard.said == []
    assert len(open_study(str(place), "s", SETTINGS).trials) == 3, "the trial that was lost is queued again"


@pytest.mark.parametrize("torn", [b"{", b'{"op_code":4,"wor', b"\0" * 4096])
def test_every_kind_of_half_is_cut_off(place, torn, tmp_path):
    before = place.read_bytes()
    place.write_bytes(before + torn)
    open_storage(str(place), Quiet())
    assert place.read_bytes() == before
    alone = tmp_path / "alone.log"
    alone.write_bytes(torn)
    create_study(str(alone), "s", SETTINGS, Quiet())
    assert len(open_study(str(alone), "s", SETTINGS).trials) == 3


def test_another_process_died_while_this_one_has_the_study_open(place):
    """The next record goes onto a line of its own, and both sides read it."""
    heard = Heard()
    study, other = open_study(str(place), "s", SETTINGS, progress=heard), open_study(str(place), "s", SETTINGS)
    with place.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"x","tri')
    trial = study.ask()
    study.tell(trial, 1.0)
    assert len(heard.said) == 1
    assert other.trials[0].state == TrialState.COMPLETE
    assert all(json.loads(line) for line in place.read_bytes().splitlines())


def test_a_line_that_is_being_written_is_left_to_its_writer(place, monkeypatch):
    """Between two writes of another process the file ends in half a line: whoever has the lock sees that it is no accident."""
    begun, rest = b'{"op_code":8,"worker_id":"x",', b'"trial_id":0,"user_attr":{"a":1}}\n'
    before = place.read_bytes()
    place.write_bytes(before + begun)
    acquire = JournalFileOpenLock.acquire

    def acquire_after_the_writer(lock):
        place.write_bytes(before + begun + rest)
        return acquire(lock)

    with monkeypatch.context() as patched:
        patched.setattr(JournalFileOpenLock, "acquire", acquire_after_the_writer)
        heard = Heard()
        open_storage(str(place), heard)
    assert heard.said == []
    assert open_study(str(place), "s", SETTINGS).trials[0].user_attrs == {"a": 1}


@pytest.mark.parametrize("written", [0, 7])
def test_a_full_disk_is_one_line_and_leaves_the_file_whole(place, written, monkeypatch):
    """A part of the record still went in. With room again, the same study goes on."""
    study, before = open_study(str(place), "s", SETTINGS), place.read_bytes()

    class Full:
        def __init__(self, file):
            self.file, self.asked = file, 0

        def seek(self, *where):
            return self.file.seek(*where)

        def truncate(self, size):
            return self.file.truncate(size)

        def write(self, data):
            self.asked += 1
            if written and self.asked == 1:
                return self.file.write(data[:written])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        append = journal._append
        patched.setattr(journal, "_append", lambda file, line: append(Full(file), line))
        with pytest.raises(Outage) as problem:
            study.ask()
    assert str(problem.value) == (
        f"the study's journal {place} cannot be written (No space left on device); make room there"
    )
    assert place.read_bytes() == before
    trial = study.ask()
    study.tell(trial, 1.0)
    assert open_study(str(place), "s", SETTINGS).trials[0].state == TrialState.COMPLETE


def test_a_journal_that_is_gone_is_not_begun_anew(place):
    study = open_study(str(place), "s", SETTINGS)
    place.unlink()
    with pytest.raises(Outage, match="cannot be written .No such file or directory.; see that it is there"):
        study._storage.set_study_user_attr(study._study_id, "a", 1)
    assert not place.exists()


@pytest.mark.parametrize("line", [b'{"op_code":4,"stu{"op_code":4}', b"[]", b"{}", b"\xff\xfe"])
def test_damage_elsewhere_is_said_with_its_line_and_nothing_is_changed(place, line):
    lines = place.read_bytes().splitlines()
    lines[2] = line
    damaged = b"\n".join(lines) + b"\n" + b'{"op_code":8,"wor'
    place.write_bytes(damaged)
    with pytest.raises(WrongInput) as problem:
        open_storage(str(place), Quiet())
    assert f"{place} is damaged: line 3 of {len(lines)} is no record of Optuna's; put a copy" in str(problem.value)
    assert "\n" not in str(problem.value)
    assert place.read_bytes() == damaged


def test_records_that_do_not_belong_together(place):
    place.write_bytes(place.read_bytes() + b'{"op_code":4,"worker_id":"x"}\n')
    with pytest.raises(WrongInput, match="is damaged: its records do not belong together"):
        open_storage(str(place), Quiet())


def test_damage_that_happens_while_it_is_open_is_one_line_too(place):
    study = open_study(str(place), "s", SETTINGS)
    with place.open("ab") as file:
        file.write(b"nonsense\n")
        file.write(b"nonsense\n")
    with pytest.raises(WrongInput, match="is damaged: line 5 of 6"):
        study.get_trials()


@pytest.mark.parametrize("foreign", [b"a letter\nto my mother", b"a letter", b"{}\n", b'{"op": 1}\nx'])
def test_what_is_no_journal_is_left_alone(tmp_path, foreign):
    path = tmp_path / "letter.txt"
    path.write_bytes(foreign)
    with pytest.raises(WrongInput, match="is no journal of Optuna's; name another path"):
        open_storage(str(path), Quiet())
    assert path.read_bytes() == foreign


def test_a_folder_is_no_journal(tmp_path):
    with pytest.raises(WrongInput, match="is no journal of Optuna's"):
        open_storage(str(tmp_path), Quiet())
