"""FastGAN and Projected GAN: their losses against independent computations, and what their options change."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import Clock, DataSpec, Game
from leafwing.model import Model
from leafwing.networks import lite0
from leafwing.networks.fastgan import PixelNoise
from leafwing.parts.objectives import _margin as margin
from leafwing.parts.perceptual import feature_distance, image_distance
from tiny import batches, build, start, tensors

pytestmark = pytest.mark.machine
SPEC, GREY = DataSpec.images(16, 16), DataSpec.images(16, 16, 1)


def terms(game: Game, spec: DataSpec = SPEC) -> dict[str, Any]:
    """The round of each mover, and its terms, by their names."""
    batch, values = batches(spec)(0, 4), {}
    for turn in game.turns:
        torch.manual_seed(0)
        values[turn.moves] = (turn.play(game.nets, batch, Clock(0, 100)), {term.name: term.loss for term in turn.losses})
    return values


def test_hinge_losses_over_all_places() -> None:
    game = build("projected", SPEC)
    (r, losses), (other, generator) = terms(game)["D"], terms(game)["G"]
    real, fake = r.real_score.detach(), r.fake_score.detach()
    assert real.shape == (4, r.real_output.shape[1])
    expected = (
        sum((1 - s).clamp_min(0).sum() for s in real) / real.numel()
        + sum((1 + s).clamp_min(0).sum() for s in fake) / fake.numel()
    )
    assert float(losses["adversarial"](r).detach()) == pytest.approx(float(expected), rel=1e-5)
    assert float(generator["adversarial"](other).detach()) == pytest.approx(
        -float(other.fake_score.detach().mean()), rel=1e-5
    )


def test_the_margin_is_random_from_four_fifths_to_one() -> None:
    torch.manual_seed(0)
    values = margin(torch.zeros(10_000))
    assert 0.8 <= values.min() < 0.801
    assert 0.999 < values.max() <= 1
    game = build("fastgan", SPEC, distance="pixels")
    r, losses = terms(game)["D"]
    real, fake = r.real_score.detach(), r.fake_score.detach()
    torch.manual_seed(1)
    first, second = margin(real), margin(fake)
    expected = (first - real).clamp_min(0).mean() + (second + fake).clamp_min(0).mean()
    torch.manual_seed(1)
    assert float(losses["adversarial"](r).detach()) == pytest.approx(float(expected), rel=1e-5)


def test_the_decoders_rebuild_real_images_only() -> None:
    game = build("fastgan", SPEC, distance="pixels", rebuild=3.0)
    r, losses = terms(game)["D"]
    torch.manual_seed(2)
    pairs = r.nets.D.rebuild(r.real_output[1])
    assert torch.equal(r.real_output[1][0], r.real)
    torch.manual_seed(2)
    expected = 3 * sum(float((rebuilt - target).detach().abs().mean()) for rebuilt, target in pairs)
    assert float(losses["reconstruction"](r).detach()) == pytest.approx(expected, rel=1e-5)
    assert set(terms(game)["G"][1]) == {"adversarial"}
    assert set(terms(build("fastgan", SPEC, distance="pixels", rebuild=0.0))["D"][1]) == {"adversarial"}


@pytest.mark.skipif(not lite0.is_installed(), reason="needs the package of lite0")
def test_distances_in_features() -> None:
    a, b = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    net = lite0.load("cpu")
    assert float(image_distance("lite0", a, b)) == pytest.approx(float(feature_distance(net(a), net(b))))
    game = build("fastgan", SPEC, distance="auto")
    assert game.resolved == {"distance": "lite0"}
    assert not game.notes


def test_without_the_package_pixels_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    game = build("fastgan", SPEC, distance="auto")
    assert game.resolved == {"distance": "pixels"}
    assert lite0.PACKAGE in game.notes[0]
    assert not build("fastgan", SPEC, distance="auto", rebuild=0.0).notes, "nothing is compared"
    assert not build("fastgan", SPEC, distance="pixels").notes, "as chosen"


@pytest.mark.parametrize("recipe", ["fastgan", "projected"])
def test_both_see_augmented_images_by_default(recipe: str) -> None:
    assert build(recipe, SPEC).augment == ("diff:color,translation" if recipe == "fastgan" else "diff"), "as their authors"
    assert build("dcgan", SPEC).augment == "none"


def test_networks_that_a_critic_looks_through_are_declared() -> None:
    assert build("projected", SPEC, backbone="lite0").pretrained == ["lite0"]
    assert build("projected", SPEC, backbone="random").pretrained == []
    assert build("fastgan", SPEC, distance="lite0").pretrained == ["lite0"]
    assert build("fastgan", SPEC, distance="pixels").pretrained == []


@pytest.mark.parametrize("recipe", ["fastgan", "projected"])
def test_grey_and_transparent_images(recipe: str) -> None:
    for channels in (1, 2, 4):
        training = start(recipe, DataSpec.images(16, 16, channels), 12)
        list(training.ticks(100))
        assert all(value.isfinite().all() for value in tensors(training.game).values())


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(LeafwingError, match="multiple of 32"):
        build("projected", SPEC, resolution=100)
    with pytest.raises(LeafwingError, match="divisible by 16"):
        build("fastgan", DataSpec({"image": Image(20, 20)}))
    assert "reduced to 32 px" in build("projected", DataSpec.images(64, 64), resolution=32).notes[0]
    assert "resolution=64" in build("projected", DataSpec.images(64, 64), resolution=32).notes[0]
    assert not build("projected", DataSpec.images(32, 32), resolution=32).notes


def test_noise_can_be_the_same_for_all_samples() -> None:
    """Otherwise tools that compare neighbouring latents would measure the noise."""
    game = build("fastgan", SPEC)
    for net in (module for module in game.sampling_nets.G.modules() if isinstance(module, PixelNoise)):
        net.weight.data.fill_(0.5)
    model = Model(game, SPEC)
    latents = model.latents(1).expand(5, -1)
    first, *others = torch.cat([*model.stream(latents, batch=2, same_noise=True)])
    assert all(torch.equal(first, other) for other in others)
    assert torch.allclose(first, model.render(latents)[3].clamp(-1, 1), atol=1e-5)
    assert not torch.equal(*model.generate(latents)[:2])
