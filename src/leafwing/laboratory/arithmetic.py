"""Vector arithmetic: A - B + C with averages of latents. Radford et al. 2015, arXiv:1511.06434, section 6.3.2.

A concept is the average of three or more latents whose samples show it: single latents give unstable results. The paper also shows
neighbours of the result, with uniform noise of .25 added. A "turn" vector is the difference of two concepts, added to other latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import need_pictures, of_one_kind, whole_numbers
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import sheet
from leafwing.model import BLOCK, Model
from leafwing.progress import Progress, no_progress

POOL = 2_048
"""Number of samples searched for concepts."""
NOISE = 0.25
TURNED, STEPS = 6, 7
"""Number of samples to which the turn vector is added, and pictures of each."""


def arithmetic(
    model: Model,
    *,
    reader: Reader | None,
    report_progress: Progress = no_progress,
    a: str | None = None,
    b: str | None = None,
    c: str | None = None,
    average: int = 3,
    trials: int = 200,
    label: str | None = None,
    seed: int = 0,
) -> Finding:
    """A - B + C: does red square - red circle + blue circle give a blue square?

    Args:
        model: a model of pictures.
        reader: recognises properties of samples; required for concepts in words and for the figures.
        report_progress: progress callback.
        a: a concept: sample numbers as in `leafwing sample` (3,5,8), or words: shape=star,colour=red.
        b: the concept to subtract.
        c: the concept to add. Default: an example chosen automatically.
        average: number of latents averaged for a concept in words.
        trials: number of random sums evaluated for the figures.
        label: class of all samples, for a run with labels.
        seed: random seed of the samples, trials and noise.

    Returns:
        Over trials in which A and B differ in one property and B and C in another: `right`, the fraction of results with both
        expected properties; `chance`, the same for arbitrary samples; `pixels`, the same for arithmetic on averaged pictures; `moved`
        and `kept`, the fraction with the expected value of the changed and of the other property; `sure`, the fraction that could be
        recognised. None without a reader of two properties.

    Raises:
        LeafwingError: a run that generates points, or a concept that is unknown or shown by too few samples.
    """
    need_pictures(model)
    given = [text for text in (a, b, c) if text is not None]
    if len(given) not in (0, 3):
        raise LeafwingError("arithmetic requires all of --a, --b and --c, or none of them")
    if average < 1 or trials < 1:
        raise LeafwingError("--average and --trials must be at least 1")
    if reader is None and not (given and all(_numbers(text) for text in given)):
        raise LeafwingError(
            "no reader for the pictures of this run, which has no labels: give --a, --b and --c as sample numbers: 3,5,8"
        )
    bench = _Bench(model, reader, average, of_one_kind(model, label), seed, report_progress)
    figures: dict[str, object] = {"average": average, "reader": reader.name if reader else None}
    measured = bench.measured(trials) if reader and len(reader.words) > 1 else None
    names = ("trials", "right", "chance", "pixels", "moved", "kept", "sure")
    figures |= measured or dict.fromkeys(names)
    concepts = given or bench.example()
    rows = [bench.concept(text) for text in concepts]
    sum_of = rows[0].mean(0) - rows[1].mean(0) + rows[2].mean(0)
    random = torch.Generator().manual_seed(seed)
    noise = (torch.rand(8, len(sum_of), generator=random) * 2 - 1) * NOISE
    around = torch.cat([sum_of[None], sum_of + noise.to(sum_of)])
    made = bench.made(around)
    turn = rows[0].mean(0) - rows[1].mean(0)
    steps = torch.linspace(-1, 1, STEPS, device=turn.device)[:, None] * turn
    turned = [bench.made(latent + steps).cpu() for latent in bench.latents[:TURNED]]
    shown = [(f"{sign} {text}", bench.made(row[:9]).cpu()) for sign, text, row in zip(" -+", concepts, rows, strict=True)]
    means = torch.stack([row.mean(0) for row in rows])
    shown += [("averages A, B, C", bench.made(means).cpu()), ("= and neighbours", made.cpu())]
    figures["concepts"] = list(concepts)
    if reader:
        figures["reads"] = {name: [str(word) for word in words] for name, words in reader.read(made).items()}
    words = []
    if measured:
        words.append(
            f"{measured['right']:.0%} of {measured['trials']} sums show the expected properties, against "
            f"{measured['chance']:.0%} by chance and {measured['pixels']:.0%} for arithmetic on pixels."
        )
    legend = (
        f"Samples of each concept, samples of the averages, and A - B + C: the result, then with noise of {NOISE:g} added."
    )
    turn_legend = (
        f"A: {concepts[0]}. B: {concepts[1]}. Each row: a sample, with A - B subtracted on the left and added on the right."
    )
    return Finding(
        figures,
        words,
        {
            "arithmetic": sheet("Vector arithmetic: A - B + C", shown, legend=legend),
            "turn": sheet(
                "A turn: samples plus and minus A - B",
                [(f"sample {i}", row) for i, row in enumerate(turned)],
                heads=[f"{-1 + 2 * i / (STEPS - 1):+.1f}" for i in range(STEPS)],
                legend=turn_legend,
            ),
        },
        arrays={"latents": around.cpu().numpy()},
    )


class _Bench:
    """A pool of samples to choose concepts from, with their recognised properties."""

    def __init__(
        self,
        model: Model,
        reader: Reader | None,
        average: int,
        generate: Callable[..., Tensor],
        seed: int,
        report_progress: Progress,
    ) -> None:
        self.model, self.reader, self.average, self.made, self.seed = model, reader, average, generate, seed
        self.latents = model.latents(POOL, seed)
        self.pictures, self.read = torch.empty(0), dict[str, np.ndarray]()
        if reader is None:
            return
        parts = []
        for start in range(0, POOL, BLOCK):
            parts.append(self.made(self.latents[start : start + BLOCK]))
            report_progress("generating samples", start + BLOCK, POOL)
        self.pictures = torch.cat(parts)
        self.read = reader.read(self.pictures)

    def concept(self, text: str) -> Tensor:
        """The latents (k, size) of a concept: those of the sample numbers, or the first ones whose samples show the words."""
        if _numbers(text):
            numbers = whole_numbers("a, --b or --c", text, most=999_999)
            return self.model.latents(max(numbers) + 1, self.seed)[numbers]
        assert self.reader is not None, "words need a reader"
        wanted = dict(self.reader.property_of(part) for part in text.split(","))
        (found,) = np.nonzero(self._show(wanted))
        if len(found) < self.average:
            raise LeafwingError(f"only {len(found)} of {POOL} samples show {text}, fewer than --average {self.average}")
        return self.latents[found[: self.average]]

    def _show(self, wanted: Mapping[str, str]) -> np.ndarray:
        return np.all([self.read[name] == word for name, word in wanted.items()], axis=0)

    def example(self) -> list[str]:
        """Frequent concepts: of two properties if the reader knows as many, else of one."""
        assert self.reader is not None, "an example needs a reader"
        frequent = {}
        for name in self.reader.words:
            words, counts = np.unique(self.read[name][self.read[name] != UNREAD], return_counts=True)
            if len(words) > 1:
                frequent[name] = [str(word) for word in words[np.argsort(-counts, kind="stable")]]
        if not frequent:
            raise LeafwingError(
                "the reader sees the same in all samples (with labels all are of one class): give --a, --b and --c as sample "
                "numbers: 3,5,8"
            )
        (p, (x, y, *_)), *more = list(frequent.items())[-2:]
        if not more:
            return [f"{p}={x}", f"{p}={y}", f"{p}={frequent[p][min(2, len(frequent[p]) - 1)]}"]
        q, (u, v, *_) = more[0]
        return [f"{p}={x},{q}={u}", f"{p}={y},{q}={u}", f"{p}={y},{q}={v}"]

    def measured(self, trials: int) -> dict[str, float]:
        """Sums of samples (p=x, q=u) - (p=y, q=u) + (p=y, q=v), which should show (p=x, q=v); see `arithmetic`."""
        assert self.reader is not None, "figures need a reader"
        random, tried = np.random.default_rng(self.seed), 0
        latents, pixels = [], []
        wanted: list[tuple[str, str, str, str]] = []
        names = list(self.reader.words)
        chance = []
        while len(wanted) < trials and tried < 20 * trials:
            tried += 1
            p, q = random.choice(names, 2, replace=False)
            x, y = random.choice(self.reader.words[p], 2, replace=False)
            u, v = random.choice(self.reader.words[q], 2, replace=False)
            found = [np.flatnonzero(self._show({p: one, q: two})) for one, two in ((x, u), (y, u), (y, v))]
            if min(map(len, found)) < self.average:
                continue
            chosen = [random.choice(rows, self.average, replace=False) for rows in found]
            first, second, third = (self.latents[rows].mean(0) for rows in chosen)
            latents.append(first - second + third)
            first, second, third = (self.pictures[rows].mean(0) for rows in chosen)
            pixels.append((first - second + third).clamp(-1, 1))
            wanted.append((p, x, q, v))
            chance.append(self._show({p: x, q: v}).mean())
        if not wanted:
            return {}
        read = self.reader.read(self.made(torch.stack(latents)))
        moved, kept = self._agree(read, wanted)
        of_pixels = np.logical_and(*self._agree(self.reader.read(torch.stack(pixels)), wanted))
        return {
            "trials": len(wanted),
            "right": float((moved & kept).mean()),
            "chance": float(np.mean(chance)),
            "pixels": float(of_pixels.mean()),
            "moved": float(moved.mean()),
            "kept": float(kept.mean()),
            "sure": float((read[names[0]] != UNREAD).mean()),
        }

    @staticmethod
    def _agree(read: Mapping[str, np.ndarray], wanted: list[tuple[str, str, str, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Whether each picture shows the expected word of the property that changes, and of the other."""
        moved = np.array([read[p][i] == x for i, (p, x, _, _) in enumerate(wanted)])
        return moved, np.array([read[q][i] == v for i, (_, _, q, v) in enumerate(wanted)])


def _numbers(text: str) -> bool:
    return text.replace(",", "").replace(":", "").replace(" ", "").isdecimal()
