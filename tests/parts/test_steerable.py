"""Derivatives against scipy's, and what they must respond to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from leafwing.parts.steerable import changes, edge_distance, filters, gradient, responses


def images(n: int = 2, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, 9, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_the_gradient_is_sobels() -> None:
    x = images()
    across, down = gradient(x).unbind(2)
    for axis, part in ((3, across), (2, down)):
        expected = ndimage.correlate1d(x.numpy(), [-1, 0, 1], axis, mode="nearest")
        expected = ndimage.correlate1d(expected, [1, 2, 1], 5 - axis, mode="nearest")
        assert np.allclose(part.numpy(), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_filters_along_the_axes_are_derivatives_of_a_gaussian(order: int) -> None:
    """scipy's have the same form, but truncate and normalise differently: the responses are proportional."""
    x, response = images(), responses(images(), sigma=1.0, directions=2)
    for direction, axes in enumerate(((0, 0, 0, order), (0, 0, order, 0))):
        expected = ndimage.gaussian_filter(x.numpy(), (0, 0, 1, 1), axes, mode="nearest", truncate=3.0)
        correlation = np.corrcoef(response[:, :, 2 * direction + order - 1].flatten(), expected.flatten())[0, 1]
        assert correlation > 0.99


def test_filters_are_steered() -> None:
    """A first derivative at 45 degrees is the sum of those along the axes, and turning the image turns the responses."""
    bank = filters(1.5, 4, torch.zeros((), dtype=torch.float64))[:, 0]
    assert bank.shape == (8, 9, 9)
    total = bank[0] + bank[4]
    assert torch.allclose(bank[2], total / total.abs().sum())
    assert torch.allclose(bank[0].T, bank[4])
    assert torch.allclose(bank[1].T, bank[5])
    assert bank.abs().sum((1, 2)) == pytest.approx(torch.ones(8))
    assert bank.sum((1, 2)) == pytest.approx(torch.zeros(8), abs=1e-12)


def test_first_derivatives_respond_to_edges_and_second_ones_to_lines() -> None:
    edge, line = torch.full((2, 1, 1, 11, 11), -1.0).unbind(0)
    edge[..., 5:], line[..., 5] = 1, 1
    at_edge, at_line = (responses(x, 1.0, 2)[0, 0, :, 5, 5] for x in (edge, line))
    assert at_edge[0] > 0.5
    assert at_line[0].abs() < 1e-6 < 0.5 < -at_line[1]
    assert at_edge[2].abs() + at_line[2].abs() < 1e-6, "nothing changes downwards"


def test_changes_are_where_opposite_neighbours_differ() -> None:
    classes = torch.tensor([[0, 0, 0, 2, 2], [0, 0, 0, 2, 2], [0, 0, 0, 2, 2], [1, 1, 1, 1, 1]])
    maps = torch.nn.functional.one_hot(classes, 3).permute(2, 0, 1)[None].float()
    expected = [[0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert changes(maps)[0, 0].int().tolist() == expected


@pytest.mark.parametrize("soft", [0.0, 0.3])
def test_the_distance_of_edges(soft: float) -> None:
    x, y = images(seed=1), images(seed=2)
    classes = torch.randint(0, 2, (2, 9, 12), generator=torch.Generator().manual_seed(3))
    maps = torch.stack([classes == 0, classes == 1], 1).double()
    total = 0.0
    for n, i, j in np.ndindex(2, 9, 12):
        weight = 1.0 if changes(maps)[n, 0, i, j] else soft
        a, b = (gradient(image)[n, :, :, i, j].abs() for image in (x, y))
        total += weight * float((a - b).abs().mean())
    assert float(edge_distance(x, y, maps, soft)) == pytest.approx(total / (2 * 9 * 12))
    assert float(edge_distance(x, -x, maps, soft)) == 0, "the sign of a step does not matter"
    grey = x.mean(1, keepdim=True)
    assert float(edge_distance(x, grey, maps, soft)) == pytest.approx(0, abs=1e-12), (
        "images with other channels: their means"
    )
