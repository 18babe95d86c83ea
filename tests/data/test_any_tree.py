"""Whatever pictures a folder holds: each is in the set or set aside, once, and always in the same way."""

import hashlib
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import ingest
from ddpm.data.packing import Unusable, decode, fit
from ddpm.data.verify import verify
from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import open_store

MODES = {"PNG": "L P RGB RGBA 1 I;16 LA".split(), "JPEG": "L RGB CMYK".split(), "GIF": ["P"], "BMP": ["RGB", "L"],
         "WEBP": ["RGB", "RGBA"], "TIFF": "L RGB RGBA CMYK I;16 F".split()}  # fmt: skip
KINDS = [(kind, mode) for kind, modes in MODES.items() for mode in modes]
NAMES = st.text("abcé 日.", min_size=1, max_size=4).filter(lambda name: name[0] != "." and name.strip() == name)
PLACES = st.one_of(NAMES, st.tuples(NAMES, NAMES).map("/".join))


@st.composite
def files(draw):
    """A picture in some format and mode, whole, cut off, or with a byte changed; or no picture at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=50))
    kind, mode = draw(st.sampled_from(KINDS))
    width, height, seed = draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(0, 3))
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(values).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(1, 8))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    data = bytearray(buffer.getvalue())
    damage = draw(st.integers(0, 9))
    if damage == 0:
        return bytes(data[: draw(st.integers(0, len(data)))])
    if damage == 1:
        data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(1, 255))
    return bytes(data)


def expected(data, settings):
    try:
        return fit(decode(data), settings.image_size, settings.smallest_side)
    except Unusable:
        return None


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(PLACES, files(), min_size=1, max_size=12), st.booleans())
def test_each_picture_is_in_the_set_or_set_aside(tree, drop):
    with tempfile.TemporaryDirectory() as folder:
        pictures = {}
        for place, data in tree.items():
            path = Path(folder, "in", f"{place}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            pictures[f"{place}.png"] = data
        chosen = IngestSettings(
            source=f"{folder}/in",
            dataset_name="x",
            image_size=8,
            held_out=0.3,
            quarantine_limit=1,
            drop_duplicates=drop,
        )
        wanted = {name: expected(data, chosen) for name, data in pictures.items()}
        good = {name: pixels for name, pixels in wanted.items() if pixels is not None}
        store = open_store(f"{folder}/store")
        if not good:
            with pytest.raises(WrongInput, match="cannot be used"):
                ingest(chosen, store, Quiet(), workers=1)
            return
        facts = ingest(chosen, store, Quiet(), workers=1)
        assert {entry["name"] for entry in facts["quarantined"]} == set(wanted) - set(good)
        data = open_dataset(facts["uri"])
        found = [pixels.tobytes() for side in (data.train, data.held_out) for pixels in side.images.numpy()]
        all_of_them = [pixels.tobytes() for pixels in good.values()]
        assert sorted(found) == sorted(set(all_of_them) if drop else all_of_them)
        of_class = {name: name.split("/")[0] if "/" in name else None for name in good}
        labels = [int(label) for side in (data.train, data.held_out) for label in side.labels]
        if not drop:
            named = sorted((data.classes[label] if label >= 0 else "") for label in labels)
            assert named == sorted(name or "" for name in of_class.values())
        held = {pixels.tobytes() for pixels in data.held_out.images.numpy()}
        for pixels in found:
            share = int.from_bytes(hashlib.sha256(pixels).digest()[:8], "big") / 2**64
            assert (pixels in held) == (share < 0.3)
        assert verify(facts["uri"])["ok"]
        os.rename(f"{folder}/in", f"{folder}/moved")
        moved = IngestSettings(**{**vars(chosen), "source": f"{folder}/moved"})
        elsewhere = ingest(moved, open_store(f"{folder}/other"), Quiet(), workers=3)
        assert elsewhere["digest"] == facts["digest"]
        assert ingest(moved, store, Quiet())["reused"]
        assert json.loads(json.dumps(facts)) == facts
