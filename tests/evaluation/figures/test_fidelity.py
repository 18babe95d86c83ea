"""What the figures mean, and that they are torch-fidelity's."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ddpm.data.dataset import PictureSet, Split
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.extractors.inception import open_inception
from ddpm.evaluation.figures.fidelity import frechet, kid_subset, quick_frechet, statistics
from ddpm.evaluation.figures.memorisation import CopySearch
from ddpm.evaluation.figures.precision_recall import precision_recall, radii
from ddpm.evaluation.measure import Clock, measure, score
from ddpm.evaluation.reference import open_reference
from ddpm.progress import Quiet
from ddpm.settings import EvaluateSettings
from ddpm.store import open_store

CLASSIFIER = EvaluateSettings(extractor="classifier")


def some(images, n, seed=0):
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]]


def measured(reference, images, batch=100):
    """The report on pictures, which arrive in batches."""
    return measure(reference, [images.split(batch)], CopySearch(reference, "cpu"), Clock()).report


def test_figures_grow_with_damage(all_digits):
    data, _, reference = all_digits
    real = some(data.train.images, 512)
    few = data.train.images[data.train.labels < 5][:512]
    blurred = F.avg_pool2d(real.float(), 3, 1, 1, count_include_pad=False).round().to(torch.uint8)
    noise = torch.randint(0, 256, real.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reports = [measured(reference, images) for images in (real, few, blurred, noise)]
    assert [r["fid"] for r in reports] == sorted(r["fid"] for r in reports)
    assert reports[0]["kid"] < reports[1]["kid"] < reports[2]["kid"]
    assert reports[0]["fid"] < 2 * reports[0]["noise_floor"]["fid"]
    low, high = reports[0]["excess"]["kid_interval"]
    assert low - 0.01 < 0 < high + 0.01, "real pictures are not above the noise floor"
    assert reports[1]["excess"]["fid_interval"][0] > 0, "classes that are missing are, beyond the interval"
    assert reports[0]["recognisable"]["generated"] > 0.85 > 0.6 > reports[3]["recognisable"]["generated"]
    assert reports[0]["recognisable"]["real"] > 0.85
    assert {r["metric"] for r in reports} == {"fid_classifier"}
    scores = [r["inception_score"]["mean"] for r in reports]
    assert scores[0] > 8 and scores[0] > scores[1] and scores[1] < 5.5, "of ten classes, and of five"


@pytest.mark.parametrize("damage", ["blur", "noise"])
def test_fid_grows_with_each_step_of_damage(all_digits, damage):
    data, _, reference = all_digits
    real = some(data.train.images, 400).float()
    fids = [score(reference, real.to(torch.uint8)).fid]
    for strength in (1, 2, 3):
        if damage == "blur":
            worse = real
            for _ in range(strength):
                worse = F.avg_pool2d(worse, 3, 1, 1, count_include_pad=False)
        else:
            worse = real + 40 * strength * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
        fids.append(score(reference, worse.round().clamp(0, 255).to(torch.uint8)).fid)
    assert fids == sorted(fids) and fids[3] > 3 * fids[0]


def test_identical_sets_are_at_zero(all_digits):
    _, _, reference = all_digits
    side = reference.sides[0]
    assert abs(frechet(side.statistics, side.statistics)) < 1e-6
    assert precision_recall(side.real, side.real, side.radii) == (1.0, 1.0)


def test_collapse_is_precise_and_recalls_little(all_digits):
    data, _, reference = all_digits
    one = data.train.images[data.train.labels == 3]
    collapsed, spread = measured(reference, one[:128]), measured(reference, some(data.train.images, 128))
    assert collapsed["precision"] > 0.85
    assert collapsed["recall"] < 0.2 < 0.5 < spread["recall"]


def test_figures_do_not_depend_on_the_batch(all_digits, monkeypatch):
    data, _, reference = all_digits
    whole = measured(reference, data.held_out.images, 192)
    assert measured(reference, data.held_out.images, 7) == whole, (
        "however they arrive, they are looked at in the same batches"
    )
    monkeypatch.setattr("ddpm.evaluation.extractors.features.BATCH", 7)
    monkeypatch.setattr("ddpm.evaluation.measure.BATCH", 7)
    parts = measured(reference, data.held_out.images)
    assert parts["fid"] == pytest.approx(whole["fid"], rel=1e-4)
    assert parts["kid"] == pytest.approx(whole["kid"], abs=1e-4)


def test_figures_are_torch_fidelitys_own(all_digits, tmp_path):
    """The classifier is registered with torch-fidelity, whose calculate_metrics gives what we give, for each side."""
    import torch_fidelity

    data, store, reference = all_digits
    generated = some(data.held_out.images, 128)
    subset = kid_subset(128, min(len(side.real) for side in reference.sides))
    theirs = []
    for side in reference.sides:
        weights = store.local(f"classifiers/{side.extractor.weights_sha256}.safetensors", side.extractor.weights_sha256)
        found = torch_fidelity.calculate_metrics(
            input1=Pictures(generated), input2=Pictures(data.train.images[side.rows]),
            feature_extractor="ddpm-classifier", feature_extractor_weights_path=str(weights), fid=True, kid=True, prc=True,
            isc=True, kid_subset_size=subset, cuda=False, save_cpu_ram=True, verbose=False, cache=False,
        )  # fmt: skip
        theirs.append([found[name] for name in KEYS])
    require_equal(measured(reference, generated), np.mean(theirs, axis=0))


KEYS = (
    "frechet_inception_distance", "kernel_inception_distance_mean", "precision", "recall", "inception_score_mean",
    "inception_score_std",
)  # fmt: skip


def require_equal(report, theirs):
    ours = [report[name] for name in ("fid", "kid", "precision", "recall")]
    ours += [report["inception_score"]["mean"], report["inception_score"]["std"]]
    for name, mine, other in zip(KEYS, ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-6, abs=1e-7 if "kernel" in name else 0), name


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
    for name, weight in network.named_parameters():
        if name.endswith("conv.weight"):  # PyTorch's own start lets nothing through so many layers
            torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def few_digits(digits):
    """32 training and 2 held-out pictures, for a slow extractor."""
    few = {"train": Split(digits.train.images[:32], digits.train.labels[:32]), "digest": "1" * 64}
    few["held_out"] = Split(digits.held_out.images[:2], digits.held_out.labels[:2])
    return PictureSet(**{**vars(digits), **few})


@pytest.mark.parametrize("layer", [768, 2048])
def test_inception_gives_what_calculate_metrics_gives(inception_weights, few_digits, digits, tmp_path, layer):
    import torch_fidelity

    store = open_store(str(tmp_path))
    settings = EvaluateSettings(extractor="inception", layer=layer, weights=str(inception_weights))
    generated = digits.held_out.images[32:48]
    reference = open_reference(settings, few_digits, store, "cpu", Quiet())
    report = measured(reference, generated)
    found = torch_fidelity.calculate_metrics(
        input1=Pictures(generated), input2=Pictures(few_digits.train.images), feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_weights), feature_layer_fid=str(layer), feature_layer_kid=str(layer),
        feature_layer_prc=str(layer), fid=True, kid=True, prc=True, isc=True, kid_subset_size=8, cuda=False,
        save_cpu_ram=True, verbose=False, cache=False,
    )  # fmt: skip
    require_equal(report, [found[name] for name in KEYS])
    assert report["metric"] == f"fid_{layer}"
    assert reference.measurement(16)["kid_subset_size"] == 8
    assert report["recognisable"] is None and report["inception_score"]["of"] == "inception"
    assert report["fid_infinity"] is None and "covariance is singular" in report["warnings"][0]
    if layer == 2048:
        return
    with pytest.MonkeyPatch.context() as patch:
        again = open_reference(settings, few_digits, store, "cpu", Quiet())
        patch.setattr(type(again.sides[0].extractor), "features", None)  # the real pictures are not looked at again
        assert measured(again, generated) == report


def test_on_a_cpu_inception_sees_few_pictures_at_once_and_says_the_same(
    inception_weights, digits, tmp_path, monkeypatch
):
    settings = EvaluateSettings(extractor="inception", layer=64, weights=str(inception_weights))
    asked, real = [], torch.nn.Module.__call__

    def call(network, *given, **named):
        if type(network).__name__ == "FeatureExtractorInceptionV3":
            asked.append(len(given[0]))
        return real(network, *given, **named)

    monkeypatch.setattr(torch.nn.Module, "__call__", call)
    pictures = digits.train.images[:40]
    found = {}
    for at_once in (16, 64):
        monkeypatch.setattr("ddpm.evaluation.extractors.inception.AT_ONCE_ON_A_CPU", at_once)
        [(extractor, _)] = open_inception(settings, digits, open_store(str(tmp_path)), "cpu", Quiet()).sides
        found[at_once] = extractor.features(pictures)
    assert asked == [16, 16, 8, 40]
    torch.testing.assert_close(found[16], found[64], rtol=1e-5, atol=1e-6)


def test_weights_that_end_below_the_classes_give_no_inception_score(inception_weights, few_digits, tmp_path):
    state = torch.load(inception_weights, weights_only=True)
    cut = {
        name: torch.zeros_like(value) if name.startswith(("Mixed_7", "fc")) else value for name, value in state.items()
    }
    torch.save(cut, tmp_path / "cut.pth")
    settings = EvaluateSettings(layer=2048, weights=str(tmp_path / "cut.pth"))
    store = open_store(str(tmp_path))
    with pytest.raises(WrongInput, match="layer: .* up to layer 768 only"):
        open_reference(settings, few_digits, store, "cpu", Quiet())
    below = EvaluateSettings(layer=64, weights=str(tmp_path / "cut.pth"))
    report = measured(open_reference(below, few_digits, store, "cpu", Quiet()), few_digits.train.images[:16])
    assert report["inception_score"]["mean"] is None
    assert "no layer of classes" in report["inception_score"]["why"]


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
        measured(reference, data.held_out.images[:8])
    with pytest.raises(Refused, match="too few"):
        score(reference, data.held_out.images[:8])
    assert "covariance is singular" in measured(reference, data.held_out.images[:40])["warnings"][0]
    assert measured(reference, some(data.train.images, 512))["warnings"] == [
        "the noise floor of FID is extrapolated: there are too few real pictures to measure it at 512"
    ]


def test_the_noise_floor_falls_with_n_and_says_when_it_is_extrapolated(all_digits):
    _, _, reference = all_digits
    small, large = reference.noise_floor(200), reference.noise_floor(1605)
    assert small["fid"] > large["fid"] > 0
    assert (small["extrapolated"], large["extrapolated"]) == (False, True)
    assert (small["n"], large["n"]) == (200, 400)


def test_what_is_not_finite_is_refused(all_digits, monkeypatch):
    data, _, reference = all_digits
    monkeypatch.setattr("ddpm.evaluation.figures.measuring.kid", lambda *_: (math.nan, math.nan))
    with pytest.raises(Refused, match="kid of 64 pictures is nan"):
        score(reference, data.held_out.images[:64])
    broken = statistics(torch.full((20, 3), math.nan))
    assert math.isnan(frechet(broken, statistics(torch.zeros(20, 3))))


def test_the_quick_distance_is_the_same(all_digits):
    _, _, reference = all_digits
    side = reference.sides[0]
    for n in (30, 300):  # fewer and more than features
        few = side.held_out[:n] if n < 100 else side.real[:n]
        assert quick_frechet(few, side.statistics) == pytest.approx(frechet(statistics(few), side.statistics), rel=2e-3)


def test_radii_are_to_the_third_neighbour():
    line = torch.arange(6.0)[:, None].double()
    assert radii(line).tolist() == [3, 2, 2, 2, 2, 3]


def test_the_interval_of_fid_covers_repetitions(all_digits):
    """The bootstrap's standard deviation is about the spread of FID over disjoint sets of pictures."""
    data, _, reference = all_digits
    sets = [score(reference, some(data.train.images, 128, seed), intervals=True) for seed in range(12)]
    spread = float(np.std([s.fid for s in sets], ddof=1))
    claimed = float(np.mean([s.fid_std for s in sets]))
    assert 0.5 < claimed / spread < 2, claimed / spread


def test_several_draws_are_averaged_and_their_spread_is_told(all_digits):
    data, _, reference = all_digits
    draws = [some(data.train.images, 200, seed).split(64) for seed in range(3)]
    report = measure(reference, draws, CopySearch(reference, "cpu"), Clock()).report
    fids = [row["fid"] for row in report["seeds"]]
    assert len(set(fids)) == 3 and report["n"] == 200
    assert report["fid"] == pytest.approx(np.mean(fids))
    assert report["spread"]["fid"] == pytest.approx(np.std(fids, ddof=1))
    one = measured(reference, some(data.train.images, 200, 0))
    assert one["spread"] is None and report["fid_std"] < one["fid_std"]


def test_fid_falls_with_n_towards_its_extrapolation(all_digits):
    data, _, reference = all_digits
    report = measured(reference, some(data.train.images, 800))
    fids = [point["fid"] for point in report["curve"]]
    assert report["curve"][-1]["n"] == 800 and fids[-1] == pytest.approx(report["fid"], rel=1e-4)
    assert fids[0] > fids[-1] > report["fid_infinity"]
