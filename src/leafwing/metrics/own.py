"""The feature network `own`: small, trained once on the data at hand, and cached.

Its objectives are rotation prediction (Gidaris et al. 2018, arXiv:1803.07728), contrastive learning (SimCLR: Chen et al. 2020,
arXiv:2002.05709, eq. 1) and, if there are labels, classification, so that it is a classifier too. Training is deterministic: on the
CPU, with a fixed seed, number of steps and number of threads. Other processors may round differently and give another network; the
hash of the weights, which is part of every protocol, reveals that.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing import files
from leafwing.data import Dataset
from leafwing.data.pack import cache_folder
from leafwing.game import DataSpec
from leafwing.pixels import to_floats
from leafwing.progress import Progress, no_progress

VERSION = 1
"""Part of the cache key: increment it when the same data give different weights."""

SIDE, WIDTHS, PROJECTED = 64, (24, 48, 96, 128), 64
STEPS, PICTURES, RATE, TEMPERATURE, CONTRAST = 250, 128, 2e-3, 0.2, 0.2
CROP, JITTER, GREY = 0.6, 0.2, 0.2
THREADS = 1
"""Fixed, because the split of sums over threads affects rounding. Two threads wait for each other on a busy machine."""

BATCH = 128


class Network(nn.Module):
    """Pictures (n, 1 or 3, height, width) in [-1, 1] -> features (n, 128) and, for a classifier, logits (n, classes).

    Pictures are downsampled to squares of at most 64 pixels per side. Up to four strided convolutions halve the sides down to about 4,
    followed by global average pooling.

    Args:
        spec: what the pictures look like.
        classes: number of classes; 0 for none.
    """

    def __init__(self, spec: DataSpec, classes: int) -> None:
        super().__init__()
        self.side = min(SIDE, spec.height, spec.width)
        halved = min(len(WIDTHS), max(0, round(math.log2(self.side / 4))))
        inputs, layers = 3 if spec.channels > 2 else 1, list[nn.Module]()
        for i, outputs in enumerate(WIDTHS):
            stride = 2 if i >= len(WIDTHS) - halved else 1
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.classes = classes
        self.head = nn.Linear(inputs, classes) if classes else None

    def square(self, x: Tensor) -> Tensor:
        """Pictures resized for the network: (n, 1 or 3, side, side)."""
        return F.interpolate(x, (self.side, self.side), mode="area") if x.shape[2:] != (self.side, self.side) else x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.body(self.square(x)).mean((2, 3))
        return features, self.head(features) if self.head is not None else None


def own(data: Dataset, *, cache: str | Path | None = None, report_progress: Progress = no_progress) -> tuple[Network, str]:
    """The network of a data set, from the cache or newly trained, and the hash of its weights.

    Args:
        data: pictures.
        cache: a folder. None: leafwing's cache.
        report_progress: progress callback: description, amount done, total.

    Raises:
        StorageError: the cache cannot be written.
    """
    folder = cache_folder(cache) / "networks"
    path = folder / f"own-{name(data)}.safetensors"
    with drawn_alike():
        net = Network(data.spec, len(data.spec.labels) if data.labels is not None else 0)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions are faster in it
    if not filled(net, path):
        with files.storage(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()  # other processes that need the same network wait
        try:
            if not filled(net, path):
                train(net, data, report_progress)
                files.write(path, save({key: value.contiguous() for key, value in net.state_dict().items()}))
        finally:
            lock.release()
    return net.eval().requires_grad_(False), files.digest(path)


def filled(net: Network, path: Path) -> bool:
    """Loads a network from a file; whether that succeeded."""
    try:
        net.load_state_dict(load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError):  # missing, damaged, or incompatible
        return False
    return True


def name(data: Dataset) -> str:
    """The cache key: a hash of the pictures and the training configuration."""
    rows = "" if data.rows is None else hashlib.sha256(data.rows.tobytes()).hexdigest()
    recipe = [VERSION, SIDE, WIDTHS, PROJECTED, STEPS, PICTURES, RATE, TEMPERATURE, CONTRAST, CROP, JITTER, GREY, THREADS]
    return hashlib.sha256(json.dumps([data.fingerprint, rows, data.mirror, recipe]).encode()).hexdigest()[:32]


def train(net: Network, data: Dataset, report_progress: Progress) -> None:
    """Trains a network in place.

    Each picture gives two views. The first is upright and is classified, the second is rotated and its rotation is predicted; both are
    a positive pair of the contrastive loss.
    """
    batch, width = min(PICTURES, len(data)), WIDTHS[-1]
    with drawn_alike():
        project = nn.Sequential(nn.Linear(width, width), nn.ReLU(True), nn.Linear(width, PROJECTED))
        tell_turn = nn.Linear(width, 4)
        moved = [*net.parameters(), *project.parameters(), *tell_turn.parameters()]
        step = torch.optim.AdamW(moved, RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, STEPS)
        net.train()
        for i in range(STEPS):
            shown = data.batch(0, i * batch, batch)
            pictures, turns = net.square(opaque(to_floats(shown.image))), torch.randint(4, (batch,))
            features, logits = net(torch.cat([views(pictures), turned(views(pictures), turns)]))
            cost = F.cross_entropy(tell_turn(features[batch:]), turns) + CONTRAST * agreement(project(features))
            if logits is not None:
                cost = cost + F.cross_entropy(logits[:batch], shown.label)
            step.zero_grad()
            cost.backward()
            step.step()
            schedule.step()
            report_progress("training the feature network", i + 1, STEPS)


def turned(pictures: Tensor, turns: Tensor) -> Tensor:
    """Square pictures (n, channels, side, side), each rotated by turns (n,) times 90 degrees."""
    found = pictures.clone()
    for turn in range(1, 4):
        found[turns == turn] = pictures[turns == turn].rot90(turn, (2, 3))
    return found


def agreement(projected: Tensor) -> Tensor:
    """The contrastive loss (NT-Xent): the mean of -log softmax over cosine similarities / temperature.

    Args:
        projected: (2n, d), where rows i and n + i are views of one picture.
    """
    z = F.normalize(projected, dim=1)
    alike = (z @ z.t() / TEMPERATURE).fill_diagonal_(-math.inf)
    return F.cross_entropy(alike, torch.arange(len(z)).roll(len(z) // 2))


def views(pictures: Tensor) -> Tensor:
    """Random augmentations (n, channels, height, width) in [-1, 1]: crop, brightness, contrast and colour jitter."""
    n, channels = pictures.shape[:2]

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1)

    area, shape = drawn(CROP, 1).sqrt(), drawn(-0.3, 0.3).exp()
    across, down = (area * shape).clamp(max=1), (area / shape).clamp(max=1)
    zero, right, below = torch.zeros(n, 1, 1, 1), (1 - across) * drawn(-1, 1), (1 - down) * drawn(-1, 1)
    box = torch.cat([across, zero, right, zero, down, below], 3).view(n, 2, 3)
    places = F.affine_grid(box, list(pictures.shape), align_corners=False)
    seen = F.grid_sample(pictures, places, padding_mode="reflection", align_corners=False)
    seen = (seen + 1) * drawn(1 - JITTER, 1 + JITTER) - 1
    middle = seen.mean((1, 2, 3), keepdim=True)
    seen = (seen - middle) * drawn(1 - JITTER, 1 + JITTER) + middle
    if channels == 3:
        grey = seen.mean(1, keepdim=True)
        colour = drawn(1 - JITTER, 1 + JITTER) * (drawn(0, 1) >= GREY)
        seen = (seen - grey) * colour + grey
    return seen.clamp(-1, 1)


@contextmanager
def drawn_alike() -> Iterator[None]:
    """Makes random numbers and sums inside reproducible; restores random state and threads afterwards."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def opaque(pictures: Tensor) -> Tensor:
    """Pictures with 1 to 4 channels in [-1, 1], composited onto white if transparent: 1 or 3 channels."""
    if pictures.shape[1] in (1, 3):
        return pictures
    colours, alpha = pictures[:, :-1], (pictures[:, -1:] + 1) / 2
    return colours * alpha + (1 - alpha)
