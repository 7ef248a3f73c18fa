"""A digit classifier ("reader") that assigns stacked images to modes: trained once on the digits, then cached.

A small convolutional network on 16x16 pixels, trained on nine tenths of the digits; its accuracy on the remaining tenth is stored
with the weights and reported with every result. Training is deterministic: fixed seed, one thread.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from leafwing.data.dataset import Dataset
from leafwing.data.pack import cache_folder
from leafwing.engine.setup import seeded
from leafwing.metrics.own import load_or_make, load_weights, save_weights
from leafwing.pixels import to_floats
from leafwing.progress import ProgressCallback, no_progress

SIDE = 16
BATCH = 64
STEPS = 3_000
RATE = 3e-3
VERSION = 1
"""Part of the cache key: increment it when the training changes."""


class Network(nn.Module):
    """Grey images (n, 1, height, width) in [-1, 1] -> logits of the digits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 96), nn.ReLU(), nn.Linear(96, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(functional.adaptive_avg_pool2d(x, SIDE))


@dataclass(frozen=True)
class Reader:
    """A trained reader.

    Args:
        network: outputs logits.
        accuracy: accuracy on held-out real digits.
    """

    network: Network
    accuracy: float

    @torch.inference_mode()
    def read(self, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The predicted digit in each plane of images (n, channels, height, width) in [-1, 1], and its probability.

        Returns:
            int64 (n, channels) and float32 (n, channels), 0.1 to 1.
        """
        n, channels = images.shape[:2]
        planes = images.float().cpu().reshape(n * channels, 1, *images.shape[2:])
        confidence, digits = torch.cat([self.network(part).softmax(1) for part in planes.split(1_024)]).max(1)
        return digits.numpy().reshape(n, channels), confidence.numpy().reshape(n, channels)


def load_reader(
    digits: Dataset, cache: str | Path | None = None, *, report_progress: ProgressCallback = no_progress
) -> Reader:
    """The reader of these digits, from the cache or newly trained.

    Args:
        digits: grey images of one size, with the classes 0 to 9.
        cache: folder of the cache; see `leafwing.data.load`.
        report_progress: progress callback: description, amount done, total.

    Raises:
        StorageError: the cache cannot be written.
    """
    key = hashlib.sha256(json.dumps([VERSION, digits.fingerprint]).encode()).hexdigest()
    path = cache_folder(cache) / "readers" / f"{key}.safetensors"

    def make() -> Reader:
        reader = train(digits, report_progress)
        save_weights(reader.network, path, accuracy=reader.accuracy, digits=digits.source)
        return reader

    return load_or_make(path, lambda: _read(path), make)


def train(digits: Dataset, report_progress: ProgressCallback = no_progress) -> Reader:
    """Trains a reader, leaving the caller's random state and threads unchanged.

    Each batch is shifted by up to a sixteenth of the side, because generated digits are not centred like real ones.
    """
    assert digits.labels is not None
    threads = torch.get_num_threads()
    order = np.random.Generator(np.random.Philox(VERSION)).permutation(len(digits))
    n_test = max(1, len(digits) // 10)
    test, training = torch.from_numpy(order).tensor_split([n_test])
    images = torch.from_numpy(digits.pictures(np.arange(len(digits)))).permute(0, 3, 1, 2)
    labels = torch.from_numpy(digits.labels)
    try:
        torch.set_num_threads(1)
        with seeded(VERSION):
            network = Network()
            optimiser = torch.optim.Adam(network.parameters(), RATE, fused=True)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
            max_shift = max(1, digits.spec.height // 16)
            for i in range(STEPS):
                batch = training[torch.randint(len(training), (BATCH,))]
                shift = torch.randint(-max_shift, max_shift + 1, (2,)).tolist()
                shifted = torch.roll(to_floats(images[batch]), shift, (2, 3))
                optimiser.zero_grad()
                functional.cross_entropy(network(shifted), labels[batch]).backward()
                optimiser.step()
                schedule.step()
                report_progress("training the digit reader", i + 1, STEPS)
        network.eval().requires_grad_(False)
        correct = [network(to_floats(images[part])).argmax(1) == labels[part] for part in test.split(1_024)]
    finally:
        torch.set_num_threads(threads)
    return Reader(network, float(torch.cat(correct).double().mean()))


def _read(path: Path) -> Reader | None:
    """The cached reader; None if missing or unreadable."""
    with torch.random.fork_rng(devices=[]):  # initial weights draw random numbers
        network = Network()
    facts = load_weights(network, path)
    accuracy = None if facts is None else facts.get("accuracy")
    return Reader(network.eval().requires_grad_(False), accuracy) if isinstance(accuracy, float) else None
