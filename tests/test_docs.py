"""The pages for people: what they show as code fits a terminal."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
INDENT, COLUMNS = "    ", 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fits_a_terminal(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    code = {number: line.removeprefix(INDENT) for number, line in enumerate(lines, 1) if line.startswith(INDENT)}
    assert not any(line.lstrip().startswith("```") for line in lines), "code is indented by four"
    assert {number: line for number, line in code.items() if len(line) > COLUMNS} == {}


def test_there_is_code_to_look_at():
    assert (
        sum(line.startswith(INDENT) for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()) > 200
    )
