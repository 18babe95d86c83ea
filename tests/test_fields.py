"""A field says its range in words, and admits what the words say."""

import dataclasses
import math
from dataclasses import dataclass

import pytest

from ddpm.errors import WrongInput
from ddpm.fields import About, Typed, describe, plain, setting


@pytest.mark.parametrize(
    ("bounds", "words", "right", "wrong"),
    [
        ({"low": 1}, "at least 1", [1, 9], [0, -1]),
        ({"low": 0}, "0 or more", [0, 9], [-1]),
        ({"low": 0, "zero": "all"}, "0 (all) or more", [0, 1], [-1]),
        ({"low": 16, "zero": "all"}, "0 (all) or at least 16", [0, 16], [15, -1]),
        ({"above": 1, "zero": "off"}, "0 (off) or above 1", [0.0, 1.1], [1.0, 0.5, -1.0]),
        ({"low": 1, "high": 9}, "from 1 to 9", [1, 9], [0, 10]),
        ({"low": 0, "high": 1, "zero": "none"}, "from 0 (none) to 1", [0.0, 1.0], [-0.1, 1.1]),
        ({"low": 0, "below": 1}, "from 0 to below 1", [0.0, 0.9], [1.0, -0.1]),
        ({"above": 0}, "above 0", [1e-9], [0.0, -1.0]),
        ({"above": 0, "below": 1}, "above 0 and below 1", [0.5], [0.0, 1.0]),
        ({"above": 0, "high": 1}, "above 0 and at most 1", [1.0], [0.0, 1.1]),
        ({"low": 4, "multiple": 4}, "a multiple of 4", [4, 8], [0, 2, 6, -4]),
        ({"choices": ("a", "b")}, "one of a, b", ["a", "b"], ["c", ""]),
        ({"choices": (64, 192)}, "one of 64, 192", [64], [65]),
        ({"pattern": "[a-z]+", "form": "letters"}, "letters", ["abc"], ["", "a1", "ab\n"]),
        ({}, "", ["", "x"], [math.nan, math.inf]),
    ],
)
def test_the_words_and_the_check_agree(bounds, words, right, wrong):
    about = About("m", **bounds)
    assert about.range == words
    assert [value for value in right if not about.admits(value)] == []
    assert [value for value in wrong if about.admits(value)] == []


@dataclass(frozen=True)
class Some(Typed):
    rate: float = setting(7e-5, "how fast", unit="steps a second", above=0, below=1)
    count: int = setting(3, "how many", low=0, high=2**62 - 1)
    loud: bool = setting(False, "whether it is heard")
    note: str = setting("", "what else")


def test_a_line_of_help_has_meaning_unit_and_range():
    rate, _, loud, note = dataclasses.fields(Some)
    assert describe(rate, "default: x") == "how fast [steps a second, above 0 and below 1; default: x]"
    assert describe(loud) == "whether it is heard [true or false]"
    assert describe(note) == "what else"
    assert [plain(value) for value in (7e-5, 1.0, 0.123456789, True, "", 3)] == [
        "7e-5",
        "1",
        "0.123456789",
        "true",
        "empty",
        "3",
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", math.inf, "1e999"])
def test_no_number_is_infinite(value):
    with pytest.raises(
        WrongInput, match=r"^rate: -?(nan|inf) will not do; it must be a finite number, above 0 and below 1$"
    ):
        Some(rate=value)


def test_whole_numbers_keep_every_digit():
    """A float has 53 bits, and a seed may have 62."""
    odd = 2**53 + 1
    assert [Some(count=value).count for value in (odd, str(odd), "5.0", 5.0)] == [odd, odd, 5, 5]
    for value in ("5.5", 5.5, "many", "", "inf", "nan", True, None):
        with pytest.raises(WrongInput, match=r"count: .* is not a whole number"):
            Some(count=value)


@pytest.mark.parametrize("text", ["7_0", " 7", "7 ", "٧", "７", "0x7", "", "7,0", "1e", "--7", "7\n"])
def test_what_python_alone_reads_as_a_number_is_none(text):
    with pytest.raises(WrongInput, match="count: .* is not a whole number"):
        Some(count=text)
    with pytest.raises(WrongInput, match="rate: .* is not a number"):
        Some(rate=text)


@pytest.mark.parametrize("text", ["0.5", ".5", "5e-1", "+0.5", "5.E-1"])
def test_a_number_may_be_written_in_every_usual_way(text):
    assert Some(rate=text).rate == 0.5


def test_a_list_of_choices_may_grow():
    names = ["one"]
    about = About("m", choices=names)
    assert not about.admits("two")
    names.append("two")
    assert about.admits("two")
    assert about.range == "one of one, two"


def test_a_misspelt_bound_is_an_error():
    with pytest.raises(TypeError, match="lowest"):
        setting(1, "m", lowest=0)
