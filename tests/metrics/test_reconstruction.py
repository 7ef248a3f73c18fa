"""Samples against their targets: known values, the formulas of a library, and what each value responds to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from leafwing.metrics import reconstruction
from leafwing.metrics.evidence import Measure
from leafwing.metrics.reconstruction import gradients, structural_similarity, to_unit

pytestmark = pytest.mark.machine


def measures(real: Tensor, fake: Tensor) -> dict[str, Measure]:
    return {measure.name: measure for measure in reconstruction.measure(FakeEvidence(real, fake))}


def test_a_constant_error_has_known_values() -> None:
    """Off by 0.2 in [-1, 1], which is 0.1 in [0, 1]: 20 dB."""
    real = torch.zeros(5, 3, 12, 16)
    values = measures(real, real + 0.2)
    assert values["psnr"].value == pytest.approx(20, abs=1e-5)
    assert values["l1"].value == pytest.approx(0.2, abs=1e-6)
    assert values["feature_distance"].value == pytest.approx(math.sqrt(3 * 12 * 16 * 0.04), rel=1e-6)
    assert values["ssim"].value == pytest.approx((2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4), abs=1e-6), "brightness alone"
    assert math.isnan(values["edge_energy"].value), "flat targets have no edges"
    assert values["psnr"].low == pytest.approx(values["psnr"].value)


def test_equal_images_have_the_best_values() -> None:
    images = pictures(0, 4, height=24, width=20)
    values = measures(images, images)
    assert {name: round(measure.value, 9) for name, measure in values.items()} == {
        "psnr": 60, "psnr_y": 60, "ssim": 1, "l1": 0, "edge_energy": 1, "feature_distance": 0,
    }  # fmt: skip
    assert {name: measure.better for name, measure in values.items()} == {
        "psnr": "higher", "psnr_y": "higher", "ssim": "higher", "l1": "lower", "edge_energy": "", "feature_distance": "lower",
    }  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_equal_those_of_a_library(channels: int) -> None:
    real = to_unit(pictures(0, 6, channels, 24, 31))
    fake = to_unit(0.6 * pictures(0, 6, channels, 24, 31) + 0.4 * pictures(1, 6, channels, 24, 31))
    values = measures(2 * real - 1, 2 * fake - 1)
    oracle = peak_signal_noise_ratio(fake, real, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert values["psnr"].value == pytest.approx(float(oracle.mean()), rel=1e-5)
    ours = structural_similarity(fake, real).flatten(1).mean(1)
    _, maps = structural_similarity_index_measure(fake, real, data_range=1.0, reduction="none", return_full_image=True)
    inside = maps[..., 5:-5, 5:-5]  # the library mirrors images at their borders
    assert torch.allclose(structural_similarity(fake, real), inside.double(), atol=1e-6)
    assert values["ssim"].value == pytest.approx(float(ours.mean()), abs=1e-5)


def test_psnr_y_is_that_of_the_luma_at_16_to_235() -> None:
    """One image in RGB, by the formula; black and white differ by 219 of 255, also in grey."""
    real, fake = pictures(0, 1, 3, 20, 20), pictures(1, 1, 3, 20, 20)
    red, green, blue = (((fake - real) / 2)[0, channel, 4:-4, 4:-4].double().numpy() for channel in range(3))
    error = np.square(65.481 * red + 128.553 * green + 24.966 * blue).mean()
    assert measures(real, fake)["psnr_y"].value == pytest.approx(10 * np.log10(255**2 / error), rel=1e-6)
    black, white = -torch.ones(1, 1, 12, 12), torch.ones(1, 1, 12, 12)
    for channels in (1, 3):
        value = measures(black.repeat(1, channels, 1, 1), white.repeat(1, channels, 1, 1))["psnr_y"].value
        assert value == pytest.approx(20 * np.log10(255 / 219))


@pytest.mark.parametrize(("scale", "border"), [(1, 4), (2, 2), (4, 4), (8, 8)])
def test_psnr_y_leaves_out_a_border_of_the_factor_of_enlargement(scale: int, border: int) -> None:
    real = pictures(0, 2, 3, 24, 20)
    for depth, value in ((border, 60.0), (border + 1, 59.0)):
        fake = 1 - real
        fake[:, :, depth:-depth, depth:-depth] = real[:, :, depth:-depth, depth:-depth]
        evidence = FakeEvidence(real, fake, scale=scale)
        (luma,) = [measure for measure in reconstruction.measure(evidence) if measure.name == "psnr_y"]
        assert luma.value == 60 if value == 60 else luma.value < value
    assert math.isnan(measures(pictures(0, 2, height=8, width=30), pictures(1, 2, height=8, width=30))["psnr_y"].value)


def test_any_images_can_be_measured() -> None:
    """Enlargements by a filter, for example: the same values as those of samples."""
    real, fake = pictures(0, 9, height=16, width=16), pictures(1, 9, height=16, width=16)
    rows = reconstruction.measure_pairs(zip(fake.split(4), real.split(4), strict=True))
    assert {row.name: row.value for row in rows} == {
        name: measure.value for name, measure in measures(real, fake).items() if name != "feature_distance"
    }


def test_images_smaller_than_the_window_have_no_ssim() -> None:
    values = measures(pictures(0, 3, height=10, width=16), pictures(1, 3, height=10, width=16))
    assert math.isnan(values["ssim"].value)
    assert values["ssim"].low is None
    assert math.isfinite(values["psnr"].value)


def test_edge_energy_is_the_ratio_of_gradients() -> None:
    ramp = torch.linspace(-1, 1, 9).expand(1, 1, 9, 9)
    assert torch.allclose(gradients(ramp), torch.full((1, 1, 8, 8), 0.25))
    assert torch.allclose(gradients(ramp + 2 * ramp.mT), torch.full((1, 1, 8, 8), 0.25 * math.sqrt(5)))
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert measures(images, images / 2)["edge_energy"].value == pytest.approx(0.5, rel=1e-6)
    blurred = measures(images, interpolate(avg_pool2d(images, 2), scale_factor=2))["edge_energy"]
    assert blurred.value < 0.6
    assert blurred.low is not None
    assert blurred.high is not None
    assert blurred.low < blurred.value < blurred.high


def test_the_interval_of_a_ratio_holds_over_draws() -> None:
    """95% of 400 draws, with four standard deviations of 1.1% on either side."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        below = random.uniform(1, 3, 200)
        above = 0.7 * below + random.normal(0, 0.3, 200)
        measure = reconstruction.ratio("edge_energy", above, below)
        inside += measure.low <= 0.7 <= measure.high
    assert 0.906 < inside / 400 < 0.994


def test_transparent_images_are_composited_onto_white() -> None:
    """Colours behind full transparency do not count."""
    real, fake = pictures(0, 3, 4, 16, 16), pictures(0, 3, 4, 16, 16)
    real[:, 3], fake[:, 3] = -1, -1
    fake[:, :3] = 0
    values = measures(real, fake)
    assert (values["psnr"].value, values["l1"].value) == (60, 0)


def test_samples_are_compared_with_their_own_targets() -> None:
    """There are fewer targets than samples, so they are repeated in order."""
    real = pictures(0, 10, height=16, width=16)
    repeated = torch.cat([real, real[:4]])
    assert measures(real, repeated)["l1"].value == 0
    assert measures(real, repeated)["feature_distance"].value == 0
    assert measures(real, repeated.flip(0))["l1"].value > 0.1
