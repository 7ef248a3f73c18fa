"""Schedules: start, end, and a point in between that is computed by hand."""

from __future__ import annotations

import pytest

from leafwing.game import Clock
from leafwing.parts.schedules import cosine, decay, linear, linear_at_the_end, step


@pytest.mark.parametrize(("images", "value"), [(0, 2.0), (500, 1.25), (1000, 0.5), (3000, 0.5)])
def test_cosine_goes_from_start_to_end_and_stays(images: int, value: float) -> None:
    assert cosine(2.0, 0.5)(Clock(images, 1000)) == pytest.approx(value)


def test_cosine_is_flat_at_both_ends() -> None:
    rate = cosine(1.0, 0.0)
    assert 1 - rate(Clock(10, 1000)) < 3e-4
    assert rate(Clock(990, 1000)) < 3e-4
    assert rate(Clock(250, 1000)) == pytest.approx((1 + 0.5**0.5) / 2)


@pytest.mark.parametrize(("images", "value"), [(0, 0.5), (100, 0.55), (400, 0.7), (9999, 0.7)])
def test_linear_reaches_its_end_and_stays(images: int, value: float) -> None:
    assert linear(0.5, 0.7, images=400)(Clock(images)) == pytest.approx(value)


@pytest.mark.parametrize(("clock", "value"), [(Clock(0, 100), 2.0), (Clock(74, 100), 2.0), (Clock(75, 100), 1.0)])
def test_a_step_is_at_its_share_of_training(clock: Clock, value: float) -> None:
    assert step(2.0, 1.0, 0.75)(clock) == value


def test_a_step_is_not_undone_when_training_is_extended() -> None:
    assert step(2.0, 1.0, 0.75)(Clock(100, 1000, planned=100)) == 1.0


@pytest.mark.parametrize(("images", "value"), [(0, 8.0), (100, 4.0), (200, 2.0), (50, 8 / 2**0.5)])
def test_decay_divides_by_its_factor_at_every_interval(images: int, value: float) -> None:
    assert decay(8.0, 2.0, images=100)(Clock(images)) == pytest.approx(value)


def test_a_rate_divided_by_1_000004_each_update_falls_as_in_the_first_papers_code() -> None:
    rate = decay(0.1, 1.000004, images=100)
    by_hand = 0.1
    for _ in range(1000):
        by_hand /= 1.000004
    assert rate(Clock(100 * 1000)) == pytest.approx(by_hand, rel=1e-9)


def test_constant_then_linear_to_zero() -> None:
    value = linear_at_the_end(2.0)
    assert [value(Clock(images, 100)) for images in (0, 30, 50, 75, 100)] == pytest.approx([2, 2, 2, 1, 0])
    late = linear_at_the_end(1.0, 0.75)
    assert [late(Clock(images, 100)) for images in (50, 75, 90)] == pytest.approx([1, 1, 0.4])
    assert linear_at_the_end(3.0, 1)(Clock(100, 100)) == 3
