"""Vector arithmetic: A - B + C with averages of latents. Radford et al. 2015, arXiv:1511.06434, section 6.3.2.

A concept is the average of three or more latents whose samples show it: single latents give unstable results. The paper also shows
neighbours of the result, with uniform noise in [-0.25, 0.25] added. A "turn" vector is the difference of two concepts, added to other
latents.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, Fixed, fix_conditions, parse_numbers
from leafwing.laboratory.needs import IMAGES, LATENTS, needs
from leafwing.laboratory.options import require_counts, require_memory
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import sheet
from leafwing.latents import BLOCK
from leafwing.model import Model
from leafwing.progress import ProgressCallback, no_progress

POOL = 2_048
"""Number of samples searched for concepts."""
NOISE = 0.25
TURN_ROWS, TURN_STEPS = 6, 7
"""Number of samples to which the turn vector is added, and images of each."""


@needs(IMAGES, LATENTS)
def arithmetic(
    model: Model,
    *,
    reader: Reader | None,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    a: str | None = None,
    b: str | None = None,
    c: str | None = None,
    average: int = 3,
    trials: int = 200,
    seed: int = 0,
) -> Finding:
    """Compute A - B + C: does red square - red circle + blue circle give a blue square?

    Args:
        model: a model of images.
        reader: attribute classifier of samples; required for concepts in words and for the figures.
        conditions: what all samples should be, by field: {"label": 3}; the rest is that of the first sample.
        report_progress: progress callback.
        a: a concept: sample numbers as in `leafwing sample` (3,5,8), but with the conditions of sample 0 where none are set, or words:
            shape=star,colour=red.
        b: the concept to subtract.
        c: the concept to add. Default: an example chosen automatically.
        average: number of latents averaged for a concept in words.
        trials: number of random sums evaluated for the numbers.
        seed: random seed of the samples, trials and noise.

    Returns:
        Over trials in which A and B differ in one property and B and C in another: `right`, the fraction of results with both
        expected properties; `chance`, the same for arbitrary samples; `pixels`, the same for arithmetic on averaged images; `moved`
        and `kept`, the fraction with the expected value of the changed and of the other property; `sure`, the fraction that could be
        recognised. None without an attribute classifier for two properties.

    Raises:
        LeafwingError: a concept that is unknown or shown by too few samples.
    """
    concepts = [text for text in (a, b, c) if text is not None]
    if len(concepts) not in (0, 3):
        raise LeafwingError("arithmetic requires all of --a, --b and --c, or none of them")
    require_counts(average=average, trials=trials)
    require_memory(model, 2 * trials, trials=trials)
    if reader is None and not (concepts and all(_is_numbers(text) for text in concepts)):
        raise LeafwingError(
            "this run has no attribute classifier, because its images have no labels: give --a, --b and --c as sample numbers, "
            "such as --a 3,5,8"
        )
    pool = _Pool(model, reader, average, fix_conditions(model, conditions, seed), seed, report_progress)
    figures: dict[str, object] = {"average": average, "reader": reader.name if reader else None}
    success = pool.success_rates(trials) if reader and len(reader.words) > 1 else None
    figures |= success or dict.fromkeys(("trials", "right", "chance", "pixels", "moved", "kept", "sure"))
    concepts = concepts or pool.example()
    members = [pool.concept(text) for text in concepts]
    means = torch.stack([latents.mean(0) for latents in members])
    result = means[0] - means[1] + means[2]
    noise = (torch.rand(8, len(result), generator=torch.Generator().manual_seed(seed)) * 2 - 1) * NOISE
    neighbours = torch.cat([result[None], result + noise.to(result)])
    images = pool.generate(neighbours)
    turn = means[0] - means[1]
    steps = torch.linspace(-1, 1, TURN_STEPS, device=turn.device)[:, None] * turn
    turn_rows = [(f"sample {i}", pool.generate(z + steps).cpu()) for i, z in enumerate(pool.latents[:TURN_ROWS])]
    rows = [(f"{sign} {text}", pool.generate(z[:9]).cpu()) for sign, text, z in zip(" -+", concepts, members, strict=True)]
    rows += [("averages A, B, C", pool.generate(means).cpu()), ("= and neighbours", images.cpu())]
    figures["concepts"] = list(concepts)
    if reader:
        figures["reads"] = {name: [str(value) for value in values] for name, values in reader.read(images).items()}
    words = []
    if success:
        words.append(
            f"{success['right']:.0%} of {success['trials']} sums show the expected properties, against "
            f"{success['chance']:.0%} by chance and {success['pixels']:.0%} for arithmetic on pixels."
        )
    legend = (
        f"Samples of each concept, samples of the averages, and A - B + C: the result, then with noise of {NOISE:g} added."
    )
    turn_legend = (
        f"A: {concepts[0]}. B: {concepts[1]}. Each row: a sample, with A - B subtracted on the left and added on the right."
    )
    return Finding(
        figures,
        [*words, *pool.generate.words],
        {
            "arithmetic": sheet("Vector arithmetic: A - B + C", rows, legend=legend),
            "turn": sheet(
                "A turn: samples plus and minus A - B",
                turn_rows,
                heads=[f"{-1 + 2 * i / (TURN_STEPS - 1):+.1f}" for i in range(TURN_STEPS)],
                legend=turn_legend,
            ),
        },
        arrays={"latents": neighbours.cpu().numpy()},
    )


class _Pool:
    """Samples from which concepts are chosen, with the properties that the attribute classifier recognises in them."""

    def __init__(
        self,
        model: Model,
        reader: Reader | None,
        average: int,
        generate: Fixed,
        seed: int,
        report_progress: ProgressCallback,
    ) -> None:
        self.model, self.reader, self.average, self.generate, self.seed = model, reader, average, generate, seed
        self.latents = model.latents(POOL, seed)
        self.images, self.properties = torch.empty(0), dict[str, np.ndarray]()
        if reader is None:
            return
        blocks = []
        for start in range(0, POOL, BLOCK):
            blocks.append(self.generate(self.latents[start : start + BLOCK]))
            report_progress("generating samples", start + BLOCK, POOL)
        self.images = torch.cat(blocks)
        self.properties = reader.read(self.images)

    def concept(self, text: str) -> Tensor:
        """The latents (k, size) of a concept: those of the sample numbers, or the first ones whose samples show the words."""
        if _is_numbers(text):
            numbers = parse_numbers("a, --b or --c", text, most=999_999)
            return self.model.latents(max(numbers) + 1, self.seed)[numbers]
        assert self.reader is not None, "words need an attribute classifier"
        values = dict(self.reader.property_of(part) for part in text.split(","))
        matches = np.flatnonzero(self._has(values))
        if len(matches) < self.average:
            raise LeafwingError(f"only {len(matches)} of {POOL} samples show {text}, fewer than --average {self.average}")
        return self.latents[matches[: self.average]]

    def _has(self, values: Mapping[str, str]) -> np.ndarray:
        """Which samples of the pool have these values of properties, bool (n,)."""
        return np.all([self.properties[name] == value for name, value in values.items()], axis=0)

    def example(self) -> list[str]:
        """Three concepts of frequent values: of two properties if the attribute classifier recognises two, else of one."""
        assert self.reader is not None, "an example needs an attribute classifier"
        frequent = {}
        for name in self.reader.words:
            values, counts = np.unique(self.properties[name][self.properties[name] != UNREAD], return_counts=True)
            if len(values) > 1:
                frequent[name] = [str(value) for value in values[np.argsort(-counts, kind="stable")]]
        if not frequent:
            raise LeafwingError(
                "the attribute classifier assigns all samples the same value, as it does if they are all of one class: give --a, --b "
                "and --c as sample numbers, such as --a 3,5,8"
            )
        (p, (x, y, *_)), *more = list(frequent.items())[-2:]
        if not more:
            return [f"{p}={x}", f"{p}={y}", f"{p}={frequent[p][min(2, len(frequent[p]) - 1)]}"]
        q, (u, v, *_) = more[0]
        return [f"{p}={x},{q}={u}", f"{p}={y},{q}={u}", f"{p}={y},{q}={v}"]

    def success_rates(self, trials: int) -> dict[str, float]:
        """Success of sums of samples (p=x, q=u) - (p=y, q=u) + (p=y, q=v), which should show (p=x, q=v); see `arithmetic`.

        Empty if no trial has enough samples of all three concepts.
        """
        assert self.reader is not None, "figures need an attribute classifier"
        random = np.random.default_rng(self.seed)
        latents, pixels = [], []
        expected: list[tuple[str, str, str, str]] = []
        names = list(self.reader.words)
        chance = []
        for _ in range(20 * trials):
            if len(expected) == trials:
                break
            p, q = random.choice(names, 2, replace=False)
            x, y = random.choice(self.reader.words[p], 2, replace=False)
            u, v = random.choice(self.reader.words[q], 2, replace=False)
            matches = [np.flatnonzero(self._has({p: i, q: j})) for i, j in ((x, u), (y, u), (y, v))]
            if min(map(len, matches)) < self.average:
                continue
            indices = [random.choice(rows, self.average, replace=False) for rows in matches]
            first, second, third = (self.latents[rows].mean(0) for rows in indices)
            latents.append(first - second + third)
            first, second, third = (self.images[rows].mean(0) for rows in indices)
            pixels.append((first - second + third).clamp(-1, 1))
            expected.append((p, x, q, v))
            chance.append(self._has({p: x, q: v}).mean())
        if not expected:
            return {}
        properties = self.reader.read(self.generate(torch.stack(latents)))
        changed_right, other_right = self._compare(properties, expected)
        pixels_right = np.logical_and(*self._compare(self.reader.read(torch.stack(pixels)), expected))
        return {
            "trials": len(expected),
            "right": float((changed_right & other_right).mean()),
            "chance": float(np.mean(chance)),
            "pixels": float(pixels_right.mean()),
            "moved": float(changed_right.mean()),
            "kept": float(other_right.mean()),
            "sure": float((properties[names[0]] != UNREAD).mean()),
        }

    @staticmethod
    def _compare(
        properties: Mapping[str, np.ndarray], expected: list[tuple[str, str, str, str]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whether each image shows the expected value of the property that changes, and of the other, bool (n,)."""
        changed = np.array([properties[p][i] == x for i, (p, x, _, _) in enumerate(expected)])
        return changed, np.array([properties[q][i] == v for i, (_, _, q, v) in enumerate(expected)])


def _is_numbers(text: str) -> bool:
    """Whether a concept is given by sample numbers rather than words."""
    return text.replace(",", "").replace(":", "").replace(" ", "").isdecimal()
