"""Memorisation: whether samples are copies of training images, by their distances compared with those of reference images.

Reference images are the held-out ones, and each training image relative to the others. Distances are computed in `neighbours`,
statistics in `copying`, the page of closest pairs in `pairs`; see docs/guide/memorisation.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.metrics.copying import NEAR, TWIN, VERDICTS, Comparison, closeness, compare, count_distinct, resolution
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.neighbours import COMPARISONS, Nearest, Sketches, nearest, sketches
from leafwing.progress import ProgressCallback, no_progress
from leafwing.quantities import plural

NEXT_NEIGHBOURS = 10
"""Number of further neighbours with which the nearest one is compared."""
MAX_IMAGES = 5_000
"""Maximum number of samples and of reference images, which keeps the time linear in the number of training images."""
MIN_TRAINING = 4
"""Minimum number of training images."""
DUPLICATE = 0.6
"""Two samples are near-duplicates if closer than this times the median distance of a reference image to its nearest training image."""
BLIND = 0.5
"""Detection limit above which a report says nothing: most samples are the same picture, which counts once, or there are few."""
MANY = 5
"""The training image that is copied most is named from this number of samples on."""
FROM_TRAINING = (
    "No conclusion about copies: each sample is generated from a training image or its pair, and resembles it for that reason. Hold "
    "out images when training (--hold-out), or name other data (--data)."
)
"""The words of a report on such samples."""
MAX_PAIRS, MAX_REPEATS = 24, 3
"""Number of closest pairs on the page, and how often a training image may appear in them as the nearest one."""
KEYS = {
    "strongest_comparison": "way",
    "comparisons": "ways",
    "held_out": "held",
    "references": "new",
    "is_overall_test": "whole",
    "threshold": "limit",
    "p_value": "chance",
}
"""Keys of the JSON report that differ from the names of the fields."""


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest training images.

    Args:
        sample: number of the sample; see `Evidence.sample_numbers`.
        training: indices of its three nearest training images, nearest first.
        distances: their distances, 0 to 2; see `neighbours`.
        ratio: the first distance divided by the mean of the next ten.
        percentile: percentage of reference images with a smaller ratio.
        mirrored: whether the nearest image matches as its mirror image.
    """

    sample: int
    training: tuple[int, ...]
    distances: tuple[float, ...]
    ratio: float
    percentile: float
    mirrored: bool


@dataclass(frozen=True)
class MemorisationReport:
    """The result. `as_dict` returns it as plain JSON.

    Args:
        verdict: `copies`, `suspicious` or `none`.
        words: the verdict with the numbers behind it, in sentences.
        copied: estimated fraction of samples that are copies, by the most sensitive comparison; 0 if not significant.
        resolution: detection limit: the smallest detectable fraction of copies, for these numbers of samples and reference images.
        strongest_comparison: name of the comparison with the strongest evidence.
        comparisons: the results of all comparisons, by name.
        samples: number of samples examined.
        different: effective number of distinct samples: one over the probability that two of them are near-duplicates.
        duplicates: fraction of samples with a near-duplicate.
        duplicates_real: the same fraction among as many training images.
        training, held_out: number of distinct training images and of held-out images.
        references: number of reference images used for comparison.
        twins: fraction of reference images with a near-copy (twin) among the training images.
        mirrored: fraction of the near samples that match a mirror image.
        most_copied: training images with the fraction of samples near them, most copied first.
        pairs: the closest pairs, closest first.
    """

    verdict: str
    words: str
    copied: float
    resolution: float
    strongest_comparison: str
    comparisons: dict[str, Comparison]
    samples: int
    different: float
    duplicates: float
    duplicates_real: float
    training: int
    held_out: int
    references: int
    twins: float
    mirrored: float
    most_copied: list[tuple[int, float]] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    @property
    def strongest(self) -> Comparison:
        """The comparison with the strongest evidence."""
        return self.comparisons[self.strongest_comparison]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON; the keys are the names above, except for `KEYS`."""
        return asdict(self, dict_factory=lambda items: {KEYS.get(name, name): value for name, value in items})

    def measures(self) -> list[Measure]:
        """The values that are stored as metrics."""
        comparison = self.strongest
        return [
            Measure("copied", self.copied, better="lower"),
            Measure("copied_near", comparison.near, comparison.near_low, comparison.near_high, better="lower"),
            Measure("nearer", comparison.nearer),
            Measure("distance_ratio", comparison.distance_ratio),
            Measure("duplicates", self.duplicates, better="lower"),
        ]


def measure(evidence: Evidence) -> list[Measure]:
    """The measures of a `report`."""
    return report(evidence).measures()


def report(evidence: Evidence) -> MemorisationReport:
    """Looks for copies of training images among the samples.

    Raises:
        LeafwingError: the data is points, there are fewer than four distinct training images, or no samples.
    """
    if evidence.spec.points:
        raise LeafwingError("memorisation requires images, and this data consists of points; use the metric modes")
    samples = sketches(first(evidence.fake_pictures(), MAX_IMAGES))
    training = sketches(evidence.train_pictures())
    held_out = sketches(evidence.held_out_pictures())
    result = examine(samples, training, evidence.train_pictures(), held_out, evidence.seed, evidence.report_progress)
    numbers = evidence.sample_numbers()
    return replace(result, pairs=[replace(pair, sample=numbers[pair.sample]) for pair in result.pairs])


def examine(
    samples: Sketches,
    training: Sketches,
    images: Iterable[Tensor],
    held_out: Sketches,
    seed: int = 0,
    report_progress: ProgressCallback = no_progress,
) -> MemorisationReport:
    """The report, computed from sketches; see `neighbours.sketches`.

    Args:
        samples: at least one.
        training: at least four distinct ones.
        images: the training images in the same order; they are mirrored and shifted here.
        held_out: sketches of held-out images, possibly none.
        seed: selects the reference images if there are more than `MAX_IMAGES`. They are chosen at random, because images are often
            stored by class.
        report_progress: progress callback.

    Raises:
        LeafwingError: too few samples or training images.
    """
    numbers = _distinct_indices(training.colours)
    if len(numbers) < MIN_TRAINING:
        raise LeafwingError(
            f"memorisation requires at least {MIN_TRAINING} distinct training images; this model was trained on {len(numbers)}"
        )
    if not len(samples):
        raise LeafwingError("memorisation requires samples, and there are none: use a few thousand")
    distinct_training = training[torch.from_numpy(numbers)]
    references, reference_indices = _reference_images(distinct_training, held_out, seed)
    n, exclude = len(samples), torch.cat([torch.full((len(samples),), -1), reference_indices])
    neighbours = nearest(
        samples + references,
        _select(images, numbers),
        min(NEXT_NEIGHBOURS, len(distinct_training) - 2) + 1,
        exclude,
        report=lambda done: report_progress("comparing with training images", done, len(distinct_training)),
    )
    ratios = {name: closeness(neighbours[name].distances) for name in COMPARISONS}
    max_distance = DUPLICATE * float(np.median(neighbours["in place"].distances[n:, 0]))
    distinct, duplicates = count_distinct(samples.colours, max_distance)
    comparisons = {
        name: compare(ratios[name][:n], ratios[name][n:], distinct, _ratio_of_medians(neighbours[name], n))
        for name in COMPARISONS
    }

    def strength(name: str) -> tuple[int, float, float]:
        comparison = comparisons[name]
        return -VERDICTS.index(comparison.verdict), comparison.copied, comparison.near

    best = max(COMPARISONS, key=strength)
    close = np.flatnonzero(ratios[best][:n] < comparisons[best].threshold)
    copied = Counter(numbers[neighbours[best].indices[close, 0]].tolist())
    result = MemorisationReport(
        verdict=comparisons[best].verdict,
        words="",
        copied=comparisons[best].copied,
        resolution=resolution(ratios["moved"][n:], distinct),
        strongest_comparison=best,
        comparisons=comparisons,
        samples=n,
        different=round(distinct, 1),
        duplicates=duplicates,
        duplicates_real=count_distinct(_choose(distinct_training, n, seed).colours, max_distance)[1],
        training=len(distinct_training),
        held_out=len(held_out),
        references=len(references),
        twins=float((ratios["moved"][n:] < TWIN).mean()),
        mirrored=float(neighbours[best].mirrored[close].mean()) if len(close) else 0.0,
        most_copied=[(number, count / n) for number, count in copied.most_common(10)],
        pairs=closest_pairs(neighbours[best], ratios[best], n, numbers),
    )
    return replace(result, words=describe(result))


def closest_pairs(neighbours: Nearest, ratios: np.ndarray, n: int, numbers: np.ndarray) -> list[Pair]:
    """The closest of the n samples, each with its nearest training images.

    Args:
        neighbours: of the n samples, followed by those of the reference images.
        ratios: their closeness.
        n: number of samples.
        numbers: index of each training image in the stream.
    """
    references, repeats, pairs = np.sort(ratios[n:]), Counter[int](), list[Pair]()
    for i in np.argsort(ratios[:n], kind="stable").tolist():
        image = int(neighbours.indices[i, 0])
        repeats[image] += 1
        if repeats[image] > MAX_REPEATS:
            continue
        pairs.append(
            Pair(
                sample=i,
                training=tuple(numbers[neighbours.indices[i, :3]].tolist()),
                distances=tuple(round(float(distance), 4) for distance in neighbours.distances[i, :3]),
                ratio=round(float(ratios[i]), 4),
                percentile=round(100 * float(np.searchsorted(references, ratios[i])) / len(references), 2),
                mirrored=bool(neighbours.mirrored[i]),
            )
        )
        if len(pairs) == MAX_PAIRS:
            break
    return pairs


def describe(report: MemorisationReport) -> str:
    """The verdict in sentences, with the numbers behind it."""
    comparison = report.strongest
    if report.verdict == "none" and report.resolution > BLIND:
        cause = f"{plural(report.samples, 'sample')} and {plural(report.references, 'reference image')} are too few"
        if report.duplicates > BLIND:
            cause = f"{report.duplicates:.0%} of the samples are near-duplicates of another one"
        return f"No conclusion about copies: {cause}, so that copies below {report.resolution:.0%} of the samples would go unnoticed."
    method = {
        "in place": "without alignment",
        "moved": "with small shifts and mirroring",
        "edges": "by their edges, with mirroring",
    }[report.strongest_comparison]
    references = "training images are to each other (leave-one-out; nothing was held out)"
    if report.held_out:
        references = "reference images are (held-out images, and training images leave-one-out)"
    verdict = {
        "copies": f"About {report.copied:.0%} of the samples are copies of training images.",
        "suspicious": f"About {report.copied:.1%} of the samples are closer to training images than expected: they may be "
        "copies, so look at the pairs.",
        "none": f"No copies of training images were found: samples are no closer to training images than {references}.",
    }[report.verdict]
    if comparison.is_overall_test:
        evidence = f"samples are closer than reference images in {comparison.nearer:.0%} of all comparisons, where 50% would be chance"
    else:
        evidence = (
            f"{comparison.share:.1%} of {report.samples:,} samples are as close to one of them as the closest "
            f"{comparison.expected:.1%} of {report.references:,} reference images"
        )
    sentences = [verdict, f"Compared with the {report.training:,} training images {method}, {evidence}."]
    if report.verdict == "none":
        sentences.append(f"Detection limit: copies below {report.resolution:.1%} of the samples would go unnoticed.")
    elif report.most_copied and round(report.most_copied[0][1] * report.samples) >= MANY:
        number, fraction = report.most_copied[0]
        sentences.append(f"Training image {number} is copied most: {fraction:.1%} of the samples are close to it.")
    if report.twins > 2 * NEAR:
        sentences.append(
            f"{report.twins:.0%} of the reference images are as near to a training image as a copy would be, which masks copying."
        )
    if report.duplicates > max(0.05, 2 * report.duplicates_real):
        sentences.append(f"{report.duplicates:.0%} of the samples are near-duplicates of another one.")
    return " ".join(sentences)


def _distinct_indices(training: Tensor) -> np.ndarray:
    """Indices of the training images without exact duplicates."""
    first: dict[bytes, int] = {}
    for i, row in enumerate(training.numpy()):
        first.setdefault(row.tobytes(), i)
    return np.array(list(first.values()), dtype=np.int64)


def _reference_images(training: Sketches, held_out: Sketches, seed: int) -> tuple[Sketches, Tensor]:
    """Reference images, and for each its own index among the training images, -1 for held-out ones.

    Held-out images that are exact duplicates of training images are excluded.
    """
    training_rows = {row.tobytes() for row in training.colours.numpy()}
    unseen = [i for i, row in enumerate(held_out.colours.numpy()) if row.tobytes() not in training_rows]
    unseen = _chosen(np.array(unseen, dtype=np.int64), MAX_IMAGES, seed).tolist()
    rows = torch.from_numpy(_chosen(np.arange(len(training)), MAX_IMAGES - len(unseen), seed))
    references = held_out[torch.tensor(unseen)] + training[rows] if unseen else training[rows]
    return references, torch.cat([torch.full((len(unseen),), -1), rows])


def _chosen(indices: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most n of the indices, chosen at random, in ascending order."""
    return np.sort(np.random.default_rng(seed).choice(indices, n, replace=False)) if len(indices) > n else indices


def _choose(images: Sketches, n: int, seed: int) -> Sketches:
    """At most n of the images, chosen at random."""
    return images[torch.from_numpy(_chosen(np.arange(len(images)), n, seed))]


def _ratio_of_medians(neighbours: Nearest, n: int) -> float:
    """The median distance of n samples to their nearest training image divided by that of the reference images."""
    return float(np.median(neighbours.distances[:n, 0]) / max(np.median(neighbours.distances[n:, 0]), 1e-6))


def first(chunks: Iterable[Tensor], n: int) -> Iterator[Tensor]:
    """The first n images, in chunks."""
    for chunk in chunks:
        yield chunk[:n]
        n -= len(chunk)
        if n <= 0:
            return


def _select(chunks: Iterable[Tensor], indices: np.ndarray) -> Iterator[Tensor]:
    """The images at some indices of a stream, in chunks; the indices are sorted."""
    start = 0
    for chunk in chunks:
        low, high = np.searchsorted(indices, [start, start + len(chunk)])
        if high > low:
            yield chunk[torch.from_numpy(indices[low:high] - start)]
        start += len(chunk)
