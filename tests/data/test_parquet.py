"""Parquet files as they come: classes are used or said not to be, and nothing is unpacked that was not looked at."""

import io
import json
import math
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm.data.sources import parse
from ddpm.data.sources.pages import largest_page
from ddpm.errors import WrongInput


def png(number=0):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 50, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, features=None, rows=4, **columns):
    """A file of pictures and these columns; `features`: what the hub's library says of them."""
    table = pa.table({"image": pa.array([png(n) for n in range(rows)], pa.binary()), **columns})
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return f"parquet:{path}"


def named(*names):
    return {"label": {"_type": "ClassLabel", "names": names}}


def named_by_number(names):
    return {"label": {"_type": "ClassLabel", "names": names}}


def understood(source):
    found = parse(source).open()
    return [found.classes[p.label] if p.label >= 0 else None for p in found.pictures], " | ".join(found.notes)


@pytest.mark.parametrize(
    ("values", "features", "classes"),
    [
        (pa.array([0.0, 1.0, math.nan, 1.0]), None, ["0", "1", None, "1"]),  # what pandas makes of numbers with a gap
        (pa.array([0.0, 1.0, None, 1.0]), named("dog", "cat"), ["dog", "cat", None, "cat"]),
        (pa.array([True, False, None, True]), None, ["True", "False", None, "True"]),
        (pa.array(["x", "y", None, "x"], pa.large_string()), None, ["x", "y", None, "x"]),
        (pa.array(["x", "y", None, "x"], pa.string_view()), None, ["x", "y", None, "x"]),
        (pa.array([3, 1, None, 3], pa.uint8()).dictionary_encode(), None, ["3", "1", None, "3"]),
        (pa.array([0, 1, -1, 7]), named("dog", "cat"), ["dog", "cat", None, None]),
        (pa.array([0, 1, -1, 1]), None, ["0", "1", None, "1"]),
        (pa.array(["x", "", " ", "x"]), None, ["x", None, None, "x"]),
        (pa.array([True, False, None, True]), named("no", "yes"), ["yes", "no", None, "yes"]),
        (pa.array([0, 2, None, 2]), named_by_number({"2": "owl", "0": "dog"}), ["dog", "owl", None, "owl"]),
    ],
)
def test_a_class_column_is_used_whatever_its_type(tmp_path, values, features, classes):
    found, notes = understood(write(tmp_path / "a.parquet", features, label=values))
    assert found == classes
    assert "pictures come from the column image, their classes from label" in notes
    assert re.search("[12] rows have a number that is no class's|[12] of 4 pictures have no class", notes)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [0.0, 0.5, 1.0, 1.0]}, r"label is not used for classes: its values are no whole numbers \(0\.5\)"),
        ({"label": [[1], [2], [1, 2], []]}, "label is not used for classes: its values are of type list<.*int64>"),
        ({"label": [b"a", b"b", b"a", b"b"], "image": [{"bytes": png(), "path": "x"}] * 4}, "label is not used .* type binary"),
        ({"breed": ["a", "b", "a", "b"], "n": [1, 2, 3, 4]}, "from the column image, which have no classes; not used: breed, n"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_used_is_said_not_to_be(tmp_path, columns, words):
    table = pa.table({"image": pa.array([png()] * 4, pa.binary()), **columns})
    pq.write_table(table, tmp_path / "a.parquet")
    found, notes = understood(f"parquet:{tmp_path}/a.parquet")
    assert found == [None] * 4
    assert any(re.search(words, note) for note in notes.split(" | ")), notes


def test_of_several_class_columns_the_others_are_named(tmp_path):
    found, notes = understood(write(tmp_path / "a.parquet", label=["x"] * 4, **{"class": ["y"] * 4}))
    assert found == ["x"] * 4 and "their classes from label; not used: class" in notes


@pytest.mark.parametrize(
    ("names", "classes", "words"),
    [
        (["cat", "", None], ["cat", "1", "2", None], "of label's classes 1, 2 have no name, and go by their number"),
        (["cat", "dog", "cat"], ["cat", "dog", "cat", None], "of label's classes 0, 2 are all called cat: they are one class"),
        (["-1", "dog", "owl"], ["-1", "dog", "owl", None], "from label"),
        ({"cat": 0}, ["0", "1", "2", "3"], "names of label's classes are not used: they are {'cat': 0}, and no list"),
        ("cats.txt", ["0", "1", "2", "3"], "names of label's classes are not used: they are 'cats.txt'"),
        (None, ["0", "1", "2", "3"], "names of label's classes are not used: there are none"),
        ([], ["0", "1", "2", "3"], "names of label's classes are not used: there are none"),
    ],
)  # fmt: skip
def test_odd_names_are_used_as_far_as_they_go_or_said_not_to_be(tmp_path, names, classes, words):
    found, notes = understood(write(tmp_path / "a.parquet", named_by_number(names), label=[0, 1, 2, 3]))
    assert found == classes and words in notes


def test_texts_that_the_names_do_not_list_are_named(tmp_path):
    found, notes = understood(write(tmp_path / "a.parquet", named("cat", "dog"), label=["cat", "fox", "dog", "1"]))
    assert found == ["cat", "fox", "dog", "1"]
    assert "classes that the names do not list, and that are taken all the same: 1, fox" in notes


def test_a_class_that_is_written_in_two_ways_is_one(tmp_path):
    write(tmp_path / "a.parquet", named("caf\u00e9", "dog"), label=[0, 1, 0, 1])
    write(tmp_path / "b.parquet", label=["cafe\u0301", "dog", "dog", "dog"])
    found, notes = understood(f"parquet:{tmp_path}/*.parquet")
    assert found == ["caf\u00e9", "dog", "caf\u00e9", "dog", "caf\u00e9", "dog", "dog", "dog"]
    assert "the class caf\u00e9 is written in 2 ways" in notes


def test_truth_without_names_beside_numbers_with_names_is_refused(tmp_path):
    write(tmp_path / "a.parquet", named("cat", "dog"), label=[0, 1, 0, 1])
    write(tmp_path / "b.parquet", label=[True, False, True, True])
    with pytest.raises(WrongInput, match=r"b\.parquet has numbers for classes and no names"):
        parse(f"parquet:{tmp_path}/*.parquet").open()


def test_a_column_that_says_no_class_at_all_is_named(tmp_path):
    for values in ([-1] * 4, [None] * 4, [""] * 4):
        found, notes = understood(write(tmp_path / "a.parquet", label=pa.array(values)))
        assert found == [None] * 4 and "no row of the class column says a class" in notes


def test_another_file_s_other_column_is_named(tmp_path):
    write(tmp_path / "a.parquet", label=["x"] * 4)
    write(tmp_path / "b.parquet", breed=[0, 1, 0, 1], features={"breed": {"_type": "ClassLabel", "names": ["x", "y"]}})
    found, notes = understood(f"parquet:{tmp_path}/*.parquet")
    assert found == ["x"] * 4 + ["x", "y"] * 2
    assert "the classes of b.parquet come from another column, breed" in notes


@pytest.mark.parametrize("name", ["image", "label"])
def test_two_columns_of_one_name_are_refused_where_it_is_theirs(tmp_path, name):
    columns = {"image": pa.array([png()]), "label": pa.array(["x"]), "other": pa.array([1])}
    table = pa.Table.from_arrays([*columns.values(), columns[name]], names=[*columns, name])
    pq.write_table(table, tmp_path / "a.parquet")
    for ask in (parse(f"parquet:{tmp_path}/a.parquet").check, parse(f"parquet:{tmp_path}/a.parquet").open):
        with pytest.raises(
            WrongInput, match=f"a.parquet has several columns (named {name}|that may hold pictures, {name})"
        ):
            ask()
    pq.write_table(
        pa.Table.from_arrays([*columns.values(), columns["other"]], names=[*columns, "other"]), tmp_path / "a.parquet"
    )
    assert understood(f"parquet:{tmp_path}/a.parquet")[0] == ["x"]


def test_two_parts_of_one_name_in_a_picture_are_refused(tmp_path):
    parts = pa.StructArray.from_arrays([pa.array([png()]), pa.array([b"x"])], names=["bytes", "bytes"])
    pq.write_table(pa.table({"image": parts}), tmp_path / "a.parquet")
    with pytest.raises(WrongInput, match="several"):
        parse(f"parquet:{tmp_path}/a.parquet").open()


def test_each_files_numbers_are_read_by_its_own_names(tmp_path):
    write(tmp_path / "a.parquet", named("cat", "dog"), label=[0, 1, 0, 1])
    write(tmp_path / "b.parquet", named("dog", "cat", "owl"), label=[0, 1, 2, 2])
    write(tmp_path / "c.parquet", label=["owl", "cat", "fox", "cat"])
    found, notes = understood(f"parquet:{tmp_path}/*.parquet")
    assert found == ["cat", "dog", "cat", "dog", "dog", "cat", "owl", "owl", "owl", "cat", "fox", "cat"]
    assert "differ from file to file: each file is read by its own" in notes
    assert parse(f"parquet:{tmp_path}/*.parquet").open().classes == ["cat", "dog", "owl", "fox"]


def test_numbers_without_names_beside_ones_with_names_are_refused_by_file(tmp_path):
    write(tmp_path / "a.parquet", named("cat", "dog"), label=[0, 1, 0, 1])
    write(tmp_path / "b.parquet", label=[1, 1, 0, 0])
    with pytest.raises(
        WrongInput, match=r"b\.parquet has numbers for classes and no names, and .*a\.parquet has names"
    ):
        parse(f"parquet:{tmp_path}/*.parquet").open()


def test_a_file_that_lacks_the_class_column_is_named(tmp_path):
    write(tmp_path / "a.parquet", named("cat", "dog"), label=[0, 1, 0, 1])
    write(tmp_path / "b.parquet")
    found, notes = understood(f"parquet:{tmp_path}/*.parquet")
    assert found == ["cat", "dog", "cat", "dog", None, None, None, None]
    assert "b.parquet have no class column, as others have" in notes


@pytest.mark.parametrize(
    "metadata",
    ["[]", "3", "null", '{"info": 1}', '{"info": {"features": []}}', '{"info": {"features": {"label": null}}}', "{" * 3,
     '{"info": {"features": {"x": [{"dtype": "string"}], "image": {"_type": "Image"}}}}', "[" * 100_000,
     '{"info": {"features": {"label": {"_type": "ClassLabel", "names": {"0": "cat"}}}}}'],
)  # fmt: skip
def test_metadata_of_another_shape_are_somebody_elses(tmp_path, metadata):
    table = pa.table({"image": [png()] * 2, "label": ["x", "y"]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    assert understood(f"parquet:{tmp_path}/a.parquet")[0] == ["x", "y"]


def test_files_without_rows_are_refused_before_and_after_they_are_opened(tmp_path):
    source = write(tmp_path / "a.parquet", rows=0)
    for ask in (parse(source).check, parse(source).open):
        with pytest.raises(WrongInput, match=r"a\.parquet is a parquet file without a row"):
            ask()
    write(tmp_path / "b.parquet", rows=1)
    parse(f"parquet:{tmp_path}/*.parquet").check()
    assert len(parse(f"parquet:{tmp_path}/*.parquet").open().pictures) == 1


def test_paths_without_pictures_are_called_that(tmp_path):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    path, picture = {"bytes": None, "path": "img/1.png"}, {"bytes": png(), "path": "img/2.png"}
    pq.write_table(pa.table({"image": pa.array([path, path], kind)}), tmp_path / "a.parquet")
    with pytest.raises(
        WrongInput, match="a.parquet is a parquet file of pictures' paths without their bytes; write the"
    ):
        parse(f"parquet:{tmp_path}/a.parquet").open()
    pq.write_table(pa.table({"image": pa.array([path, picture], kind)}), tmp_path / "a.parquet")
    first, second = parse(f"parquet:{tmp_path}/a.parquet").open().pictures
    assert second.content() == png()
    with pytest.raises(OSError, match=r"only its path is there \(img/1\.png\), not its bytes"):
        first.content()
    pq.write_table(pa.table({"image": [{"path": "img/1.png"}]}), tmp_path / "a.parquet")
    with pytest.raises(
        WrongInput, match=r"the column image holds paths and no bytes; .*image \(struct<path: string>\)"
    ):
        parse(f"parquet:{tmp_path}/a.parquet").check()


def test_a_pointer_and_an_empty_file_are_called_that(tmp_path):
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(WrongInput, match=r"a\.parquet is a Git LFS pointer .*`git lfs pull`"):
        parse(f"parquet:{tmp_path}/a.parquet").check()
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(WrongInput, match=r"a\.parquet is empty"):
        parse(f"parquet:{tmp_path}/a.parquet").check()


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_the_largest_page_is_known_from_the_headers(tmp_path, version, compression, dictionary):
    cells = pa.array([{"bytes": bytes([n]) * 3000, "path": "x" * n} for n in range(50)])
    pq.write_table(
        pa.table({"image": cells, "other": [b"y" * 90_000] * 50}), tmp_path / "a.parquet", data_page_version=version,
        compression=compression, use_dictionary=dictionary, data_page_size=10_000, write_batch_size=1, row_group_size=20,
    )  # fmt: skip
    found = largest_page(tmp_path / "a.parquet", pq.ParquetFile(tmp_path / "a.parquet").metadata, ["image"])
    assert (20 * 3000 if dictionary else 10_000) <= found < (20 * 3010 if dictionary else 15_000)


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    def refuse(*given, **more):
        raise AssertionError("it was unpacked")

    monkeypatch.setattr("ddpm.data.sources.parquet.LARGEST_PAGE", 10**6)
    large = pa.table({"image": pa.array([bytes(2 * 10**6)], pa.binary())})
    pq.write_table(large, tmp_path / "cell.parquet", compression="zstd", use_dictionary=False)
    write(tmp_path / "label.parquet", rows=1, label=["x" * 2 * 10**6])
    nothing = pa.table({"image": pa.nulls(10**6, pa.binary())})
    pq.write_table(nothing, tmp_path / "rows.parquet")
    monkeypatch.setattr("ddpm.data.sources.spool.ALWAYS_ALLOWED", 10**6)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", refuse)
    for name in ("cell", "label", "rows"):
        with pytest.raises(WrongInput, match=f"{name}.parquet is refused: .* taken for a bomb"):
            parse(f"parquet:{tmp_path}/{name}.parquet").open()
    monkeypatch.undo()
    monkeypatch.setattr("ddpm.data.sources.spool.ALWAYS_ALLOWED", 10**6)
    again = pa.table({"image": pa.array([bytes(10**5)] * 1000, pa.binary())})  # one cell, in any number of rows
    pq.write_table(again, tmp_path / "again.parquet", compression="zstd")
    with pytest.raises(WrongInput, match="unpack to more than .* taken for a bomb"):
        parse(f"parquet:{tmp_path}/again.parquet").open()


def test_any_damage_is_one_line(tmp_path):
    write(tmp_path / "whole.parquet", named("cat", "dog"), label=[0, 1, 0, 1])
    data = (tmp_path / "whole.parquet").read_bytes()
    refused = 0
    for place in range(4, len(data), 7):
        (tmp_path / "a.parquet").write_bytes(data[:place] + bytes([data[place] ^ 0x81]) + data[place + 1 :])
        try:
            parse(f"parquet:{tmp_path}/a.parquet").open()
        except WrongInput as problem:
            refused += "\n" not in str(problem)
    assert refused > 10
