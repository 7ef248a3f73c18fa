"""Which feature network detects defects of images? How the one of `own`, and the stage of `lite0`, were chosen.

    python bench/features.py photos --size 64 --networks pixels own lite0
    python bench/features.py

Real images are split into two parts of --n. One is changed as generators typically fail, each defect at two strengths; its FID to
the other part is divided by the FID between the unchanged parts. 1 means that a defect goes undetected. In a good network no value
is near 1, and stronger defects have higher values. FID is biased by the number of dimensions, and KID is not: `kid` holds KID to the
other part, divided by its standard deviation between random halves of the unchanged images. Values are medians over --splits random
splits. Networks: `pixels`; `own` untrained; `own`; `own` trained on only one of its two tasks, rotations or pairs; and `lite0`, with
the means of other stages, of the quarters of its stage, and the 1,280 numbers before its classes. Without a source: the built-in
digits without labels. `own` is trained on all images, both parts included, as in an evaluation without held-out ones. One row per
network.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing.data import Dataset, load
from leafwing.game import DataSpec
from leafwing.machine import versions
from leafwing.metrics import own, photographs
from leafwing.metrics.features import Features, load_features
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.kid import kernel_distance
from leafwing.networks import lite0
from leafwing.pixels import composite_on_white, images_to_tensor
from rows import argument_parser, store

FeatureFunction = Callable[[Tensor], dict[str, np.ndarray]]
"""Images -> features by the name of their case; several of one network are computed in one pass."""

NETWORKS = ("pixels", "own", "turns alone", "pairs alone", "untrained", "lite0")
HALVES = 30
"""Random halves of the unchanged images, for the standard deviation of KID."""


class Head(nn.Module):
    """The rest of EfficientNet-lite0: feature maps of stage 5 (n, 112, h, w) -> the 1,280 numbers before its classes."""

    STAGES = ((4, 5, 2, 6, 192), (1, 3, 1, 6, 320))

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 112
        for count, kernel, stride, expansion, after in self.STAGES:
            for i in range(count):
                blocks.append(lite0.Block(channels, after, kernel, stride if i == 0 else 1, expansion))
                channels = after
        self._blocks = nn.ModuleDict({str(11 + i): block for i, block in enumerate(blocks)})
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, lite0.EPSILON)
        tensors = torch.load(lite0.published_weights(), weights_only=True)
        self.load_state_dict({name: tensors[name] for name in self.state_dict()})

    def forward(self, x: Tensor) -> Tensor:
        for block in self._blocks.values():
            x = block(x)
        return self._bn1(self._conv_head(x)).clamp(0, 6).mean((2, 3))


def taps() -> FeatureFunction:
    """What may be read from EfficientNet-lite0, by the name of the case; `lite0` is the feature network."""
    net, head = lite0.load(), Head().eval()

    @torch.no_grad()
    def features(images: Tensor) -> dict[str, np.ndarray]:
        parts: dict[str, list[Tensor]] = {}
        for batch in images.split(photographs.BATCH):
            maps = net(photographs.at_size(composite_on_white(batch)))
            outputs = {
                "lite0": maps[4].mean((2, 3)),
                "lite0 stage 3": maps[2].mean((2, 3)),
                "lite0 stage 4": maps[3].mean((2, 3)),
                "lite0 stages 1 to 5": torch.cat([part.mean((2, 3)) for part in maps], 1),
                "lite0 quarters": F.adaptive_avg_pool2d(maps[4], 2).flatten(1),
                "lite0 head": head(maps[4]),
            }
            for name, output in outputs.items():
                parts.setdefault(name, []).append(output)
        return {name: torch.cat(values).numpy() for name, values in parts.items()}

    return features


def blurred(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur; `sigma` in pixels."""
    reach = math.ceil(3 * sigma)
    bell = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weight = (bell / bell.sum()).expand(x.shape[1], 1, 1, -1)
    for kernel in (weight, weight.transpose(2, 3)):
        pads = (reach, reach, 0, 0) if kernel is weight else (0, 0, reach, reach)
        x = F.conv2d(F.pad(x, pads, mode="reflect"), kernel, groups=x.shape[1])
    return x


def swapped(x: Tensor, times: int, random: torch.Generator) -> Tensor:
    """Two of the sixteen tiles of each image swapped, a number of times."""
    tiles = x.unflatten(2, (4, -1)).unflatten(4, (4, -1)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).clone()
    index = torch.arange(len(x))
    for _ in range(times):
        a, b = torch.rand(len(x), 16, generator=random).argsort(1)[:, :2].T
        tiles[index, a], tiles[index, b] = tiles[index, b], tiles[index, a].clone()
    return tiles.unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def warped(x: Tensor, share: float, random: torch.Generator) -> Tensor:
    """A smooth random deformation; `share` of the image size."""
    n, _, height, width = x.shape
    offsets = F.interpolate(torch.randn(n, 2, 6, 6, generator=random), (height, width), mode="bicubic") * 2 * share
    identity = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, identity + offsets.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False)


def changes(x: Tensor, seed: int) -> Iterator[tuple[str, float, Tensor]]:
    """Typical defects of generators, each at two strengths: name, amount, changed images."""
    random = torch.Generator().manual_seed(seed)
    n, channels, side = len(x), x.shape[1], x.shape[2]
    for amount in (0.06, 0.25):
        yield "noise", amount, x + amount * torch.randn(x.shape, generator=random)
    for amount in (0.008, 0.025):
        yield "blur", amount, blurred(x, amount * side)
    for amount in (0.1, 0.4):
        yield "ghost", amount, (1 - amount) * x + amount * x[torch.randperm(n, generator=random)]
    for amount in (1, 3):
        yield "tiles", amount, swapped(x, amount, random)
    for amount in (0.015, 0.05):
        yield "warp", amount, warped(x, amount, random)
    for amount in (0.3, 0.05):
        yield "few", amount, x[torch.randint(int(amount * n), (n,), generator=random)]
    order = x.mean((1, 2, 3)).argsort()
    for amount in (0.7, 0.5):
        yield "darker ones alone", amount, x[order[torch.randint(int(amount * n), (n,), generator=random)]]
    for amount in (0.05, 0.1):
        squares = (torch.arange(side)[:, None] + torch.arange(side)) % 2 * 2 - 1
        yield "chequers", amount, x + amount * squares
    for amount in (0.05, 0.15):
        tint = torch.tensor([1.0, -0.5, -0.5][:channels]).view(1, channels, 1, 1)
        yield "tint", amount, x + amount * tint


def only(name: str, network: Features) -> FeatureFunction:
    """The features of a network, without its class probabilities."""
    return lambda x: {name: network(x)[0]}


def networks(names: list[str], data: Dataset, scratch: Path) -> Iterator[tuple[FeatureFunction, float]]:
    """The feature networks of these names, and the seconds of their training."""
    tasks: dict[str, dict[str, Any]] = {
        "own": {"VERSION": own.VERSION},
        "turns alone": {"CONTRAST": 0.0},
        "pairs alone": {"CONTRAST": 1.0, "rotate": lambda images, turns: images},
        "untrained": {"STEPS": 30, "RATE": 0.0},
    }
    for name in names:
        started = time.perf_counter()
        if name == "pixels":
            yield only(name, load_features(name, data)), 0.0
        elif name == "lite0":
            yield taps(), 0.0
        else:
            with mock.patch.multiple(own, **tasks[name]):
                network = load_features("own", data, cache=scratch / name)
            yield only(name, network), time.perf_counter() - started


@dataclass
class Sensitivity:
    """What one case of features detects, one value per split.

    Args:
        alike: FID between the unchanged parts.
        fid: FIDs of each defect and amount, relative to that.
        kid: KIDs of each defect and amount, in standard deviations between random halves.
    """

    alike: list[float] = field(default_factory=list)
    fid: dict[tuple[str, float], list[float]] = field(default_factory=dict)
    kid: dict[tuple[str, float], list[float]] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Medians over the splits: by defect, the values of its amounts."""
        result: dict[str, Any] = {"alike": statistics.median(self.alike)}
        for values, into in ((self.fid, result), (self.kid, result.setdefault("kid", {}))):
            for (name, _), numbers in values.items():
                into.setdefault(name, []).append(round(statistics.median(numbers), 2))
        return result


def chance(real: np.ndarray, other: np.ndarray, seed: int) -> float:
    """The standard deviation of KID between random halves of the same images."""
    random, both = np.random.default_rng(seed), np.concatenate([real, other])
    orders = [random.permutation(len(both)) for _ in range(HALVES)]
    return statistics.stdev(kernel_distance(both[order[: len(real)]], both[order[len(real) :]])[0] for order in orders)


def sensitivity(features: FeatureFunction, pictures: Tensor, n: int, splits: int) -> dict[str, Sensitivity]:
    """What the features detect, by the name of the case."""
    results: dict[str, Sensitivity] = {}
    for seed in range(splits):
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
        real, other = features(pictures[order[:n]]), pictures[order[n : 2 * n]]
        unchanged = features(other)
        deviations = {name: chance(real[name], unchanged[name], seed) for name in real}
        for name in real:
            results.setdefault(name, Sensitivity()).alike.append(frechet_distance(real[name], unchanged[name]))
        for defect, amount, changed in changes(other, seed):
            rounded = features((changed.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1)
            for name, result in results.items():
                distance = frechet_distance(real[name], rounded[name]) / result.alike[-1]
                result.fid.setdefault((defect, amount), []).append(distance)
                kernel = kernel_distance(real[name], rounded[name])[0] / deviations[name]
                result.kid.setdefault((defect, amount), []).append(kernel)
    return results


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("source", nargs="?", default="digits", help="built-in data set or folder of images")
    parser.add_argument("--size", default=None, help="image size in pixels")
    parser.add_argument("--n", type=int, default=800, help="images per part")
    parser.add_argument("--splits", type=int, default=3, help="random splits into two parts")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks to measure")
    parser.add_argument("--name", help="what the images are, for the rows; the source of a built-in data set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load(args.source, size=args.size)
    data = replace(data, spec=DataSpec({"image": data.spec.fields["image"]}), columns={"image": data.array})
    pictures = images_to_tensor(data.array)
    about = {
        "bench": "features",
        "pictures": args.name or (args.source if args.source == "digits" else "given"),
        "samples": args.n,
        "size": f"{data.spec.height}x{data.spec.width}x{data.spec.channels}",
        "splits": args.splits,
    }
    with tempfile.TemporaryDirectory() as scratch:
        for features, seconds in networks(args.networks, data, Path(scratch)):
            for name, result in sensitivity(features, pictures, args.n, args.splits).items():
                store({**about, "case": name, "trained_in": round(seconds, 1), **result.row(), **versions()}, args.results)


if __name__ == "__main__":
    main()
