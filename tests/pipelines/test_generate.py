"""What is written from the settings is what the settings say."""

import dataclasses

from ddpm.fields import about_of, range_of
from ddpm.plan import ROOMS, fields, places
from ddpm.serving.settings import ServeSettings
from pipelines import generate


def test_the_committed_files_are_what_the_settings_say(capsys):
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_a_file_that_drifted_is_noticed_and_written_anew(tmp_path, capsys):
    for name in generate.WRITTEN:
        (tmp_path / name).parent.mkdir()
    assert generate.main(["--root", str(tmp_path), "--check"]) == 1, "files that are not there"
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--root", str(tmp_path), "--check"]) == 0
    for name in generate.WRITTEN:
        path = tmp_path / name
        text = path.read_text()
        path.write_text(text.replace("lr_low", "lr_lowest"))
        capsys.readouterr()
        assert generate.main(["--root", str(tmp_path), "--check"]) == 1
        assert capsys.readouterr().err == f"{path} is not what the settings say; run `make compile` and commit it\n"
        path.write_text(text)


def test_the_page_has_every_setting_with_meaning_and_range():
    rows = {row.split("`")[1]: row for row in generate.page().splitlines() if row.startswith("| `")}
    served = len(dataclasses.fields(ServeSettings))
    assert len(rows) == len(places()) + len(fields()) + served + 2, "and the two that a search chooses"
    for field in (*places(), *fields()):
        assert f"| {about_of(field).meaning} |" in rows[field.name]
        assert f"| {range_of(field)} |" in rows[field.name]
    assert all(f"## {room.capitalize()}\n" in generate.page() for room in ROOMS)
