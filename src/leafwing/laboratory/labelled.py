"""Labelled real pictures, split into disjoint training and test sets."""

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
    """Labelled real pictures in disjoint parts.

    Args:
        names: the class names.
        teaching: data set of the training pictures, with their indices `pool`.
        testing: data set of the test pictures, with their indices `test`, and the remaining ones `rest`.
        apart: whether the test pictures were held out of training, rather than split off from the same data.
    """

    names: tuple[str, ...]
    teaching: Dataset
    pool: np.ndarray
    testing: Dataset
    test: np.ndarray
    rest: np.ndarray
    apart: bool

    def draw(self, seed: int, draw: int, each: int) -> np.ndarray:
        """Indices of `each` pictures per class, interleaved by class, so that smaller draws are prefixes of larger ones."""
        order, _ = self.teaching.epoch(seed, draw + 1)
        order = order[np.isin(order, self.pool)]
        told = self.told(order)
        return np.stack([order[told == index][:each] for index in range(len(self.names))], axis=1).ravel()

    def told(self, places: np.ndarray) -> np.ndarray:
        """The labels of drawn pictures."""
        return told(self.teaching)[places]

    def shown(self, places: np.ndarray) -> Tensor:
        """Drawn pictures in [-1, 1]."""
        return to_floats(self.teaching.array[places])

    @property
    def answers(self) -> np.ndarray:
        """The labels of the test pictures."""
        return told(self.testing)[self.test]

    @property
    def where(self) -> str:
        """The origin of the test pictures, in words."""
        if self.apart:
            return "held out of training"
        return "split off at random from the same data; their labels are not used for training here"

    @property
    def chance(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        return float(np.bincount(self.answers).max() / len(self.answers))


def told(data: Dataset) -> np.ndarray:
    """The labels of a data set, by index."""
    assert data.labels is not None
    return data.labels


def parted(data: Dataset, held: Dataset, test: int, seed: int, most: Sequence[int], *, rest: bool = False) -> Labelled:
    """Splits labelled pictures.

    Args:
        data: source of training pictures.
        held: source of test pictures; if it is `data`, at most half of it is used.
        test: maximum number of test pictures.
        seed: random seed of the split.
        most: numbers of labels drawn per class.
        rest: whether to leave at least half of `held` in any case.

    Raises:
        LeafwingError: no labels, or too few of a class.
    """
    for one in (data, held):
        if one.labels is None or len(one.spec.labels) < 2:
            raise LeafwingError(
                f"{one.source} has no labels, which this tool requires: use data with one sub-folder per class, as in --data FOLDER"
            )
    if data.spec.labels != held.spec.labels:
        raise LeafwingError(f"the classes of {held.source} differ from those of {data.source}")
    if test < 1:
        raise LeafwingError(f"--test {test}: must be at least 1")
    apart = held is not data
    order, _ = held.epoch(seed, 0)
    tested = min(test, len(order) if apart and not rest else len(order) // 2)
    pool = data.epoch(seed, 0)[0] if apart else order[tested:]
    parts = Labelled(data.spec.labels, data, pool, held, order[:tested], order[tested:], apart)
    counts = np.bincount(parts.told(pool), minlength=len(parts.names))
    if counts.min() < max(most):
        raise LeafwingError(
            f"--labels {max(most)}: class {parts.names[int(counts.argmin())]} has only {counts.min()} pictures to draw from. Use "
            f"fewer labels{'' if apart else ' or fewer --test pictures'}"
        )
    return parts


def asked(labels: str, draws: int, seed: int) -> list[int]:
    """Numbers of labels per class, ascending; checks draws and seed too.

    Raises:
        LeafwingError: an invalid value; the message names the option.
    """
    numbers = sorted(set(whole_numbers("labels", labels, most=1_000_000)))
    if numbers[0] < 2:
        raise LeafwingError(f"--labels {labels}: at least two labels per class are required")
    if draws < 2:
        raise LeafwingError(f"--draws {draws}: at least 2 are required to estimate the standard deviation")
    if not 0 <= seed < 2**32:
        raise LeafwingError(f"--seed {seed}: must be from 0 to {2**32 - 1}")
    return numbers


def summed(accuracies: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over draws."""
    return {"mean": float(np.mean(accuracies)), "sd": float(np.std(accuracies, ddof=1))}


def versus(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float | bool]:
    """The paired difference of two methods over the same draws, and whether it exceeds its standard deviation.

    Returns:
        `gain`: mean difference; `sd`: its standard deviation over draws; `beats`: whether gain > sd; `loses`: whether -gain > sd.
    """
    gains = np.asarray(ours) - np.asarray(theirs)
    gain, spread = float(gains.mean()), float(gains.std(ddof=1))
    return {"gain": gain, "sd": spread, "beats": gain > spread, "loses": -gain > spread}


def curve(title: str, across: str, figures: Mapping[str, Any], names: Mapping[str, str]) -> Image:
    """A chart of accuracy over number of labels, with a band of one standard deviation.

    Args:
        title: the title.
        across: label of the x axis.
        figures: `accuracy` by method and number of labels, see `summed`, and `draws`.
        names: display names of the methods.
    """
    lines: dict[str, Line] = {}
    for way, by in figures["accuracy"].items():
        numbers = [int(n) for n in by]
        mean, sd = ([100 * one[what] for one in by.values()] for what in ("mean", "sd"))
        low, high = ([m + sign * s for m, s in zip(mean, sd, strict=True)] for sign in (-1, 1))
        lines[names[way]] = (numbers, mean, low, high)
    up = f"accuracy (%), mean and sd of {figures['draws']} draws"
    return chart(title, lines, across=across, up=up, ticks={n: f"{n:,}" for n in numbers}, logarithmic=True)
