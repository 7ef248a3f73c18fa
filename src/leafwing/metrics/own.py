"""The feature network `own`: small, trained once on the data that are to be compared, and kept in the cache.

It learns how far a picture was turned (Gidaris et al. 2018, arXiv:1803.07728), which two views belong to one picture (SimCLR: Chen
et al. 2020, arXiv:2002.05709, eq. 1), and, where there are labels, to which class a picture belongs, so that it is a classifier too.
Training is deterministic: on the CPU, with a fixed seed and fixed numbers of steps and of threads. Another kind of processor rounds
otherwise, so its network may differ; the hash of the weights, which is part of every protocol, tells.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
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

VERSION = 1
"""Part of the name in the cache: raise it when the same data give other weights."""

SIDE, WIDTHS, PROJECTED = 64, (24, 48, 96, 128), 64
STEPS, PICTURES, RATE, TEMPERATURE, CONTRAST = 250, 128, 2e-3, 0.2, 0.2
CROP, JITTER, GREY = 0.6, 0.2, 0.2
THREADS = 1
"""Fixed, because sums that are split otherwise round otherwise. Two threads wait for each other where other programs are at work."""

BATCH = 128

Counting = Callable[[str, int, int], None]


class Network(nn.Module):
    """Pictures (n, 1 or 3, height, width) in [-1, 1] -> features (n, 128) and, of a classifier, logits (n, classes).

    Pictures are averaged down to squares of at most 64 pixels a side. Four convolutions halve the sides down to about 4; the
    features are the mean over what is left.

    Args:
        spec: what the pictures look like.
        classes: how many are told apart; 0 for none.
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
        """Pictures as the layers see them: (n, 1 or 3, side, side)."""
        return F.interpolate(x, (self.side, self.side), mode="area") if x.shape[2:] != (self.side, self.side) else x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.body(self.square(x)).mean((2, 3))
        return features, self.head(features) if self.head is not None else None


def own(
    data: Dataset, *, cache: str | Path | None = None, counting: Counting = lambda what, done, total: None
) -> tuple[Network, str]:
    """The network of a data set, from the cache or trained now, and the hash of its weights.

    Args:
        data: pictures.
        cache: a folder. None: the cache of leafwing.
        counting: told what is being done, how much of it is done, out of how much.

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
            lock.acquire()  # others who want the same network wait for this one
        try:
            if not filled(net, path):
                train(net, data, counting)
                files.write(path, save({key: value.contiguous() for key, value in net.state_dict().items()}))
        finally:
            lock.release()
    return net.eval().requires_grad_(False), hashlib.sha256(path.read_bytes()).hexdigest()


def filled(net: Network, path: Path) -> bool:
    """Whether a network could be filled from a file."""
    try:
        net.load_state_dict(load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError):  # missing, damaged, or of another shape
        return False
    return True


def name(data: Dataset) -> str:
    """What decides the weights, as a hash: the pictures and this recipe."""
    rows = "" if data.rows is None else hashlib.sha256(data.rows.tobytes()).hexdigest()
    recipe = [VERSION, SIDE, WIDTHS, PROJECTED, STEPS, PICTURES, RATE, TEMPERATURE, CONTRAST, CROP, JITTER, GREY, THREADS]
    return hashlib.sha256(json.dumps([data.fingerprint, rows, data.mirror, recipe]).encode()).hexdigest()[:32]


def train(net: Network, data: Dataset, counting: Counting) -> None:
    """Trains a network in place.

    Each picture is seen twice. The first view stays upright and tells the class, the second is turned and tells how far; both are
    to find each other.
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
            pictures, turns = net.square(opaque(shown.image.float() / 127.5 - 1)), torch.randint(4, (batch,))
            features, logits = net(torch.cat([views(pictures), turned(views(pictures), turns)]))
            cost = F.cross_entropy(tell_turn(features[batch:]), turns) + CONTRAST * agreement(project(features))
            if logits is not None:
                cost = cost + F.cross_entropy(logits[:batch], shown.label)
            step.zero_grad()
            cost.backward()
            step.step()
            schedule.step()
            counting("training the feature network", i + 1, STEPS)


def turned(pictures: Tensor, turns: Tensor) -> Tensor:
    """Square pictures (n, channels, side, side), each turned by so many (n,) right angles."""
    found = pictures.clone()
    for turn in range(1, 4):
        found[turns == turn] = pictures[turns == turn].rot90(turn, (2, 3))
    return found


def agreement(projected: Tensor) -> Tensor:
    """How badly each view finds its partner among all others: the mean of -log softmax over cosines / temperature.

    Args:
        projected: (2n, d), of which i and n + i are views of one picture.
    """
    z = F.normalize(projected, dim=1)
    alike = (z @ z.t() / TEMPERATURE).fill_diagonal_(-math.inf)
    return F.cross_entropy(alike, torch.arange(len(z)).roll(len(z) // 2))


def views(pictures: Tensor) -> Tensor:
    """Random views (n, channels, height, width) in [-1, 1]: a part of each picture, in other light and colours."""
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
    """Random numbers and sums inside are always the same; afterwards the state and the threads are as they were."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def opaque(pictures: Tensor) -> Tensor:
    """Pictures of 1 to 4 channels in [-1, 1], those with transparency laid on white: 1 or 3 channels."""
    if pictures.shape[1] in (1, 3):
        return pictures
    colours, alpha = pictures[:, :-1], (pictures[:, -1:] + 1) / 2
    return colours * alpha + (1 - alpha)
