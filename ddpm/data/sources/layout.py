"""What the folders of a tree mean: classes, parts of one data set, or nothing but a wrapping."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from ddpm.data.sources.source import NO_CLASS, Content, PassedOver, Picture, Source

# What folders are called that hold parts of one data set, each with the same classes in it, and the words behind that
# which say no more: train, train_set, testing-images, val2017, 01_train.
PARTS = {
    "train": "train(?:ing)?",
    "test": "test(?:ing)?",
    "validation": "val(?:id(?:ation)?)?|dev|eval(?:uation)?",
    "held_out": "h(?:old|eld)[ _-]?out",
}
# One way alone to read each: `datasets` is data and sets, a number its digits. With two, a long name takes for ever.
MORE = "sets?|splits?|data|images?|imgs?|pictures?|photos?|files?|part|[0-9]"
PART = re.compile(
    rf"(?:[0-9]{{1,2}}[ _.-]?)?(?:{'|'.join(f'(?P<{kind}>{words})' for kind, words in PARTS.items())})(?:[ _.-]?(?:{MORE}))*",
    re.IGNORECASE,
)
PICTURES = re.compile(rf"(?:[ _.-]?(?:{MORE}))+", re.IGNORECASE)  # a folder of them, by its name
TOKENS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")  # of a name: DIV2K_trainA is DIV, 2, K, train, A
WORDS = {kind: re.compile(words, re.IGNORECASE) for kind, words in PARTS.items()}
SHOWN = 12  # folders that a note names


def by_folders(
    kind: str, contents: Mapping[str, Content], facts: dict[str, Any], passed_over: PassedOver | None = None
) -> Source:
    """Pictures by their paths, `class/…/file` or `file`: the first folders are the classes; beside them, there is none.

    Folders that hold everything else are no classes, nor are the parts of a data set (train, test). The notes say what was
    understood where it may have been meant otherwise.
    """
    contents, notes = _without_wrapping(contents)
    notes += _beside_a_wrapping(contents)
    folders = {name: _folders(name) for name in contents}
    are_parts, said = _parts(folders)
    if are_parts:
        folders, inside = _without_common({name: found[1:] for name, found in folders.items()})
        said += inside
    called, spelt = one_spelling(found[0] for found in folders.values() if found)
    classes = sorted({*called.values()})
    number = {name: classes.index(spelling) for name, spelling in called.items()}
    pictures = [
        Picture(name, number[folders[name][0]] if folders[name] else NO_CLASS, content)
        for name, content in sorted(contents.items())
    ]
    return Source(
        kind,
        classes,
        pictures,
        facts,
        passed_over or PassedOver(),
        [*notes, *said, *spelt, *_twins(contents), *_of_old_code_pages(contents)],
    )


def _folders(name: str) -> list[str]:
    """Those that a file lies in, outermost first. In a bucket a name may begin with a slash, or hold two in a row."""
    return [part for part in name.split("/")[:-1] if part not in ("", ".")]


OUTERMOST = re.compile(r"(?:\.?/)*[^/]+/")


def _without_wrapping(contents: Mapping[str, Content]) -> tuple[Mapping[str, Content], list[str]]:
    """The pictures by the names that they have below a folder that holds them all, and folders of them; and a note of it."""
    notes: list[str] = []
    while True:
        folders = [_folders(name) for name in contents]
        if len({found[0] if found else "" for found in folders}) != 1 or min(map(len, folders)) < 2:
            return contents, notes
        inside = {OUTERMOST.sub("", name, count=1): content for name, content in contents.items()}
        if len(inside) < len(contents):
            return contents, notes
        notes.append(f"the folder {folders[0][0]} holds all the others: it is no class")
        contents = inside


def _without_common(folders: dict[str, list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """The folders inside a data set's parts, without those that hold everything in each part; and a note of each.

    The last one is a class, unless it is called like pictures and nothing else: train/images, val/images.
    """
    notes: list[str] = []
    while len({found[0] if found else "" for found in folders.values()}) == 1:
        fewest, first = min(map(len, folders.values())), next(iter(folders.values()), [""])[:1]
        if not fewest or (fewest == 1 and not PICTURES.fullmatch(first[0])):
            break
        notes.append(f"the folder {first[0]} in each part holds all the others: it is no class")
        folders = {name: found[1:] for name, found in folders.items()}
    return folders, notes


def _beside_a_wrapping(contents: Mapping[str, Content]) -> list[str]:
    """A note on a folder that would be but a wrapping, if no pictures lay beside it."""
    found = {name: _folders(name) for name in contents}
    beside = [name for name in sorted(found) if not found[name]]
    first, below = ({parts[at] for parts in found.values() if len(parts) > at} for at in (0, 1))
    if not beside or len(first) != 1 or len(below) < 2:
        return []
    (wrapping,), names = first, ", ".join(sorted(below)[:SHOWN]) + (" …" if len(below) > SHOWN else "")
    pictures = f"1 picture lies beside it ({beside[0]})"
    if len(beside) > 1:
        pictures = f"{len(beside):,} pictures lie beside it ({beside[0]} …)"
    return [
        f"the folder {wrapping} is taken for a class, since {pictures}; to have the folders in it ({names}) as the "
        f"classes, name {wrapping} itself, or move what lies beside it away"
    ]


def _part_in(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Of which part a folder's name speaks somewhere, and its other words: DIV2K_train_HR, split-test, trainA."""
    words = TOKENS.findall(name)
    for at, word in enumerate(words):
        for kind, pattern in WORDS.items():
            if pattern.fullmatch(word):
                return kind, tuple(other.lower() for other in words[:at] + words[at + 1 :])
    return None


def _parts(folders: Mapping[str, list[str]]) -> tuple[bool, list[str]]:
    """Whether the outermost folders are parts of one data set, and a note where they are, or are only called so.

    They are where all are called so, and are of two kinds, or have folders below them; names of more words, as in
    DIV2K_train_HR and DIV2K_valid_HR, must be of two kinds, and the same but for that; cats_train and dogs_train with nothing below them are classes.
    """
    first = {found[0] for found in folders.values() if found}
    kinds = {name: fits.lastgroup for name in sorted(first) if (fits := PART.fullmatch(name))}
    speaking = {name: part for name in sorted(first) if (part := _part_in(name))}
    others = {kind: {rest for other, rest in speaking.values() if other == kind} for kind, _ in speaking.values()}
    rests = {frozenset(found) for found in others.values()}
    nested = any(len(found) > 1 for found in folders.values())
    alike = len(others) > 1 and len(rests) == 1 and (nested or len(next(iter(rests))) == 1)
    if len(kinds) < len(first) and 2 * len(speaking) >= len(first):  # one `bullet_train` among many is a class
        kinds = {**kinds, **{name: kind for name, (kind, _) in speaking.items()}}
    if not kinds:
        return False, []
    names = ", ".join([*kinds][:SHOWN]) + (" …" if len(kinds) > SHOWN else "")
    are_so_called = all(PART.fullmatch(name) for name in first) and (nested or len({*kinds.values()}) > 1)
    if are_so_called or (alike and len(speaking) == len(first)):
        return True, [
            f"the folders {names} are taken for parts of one data set, not for classes: "
            "all their pictures are taken; name one of them to have it alone, or rename them if they are classes"
        ]
    are = "folder {} is called like a part of a data set, and is taken for a class"
    if len(kinds) > 1:
        are = "folders {} are called like parts of a data set, and are taken for classes"
    return False, [f"the {are.format(names)}; if it is none, move it away, or name the folder that holds the classes"]


def one_spelling(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """What each class is called, and notes: one whose accents are written in two ways (NFC, NFD) is one class."""
    ways: dict[str, set[str]] = {}
    for name in names:
        ways.setdefault(unicodedata.normalize("NFC", name), set()).add(name)
    called = {name: alike if len(spelt) > 1 else name for alike, spelt in ways.items() for name in spelt}
    return called, [
        f"the class {alike} is written in {len(spelt)} ways that look alike (Unicode's NFC and NFD): it is one class"
        for alike, spelt in ways.items()
        if len(spelt) > 1
    ]


OLD_BYTE = re.compile(r"\\x[89a-f][0-9a-f]")  # as `printable` writes one


def _of_old_code_pages(contents: Mapping[str, Content]) -> list[str]:
    """A note on names that are no UTF-8: nobody states which letters their bytes mean, and they are classes' names too."""
    names = [name for name in sorted(contents) if OLD_BYTE.search(name)]
    if not names:
        return []
    are = "the name of 1 file is" if len(names) == 1 else f"the names of {len(names):,} files are"
    return [
        f"{are} no UTF-8, as in {names[0]}: bytes of an old code page are written by their numbers; "
        "to have letters, rename them, or pack them anew with names in UTF-8"
    ]


def _twins(contents: Mapping[str, Content]) -> list[str]:
    """A note on files whose names look alike: they stay two."""
    seen: dict[str, str] = {}
    twins = [name for name in sorted(contents) if seen.setdefault(unicodedata.normalize("NFC", name), name) != name]
    if not twins:
        return []
    names = "the name of 1 file differs" if len(twins) == 1 else f"the names of {len(twins):,} files differ"
    return [f"{names} from another's in nothing but how accents are written (NFC, NFD): {twins[0]}; all are taken"]
