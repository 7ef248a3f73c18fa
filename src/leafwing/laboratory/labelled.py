"""Real pictures with labels: some to learn from, others to be tested on, and never one of them for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.latents import whole_numbers
from leafwing.laboratory.sheet import Line, chart
from leafwing.metrics.samples import to_floats


@dataclass(frozen=True, eq=False)
class Labelled:
    """Real pictures whose labels are known, in parts that share none.

    Args:
        names: the class names.
        teaching: where labels are drawn from, with `pool`: its places in the array.
        testing: where test pictures are, with `test`; and `rest`, what is left of them.
        apart: whether the test pictures were held out of training, and are not a part of what labels are drawn from.
    """

    names: tuple[str, ...]
    teaching: Dataset
    pool: np.ndarray
    testing: Dataset
    test: np.ndarray
    rest: np.ndarray
    apart: bool

    def draw(self, seed: int, draw: int, each: int) -> np.ndarray:
        """Places of so many pictures of each class, the i-th of class 0, the i-th of class 1, ...: a few are the first of many."""
        order, _ = self.teaching.epoch(seed, draw + 1)
        order = order[np.isin(order, self.pool)]
        told = self.told(order)
        return np.stack([order[told == index][:each] for index in range(len(self.names))], axis=1).ravel()

    def told(self, places: np.ndarray) -> np.ndarray:
        """The labels of pictures that are drawn."""
        return told(self.teaching)[places]

    def shown(self, places: np.ndarray) -> Tensor:
        """Pictures that are drawn, in [-1, 1]."""
        return to_floats(self.teaching.array[places])

    @property
    def answers(self) -> np.ndarray:
        """The labels of the test pictures."""
        return told(self.testing)[self.test]

    @property
    def where(self) -> str:
        """What the test pictures are, in words."""
        if self.apart:
            return "held out of training: no network has seen them"
        return "split off from the same data by the seed: no label of theirs is used here"

    @property
    def chance(self) -> float:
        """How often one who always says the most frequent class is right."""
        return float(np.bincount(self.answers).max() / len(self.answers))


def told(data: Dataset) -> np.ndarray:
    """The labels of a data set, by place in its array."""
    assert data.labels is not None
    return data.labels


def parted(data: Dataset, held: Dataset, test: int, seed: int, most: Sequence[int], *, rest: bool = False) -> Labelled:
    """Parts of labelled pictures.

    Args:
        data: where labels are drawn from.
        held: where test pictures are taken from; may be `data`, of which at most a half is taken then.
        test: how many are tested on, at most.
        seed: which.
        most: how many labels a class are drawn.
        rest: whether a half at least of `held` is to be left in any case.

    Raises:
        LeafwingError: no labels, or too few of a class.
    """
    for one in (data, held):
        if one.labels is None or len(one.spec.labels) < 2:
            raise LeafwingError(
                f"{one.source} has no labels, and this tool teaches a classifier: name pictures with one sub-folder per class, as in "
                "--data FOLDER"
            )
    if data.spec.labels != held.spec.labels:
        raise LeafwingError(f"the classes of {held.source} are not those of {data.source}")
    if test < 1:
        raise LeafwingError(f"--test {test}: at least one test picture is needed")
    apart = held is not data
    order, _ = held.epoch(seed, 0)
    tested = min(test, len(order) if apart and not rest else len(order) // 2)
    pool = data.epoch(seed, 0)[0] if apart else order[tested:]
    parts = Labelled(data.spec.labels, data, pool, held, order[:tested], order[tested:], apart)
    counts = np.bincount(parts.told(pool), minlength=len(parts.names))
    if counts.min() < max(most):
        raise LeafwingError(
            f"--labels {max(most)}: class {parts.names[int(counts.argmin())]} has {counts.min()} pictures to draw from. Ask for "
            f"fewer labels{'' if apart else ', or for fewer --test pictures'}"
        )
    return parts


def asked(labels: str, draws: int, seed: int) -> list[int]:
    """Numbers of labels a class, in rising order, and a check of the draws.

    Raises:
        LeafwingError: what is wrong, by option.
    """
    numbers = sorted(set(whole_numbers("labels", labels, most=1_000_000)))
    if numbers[0] < 2:
        raise LeafwingError(f"--labels {labels}: two labels of each class are needed at least")
    if draws < 2:
        raise LeafwingError(f"--draws {draws}: without a second draw nobody knows how much chance there is in the first")
    if not 0 <= seed < 2**32:
        raise LeafwingError(f"--seed {seed}: a seed is from 0 to {2**32 - 1}")
    return numbers


def summed(accuracies: Sequence[float]) -> dict[str, float]:
    """The mean over draws, and their standard deviation."""
    return {"mean": float(np.mean(accuracies)), "sd": float(np.std(accuracies, ddof=1))}


def versus(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float | bool]:
    """By how much one is better than another that was given the same draws, and whether that is more than the spread.

    Returns:
        `gain`: the mean difference; `sd`: its standard deviation over draws; `beats`: whether the gain is larger; `loses`: the same of
        the other.
    """
    gains = np.asarray(ours) - np.asarray(theirs)
    gain, spread = float(gains.mean()), float(gains.std(ddof=1))
    return {"gain": gain, "sd": spread, "beats": gain > spread, "loses": -gain > spread}


def curve(title: str, across: str, figures: Mapping[str, Any], names: Mapping[str, str]) -> Image:
    """Accuracy over labels as a chart, with a band of one standard deviation.

    Args:
        title: what is shown.
        across: what the x axis counts.
        figures: `accuracy` by way and number of labels, see `summed`, and `draws`.
        names: of the ways.
    """
    lines: dict[str, Line] = {}
    for way, by in figures["accuracy"].items():
        numbers = [int(n) for n in by]
        mean, sd = ([100 * one[what] for one in by.values()] for what in ("mean", "sd"))
        low, high = ([m + sign * s for m, s in zip(mean, sd, strict=True)] for sign in (-1, 1))
        lines[names[way]] = (numbers, mean, low, high)
    up = f"right (%), mean and sd of {figures['draws']} draws"
    return chart(title, lines, across=across, up=up, ticks={n: f"{n:,}" for n in numbers}, logarithmic=True)
