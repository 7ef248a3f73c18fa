"""Leaks: do samples look as if they were augmented? For runs whose critics saw randomly changed images.

A critic that sees real and generated images with the same changes leaves a generator free to make changed images itself, if changes
are so frequent that unchanged images are not the most probable ones: they leak (Karras et al. 2020, arXiv:2006.06676, section 2.2).

For each kind of change that the training made, a small classifier learns to tell real images from the same images changed in this one
way, on the CPU and deterministically. Real images that it has not seen say how well it does: held-out ones, else a third of the
training images, left out here. Three numbers of each kind:

    turned_seen   p: share of the samples that the classifier takes for changed
    turned_real   f: share of the unchanged real images that it takes for changed
    turned        (p - f) / (t - f), from 0 to 1: the share of changed samples, where t is the share of changed real images that it
                  takes for changed (Rogan and Gladen 1978, doi:10.1093/oxfordjournals.aje.a112510)

If t - f is below one half, the classifier cannot tell, as for images without up and down, and `turned` is undefined. The interval is
normal, with Agresti and Coull's adjusted shares. It assumes that the classifier errs on unchanged samples as often as on real images.

Kinds: turned (by 90 degrees; by 180 if not square), inverted (lightness), recoloured (hue, saturation; with `diff` also
brightness and contrast), shifted (with an empty border), cut_out (an empty rectangle).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import isnan, nan, pi, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing.augment_option import AugmentOption, parse
from leafwing.engine.augmentation import Augmentation
from leafwing.errors import LeafwingError
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.memorisation import first
from leafwing.metrics.own import deterministic
from leafwing.pixels import composite_on_white

SIDE, WIDTHS = 32, (24, 48, 64)
"""Of the classifiers: maximum side of the images, channels of the layers, each of which halves the sides."""
STEPS, BATCH, RATE = 200, 32, 3e-3
"""Of their training: steps, images per batch, which are seen unchanged and changed, peak learning rate."""
MAX_IMAGES = 5_000
"""Maximum number of samples, of training images and of unseen ones."""
MIN_UNSEEN = 30
"""Minimum number of unseen real images."""
REPEATS = 3
"""How often each of these is changed."""
MIN_POWER = 0.5
"""Minimum of t - f for a judgement."""
Z = 1.96

Change = Callable[[Tensor], Tensor]
DIFF = {"color": "recoloured", "translation": "shifted", "cutout": "cut_out"}
"""The kind that each change of `diff` may leave in samples."""
WORDS = {
    "turned": "turned",
    "inverted": "inverted in lightness",
    "recoloured": "recoloured",
    "shifted": "shifted",
    "cut_out": "cut out",
}
"""The kinds, and how sentences name them."""


@dataclass(frozen=True)
class Leak:
    """The result for one kind of change.

    Args:
        kind: a key of `WORDS`.
        samples: share of the samples that the classifier takes for changed; NaN if some are not finite.
        real: the same share of unseen unchanged real images.
        power: the same share of unseen changed real images.
        n_samples, n_real: number of samples and of unseen real images.
    """

    kind: str
    samples: float
    real: float
    power: float
    n_samples: int
    n_real: int

    @property
    def is_judged(self) -> bool:
        """Whether the classifier can tell changed images from others."""
        return self.power - self.real >= MIN_POWER

    def estimate(self) -> Measure:
        """The share of changed samples with its interval; NaN if the classifier cannot tell."""
        if not self.is_judged or isnan(self.samples):
            return Measure(self.kind, nan)
        value = (self.samples - self.real) / (self.power - self.real)
        (p, p_n), (f, f_n), (t, t_n) = (
            adjusted(share, n)
            for share, n in ((self.samples, self.n_samples), (self.real, self.n_real), (self.power, self.n_real))
        )
        centre = (p - f) / (t - f)
        variance = p * (1 - p) / p_n + (1 - centre) ** 2 * f * (1 - f) / f_n + centre**2 * t * (1 - t) / t_n
        half_width = Z * sqrt(variance) / (t - f)
        low, high = (min(1.0, max(0.0, bound)) for bound in (centre - half_width, centre + half_width))
        value = min(1.0, max(0.0, value))
        return Measure(self.kind, value, min(low, value), max(high, value))

    def measures(self) -> list[Measure]:
        """The values that are stored as metrics."""
        return [self.estimate(), Measure(f"{self.kind}_seen", self.samples), Measure(f"{self.kind}_real", self.real)]

    @property
    def is_likely(self) -> bool:
        """Whether some samples are changed in this way, beyond the errors of the classifier."""
        return (self.estimate().low or 0) > 0

    def describe(self) -> str:
        """The result in a sentence without an end; the estimate with its interval, or why there is none."""
        name, measure = WORDS[self.kind], self.estimate()
        if not self.is_judged:
            return (
                f"{name} images cannot be told from others here (the classifier recognises {self.power:.0%} of them, and mistakes "
                f"{self.real:.0%} of the unchanged ones for {name})"
            )
        if measure.low is None or measure.high is None:
            return f"whether any are {name} is unknown, because some samples are not finite"
        return f"{measure.value:.0%} look {name} ({measure.low:.0%} to {measure.high:.0%})"


def adjusted(share: float, n: int) -> tuple[float, float]:
    """A share of n and n itself with Z^2 / 2 successes and as many failures more."""
    return (share * n + Z**2 / 2) / (n + Z**2), n + Z**2


def measure(evidence: Evidence) -> list[Measure]:
    """The three numbers of each kind of change; see `report`."""
    return [measure for leak in report(evidence) for measure in leak.measures()]


def report(evidence: Evidence) -> list[Leak]:
    """Looks for the changes that the run's critics saw.

    Raises:
        LeafwingError: the run has no augmentation, or the samples are points.
    """
    if evidence.spec.points:
        raise LeafwingError("the metric leaks needs images, and these samples are points")
    kinds = kinds_of(evidence.augment, evidence.spec.channels)
    if not kinds:
        raise LeafwingError("the metric leaks has nothing to check: this run was trained without augmentation")
    samples = [square(part) for part in first(evidence.fake_pictures(), MAX_IMAGES)]
    number = sum(map(len, samples))
    training, unseen = (read(pictures) for pictures in (evidence.train_pictures(), evidence.held_out_pictures()))
    results = []
    with deterministic():
        training, unseen = split(training, unseen)
        if len(unseen) < MIN_UNSEEN:
            return [Leak(kind, nan, nan, nan, number, 0) for kind in kinds]
        if evidence.options.get("mirror"):  # G learns mirrored images too
            training = torch.cat([training, training.flip(3)])
            unseen = torch.cat([unseen[::2], unseen[1::2].flip(3)])
        for kind in kinds:
            change = change_of(kind, evidence.augment, evidence.spec.height == evidence.spec.width)
            net = train(training, change, partial(evidence.report_progress, f"learning what {WORDS[kind]} images look like"))
            changed = torch.cat([change(unseen) for _ in range(REPEATS)])
            of_samples, real, power = (share(net, images) for images in (samples, unseen.split(BATCH), changed.split(BATCH)))
            results.append(Leak(kind, of_samples, real, power, number, len(unseen)))
    return results


def describe(leaks: Sequence[Leak], augment: str) -> str:
    """The results in words: whether the augmentation leaks, the shares, and what to do if it does.

    Args:
        leaks: the results.
        augment: the augmentation of the run.
    """
    if any(not leak.n_real for leak in leaks):
        return f"whether the augmentation leaks into the samples needs {3 * MIN_UNSEEN} training images to be judged"
    likely = [leak.kind for leak in leaks if leak.is_likely]
    if likely:
        verdict = "the augmentation seems to leak into the samples"
        advice = (
            f". If you see this in them, {remedy(likely, augment)}; samples that show nothing recognisable yet prove nothing"
        )
    elif any(leak.estimate().low is not None for leak in leaks):
        verdict, advice = "no sign that the augmentation leaks into the samples", ""
    else:
        verdict, advice = "whether the augmentation leaks into the samples cannot be judged", ""
    order = sorted(leaks, key=lambda leak: (not leak.is_likely, leak.estimate().low is None))
    return f"{verdict}: {'; '.join(leak.describe() for leak in order)}{advice}"


def remedy(kinds: Sequence[str], augment: str) -> str:
    """How to train so that these kinds of changes do not leak, after a run with this augmentation."""
    option = parse(augment)
    if option is None or option.kind == "ada":
        return "train with a lower p than the adaptive one (augment_p in log.jsonl), such as --augment p=0.2"
    if option.kind == "p":
        p = f"p={option.start / 2:g}" + (f":{option.end / 2:g}" if option.end != option.start else "")
        return f"train with a lower p, such as --augment {p}"
    as_often = f",p={option.probability:g}" if option.probability < 1 else ""
    if left := [change for change in option.changes if DIFF[change] not in kinds]:
        without = " and ".join(change for change in option.changes if change not in left)
        return f"train without {without}: --augment diff:{','.join(left)}{as_often}"
    if as_often:
        return f"train with a lower p, such as --augment diff:{','.join(option.changes)},p={option.probability / 2:g}"
    return "train with --augment ada, whose probability adapts, or none"


def kinds_of(augment: str, channels: int) -> list[str]:
    """The kinds of changes that an augmentation may leave in samples with so many channels; empty for `none`."""
    option = parse(augment)
    if option is None:
        return []
    if option.kind == "diff":
        return [DIFF[change] for change in option.changes]
    return ["turned", "inverted", *["recoloured"] * (channels > 2)]


# --- images -------------------------------------------------------------------------------------------------------------------


def read(pictures: Iterator[Tensor]) -> Tensor:
    """At most `MAX_IMAGES` images, evenly spread over all, at the size of the classifiers: (n, channels, side, side)."""
    images: list[Tensor] = []
    stride, first = 1, 0
    for part in pictures:
        rows = range(-first % stride, len(part), stride)
        images += [image.clone() for image in square(part[rows.start :: stride])] if rows else []
        first += len(part)
        if len(images) > MAX_IMAGES:
            images, stride = images[::2], 2 * stride
    return torch.stack(images) if images else torch.empty(0)


def square(images: Tensor) -> Tensor:
    """Images downsampled to squares of at most `SIDE` pixels: (n, channels, side, side)."""
    side = min(SIDE, *images.shape[2:])
    return images if images.shape[2:] == (side, side) else F.interpolate(images, (side, side), mode="area")


def split(training: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
    """The images that classifiers learn from, and unseen ones: the held-out images, or if these are few a third of the others."""
    if len(held_out) >= MIN_UNSEEN:
        return training, held_out
    n, order = len(training) // 3, torch.randperm(len(training))
    return training[order[n:]], training[order[:n]]


# --- changes ------------------------------------------------------------------------------------------------------------------


def change_of(kind: str, augment: str, is_square: bool) -> Change:
    """A function that changes each of some square images (n, channels, side, side) in [-1, 1] in this way, at random.

    Args:
        kind: a key of `WORDS`.
        augment: the augmentation of the run.
        is_square: whether its images are square.
    """
    option = parse(augment)
    match kind:
        case "turned":
            return partial(turn, quarters=(1, 2, 3) if is_square else (2,))
        case "inverted":
            return invert
    if option is None or option.kind != "diff":
        return turn_hue
    (name,) = (name for name, leaving in DIFF.items() if leaving == kind)
    changes = Augmentation(AugmentOption("diff", (name,)), range(1, 5), planned=1)
    return lambda images: changes(images).clamp(-1, 1)


def turn(images: Tensor, quarters: Sequence[int]) -> Tensor:
    """Turned by quarters."""
    chosen = torch.tensor(quarters)[torch.randint(len(quarters), (len(images),))]
    return torch.stack([image.rot90(int(k), (1, 2)) for image, k in zip(images, chosen, strict=True)])


def on_colours(change: Change, images: Tensor) -> Tensor:
    """A change of the colours of images with or without transparency, clipped to what can be displayed."""
    n = images.shape[1] - (images.shape[1] in (2, 4))
    return torch.cat([change(images[:, :n]).clamp(-1, 1), images[:, n:]], 1)


def invert(images: Tensor) -> Tensor:
    """Light becomes dark; hues stay."""
    return on_colours(lambda x: x - 2 * x.mean(1, keepdim=True), images)


def turn_hue(images: Tensor) -> Tensor:
    """Hues turned by 60 to 300 degrees, saturation times 2^N(0, 1)."""

    def change(x: Tensor) -> Tensor:
        grey = x.mean(1, keepdim=True)
        angle = uniform(x, pi / 3, 5 * pi / 3)
        a = x - grey
        across = (a.roll(1, 1) - a.roll(-1, 1)) / sqrt(3)
        return grey + (angle.cos() * a + angle.sin() * across) * torch.exp2(torch.randn(len(x), 1, 1, 1))

    return on_colours(change, images)


def uniform(images: Tensor, low: float, high: float) -> Tensor:
    """A random number for each image: (n, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1)


# --- classifiers --------------------------------------------------------------------------------------------------------------


def network(channels: int, side: int) -> nn.Module:
    """Images (n, 1 or 3, side, side) -> logits (n, 1)."""
    layers = list[nn.Module]()
    for inputs, outputs in pairwise((channels, *WIDTHS)):
        stride, side = (2, side // 2) if side > 4 else (1, side)
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1))


def train(images: Tensor, change: Change, report_progress: Callable[[int, int], None]) -> nn.Module:
    """A classifier of changed images (positive logits) and unchanged ones."""
    net = network(1 if images.shape[1] < 3 else 3, images.shape[2])
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    target = torch.tensor([0.0, 1.0]).repeat_interleave(BATCH)
    for step in range(STEPS):
        chosen = images[torch.randint(len(images), (BATCH,))]
        logits = net(blur(composite_on_white(torch.cat([chosen, change(chosen)]))))[:, 0]
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(logits, target).backward()
        optimiser.step()
        schedule.step()
        report_progress(step + 1, STEPS)
    return net.eval().requires_grad_(False)


def blur(images: Tensor) -> Tensor:
    """Images, blurred and noisy at random, so that the sharpness of samples does not matter."""
    x = torch.lerp(images, F.avg_pool2d(images, 3, 1, 1, count_include_pad=False), uniform(images, 0, 1))
    return x + torch.randn_like(x) * uniform(images, 0, 0.1)


def share(net: nn.Module, images: Iterable[Tensor]) -> float:
    """The share of images that a classifier takes for changed; NaN if some have values that are not finite."""
    logits = torch.cat([net(composite_on_white(part))[:, 0] for part in images])
    return float((logits > 0).double().mean()) if bool(logits.isfinite().all()) else nan
