"""Paths through latents: equal steps, from end to end, closed or open."""

from __future__ import annotations

import pytest
import torch

from leafwing.latents import walk

ENDS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])


@pytest.mark.parametrize(("loop", "count", "legs"), [(True, 12, 3), (False, 13, 2)])
def test_all_steps_are_equal_arcs_through_the_ends(loop: bool, count: int, legs: int) -> None:
    path = walk(ENDS, count, loop)
    assert path.shape == (count, 3)
    assert torch.allclose(path.norm(dim=1), torch.tensor(3.0)), "the path cuts a corner"
    following = path.roll(-1, 0) if loop else path[1:]
    cosines = torch.cosine_similarity(path[: len(following)], following)
    assert torch.allclose(cosines.acos(), torch.tensor(torch.pi / 2 * legs / len(following)), atol=1e-3)
    per_leg = len(following) // legs
    assert torch.allclose(path[[0, per_leg, 2 * per_leg]], ENDS, atol=1e-5)


def test_a_count_that_the_legs_do_not_divide() -> None:
    path = walk(ENDS, 5, loop=False)
    assert torch.allclose(path[[0, 2, 4]], ENDS, atol=1e-5)
    assert len(walk(ENDS, 2)) == 2
