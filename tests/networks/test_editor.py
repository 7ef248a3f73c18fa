"""The networks that change attributes, the semantic critic and the restorer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from leafwing.game import DataSpec
from leafwing.networks import editor, patch, restorer

DATA = DataSpec.images(16, 32, 3, attributes=("old", "new", "red"))


def test_an_editor_makes_two_images_for_each_attribute_of_any_size() -> None:
    net = editor.Generator(DATA, 4, max_width=8, blocks=1)
    x = torch.rand(2, 3, 16, 32) * 2 - 1
    assert net(x).shape == (2, 3, 2, 3, 16, 32)
    assert symbolic_trace(net)(torch.zeros(1, 3, 8, 20)).shape == (1, 3, 2, 3, 8, 20)
    assert torch.equal(symbolic_trace(net)(x), net(x))


def test_the_last_layer_of_an_editor_sees_the_image() -> None:
    net = editor.Generator(DATA, 4, max_width=8, blocks=1)
    for weight in net.body.parameters():
        nn.init.zeros_(weight)
    a, b = net(torch.zeros(1, 3, 16, 32)), net(torch.ones(1, 3, 16, 32))
    assert not torch.equal(a, b)


def test_a_critic_of_attributes_has_a_head_for_each() -> None:
    net = editor.Critic(DATA, 4, max_width=8)
    score, logits = net(torch.rand(5, 3, 16, 32))
    assert (score.shape, logits.shape) == ((5,), (5, 3))


def test_a_semantic_critic_weighs_the_scores_of_classes_with_their_share_of_the_patch() -> None:
    torch.manual_seed(0)
    data = DataSpec.images(16, 16, 3)
    net = patch.Semantic(data, 3, patch=16, width=4)
    x = torch.rand(2, 3, 16, 16)
    every = net.body(x)
    rows, columns = every.shape[2:]
    assert every.shape[1] == 3
    for index in range(3):
        maps = torch.zeros(2, 3, 16, 16)
        maps[:, index] = 1
        assert torch.allclose(net(x, maps), every[:, index])
    maps = torch.zeros(2, 3, rows * 4, columns * 4)
    maps[:, 0, :, ::2], maps[:, 2, :, 1::2] = 1, 1
    assert torch.allclose(net(x, maps), (every[:, 0] + every[:, 2]) / 2, atol=1e-6)
    plain = patch.Semantic(data, 0, patch=16, width=4)
    assert torch.equal(plain(x), plain.body(x)[:, 0])


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_restorer_starts_as_bilinear_enlargement(scale: int) -> None:
    """What the residual part adds is small at first, as its last layer starts with small weights."""
    torch.manual_seed(0)
    net = restorer.Generator(3, 3, scale, 8, blocks=1)
    x = torch.rand(2, 3, 6, 9) * 2 - 1
    base = x if scale == 1 else nn.functional.interpolate(x, scale_factor=scale, mode="bilinear")
    generated = net(x)
    assert generated.shape == (2, 3, 6 * scale, 9 * scale)
    assert (generated - base).abs().max() < 0.3
    nn.init.zeros_(net.last[-1].weight)
    assert torch.allclose(net(x), base)
    assert torch.equal(symbolic_trace(net)(x), net(x))
