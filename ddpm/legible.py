"""Text as it is shown: whatever a name holds, it stays in its line, and tells the terminal nothing.

Files, classes, members of archives, columns and models are called what others called them: a name may hold an escape
sequence that clears the screen, a line end behind which a line of its own begins, or characters that turn the order of
the text round. Names are kept as they are, and made legible where they are shown: all that ddpm prints goes through
`tell`, and `Progress`, MLflow's records and the pages use `legible` themselves.
"""

from __future__ import annotations

import io
import re
import sys
import unicodedata
from typing import TextIO

from ddpm.credentials import masked

# Controls, halves of characters that are none (bytes of a name that are no UTF-8), and ends of lines and paragraphs.
NEVER_SHOWN = ("Cc", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # invisible as well, but Persian, Hindi and emoji are spelt with them
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def legible(text: object, layout: bool = False) -> str:
    """The text with every character that is not there to be read written as Python writes it: `\\x1b`, `\\n`, `\\u202e`.

    Args:
        layout: leave line ends and tabs, where the text is a table or a log and no name.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() or (layout and c in "\n\t") else _written(c) for c in plain)


def _written(character: str) -> str:
    kind = unicodedata.category(character)
    if kind not in NEVER_SHOWN and (kind != "Cf" or character in JOINERS):
        return character  # a no-break space, say, or a character that is younger than this Python
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        code -= 0xDC00
    width = "x02" if code < 0x100 else "u04" if code < 0x10000 else "U08"
    return SHORT.get(character) or f"\\{width[0]}{code:{width[1:]}x}"


def take_all_characters() -> None:
    """Let standard output take every character, as standard error does: one that its encoding lacks as Python writes it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def tell(text: object = "", to: TextIO | None = None, layout: bool = False) -> None:
    """Print a line, made legible; on standard error, if nothing else is said."""
    print(legible(masked(str(text)), layout), file=to or sys.stderr, flush=True)


def logged(line: str) -> str:
    """A line of another program for a log: without its colours and passwords, and legible."""
    return legible(masked(COLOURS.sub("", line)), layout=True)


def on_page(value: object) -> object:
    """What jinja2 is to do with every value of a page (`finalize`): texts are made legible, and then escaped as ever."""
    return legible(value) if type(value) is str else value  # markup of ours stays what it is
