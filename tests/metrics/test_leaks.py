"""The leak check: real images of which a known share is changed, images on which changes cannot be seen, and too few images."""

from __future__ import annotations

from functools import cache
from math import nan

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures
from torch import Tensor

from leafwing.augment_option import parse
from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.metrics import leaks
from leafwing.metrics.evidence import Measure
from leafwing.metrics.leaks import MIN_UNSEEN, Leak, change_of, describe, kinds_of

pytestmark = pytest.mark.machine


@cache
def digits() -> Tensor:
    """1,797 digits (n, 1, 16, 16) in an order of their own."""
    data = load("digits", size=16)
    images: Tensor = data.to_network(data.batch(0, 0, len(data))).image
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))]


def evidence(kind: str, changed: float, augment: str, held_out: bool) -> FakeEvidence:
    """Digits as samples, a share of which is changed; classifiers learn from others."""
    torch.manual_seed(3)
    images = digits()
    samples = images[1300:].clone()
    n = round(changed * len(samples))
    if n:
        samples[:n] = change_of(kind, augment, True)(samples[:n])
    if held_out:
        return FakeEvidence(images[:900], samples, held=images[900:1300], augment=augment)
    return FakeEvidence(images[:1300], samples, augment=augment)


def by_name(measures: list[Measure]) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures}


@pytest.mark.parametrize(
    ("kind", "augment", "changed", "held_out"),
    [
        ("turned", "ada", 0.0, True),
        ("turned", "p=.8", 0.3, False),
        ("inverted", "p=0:.8", 0.3, True),
        ("shifted", "diff:translation", 1.0, True),
        ("cut_out", "diff:cutout", 0.3, True),
    ],
)
def test_the_share_of_changed_samples_is_estimated(
    kind: str, augment: str, changed: float, held_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "kinds_of", lambda augment, channels: [kind])  # one classifier is enough
    (leak,) = leaks.report(evidence(kind, changed, augment, held_out))
    estimate, seen, real = leak.measures()
    assert [estimate.name, seen.name, real.name] == [kind, f"{kind}_seen", f"{kind}_real"]
    assert leak.is_judged
    assert estimate.low is not None
    assert estimate.high is not None
    # Four standard errors: the interval has 1.96 to each side where it is not clipped.
    n, errors = len(digits()) - 1300, 1 / (leak.power - leak.real)
    assert estimate.value == pytest.approx(changed, abs=4 * errors * np.sqrt(0.25 / n + 0.25 / leak.n_real) / 2 + 0.01)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    if changed:
        assert describe([leak], augment).startswith("the augmentation seems to leak into the samples: ")
    else:
        assert estimate.low < 0.05


def test_the_kinds_follow_from_the_augmentation() -> None:
    assert kinds_of("none", 3) == []
    assert kinds_of("ada", 3) == ["turned", "inverted", "recoloured"]
    assert kinds_of("p=.3", 1) == ["turned", "inverted"]
    assert kinds_of("diff", 1) == ["recoloured", "shifted", "cut_out"]
    assert kinds_of("diff:cutout", 3) == ["cut_out"]


def test_changes_that_cannot_be_seen_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise has no up and down."""
    monkeypatch.setattr(leaks, "kinds_of", lambda augment, channels: ["turned"])
    noise = torch.rand(400, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (leak,) = leaks.report(FakeEvidence(noise[:300], noise[300:], augment="ada"))
    measures = by_name(leak.measures())
    assert np.isnan(measures["turned"].value)
    assert measures["turned"].low is None
    assert 0 <= measures["turned_real"].value <= 1
    assert describe([leak], "ada").startswith(
        "whether the augmentation leaks into the samples cannot be judged: turned images"
    )


def test_few_images_are_not_judged_and_no_augmentation_is_an_error() -> None:
    few = pictures(0, 3 * MIN_UNSEEN - 1, 3, 16, 16)
    results = leaks.report(FakeEvidence(few, few, augment="diff"))
    assert all(np.isnan(measure.value) for leak in results for measure in leak.measures())
    assert "needs 90 training images" in describe(results, "diff")
    with pytest.raises(LeafwingError, match="without augmentation"):
        leaks.measure(FakeEvidence(few, few))
    with pytest.raises(LeafwingError, match="points"):
        leaks.measure(FakeEvidence(torch.zeros(9, 2), torch.zeros(9, 2), augment="ada"))


def test_non_finite_samples_are_unknown() -> None:
    unknown = Leak("turned", nan, 0.1, 0.9, 10, 100)
    assert np.isnan(unknown.estimate().value)
    assert "cannot be judged: whether any are turned is unknown, because some samples are not finite" in (
        describe([unknown], "ada")
    )


def leak(kind: str, samples: float, real: float = 0.0, power: float = 1.0) -> Leak:
    return Leak(kind, samples, real, power, 1_000, 1_000)


def test_the_verdict_comes_first_then_the_shares_then_what_to_do() -> None:
    results = [leak("recoloured", 0.3, 0.25, 0.71), leak("shifted", 0.0), leak("cut_out", 0.07)]
    shares = "0% look shifted (0% to 0%); recoloured images cannot be told from others here (the classifier recognises 71% of them, "
    shares += "and mistakes 25% of the unchanged ones for recoloured)"
    assert describe(results, "diff") == (
        f"the augmentation seems to leak into the samples: 7% look cut out (5% to 9%); {shares}. If you see this in them, train "
        "without cutout: --augment diff:color,translation; samples that show nothing recognisable yet prove nothing"
    )
    assert describe(results[:2], "diff") == f"no sign that the augmentation leaks into the samples: {shares}"


@pytest.mark.parametrize(
    ("kinds", "augment", "advice"),
    [
        (["cut_out"], "diff", "--augment diff:color,translation;"),
        (["shifted", "cut_out"], "diff", "without translation and cutout: --augment diff:color;"),
        (["recoloured"], "diff:color,cutout", "without color: --augment diff:cutout;"),
        (["cut_out"], "diff:cutout", "--augment ada, whose probability adapts, or none;"),
        (["recoloured"], "diff:p=0.3", "without color: --augment diff:translation,cutout,p=0.3;"),
        (
            ["shifted", "cut_out"],
            "diff:p=.7,translation,cutout",
            "lower p, such as --augment diff:translation,cutout,p=0.35",
        ),
        (["turned"], "ada", "lower p than the adaptive one (augment_p in log.jsonl), such as --augment p=0.2;"),
        (["turned"], "p=.8", "lower p, such as --augment p=0.4;"),
        (["inverted"], "p=0:0.5", "lower p, such as --augment p=0:0.25;"),
    ],
)
def test_the_remedy_fits_the_augmentation_and_is_one(kinds: list[str], augment: str, advice: str) -> None:
    text = describe([leak(kind, 0.5 if kind in kinds else 0.0) for kind in kinds_of(augment, 3)], augment)
    assert advice in text
    parse(text.partition("--augment ")[2].partition(";")[0].partition(", ")[0])


def test_it_is_deterministic_and_leaves_random_state_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "STEPS", 10)
    state = torch.get_rng_state()
    images = pictures(2, 120, 3, 24, 40)
    results = [leaks.measure(FakeEvidence(images, images[:50], augment="ada")) for _ in range(2)]
    assert str(results[0]) == str(results[1])  # NaN differs from itself
    assert torch.equal(torch.get_rng_state(), state)


def test_the_estimate_corrects_the_errors_of_the_classifier() -> None:
    leak = Leak("turned", 0.1 + 0.3 * 0.7, 0.1, 0.8, 10_000, 10_000)
    assert leak.estimate().value == pytest.approx(0.3)
    assert Leak("turned", 0.0, 0.1, 0.8, 100, 100).estimate().value == 0
    assert Leak("turned", 1.0, 0.1, 0.8, 100, 100).estimate().value == 1


def test_intervals_contain_the_truth() -> None:
    """At least 90% of 1,000 draws: nominal 95%, with a few percent for approximations."""
    random = np.random.default_rng(0)
    for truth in (0.02, 0.3, 0.9):
        contained = 0
        for _ in range(1000):
            p, f, t = truth * 0.9 + (1 - truth) * 0.05, 0.05, 0.9
            estimate = Leak(
                "turned",
                random.binomial(300, p) / 300,
                random.binomial(100, f) / 100,
                random.binomial(100, t) / 100,
                300,
                100,
            ).estimate()
            assert estimate.low is not None
            assert estimate.high is not None
            contained += estimate.low <= truth <= estimate.high
        assert contained >= 900


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", leaks.WORDS)
def test_changes_stay_in_range_and_leave_transparency_its_colour(kind: str, channels: int) -> None:
    torch.manual_seed(0)
    images = pictures(1, 6, channels, 16, 16)
    for augment in ("ada", "diff"):
        changed = change_of(kind, augment, True)(images)
        assert changed.shape == images.shape
        assert changed.abs().max() <= 1
        if channels in (2, 4) and kind in ("inverted", "recoloured"):
            assert torch.equal(changed[:, -1], images[:, -1])


def test_samples_are_the_first_ones_as_many_as_the_row_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """`real_data.protocol_for` has the same limit, so that the number of samples and the fingerprint are true."""
    monkeypatch.setattr(leaks, "STEPS", 1)
    monkeypatch.setattr(leaks, "MAX_IMAGES", 100)
    images = pictures(0, 160, 1, 16, 16)
    many, first = (leaks.report(FakeEvidence(images, samples, augment="p=.2")) for samples in (images, images[:100]))
    assert {leak.n_samples for leak in many} == {100}
    assert str(many) == str(first)


def test_images_are_spread_over_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "MAX_IMAGES", 10)
    numbers = torch.arange(50.0)[:, None, None, None].expand(-1, 1, 4, 4)
    read = leaks.read(iter(numbers.split(7)))
    assert read[:, 0, 0, 0].tolist() == [0, 8, 16, 24, 32, 40, 48]
