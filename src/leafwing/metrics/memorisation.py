"""Memorisation: whether samples are copies of training pictures, by their distances compared with those of new pictures.

New pictures are the held-out ones, and each training picture relative to the others. Distances are computed in `neighbours`,
statistics in `copying`, the page of closest pairs in `pairs`; see docs/guide/memorisation.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.metrics.copying import NEAR, TWIN, VERDICTS, Seen, closeness, compare, resolution, variety
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.neighbours import WAYS, Nearest, Sketches, nearest, sketches

NEXT = 10
"""Number of further neighbours with which the nearest one is compared."""
MOST = 5_000
"""Maximum number of samples and of new pictures, which keeps the time linear in the number of training pictures."""
FEWEST = 4
"""Minimum number of training pictures."""
EQUAL = 0.6
"""Two samples are near-duplicates if closer than this times the median distance of a new picture to its nearest training picture."""
SHOWN, OFTEN = 24, 3
"""Number of closest pairs on the page, and how often a training picture may appear in them as the nearest one."""


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest training pictures.

    Args:
        sample: index of the sample.
        training: indices of its three nearest training pictures, nearest first.
        distances: their distances, 0 to 2; see `neighbours`.
        ratio: the first distance divided by the mean of the next ten.
        percentile: percentage of new pictures with a smaller ratio.
        mirrored: whether the nearest picture matches as its mirror image.
    """

    sample: int
    training: tuple[int, ...]
    distances: tuple[float, ...]
    ratio: float
    percentile: float
    mirrored: bool


@dataclass(frozen=True)
class Report:
    """The result. `as_dict` returns it as plain JSON.

    Args:
        verdict: `copies`, `suspicious` or `none`.
        words: the verdict with the numbers behind it, in sentences.
        copied: estimated fraction of samples that are copies, by the most sensitive comparison; 0 if not significant.
        resolution: detection limit: the smallest detectable fraction of copies, for these numbers of samples and new pictures.
        way: the comparison with the strongest evidence.
        ways: the results of each comparison.
        samples: number of samples examined.
        different: effective number of distinct samples: one over the probability that two of them are near-duplicates.
        duplicates: fraction of samples with a near-duplicate.
        duplicates_real: the same fraction among as many training pictures.
        training, held: number of distinct training pictures and of held-out pictures.
        new: number of new pictures used for comparison.
        twins: fraction of new pictures with a near-copy (twin) among the training pictures.
        mirrored: fraction of the near samples that match a mirror image.
        most_copied: training pictures with the fraction of samples near them, most copied first.
        pairs: the closest pairs, closest first.
    """

    verdict: str
    words: str
    copied: float
    resolution: float
    way: str
    ways: dict[str, Seen]
    samples: int
    different: float
    duplicates: float
    duplicates_real: float
    training: int
    held: int
    new: int
    twins: float
    mirrored: float
    most_copied: list[tuple[int, float]] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON, with the names above as keys."""
        return asdict(self)

    def measures(self) -> list[Measure]:
        """The values that are stored as metrics."""
        seen = self.ways[self.way]
        return [
            Measure("copied", self.copied, better="lower"),
            Measure("copied_near", seen.near, seen.near_low, seen.near_high, better="lower"),
            Measure("nearer", seen.nearer),
            Measure("distance_ratio", seen.distance_ratio),
            Measure("duplicates", self.duplicates, better="lower"),
        ]


def measure(evidence: Evidence) -> list[Measure]:
    """The measures of a `report`."""
    return report(evidence).measures()


def report(evidence: Evidence) -> Report:
    """Looks for copies of training pictures among the samples.

    Raises:
        LeafwingError: the data are points, there are fewer than four different training pictures, or no samples.
    """
    if evidence.spec.points:
        raise LeafwingError("memorisation requires pictures, and these data are points; use the metric modes")
    samples = sketches(_first(evidence.fake_pictures(), MOST))
    training = sketches(evidence.train_pictures())
    held = sketches(_first(evidence.held_pictures(), MOST))
    return examine(samples, training, evidence.train_pictures(), held, evidence.seed, evidence.report_progress)


def examine(
    samples: Sketches,
    training: Sketches,
    pictures: Iterable[Tensor],
    held: Sketches,
    seed: int = 0,
    report_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Report:
    """The report, computed from sketches; see `neighbours.sketches`.

    Args:
        samples: at least one.
        training: at least four distinct ones.
        pictures: the training pictures in the same order; they are mirrored and shifted here.
        held: held-out pictures, possibly none.
        seed: selects the training pictures used as new pictures if there are more than `MOST`.
        report_progress: progress callback: description, amount done, total.

    Raises:
        LeafwingError: too few of either.
    """
    first = _different(training.colours)
    if len(first) < FEWEST:
        raise LeafwingError(
            f"memorisation requires at least {FEWEST} distinct training pictures; this model was trained on {len(first)}"
        )
    if not len(samples):
        raise LeafwingError("memorisation requires samples, and there are none: use some thousands")
    known = training[torch.from_numpy(first)]
    new, own = _new_pictures(known, held, seed)
    n, places = len(samples), torch.cat([torch.full((len(samples),), -1), own])

    def told(done: int) -> None:
        report_progress("comparing with training pictures", done, len(known))

    seen = nearest(samples + new, _some(pictures, first), min(NEXT, len(known) - 2) + 1, places, told=told)
    near = {way: closeness(one.distances) for way, one in seen.items()}
    equal = EQUAL * float(np.median(seen["in place"].distances[n:, 0]))
    different, duplicates = variety(samples.colours, equal)
    ways = {way: compare(near[way][:n], near[way][n:], different, _ratio_of_medians(seen[way], n)) for way in WAYS}
    best = min(WAYS, key=lambda way: (VERDICTS.index(ways[way].verdict), -ways[way].copied, -ways[way].near))
    close = np.flatnonzero(near[best][:n] < ways[best].limit)
    copied = Counter(first[seen[best].indices[close, 0]].tolist())
    found = Report(
        verdict=ways[best].verdict,
        words="",
        copied=ways[best].copied,
        resolution=resolution(near["moved"][n:], different),
        way=best,
        ways=ways,
        samples=n,
        different=round(different, 1),
        duplicates=duplicates,
        duplicates_real=variety(known[:n].colours, equal)[1],
        training=len(known),
        held=len(held),
        new=len(new),
        twins=float((near["moved"][n:] < TWIN).mean()),
        mirrored=float(seen[best].mirrored[close].mean()) if len(close) else 0.0,
        most_copied=[(picture, count / n) for picture, count in copied.most_common(10)],
        pairs=closest(seen[best], near[best], n, first),
    )
    return replace(found, words=_words(found))


def closest(seen: Nearest, near: np.ndarray, n: int, numbers: np.ndarray) -> list[Pair]:
    """The closest of the n samples, each with its nearest training pictures.

    Args:
        seen: nearest neighbours of the n samples, followed by those of the new pictures.
        near: their closeness.
        numbers: index of each training picture in the stream.
    """
    new, often, pairs = np.sort(near[n:]), Counter[int](), list[Pair]()
    for i in np.argsort(near[:n], kind="stable").tolist():
        picture = int(seen.indices[i, 0])
        often[picture] += 1
        if often[picture] > OFTEN:
            continue
        pairs.append(
            Pair(
                sample=i,
                training=tuple(numbers[seen.indices[i, :3]].tolist()),
                distances=tuple(round(float(one), 4) for one in seen.distances[i, :3]),
                ratio=round(float(near[i]), 4),
                percentile=round(100 * float(np.searchsorted(new, near[i])) / len(new), 2),
                mirrored=bool(seen.mirrored[i]),
            )
        )
        if len(pairs) == SHOWN:
            break
    return pairs


def _different(training: Tensor) -> np.ndarray:
    """Indices of the training pictures without exact duplicates."""
    first: dict[bytes, int] = {}
    for place, row in enumerate(training.numpy()):
        first.setdefault(row.tobytes(), place)
    return np.array(list(first.values()), dtype=np.int64)


def _new_pictures(known: Sketches, held: Sketches, seed: int) -> tuple[Sketches, Tensor]:
    """New pictures, and for each its own index among the training pictures, -1 for held-out ones.

    Held-out pictures that are exact duplicates of training pictures are excluded.
    """
    rows = {row.tobytes() for row in known.colours.numpy()}
    fresh = [place for place, row in enumerate(held.colours.numpy()) if row.tobytes() not in rows]
    places = np.arange(len(known))
    if len(places) > MOST - len(fresh):
        places = np.sort(np.random.default_rng(seed).choice(places, MOST - len(fresh), replace=False))
    chosen = torch.from_numpy(places)
    new = held[torch.tensor(fresh)] + known[chosen] if fresh else known[chosen]
    return new, torch.cat([torch.full((len(fresh),), -1), chosen])


def _ratio_of_medians(seen: Nearest, n: int) -> float:
    """The median distance of n samples to their nearest training picture divided by that of the new pictures."""
    return float(np.median(seen.distances[:n, 0]) / max(np.median(seen.distances[n:, 0]), 1e-6))


def _first(chunks: Iterable[Tensor], n: int) -> Iterator[Tensor]:
    """The first n pictures, in chunks."""
    for chunk in chunks:
        yield chunk[:n]
        n -= len(chunk)
        if n <= 0:
            return


def _some(chunks: Iterable[Tensor], places: np.ndarray) -> Iterator[Tensor]:
    """The pictures at some indices of a stream, in chunks."""
    start = 0
    for chunk in chunks:
        low, high = np.searchsorted(places, [start, start + len(chunk)])
        if high > low:
            yield chunk[torch.from_numpy(places[low:high] - start)]
        start += len(chunk)


def _words(found: Report) -> str:
    """The verdict in sentences, with the numbers behind it."""
    seen = found.ways[found.way]
    lying = {
        "in place": "unaligned",
        "moved": "with small shifts and mirroring",
        "edges": "by their edges, with mirroring",
    }[found.way]
    first = {
        "copies": f"Copies: about {found.copied:.0%} of the samples are copies of training pictures.",
        "suspicious": f"Suspicious: about {found.copied:.1%} of the samples are closer to training pictures than expected.",
        "none": "None: samples are no closer to training pictures than new pictures are.",
    }
    if seen.whole:
        counted = f"samples are closer than new pictures in {seen.nearer:.0%} of all comparisons, where 50% would be chance"
    else:
        counted = (
            f"{seen.share:.1%} of {found.samples:,} samples are as close to one of them as the closest {seen.expected:.1%} of "
            f"{found.new:,} new pictures"
        )
    words = [first[found.verdict], f"Compared with the {found.training:,} training pictures {lying}, {counted}."]
    if found.verdict == "none":
        words.append(f"Detection limit: copies below {found.resolution:.1%} of the samples would go unnoticed.")
    elif found.most_copied:
        picture, share = found.most_copied[0]
        words.append(f"Training picture {picture} is copied most: {share:.1%} of the samples are close to it.")
    if found.twins > 2 * NEAR:
        words.append(
            f"{found.twins:.0%} of the new pictures have a near-copy among the training pictures, which masks copying."
        )
    if found.duplicates > max(0.05, 2 * found.duplicates_real):
        words.append(f"{found.duplicates:.0%} of the samples are near-duplicates of another one.")
    return " ".join(words)
