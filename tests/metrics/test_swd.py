"""Sliced Wasserstein distance: equal to the formulas of the published code; what each level detects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures
from scipy.ndimage import convolve
from scipy.stats import wasserstein_distance
from torch.nn.functional import avg_pool2d, interpolate

from leafwing.errors import LeafwingError
from leafwing.metrics import swd
from leafwing.metrics.swd import patches, pyramid, sliced_distance

pytestmark = pytest.mark.machine

LINE = np.array([1, 4, 6, 4, 1]) / 16
FILTER = (LINE[:, None] * LINE)[None, None]


def values(real: torch.Tensor, fake: torch.Tensor, seed: int = 0) -> dict[str, float]:
    return {measure.name: measure.value for measure in swd.measure(FakeEvidence(real, fake, seed=seed))}


def down(x: np.ndarray) -> np.ndarray:
    """As in the published code."""
    return convolve(x, FILTER, mode="mirror")[:, :, ::2, ::2]


def up(x: np.ndarray) -> np.ndarray:
    """As in the published code."""
    b, channels, height, width = x.shape
    apart = np.zeros((b, channels, 2 * height, 2 * width))
    apart[:, :, ::2, ::2] = x
    return convolve(apart, 4 * FILTER, mode="mirror")


def test_the_pyramid_equals_that_of_the_published_code() -> None:
    images = pictures(n=2)
    x = images.double().numpy()
    half, quarter = down(x), down(down(x))
    oracle = [x - up(half), half - up(quarter), quarter]
    levels = pyramid(images)
    assert [tuple(level.shape) for level in levels] == [(2, 3, 64, 64), (2, 3, 32, 32), (2, 3, 16, 16)]
    for level, expected in zip(levels, oracle, strict=True):
        assert np.abs(level.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("height", "width", "sides"), [(63, 90, [63, 32, 16]), (31, 40, [31]), (33, 33, [33, 17]), (8, 9, [8])]
)
def test_other_sizes_are_halved_and_rounded_up(height: int, width: int, sides: list[int]) -> None:
    levels = pyramid(pictures(n=1, height=height, width=width))
    assert [min(level.shape[-2:]) for level in levels] == sides


def test_patches_are_complete_and_at_random_positions() -> None:
    """Pixels are their own index, and twice that in the second channel; the image is so small that it has one level."""
    number = torch.arange(20 * 30.0).view(1, 1, 20, 30)
    result = patches(iter([torch.cat([number, 2 * number], dim=1)]), 0, 500, seed=0)
    assert result.shape == (14 * 24, 2, 49)  # one per position
    corner = result[:, 0, :1]
    inside = (30 * np.arange(7)[:, None] + np.arange(7)).reshape(1, 49)
    assert np.array_equal(result[:, 0], corner + inside)
    assert np.array_equal(result[:, 1], 2 * result[:, 0])
    row, column = np.divmod(corner, 30)
    assert (row.min(), row.max(), column.min(), column.max()) == (0, 13, 0, 23)


def test_the_distance_equals_scipys_over_the_same_directions() -> None:
    random = np.random.default_rng(0)
    real, fake = random.standard_normal((150, 2, 49)), random.exponential(2, (150, 2, 49))
    axes = np.random.default_rng(5).standard_normal((4 * 128, 98)).astype(np.float32)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)

    def normalised(x: np.ndarray) -> np.ndarray:
        return ((x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)).reshape(150, -1)

    a, b = normalised(real) @ axes.T, normalised(fake) @ axes.T
    oracle = 1_000 * np.mean([wasserstein_distance(a[:, i], b[:, i]) for i in range(512)])
    distance = sliced_distance(real.astype(np.float32), fake.astype(np.float32), seed=5)
    assert distance == pytest.approx(oracle, rel=1e-4)
    assert distance > 20


def test_equal_images_have_distance_0_and_levels_are_named_by_their_shorter_side() -> None:
    images = pictures(n=10, height=64, width=80)
    distances = values(images, images)
    assert distances == {"swd_64": 0, "swd_32": 0, "swd_16": 0, "swd": 0}


def test_swd_is_the_mean_of_the_levels() -> None:
    distances = values(pictures(0, 10), torch.rand(12, 3, 64, 64) * 2 - 1)
    assert distances["swd"] == pytest.approx((distances["swd_64"] + distances["swd_32"] + distances["swd_16"]) / 3)


def test_blur_shows_at_fine_levels_and_tint_at_the_coarse_one() -> None:
    """Relative to the distance of two draws of one distribution. Five seeds: blurred 3.5 to 3.8 at 64 px and 1.0 at 16 px; each
    image in another tint 1.0 at 64 px and 2.8 to 3.9 at 16 px."""
    random = torch.Generator().manual_seed(0)
    real, fake = (0.7 * pictures(s, 60) + 0.1 * torch.rand(60, 3, 64, 64, generator=random) for s in (1, 2))
    same = values(real, fake)
    blurred = values(real, interpolate(avg_pool2d(fake, 2), scale_factor=2))
    assert blurred["swd_64"] > 2.5 * same["swd_64"]
    assert blurred["swd_16"] < 1.5 * same["swd_16"]
    tinted = values(real, fake + 0.4 * torch.randn(60, 3, 1, 1, generator=random))
    assert tinted["swd_64"] < 1.5 * same["swd_64"]
    assert tinted["swd_16"] > 2 * same["swd_16"]


def test_it_ignores_brightness_and_contrast() -> None:
    """Each side is normalised separately, as in the published code."""
    images = pictures(n=10)
    assert max(values(images, 0.5 * images + 0.3).values()) < 0.01


def test_many_images_give_fewer_patches_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swd, "MAX_PATCHES", 200)
    counted: list[int] = []

    def count(real: np.ndarray, fake: np.ndarray, seed: int, report: object) -> float:
        counted.extend([len(real), len(fake)])
        return 0.0

    monkeypatch.setattr(swd, "sliced_distance", count)
    values(pictures(0, 30, height=16, width=16), pictures(1, 20, height=16, width=16))
    assert counted == [30 * 6, 20 * 6]


def test_points_are_rejected_and_a_diverged_generator_gives_nan() -> None:
    with pytest.raises(LeafwingError, match="7x7"):
        values(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(LeafwingError, match="7x7"):
        values(pictures(height=6), pictures(height=6))
    broken = pictures(n=4)
    broken[2] = torch.nan
    assert np.isnan(values(pictures(n=4), broken)["swd"])


def test_flat_images_do_not_divide_by_zero() -> None:
    flat = torch.zeros(4, 3, 16, 16)
    assert values(flat, flat) == {"swd_16": 0, "swd": 0}


def test_every_image_gives_its_own_patches() -> None:
    """Also of several in a chunk: the images are constant, each with another value."""
    values = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 16, 16)
    result = patches(iter(values.split(3)), 0, 6, seed=0)
    assert result.shape == (30, 1, 49)
    assert np.array_equal(result[:, 0, 0], np.repeat(np.arange(5), 6))


def test_a_level_gives_128_patches_per_image_or_one_per_position_and_fewer_of_very_many_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[tuple[int, ...]] = []

    def distance(real: np.ndarray, fake: np.ndarray, *more: object) -> float:
        counted.extend((real.shape, fake.shape))
        return 0.0

    monkeypatch.setattr(swd, "sliced_distance", distance)
    values(pictures(n=2), pictures(1, n=3))
    assert counted == [(n * count, 3, 49) for count in (128, 128, 100) for n in (2, 3)]
    many = FakeEvidence(pictures(n=2, height=24, width=24), pictures(n=2, height=24, width=24))
    many.n_fake = 2048
    counted.clear()
    swd.measure(many)
    assert counted == [(2 * 64, 3, 49)] * 2, "131,072 in total"
