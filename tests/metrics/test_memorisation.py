"""Copies of training pictures are found, and new pictures are not taken for copies."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from evidence import FakeEvidence
from PIL import Image
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.metrics import copying, memorisation, metric, pairs
from leafwing.metrics.neighbours import REACH, SIDE, WAYS, boxes, nearest, sketches
from memorisation import copies, judged, pictures, planted

VERDICTS = list(copying.VERDICTS)


@cache
def digits() -> Tensor:
    """The built-in digits (1797, 1, 32, 32), in an order of their own."""
    return pictures("digits", size=32)[torch.randperm(1_797, generator=torch.Generator().manual_seed(7))]


def colours(n: int, seed: int = 0, size: int = 32, channels: int = 3) -> Tensor:
    """Smooth random pictures, no two of them alike."""
    coarse = torch.randn(n, channels, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)


def moved(shown: Tensor, down: int, right: int) -> Tensor:
    """Pictures moved, with their border repeated."""
    wide = torch.nn.functional.pad(shown, (4, 4, 4, 4), mode="replicate")
    height, width = shown.shape[2:]
    return wide[:, :, 4 - down : 4 - down + height, 4 - right : 4 - right + width]


# --- planted copiers: bench/memorisation.py has more seeds and more noise -------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.05, 0.1])
@pytest.mark.parametrize(("share", "allowed"), [(0.01, VERDICTS[:2]), (0.1, VERDICTS[:1]), (0.5, VERDICTS[:1])])
def test_a_planted_copier_is_found(share: float, allowed: list[str], noise: float, seed: int) -> None:
    # In 20 seeds (docs/guide/memorisation.md) none of these was missed; the noisier copies are.
    found = planted(digits(), 1_200, 0, share, noise, seed)
    assert found.verdict in allowed
    assert found.copied == pytest.approx(share, abs=0.04)
    assert found.way == "moved"
    assert found.verdict in found.words.lower()


@pytest.mark.parametrize("held", [0, 300])
def test_new_pictures_are_no_copies(held: int) -> None:
    # A perfect generator is called suspicious for 1 or 2 in 100 seeds (docs/guide/memorisation.md).
    found = [planted(digits(), 1_000, held, 0, 0, seed) for seed in range(5)]
    assert [one.verdict for one in found].count("none") >= 4
    assert "copies" not in [one.verdict for one in found]
    quiet = next(one for one in found if one.verdict == "none")
    assert (quiet.copied, quiet.held, quiet.new) == (0, held, 1_000 + held)
    assert "Detection limit" in quiet.words


def test_held_out_pictures_drawn_again_are_no_copies() -> None:
    shown = digits()
    assert judged(shown[1_200:1_600], shown[:1_200], shown[1_200:1_600]).verdict == "none"


def test_copies_of_very_few_pictures_are_found_among_themselves() -> None:
    known = colours(16)
    random = torch.Generator().manual_seed(0)
    found = judged(copies(known[torch.randint(0, 16, (300,), generator=random)], 0.3, random), known, known[:0])
    assert found.verdict == "copies"
    assert found.copied > 0.9
    assert found.mirrored == pytest.approx(0.5, abs=0.1)
    # Among so few, some 5 of 100 perfect generators would be called copiers (docs/guide/memorisation.md).
    new = [judged(colours(300, seed=seed), colours(16, seed=100 + seed), known[:0]) for seed in range(1, 7)]
    assert [one.verdict for one in new].count("none") >= 5


def test_copies_in_other_colours_show_in_their_edges() -> None:
    known = colours(300)
    recoloured = torch.cat([known[:40, [1, 2, 0]], colours(260, seed=1)])
    found = judged(recoloured, known, known[:0])
    assert (found.verdict, found.way) == ("copies", "edges")
    assert found.copied == pytest.approx(40 / 300, abs=0.04)
    assert found.ways["moved"].verdict == "none"
    assert "edges" in found.words
    mirrored = judged(recoloured.flip(3), known, known[:0])
    assert (mirrored.verdict, mirrored.way) == ("copies", "edges")
    assert all(pair.mirrored for pair in mirrored.pairs[:10])


def test_copies_that_are_very_noisy_show_on_the_whole() -> None:
    known = colours(24)
    shown = known.repeat(20, 1, 1, 1)
    noisy = shown + 3 * torch.randn(shown.shape, generator=torch.Generator().manual_seed(0))
    seen = judged(noisy, known, known[:0]).ways["in place"]
    assert seen.nearer > 0.9
    assert seen.verdict == "copies"


def test_pale_and_equal_samples_are_not_copies_but_duplicates() -> None:
    """What a GAN draws in its first minutes: the mean picture, with little contrast."""
    shown = digits()[:600]
    pale = 0.3 * shown.mean(0, keepdim=True) + 0.01 * torch.randn(400, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = judged(pale, shown, shown[:0])
    assert found.verdict == "none"
    assert found.different < 3
    assert found.duplicates > 0.99 > found.duplicates_real
    assert "near-duplicates" in found.words


def test_what_is_copied_most_is_named_by_its_place() -> None:
    shown = digits()
    repeated = torch.cat([shown[:3], shown[:500]])  # places 0 to 2 come again as 3 to 5
    samples = torch.cat(
        [copies(shown[[400]].repeat(60, 1, 1, 1), 0.1, torch.Generator().manual_seed(0)), shown[1_000:1_500]]
    )
    found = judged(samples, repeated, shown[:0])
    assert found.training == 500, "equal pictures count once"
    assert found.verdict in VERDICTS[:2]
    assert found.most_copied[0] == (403, pytest.approx(60 / 560, abs=0.01))
    assert found.pairs[0].training[0] == 403
    assert found.pairs[0].sample < 60
    assert [pair.training[0] for pair in found.pairs].count(403) == memorisation.OFTEN


def test_a_held_out_picture_that_was_trained_on_is_not_new() -> None:
    shown = digits()
    assert judged(shown[500:700], shown[:400], shown[300:450]).new == 400 + 50


# --- the report and the page ----------------------------------------------------------------------------------------------


def evidence() -> FakeEvidence:
    """40 training pictures; 30 of 60 samples are their mirror images, the others are new."""
    shown = colours(90)
    return FakeEvidence(shown[:40], torch.cat([shown[:30].flip(3), shown[60:]]), train=shown[:40], held=shown[40:60])


def test_the_report_is_plain_json_and_its_numbers_are_the_metrics() -> None:
    found = memorisation.report(evidence())
    assert (found.verdict, found.training, found.held, found.samples) == ("copies", 40, 20, 60)
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["verdict"] == "copies"
    assert len(plain["pairs"]) == memorisation.SHOWN
    measures = {one.name: one for one in metric("memorisation")(evidence())}
    assert set(measures) == {"copied", "copied_near", "nearer", "distance_ratio", "duplicates"}
    assert measures["copied"].value == found.copied == pytest.approx(0.5, abs=0.05)
    near = measures["copied_near"]
    assert near.low is not None
    assert near.high is not None
    assert near.low < near.value < near.high


def test_a_pair_names_the_sample_its_original_and_how_near_they_are() -> None:
    found = memorisation.report(evidence())
    for pair in found.pairs:
        assert pair.sample == pair.training[0] < 30, "sample i is picture i, mirrored"
        assert pair.mirrored
        assert pair.distances[0] == pytest.approx(0, abs=2e-3)
        assert list(pair.distances) == sorted(pair.distances)
        assert (pair.ratio, pair.percentile) == (pytest.approx(0, abs=2e-3), 0)


def test_the_page_shows_a_sample_beside_its_original_turned_the_same_way() -> None:
    shown = evidence()
    found = memorisation.report(shown)
    pixels = np.asarray(pairs.page(shown, found))[:, :, 0]
    sample = ((shown.fake[found.pairs[0].sample, 0] + 1) * 127.5).round().byte().numpy()
    wanted = np.asarray(Image.fromarray(sample).resize((pairs.IMAGE_SIDE, pairs.IMAGE_SIDE), Image.Resampling.NEAREST))
    windows = np.lib.stride_tricks.sliding_window_view(pixels[:400], wanted.shape)
    likely = np.argwhere((windows[:, :, ::24, ::24] == wanted[::24, ::24]).all((2, 3)))
    places = [(top, left) for top, left in likely.tolist() if (windows[top, left] == wanted).all()]
    assert len(places) == 2, "the mirrored original is shown as the sample is"
    assert places[0][0] == places[1][0], "both stand in one row"


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (2, 16), (4, 64)])
def test_every_kind_of_picture_has_a_report_and_a_page(channels: int, size: int) -> None:
    shown = colours(80, size=size, channels=channels)
    made = FakeEvidence(shown[:40], shown[20:80], train=shown[:40])
    found = memorisation.report(made)
    assert found.verdict == "copies"
    assert found.ways["in place"].near >= 20 / 60
    assert pairs.page(made, found).mode == "RGB"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (FakeEvidence(torch.zeros(9, 2), torch.zeros(9, 2)), "points"),
        (FakeEvidence(colours(3), colours(9)), "at least 4 .*training pictures.* 3"),
        (FakeEvidence(colours(3).repeat(4, 1, 1, 1), colours(9)), "at least 4 .*training pictures.* 3"),
    ],
)
def test_what_cannot_be_judged_is_refused(made: FakeEvidence, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        memorisation.report(made)


def test_no_samples_are_refused() -> None:
    known = colours(9)
    with pytest.raises(LeafwingError, match="samples, and there are none"):
        judged(known[:0], known, known[:0])


# --- neighbours -----------------------------------------------------------------------------------------------------------


def test_the_nearest_are_those_of_a_plain_search() -> None:
    known, queries = colours(70), colours(20, seed=1)
    found = nearest(sketches([queries]), known.split(9), 5, block=8)
    inside = slice(REACH, SIDE - REACH - 3, 4)
    a, b = (boxes(shown)[:, :, inside, inside].flatten(1).double() for shown in (queries, known))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    distances = torch.cdist(a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)).sort(1)
    assert found["in place"].distances == pytest.approx(distances.values[:, :5].numpy(), abs=1e-3)
    assert np.array_equal(found["in place"].indices, distances.indices[:, :5].numpy())
    assert (found["moved"].distances <= found["in place"].distances + 1e-6).all()


@pytest.mark.parametrize(("down", "right", "mirrored"), [(0, 0, False), (2, -1, False), (-2, 2, True)])
def test_a_picture_is_found_where_it_was_moved(down: int, right: int, mirrored: bool) -> None:
    known = colours(12)
    shown = moved(known.flip(3) if mirrored else known, down, right)
    found = nearest(sketches([3 * shown + 0.4]), [known], 2)
    assert found["moved"].indices[:, 0].tolist() == list(range(12))
    assert found["moved"].distances[:, 0] == pytest.approx(0, abs=2e-3), "neither contrast nor brightness counts"
    assert (found["moved"].mirrored == mirrored).all()
    assert (found["in place"].distances[:, 0] < 0.1).all() == (not (down or right or mirrored))


def test_a_picture_does_not_find_itself() -> None:
    known = colours(12)
    found = nearest(sketches([known]), known.split(5), 11, torch.arange(12))
    for way in WAYS:
        assert all(i not in row for i, row in enumerate(found[way].indices.tolist()))


def test_flat_and_broken_pictures_are_like_nothing() -> None:
    odd = torch.stack([torch.full((3, 32, 32), 0.3), torch.full((3, 32, 32), torch.nan)])
    found = nearest(sketches([odd]), [colours(12)], 3)
    assert found["moved"].distances == pytest.approx(2**0.5, abs=1e-3)


def test_transparent_pictures_are_compared_on_white() -> None:
    clear = torch.cat([colours(2), torch.full((2, 1, 32, 32), -1.0)], 1)
    assert boxes(clear).numpy() == pytest.approx(1.0)


# --- statistics -----------------------------------------------------------------------------------------------------------


def test_closeness_is_the_nearest_over_the_mean_of_the_next() -> None:
    assert copying.closeness(np.array([[0.1, 0.4, 0.6], [0.5, 0.5, 0.5]])).tolist() == pytest.approx([0.2, 1.0])


def test_the_chance_of_a_count_is_that_of_drawing_ranks() -> None:
    # 3 samples and 2 new pictures in random order: all samples come before both new pictures in 1 of 10 orders.
    assert copying.chance(1, 3, 1, 2) == pytest.approx(1 / 10)
    assert copying.chance(0, 3, 1, 2) == pytest.approx(1)
    drawn = np.random.default_rng(0).random((20_000, 50))
    before = (drawn[:, :30] < np.sort(drawn[:, 30:], axis=1)[:, 1:2]).sum(1)
    for count in (3, 8):
        assert copying.chance(count / 30, 30, 2, 20) == pytest.approx(float((before >= count).mean()), abs=0.01)


def test_the_chance_on_the_whole_is_that_of_mann_and_whitney() -> None:
    from scipy.stats import mannwhitneyu

    random = np.random.default_rng(0)
    samples, new = random.normal(-0.3, 1, 80), random.normal(0, 1, 50)
    seen = copying.compare(samples, new, 80, 1.0)
    oracle = mannwhitneyu(samples, new, alternative="less", method="asymptotic", use_continuity=False)
    assert seen.nearer == pytest.approx(1 - oracle.statistic / (80 * 50))
    assert copying.chance_whole(seen.nearer, 80, 50) == pytest.approx(oracle.pvalue, rel=1e-6)


def test_samples_that_are_worth_few_prove_little() -> None:
    new = np.linspace(0.5, 1, 100)
    samples = np.concatenate([np.full(30, 0.1), np.linspace(0.5, 1, 70)])
    assert copying.compare(samples, new, 100, 1.0).verdict == "copies"
    assert copying.compare(samples, new, 3, 1.0).verdict == "none"


def test_what_could_not_have_been_seen_grows_with_twins_and_falls_with_samples() -> None:
    many, twins = np.linspace(0.6, 1, 1_000), np.concatenate([np.full(100, 0.2), np.linspace(0.6, 1, 900)])
    assert copying.resolution(many, 1_000) == pytest.approx(0.008, abs=0.003)
    assert copying.resolution(twins, 1_000) > 3 * copying.resolution(many, 1_000)
    assert copying.resolution(many, 50) > 3 * copying.resolution(many, 1_000)
    assert copying.resolution(np.linspace(0.6, 1, 4), 2) == 1


def test_the_guides_table_of_what_cannot_be_seen_is_right() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "memorisation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", guide, re.MULTILINE)
    assert len(rows) == 5
    for new, *shares in rows:
        plain = np.linspace(0.6, 1, int(new.replace(",", "")))
        for share, samples in zip(shares, (300, 1_000, 5_000), strict=True):
            assert copying.resolution(plain, samples) == pytest.approx(float(share) / 100, rel=0.05, abs=6e-4)


def test_variety_counts_different_pictures() -> None:
    shown = sketches([colours(40)]).colours
    assert copying.variety(shown, 1e-2) == (40, 0)
    assert copying.variety(shown[:1].expand(40, -1), 1e-2) == (1, 1)
    assert copying.variety(shown[:10].repeat(4, 1), 1e-2) == (10, 1)
    assert copying.variety(sketches([torch.zeros(9, 3, 32, 32)]).colours, 1e-2) == (1, 1), "grey pictures are alike"
