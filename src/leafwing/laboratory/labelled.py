"""Labelled real images, split into disjoint training and test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.laboratory.latents import parse_numbers
from leafwing.laboratory.options import require_counts
from leafwing.laboratory.sheet import Line, chart
from leafwing.pixels import images_to_tensor
from leafwing.progress import ProgressCallback
from leafwing.quantities import check_seed, plural


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """Labelled real images in disjoint parts.

    Args:
        names: the class names.
        train_data: data set of the training images, with their indices `pool`.
        test_data: data set of the test images, with their indices `test`, and the remaining ones `rest`.
        is_held_out: whether the test images were held out of training, rather than split off from the same data.
    """

    names: tuple[str, ...]
    train_data: Dataset
    pool: np.ndarray
    test_data: Dataset
    test: np.ndarray
    rest: np.ndarray
    is_held_out: bool

    def draw(self, seed: int, draw: int, per_class: int) -> np.ndarray:
        """Indices of random training images, interleaved by class, so that smaller draws are prefixes of larger ones."""
        order, _ = self.train_data.epoch(seed, draw + 1)
        order = order[np.isin(order, self.pool)]
        labels = self.labels(order)
        return np.stack([order[labels == index][:per_class] for index in range(len(self.names))], axis=1).ravel()

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """The labels of training images."""
        return labels_of(self.train_data)[indices]

    def images(self, indices: np.ndarray) -> Tensor:
        """Training images in [-1, 1], (n, channels, height, width)."""
        return images_to_tensor(self.train_data.array[indices])

    @property
    def test_labels(self) -> np.ndarray:
        """The labels of the test images."""
        return labels_of(self.test_data)[self.test]

    @property
    def test_origin(self) -> str:
        """The origin of the test images, in words."""
        if self.is_held_out:
            return "held out of training"
        return "split off at random from the same data; their labels are not used for training here"

    @property
    def chance(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        return float(np.bincount(self.test_labels).max() / len(self.test_labels))


def labels_of(data: Dataset) -> np.ndarray:
    """The labels of a data set, by index."""
    assert data.labels is not None
    return data.labels


def split_labelled(
    data: Dataset,
    held_out: Dataset,
    test: int,
    seed: int,
    numbers: Sequence[int],
    *,
    keep_rest: bool = False,
) -> LabelledSplit:
    """Splits labelled images into a pool of training images and test images.

    Args:
        data: source of training images.
        held_out: source of test images; if it is `data`, at most half of it is used.
        test: maximum number of test images.
        seed: random seed of the split.
        numbers: numbers of labelled images that will be drawn per class.
        keep_rest: whether to use at most half of `held_out` in any case.

    Raises:
        LeafwingError: no labels, or too few of a class.
    """
    for source in (data, held_out):
        if source.labels is None or len(source.spec.labels) < 2:
            raise LeafwingError(
                f"{source.source} has no labels, which this tool requires: use data with one sub-folder per class, as in --data FOLDER"
            )
    if data.spec.labels != held_out.spec.labels:
        raise LeafwingError(f"the classes of {held_out.source} differ from those of {data.source}")
    is_held_out = held_out is not data
    order, _ = held_out.epoch(seed, 0)
    n_test = min(test, len(order) if is_held_out and not keep_rest else len(order) // 2)
    if n_test < 1:
        raise LeafwingError(
            f"{held_out.source}: {plural(len(order), 'image')} to test with, and at least 2 are needed: use --data FOLDER"
        )
    pool = data.epoch(seed, 0)[0] if is_held_out else order[n_test:]
    split = LabelledSplit(data.spec.labels, data, pool, held_out, order[:n_test], order[n_test:], is_held_out)
    counts = np.bincount(split.labels(pool), minlength=len(split.names))
    if counts.min() < max(numbers):
        raise InvalidOption(
            "shots",
            max(numbers),
            f"class {split.names[int(counts.argmin())]} has only {counts.min()} training images; use "
            f"a smaller --shots{'' if is_held_out else ' or --test'}",
        )
    return split


def parse_shots(shots: str, repeats: int, test: int, seed: int) -> list[int]:
    """Numbers of labelled images per class, ascending. Also checks the other options that select images.

    Args:
        shots: the numbers, such as `10,100`.
        repeats: number of random draws of these images.
        test: maximum number of test images.
        seed: random seed.

    Raises:
        LeafwingError: an invalid value; the message names the option.
    """
    numbers = sorted(set(parse_numbers("shots", shots, most=1_000_000)))
    if numbers[0] < 2:
        raise InvalidOption("shots", shots, "at least 2 per class are required")
    require_counts(test=test)
    if repeats < 2:
        raise InvalidOption("repeats", repeats, "at least 2 are required to estimate the standard deviation")
    require_counts(repeats=repeats)
    check_seed(seed)
    return numbers


class Accuracies:
    """Test accuracies by method and number of labels, one per repeat.

    Args:
        methods: names of the methods.
        numbers: numbers of labels per class.
        repeats: number of random draws of the training images.
        split: its test images are classified.
        report_progress: progress callback.
    """

    def __init__(
        self,
        methods: Sequence[str],
        numbers: Sequence[int],
        repeats: int,
        split: LabelledSplit,
        report_progress: ProgressCallback,
    ) -> None:
        self.repeats, self.test_labels, self.report_progress = repeats, split.test_labels, report_progress
        self.values: dict[str, dict[int, list[float]]] = {method: {n: [] for n in numbers} for method in methods}
        self.done, self.total = 0, len(methods) * len(numbers) * repeats

    def add(self, method: str, n: int, predictions: np.ndarray) -> None:
        """Adds the accuracy of a method's predictions for the test images, and reports progress."""
        self.values[method][n].append(float((predictions == self.test_labels).mean()))
        self.done += 1
        self.report_progress("training classifiers", self.done, self.total)

    def figures(self, best: str) -> dict[str, Any]:
        """`accuracy` of each method (`mean_and_sd`), `gains` of the method `best` over each other (`paired_gain`), `repeats`."""
        return {
            "accuracy": {method: {str(n): mean_and_sd(x) for n, x in by_n.items()} for method, by_n in self.values.items()},
            "gains": {
                method: {str(n): paired_gain(self.values[best][n], x) for n, x in by_n.items()}
                for method, by_n in self.values.items()
                if method != best
            },
            "repeats": self.repeats,
        }


def mean_and_sd(accuracies: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over repeats."""
    return {"mean": float(np.mean(accuracies)), "sd": float(np.std(accuracies, ddof=1))}


def paired_gain(first: Sequence[float], second: Sequence[float]) -> dict[str, float | bool]:
    """The paired difference of two methods over the same draws, and whether it exceeds its standard deviation.

    Returns:
        `gain`: mean difference; `sd`: its standard deviation over repeats; `beats`: whether gain > sd; `loses`: whether -gain > sd.
    """
    gains = np.asarray(first) - np.asarray(second)
    gain, sd = float(gains.mean()), float(gains.std(ddof=1))
    return {"gain": gain, "sd": sd, "beats": gain > sd, "loses": -gain > sd}


def accuracy_chart(title: str, x_label: str, figures: Mapping[str, Any], names: Mapping[str, str]) -> Image:
    """A chart of accuracy over number of labels, with a band of one standard deviation.

    Args:
        title: the title.
        x_label: label of the x axis.
        figures: `accuracy` by method and number of labels, see `mean_and_sd`, and `repeats`.
        names: display names of the methods.
    """
    lines: dict[str, Line] = {}
    for method, by_number in figures["accuracy"].items():
        numbers = [int(n) for n in by_number]
        mean, sd = ([100 * accuracy[name] for accuracy in by_number.values()] for name in ("mean", "sd"))
        low, high = ([m + sign * s for m, s in zip(mean, sd, strict=True)] for sign in (-1, 1))
        lines[names[method]] = (numbers, mean, low, high)
    y_label = f"accuracy (%), mean and sd of {figures['repeats']} repeats"
    return chart(title, lines, x_label=x_label, y_label=y_label, ticks={n: f"{n:,}" for n in numbers}, logarithmic=True)
