"""Vector arithmetic: A - B + C with averages of latents. Radford et al. 2015, arXiv:1511.06434, section 6.3.2.

A concept is the average of three latents or more whose samples show it: single latents give unstable results. Around the result the
paper draws neighbours, with uniform noise of .25 added. A "turn" vector is the difference of two concepts, added to other latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.latents import need_pictures, of_one_kind, whole_numbers
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import sheet
from leafwing.model import BLOCK, Model

POOL = 2_048
"""Samples among which concepts are looked for."""
NOISE = 0.25
TURNED, STEPS = 6, 7
"""Samples that the turn vector is added to, and pictures of each."""


def arithmetic(
    model: Model,
    *,
    reader: Reader | None,
    counting: Counting = quiet,
    a: str | None = None,
    b: str | None = None,
    c: str | None = None,
    average: int = 3,
    trials: int = 200,
    label: str | None = None,
    seed: int = 0,
) -> Finding:
    """A - B + C: is a red square less a red circle plus a blue circle a blue square?

    Args:
        model: pictures.
        reader: says what samples show; needed for concepts in words and for the figures.
        counting: told how far it is.
        a: a concept: numbers of samples, as `leafwing sample` shows them (3,5,8), or words: shape=star,colour=red.
        b: what is taken away.
        c: what is added. Without a, b and c, an example that the reader chooses.
        average: how many latents make a concept in words.
        trials: how many sums of two properties are measured.
        label: of which class all samples are, for a run with labels.
        seed: of the samples, of the trials and of the noise.

    Returns:
        Over the trials, in which A and B differ in one property and C in another, the shares of results with both expected words:
        `right`; `chance`, of any samples; `pixels`, where averages of pictures are added instead of latents; `moved` and `kept`: with
        the expected word of the property that was to change, and of the other. `sure`: share of results that can be read. None
        without a reader of two properties.

    Raises:
        LeafwingError: points, a concept that nobody reads or that too few samples show.
    """
    need_pictures(model)
    given = [text for text in (a, b, c) if text is not None]
    if len(given) not in (0, 3):
        raise LeafwingError("arithmetic needs all of --a, --b and --c, or none of them")
    if average < 1 or trials < 1:
        raise LeafwingError("--average and --trials are 1 at least")
    if reader is None and not (given and all(_numbers(text) for text in given)):
        raise LeafwingError(
            "nobody can read the pictures of this run, which has no labels: give --a, --b and --c as numbers of samples: 3,5,8"
        )
    bench = _Bench(model, reader, average, of_one_kind(model, label), seed, counting)
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
            f"{measured['right']:.0%} of {measured['trials']} sums show what they should; {measured['chance']:.0%} would by chance, "
            f"{measured['pixels']:.0%} where pictures are added instead of latents."
        )
    legend = f"Rows of samples, their averages, and A - B + C: first the result, then with noise of {NOISE:g} added."
    turn_legend = (
        f"A: {concepts[0]}. B: {concepts[1]}. Each row: a sample, with A - B taken away on the left and added on the right."
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
    """Samples to choose concepts from, made and read when they are first needed."""

    def __init__(
        self,
        model: Model,
        reader: Reader | None,
        average: int,
        generate: Callable[..., Tensor],
        seed: int,
        counting: Counting,
    ) -> None:
        self.model, self.reader, self.average, self.made, self.seed = model, reader, average, generate, seed
        self.latents = model.latents(POOL, seed)
        self.pictures, self.read = torch.empty(0), dict[str, np.ndarray]()
        if reader is None:
            return
        parts = []
        for start in range(0, POOL, BLOCK):
            parts.append(self.made(self.latents[start : start + BLOCK]))
            counting("making samples to choose from", start + BLOCK, POOL)
        self.pictures = torch.cat(parts)
        self.read = reader.read(self.pictures)

    def concept(self, text: str) -> Tensor:
        """The latents (k, size) of a concept: those of the numbers, or the first whose samples show the words."""
        if _numbers(text):
            numbers = whole_numbers("a, --b or --c", text, most=999_999)
            return self.model.latents(max(numbers) + 1, self.seed)[numbers]
        assert self.reader is not None, "words need a reader"
        wanted = dict(self.reader.property_of(part) for part in text.split(","))
        (found,) = np.nonzero(self._show(wanted))
        if len(found) < self.average:
            raise LeafwingError(f"{len(found)} of {POOL} samples show {text}, and --average {self.average} are needed")
        return self.latents[found[: self.average]]

    def _show(self, wanted: Mapping[str, str]) -> np.ndarray:
        return np.all([self.read[name] == word for name, word in wanted.items()], axis=0)

    def example(self) -> list[str]:
        """Concepts that many samples show: of two properties where the reader knows so many, else of one."""
        assert self.reader is not None, "an example needs a reader"
        frequent = {}
        for name in self.reader.words:
            words, counts = np.unique(self.read[name][self.read[name] != UNREAD], return_counts=True)
            if len(words) > 1:
                frequent[name] = [str(word) for word in words[np.argsort(-counts, kind="stable")]]
        if not frequent:
            raise LeafwingError(
                "the reader sees one and the same in all samples (with labels all are of one class): give --a, --b and --c as numbers "
                "of samples: 3,5,8"
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
