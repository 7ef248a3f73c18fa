"""The network behind published FID and KID: Inception v3 as in TensorFlow's 2015 graph, with the public port of its weights.

Szegedy et al. 2015, arXiv:1512.00567, with the deviations of that graph: average pooling that excludes padding, max pooling in the
last block, 1,008 classes. The module's keys match those of the weight file. Images in [-1, 1] are resized to 299x299 bilinearly
without antialiasing, as in the code of FID's authors and the port.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing import files
from leafwing.errors import InvalidOption, LeafwingError

FILE = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""The file name contains the first eight digits. The full hash comes from independent public sources: we could not download the
file."""

SIZE, FEATURES, CLASSES = 299, 2048, 1008
BATCH = 16
"""Batch size: at 299x299 a forward pass takes some 6 MB of memory per image."""


class Conv(nn.Module):
    """Convolution, batch normalisation (epsilon .001) and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


@dataclass(frozen=True)
class Layer:
    """A convolution of a branch: name, output channels, kernel. Stride 1 keeps the size, stride 2 has no padding."""

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1

    def build(self, inputs: int) -> Conv:
        padding = (0, 0) if self.stride == 2 else (self.kernel[0] // 2, self.kernel[1] // 2)
        return Conv(inputs, self.outputs, self.kernel, self.stride, padding)


def average_pool(x: Tensor) -> Tensor:
    """3x3 average pooling that excludes padding."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def max_pool(x: Tensor) -> Tensor:
    """3x3 max pooling, stride 1."""
    return F.max_pool2d(x, 3, 1, 1)


def max_pool_half(x: Tensor) -> Tensor:
    """3x3 max pooling, stride 2."""
    return F.max_pool2d(x, 3, 2)


Pool = Callable[[Tensor], Tensor]
Branch = Sequence[Layer | Pool | tuple[Layer, Layer]]
"""Consecutive steps; a pair of layers, always last, is applied to the same input and concatenated."""


class Block(nn.Module):
    """Parallel branches, concatenated along the channels.

    Args:
        inputs: input channels.
        branches: in the order of concatenation.
    """

    def __init__(self, inputs: int, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches, self.outputs = branches, 0
        for branch in branches:
            channels = inputs
            for step in branch:
                layers = step if isinstance(step, tuple) else (step,)
                convolutions = [layer for layer in layers if isinstance(layer, Layer)]
                for layer in convolutions:
                    self.add_module(layer.name, layer.build(channels))
                channels = sum(layer.outputs for layer in convolutions) or channels
            self.outputs += channels

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                if isinstance(step, Layer):
                    y = self.get_submodule(step.name)(y)
                elif isinstance(step, tuple):
                    y = torch.cat([self.get_submodule(layer.name)(y) for layer in step], 1)
                else:
                    y = step(y)
            outputs.append(y)
        return torch.cat(outputs, 1)


def block_a(inputs: int, pooled: int) -> Block:
    """35x35: 1x1, 5x5, two 3x3, pool."""
    three = [Layer("branch3x3dbl_1", 64), Layer("branch3x3dbl_2", 96, (3, 3)), Layer("branch3x3dbl_3", 96, (3, 3))]
    five = [Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))]
    return Block(inputs, [[Layer("branch1x1", 64)], five, three, [average_pool, Layer("branch_pool", pooled)]])


def block_b(inputs: int) -> Block:
    """35x35 to 17x17."""
    three = [Layer("branch3x3dbl_1", 64), Layer("branch3x3dbl_2", 96, (3, 3)), Layer("branch3x3dbl_3", 96, (3, 3), 2)]
    return Block(inputs, [[Layer("branch3x3", 384, (3, 3), 2)], three, [max_pool_half]])


def block_c(inputs: int, middle: int) -> Block:
    """17x17: 1x1, 7x7 as a row and a column, the same twice, pool."""
    row, column = (1, 7), (7, 1)
    once = [Layer("branch7x7_1", middle), Layer("branch7x7_2", middle, row), Layer("branch7x7_3", 192, column)]
    twice = [
        Layer("branch7x7dbl_1", middle),
        Layer("branch7x7dbl_2", middle, column),
        Layer("branch7x7dbl_3", middle, row),
        Layer("branch7x7dbl_4", middle, column),
        Layer("branch7x7dbl_5", 192, row),
    ]
    return Block(inputs, [[Layer("branch1x1", 192)], once, twice, [average_pool, Layer("branch_pool", 192)]])


def block_d(inputs: int) -> Block:
    """17x17 to 8x8."""
    three = [Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2)]
    seven = [
        Layer("branch7x7x3_1", 192),
        Layer("branch7x7x3_2", 192, (1, 7)),
        Layer("branch7x7x3_3", 192, (7, 1)),
        Layer("branch7x7x3_4", 192, (3, 3), 2),
    ]
    return Block(inputs, [three, seven, [max_pool_half]])


def block_e(inputs: int, pool: Pool) -> Block:
    """8x8: 1x1, 3x3 as a row and a column in parallel, the same after a 3x3, pool."""
    three: Branch = [
        Layer("branch3x3_1", 384),
        (Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1))),
    ]
    twice: Branch = [
        Layer("branch3x3dbl_1", 448),
        Layer("branch3x3dbl_2", 384, (3, 3)),
        (Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
    ]
    return Block(inputs, [[Layer("branch1x1", 320)], three, twice, [pool, Layer("branch_pool", 192)]])


class Inception(nn.Module):
    """Images (n, 1 or 3, height, width) in [-1, 1] -> features (n, 2048) and logits (n, 1008)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, (3, 3), 2, (0, 0))
        self.Conv2d_2a_3x3 = Conv(32, 32, (3, 3), 1, (0, 0))
        self.Conv2d_2b_3x3 = Conv(32, 64, (3, 3), 1, (1, 1))
        self.Conv2d_3b_1x1 = Conv(64, 80, (1, 1), 1, (0, 0))
        self.Conv2d_4a_3x3 = Conv(80, 192, (3, 3), 1, (0, 0))
        self.Mixed_5b = block_a(192, 32)
        self.Mixed_5c = block_a(256, 64)
        self.Mixed_5d = block_a(288, 64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, 128)
        self.Mixed_6c = block_c(768, 160)
        self.Mixed_6d = block_c(768, 160)
        self.Mixed_6e = block_c(768, 192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, average_pool)
        self.Mixed_7c = block_e(2048, max_pool)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.interpolate(x.expand(-1, 3, -1, -1), (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool_half(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool_half(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        features = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
        # Without bias: the Inception score's authors used the weights alone, and all ports follow them.
        return features, features @ self.fc.weight.t()


def inception(weights: str | Path | None = None, *, url: str = URL, sha256: str = SHA256) -> tuple[Inception, str]:
    """The network with its weights, and the hash of their file.

    Args:
        weights: a local .pth or .safetensors file; None: the public one, downloaded once into torch.hub's cache.
        url: URL of the public file.
        sha256: hash of the public file.

    Raises:
        LeafwingError: the file is missing, damaged or a different one, or cannot be downloaded; the message says what to do.
        StorageError: it cannot be written.
    """
    path = Path(weights) if weights is not None else public_weights(url, sha256)
    with torch.device("meta"):  # its weights come from the file
        net = Inception()
    expected, tensors = net.state_dict(), read(path)
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # not weights, and missing in some ports
    tensors |= {name: torch.tensor(0) for name in counters}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise LeafwingError(
            f"{path}: not the weights of the FID Inception network: {missing[0]} is missing (expected file: {FILE})"
        )
    unexpected = [name for name, value in tensors.items() if name not in expected or value.shape != expected[name].shape]
    if unexpected:
        raise LeafwingError(
            f"{path}: not the weights of the FID Inception network: {min(unexpected)} is unknown or has the wrong shape "
            f"(expected file: {FILE})"
        )
    net.load_state_dict(tensors, assign=True)
    return net.eval().requires_grad_(False), files.digest(path)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file, by name, without executing any code in it.

    Raises:
        LeafwingError: the file is missing, damaged, or contains anything but tensors.
    """
    if not path.is_file():
        raise InvalidOption("weights", path, "no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors = load_file(path)
        else:
            tensors = torch.load(path, weights_only=True, map_location="cpu")
        return {str(name): value.float() for name, value in tensors.items() if isinstance(value, Tensor)}
    except PermissionError as error:
        raise LeafwingError(f"{path}: cannot read the weight file: {error.strerror}") from None
    except Exception:  # torch raises many types for a damaged file, and its words advise loading without checks
        raise LeafwingError(
            f"{path}: cannot read the weight file: it is damaged, or not a file of tensors alone, and was not loaded. Copy or "
            f"download it again (expected file: {FILE})"
        ) from None


def public_weights(url: str = URL, sha256: str = SHA256) -> Path:
    """The public weight file in torch.hub's cache, downloaded if missing or damaged; its hash is always checked."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if path.is_file() and files.digest(path) == sha256:
        return path
    with files.storage(str(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, lambda temporary: download(url, temporary, sha256, path))
    return path


def download(url: str, temporary: Path, sha256: str, path: Path) -> None:
    """Downloads a file and checks its hash.

    Args:
        url: source.
        temporary: file to write to.
        sha256: expected hash.
        path: final path, for the messages.
    """
    instructions = f"Place the file manually (sha256 {sha256}) at {path}, or pass it with --weights FILE"
    hasher = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=30) as source, temporary.open("wb") as file:
            while chunk := source.read(1 << 20):
                hasher.update(chunk)
                file.write(chunk)
    except urllib.error.HTTPError as error:
        raise LeafwingError(f"{url} cannot be downloaded: HTTP error {error.code} {error.reason}. {instructions}") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise LeafwingError(f"{url} cannot be downloaded: {reason}. {instructions}") from None
    if hasher.hexdigest() != sha256:
        raise LeafwingError(
            f"{url} returned an unexpected file with sha256 {hasher.hexdigest()}, which was discarded. {instructions}"
        )
