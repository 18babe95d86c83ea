"""Where pictures come from: data sets by name, and folders.

    digits                          scikit-learn's handwritten digits; no download
    flowers102 · celeba · cifar10   downloaded by torchvision, once, into the cache
    dalle-dogs                      BirdL/DALL-E-Dogs on the Hugging Face hub
    NAME:/path                      the same from files already on disk: the distribution's own, or class folders
    folder:/path, or /path          any pictures: a folder a class, or all in one
    STORE/datasets/NAME/DIGEST.json a data set that is published already: used as it is

A new name is one function and one row of NAMED.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddpm.data.manifest import read_manifest
from ddpm.errors import WrongInput

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
NO_CLASS = -1


@dataclass(frozen=True)
class Picture:
    """A picture as its source has it: a name that is the same on every machine, its class, and its file or bytes."""

    name: str
    label: int
    content: Path | bytes

    def read(self) -> bytes:
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


@dataclass(frozen=True)
class Source:
    """Pictures with their classes. `kind` and `facts` go into the manifest, so they hold no path of this machine."""

    kind: str
    classes: list[str]
    pictures: list[Picture]
    facts: dict[str, Any]


def cache_folder() -> Path:
    """Where downloads are kept: $DDPM_CACHE, or ~/.cache/ddpm."""
    return Path(os.environ.get("DDPM_CACHE") or Path.home() / ".cache" / "ddpm")


# -- folders ---------------------------------------------------------------------------------------------------------


def _walk(folder: Path) -> Iterator[Path]:
    """Pictures by their endings, below the folder; hidden files and folders are passed over."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(PICTURE_ENDINGS) and not name.startswith("."):
                yield Path(parent, name)


def _require_pictures(folder: Path) -> None:
    if not folder.exists():
        raise WrongInput(f"source: there is no folder {folder}; name one that holds pictures, or class folders of them")
    if not folder.is_dir():
        raise WrongInput(f"source: {folder} is a file; name the folder that holds the pictures")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise WrongInput(f"source: {folder} cannot be read; ask for permission, or name another folder")
    if next(_walk(folder), None) is None:
        raise WrongInput(f"source: {folder} holds no pictures ({' '.join(PICTURE_ENDINGS)}); name a folder that does")


def from_folder(folder: Path, kind: str = "folder") -> Source:
    """Pictures below a folder. Its own folders are the classes; pictures beside them have none."""
    _require_pictures(folder)
    paths = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    classes = sorted({name.split("/")[0] for name in paths if "/" in name})
    number = {name: index for index, name in enumerate(classes)}
    pictures = [
        Picture(name, number[name.split("/")[0]] if "/" in name else NO_CLASS, path)
        for name, path in sorted(paths.items())
    ]
    return Source(kind, classes, pictures, {})


# -- named sources: path is a folder on disk, or None to take (and if need be download) the usual one -----------------


def _digits(path: Path | None) -> Source:
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


def _flowers102(path: Path | None) -> Source:
    """Oxford Flowers-102 (Nilsback & Zisserman 2008), all three of its splits together."""
    root = path or cache_folder() / "flowers102"
    if path is None:
        from torchvision.datasets import Flowers102

        _download("flowers102", lambda: Flowers102(str(root), split="train", download=True))
    for base in (root, root / "flowers-102"):
        if (base / "jpg").is_dir() and (base / "imagelabels.mat").is_file():
            from scipy.io import loadmat

            labels = loadmat(str(base / "imagelabels.mat"))["labels"].ravel()
            files = sorted(_walk(base / "jpg"))
            if len(files) != len(labels):
                raise WrongInput(
                    f"source: {base / 'jpg'} holds {len(files)} pictures and imagelabels.mat {len(labels)} labels; unpack the distribution again"
                )
            pictures = [Picture(file.name, int(label) - 1, file) for file, label in zip(files, labels, strict=True)]
            return Source("flowers102", [f"{n:03d}" for n in range(1, 103)], pictures, FLOWERS_FACTS)
    found = from_folder(root, "flowers102")
    return Source("flowers102", found.classes, found.pictures, FLOWERS_FACTS)


def _celeba(path: Path | None) -> Source:
    """CelebA's aligned faces (Liu et al. 2015), without classes."""
    root = path or cache_folder() / "celeba"
    if path is None:
        from torchvision.datasets import CelebA

        _download("celeba", lambda: CelebA(str(root), split="all", download=True))
    base = next((b for b in (root / "img_align_celeba", root / "celeba" / "img_align_celeba") if b.is_dir()), root)
    _require_pictures(base)
    facts = {"origin": "CelebA, aligned and cropped", "licence": "non-commercial research"}
    return Source("celeba", [], [Picture(file.name, NO_CLASS, file) for file in _walk(base)], facts)


def _cifar10(path: Path | None) -> Source:
    """CIFAR-10 (Krizhevsky 2009), its training and test pictures together."""
    from torchvision.datasets import CIFAR10

    root = path or cache_folder() / "cifar10"
    if path is not None and not (root / "cifar-10-batches-py").is_dir():
        found = from_folder(root, "cifar10")
        return Source("cifar10", found.classes, found.pictures, CIFAR_FACTS)
    pictures, classes = [], []
    for part in (True, False):
        data = _download("cifar10", lambda part=part: CIFAR10(str(root), train=part, download=path is None))  # type: ignore[misc]
        classes = list(data.classes)
        side = "train" if part else "test"
        for index, (picture, label) in enumerate(zip(data.data, data.targets, strict=True)):
            pictures.append(Picture(f"{side}/{index:05d}.png", int(label), _as_png(picture)))
    return Source("cifar10", classes, pictures, CIFAR_FACTS)


def _dalle_dogs(path: Path | None) -> Source:
    """DALL-E-Dogs: parquet files with a column of encoded pictures; or, from disk, those files, or plain pictures."""
    import pyarrow.parquet

    facts = {"origin": "BirdL/DALL-E-Dogs"}
    root = path
    if root is None:
        from huggingface_hub import snapshot_download

        root = Path(
            _download(
                "dalle-dogs",
                lambda: snapshot_download(
                    "BirdL/DALL-E-Dogs",
                    repo_type="dataset",
                    allow_patterns="*.parquet",
                    cache_dir=cache_folder() / "hub",
                ),
            )
        )
        facts["revision"] = root.name  # the hub's cache names a snapshot by its commit
    files = sorted(root.rglob("*.parquet")) if root.is_dir() else []
    if not files:
        found = from_folder(root, "dalle-dogs")
        return Source("dalle-dogs", found.classes, found.pictures, facts)
    pictures = []
    for file in files:
        table = pyarrow.parquet.read_table(file)
        column = next((name for name in table.column_names if _holds_pictures(table.schema.field(name).type)), None)
        if column is None:
            raise WrongInput(
                f"source: {file} has no column of encoded pictures; its columns are {', '.join(table.column_names)}"
            )
        for row, cell in enumerate(table.column(column).to_pylist()):
            data = cell["bytes"] if isinstance(cell, dict) else cell
            pictures.append(Picture(f"{file.stem}/{row:06d}", NO_CLASS, data or b""))
    return Source("dalle-dogs", [], pictures, facts)


def _holds_pictures(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and types.is_binary(field.type) for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _as_png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _download(name: str, fetch: Callable[[], Any]) -> Any:
    """What `fetch` gives; its failures are the network's or the server's, said in one line."""
    try:
        return fetch()
    except (OSError, RuntimeError) as problem:
        words = " ".join(str(problem).split())[:200]
        raise WrongInput(
            f"source: {name} could not be downloaded ({words}); fetch it by hand and give {name}:/folder"
        ) from None


FLOWERS_FACTS = {"origin": "Oxford Flowers-102", "licence": "research use"}
CIFAR_FACTS = {"origin": "CIFAR-10", "licence": "MIT, as its page says"}
NAMED: dict[str, Callable[[Path | None], Source]] = {
    "digits": _digits,
    "flowers102": _flowers102,
    "dalle-dogs": _dalle_dogs,
    "celeba": _celeba,
    "cifar10": _cifar10,
}


def is_published(source: str) -> bool:
    """Whether a source is written as a data set's URI."""
    return re.search(r"/datasets/[^/]+/[0-9a-f]{64}\.json$", source) is not None


def parse_source(source: str) -> tuple[str, Path | None]:
    """A source as written: its kind ("folder" or a name), and its path where it has one."""
    kind, colon, path = source.partition(":")
    if colon and (kind == "folder" or kind in NAMED):
        if not path:
            raise WrongInput(f"source: '{source}' names no folder; write {kind}:/path")
        return kind, Path(path).expanduser()
    if source in NAMED:
        return source, None
    if colon and "/" not in kind:
        raise WrongInput(
            f"source: there is no kind '{kind}'; there are folder:DIR and {', '.join(f'{name}[:DIR]' for name in NAMED)}"
        )
    if "/" in source or source.startswith((".", "~")) or Path(source).exists():
        return "folder", Path(source).expanduser()
    raise WrongInput(
        f"source: there is none named '{source}'; there are {', '.join(NAMED)}, or give a folder: folder:DIR"
    )


def check_source(source: str) -> None:
    """Raise WrongInput for a source that is unknown, or a folder that is missing or holds no pictures. Cheap, offline."""
    if is_published(source):
        read_manifest(source)
        return
    kind, path = parse_source(source)
    if kind == "folder":
        assert path is not None
        _require_pictures(path)
    elif path is not None and not path.exists():
        raise WrongInput(
            f"source: there is no folder {path}; give one that holds {kind}, or write {kind} alone to have it downloaded"
        )


def open_source(source: str) -> Source:
    """All pictures of a source, by name; their bytes are read later, one by one."""
    kind, path = parse_source(source)
    if kind == "folder":
        assert path is not None
        return from_folder(path)
    return NAMED[kind](path)
