"""Copies of training images are detected, and new images are not reported as copies."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evidence import FakeEvidence
from PIL import Image
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.metrics import copying, memorisation, metric, pairs
from leafwing.metrics.neighbours import COMPARISONS, MAX_SHIFT, SIDE, boxes, nearest, sketches
from memorisation import copies, judged, pictures, planted

VERDICTS = list(copying.VERDICTS)


@cache
def digits() -> Tensor:
    """The built-in digits (1797, 1, 32, 32), in a fixed random order."""
    return pictures("digits", size=32)[torch.randperm(1_797, generator=torch.Generator().manual_seed(7))]


def colours(n: int, seed: int = 0, size: int = 32, channels: int = 3) -> Tensor:
    """Smooth random images, all different."""
    coarse = torch.randn(n, channels, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Images shifted, with their border repeated."""
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4), mode="replicate")
    height, width = images.shape[2:]
    return padded[:, :, 4 - down : 4 - down + height, 4 - right : 4 - right + width]


# --- planted copies: bench/memorisation.py has more seeds and more noise -------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.05, 0.1])
@pytest.mark.parametrize(("share", "allowed"), [(0.01, VERDICTS[:2]), (0.1, VERDICTS[:1]), (0.5, VERDICTS[:1])])
def test_planted_copies_are_detected(share: float, allowed: list[str], noise: float, seed: int) -> None:
    # In 20 seeds (docs/guide/memorisation.md) none of these was missed; noisier copies are.
    report = planted(digits(), 1_200, 0, share, noise, seed)
    assert report.verdict in allowed
    assert report.copied == pytest.approx(share, abs=0.04)
    assert report.strongest_comparison == "moved"
    sentence = {"copies": "are copies of training images.", "suspicious": "they may be copies, so look at the pairs."}
    assert sentence[report.verdict] in report.words


@pytest.mark.parametrize("held", [0, 300])
def test_new_images_are_not_reported_as_copies(held: int) -> None:
    # A perfect generator is reported as suspicious for 1 or 2 in 100 seeds (docs/guide/memorisation.md).
    reports = [planted(digits(), 1_000, held, 0, 0, seed) for seed in range(5)]
    assert [report.verdict for report in reports].count("none") >= 4
    assert "copies" not in [report.verdict for report in reports]
    clean = next(report for report in reports if report.verdict == "none")
    assert (clean.copied, clean.held_out, clean.references) == (0, held, 1_000 + held)
    assert "Detection limit" in clean.words


def test_held_out_images_as_samples_are_not_reported_as_copies() -> None:
    images = digits()
    assert judged(images[1_200:1_600], images[:1_200], images[1_200:1_600]).verdict == "none"


def test_copies_of_very_few_images_are_detected_without_held_out_images() -> None:
    training = colours(16)
    random = torch.Generator().manual_seed(0)
    report = judged(copies(training[torch.randint(0, 16, (300,), generator=random)], 0.3, random), training, training[:0])
    assert report.verdict == "copies"
    assert report.copied > 0.9
    assert report.mirrored == pytest.approx(0.5, abs=0.1)
    # With so few images, some 5 of 100 perfect generators are reported as copying (docs/guide/memorisation.md).
    reports = [judged(colours(300, seed=seed), colours(16, seed=100 + seed), training[:0]) for seed in range(1, 7)]
    assert [report.verdict for report in reports].count("none") >= 5


def test_recoloured_copies_are_detected_by_their_edges() -> None:
    training = colours(300)
    recoloured = torch.cat([training[:40, [1, 2, 0]], colours(260, seed=1)])
    report = judged(recoloured, training, training[:0])
    assert (report.verdict, report.strongest_comparison) == ("copies", "edges")
    assert report.copied == pytest.approx(40 / 300, abs=0.04)
    assert report.comparisons["moved"].verdict == "none"
    assert "edges" in report.words
    mirrored = judged(recoloured.flip(3), training, training[:0])
    assert (mirrored.verdict, mirrored.strongest_comparison) == ("copies", "edges")
    assert all(pair.mirrored for pair in mirrored.pairs[:10])


def test_very_noisy_copies_are_detected_by_the_overall_test() -> None:
    training = colours(24)
    images = training.repeat(20, 1, 1, 1)
    noisy = images + 3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    comparison = judged(noisy, training, training[:0]).comparisons["in place"]
    assert comparison.nearer > 0.9
    assert comparison.verdict == "copies"


def test_pale_equal_samples_are_duplicates_rather_than_copies() -> None:
    """What a GAN generates in its first minutes: the mean image, with little contrast."""
    images = digits()[:600]
    pale = 0.3 * images.mean(0, keepdim=True) + 0.01 * torch.randn(
        400, 1, 32, 32, generator=torch.Generator().manual_seed(0)
    )
    report = judged(pale, images, images[:0])
    assert report.verdict == "none"
    assert report.different < 3
    assert report.duplicates > 0.99 > report.duplicates_real
    assert "near-duplicates" in report.words


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"duplicates": 1.0}, "100% of the samples are near-duplicates of another one"),
        ({"duplicates": 0.0}, "40 samples and 40 reference images are too few"),
        ({"duplicates": 0.0, "samples": 1}, "1 sample and 40 reference images are too few"),
    ],
)
def test_a_report_that_could_see_no_copies_says_that_it_has_no_conclusion(changes: dict[str, Any], cause: str) -> None:
    report = memorisation.examine(sketches([colours(40)]), sketches([colours(40, 1)]), [colours(40, 1)], sketches([]))
    assert "No copies of training images were found" in report.words
    blind = replace(report, verdict="none", resolution=0.9, **changes)
    assert memorisation.describe(blind) == (
        f"No conclusion about copies: {cause}, so that copies below 90% of the samples would go unnoticed."
    )


def test_the_most_copied_image_is_reported_by_its_index() -> None:
    images = digits()
    repeated = torch.cat([images[:3], images[:500]])  # indices 0 to 2 are repeated as 3 to 5
    samples = torch.cat(
        [copies(images[[400]].repeat(60, 1, 1, 1), 0.1, torch.Generator().manual_seed(0)), images[1_000:1_500]]
    )
    report = judged(samples, repeated, images[:0])
    assert report.training == 500, "duplicates count once"
    assert report.verdict in VERDICTS[:2]
    assert report.most_copied[0] == (403, pytest.approx(60 / 560, abs=0.01))
    assert "Training image 403 is copied most: 10.7% of the samples are close to it." in report.words
    few = memorisation.describe(replace(report, most_copied=[(403, 4 / 560), (9, 1 / 560)]))
    assert "copied most" not in few, "four samples are no pattern"
    assert report.pairs[0].training[0] == 403
    assert report.pairs[0].sample < 60
    assert [pair.training[0] for pair in report.pairs].count(403) == memorisation.MAX_REPEATS


def test_held_out_duplicates_of_training_images_are_not_new() -> None:
    images = digits()
    assert judged(images[500:700], images[:400], images[300:450]).references == 400 + 50


# --- the report and the page ----------------------------------------------------------------------------------------------


def evidence() -> FakeEvidence:
    """40 training images; 30 of 60 samples are mirror images of them, the others are new."""
    images = colours(90)
    return FakeEvidence(images[:40], torch.cat([images[:30].flip(3), images[60:]]), train=images[:40], held=images[40:60])


def test_the_report_is_plain_json_and_contains_the_metrics() -> None:
    report = memorisation.report(evidence())
    assert (report.verdict, report.training, report.held_out, report.samples) == ("copies", 40, 20, 60)
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["verdict"] == "copies"
    assert len(plain["pairs"]) == memorisation.MAX_PAIRS
    measures = {measure.name: measure for measure in metric("memorisation")(evidence())}
    assert set(measures) == {"copied", "copied_near", "nearer", "distance_ratio", "duplicates"}
    assert measures["copied"].value == report.copied == pytest.approx(0.5, abs=0.05)
    near = measures["copied_near"]
    assert near.low is not None
    assert near.high is not None
    assert near.low < near.value < near.high


def test_pairs_hold_sample_original_and_distances() -> None:
    report = memorisation.report(evidence())
    for pair in report.pairs:
        assert pair.sample == pair.training[0] < 30, "sample i is image i, mirrored"
        assert pair.mirrored
        assert pair.distances[0] == pytest.approx(0, abs=2e-3)
        assert list(pair.distances) == sorted(pair.distances)
        assert (pair.ratio, pair.percentile) == (pytest.approx(0, abs=2e-3), 0)


def test_the_page_mirrors_an_original_that_matches_mirrored() -> None:
    data = evidence()
    report = memorisation.report(data)
    pixels = np.asarray(pairs.page(data, report))[:, :, 0]
    sample = ((data.fake[report.pairs[0].sample, 0] + 1) * 127.5).round().byte().numpy()
    expected = np.asarray(Image.fromarray(sample).resize((pairs.IMAGE_SIDE, pairs.IMAGE_SIDE), Image.Resampling.NEAREST))
    windows = np.lib.stride_tricks.sliding_window_view(pixels[:400], expected.shape)
    candidates = np.argwhere((windows[:, :, ::24, ::24] == expected[::24, ::24]).all((2, 3)))
    positions = [(top, left) for top, left in candidates.tolist() if (windows[top, left] == expected).all()]
    assert len(positions) == 2, "the original is shown mirrored, like the sample"
    assert positions[0][0] == positions[1][0], "both are in one row"


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (2, 16), (4, 64)])
def test_all_image_types_have_a_report_and_a_page(channels: int, size: int) -> None:
    images = colours(80, size=size, channels=channels)
    data = FakeEvidence(images[:40], images[20:80], train=images[:40])
    report = memorisation.report(data)
    assert report.verdict == "copies"
    assert report.comparisons["in place"].near >= 20 / 60
    assert pairs.page(data, report).mode == "RGB"


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (FakeEvidence(torch.zeros(9, 2), torch.zeros(9, 2)), "points"),
        (FakeEvidence(colours(3), colours(9)), "at least 4 .* 3"),
        (FakeEvidence(colours(3).repeat(4, 1, 1, 1), colours(9)), "at least 4 .* 3"),
    ],
)
def test_points_and_too_few_training_images_are_rejected(invalid: FakeEvidence, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        memorisation.report(invalid)


def test_empty_samples_are_rejected() -> None:
    training = colours(9)
    with pytest.raises(LeafwingError, match="samples, and there are none"):
        judged(training[:0], training, training[:0])


# --- neighbours -----------------------------------------------------------------------------------------------------------


def test_nearest_neighbours_equal_a_brute_force_search() -> None:
    training, queries = colours(70), colours(20, seed=1)
    neighbours = nearest(sketches([queries]), training.split(9), 5, block=8)
    inside = slice(MAX_SHIFT, SIDE - MAX_SHIFT - 3, 4)
    a, b = (boxes(images)[:, :, inside, inside].flatten(1).double() for images in (queries, training))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    distances = torch.cdist(a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)).sort(1)
    assert neighbours["in place"].distances == pytest.approx(distances.values[:, :5].numpy(), abs=1e-3)
    assert np.array_equal(neighbours["in place"].indices, distances.indices[:, :5].numpy())
    assert (neighbours["moved"].distances <= neighbours["in place"].distances + 1e-6).all()


@pytest.mark.parametrize(("down", "right", "mirrored"), [(0, 0, False), (2, -1, False), (-2, 2, True)])
def test_shifted_images_match(down: int, right: int, mirrored: bool) -> None:
    training = colours(12)
    queries = shifted(training.flip(3) if mirrored else training, down, right)
    neighbours = nearest(sketches([3 * queries + 0.4]), [training], 2)
    assert neighbours["moved"].indices[:, 0].tolist() == list(range(12))
    assert neighbours["moved"].distances[:, 0] == pytest.approx(0, abs=2e-3), "contrast and brightness do not matter"
    assert (neighbours["moved"].mirrored == mirrored).all()
    assert (neighbours["in place"].distances[:, 0] < 0.1).all() == (not (down or right or mirrored))


def test_an_image_is_not_its_own_neighbour() -> None:
    images = colours(12)
    neighbours = nearest(sketches([images]), images.split(5), 11, torch.arange(12))
    for name in COMPARISONS:
        assert all(i not in row for i, row in enumerate(neighbours[name].indices.tolist()))


def test_flat_and_nan_images_match_nothing() -> None:
    invalid = torch.stack([torch.full((3, 32, 32), 0.3), torch.full((3, 32, 32), torch.nan)])
    neighbours = nearest(sketches([invalid]), [colours(12)], 3)
    assert neighbours["moved"].distances == pytest.approx(2**0.5, abs=1e-3)


def test_transparent_images_are_compared_on_white() -> None:
    clear = torch.cat([colours(2), torch.full((2, 1, 32, 32), -1.0)], 1)
    assert boxes(clear).numpy() == pytest.approx(1.0)


# --- statistics -----------------------------------------------------------------------------------------------------------


def test_closeness_is_the_nearest_distance_over_the_mean_of_the_next() -> None:
    assert copying.closeness(np.array([[0.1, 0.4, 0.6], [0.5, 0.5, 0.5]])).tolist() == pytest.approx([0.2, 1.0])


def test_the_tail_p_value_equals_simulated_ranks() -> None:
    # 3 samples and 2 new pictures in random order: all samples come before both new pictures in 1 of 10 orders.
    assert copying.tail_p_value(1, 3, 1, 2) == pytest.approx(1 / 10)
    assert copying.tail_p_value(0, 3, 1, 2) == pytest.approx(1)
    draws = np.random.default_rng(0).random((20_000, 50))
    before = (draws[:, :30] < np.sort(draws[:, 30:], axis=1)[:, 1:2]).sum(1)
    for count in (3, 8):
        assert copying.tail_p_value(count / 30, 30, 2, 20) == pytest.approx(float((before >= count).mean()), abs=0.01)


def test_the_overall_p_value_is_that_of_mann_and_whitney() -> None:
    from scipy.stats import mannwhitneyu

    random = np.random.default_rng(0)
    samples, new = random.normal(-0.3, 1, 80), random.normal(0, 1, 50)
    comparison = copying.compare(samples, new, 80, 1.0)
    oracle = mannwhitneyu(samples, new, alternative="less", method="asymptotic", use_continuity=False)
    assert comparison.nearer == pytest.approx(1 - oracle.statistic / (80 * 50))
    assert copying.overall_p_value(comparison.nearer, 80, 50) == pytest.approx(oracle.pvalue, rel=1e-6)


def test_near_duplicate_samples_are_weak_evidence() -> None:
    new = np.linspace(0.5, 1, 100)
    samples = np.concatenate([np.full(30, 0.1), np.linspace(0.5, 1, 70)])
    assert copying.compare(samples, new, 100, 1.0).verdict == "copies"
    assert copying.compare(samples, new, 3, 1.0).verdict == "none"


def test_the_detection_limit_grows_with_twins_and_falls_with_samples() -> None:
    many, twins = np.linspace(0.6, 1, 1_000), np.concatenate([np.full(100, 0.2), np.linspace(0.6, 1, 900)])
    assert copying.resolution(many, 1_000) == pytest.approx(0.008, abs=0.003)
    assert copying.resolution(twins, 1_000) > 3 * copying.resolution(many, 1_000)
    assert copying.resolution(many, 50) > 3 * copying.resolution(many, 1_000)
    assert copying.resolution(np.linspace(0.6, 1, 4), 2) == 1


def test_the_table_of_detection_limits_in_the_guide_is_right() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "memorisation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) ?% \| ([\d.]+) ?% \| ([\d.]+) ?% \|$", guide, re.MULTILINE)
    assert len(rows) == 5
    for new, *shares in rows:
        closeness = np.linspace(0.6, 1, int(new.replace(",", "")))
        for share, samples in zip(shares, (300, 1_000, 5_000), strict=True):
            assert copying.resolution(closeness, samples) == pytest.approx(float(share) / 100, rel=0.05, abs=6e-4)


def test_variety_counts_distinct_images() -> None:
    sketch = sketches([colours(40)]).colours
    assert copying.count_distinct(sketch, 1e-2) == (40, 0)
    assert copying.count_distinct(sketch[:1].expand(40, -1), 1e-2) == (1, 1)
    assert copying.count_distinct(sketch[:10].repeat(4, 1), 1e-2) == (10, 1)
    assert copying.count_distinct(sketches([torch.zeros(9, 3, 32, 32)]).colours, 1e-2) == (1, 1), (
        "flat images are duplicates of each other"
    )


def test_what_chance_gives() -> None:
    """By symmetry each of m references and a sample is as likely to be of any rank: rank / (m + 1) are below that of a reference."""
    random = np.random.default_rng(0)
    for m, near in ((40, 1 / 41), (199, 1 / 200), (1_999, 19 / 2_000)):
        references, samples = random.random(m), random.random(20_000)
        comparison = copying.compare(samples, references, 20_000, 1.3)
        assert comparison.near_expected == pytest.approx(near)
        assert comparison.expected == pytest.approx(near), "that of the tail test of 1%, as nothing is significant"
        assert comparison.threshold == np.sort(references)[max(1, m // 100) - 1]
        assert comparison.share == comparison.near == (samples < comparison.threshold).mean()
        assert comparison.near_low < comparison.near < comparison.near_high
        assert comparison.nearer == pytest.approx((samples[:, None] < references[:1_000]).mean(), abs=0.03)
        assert comparison.distance_ratio == 1.3
    same = np.arange(50.0)
    assert copying.compare(same, same, 50, 1.0).nearer == 0.5


@pytest.mark.parametrize(("rank", "n", "level"), [(1, 55, 0.003), (9, 200, 0.0005), (49, 200, 0.0005)])
def test_levels_of_significance(rank: int, n: int, level: float) -> None:
    """The fewest samples below the threshold that are significant; all others are farther than any reference."""
    m = 999
    references = np.linspace(0.5, 0.9, m)
    least = next(count for count in range(1, n) if copying.tail_p_value(count / n, n, rank, m) <= level)
    for count in (least - 1, least):
        below = np.full(count, references[rank - 1] - 1e-9)
        comparison = copying.compare(np.concatenate([below, np.full(n - count, 1.0)]), references, n, 1.0)
        assert bool(comparison.copied) is (count == least)
    expected = rank / (m + 1)
    assert comparison.copied == pytest.approx((count / n - expected) / (1 - expected))


@pytest.mark.parametrize(
    ("copied", "overall", "verdict"),
    [
        (0.0, False, "none"),
        (0.049, False, "suspicious"),
        (0.051, False, "copies"),
        (0.39, True, "suspicious"),
        (0.41, True, "copies"),
    ],
)
def test_a_verdict_depends_on_the_share_of_copies_and_on_the_test(copied: float, overall: bool, verdict: str) -> None:
    comparison = copying.compare(np.ones(9), np.ones(9), 9, 1.0)
    assert replace(comparison, copied=copied, is_overall_test=overall).verdict == verdict


def test_references_are_of_all_classes_also_if_images_are_stored_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first held-out images alone are of the first classes, beside which samples of other classes look like copies."""
    monkeypatch.setattr(memorisation, "MAX_IMAGES", 200)
    various, corners = colours(1_000, 1, channels=1), colours(3, 2, channels=1)
    weights = torch.rand(1_000, 2, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    alike = corners[0] + weights[:, 0] * (corners[1] - corners[0]) + weights[:, 1] * (corners[2] - corners[0])

    def both(start: int, stop: int) -> Tensor:
        return torch.cat([various[start:stop], alike[start:stop]])

    samples = both(900, 1_000)
    report = memorisation.report(FakeEvidence(samples, samples, train=both(0, 600), held=both(600, 900)))
    assert report.verdict == "none"
    assert report.references == 200
    assert report.duplicates < 2 * report.duplicates_real, "of a random part, too"


def test_no_chunk_is_read_after_the_first_images() -> None:
    chunks = iter([torch.zeros(3, 1), torch.ones(3, 1), torch.ones(3, 1)])
    assert torch.cat([*memorisation.first(chunks, 6)]).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert len([*chunks]) == 1
    assert [len(part) for part in memorisation.first(iter([torch.zeros(4, 1), torch.zeros(4, 1)]), 5)] == [4, 1]
