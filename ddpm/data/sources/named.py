"""Data sets by name, each from where it is published, checked against a pinned checksum, or from files already on disk.

A new name is one function and one row of NAMED. A function takes a path (or None: download what is not in the cache)
and a revision ("": the pinned one).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddpm.data.sources.archives import from_archive, is_archive, members
from ddpm.data.sources.downloads import Remote, download, require_digest, said
from ddpm.data.sources.folders import from_folder, walk
from ddpm.data.sources.parquet import from_parquet
from ddpm.data.sources.source import NO_CLASS, Content, Picture, Source, is_picture
from ddpm.data.sources.spec import Spec, path_after
from ddpm.errors import WrongInput
from ddpm.places import cache_folder
from ddpm.plain_files import read_plain, why

# The md5s are those that torchvision checks; CIFAR-10's is its page's, for the edition without pickles.
FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
FLOWERS_PICTURES = Remote(FLOWERS + "102flowers.tgz", "102flowers.tgz", "md5", "52808999861908f626f3c1f4e79d11fa")
FLOWERS_LABELS = Remote(FLOWERS + "imagelabels.mat", "imagelabels.mat", "md5", "e0620be6f572b9609742df49c70aed4d")
CELEBA_DRIVE = "0B7EVK8r0v71pZjFTYXZWM3FlRnM"  # a file of Google Drive
CELEBA_PICTURES = Remote(
    f"https://drive.google.com/file/d/{CELEBA_DRIVE}", "img_align_celeba.zip", "md5", "00d2c5bc6d35e252742224ab0c1e8fcb"
)
CIFAR = "https://www.cs.toronto.edu/~kriz/"
CIFAR_PICTURES = Remote(
    CIFAR + "cifar-10-binary.tar.gz", "cifar-10-binary.tar.gz", "md5", "c32a1d4ab5d03f1284b67883e8d87530"
)
CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
CIFAR_FILES = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
DOGS = "BirdL/DALL-E-Dogs"
DOGS_REVISION = "8f5ae5d17b72256ac0ec36de8a703a5d21f87ed2"
DOGS_FILE = "data/train-00000-of-00001-e853d788cfc98f3d.parquet"
DOGS_SHA256 = "77f32e0995e895e4d6d20c526b51fef91c8f437b96fdda18c7a0e4f5b09dd394"
DOGS_PINNED = Remote(
    f"https://huggingface.co/datasets/{DOGS}/resolve/{DOGS_REVISION}/{DOGS_FILE}", DOGS_FILE, "sha256", DOGS_SHA256
)
# How many pictures each holds where it is published: another number is another set, and is said to be.
PUBLISHED_PICTURES = {"digits": 1_797, "flowers102": 8_189, "dalle-dogs": 1_104, "celeba": 202_599, "cifar10": 60_000}


def _digits(path: Path | None, revision: str) -> Source:
    """Alpaydin & Kaynak's optical digits as scikit-learn ships them: 1,797 pictures of 8x8 in 17 greys."""
    from sklearn.datasets import load_digits

    if path is not None:
        raise WrongInput(f"source: digits come with scikit-learn, not from {path}; write digits alone")
    found = load_digits()
    pictures = []
    for index, (picture, label) in enumerate(zip(found.images, found.target, strict=True)):
        grey = np.rint(picture * (255 / 16)).astype(np.uint8)
        pictures.append(Picture(f"{index:04d}.png", int(label), _as_png(grey)))
    facts = {
        "origin": "scikit-learn load_digits (UCI optical recognition of handwritten digits)",
        "licence": "CC BY 4.0",
    }
    return Source("digits", [str(name) for name in found.target_names], pictures, facts)


def _flowers102(path: Path | None, revision: str) -> Source:
    """Oxford Flowers-102 (Nilsback & Zisserman 2008), all three of its splits together."""
    facts: dict[str, Any] = {"origin": f"Oxford Flowers-102, {FLOWERS}", "licence": "research use"}
    classes = [f"{n:03d}" for n in range(1, 103)]
    if path is None:
        remotes = (FLOWERS_PICTURES, FLOWERS_LABELS)
        pictures, labels = download("flowers102", remotes)
        facts["md5"] = {remote.file: remote.digest for remote in remotes}
        return Source("flowers102", classes, _flowers(pictures, labels), facts)
    for base in (path, path / "flowers-102"):
        labels = base / FLOWERS_LABELS.file
        for pictures in (base / "jpg", base / FLOWERS_PICTURES.file):
            if pictures.exists() and labels.exists():
                return Source("flowers102", classes, _flowers(pictures, labels), facts)
    return _from_disk(path, "flowers102", facts)


def _flowers(pictures: Path, labels: Path) -> list[Picture]:
    from scipy.io import loadmat

    found: dict[str, Content]
    if pictures.is_dir():
        found = {name: f"{pictures}/{name}" for name in walk(pictures) if is_picture(name)}
    else:
        inside = members(pictures)[0]
        found = {name.rsplit("/", 1)[-1]: content for name, content in inside.items()}
        if len(found) < len(inside):
            raise WrongInput(f"source: {pictures} holds several pictures of one name; fetch the distribution again")
    try:
        numbers = [int(number) for number in loadmat(io.BytesIO(_read(labels)))["labels"].ravel()]
    except WrongInput:
        raise
    except Exception as problem:  # whatever a file of anything may make the loader raise
        words = " ".join(str(problem).split())[:120]
        raise WrongInput(f"source: {labels} is damaged: {words}; fetch it again") from None
    if len(found) != len(numbers):
        raise WrongInput(
            f"source: {pictures} holds {len(found)} pictures and {labels.name} {len(numbers)} labels; fetch the distribution again"
        )
    return [Picture(name, label - 1, found[name]) for name, label in zip(sorted(found), numbers, strict=True)]


def _celeba(path: Path | None, revision: str) -> Source:
    """CelebA's aligned faces (Liu et al. 2015), without classes."""
    facts: dict[str, Any] = {"origin": "CelebA, aligned and cropped", "licence": "non-commercial research"}
    if path is None:
        (path,) = download("celeba", [CELEBA_PICTURES], _from_drive)
        facts["md5"] = {CELEBA_PICTURES.file: CELEBA_PICTURES.digest}
    places = [part / name for part in (path, path / "celeba") for name in ("img_align_celeba", CELEBA_PICTURES.file)]
    found = _from_disk(next((place for place in places if place.exists()), path), "celeba", facts)
    names = [picture.name.rsplit("/", 1)[-1] for picture in found.pictures]
    if len(set(names)) < len(names):  # not CelebA's own files: by their paths, then
        names = [picture.name for picture in found.pictures]
    faces = [Picture(name, NO_CLASS, picture.content) for name, picture in zip(names, found.pictures, strict=True)]
    return Source("celeba", [], faces, facts, found.passed_over)


def _cifar10(path: Path | None, revision: str) -> Source:
    """CIFAR-10 (Krizhevsky 2009), its training and test pictures together, from the edition without pickles."""
    facts: dict[str, Any] = {"origin": f"CIFAR-10, {CIFAR}cifar.html", "licence": "MIT, as its page says"}
    if path is None:
        (path,) = download("cifar10", [CIFAR_PICTURES])
        facts["md5"] = {CIFAR_PICTURES.file: CIFAR_PICTURES.digest}
    base = next((b for b in (path, path / "cifar-10-batches-bin", path / CIFAR_PICTURES.file) if _holds_cifar(b)), None)
    if base is None:
        return _from_disk(path, "cifar10", facts)
    pictures = []
    for name in CIFAR_FILES:
        data = _cifar_file(base, name)
        if not data or len(data) % 3073:
            raise WrongInput(f"source: {base}: {name} is no part of CIFAR-10's binary edition; fetch it again")
        records = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3073)  # a label, then 3x32x32 values
        for index, record in enumerate(records):
            picture = np.ascontiguousarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0))
            pictures.append(Picture(f"{name.removesuffix('.bin')}/{index:05d}.png", int(record[0]), _as_png(picture)))
    return Source("cifar10", CIFAR_CLASSES, pictures, facts)


def _holds_cifar(base: Path) -> bool:
    return (base / CIFAR_FILES[0]).exists() or (base.is_file() and base.name == CIFAR_PICTURES.file)


def _cifar_file(base: Path, name: str) -> bytes:
    if base.is_dir():
        return _read(base / name) if (base / name).exists() else b""
    found, _ = members(base, wanted=lambda member: member.endswith(".bin"))
    read = next((content for member, content in found.items() if member.endswith(f"/{name}")), None)
    try:
        return read() if callable(read) else b""
    except OSError:  # damaged, or too large for what it is said to be
        return b""


def _dalle_dogs(path: Path | None, revision: str) -> Source:
    """DALL-E-Dogs: 1,104 generated pictures in a parquet file; from disk, such files, or plain pictures."""
    facts: dict[str, Any] = {"origin": f"huggingface.co/datasets/{DOGS}", "licence": "other, as its page says"}
    if path is not None:
        files = _parquet_in(path) if path.is_dir() else [path] if path.suffix == ".parquet" else []
        return from_parquet(files, "dalle-dogs", facts) if files else _from_disk(path, "dalle-dogs", facts)
    from huggingface_hub import hf_hub_download, snapshot_download

    place: dict[str, Any] = {"repo_type": "dataset", "cache_dir": cache_folder() / "hub"}
    if revision:
        asked = Remote(f"https://huggingface.co/datasets/{DOGS}/tree/{revision}", "all parquet files")
        folder = Path(
            said("dalle-dogs", [asked], lambda: snapshot_download(DOGS, revision=revision, allow_patterns="*.parquet", **place))
        )  # fmt: skip
        files, facts["revision"] = _parquet_in(folder), folder.name  # the hub's cache names it by its commit
        if not files:
            raise WrongInput(f"source: revision {revision} of {DOGS} holds no parquet file; name another, or none")
    else:
        fetched = said(
            "dalle-dogs", [DOGS_PINNED], lambda: hf_hub_download(DOGS, DOGS_FILE, revision=DOGS_REVISION, **place)
        )
        files = [Path(fetched)]
        facts |= {"revision": DOGS_REVISION, "sha256": {DOGS_FILE: DOGS_SHA256}}
        require_digest(files[0], DOGS_PINNED)
    return from_parquet(files, "dalle-dogs", facts)


def _parquet_in(folder: Path) -> list[Path]:
    return sorted(folder / name for name in walk(folder) if name.endswith(".parquet"))


NAMED: dict[str, Callable[[Path | None, str], Source]] = {
    "digits": _digits,
    "flowers102": _flowers102,
    "dalle-dogs": _dalle_dogs,
    "celeba": _celeba,
    "cifar10": _cifar10,
}
WITH_REVISIONS = ("dalle-dogs",)  # of which another than the pinned one can be asked for: NAME@REVISION


@dataclass(frozen=True)
class Named(Spec):
    """`NAME`, `NAME:/path` or `NAME@REVISION`"""

    known_as: str
    path: Path | None = None
    revision: str = ""
    has_name = True

    @classmethod
    def recognise(cls, source: str) -> Named | None:
        for known_as in NAMED:
            if (path := path_after(known_as, source, "folder")) is not None:
                return cls(known_as, path)
        known_as, at, revision = source.partition("@")
        if known_as in NAMED and (not at or (known_as in WITH_REVISIONS and revision)):
            return cls(known_as, revision=revision)
        return None

    @classmethod
    def form(cls) -> str:
        return ", ".join(f"{known_as}[:DIR]" for known_as in NAMED)

    def check(self) -> None:
        if self.path is not None and not self.path.exists():
            raise WrongInput(
                f"source: there is no folder {self.path}; give one that holds {self.known_as}, or write {self.known_as} alone to have it downloaded"
            )

    def open(self) -> Source:
        return NAMED[self.known_as](self.path, self.revision)

    def remark(self, source: Source) -> str:
        """What is said where it is not as it is published."""
        expected, found = PUBLISHED_PICTURES.get(self.known_as), len(source.pictures)
        if self.revision or expected in (None, found):
            return ""
        return f"warning: {self.known_as} has {expected:,} pictures where it is published, and {found:,} here: figures do not compare with others'"

    def title(self) -> str:
        return f"{self.known_as}-{self.revision}" if self.revision else self.known_as

    def absolute(self) -> str:
        if self.path is not None:
            return f"{self.known_as}:{self.path.absolute()}"
        return f"{self.known_as}@{self.revision}" if self.revision else self.known_as

    def local_paths(self) -> tuple[Path, ...]:
        return () if self.path is None else (self.path.absolute(),)


# -- what they share --------------------------------------------------------------------------------------------------


def _from_disk(path: Path, kind: str, facts: dict[str, Any]) -> Source:
    """Plain pictures: an archive of them, or a folder."""
    return (
        from_archive(path, kind, facts) if is_archive(path.name) and path.is_file() else from_folder(path, kind, facts)
    )


def _from_drive(remote: Remote, folder: Path) -> None:
    from torchvision.datasets.utils import download_file_from_google_drive

    download_file_from_google_drive(CELEBA_DRIVE, str(folder), remote.file)


def _read(file: Path) -> bytes:
    """A file of a distribution. Raises WrongInput where it cannot be read, or is none."""
    try:
        return read_plain(file)
    except OSError as problem:
        raise WrongInput(f"source: {file} cannot be read: {why(problem)}; fetch it again") from None


def _as_png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
