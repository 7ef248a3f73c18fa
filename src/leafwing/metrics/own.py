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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing import files, weights_file
from leafwing.data import Dataset
from leafwing.data.pack import cache_folder
from leafwing.engine.setup import seeded
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.pixels import composite_on_white, pool
from leafwing.progress import ProgressCallback, no_progress

T = TypeVar("T")
VERSION = 1
"""Part of the cache key: increment it when the same data give different weights."""

SIDE, WIDTHS, EMBEDDED = 64, (24, 48, 96, 128), 64
STEPS, TRAINING_BATCH, RATE, TEMPERATURE, CONTRAST = 250, 128, 2e-3, 0.2, 0.2
"""Of the training: steps, images per batch, learning rate, temperature and weight of the contrastive loss."""
CROP, JITTER, GREY = 0.6, 0.2, 0.2
"""Of the views: minimum area of a crop, maximum jitter, probability of a grey view."""
THREADS = 1
"""Fixed, because the split of sums over threads affects rounding. Two threads wait for each other on a busy machine."""

BATCH = 128
"""Batch size of feature extraction."""


class Network(nn.Module):
    """Images (n, 1 or 3, height, width) in [-1, 1] -> features (n, 128) and, for a classifier, logits (n, classes).

    Images are downsampled to squares of at most 64 pixels per side. Up to four strided convolutions halve the sides down to about 4,
    followed by global average pooling.

    Args:
        spec: size and channels of the images.
        classes: number of classes; 0 for none.
    """

    def __init__(self, spec: DataSpec, classes: int) -> None:
        super().__init__()
        self.side = min(SIDE, spec.height, spec.width)
        strided = min(len(WIDTHS), max(0, round(math.log2(self.side / 4))))
        inputs, layers = 3 if spec.channels > 2 else 1, list[nn.Module]()
        for i, outputs in enumerate(WIDTHS):
            stride = 2 if i >= len(WIDTHS) - strided else 1
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.classes = classes
        self.head = nn.Linear(inputs, classes) if classes else None

    def square(self, x: Tensor) -> Tensor:
        """Images resized for the network: (n, 1 or 3, side, side)."""
        return pool(x, self.side, self.side) if x.shape[2:] != (self.side, self.side) else x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.body(self.square(x)).mean((2, 3))
        return features, self.head(features) if self.head is not None else None


def feature_network(
    data: Dataset, *, cache: str | Path | None = None, report_progress: ProgressCallback = no_progress
) -> tuple[Network, str]:
    """The network of a data set, from the cache or newly trained, and the hash of its weights.

    Args:
        data: images.
        cache: a folder. None: leafwing's cache.
        report_progress: progress callback: description, amount done, total.

    Raises:
        StorageError: the cache cannot be written.
    """
    path = cache_folder(cache) / "networks" / f"own-{cache_key(data)}.safetensors"
    with deterministic():
        net = Network(data.spec, len(data.spec.labels) if data.labels is not None else 0)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions are faster in it

    def make() -> None:
        train(net, data, report_progress)
        save_weights(net, path)

    load_or_make(path, lambda: load_weights(net, path), make)
    return net.eval().requires_grad_(False), files.digest(path)


def load_or_make(path: Path, load: Callable[[], T | None], make: Callable[[], T]) -> T:
    """What a file of the cache holds, made if it is not there; of several processes that need it, one makes it and the others wait.

    Args:
        path: the file.
        load: reads the file; None if it is missing or unusable.
        make: makes it and writes the file.

    Raises:
        StorageError: the cache cannot be written.
    """
    if (result := load()) is not None:
        return result
    with files.storage(str(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    try:
        result = load()
        return make() if result is None else result
    finally:
        lock.release()


def save_weights(net: nn.Module, path: Path, **facts: Any) -> None:
    """Writes the weights of a network to a file of the cache, with a checksum and whatever else is recorded."""
    files.write(path, weights_file.serialise({key: value.contiguous() for key, value in net.state_dict().items()}, **facts))


def load_weights(net: nn.Module, path: Path) -> dict[str, Any] | None:
    """Loads the weights of a network from a file of the cache.

    Returns:
        What is recorded with them; None if the file is missing, damaged, incompatible, or has no checksum.
    """
    try:
        tensors, facts = weights_file.read_with_facts(path)
        if facts is not None:
            net.load_state_dict(tensors)
    except (RuntimeError, LeafwingError):
        return None
    return facts


def cache_key(data: Dataset) -> str:
    """A hash of the images and the training configuration."""
    rows = "" if data.rows is None else hashlib.sha256(data.rows.tobytes()).hexdigest()
    config = [
        VERSION,
        SIDE,
        WIDTHS,
        EMBEDDED,
        STEPS,
        TRAINING_BATCH,
        RATE,
        TEMPERATURE,
        CONTRAST,
        CROP,
        JITTER,
        GREY,
        THREADS,
    ]
    return hashlib.sha256(json.dumps([data.fingerprint, rows, data.mirror, config]).encode()).hexdigest()[:32]


def train(net: Network, data: Dataset, report_progress: ProgressCallback) -> None:
    """Trains a network in place.

    Each image gives two views. The first is upright and is classified, the second is rotated and its rotation is predicted; both are
    a positive pair of the contrastive loss.
    """
    batch, width = min(TRAINING_BATCH, len(data)), WIDTHS[-1]
    with deterministic():
        projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(True), nn.Linear(width, EMBEDDED))
        rotation_head = nn.Linear(width, 4)
        parameters = [*net.parameters(), *projection.parameters(), *rotation_head.parameters()]
        optimiser = torch.optim.AdamW(parameters, RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        net.train()
        for i in range(STEPS):
            examples = data.to_network(data.batch(0, i * batch, batch))
            images, turns = net.square(composite_on_white(examples.image)), torch.randint(4, (batch,))
            features, logits = net(torch.cat([views(images), rotate(views(images), turns)]))
            loss = F.cross_entropy(rotation_head(features[batch:]), turns)
            loss = loss + CONTRAST * contrastive_loss(projection(features))
            if logits is not None:
                loss = loss + F.cross_entropy(logits[:batch], examples.label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            report_progress("training the feature network own, once for these data", i + 1, STEPS)


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Square images (n, channels, side, side), each rotated by turns (n,) times 90 degrees."""
    result = images.clone()
    for turn in range(1, 4):
        result[turns == turn] = images[turns == turn].rot90(turn, (2, 3))
    return result


def contrastive_loss(embedded: Tensor) -> Tensor:
    """NT-Xent: the mean of -log softmax over cosine similarities / temperature.

    Args:
        embedded: (2n, d), where rows i and n + i are views of one image.
    """
    z = F.normalize(embedded, dim=1)
    logits = (z @ z.t() / TEMPERATURE).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))


def views(images: Tensor) -> Tensor:
    """Random augmentations (n, channels, height, width) in [-1, 1]: crop, brightness, contrast and colour jitter."""
    n, channels = images.shape[:2]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1)

    area, shape = uniform(CROP, 1).sqrt(), uniform(-0.3, 0.3).exp()
    across, down = (area * shape).clamp(max=1), (area / shape).clamp(max=1)
    zero, right, below = torch.zeros(n, 1, 1, 1), (1 - across) * uniform(-1, 1), (1 - down) * uniform(-1, 1)
    box = torch.cat([across, zero, right, zero, down, below], 3).view(n, 2, 3)
    grid = F.affine_grid(box, list(images.shape), align_corners=False)
    result = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    result = (result + 1) * uniform(1 - JITTER, 1 + JITTER) - 1
    mean = result.mean((1, 2, 3), keepdim=True)
    result = (result - mean) * uniform(1 - JITTER, 1 + JITTER) + mean
    if channels == 3:
        grey = result.mean(1, keepdim=True)
        colour = uniform(1 - JITTER, 1 + JITTER) * (uniform(0, 1) >= GREY)
        result = (result - grey) * colour + grey
    return result.clamp(-1, 1)


@contextmanager
def deterministic() -> Iterator[None]:
    """Makes random numbers and sums inside reproducible; restores random state and threads afterwards."""
    before = torch.get_num_threads()
    with seeded(0):
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(before)
