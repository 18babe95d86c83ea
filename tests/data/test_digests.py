"""A data set that was ingested properly keeps its digest: whoever reads sources or pictures otherwise, keeps to these.

The pictures have the size that is asked for, and are kept without loss: no decoder's rounding is in the digests.
"""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from ddpm.data.ingest import ingest
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import open_store

NAMES = [*(f"{of}/{n}.png" for of in ("cat", "dog") for n in range(6)), "dog/more/7.tif", "dog/é.png", "beside.png"]


def files():
    """Colour, grey, a palette, transparency, 16 bits, one that is turned, one that cannot be used, and a text."""
    rng = np.random.default_rng(0)
    found = {}
    for name in NAMES:
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        more = {}
        if name == "cat/1.png":
            picture = picture.convert("L")
        elif name == "cat/2.png":
            picture = picture.quantize(16)
        elif name == "cat/3.png":
            picture.putalpha(Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)))
        elif name == "cat/4.png":
            picture = Image.fromarray(rng.integers(0, 65536, (8, 8), dtype=np.uint16))
        elif name == "cat/5.png":
            more["exif"] = Image.Exif()
            more["exif"][0x0112] = 6
        buffer = io.BytesIO()
        picture.save(buffer, "TIFF" if name.endswith("tif") else "PNG", **more)
        found[name] = buffer.getvalue()
    return {**found, "dog/damaged.png": b"no picture", "notes.txt": b"no picture either"}


def folder(path):
    for name, data in files().items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def zipped(path):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files().items():
            archive.writestr(name, data)
    return path.with_suffix(".zip")


def tarred(path):
    with tarfile.open(path.with_suffix(".tgz"), "w:gz") as archive:
        for name, data in files().items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path.with_suffix(".tgz")


def parquet(path, labels, features="{}"):
    import pyarrow
    import pyarrow.parquet

    pictures = {name: data for name, data in files().items() if name != "notes.txt"}
    cells = [{"bytes": data, "path": name} for name, data in pictures.items()]
    table = pyarrow.table({"image": cells, "label": labels})
    table = table.replace_schema_metadata({"huggingface": f'{{"info": {{"features": {features}}}}}'})
    pyarrow.parquet.write_table(table, path.with_suffix(".parquet"))
    return f"parquet:{path.with_suffix('.parquet')}"


def described(path):
    return parquet(path, [0, 1] * 8, '{"label": {"_type": "ClassLabel", "names": ["dog", "cat"]}}')


def numbers(path):
    return parquet(path, [10, 2, None, 2] * 4)


@pytest.mark.parametrize(
    ("source_of", "digest"),
    [
        (folder, "ba1c059ff18380fffb5d7855ed97cc08be862769d88075aeaa9b9493e3a4d830"),
        (zipped, "eb2008a758f784528ed6f9d38c27bb36e226e2fba8eb028804a6b72d852f91bc"),
        (tarred, "eb2008a758f784528ed6f9d38c27bb36e226e2fba8eb028804a6b72d852f91bc"),
        (described, "e1f4cba596c00d5e67f3a1e59557c30ea0828614bfba77c5e90d7eba4aefe07c"),
        (numbers, "662ccea6c5d4550de23263711f31f4177ce07b4ae3f92b6b5d1e45599cd207c1"),
    ],
)
def test_a_data_set_keeps_its_digest(tmp_path, source_of, digest):
    settings = IngestSettings(
        source=str(source_of(tmp_path / "in")), dataset_name="set", image_size=8, held_out=0.3, quarantine_limit=0.1
    )
    facts = ingest(settings, open_store(str(tmp_path / "store")), Quiet(), workers=1)
    assert facts["n"] + facts["held_out"] == 15 and len(facts["quarantined"]) == 1
    assert facts["digest"] == digest
