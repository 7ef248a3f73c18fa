"""Convolutions with a cheap double backward: the same numbers as PyTorch's, to any order, with any settings."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing.engine import Engine, Setup
from leafwing.engine.convolutions import Geometry
from leafwing.engine.double_backward import Convolution, DoubleBackward, RequestedLeaves, WeightGradient
from leafwing.game import Batch, Clock, DataSpec
from leafwing.recipes.wgan_gp import wgan_gp

pytestmark = pytest.mark.machine

LAYERS = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "strided": lambda: nn.Conv2d(4, 6, 4, 2, 1, bias=False),
    "grouped": lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "dilated": lambda: nn.Conv2d(4, 6, (3, 2), (1, 2), (2, 1), dilation=(2, 1)),
    "padding by name": lambda: nn.Conv2d(4, 6, 3, padding="same"),
    "padding by reflection": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1, bias=False),
    "transposed, uneven": lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=(1, 0), groups=2, dilation=(1, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_penalty_has_the_gradients_of_pytorch(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(LAYERS[name](), nn.Softplus(), nn.Conv2d(6, 3, 3, padding=1)).double()
    x = torch.randn(2, 4, 6, 7, dtype=torch.double, requires_grad=True)

    def gradients() -> tuple[Tensor, ...]:
        score = net(x).square().mean((1, 2, 3))
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        loss = slope.square().sum() + score.mean()
        return loss, *torch.autograd.grad(loss, [x, *net.parameters()])

    theirs = gradients()
    with DoubleBackward():
        ours = gradients()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_second_derivatives_agree_with_finite_differences(transposed: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 2, 4, 3, dtype=torch.double), torch.randn(2, 2, 2, 2, dtype=torch.double)
    geometry = Geometry([2, 1], [1, 0], [1, 1], transposed, [0, 0], 1)
    inputs = (x.requires_grad_(), weight.requires_grad_(), torch.randn(2, dtype=torch.double, requires_grad=True))
    assert torch.autograd.gradcheck(lambda *tensors: Convolution.apply(*tensors, geometry, RequestedLeaves()), inputs)
    assert torch.autograd.gradgradcheck(lambda *tensors: Convolution.apply(*tensors, geometry, RequestedLeaves()), inputs)


def test_gradients_that_are_not_requested_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    apply = WeightGradient.apply
    monkeypatch.setattr(WeightGradient, "apply", lambda *args: calls.append(True) or apply(*args))
    net, x = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 3)), torch.randn(2, 2, 6, 6, requires_grad=True)
    parameter = nn.Parameter(torch.randn(3, 2, 3, 3))
    with DoubleBackward():
        score = net(x).sum()
        (slope,) = torch.autograd.grad(score, x, create_graph=True)
        assert not calls
        torch.autograd.grad(score, [x, net[0].weight], create_graph=True)
        assert len(calls) == 1
        edge = torch.autograd.graph.get_gradient_edge(net[0].weight)
        assert torch.autograd.grad(net(x).sum(), [edge])[0].abs().sum() > 0
        (gradient,) = torch.autograd.grad(F.conv2d(x, parameter * 2).sum(), parameter)  # a weight that depends on a leaf
        assert gradient.abs().sum() > 0
        slope.square().sum().backward()
    assert all(layer.weight.grad is not None for layer in net)


def test_only_two_dimensional_convolutions_of_batches_are_replaced() -> None:
    image, weight = torch.randn(4, 6, 6), torch.randn(5, 4, 3, 3, requires_grad=True)
    with DoubleBackward():
        assert F.conv2d(image, weight).grad_fn.name() == "SqueezeBackward1"
        assert F.conv2d(image[None], weight).grad_fn.name() == "ConvolutionBackward"
        assert F.conv2d(input=image[None], weight=weight, padding=1).shape == (1, 5, 6, 6)


def test_the_engine_uses_them_in_turns_that_differentiate_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    apply = Convolution.apply
    monkeypatch.setattr(Convolution, "apply", lambda *args: calls.append(True) or apply(*args))
    game = wgan_gp(DataSpec.images(16, 16, 3), width=4)
    engine = Engine(game, Setup("cpu", "fp32", 1))
    batch = engine.prepare(Batch(image=torch.rand(4, 3, 16, 16) * 2 - 1))
    units = [(turn,) for turn in game.turns]
    for unit in units:
        before = len(calls)
        engine.take(unit, batch, Clock())
        assert (len(calls) > before) == any(term.second_order for turn in unit for term in turn.losses)


def test_the_last_backward_pass_computes_exactly_the_requested_gradients() -> None:
    layer, x = nn.Conv2d(2, 3, 3), torch.randn(2, 2, 6, 6, requires_grad=True)
    with DoubleBackward():
        layer(x).square().sum().backward(inputs=[layer.weight])
        assert (x.grad, layer.bias.grad) == (None, None)
        ours = layer.weight.grad.clone()
        layer(x).square().sum().backward()
    assert x.grad is not None
    assert layer.bias.grad is not None
    (theirs,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
