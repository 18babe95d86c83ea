"""Whether a model draws its own pictures, or those it was trained on.

A picture counts as a copy where its nearest training picture is less than a third as far away as the second nearest
(Yoon et al. 2023, https://openreview.net/forum?id=shciCbSk9h), in pixels or in features, mirrored or not; the third is
lowered until at most a hundredth of the held-out pictures falls below it. Beside it stand two comparisons with pictures
that the model cannot have copied: with an equally large set of held-out ones, and of the distances themselves (Meehan
et al. 2020, https://arxiv.org/abs/2004.05675).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddpm.evaluation.figures.intervals import share_excess, students_t
from ddpm.evaluation.figures.numbers import Z
from ddpm.evaluation.reference import Reference
from ddpm.evaluation.report import THIRD, Closer, Copying, CopyingIn, Levels, Nearness, Pair, Spread
from ddpm.model.levels import LEVELS, loss_by_level
from ddpm.model.sampling import Denoise
from ddpm.randomness import generator

CALIBRATION = 0.01  # of the held-out pictures may look like copies
BLOCK = 4096  # real pictures that are compared at once
PAIRS = 8  # of each space, that are shown
LEVEL_PICTURES = 256
LEVEL_CHUNKS = 3


@dataclass
class Neighbours:
    """What was found of some pictures, one row each: row of the nearest training picture, whether mirrored, its distance,
    that distance over the second's, and how often it was nearer than the nearest of as many held-out ones."""

    row: Tensor
    flipped: Tensor
    distance: Tensor
    ratio: Tensor
    nearer: Tensor | None

    def below(self, threshold: float) -> Tensor:
        return self.ratio < threshold

    def figures(self, threshold: float) -> Nearness:
        def of(values: Tensor) -> Spread:
            return {"min": float(values.min()), "median": float(values.median())}

        return {
            "n": len(self.row),
            "nearer_to_train": None if self.nearer is None else float(self.nearer.mean()),
            "below_third": float(self.below(THIRD).double().mean()),
            "below_threshold": float(self.below(threshold).double().mean()),
            "distance": of(self.distance),
            "ratio": of(self.ratio),
        }


class Space:
    """Real pictures as vectors [n,d], and mirrored. `unit` turns a Euclidean distance into what is reported."""

    def __init__(
        self, train: Tensor, train_flipped: Tensor, held_out: Tensor, held_out_flipped: Tensor, unit: float, device: str
    ) -> None:
        self.train, self.train_flipped = train, train_flipped
        self.held_out, self.held_out_flipped = held_out, held_out_flipped
        self.unit, self.device = unit, device
        # The sets that a held-out one is compared with are drawn by lot: the rows may be in any order.
        self.order = torch.randperm(len(train), generator=generator("cpu", "copying"))

    @torch.inference_mode()
    def look(self, pictures: Tensor, own_row: int | None = None) -> Neighbours:
        """The neighbours of pictures [b,d]. `own_row`: they are held-out ones, from that row on, and not their own."""
        pictures = pictures.float()
        squares, flipped = self._squares(pictures, self.train, self.train_flipped)
        rows = squares.topk(2, largest=False).indices  # [b,2]; differences of large numbers, so taken again exactly
        mirrored = flipped.gather(1, rows)
        exact = torch.stack([
            (pictures - torch.where(mirrored[:, i, None], self.train_flipped[rows[:, i]], self.train[rows[:, i]]).float())
            .square().sum(1).sqrt()
            for i in range(2)
        ], dim=1).double()  # fmt: skip
        exact, by = exact.sort(dim=1)
        nearest = by[:, :1]
        ratio = torch.where(exact[:, 1] > 0, exact[:, 0] / exact[:, 1].clamp(min=1e-30), 0.0)
        return Neighbours(
            rows.gather(1, nearest)[:, 0], mirrored.gather(1, nearest)[:, 0], exact[:, 0] * self.unit, ratio,
            self._nearer(pictures, squares, own_row),
        )  # fmt: skip

    def _nearer(self, pictures: Tensor, squares: Tensor, own_row: int | None) -> Tensor | None:
        """For each picture, the share of the disjoint training sets, as large as the held-out one, that is nearer: [b]."""
        others = len(self.held_out) - (own_row is not None)
        size = min(others, len(self.train))
        if size < 1:
            return None
        to_held_out, _ = self._squares(pictures, self.held_out, self.held_out_flipped)
        if own_row is not None:
            own = torch.arange(len(pictures))
            to_held_out[own, own + own_row] = math.inf
        nearest_held_out = to_held_out[:, : size + (own_row is not None)].amin(1, keepdim=True)
        sets = len(self.train) // size
        nearest_train = squares[:, self.order[: sets * size]].view(len(pictures), sets, size).amin(2)
        nearer, level = nearest_train < nearest_held_out, nearest_train == nearest_held_out
        return (nearer.double() + level.double() / 2).mean(1)

    def _squares(self, pictures: Tensor, real: Tensor, real_flipped: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances [b,n] to the nearer of each real picture and its mirror image, and which that is."""
        x = pictures.to(self.device)
        found = []
        for both in (real, real_flipped):
            parts = []
            for block in both.split(BLOCK):
                y = block.to(self.device).float()
                parts.append((x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T).clamp(min=0).cpu())
            found.append(torch.cat(parts, dim=1))
        return torch.minimum(*found), found[1] < found[0]


class CopySearch:
    """Looks for each generated picture among the training pictures, as it arrives; pictures are not kept."""

    def __init__(self, reference: Reference, device: str) -> None:
        data, sides = reference.data, reference.sides
        self.data = data
        pixels = [
            images.flatten(1)
            for images in (data.train.images, data.train.images.flip(-1), data.held_out.images, data.held_out.images.flip(-1))
        ]  # fmt: skip
        features = [
            torch.cat(parts, dim=1)
            for parts in zip(
                *((s.train, s.train_flipped, s.held_out, s.held_out_flipped) for s in sides), strict=True
            )
        ]  # fmt: skip
        self.spaces = {
            "pixel": Space(pixels[0], pixels[1], pixels[2], pixels[3], pixels[0].shape[1] ** -0.5, device),
            "feature": Space(features[0], features[1], features[2], features[3], 1.0, device),
        }
        self.found: dict[str, list[Neighbours]] = {name: [] for name in self.spaces}
        self._closest: dict[str, list[tuple[float, int, Tensor]]] = {name: [] for name in self.spaces}
        self._seen = 0

    def add(self, images: Tensor, features: list[Tensor]) -> None:
        """Pictures uint8 [b,3,h,w], and each side's features of them."""
        vectors = {"pixel": images.flatten(1), "feature": torch.cat(features, dim=1)}
        for name, space in self.spaces.items():
            near = space.look(vectors[name])
            self.found[name].append(near)
            here = [(float(near.ratio[i]), self._seen + i, images[i]) for i in near.ratio.argsort()[:PAIRS].tolist()]
            self._closest[name] = sorted([*self._closest[name], *here], key=lambda entry: entry[:2])[:PAIRS]
        self._seen += len(images)

    def finish(self) -> tuple[Copying, Tensor]:
        """The report on copying, and its closest pairs, generated and training picture in turn: uint8 [2p,3,h,w]."""
        held_out_n = len(self.data.held_out)
        spaces: dict[str, CopyingIn] = {}
        copies, held_out_copies = torch.zeros(self._seen, dtype=torch.bool), torch.zeros(held_out_n, dtype=torch.bool)
        pairs: list[Pair] = []
        shown: list[Tensor] = []
        for name, space in self.spaces.items():
            generated = _joined(self.found[name])
            held_out = self._yardstick(space)
            threshold = THIRD if held_out is None else _calibrated(held_out.ratio)
            spaces[name] = {
                "generated": generated.figures(threshold),
                "held_out": None if held_out is None else held_out.figures(threshold),
                "threshold": threshold,
                "closer": None if held_out is None else _closer(generated.distance, held_out.distance),
            }
            copies |= generated.below(threshold)
            if held_out is not None:
                held_out_copies |= held_out.below(threshold)
            for ratio, number, picture in self._closest[name]:
                row, flipped = int(generated.row[number]), bool(generated.flipped[number])
                pairs.append({
                    "picture": number, "train": row, "flipped": flipped, "distance": float(generated.distance[number]),
                    "ratio": ratio, "space": name,
                })  # fmt: skip
                original = self.data.train.images[row]
                shown += [picture, original.flip(-1) if flipped else original]
        share = float(copies.double().mean())
        yardstick = float(held_out_copies.double().mean()) if held_out_n else 0.0
        excess, low = share_excess(share, self._seen, yardstick, held_out_n or 10**9)
        return {
            "n": self._seen, "held_out_n": held_out_n, "pixel": spaces["pixel"], "feature": spaces["feature"],
            "share": share, "share_held_out": yardstick if held_out_n else None, "excess": excess, "excess_low": low,
            "pairs": pairs,
        }, torch.stack(shown)  # fmt: skip

    def _yardstick(self, space: Space) -> Neighbours | None:
        """The same of the held-out pictures, each against training ones and against the other held-out ones."""
        if not len(space.held_out):
            return None
        size = 64
        starts = range(0, len(space.held_out), size)
        return _joined([space.look(space.held_out[start : start + size], start) for start in starts])


def _joined(parts: list[Neighbours]) -> Neighbours:
    nearer = [part.nearer for part in parts if part.nearer is not None]
    return Neighbours(
        torch.cat([part.row for part in parts]), torch.cat([part.flipped for part in parts]),
        torch.cat([part.distance for part in parts]), torch.cat([part.ratio for part in parts]),
        torch.cat(nearer) if nearer else None,
    )  # fmt: skip


def _calibrated(ratios: Tensor) -> float:
    """A third, or less: what at most a hundredth of the held-out pictures, or one of them, is below."""
    allowed = min(max(1, int(CALIBRATION * len(ratios))), len(ratios) - 1)
    return min(THIRD, float(ratios.sort().values[allowed]))


def _closer(generated: Tensor, held_out: Tensor) -> Closer:
    """How often a generated picture is nearer to the training set than a held-out one (Mann & Whitney 1947); 95%."""
    ordered = held_out.sort().values
    below = torch.searchsorted(ordered, generated, right=False)
    up_to = torch.searchsorted(ordered, generated, right=True)
    n, m = len(generated), len(held_out)
    share = float((m - (below + up_to).double() / 2).mean()) / m
    half = Z * math.sqrt((n + m + 1) / (12 * n * m))
    return {"share": share, "low": max(0.0, share - half), "high": min(1.0, share + half)}


def levels(denoise: Denoise, reference: Reference, device: torch.device) -> Levels:
    """The loss at each noise level for training and for held-out pictures, and the gap between them in shares of the latter.

    A gap above 0 beyond its interval says that the model knows its training pictures better than others of their kind.
    """
    train, held_out = reference.data.train.images, reference.data.held_out.images
    m = min(LEVEL_PICTURES, len(held_out) or LEVEL_PICTURES, len(train))
    chunks = min(LEVEL_CHUNKS, len(train) // m)
    order = torch.randperm(len(train), generator=generator("cpu", "levels"))[: chunks * m]
    seen = np.array([list(loss_by_level(denoise, train[rows], device).values()) for rows in order.split(m)])
    mean = seen.mean(0)
    report: Levels = {
        "sigma": list(LEVELS), "train": mean.tolist(), "held_out": None, "pictures": m,
        "gap": None, "gap_low": None, "gap_high": None,
    }  # fmt: skip
    if len(held_out):
        unseen = np.array(list(loss_by_level(denoise, held_out[:m], device).values()))
        gap = (unseen - mean) / unseen
        report["held_out"], report["gap"] = unseen.tolist(), gap.tolist()
        if chunks > 1:  # the training sets' spread is what chance does to a set of so many
            half = students_t(chunks - 1) * seen.std(0, ddof=1) * math.sqrt(1 + 1 / chunks) / unseen
            report["gap_low"], report["gap_high"] = (gap - half).tolist(), (gap + half).tolist()
    return report
