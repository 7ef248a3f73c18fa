"""Segmenter score: can what was generated from a label map be read back as that map? The FCN score of Isola et al.

Isola et al. 2016, arXiv:1611.07004, section 4.1, with the accuracies of Long et al. 2015, arXiv:1411.4038, section 5. There the reader
is a large network trained on the same photographs; here it is a small U-Net that is trained once on the real training pairs (image to
map), on the CPU and deterministically, and cached under a hash of the data and of this procedure.

    pixel_accuracy    fraction of the pixels of all samples that are read as their class
    class_accuracy    the mean over classes of the fraction of their pixels that are read correctly
    class_iou         the mean over classes of intersection over union
    real_...          the same for the real targets: the best that can be expected

The map is a field of classes, or images of few flat colours: each pixel belongs to the nearest of at most 32 colours found in
the training maps. Pixels near none of them (blended outlines, JPEG noise) do not count. Read at no more than 128 pixels a side.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing import files
from leafwing.data.pack import cache_folder
from leafwing.errors import LeafwingError
from leafwing.fields import Field, Image, Segmentation
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import with_interval
from leafwing.metrics.own import cache_key, deterministic, load_or_make, load_weights, save_weights
from leafwing.pixels import composite_on_white, to_bytes
from leafwing.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from leafwing.data import Dataset

VERSION = 1
"""Part of the cache key: increment it when the same data give different weights."""
SIDE, WIDTHS = 128, (16, 32, 64, 96)
STEPS, BATCH, RATE = 300, 8, 3e-3
"""Of the training: steps, pairs per batch, peak learning rate."""

MAX_COLOURS, APART, NEAR, FLAT = 32, 40, 40, 16
"""Of label maps as images: number of colours, distance of two colours, distance of a pixel from its colour, range of values in a flat
region of 3x3 pixels; in grey levels."""
MAPS, PIXELS = 64, 50_000
"""Number of training maps, and of their pixels, in which colours are looked for."""
MIN_NEAR, MIN_SHARE = 0.95, 0.001
"""Minimum share of the flat pixels that is near one of the colours, and minimum share of a colour."""
IGNORED = -1
MEASURES = ("pixel_accuracy", "class_accuracy", "class_iou")


class Network(nn.Module):
    """A U-Net: images (n, channels, height, width) in [-1, 1] with sides divisible by 8 -> logits (n, classes, height, width)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)
            )

        self.encoder = nn.ModuleList([block(channels, WIDTHS[0])])
        self.encoder.extend(block(a, b, 2) for a, b in pairwise(WIDTHS))
        self.decoder = nn.ModuleList(block(a + b, a) for a, b in reversed([*pairwise(WIDTHS)]))
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for layer in self.encoder:
            maps.append(x := layer(x))
        maps.pop()
        for layer in self.decoder:
            skip = maps.pop()
            x = layer(torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=False), skip], 1))
        return self.head(x)


@dataclass(frozen=True)
class Segmenter:
    """A trained segmenter.

    Args:
        input: name of the field that holds the maps.
        kind: its kind.
        colours: the colours of the classes, float32 (classes, channels) in 0 to 255; None for a field of classes.
        size: height and width at which it reads.
        net: the network.
        digest: hash of its weights.
    """

    input: str
    kind: Field
    colours: Tensor | None
    size: tuple[int, int]
    net: Network
    digest: str = ""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.kind.shape[0] if self.colours is None else len(self.colours)

    def maps(self, inputs: Tensor) -> Tensor:
        """The classes (b, height, width) of label maps as networks see them; `IGNORED` for pixels near no class."""
        inputs = F.interpolate(inputs, self.size, mode="nearest-exact")
        return inputs.argmax(1) if self.colours is None else assign(to_pixels(inputs), self.colours)

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """The classes (b, height, width) read in images (b, channels, height, width) in [-1, 1]."""
        return torch.cat([self.net(self.resize(part)).argmax(1) for part in images.split(BATCH)])

    def resize(self, images: Tensor) -> Tensor:
        """Images at the size at which the network reads."""
        images = composite_on_white(images)
        return images if images.shape[2:] == self.size else F.interpolate(images, self.size, mode="area")


def measure(evidence: Evidence) -> list[Measure]:
    """The three accuracies of samples and of real targets, with jackknife intervals over images.

    Raises:
        LeafwingError: there is no segmenter, or the samples have no targets.
    """
    segmenter = evidence.segmenter
    if segmenter is None:
        raise LeafwingError("the metric segmenter needs pairs of a label map and an image")
    fake_counts, real_counts = [], []
    for inputs, (fake, real) in zip(evidence.inputs(segmenter.input), evidence.pairs(), strict=True):
        maps = segmenter.maps(inputs)
        fake_counts.append(confusion(maps, segmenter.read(fake.nan_to_num(-1)), segmenter.classes))
        real_counts.append(confusion(maps, segmenter.read(real), segmenter.classes))
    result = []
    for prefix, counts in (("", np.concatenate(fake_counts)), ("real_", np.concatenate(real_counts))):
        values, errors = scores(counts.sum(0)), jackknife(counts)
        result += [
            with_interval(prefix + name, value, error, "" if prefix else "higher", minimum=0, maximum=1)
            for name, value, error in zip(MEASURES, values, errors, strict=True)
        ]
    return result


def confusion(maps: Tensor, predictions: Tensor, classes: int) -> np.ndarray:
    """For each image, how many pixels of class i are read as j: int64 (b, classes, classes); ignored pixels do not count."""
    counts = []
    for target, predicted in zip(maps.flatten(1), predictions.flatten(1), strict=True):
        valid = target != IGNORED
        pairs = target[valid] * classes + predicted[valid]
        counts.append(torch.bincount(pairs, minlength=classes**2).reshape(classes, classes))
    return torch.stack(counts).numpy()


def scores(counts: np.ndarray) -> np.ndarray:
    """Pixel accuracy, class accuracy and class IoU of counts (classes, classes): (3,). Classes without pixels are left out."""
    correct, of_class, as_class = np.diag(counts), counts.sum(1), counts.sum(0)
    present = of_class > 0
    if not present.any():
        return np.full(3, np.nan)
    correct, of_class, as_class = (side[present].astype(float) for side in (correct, of_class, as_class))
    union = of_class + as_class - correct
    return np.array([correct.sum() / of_class.sum(), (correct / of_class).mean(), (correct / union).mean()])


def jackknife(counts: np.ndarray) -> np.ndarray:
    """The standard errors of `scores` from leaving out one image at a time, (3,); NaN for a single image."""
    n = len(counts)
    if n < 2:
        return np.full(3, np.nan)
    total = counts.sum(0)
    without = np.array([scores(total - one) for one in counts])
    return np.sqrt((n - 1) * without.var(0))


# --- colours of label maps ----------------------------------------------------------------------------------------------------


def to_pixels(images: Tensor) -> Tensor:
    """Images (b, channels, height, width) in [-1, 1] as grey levels, float32 (b, height, width, 1 or 3)."""
    return to_bytes(composite_on_white(images)).float().permute(0, 2, 3, 1)


def assign(pixels: Tensor, colours: Tensor) -> Tensor:
    """The index of the nearest colour (k, channels) of pixels (..., channels); `IGNORED` beyond `NEAR`."""
    distances = torch.cdist(pixels.reshape(-1, pixels.shape[-1]), colours)
    smallest, index = distances.min(1)
    return index.masked_fill_(smallest > NEAR, IGNORED).reshape(pixels.shape[:-1])


def find_colours(maps: Tensor) -> Tensor | None:
    """The colours of label maps, float32 (k, channels), the most frequent first; None if the images are no label maps.

    Only flat regions are looked at, in which JPEG noise is small. The most frequent cell of a coarse histogram and everything near it
    is a colour, then the next one, and so on. Label maps have few colours that hold nearly all flat pixels.

    Args:
        maps: images (n, channels, height, width) in [-1, 1].
    """
    pixels = to_pixels(maps)
    planes = pixels.permute(0, 3, 1, 2)
    spread = F.max_pool2d(planes, 3, 1, 1) + F.max_pool2d(-planes, 3, 1, 1)
    flat = pixels[(spread.amax(1) <= FLAT)]
    if len(flat) < pixels[..., 0].numel() / 20:
        return None
    flat = flat[:: max(1, len(flat) // PIXELS)]
    colours: list[Tensor] = []
    remaining = flat
    while len(remaining) >= MIN_SHARE * len(flat):
        if len(colours) > MAX_COLOURS:
            return None
        cells = ((remaining / 8).round().long() * torch.tensor([1, 64, 4096])[: remaining.shape[1]]).sum(1)
        _, inverse, counts = cells.unique(return_inverse=True, return_counts=True)
        centre = remaining[inverse == counts.argmax()].mean(0)
        for _ in range(3):  # mean shift
            centre = remaining[(remaining - centre).norm(dim=1) <= NEAR / 2].mean(0)
        colours.append(centre)
        remaining = remaining[(remaining - centre).norm(dim=1) > APART]
    centres = torch.stack(colours)
    index = assign(flat, centres)
    counted = torch.bincount(index[index != IGNORED], minlength=len(centres)) >= MIN_SHARE * len(flat)
    centres = centres[counted]
    near = torch.cdist(flat, centres).min(1)[0] if len(centres) else torch.full((1,), torch.inf)
    is_map = 2 <= len(centres) <= MAX_COLOURS and (near <= NEAR / 2).double().mean() >= MIN_NEAR
    return centres if is_map else None


# --- training -----------------------------------------------------------------------------------------------------------------


def describe_maps(data: Dataset, name: str) -> tuple[Field, Tensor | None]:
    """The kind of a field that holds label maps, and the colours of its classes; None for a field of classes.

    Raises:
        LeafwingError: it holds no label maps.
    """
    kind = data.spec.fields[name]
    if isinstance(kind, Segmentation):
        return kind, None
    if isinstance(kind, Image) and name in data.columns:
        indices = np.linspace(0, len(data) - 1, min(MAPS, len(data))).astype(np.int64)
        colours = find_colours(kind.to_network(torch.from_numpy(data.stored(name, indices))))
        if colours is not None:
            return kind, colours
    raise LeafwingError(
        f"the metric segmenter reads images back as label maps, and the field {name} of {data.source} is none: it needs a field of "
        f"classes, or paired images of at most {MAX_COLOURS} flat colours"
    )


def load_segmenter(
    data: Dataset,
    output: str,
    name: str,
    *,
    cache: str | Path | None = None,
    report_progress: ProgressCallback = no_progress,
) -> Segmenter:
    """The segmenter of training pairs, from the cache or newly trained.

    Args:
        data: the training set.
        output: the field that holds the images.
        name: the field that holds the maps.
        cache: a folder. None: leafwing's cache.
        report_progress: progress callback: description, amount done, total.

    Raises:
        LeafwingError: the field holds no label maps.
        StorageError: the cache cannot be written.
    """
    kind, colours = describe_maps(data, name)
    images = data.spec.fields[output]
    assert isinstance(images, Image)
    classes = kind.shape[0] if colours is None else len(colours)
    with deterministic():
        net = Network(3 if images.channels > 2 else 1, classes)
    segmenter = Segmenter(name, kind, colours, reading_size(images.height, images.width), net)
    settings = [VERSION, cache_key(data), output, name, SIDE, WIDTHS, STEPS, BATCH, RATE, classes]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]
    path = cache_folder(cache) / "networks" / f"segmenter-{digest}.safetensors"

    def make() -> None:
        train(segmenter, data, output, report_progress)
        save_weights(net, path)

    load_or_make(path, lambda: load_weights(net, path), make)
    net.eval().requires_grad_(False)
    return Segmenter(name, kind, colours, segmenter.size, net, files.digest(path))


def reading_size(height: int, width: int) -> tuple[int, int]:
    """The size at which a segmenter reads images of this size: at most `SIDE` pixels a side, divisible by 8."""
    scale = min(1.0, SIDE / max(height, width))
    return max(8, round(height * scale / 8) * 8), max(8, round(width * scale / 8) * 8)


def train(segmenter: Segmenter, data: Dataset, output: str, report_progress: ProgressCallback) -> None:
    """Trains a segmenter in place: cross-entropy, on pairs of which half are mirrored."""
    from leafwing.metrics.targets import columns_of

    net, pairs, batch = segmenter.net, columns_of(data, [output, segmenter.input]), min(BATCH, len(data))
    with deterministic():
        optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
        net.train()
        for i in range(STEPS):
            examples = pairs.to_network(pairs.batch(0, i * batch, batch))
            images, maps = segmenter.resize(examples[output]), segmenter.maps(examples[segmenter.input])
            flips = torch.rand(batch) < 0.5
            images = torch.where(flips[:, None, None, None], images.flip(3), images)
            maps = torch.where(flips[:, None, None], maps.flip(2), maps)
            loss = F.cross_entropy(net(images), maps, ignore_index=IGNORED)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            report_progress("training the segmenter", i + 1, STEPS)
