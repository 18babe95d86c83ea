"""The command line's help: no flag without a meaning, and a setting's flag says what its field says."""

import argparse
import dataclasses

import pytest

from ddpm.arguments import setting_words
from ddpm.cli import parser
from ddpm.errors import WrongInput
from ddpm.fields import about_of, plain, range_of
from ddpm.plan import ROOMS, places
from ddpm.settings import GuideSettings, TransferSettings

SETTINGS = {field.name: field for kind in ROOMS.values() for field in dataclasses.fields(kind)}
PLACES = {field.name: field for field in places()}

OTHERS = {
    ("sample", "n"),
    ("sample", "guide"),  # a model, never the trial of a run
    ("evaluate", "guide"),
    ("register", "guide"),
    ("export", "weights"),
    ("page", "run_name"),
    ("dashboard", "run_name"),
}  # flags that share their name with a setting, and are none


def commands() -> dict[str, argparse.ArgumentParser]:
    (steps,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(steps.choices)


def flags() -> list[tuple[str, argparse.Action]]:
    return [(name, action) for name, parser in commands().items() for action in parser._actions]


def test_every_argument_has_a_meaning():
    assert len(commands()) >= 15
    assert [f"{command} {action.dest}" for command, action in flags() if not (action.help or "").strip()] == []


def test_every_flag_that_may_be_left_out_says_what_stands_for_it():
    found = [
        f"{command} {action.dest}"
        for command, action in flags()
        if action.option_strings and not action.required and action.nargs != 0 and "default: " not in action.help
    ]
    assert found == []


@pytest.mark.parametrize("command", commands())
def test_help_can_be_printed(command):
    assert command in commands()[command].format_help()


def test_a_settings_flag_says_meaning_unit_range_and_default():
    found = set()
    for command, action in flags():
        if not action.option_strings or (command, action.dest) in OTHERS:
            continue
        for fields in (SETTINGS, PLACES):
            if field := fields.get(action.dest):
                found.add(action.dest)
                text = action.help.replace("%%", "%")
                says = f"{command} {action.dest}: {action.help}"
                assert about_of(field).meaning in text, says
                assert about_of(field).unit in text, says
                assert range_of(field) in text, says
                assert action.required == ("required" in text), says
                own = "default: the model's own" in text
                if fields is SETTINGS and not action.required:
                    assert own or f"default: {plain(field.default)}]" in text, says
                assert own == (command == "sample" and fields is SETTINGS), says
    # No command has a second set, or trials to be guided by.
    of_runs = {field.name for kind in (TransferSettings, GuideSettings) for field in dataclasses.fields(kind)}
    assert found == {*SETTINGS, *PLACES} - {"source"} - of_runs  # the source is given by its place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" a=1\tb=2\nc=3 \r\n", ["a=1", "b=2", "c=3"]),
        ("a='x; y' b=\"# it's\"", ["a=x; y", "b=# it's"]),
        ("a='$HOME' b=[0,1] c=models:/m@champion d=~/x/*.pth", ["a=$HOME", "b=[0,1]", "c=models:/m@champion", "d=~/x/*.pth"]),
        ("a= b=1", ["a=", "b=1"]),
        ("a 1", ["a", "1"]),
    ],
)  # fmt: skip
def test_settings_in_one_text_are_its_words(text, words):
    assert setting_words(text) == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=1;b=2", "';' is not understood"),
        ("a=1 # b=2", "'#' is not understood"),
        ("a=1#b", "'#' is not understood"),
        ("a=1 && b=2", "'&&' is not understood"),
        ("a=1 | b=2", "'|' is not understood"),
        ("a=$HOME/x", "'$' is expanded by nobody"),
        ('a="`date`"', "'`' is expanded by nobody"),
        *(
            (f"a=x{sign}y", "'$' is expanded by nobody; write out what is meant")
            for sign in ("$?", "$@", "$$", "$!", "$*", "$-")
        ),
        ('a="$@"', "or put a value that holds it in single quotes"),
        ("a='1 b=2", "a quote is opened and not closed"),
    ],
)
def test_what_a_shell_would_do_more_with_is_refused_by_name(text, said):
    with pytest.raises(WrongInput, match="^SET: ") as problem:
        setting_words(text)
    assert said in str(problem.value)
