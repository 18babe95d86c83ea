"""Names and folders as other programs write them: pictures keep their classes, and whatever is not used is said."""

import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest
from PIL import Image

from ddpm.data.ingest import ingest
from ddpm.data.sources import parse
from ddpm.data.sources.folders import walk
from ddpm.errors import WrongInput
from ddpm.evaluation.generated import look_into
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import open_store


def png(number=0):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 50, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(path, names):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for number, name in enumerate(names):
                packed.writestr(name, b"" if name[-1] in "/\\" else png(number))
        return str(path)
    with tarfile.open(path, "w") as packed:
        for number, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size = len(png(number))
            packed.addfile(entry, io.BytesIO(png(number)))
    return str(path)


def folder(path, names):
    for number, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(number) if name.endswith(("png", "jfif")) else b"")
    return str(path)


def understood(source):
    """Each picture's class by its name."""
    found = parse(source).open()
    return {p.name: found.classes[p.label] if p.label >= 0 else None for p in found.pictures}, found


def test_bytes_of_an_old_code_page_in_a_tar_keep_names_and_classes_apart(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as packed:
        for number, name in enumerate(("chatés/0.png", "chatès/1.png", "été/2.png")):
            entry = tarfile.TarInfo(name)
            entry.size = len(png(number))
            packed.addfile(entry, io.BytesIO(png(number)))
    classes, found = understood(str(tmp_path / "x.tar"))
    assert {*classes.values()} == {"chat\\xe9s", "chat\\xe8s", "\\xe9t\\xe9"}
    (note,) = found.notes
    assert note.startswith("the names of 3 files are no UTF-8, as in \\xe9t\\xe9/2.png: bytes of an old code page")
    assert "pack them anew with names in UTF-8" in note


PLAIN = {"cat/0.png": "cat", "cat/1.png": "cat", "dog/2.png": "dog"}


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("write", ["{}", "./{}", "././{}", "set/{}", "./set//{}", "{}|\\", "set/{}|\\", ".\\{}|\\"])
def test_an_archives_names_are_relative_paths_however_they_are_written(tmp_path, ending, write):
    form, _, separator = write.partition("|")
    names = [form.format(name).replace("/", separator or "/") for name in PLAIN]
    assert understood(archive(tmp_path / f"x.{ending}", names))[0] == PLAIN


@pytest.mark.parametrize("ending", ["zip", "tar", "folder"])
def test_a_colon_in_a_name_is_a_colon(tmp_path, ending):
    pack = folder if ending == "folder" else archive
    names, _ = understood(
        pack(tmp_path / f"x.{ending}", ["a:b/1.png", "c:/2.png", "10:30/3.png"][:: 2 if ending != "folder" else 1])
    )
    assert names["a:b/1.png"] == "a:b" and names["10:30/3.png"] == "10:30"
    if ending != "folder":
        with pytest.raises(WrongInput, match="absolute path"):
            parse(pack(tmp_path / f"y.{ending}", ["c:/2.png"])).open()


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("ending", ["zip", "tar", "folder"])
def test_a_class_that_is_written_in_two_ways_is_one_and_files_stay_two(tmp_path, ending):
    pack = folder if ending == "folder" else archive
    written = [f"{NFC}/0.png", f"{NFD}/0.png", f"{NFD}/1.png", "dog/2.png"]
    names, found = understood(pack(tmp_path / f"x.{ending}", written))
    assert names == {written[0]: NFC, written[1]: NFC, written[2]: NFC, "dog/2.png": "dog"}
    assert found.notes == [
        f"the class {NFC} is written in 2 ways that look alike (Unicode's NFC and NFD): it is one class",
        f"the name of 1 file differs from another's in nothing but how accents are written (NFC, NFD): {NFC}/0.png; all are taken",
    ]
    names, found = understood(pack(tmp_path / f"y.{ending}", [f"{NFD}/0.png", "dog/2.png"]))
    assert names[f"{NFD}/0.png"] == NFD and not found.notes, "one spelling stays as it is"


def test_two_files_that_are_written_alike_are_refused(tmp_path):
    source = folder(tmp_path / "in", ["a\udce9.png", "a\\xe9.png"])
    with pytest.raises(WrongInput, match=r"two files that are both written a\\xe9.png; rename one"):
        parse(source).open()


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_one_name_written_in_two_ways_is_there_twice_and_hidden_ones_stay_hidden(tmp_path, ending):
    with pytest.raises(WrongInput, match=r"'cat/0.png' is there twice"):
        parse(archive(tmp_path / f"x.{ending}", ["cat/0.png", "./cat/0.png"])).open()
    found = understood(archive(tmp_path / f"y.{ending}", ["./cat/0.png", "./.git/0.png", "cat\\._1.png"]))
    assert found[0] == {"cat/0.png": "cat"} and not len(found[1].passed_over)


def test_folders_in_a_zip_are_no_files(tmp_path):
    found = understood(archive(tmp_path / "x.zip", ["cat/", "dog\\", "cat/0.png", "cat/1.png", "dog/2.png"]))
    assert not len(found[1].passed_over) and set(found[0].values()) == {"cat", "dog"}


def zip_with_raw_name(path, raw, extra=b""):
    """A zip whose one picture's name is these bytes, without the flag that says UTF-8."""
    stand_in = "x" * (len(raw) - 4) + ".png"
    entry = zipfile.ZipInfo(stand_in)
    entry.extra = extra
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(entry, png())
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), raw))
    return str(path)


def test_a_zips_name_in_utf8_without_the_flag_is_read_as_such(tmp_path):
    source = zip_with_raw_name(tmp_path / "macos.zip", "fleur-é/日.png".encode())
    assert understood(source)[0] == {"fleur-é/日.png": "fleur-é"}


def test_a_zips_name_in_a_code_page_that_nobody_states_is_refused_by_name(tmp_path):
    raw = "fleur-é/0.png".encode("cp1252")
    with pytest.raises(WrongInput, match=r"refused: 'fleur-.*/0\.png' is a name in a code page .*; pack it anew"):
        parse(zip_with_raw_name(tmp_path / "old.zip", raw)).open()
    name = "fleur-é/0.png".encode()
    field = struct.pack("<BI", 1, zlib.crc32(raw)) + name
    beside = struct.pack("<HH", 0x7075, len(field)) + field
    source = zip_with_raw_name(tmp_path / "info-zip.zip", raw, beside)
    assert understood(source)[0] == {"fleur-é/0.png": "fleur-é"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zips_member_unpacks_to_what_its_directory_says_and_no_more(tmp_path, method):
    data = png() + bytes(5000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as packed:
        packed.writestr("a.png", data)
    whole = (tmp_path / "x.zip").read_bytes()
    assert parse(f"{tmp_path}/x.zip").open().pictures[0].content() == data
    at = whole.rindex(b"PK\x01\x02") + 24
    for size, words in ((100, "more than the 100 bytes"), (len(data) + 1, "checksum")):
        (tmp_path / "x.zip").write_bytes(whole[:at] + struct.pack("<I", size) + whole[at + 4 :])
        with pytest.raises(OSError, match=words):
            parse(f"{tmp_path}/x.zip").open().pictures[0].content()
    start = whole.index(b"a.png") + 40
    (tmp_path / "x.zip").write_bytes(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :])
    with pytest.raises(OSError, match="damaged in the archive"):
        parse(f"{tmp_path}/x.zip").open().pictures[0].content()


def test_a_folder_that_holds_all_the_others_is_no_class(tmp_path):
    names, found = understood(folder(tmp_path / "in", [f"flowers/{name}" for name in PLAIN]))
    assert names == PLAIN and found.notes == ["the folder flowers holds all the others: it is no class"]
    names, found = understood(folder(tmp_path / "one", ["cat/0.png", "cat/1.png"]))
    assert set(names.values()) == {"cat"} and not found.notes, "one class is one"
    names, _ = understood(folder(tmp_path / "beside", ["set/cat/0.png", "set/dog/0.png", "1.png"]))
    assert names == {"set/cat/0.png": "set", "set/dog/0.png": "set", "1.png": None}


@pytest.mark.parametrize(("beside", "lies"), [(["1.png"], "1 picture lies"), (["1.png", "2.png"], "2 pictures lie")])
def test_a_picture_beside_a_folder_that_holds_all_the_others_is_said(tmp_path, beside, lies):
    _, found = understood(folder(tmp_path / "in", ["set/cat/0.png", "set/dog/0.png", *beside]))
    (note,) = found.notes
    assert note.startswith(f"the folder set is taken for a class, since {lies} beside it (1.png")
    assert "to have the folders in it (cat, dog) as the classes, name set itself, or move" in note
    names, found = understood(str(tmp_path / "in" / "set"))
    assert set(names.values()) == {"cat", "dog"} and not found.notes
    _, found = understood(folder(tmp_path / "flat", ["cat/0.png", "cat/1.png", *beside]))
    assert not found.notes, "a class, and pictures without one"


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "test"), ("Train", "Valid", "test"), ("set/training", "set/val"), ("train_set", "test_set"),
        ("train", "holdout"), ("training", "testing"), ("01_train", "02_val"), ("train2017", "val2017"),
        ("trainset", "Held-Out"), ("train_images", "test data"), ("train_1", "train_2"),
        ("split_train", "split_test"), ("DIV2K_train_HR", "DIV2K_valid_HR"), ("trainA", "trainB", "testA", "testB"),
        ("cats-Train-64", "cats-Test-64"), ("imagesTrain", "imagesVal"),
    ],
)  # fmt: skip
def test_the_parts_of_a_data_set_are_no_classes(tmp_path, parts):
    names, found = understood(folder(tmp_path / "in", [f"{part}/{name}" for part in parts for name in PLAIN]))
    assert len(names) == 3 * len(parts) and found.classes == ["cat", "dog"]
    assert all(of == name.split("/")[1] for name, of in names.items())
    assert re.match(r"the folders .* are taken for parts of one data set, not for classes", found.notes[-1])


@pytest.mark.parametrize(
    ("names", "classes", "said"),
    [
        (["train/imgs/cat/0.png", "train/imgs/dog/1.png", "test/imgs/cat/2.png"], ["cat", "dog"], "the folder imgs in each part holds all the others: it is no class"),
        (["train/a/b/cat/0.png", "val/a/b/dog/1.png"], ["cat", "dog"], "the folder b in each part holds all the others: it is no class"),
        (["train/images/0.png", "val/images/1.png"], [], "the folder images in each part holds all the others: it is no class"),
        (["train/cat/0.png", "val/cat/1.png"], ["cat"], "all their pictures are taken"),
        (["a_train/0.png", "a_test/1.png", "b_train/2.png", "b_test/3.png"], ["a_test", "a_train", "b_test", "b_train"], "are taken for classes"),
    ],
)  # fmt: skip
def test_what_wraps_the_classes_in_each_part_is_no_class(tmp_path, names, classes, said):
    _, found = understood(folder(tmp_path / "in", names))
    assert found.classes == classes and said in " ".join(found.notes)


@pytest.mark.parametrize("more", ["1", "datasets", "images_", "data_set"])
def test_a_long_name_is_read_as_quickly_as_it_is_long(more):
    """In a program of its own, which is stopped: a pattern that tries every way to read it would take years."""
    words = (
        f"from ddpm.data.sources.layout import PART; exit(PART.fullmatch('train' + {more!r} * 100 + 'x') is not None)"
    )
    assert subprocess.run([sys.executable, "-c", words], timeout=60).returncode == 0


def test_class_folders_beside_one_called_train_are_classes(tmp_path):
    names, found = understood(folder(tmp_path / "in", ["train/0.png", "car/0.png"]))
    assert set(names.values()) == {"train", "car"}
    (note,) = found.notes
    assert note.startswith(
        "the folder train is called like a part of a data set, and is taken for a class; if it is none"
    )
    names, found = understood(
        folder(tmp_path / "apart", ["test_1/0.png", "test_2/0.png", "trainer/1.png", "valley/2.png"])
    )
    assert set(names.values()) == {"test_1", "test_2", "trainer", "valley"}
    (note,) = found.notes
    assert note.startswith("the folders test_1, test_2 are called like parts of a data set, and are taken for classes")
    for names in (("express_train", "test_tube"), ("trainA", "trainB"), ("split_train", "cat")):
        called, found = understood(folder(tmp_path / names[1], [f"{name}/0.png" for name in names]))
        assert set(called.values()) == {*names}
        assert "called like " in found.notes[0] and "if it is none, move it away" in found.notes[0], names
    many = ["bullet_train", *(f"class-{n}" for n in range(9))]
    assert not understood(folder(tmp_path / "many", [f"{name}/0.png" for name in many]))[1].notes
    flat, found = understood(folder(tmp_path / "flat", ["train/0.png", "test/1.png"]))
    assert set(flat.values()) == {None} and found.notes


class Said(Quiet):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_files_that_are_passed_over_are_counted_named_and_warned_about(tmp_path):
    more = [*(f"cat/{n}.HEIC" for n in range(3)), "dog/9.jfif", "notes.txt", "LICENSE"]
    source = folder(tmp_path / "in", [*PLAIN, *(f"dog/more-{n}.png" for n in range(9)), *more])
    settings = IngestSettings(source=source, dataset_name="set", image_size=8)
    said = Said()
    ingest(settings, open_store(str(tmp_path / "store")), said, workers=1)
    line = next(line for line in said.lines if line.startswith("passed over"))
    for words in (
        "3 .heic (cat/0.HEIC …: HEIC, which is not read here; convert it to JPEG or PNG)",
        "1 .jfif (dog/9.jfif: JPEG by another name; call it .jpg)", "1 .txt (notes.txt)", "1 without an ending (LICENSE)",
    ):  # fmt: skip
        assert words in line
    assert any(line.startswith("warning: 6 of 18 files are passed over") for line in said.lines)
    said = Said()
    patient = IngestSettings(source=source, dataset_name="set", image_size=8, quarantine_limit=0.5)
    ingest(patient, open_store(str(tmp_path / "store")), said, workers=1)
    assert not any(line.startswith("warning") for line in said.lines)


def test_a_folder_of_other_files_says_which(tmp_path):
    with pytest.raises(WrongInput, match=r"holds no pictures .*; there are 2 \.heic \(a/0\.heic …: HEIC, which"):
        parse(folder(tmp_path / "in", ["a/0.heic", "a/1.heic"])).check()


def test_folders_deeper_than_pythons_stack_are_walked(tmp_path):
    deep = [f"{tmp_path}{'/d' * depth}" for depth in range(1200)]
    for path in deep[1:]:
        os.mkdir(path)
    try:
        for path in (deep[0], deep[-1]):
            with open(f"{path}/0.png", "wb") as file:
                file.write(png())
        assert list(walk(tmp_path)) == ["0.png", "d/" * 1199 + "0.png"]
        assert len(list(open_store(str(tmp_path)).list(""))) == 2
        assert look_into(tmp_path).below == {"in d/": 1}
        assert len(parse(f"dalle-dogs:{tmp_path}").open().pictures) == 2
    finally:  # what removes such folders afterwards is recursive itself
        os.unlink(f"{deep[-1]}/0.png")
        for path in reversed(deep[1:]):
            os.rmdir(path)


def test_what_is_no_archive_is_named_and_what_has_no_size_is_not_read(tmp_path):
    (tmp_path / "a.zip").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(WrongInput, match=r"a\.zip is a Git LFS pointer .*`git lfs pull`"):
        parse(f"{tmp_path}/a.zip").check()
    (tmp_path / "b.zip").symlink_to("/proc/self/mountinfo")  # has bytes, and says that it has none
    with pytest.raises(WrongInput, match=r"b\.zip is empty"):
        parse(f"{tmp_path}/b.zip").check()
