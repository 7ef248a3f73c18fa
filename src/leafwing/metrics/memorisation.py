"""Whether samples are copies of training pictures: how near they lie to them, compared with how near new pictures lie.

New pictures are those that were held out of training, and each training picture among the others. What is compared is in `neighbours`,
what it shows in `copying`, the page of closest pairs in `pairs`; docs/guide/memorisation.md explains it all.
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
"""The nearest training picture is compared with so many that come next."""
MOST = 5_000
"""At most so many samples are looked at, and so many new pictures, which keeps the time in proportion to the training pictures."""
FEWEST = 4
"""Fewer training pictures than this cannot be compared with one another."""
EQUAL = 0.6
"""Two samples are nearly equal when nearer than this times the distance of a typical new picture to its nearest training picture."""
SHOWN, OFTEN = 24, 3
"""How many closest pairs are kept for the page, and in how many of them a training picture may be the nearest."""


@dataclass(frozen=True)
class Pair:
    """A sample and the training pictures nearest to it.

    Args:
        sample: which sample, by its place in the stream.
        training: its three nearest training pictures, nearest first, by their place.
        distances: theirs, 0 to 2; see `neighbours`.
        ratio: the first distance over the mean of the next ten.
        percentile: how many of 100 new pictures are nearer to theirs than this sample is, by that ratio.
        mirrored: whether the nearest one is nearest as its mirror image.
    """

    sample: int
    training: tuple[int, ...]
    distances: tuple[float, ...]
    ratio: float
    percentile: float
    mirrored: bool


@dataclass(frozen=True)
class Report:
    """The finding. `as_dict` gives it as plain JSON.

    Args:
        verdict: `copies`, `suspicious` or `none`.
        words: the verdict with the numbers behind it, in plain words.
        copied: about so many of the samples are copies, by the way that saw most; 0 where that might be chance.
        resolution: fewer copies than this share could not have been seen, with so many samples and new pictures.
        way: which way saw most.
        ways: what each way of looking saw.
        samples: how many were looked at.
        different: how many different ones they are worth: one over the chance that two of them are nearly equal.
        duplicates: the share of samples that are nearly equal to another.
        duplicates_real: the same share among as many training pictures.
        training, held: how many different training pictures, and how many held-out pictures, there are.
        new: how many new pictures the samples were compared with.
        twins: the share of new pictures that have a twin among the training pictures.
        mirrored: among the samples counted as near, the share that is nearest to a mirror image.
        most_copied: training pictures with the share of samples that are near to them, most copied first.
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
        """The numbers that are kept with those of other metrics."""
        seen = self.ways[self.way]
        return [
            Measure("copied", self.copied, better="lower"),
            Measure("copied_near", seen.near, seen.near_low, seen.near_high, better="lower"),
            Measure("nearer", seen.nearer),
            Measure("distance_ratio", seen.distance_ratio),
            Measure("duplicates", self.duplicates, better="lower"),
        ]


def measure(evidence: Evidence) -> list[Measure]:
    """The numbers of a `report`."""
    return report(evidence).measures()


def report(evidence: Evidence) -> Report:
    """Looks for copies of training pictures among the samples.

    Raises:
        LeafwingError: the data are points, there are fewer than four different training pictures, or no samples.
    """
    if evidence.spec.points:
        raise LeafwingError("memorisation compares pictures, and these data are points; for those, ask for the metric modes")
    samples = sketches(_first(evidence.fake_pictures(), MOST))
    training = sketches(evidence.train_pictures())
    held = sketches(_first(evidence.held_pictures(), MOST))
    return examine(samples, training, evidence.train_pictures(), held, evidence.seed, evidence.counting)


def examine(
    samples: Sketches,
    training: Sketches,
    pictures: Iterable[Tensor],
    held: Sketches,
    seed: int = 0,
    counting: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Report:
    """The report on samples, from sketches; see `neighbours.sketches`.

    Args:
        samples: at least one.
        training: at least four different ones.
        pictures: the training pictures themselves, in the same order, which are mirrored and moved here.
        held: any number, or none.
        seed: chooses the training pictures that are compared with the others, where there are more than `MOST`.
        counting: told what is being done, how much of it, out of how much.

    Raises:
        LeafwingError: too few of either.
    """
    first = _different(training.colours)
    if len(first) < FEWEST:
        raise LeafwingError(
            f"memorisation needs at least {FEWEST} different training pictures, to compare them with one another; this model was "
            f"trained on {len(first)}"
        )
    if not len(samples):
        raise LeafwingError("memorisation needs samples, and there are none: ask for some thousands")
    known = training[torch.from_numpy(first)]
    new, own = _new_pictures(known, held, seed)
    n, places = len(samples), torch.cat([torch.full((len(samples),), -1), own])

    def told(done: int) -> None:
        counting("comparing with training pictures", done, len(known))

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
    """The closest of the first n pictures, each with its nearest training pictures.

    Args:
        seen: of n samples and then of new pictures.
        near: their closeness.
        numbers: the training pictures' places in the stream, by index.
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
    """The places of training pictures that are not exactly the same as an earlier one."""
    first: dict[bytes, int] = {}
    for place, row in enumerate(training.numpy()):
        first.setdefault(row.tobytes(), place)
    return np.array(list(first.values()), dtype=np.int64)


def _new_pictures(known: Sketches, held: Sketches, seed: int) -> tuple[Sketches, Tensor]:
    """New pictures, and for each the training picture that it is itself, -1 for held-out ones.

    A held-out picture that is exactly the same as a training picture is not new.
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
    """The median distance of n samples to their nearest training picture over that of the new pictures."""
    return float(np.median(seen.distances[:n, 0]) / max(np.median(seen.distances[n:, 0]), 1e-6))


def _first(chunks: Iterable[Tensor], n: int) -> Iterator[Tensor]:
    """The first n pictures, in chunks."""
    for chunk in chunks:
        yield chunk[:n]
        n -= len(chunk)
        if n <= 0:
            return


def _some(chunks: Iterable[Tensor], places: np.ndarray) -> Iterator[Tensor]:
    """The pictures at some places of a stream, in chunks."""
    start = 0
    for chunk in chunks:
        low, high = np.searchsorted(places, [start, start + len(chunk)])
        if high > low:
            yield chunk[torch.from_numpy(places[low:high] - start)]
        start += len(chunk)


def _words(found: Report) -> str:
    """The verdict in plain words, with the numbers behind it."""
    seen = found.ways[found.way]
    lying = {
        "in place": "as they lie",
        "moved": "mirrored or not and moved a little",
        "edges": "by the directions of their edges, mirrored or not",
    }[found.way]
    first = {
        "copies": f"Copies: about {found.copied:.0%} of the samples are copies of training pictures.",
        "suspicious": f"Suspicious: about {found.copied:.1%} of the samples lie nearer to training pictures than chance allows.",
        "none": "None: samples lie no nearer to training pictures than new pictures do.",
    }
    if seen.whole:
        counted = (
            f"a sample is nearer than a new picture in {seen.nearer:.0%} of all comparisons, where half would be chance"
        )
    else:
        counted = (
            f"{seen.share:.1%} of {found.samples:,} samples are as near to a single one as the nearest {seen.expected:.1%} of "
            f"{found.new:,} new pictures"
        )
    words = [first[found.verdict], f"Compared with the {found.training:,} training pictures {lying}, {counted}."]
    if found.verdict == "none":
        words.append(f"Copies could not have been seen if they are fewer than {found.resolution:.1%} of the samples.")
    elif found.most_copied:
        picture, share = found.most_copied[0]
        words.append(f"Training picture {picture} is copied most: {share:.1%} of the samples are near to it.")
    if found.twins > 2 * NEAR:
        words.append(f"{found.twins:.0%} of the new pictures have a twin among the training pictures, which hides copies.")
    if found.duplicates > max(0.05, 2 * found.duplicates_real):
        words.append(f"{found.duplicates:.0%} of the samples are nearly equal to another one.")
    return " ".join(words)
