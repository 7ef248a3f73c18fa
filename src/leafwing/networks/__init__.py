"""Network architectures only: no losses, optimisers or data."""

from __future__ import annotations

from leafwing.game import DataSpec
from leafwing.networks import dcgan, mlp


def generator(
    data: DataSpec, latent: int, width: int, *, norm: str = "batch", activation: str = "relu", max_width: int = 512
) -> dcgan.Generator | mlp.Generator:
    """The default generator: DCGAN's for images; for points an MLP with three hidden layers of 8 x width."""
    if data.points:
        return mlp.Generator(data, latent, hidden=(8 * width,) * 3)
    return dcgan.Generator(data, latent, width, norm=norm, activation=activation, max_width=max_width)


def critic(
    data: DataSpec,
    width: int,
    *,
    norm: str = "batch",
    activation: str = "leaky_relu",
    max_width: int = 512,
    extra: int = 0,
) -> dcgan.Critic | mlp.Critic:
    """The default discriminator: DCGAN's for images; for points an MLP with three hidden layers of 8 x width."""
    if data.points:
        return mlp.Critic(data, hidden=(8 * width,) * 3)
    return dcgan.Critic(data, width, norm=norm, activation=activation, max_width=max_width, extra=extra)
