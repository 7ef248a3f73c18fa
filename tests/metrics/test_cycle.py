"""There and back: known values."""

from __future__ import annotations

import math

import pytest
import torch
from evidence import FakeEvidence, pictures

from leafwing.metrics import cycle


def test_a_constant_error_has_known_values() -> None:
    source = torch.zeros(9, 3, 8, 8)
    l1, psnr = cycle.measure(FakeEvidence(source, source, source=source, again=source + 0.2))
    assert (l1.name, l1.better, psnr.name, psnr.better) == ("cycle_l1", "lower", "cycle_psnr", "higher")
    assert l1.value == pytest.approx(0.2)
    assert psnr.value == pytest.approx(20)


def test_the_original_is_the_best_and_diverged_samples_have_no_value() -> None:
    images = pictures(0, 9, height=16, width=16)
    l1, psnr = cycle.measure(FakeEvidence(images, images, source=images, again=images))
    assert (l1.value, psnr.value) == (0, 60)
    assert all(
        math.isnan(one.value) for one in cycle.measure(FakeEvidence(images, images, source=images, again=images * math.nan))
    )
