"""Small layers and rules that several networks share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec


class Maxout(nn.Module):
    """max over k of (W_k x + b_k). Goodfellow et al. 2013, arXiv:1302.4389, eq. 1. (n, inputs) -> (n, outputs)."""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.linear, self.pieces = nn.Linear(inputs, outputs * pieces), pieces

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


def dcgan_weights(module: nn.Module) -> None:
    """Convolutions and linear layers N(0, .02), batch normalisation N(1, .02), biases 0. DCGAN, arXiv:1511.06434, section 4."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def spectral(module: nn.Module) -> None:
    """Divides the weight of a convolution or linear layer by its largest singular value, estimated by one step of power iteration
    at each pass in training. Miyato et al. 2018, arXiv:1802.05957, algorithm 1."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        spectral_norm(module)


def batch_norm(channels: int) -> nn.Module:
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167)."""
    return nn.BatchNorm2d(channels)


def no_norm(channels: int) -> nn.Module:
    """No normalisation."""
    return nn.Identity()


NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": batch_norm, "none": no_norm}


def doublings(data: DataSpec) -> int:
    """How often a picture's sides can be halved on the way to a base whose short side is about 4.

    64x64 gives 4 (base 4x4), 64x96 gives 4 (base 4x6), 16x16 gives 2.

    Raises:
        LeafwingError: the sides are not divisible by 16 or not 16 to 256 pixels; the message names the nearest legal sizes.
    """
    for side in (data.height, data.width):
        if side % 16 or not 16 <= side <= 256:
            near = "x".join(str(max(16, min(256, round(s / 16) * 16))) for s in (data.height, data.width))
            floor = "x".join(str(max(16, min(256, s // 16 * 16))) for s in (data.height, data.width))
            legal = near if near == floor else f"{floor} or {near}"
            raise LeafwingError(
                f"size {data.height}x{data.width}: both sides must be divisible by 16 and from 16 to 256 pixels. "
                f"Nearest: --size {legal}"
            )
    short = min(data.height, data.width)
    k = 2
    while data.height % 2 ** (k + 1) == 0 and data.width % 2 ** (k + 1) == 0 and short / 2 ** (k + 1) >= 3:
        k += 1
    return k
