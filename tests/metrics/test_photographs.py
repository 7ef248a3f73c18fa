"""The feature network `lite0`: the size at which it sees images, its features, its weights."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from leafwing import optional
from leafwing.errors import LeafwingError
from leafwing.metrics.features import load_features
from leafwing.metrics.photographs import at_size
from leafwing.networks import lite0

needs_weights = pytest.mark.skipif(not lite0.is_installed(), reason=f"{lite0.PACKAGE} is not installed")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((64, 64), (128, 128)),
        ((32, 64), (64, 128)),
        ((200, 150), (200, 150)),
        ((512, 256), (224, 112)),
        ((400, 1), (224, 1)),
    ],
)
def test_small_images_are_enlarged_and_large_ones_reduced(before: tuple[int, int], after: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *before)
    assert at_size(images).shape == (2, 3, *after)
    assert torch.equal(at_size(images), images) == (before == after)


def test_fine_patterns_do_not_alias() -> None:
    """A chessboard of single pixels at half the size is grey; without antialiasing it would be a pattern of its own."""
    side = 448
    board = ((torch.arange(side)[:, None] + torch.arange(side)) % 2 * 2.0 - 1).expand(1, 1, side, side)
    assert at_size(board)[:, :, 4:-4, 4:-4].abs().max() < 0.02


@needs_weights
def test_features_are_the_means_of_stage_5_in_batches() -> None:
    images = torch.rand(20, 3, 40, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = load_features("lite0", None)
    features, probabilities = network(images)
    assert (network.name, network.digest, network.classifies, probabilities) == ("lite0", lite0.SHA256, False, None)
    expected = lite0.load()(at_size(images))[4].mean((2, 3))
    assert features.shape == (20, 112)
    assert torch.allclose(torch.from_numpy(features), expected, atol=1e-4)


@needs_weights
def test_grey_images_count_as_colour_and_transparent_ones_lie_on_white() -> None:
    network, grey = load_features("lite0", None), torch.rand(2, 1, 32, 32) * 2 - 1
    (expected, _), (same, _) = network(grey.expand(-1, 3, -1, -1)), network(grey)
    assert torch.allclose(torch.from_numpy(same), torch.from_numpy(expected), atol=1e-5)
    clear = torch.cat([torch.rand(2, 3, 32, 32), torch.full((2, 1, 32, 32), -1.0)], 1)
    (white, _), (under, _) = network(torch.ones(2, 3, 32, 32)), network(clear)
    assert torch.allclose(torch.from_numpy(under), torch.from_numpy(white), atol=1e-5)


@needs_weights
def test_weights_may_be_in_a_file_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = lite0.weights_file()
    assert package is not None
    shutil.copy(package, tmp_path / "weights.pth")
    monkeypatch.setitem(sys.modules, optional.LITE0, None)
    assert load_features("lite0", None, weights=tmp_path / "weights.pth").digest == lite0.SHA256


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(LeafwingError, match=r"other\.pth: not the published weights of lite0 .* could not be compared"):
        load_features("lite0", None, weights=tmp_path / "other.pth")
    with pytest.raises(LeafwingError, match=r"missing\.pth: no such file"):
        load_features("lite0", None, weights=tmp_path / "missing.pth")
