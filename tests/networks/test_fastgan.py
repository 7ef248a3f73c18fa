from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from leafwing.engine.share import SharedDraws
from leafwing.game import DataSpec
from leafwing.networks import fastgan, lite0, projected


@pytest.mark.parametrize("size", [(16, 16), (48, 32), (64, 64), (128, 128)])
def test_sizes(size: tuple[int, int]) -> None:
    data = DataSpec.images(*size, 3)
    g, d = fastgan.Generator(data, 8, 8, 32), fastgan.Critic(data, 8, 32)
    images = g(torch.randn(2, 8))
    assert images.shape == (2, 3, *size)
    scores, maps = d(images)
    assert scores.shape[0] == 2
    for rebuilt, target in d.rebuild(maps):
        assert rebuilt.shape == target.shape == (2, 3, size[0] // 2, size[1] // 2)


def test_targets_of_the_decoders() -> None:
    """The whole image at half the size, and a quarter of each image at its own size, chosen for each image."""
    data = DataSpec.images(16, 16, 3)
    d, x = fastgan.Critic(data, 8), torch.rand(64, 3, 16, 16)
    _, maps = d(x)
    (_, whole), (_, part) = d.rebuild(maps)
    assert torch.allclose(whole, interpolate(x, scale_factor=0.5, mode="area"))
    quarters = torch.stack([x[:, :, a : a + 8, b : b + 8] for a in (0, 8) for b in (0, 8)])
    chosen = [[torch.equal(quarter[i], part[i]) for quarter in quarters].index(True) for i in range(64)]
    assert set(chosen) == {0, 1, 2, 3}


def test_decoders_see_the_part_of_the_map_that_they_rebuild() -> None:
    data = DataSpec.images(32, 32, 3)
    d = fastgan.Critic(data, 8, 32).eval()
    x, large = torch.zeros(1, 3, 32, 32), torch.randn(1, 32, 16, 16)
    torch.manual_seed(0)
    large.requires_grad_()
    (_, _), (rebuilt, _) = d.rebuild((x, large, torch.zeros(1, 32, 8, 8)))
    rebuilt.sum().backward()
    assert large.grad is not None
    used = large.grad[0].abs().sum(0) > 0
    assert used.float().mean() == 0.25


def test_excitation_weights_channels_of_a_map_sixteen_times_as_large() -> None:
    g = fastgan.Generator(DataSpec.images(64, 64, 3), 8, 8)
    assert list(g.excitations) == ["4"]
    assert list(fastgan.Generator(DataSpec.images(256, 256, 3), 8, 8, 16).excitations) == ["4", "5", "6"]
    excitation = fastgan.Excitation(4, 6)
    small, large = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 32, 32)
    ratio = excitation(small, large) / large
    assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), atol=1e-4)
    assert ((ratio > 0) & (ratio < 1)).all()


@pytest.mark.parametrize(
    ("size", "excited"), [(32, []), (64, [(64, 8)]), (128, [(128, 16), (64, 8)]), (256, [(256, 32), (128, 16), (64, 8)])]
)
def test_excitation_in_d_weights_channels_of_a_map_of_an_eighth_of_the_side(
    size: int, excited: list[tuple[int, int]]
) -> None:
    d = fastgan.Critic(DataSpec.images(size, size, 3), 2, 8, apart=fastgan.APART_D)
    seen: list[tuple[int, int]] = []
    for excitation in d.excitations.values():
        excitation.register_forward_pre_hook(lambda _, maps: seen.append((maps[0].shape[2], maps[1].shape[2])))
    _, (_, large, small) = d(torch.randn(1, 3, size, size))
    assert seen == excited
    assert (large.shape[2], small.shape[2]) == (16, 8), "what the decoders see"


def test_recipes_of_former_versions_build_the_d_that_their_weights_fit() -> None:
    former = {size: list(fastgan.Critic(DataSpec.images(size, size, 3), 2, 8).excitations) for size in (64, 128, 256)}
    assert former == {64: [], 128: ["4"], 256: ["4", "5"]}


def test_noise_has_no_effect_at_first_and_belongs_to_samples() -> None:
    noise, x = fastgan.PixelNoise(), torch.zeros(4, 2, 3, 3)
    assert torch.equal(noise(x), x)
    noise.weight.data.fill_(1)
    y = noise(x)
    assert torch.equal(y[:, 0], y[:, 1])
    draws = SharedDraws(4, slice(0, 2))
    with draws:
        first = noise(x[:2])
    draws.rewind(slice(2, 4))
    with draws:
        second = noise(x[2:])
    assert not torch.equal(first, second)


def test_projection_is_constant_and_without_the_frozen_network_in_its_state() -> None:
    torch.manual_seed(1)
    d = projected.Critic(4, 64, "random")
    assert not any(weight.requires_grad for weight in d.projection.parameters())
    assert sum(value.numel() for value in d.projection.state_dict().values()) < 60_000, "lite0 has 4.6 million weights"
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    maps = d.projection(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]
    d(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert d(x).shape == (2, 16 + 16 + 16 + 4)


def test_maps_are_mixed_from_below() -> None:
    d = projected.Projection(4, 64, "random")
    x = torch.rand(1, 3, 64, 64)
    before = d(x)
    with torch.no_grad():
        d.across_channels[3].weight.mul_(2)
    after = d(x)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), "the smallest map reaches all others"
    with torch.no_grad():
        d.across_channels[0].weight.mul_(2)
    last = d(x)
    assert all(torch.equal(a, b) for a, b in zip(after[1:], last[1:], strict=True)), "the largest reaches none"


def test_the_untrained_network_is_always_the_same() -> None:
    x = torch.rand(1, 3, 32, 32)
    torch.manual_seed(0)
    first = lite0.untrained("cpu")(x, 7)
    lite0.untrained.cache_clear()
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, lite0.untrained("cpu")(x, 7), strict=True))
    assert [m.shape[1] for m in first] == [16, 24, 40, 80, 112, 192, 320]


def test_frozen_networks_do_not_depend_on_the_default_precision() -> None:
    x = torch.rand(1, 3, 32, 32)
    expected = lite0.untrained("cpu")(x)[-1]
    lite0.untrained.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        net = lite0.untrained("cpu")
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(net(x)[-1], expected)
    double = lite0.matching(net, x.double())(x.double())[-1]
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), expected, atol=1e-4)
    assert lite0.matching(net, x) is net


def test_loading_a_network_uses_up_no_random_numbers() -> None:
    """It is loaded once in a process, so a second training would differ from the first."""
    lite0.untrained.cache_clear()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    lite0.untrained("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    if lite0.is_installed():
        lite0.load.cache_clear()
        lite0.load("cpu")
        assert torch.equal(torch.get_rng_state(), before)
