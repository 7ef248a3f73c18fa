"""The perceptual distance against a computation by hand, its gradients, and the choice of its network."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from leafwing import optional
from leafwing.augment_option import AugmentOption
from leafwing.engine.augmentation import Augmentation
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec, Nets, Round
from leafwing.networks import lite0
from leafwing.parts.perceptual import PerceptualLoss, choose_network, feature_distance

COLOURS, GREYS = DataSpec.images(16, 16), DataSpec.images(16, 16, 1)


def test_the_distance_is_that_of_unit_vectors() -> None:
    torch.manual_seed(0)
    a, b = ([torch.randn(2, 5, 3, 4), torch.randn(2, 7, 2, 2)] for _ in range(2))
    expected = 0.0
    for x, y in zip(a, b, strict=True):
        total = 0.0
        for i in range(2):
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    u, v = x[i, :, row, column], y[i, :, row, column]
                    total += float((u / u.norm() - v / v.norm()).abs().sum())
        expected += total / (2 * x.shape[2] * x.shape[3]) / 2
    assert float(feature_distance(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_distance([10 * x for x in a], b)) == pytest.approx(expected, rel=1e-5), "lengths do not count"
    assert float(feature_distance(a, a)) == 0


def test_zero_features_have_finite_gradients() -> None:
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    feature_distance([x], [torch.ones(1, 3, 2, 2)]).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_critics_features_are_the_second_element_of_its_output() -> None:
    conv = nn.Conv2d(3, 4, 3)
    fake, real = torch.randn(2, 2, 3, 8, 8).requires_grad_()
    r = Round(Nets(), real, fake, judge=lambda x: (conv(x).mean((1, 2, 3)), [conv(x)]))
    loss = PerceptualLoss("critic", 2.0)(r)
    assert torch.allclose(loss, 2 * feature_distance([conv(fake)], [conv(real)]))


def test_auto_takes_the_classifier_for_colours_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "is_installed", lambda: True)
    assert choose_network("auto", COLOURS)[0] == "lite0"
    assert choose_network("auto", DataSpec.images(16, 16, 4))[0] == "lite0"
    name, reason = choose_network("auto", GREYS)
    assert (name, "colour" in reason) == ("critic", True)
    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    name, reason = choose_network("auto", COLOURS)
    assert (name, lite0.PACKAGE in reason) == ("critic", True)
    assert choose_network("lite0", GREYS) == ("lite0", "")
    assert choose_network("critic", COLOURS) == ("critic", "")


def test_a_missing_package_is_an_error_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, optional.LITE0, None)
    lite0.load.cache_clear()
    with pytest.raises(LeafwingError, match="pip install"):
        PerceptualLoss("lite0").prepare(torch.device("cpu"))
    PerceptualLoss("critic").prepare(torch.device("cpu"))


@pytest.mark.skipif(not lite0.is_installed(), reason=f"{lite0.PACKAGE} is not installed")
def test_the_classifier_gives_gradients_to_fakes_alone() -> None:
    torch.manual_seed(0)
    loss, fake, real = PerceptualLoss("lite0"), torch.randn(2, 3, 32, 32, requires_grad=True), torch.randn(2, 3, 32, 32)
    loss.prepare(torch.device("cpu"))
    value = loss(Round(Nets(), real, fake))
    value.backward()
    assert value > 0
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    assert loss.net is not None
    assert all(p.grad is None for p in loss.net.parameters())
    assert float(loss(Round(Nets(), real, real))) == 0


def test_features_of_the_critic_are_compared_without_augmentation() -> None:
    """Augmented, two equal images would be changed independently, and differ."""
    torch.manual_seed(0)
    conv, images = nn.Conv2d(3, 4, 3), torch.rand(4, 3, 16, 16) * 2 - 1
    augmentation = Augmentation(AugmentOption("p", start=1.0, end=1.0), [3], 100)
    r = augmentation.wrap(Round(Nets(), images, images.clone(), judge=lambda x: (conv(x).mean((1, 2, 3)), [conv(x)])))
    assert float(PerceptualLoss("critic")(r).detach()) == 0
    assert not torch.equal(r.real_score, r.fake_score)
