from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from leafwing.augment_option import DIFF
from leafwing.engine.share import SharedDraws
from leafwing.parts import augment

ONE, ZERO = torch.ones(()), torch.zeros(())


def images(n: int = 6, channels: int = 3, height: int = 8, width: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


def all_changes() -> list[Callable[[Tensor], Tensor]]:
    return [*augment.DIFF.values(), lambda x: augment.transform_colours(augment.move(x, ONE), ONE)]


def places(*rows: list[float]) -> Tensor:
    return torch.tensor([[*rows]], dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("change", all_changes())
def test_changes_keep_shape_and_transparency_has_no_colour(change: Callable[[Tensor], Tensor], channels: int) -> None:
    x = images(channels=channels, height=8, width=12)
    torch.manual_seed(0)
    y = change(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert not torch.equal(x, y)
    if channels in (2, 4) and change is augment.DIFF["color"]:
        assert torch.equal(x[:, -1], y[:, -1])


@pytest.mark.parametrize("change", all_changes())
def test_changes_are_differentiable_twice(change: Callable[[Tensor], Tensor]) -> None:
    x = images(2, 3, 4, 4, torch.float64).requires_grad_()

    def repeated(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return change(x).square()  # with a second derivative that is not 0

    assert torch.autograd.gradcheck(repeated, (x,))
    assert torch.autograd.gradgradcheck(repeated, (x,))


@pytest.mark.parametrize("change", all_changes())
def test_a_part_of_a_batch_is_changed_like_the_whole(change: Callable[[Tensor], Tensor]) -> None:
    x = images(6)
    torch.manual_seed(4)
    draws = SharedDraws(6, slice(0, 2))
    parts = []
    for start in (0, 2, 4):
        rows = slice(start, start + 2)
        draws.rewind(rows)
        with draws:
            parts.append(change(x[rows]))
    torch.manual_seed(4)
    whole = SharedDraws(6, slice(0, 6))
    with whole:
        assert torch.allclose(torch.cat(parts), change(x), atol=1e-6)


def test_each_image_has_its_own_change() -> None:
    x = images(1, height=16, width=16).expand(50, -1, -1, -1)
    for change in all_changes():
        torch.manual_seed(0)
        assert len({tuple(row.flatten().tolist()) for row in change(x)}) > 20


def test_ada_changes_the_share_p_of_images() -> None:
    x = images(1).expand(2000, -1, -1, -1)
    torch.manual_seed(0)
    assert torch.equal(augment.transform_colours(augment.move(x, ZERO), ZERO), x)
    torch.manual_seed(0)
    changed = augment.gate(x, torch.tensor(0.3)).float().mean()
    assert abs(float(changed) - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5


def test_a_translation_moves_pixels_and_fills_with_zero() -> None:
    x = images(200, 1, 16, 16).abs() + 1
    torch.manual_seed(0)
    y = augment.translate(x)
    shifts = set()
    for before, after in zip(x[:, 0], y[:, 0], strict=True):
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                moved = torch.zeros_like(before)
                moved[max(dy, 0) : 16 + min(dy, 0), max(dx, 0) : 16 + min(dx, 0)] = before[
                    max(-dy, 0) : 16 + min(-dy, 0), max(-dx, 0) : 16 + min(-dx, 0)
                ]
                if torch.equal(moved, after):
                    shifts.add((dy, dx))
    assert shifts == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}, "an eighth of 16, in both directions"


def test_a_cutout_is_half_of_each_side() -> None:
    torch.manual_seed(0)
    holes = (augment.cut_out(torch.ones(500, 1, 16, 16)) == 0).float().mean((1, 2, 3))
    assert holes.max() == 0.25
    assert holes.min() < 0.1, "at the border a part of it is outside"


def test_colours_of_diffaugment_are_within_their_ranges() -> None:
    torch.manual_seed(0)
    grey = torch.zeros(4000, 3, 2, 2)
    brightness = augment.change_colours(grey).mean((1, 2, 3))
    assert -0.5 <= brightness.min() < -0.45
    assert 0.45 < brightness.max() <= 0.5
    red = torch.zeros(4000, 3, 1, 1)
    red[:, 0] = 1
    spread = augment.change_colours(red).squeeze()
    ratio = (spread[:, 0] - spread[:, 1]) / 1.0  # saturation x contrast
    assert ratio.min() < 0.05
    assert 2.5 < ratio.max() <= 3


def test_quarter_turns_flips_and_whole_shifts_are_exact() -> None:
    x = images(1, 2, 6, 6, torch.float64)
    turned = augment.warp(x, places([0, -1, 0], [1, 0, 0]))
    assert torch.allclose(turned, torch.rot90(x, 1, (2, 3))) or torch.allclose(turned, torch.rot90(x, -1, (2, 3)))
    assert torch.allclose(augment.warp(x, places([-1, 0, 0], [0, 1, 0])), x.flip(3))
    shifted = augment.warp(x, places([1, 0, 2], [0, 1, 0]))
    assert torch.allclose(shifted[..., :4], x[..., 2:])
    assert torch.allclose(shifted[..., 4:], x.flip(3)[..., :2]), "reflected at the border"


def test_a_rotation_of_an_image_that_is_not_square_does_not_stretch_it() -> None:
    x = torch.zeros(1, 1, 8, 32, dtype=torch.float64)
    x[..., 4:, :] = 1
    y = augment.warp(x, places([0, -1, 0], [1, 0, 0]))  # the lower half becomes a side
    columns = y[0, 0].mean(0)
    assert set(columns.round().tolist()) == {0, 1}
    assert (y[0, 0] - columns).abs().max() < 1e-9


def test_hue_and_saturation_keep_greys_and_the_mean_of_the_channels() -> None:
    x = images(200)
    torch.manual_seed(0)
    y = augment.transform_colours(x, ONE)
    torch.manual_seed(0)
    grey = augment.transform_colours(x.mean(1, keepdim=True).expand(-1, 3, -1, -1), ONE)
    assert torch.allclose(grey.mean(1), grey[:, 0], atol=1e-4), "greys stay grey"
    assert torch.allclose(y.mean(1), grey[:, 0], atol=1e-4)


def test_lightness_of_grey_images_can_be_inverted() -> None:
    x = torch.full((400, 1, 1, 1), 0.5)
    torch.manual_seed(0)
    torch.manual_seed(0)
    assert 0 < (augment.transform_colours(x, ONE) < 0).float().mean() < 1


def test_both_shifts_are_made_to_the_same_images() -> None:
    torch.manual_seed(0)
    x, y = augment.shifts(images(4000, 1, 8, 16), torch.tensor(0.3), lambda: torch.ones(4000))
    assert torch.equal(x != 0, y != 0)
    assert abs(float((x != 0).float().mean()) - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert (x.max(), y.max()) == (16, 8), "shares of the width and of the height"


def test_the_changes_of_diffaugment_have_the_names_of_the_option() -> None:
    assert (*augment.DIFF,) == DIFF
