"""Convolutions as matrix products: the same numbers as PyTorch's, and which convolutions are replaced."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from leafwing.engine import Engine, Setup, products
from leafwing.engine.products import Product, Products
from leafwing.game import Batch, Clock, DataSpec
from leafwing.recipes.dcgan import dcgan

pytestmark = pytest.mark.machine

LAYERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "halving": (lambda: nn.Conv2d(16, 24, 4, 2, 1), 8),
    "to one number": (lambda: nn.Conv2d(16, 24, 4), 4),
    "three wide": (lambda: nn.Conv2d(16, 24, 3, padding=1, bias=False), 4),
    "pointwise": (lambda: nn.Conv2d(16, 24, 1), 4),
    "larger maps": (lambda: nn.Conv2d(16, 24, 4, 2, 1), 16),
    "doubling": (lambda: nn.ConvTranspose2d(16, 24, 4, 2, 1), 4),
    "from one number": (lambda: nn.ConvTranspose2d(16, 24, 4, bias=False), 1),
    "larger doubling": (lambda: nn.ConvTranspose2d(16, 24, 4, 2, 1), 8),
}
OTHERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "groups": (lambda: nn.Conv2d(16, 24, 4, 2, 1, groups=2), 8),
    "dilation": (lambda: nn.Conv2d(16, 24, 3, dilation=2), 8),
    "a border that no patch covers": (lambda: nn.Conv2d(16, 24, 4, 2), 7),
    "a stride that does not divide the kernel": (lambda: nn.Conv2d(16, 24, 3, 2, 1), 8),
    "padding by name": (lambda: nn.Conv2d(16, 24, 3, padding="same"), 4),
    "unequal sides": (lambda: nn.Conv2d(16, 24, (4, 3), padding=1), 4),
    "output padding": (lambda: nn.ConvTranspose2d(16, 24, 4, 2, 1, output_padding=1), 4),
    "large maps": (lambda: nn.Conv2d(16, 24, 4, 2, 1), 32),
    "few channels": (lambda: nn.Conv2d(16, 8, 4, 2, 1), 8),
}


@pytest.fixture(autouse=True)
def _small_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "MIN_CHANNEL_PAIRS", 16 * 24)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    apply = Product.apply
    monkeypatch.setattr(Product, "apply", lambda *args: names.append("product") or apply(*args))
    return names


def passes(layer: nn.Module, x: Tensor, back: Tensor | None, bf16: bool) -> tuple[Tensor, ...]:
    """The result and its gradients; `back` is the gradient of the result."""
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = layer(x)
    return out, *torch.autograd.grad(
        out, [x, *layer.parameters()], torch.ones_like(out) if back is None else back.to(out.dtype)
    )


@pytest.mark.parametrize("name", LAYERS)
def test_results_and_gradients_equal_those_of_pytorch(name: str, calls: list[str]) -> None:
    torch.manual_seed(0)
    make, side = LAYERS[name]
    layer, x = make().to(memory_format=torch.channels_last), torch.randn(3, 16, side, side)
    back = torch.randn_like(layer(x)).bfloat16().float()
    with torch.no_grad():  # values that bf16 represents exactly, so that both start from the same numbers
        for value in (x, *layer.parameters()):
            value.copy_(value.bfloat16().float())
    exact = passes(layer, x, back, bf16=False)
    with Products():
        ours = passes(layer, x, back, bf16=True)
    assert calls == ["product"]
    for one, other in zip(ours, exact, strict=True):
        assert one.shape == other.shape
        assert (one.float() - other).abs().max() <= 2**-7 * other.abs().max()  # bf16 has eight significant bits


@pytest.mark.parametrize("name", OTHERS)
def test_other_convolutions_are_not_replaced(name: str, calls: list[str]) -> None:
    make, side = OTHERS[name]
    layer, x = make(), torch.randn(2, 16, side, side)
    theirs = passes(layer, x, None, bf16=True)
    with Products():
        ours = passes(layer, x, None, bf16=True)
    assert not calls
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_without_autocast_nothing_changes(calls: list[str]) -> None:
    layer, x = nn.Conv2d(16, 24, 4, 2, 1), torch.randn(2, 16, 8, 8)
    with Products():
        assert layer(x).dtype == torch.float32
    assert not calls


def test_only_needed_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Conv2d(16, 24, 4, 2, 1), torch.randn(2, 16, 8, 8)
    layer.weight.requires_grad_(False)
    monkeypatch.setattr(products, "scatter", lambda *args: pytest.fail("the gradient of the input was computed"))
    monkeypatch.setattr(products, "weight_gradient", lambda *args: pytest.fail("the gradient of the weight was computed"))
    with Products(), torch.autocast("cpu", torch.bfloat16):
        layer(x).sum().backward()
    assert layer.bias.grad is not None


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_engine_uses_them_in_bf16_with_the_same_result(
    precision: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "MIN_CHANNEL_PAIRS", 1)
    torch.manual_seed(0)
    batch = Batch(image=torch.rand(8, 3, 16, 16) * 2 - 1)
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(1)
        game = dcgan(DataSpec.images(16, 16, 3), width=8)
        engine = Engine(game, Setup("cpu", precision, 1, products=enabled))
        engine.take(game.turns, engine.prepare(batch), Clock())
        assert bool(calls) == (enabled and precision == "bf16")
        gradients.append(torch.cat([p.grad.flatten() for player in game.players.values() for p in player.net.parameters()]))
    similarity = torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0)
    assert similarity > (0.999 if precision == "bf16" else 0.999999)
