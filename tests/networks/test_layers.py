"""Layers that use the whole batch or the whole map, and spectral normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing.networks.layers import (
    DropoutNoise,
    MinibatchDiscrimination,
    SelfAttention,
    VirtualBatchNorm,
    WithReferenceBatch,
    make_norm,
    spectral,
)

pytestmark = pytest.mark.machine


def test_minibatch_discrimination_computes_the_similarity_to_the_others() -> None:
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(6, 3, 2)
    x = torch.randn(4, 6)
    out = layer(x)
    assert out.shape == (4, 9)
    assert torch.equal(out[:, :6], x)
    m = layer.project(x).view(4, 3, 2)
    for i in range(4):
        for b in range(3):
            others = sum((-(m[i, b] - m[j, b]).abs().sum()).exp().item() for j in range(4) if j != i)
            assert out[i, 6 + b].item() == pytest.approx(others, rel=1e-5)
    identical = layer(x[:1].repeat(5, 1))
    assert identical[:, 6:].tolist() == [[4.0] * 3] * 5, "four others at distance 0"


def test_virtual_batch_norm_uses_only_the_reference_and_the_sample() -> None:
    torch.manual_seed(0)
    layer, x = VirtualBatchNorm(3, 8), 2 + 3 * torch.randn(12, 3, 4, 4)
    out = layer(x)
    assert out[:8].mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-5)
    assert out[:8].var((0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-3)
    other = x.clone()
    other[9:] += 5
    assert torch.equal(layer(other)[:9], out[:9]), "independent of the other samples"
    nine = torch.cat([x[:8], x[10:11]])
    mean, var = nine.mean((0, 2, 3), keepdim=True), nine.var((0, 2, 3), keepdim=True, correction=0)
    assert torch.allclose(out[10:11], (x[10:11] - mean) / (var + 1e-5).sqrt(), atol=1e-5)


def test_virtual_batch_norm_has_its_moments_in_fp32() -> None:
    torch.manual_seed(0)
    layer, x = VirtualBatchNorm(3, 8), (20 + torch.randn(12, 3, 8, 8)).bfloat16()
    out = layer(x)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), layer(x.float()), rtol=2**-7, atol=1e-3), "rounded once, at the end"


def test_a_generator_with_a_reference_batch_computes_samples_independently() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 2, 4), VirtualBatchNorm(2, 6))
    generator = WithReferenceBatch(net, torch.randn(6, 4))
    z = torch.randn(5, 4)
    assert generator(z).shape == (5, 2, 4, 4)
    assert torch.allclose(generator(z)[2:3], generator(z[2:3]), atol=1e-6)
    assert "reference" in generator.state_dict()


def test_spectral_normalisation_bounds_the_lipschitz_constant() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)).apply(spectral)
    for _ in range(50):
        net(torch.randn(2, 6))
    net.eval()
    assert torch.linalg.matrix_norm(net[0].weight, 2).item() == pytest.approx(1, rel=1e-3)
    a, b = torch.randn(200, 6), torch.randn(200, 6)
    assert ((net(a) - net(b)).norm(dim=1) <= (a - b).norm(dim=1) * 1.001).all()


def test_spectral_normalisation_of_transposed_convolutions() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(6, 4, 3, bias=False)).apply(spectral)
    for _ in range(50):
        net(torch.randn(2, 6, 4, 4))
    net.eval()
    matrix = net[0].weight.transpose(0, 1).flatten(1)
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, rel=1e-3)


def test_attention_is_the_identity_at_first_and_then_adds_a_weighted_mean_over_positions() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(16), torch.randn(2, 16, 3, 4)
    assert torch.equal(layer(x), x)
    nn.init.constant_(layer.gamma, 0.5)
    f, g, h = (part(x).flatten(2) for part in (layer.f, layer.g, layer.h))
    assert f.shape == (2, 2, 12)
    expected = x.flatten(2).clone()
    for n in range(2):
        for j in range(12):
            weights = torch.stack([(f[n, :, i] * g[n, :, j]).sum() for i in range(12)]).softmax(0)
            expected[n, :, j] += 0.5 * sum(weights[i] * h[n, :, i] for i in range(12))
    assert torch.allclose(layer(x).flatten(2), expected, atol=1e-5)


def test_every_position_attends_to_all_others() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(8), torch.randn(1, 8, 4, 4)
    nn.init.constant_(layer.gamma, 1.0)
    other = x.clone()
    other[0, :, 0, 0] += 1
    assert ((layer(other) - layer(x)).abs().amax(1) > 0).all()


def test_dropout_noise_drops_a_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer, x = DropoutNoise(0.25).eval(), torch.ones(4, 50, 50)
    dropped = layer(x)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs((dropped == 0).float().mean() - 0.25) < 5 * (0.25 * 0.75 / x.numel()) ** 0.5
    assert torch.equal(DropoutNoise(0)(x), x)


def test_instance_normalisation_has_the_same_gradients_in_both_layouts_for_a_batch_of_1() -> None:
    torch.manual_seed(0)
    layer, x, gradient = make_norm("instance", 6).double(), torch.rand(1, 6, 5, 5).double(), torch.rand(1, 6, 5, 5).double()

    def gradients(memory_format: torch.memory_format) -> list[torch.Tensor]:
        layer.zero_grad()
        inputs = x.clone(memory_format=memory_format).requires_grad_()
        layer(inputs).backward(gradient.contiguous(memory_format=memory_format))
        return [inputs.grad, *(weight.grad.clone() for weight in layer.parameters())]  # type: ignore[list-item,union-attr]

    for a, b in zip(gradients(torch.contiguous_format), gradients(torch.channels_last), strict=True):
        assert torch.allclose(a, b)
