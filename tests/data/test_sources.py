"""Pictures by name, from folders, archives, parquet files and buckets: all found, and what is hostile refused."""

import io
import re
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from ddpm.data.sources import NAMED, parse
from ddpm.data.sources.named import Named
from ddpm.errors import Outage, WrongInput


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("rainbow", "none named 'rainbow'.*digits"),
        ("zip:thing", "no kind 'zip'"),
        ("/no/such/folder", "no folder /no/such/folder"),
        ("flowers102:/no/such/folder", "no folder /no/such/folder"),
        ("folder:", "names no folder"),
        (__file__, "is a file"),
    ],
)
def test_wrong_sources(source, words):
    with pytest.raises(WrongInput, match=words):
        parse(source).check()


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(WrongInput, match="holds no pictures"):
        parse(str(tmp_path)).check()


def test_named_sources_from_disk(tmp_path):
    import pyarrow
    import pyarrow.parquet
    from scipy.io import savemat

    pictures = [Image.new("RGB", (16, 16), (10 * n, 0, 0)) for n in range(3)]
    flowers = tmp_path / "flowers"
    (flowers / "jpg").mkdir(parents=True)
    for number, picture in enumerate(pictures, 1):
        picture.save(flowers / "jpg" / f"image_{number:05d}.jpg")
    savemat(flowers / "imagelabels.mat", {"labels": np.array([[77, 1, 102]])})
    found = parse(f"flowers102:{flowers}").open()
    assert [picture.label for picture in found.pictures] == [76, 0, 101]
    assert len(found.classes) == 102

    celeba = tmp_path / "celeba" / "img_align_celeba"
    celeba.mkdir(parents=True)
    pictures[0].save(celeba / "000001.jpg")
    assert [picture.name for picture in parse(f"celeba:{tmp_path}/celeba").open().pictures] == ["000001.jpg"]

    dogs = tmp_path / "dogs"
    dogs.mkdir()
    cells = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    table = pyarrow.table({"text": ["x"] * 3, "image": cells})
    pyarrow.parquet.write_table(table, dogs / "train-00000.parquet")
    assert [picture.content() for picture in parse(f"dalle-dogs:{dogs}").open().pictures] == [
        cell["bytes"] for cell in cells
    ]

    for name in ("cat", "dog"):
        (tmp_path / "cifar" / name).mkdir(parents=True)
        pictures[0].save(tmp_path / "cifar" / name / "0.png")
    assert parse(f"cifar10:{tmp_path}/cifar").open().classes == ["cat", "dog"]
    assert set(NAMED) == {"digits", "flowers102", "dalle-dogs", "celeba", "cifar10"}


def png(colour=(9, 90, 200)):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {f"set/{name}/{number}.png": png((number, 0, 0)) for name in ("a", "b") for number in range(3)}


def bytes_of(content):
    if callable(content):
        return content()
    return content if isinstance(content, bytes) else open(content, "rb").read()


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "tar.xz"])
def test_archives(tmp_path, ending):
    files = {**FILES, "set/notes.txt": b"x", "__MACOSX/set/a/._0.png": b"x"}
    path = tmp_path / f"pictures.{ending}"
    if ending == "zip":
        zipped(path, files)
    else:
        tarred(path, files, {"tar": "w", "tar.xz": "w:xz"}.get(ending, "w:gz"))
    for source in (f"archive:{path}", str(path)):
        parse(source).check()
        found = parse(source).open()
        assert found.classes == ["a", "b"], "the folder that holds all is no class"
        assert {p.name: bytes_of(p.content) for p in found.pictures} == {
            n.removeprefix("set/"): d for n, d in FILES.items()
        }
        assert [p.label for p in found.pictures] == [0, 0, 0, 1, 1, 1]
        assert len(found.passed_over) == 1


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "a/../../b.png", "..\\a.png", "C:\\a.png"])
def test_archives_that_lead_out_are_refused(tmp_path, name):
    for path in (zipped(tmp_path / "x.zip", {name: png()}), tarred(tmp_path / "x.tar", {name: png()})):
        with pytest.raises(WrongInput, match="refused: .* (absolute path|leads out)"):
            parse(str(path)).open()


def test_archives_with_links_are_refused(tmp_path):
    entry = zipfile.ZipInfo("a.png")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(WrongInput, match="'a.png' is a link"):
        parse(f"{tmp_path}/x.zip").open()
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            entry = tarfile.TarInfo("a.png")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        with pytest.raises(WrongInput, match="'a.png' is (a link|no plain file)"):
            parse(f"{tmp_path}/x.tar").open()


def test_archives_that_explode_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm.data.sources.spool.ALWAYS_ALLOWED", 10**6)
    bomb = {"a.bmp": bytes(5 * 10**6)}
    for path in (zipped(tmp_path / "x.zip", bomb), tarred(tmp_path / "x.tar.gz", bomb, "w:gz")):
        with pytest.raises(WrongInput, match="taken for a bomb"):
            parse(str(path)).open()


def test_damaged_archives_are_said_to_be(tmp_path):
    noise = {f"{n}.png": np.random.default_rng(n).bytes(20_000) for n in range(4)}
    for path in (
        zipped(tmp_path / "x.zip", noise),
        tarred(tmp_path / "x.tar", noise),
        tarred(tmp_path / "x.tgz", noise, "w:gz"),
    ):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(WrongInput, match="is damaged|is no archive"):
            parse(str(path)).open()
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(WrongInput, match="no archive"):
        parse(f"{tmp_path}/text.zip").check()
    with pytest.raises(WrongInput, match="no file"):
        parse(f"archive:{tmp_path}/none.zip").check()
    with pytest.raises(WrongInput, match="holds no pictures"):
        parse(str(zipped(tmp_path / "none.zip", {"a.txt": b"x"}))).open()


def test_parquet_with_classes_of_its_own(tmp_path):
    import pyarrow
    import pyarrow.parquet

    cells = [png((n, 1, 1)) for n in range(5)]
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        table = pyarrow.table(
            {"n": range(5), "photo": pyarrow.array(cells, pyarrow.binary()), "label": [10, 2, 2, None, 10]}
        )
        pyarrow.parquet.write_table(table, tmp_path / folder / "0000.parquet")
    found = parse(f"parquet:{tmp_path}/*/*.parquet").open()
    assert found.classes == ["2", "10"]
    assert [p.label for p in found.pictures] == [1, 0, 0, -1, 1] * 2
    assert [bytes_of(p.content) for p in found.pictures] == cells * 2
    assert len({p.name for p in found.pictures}) == 10
    described = pyarrow.table({"image": [{"bytes": cell, "path": "x"} for cell in cells], "y": [1, 0, 1, 0, 1]})
    features = '{"info": {"features": {"y": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}'
    described = described.replace_schema_metadata({"huggingface": features})
    pyarrow.parquet.write_table(described, tmp_path / "hub.parquet")
    found = parse(f"parquet:{tmp_path}/hub.parquet").open()
    assert (found.classes, [p.label for p in found.pictures]) == (["cat", "dog"], [1, 0, 1, 0, 1])


def test_parquet_that_will_not_do(tmp_path):
    import pyarrow
    import pyarrow.parquet

    with pytest.raises(WrongInput, match="no file matches"):
        parse(f"parquet:{tmp_path}/*.parquet").check()
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(WrongInput, match="cannot be read as parquet"):
        parse(f"parquet:{tmp_path}/a.parquet").open()
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(WrongInput, match="no column of encoded pictures; its columns are x"):
        parse(f"parquet:{tmp_path}/a.parquet").open()


def test_cifar10_in_its_binary_edition(tmp_path):
    rng = np.random.default_rng(0)
    parts = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    data = {f"cifar-10-batches-bin/{name}": rng.integers(0, 10, 2 * 3073, dtype=np.uint8).tobytes() for name in parts}
    tarred(tmp_path / "cifar-10-binary.tar.gz", data, "w:gz")
    found = parse(f"cifar10:{tmp_path}").open()
    assert (len(found.pictures), found.classes[3]) == (12, "cat")
    first = np.frombuffer(data["cifar-10-batches-bin/data_batch_1.bin"], np.uint8)[:3073]
    assert found.pictures[0].label == first[0]
    pixels = np.asarray(Image.open(io.BytesIO(bytes_of(found.pictures[0].content))))
    assert (pixels == first[1:].reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_pinned_checksums_are_torchvisions():
    from torchvision.datasets import CelebA, Flowers102

    from ddpm.data.sources import named

    for part, remote in (("image", named.FLOWERS_PICTURES), ("label", named.FLOWERS_LABELS)):
        assert Flowers102._file_dict[part] == (remote.file, remote.digest)
        assert remote.url == Flowers102._download_url_prefix + remote.file
    assert (named.CELEBA_DRIVE, named.CELEBA_PICTURES.digest, named.CELEBA_PICTURES.file) == CelebA.file_list[0]


def test_a_download_with_another_checksum_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "torchvision.datasets.utils.download_url", lambda url, root, name: open(f"{root}/{name}", "wb").close()
    )
    with pytest.raises(
        WrongInput, match="not the pinned 52808999861908f626f3c1f4e79d11fa; fetch 102flowers.tgz from http"
    ):
        parse("flowers102").open()
    assert not list((tmp_path / "flowers102").iterdir()), "nothing half-fetched stays"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("flowers102", "102flowers.tgz from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz, md5 52808999861908f626f3c1f4e79d11fa and "
                       "imagelabels.mat from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/imagelabels.mat, md5 e0620be6f572b9609742df49c70aed4d"),
        ("cifar10", "cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz, md5 c32a1d4ab5d03f1284b67883e8d87530"),
        ("celeba", "img_align_celeba.zip from https://drive.google.com/file/d/0B7EVK8r0v71pZjFTYXZWM3FlRnM, md5 00d2c5bc6d35e252742224ab0c1e8fcb"),
        ("dalle-dogs", "data/train-00000-of-00001-e853d788cfc98f3d.parquet from https://huggingface.co/datasets/BirdL/DALL-E-Dogs/resolve/"
                       "8f5ae5d17b72256ac0ec36de8a703a5d21f87ed2/data/train-00000-of-00001-e853d788cfc98f3d.parquet, sha256 77f32e0995e895e4d6d20c526b51fef91c8f437b96fdda18c7a0e4f5b09dd394"),
        ("dalle-dogs@main", "all parquet files from https://huggingface.co/datasets/BirdL/DALL-E-Dogs/tree/main"),
    ],
)  # fmt: skip
def test_what_cannot_be_downloaded_says_what_to_fetch_and_how_to_go_on(tmp_path, monkeypatch, source, words):
    def unreachable(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setenv("DDPM_CACHE", str(tmp_path))
    for name in ("torchvision.datasets.utils.download_url", "torchvision.datasets.utils.download_file_from_google_drive",
                 "huggingface_hub.hf_hub_download", "huggingface_hub.snapshot_download"):  # fmt: skip
        monkeypatch.setattr(name, unreachable)
    with pytest.raises(Outage) as refused:  # the network's fault, not the input's
        parse(source).open()
    name = source.partition("@")[0]
    assert str(refused.value) == (
        f"source: {name} could not be downloaded (Name or service not known); fetch {words} into a folder by hand, "
        f"and go on with DATA={name}:/folder (ddpm ingest {name}:/folder)"
    )
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize("name", ["flowers102", "celeba", "cifar10", "dalle-dogs"])
def test_a_named_source_of_another_number_of_pictures_is_said_to_be(tmp_path, name):
    (tmp_path / "0.png").write_bytes(png())
    spec = parse(f"{name}:{tmp_path}")
    assert re.fullmatch(rf"warning: {name} has [0-9,]+ pictures .*, and 1 here: .*", spec.remark(spec.open()))
    digits = parse("digits")
    assert digits.remark(digits.open()) == ""
    assert parse(str(tmp_path)).remark(spec.open()) == ""


def test_revisions():
    assert parse("dalle-dogs@main") == Named("dalle-dogs", revision="main")
    with pytest.raises(WrongInput, match="none named 'digits@2'"):
        parse("digits@2")


def test_a_tar_that_is_cut_between_members_or_has_a_broken_header_is_refused(tmp_path):
    """Both look like the end of the list to a reader that goes by headers."""
    file = tmp_path / "whole.tar"
    tarred(file, {f"{number}.png": png((number, 0, 0)) for number in range(6)})
    assert len(parse(f"archive:{file}").open().pictures) == 6
    with tarfile.open(file) as archive:
        third = archive.getmembers()[3].offset
    data = file.read_bytes()
    broken = bytearray(data)
    broken[third + 150] ^= 1
    for hurt in (data[:third], bytes(broken)):
        file.write_bytes(hurt)
        with pytest.raises(WrongInput, match="damaged"):
            parse(f"archive:{file}").open()


def test_any_damage_to_a_zips_directory_is_one_line(tmp_path):
    file = tmp_path / "whole.zip"
    zipped(file, {f"{number}.png": png((number, 0, 0)) for number in range(3)})
    data = file.read_bytes()
    refused = 0
    for place in range(data.index(b"PK\x01\x02"), len(data), 3):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :])
        try:
            parse(f"archive:{file}").open()
        except WrongInput as problem:
            refused += "\n" not in str(problem)
    assert refused > 10


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_two_members_of_one_name_are_refused(tmp_path, ending):
    file = tmp_path / f"twice.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.png", png((1, 0, 0)))
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a.png", png((2, 0, 0)))
    else:
        with tarfile.open(file, "w") as archive:
            for red in (1, 2):
                entry = tarfile.TarInfo("a.png")
                entry.size = len(png((red, 0, 0)))
                archive.addfile(entry, io.BytesIO(png((red, 0, 0))))
    with pytest.raises(WrongInput, match=r"'a\.png' is there twice"):
        parse(f"archive:{file}").open()


def test_links_to_folders_are_refused_and_not_overlooked(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "0.png").write_bytes(png())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WrongInput, match="b is a link to a folder, which is not followed"):
        parse(str(tmp_path / "set")).open()


def test_celeba_names_that_are_not_its_own_stay_apart(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(png())
    assert sorted(picture.name for picture in parse(f"celeba:{tmp_path}").open().pictures) == ["a/1.png", "b/1.png"]


def test_parquet_labels_that_are_categories_count(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = pa.array(["cat", "dog", "cat"]).dictionary_encode()
    pq.write_table(pa.table({"image": [png((n, 0, 0)) for n in range(3)], "label": labels}), tmp_path / "a.parquet")
    source = parse(f"parquet:{tmp_path}/a.parquet").open()
    assert source.classes == ["cat", "dog"] and [picture.label for picture in source.pictures] == [0, 1, 0]
