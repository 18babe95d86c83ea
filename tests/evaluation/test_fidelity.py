"""What the figures mean, and that they are torch-fidelity's."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ddpm.data.dataset import PictureSet, Split
from ddpm.data.ingest import ingest
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation import fidelity
from ddpm.evaluation.fidelity import frechet, open_reference
from ddpm.progress import Quiet
from ddpm.settings import EvaluateSettings, IngestSettings
from ddpm.store import open_store

CLASSIFIER = EvaluateSettings(extractor="classifier")


@pytest.fixture(scope="module")
def all_digits(tmp_path_factory):
    """scikit-learn's digits as published, their store, and their reference."""
    from ddpm.data.dataset import open_dataset

    store = open_store(str(tmp_path_factory.mktemp("store")))
    data = open_dataset(ingest(IngestSettings(image_size=8), store, Quiet())["uri"])
    return data, store, open_reference(CLASSIFIER, data, store, "cpu", Quiet())


def some(images, n, seed=0):
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]]


def test_figures_grow_with_damage(all_digits):
    data, _, reference = all_digits
    real = some(data.train.images, 512)
    few = data.train.images[data.train.labels < 5][:512]
    blurred = F.avg_pool2d(real.float(), 3, 1, 1, count_include_pad=False).round().to(torch.uint8)
    noise = torch.randint(0, 256, real.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scores = [reference.score(images) for images in (real, few, blurred, noise)]
    assert [s.fid for s in scores] == sorted(s.fid for s in scores)
    assert scores[0].kid < scores[1].kid < scores[2].kid
    assert scores[0].fid < 2 * scores[0].noise_floor["fid"]
    assert abs(scores[0].kid) < 3 * scores[0].kid_std + 0.01
    assert scores[0].recognisable["generated"] > 0.85 > 0.6 > scores[3].recognisable["generated"]
    assert scores[0].recognisable["real"] > 0.85
    assert {s.metric for s in scores} == {"fid_classifier"}


def test_figures_do_not_depend_on_the_batch(all_digits, monkeypatch):
    data, _, reference = all_digits
    images = data.held_out.images
    whole = reference.score(images)
    monkeypatch.setattr("ddpm.evaluation.features.BATCH", 7)
    parts = reference.score(images)
    assert parts.fid == pytest.approx(whole.fid, rel=1e-4)
    assert parts.kid == pytest.approx(whole.kid, abs=1e-4)


def test_figures_are_torch_fidelitys_own(all_digits, tmp_path):
    """The classifier is registered with torch-fidelity, whose calculate_metrics gives what we give, for each side."""
    import torch_fidelity

    data, store, reference = all_digits
    generated = some(data.held_out.images, 128)
    subset = fidelity._kid_subset(128, min(len(side.real) for side in reference.sides))
    fids, kids = [], []
    for number, side in enumerate(reference.sides):
        from ddpm.evaluation.classifier import fold_of

        weights = store.local(f"classifiers/{side.extractor.weights_sha256}.safetensors", side.extractor.weights_sha256)
        found = torch_fidelity.calculate_metrics(
            input1=Pictures(generated), input2=Pictures(data.train.images[fold_of(data.train) == number]),
            feature_extractor="ddpm-classifier", feature_extractor_weights_path=str(weights), fid=True, kid=True,
            kid_subset_size=subset, kid_subsets=fidelity.KID_SUBSETS, cuda=False, save_cpu_ram=True, verbose=False, cache=False,
        )  # fmt: skip
        fids.append(found["frechet_inception_distance"])
        kids.append(found["kernel_inception_distance_mean"])
    scores = reference.score(generated, intervals=False)
    assert scores.fid == pytest.approx(np.mean(fids), rel=1e-6)
    assert scores.kid == pytest.approx(np.mean(kids), rel=1e-6, abs=1e-7)


class Pictures(torch.utils.data.Dataset):
    """A tensor as torch-fidelity takes it."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Seeded random weights in the format of torch-fidelity's release."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:  # the constructor draws weights, then would replace them by the file's
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["64"], feature_extractor_weights_path=str(path))
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("layer", [64, 768])
def test_inception_gives_what_calculate_metrics_gives(inception_weights, digits, tmp_path, layer):
    import torch_fidelity

    store = open_store(str(tmp_path))
    small = PictureSet(
        **{**vars(digits), "train": Split(digits.train.images[:40], digits.train.labels[:40]), "digest": "1" * 64}
    )
    settings = EvaluateSettings(extractor="inception", layer=layer, weights=str(inception_weights))
    generated = digits.held_out.images[:32]
    scores = open_reference(settings, small, store, "cpu", Quiet()).score(generated, intervals=False)
    found = torch_fidelity.calculate_metrics(
        input1=Pictures(generated), input2=Pictures(small.train.images), feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_weights), feature_layer_fid=str(layer), feature_layer_kid=str(layer),
        fid=True, kid=True, kid_subset_size=16, kid_subsets=100, cuda=False, save_cpu_ram=True, verbose=False, cache=False,
    )  # fmt: skip
    assert scores.metric == f"fid_{layer}"
    assert scores.measurement["kid_subset_size"] == 16
    assert scores.fid == pytest.approx(found["frechet_inception_distance"], rel=1e-6)
    assert scores.kid == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-6)
    assert scores.recognisable is None
    again = open_reference(settings, small, store, "cpu", Quiet())
    assert again.score(generated, intervals=False).fid == scores.fid, "features from the store are the same"


def test_weights_are_checked(inception_weights, digits, tmp_path):
    store = open_store(str(tmp_path / "store"))
    wrong = EvaluateSettings(weights=str(inception_weights), weights_sha256="0" * 64)
    with pytest.raises(WrongInput, match="has sha256 [0-9a-f]{64}, not 0000"):
        open_reference(wrong, digits, store, "cpu", Quiet())
    with pytest.raises(WrongInput, match="no file"):
        open_reference(EvaluateSettings(weights="/no/such/file.pth"), digits, store, "cpu", Quiet())
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    with pytest.raises(WrongInput, match="no state dict of torch-fidelity's Inception"):
        open_reference(EvaluateSettings(weights=str(other)), digits, store, "cpu", Quiet())


class Trap:
    """An object whose unpickling would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_weights_file_is_never_unpickled(digits, tmp_path):
    torch.save({"Mixed_6e.branch1x1.conv.weight": Trap(tmp_path / "ran")}, tmp_path / "trap.pth")
    with pytest.raises(WrongInput, match="no state dict"):
        open_reference(
            EvaluateSettings(weights=str(tmp_path / "trap.pth")), digits, open_store(str(tmp_path)), "cpu", Quiet()
        )
    assert not (tmp_path / "ran").exists()


def test_the_published_weights_come_from_the_store_and_are_checked(digits, tmp_path):
    store = open_store(str(tmp_path))
    store.write("weights/inception-2015-12-05.pth", b"damaged")
    with pytest.raises(WrongInput, match="is damaged"):
        open_reference(EvaluateSettings(), digits, store, "cpu", Quiet())


def test_a_classifier_needs_labels_and_held_out_pictures(digits, tmp_path):
    store = open_store(str(tmp_path))
    flat = Split(digits.train.images, torch.full_like(digits.train.labels, -1))
    with pytest.raises(Refused, match="without a class"):
        open_reference(CLASSIFIER, PictureSet(**{**vars(digits), "train": flat}), store, "cpu", Quiet())
    none = Split(digits.held_out.images[:0], digits.held_out.labels[:0])
    with pytest.raises(Refused, match="no held-out"):
        open_reference(CLASSIFIER, PictureSet(**{**vars(digits), "held_out": none}), store, "cpu", Quiet())


def test_a_classifier_that_knows_nothing_is_refused(digits, tmp_path):
    """Labels drawn by lot cannot be learnt: the guard must say so."""
    lots = torch.randint(0, 10, digits.train.labels.shape, generator=torch.Generator().manual_seed(0))
    data = PictureSet(**{**vars(digits), "train": Split(digits.train.images, lots), "digest": "2" * 64})
    with pytest.raises(Refused, match="below 95%"):
        open_reference(CLASSIFIER, data, open_store(str(tmp_path)), "cpu", Quiet())


def test_two_that_open_a_reference_share_one_classifier(all_digits):
    data, store, reference = all_digits
    again = open_reference(CLASSIFIER, data, store, "cpu", Quiet())
    assert again.base == reference.base
    assert all(torch.equal(a.real, b.real) for a, b in zip(again.sides, reference.sides, strict=True))


def test_few_pictures_are_refused_or_warned_of(all_digits):
    data, _, reference = all_digits
    with pytest.raises(Refused, match="too few"):
        reference.score(data.held_out.images[:8])
    assert "covariance is singular" in reference.score(data.held_out.images[:40], intervals=False).warnings[0]
    assert reference.score(some(data.train.images, 512), intervals=False).warnings == []


def test_the_noise_floor_falls_with_n_and_says_when_it_is_extrapolated(all_digits):
    _, _, reference = all_digits
    small, large = reference.noise_floor(200), reference.noise_floor(1605)
    assert small["fid"] > large["fid"] > 0
    assert (small["extrapolated"], large["extrapolated"]) == (False, True)


def test_what_is_not_finite_is_refused(all_digits, monkeypatch):
    data, _, reference = all_digits
    monkeypatch.setattr(fidelity, "_kid", lambda a, b, subset: (math.nan, math.nan))
    with pytest.raises(Refused, match="kid of 64 pictures is nan"):
        reference.score(data.held_out.images[:64], intervals=False)
    assert math.isnan(frechet(torch.full((20, 3), math.nan), torch.zeros(20, 3)))


def test_the_interval_of_fid_covers_repetitions(all_digits):
    """The bootstrap's standard deviation is about the spread of FID over disjoint sets of pictures."""
    data, _, reference = all_digits
    sets = [reference.score(some(data.train.images, 128, seed)) for seed in range(12)]
    spread = float(np.std([s.fid for s in sets], ddof=1))
    claimed = float(np.mean([s.fid_std for s in sets]))
    assert 0.5 < claimed / spread < 2, claimed / spread
