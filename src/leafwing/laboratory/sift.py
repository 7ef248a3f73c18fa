"""Sifting: filter samples and use them as training data of a classifier. Man et al. 2018, SiftingGAN, arXiv:1809.04985.

A class-conditional generator produces labelled images at no cost, but some are bad or show another class. In the paper only those
accepted by the critic and a classifier are kept, and augment the training data of a classifier. This tool measures whether that
helps. The comparison favours the samples: the generator was trained with the labels of its whole training set, of which the
classifier gets only a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import Batch
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.fitting import real_conditions
from leafwing.laboratory.labelled import (
    Accuracies,
    LabelledSplit,
    accuracy_chart,
    parse_shots,
    split_labelled,
)
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions
from leafwing.laboratory.needs import CRITIC, IMAGES, LABELS, LATENTS, needs
from leafwing.laboratory.options import require_counts
from leafwing.laboratory.reading import SURE, UNREAD, Reader
from leafwing.laboratory.sheet import require_charts, sheet
from leafwing.metrics.features import pixels
from leafwing.model import Model
from leafwing.pictures import class_name, to_pixels
from leafwing.pixels import composite_on_white, images_to_tensor
from leafwing.progress import ProgressCallback, no_progress

CHUNK = 64
COLUMNS, ROWS = 6, 20
"""Accepted and rejected samples per row of the grid, and maximum number of rows."""
N_THRESHOLD = 1000
"""Number of real images used for the critic's threshold."""
LIMIT = 1_000_000_000
"""Memory limit for samples, in bytes."""
C = 10.0
"""Regularisation parameter of the SVM."""
ARMS = {
    "labels": "real images only",
    "unsifted": "plus all samples",
    "as_many": "plus as many unsifted samples as were kept",
    "sifted": "plus the kept samples",
}


@needs(IMAGES, LATENTS, LABELS)
def sift(
    model: Model,
    *,
    labelled: Dataset,
    held_out: Dataset,
    reader: Reader | None = None,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    by: Literal["both", "critic", "classifier"] = "both",
    n: int = 100,
    quantile: float = 0.1,
    shots: str = "5,20",
    repeats: int = 5,
    test: int = 1000,
    seed: int = 0,
) -> Finding:
    """Keep the samples accepted by the critic and a classifier, and train a classifier with and without them.

    Args:
        model: a class-conditional model of images.
        labelled: images to train on, with labels.
        held_out: those to test on; if it is `labelled`, a part of it is split off.
        reader: attribute classifier of images; default: the classifier of the model.
        conditions: what all samples should be besides their class, by field: {"attributes": {"old": 1}}.
        report_progress: progress callback.
        by: acceptance criterion: critic (a score comparable to real images), classifier (a confident prediction of the requested
            class), or both.
        n: number of samples per class.
        quantile: quantile of the scores of real images used as the critic's threshold.
        shots: numbers of real training images per class: 5,20.
        repeats: number of random draws of these images, for mean and standard deviation.
        test: maximum number of test images; at most half of the available ones.
        seed: random seed of samples, test split and repeats.

    Returns:
        `generated`, `kept`: numbers of samples, total and per class. `right`: accuracy of the sifting classifier on both.
        `real_right`: the same on the test images. `accuracy`: of a classifier (RBF-SVM on small images) trained on
        `labels` (real images only), and additionally on `unsifted` (all samples), `as_many` (unsifted, as many per class as were
        kept) and `sifted` samples: `mean` and `sd` over repeats by number of real images. `gains`: of sifted over each alternative, by
        number of labels: the mean paired `gain`, its `sd`, and whether it `beats` the alternative by more than that, or `loses`.
        `test_held_out`: whether the test images were unseen by both the run and the sifting classifier.

    Raises:
        LeafwingError: no critic or classifier to sift with, or too few labelled images.
    """
    check(
        model,
        conditions=conditions,
        reader=reader,
        by=by,
        n=n,
        quantile=quantile,
        shots=shots,
        repeats=repeats,
        test=test,
        seed=seed,
    )
    numbers = parse_shots(shots, repeats, test, seed)
    classifier = _classifier(model, reader)
    split = split_labelled(labelled, held_out, test, seed, numbers, keep_rest=True)
    if split.names != model.labels:
        raise LeafwingError(f"the classes of {labelled.source} are not those of this run: {', '.join(model.labels)}")
    classes = np.repeat(np.arange(len(model.labels)), n)  # requested class of each sample
    inputs = model.conditions(len(classes), seed, **{**conditions, "label": classes})
    array = _generate(model, inputs, seed, report_progress)
    accepted = np.ones(len(array), bool)
    threshold: float | None = None
    if by != "classifier":
        real = split.rest[:N_THRESHOLD]
        real_inputs = model.conditions(len(real), seed, **real_conditions(model, split.test_data, real))
        real_scores = _scores(model, split.test_data.array[real], real_inputs, report_progress)
        threshold = float(np.quantile(real_scores, quantile))
        accepted &= _scores(model, array, inputs, report_progress) >= threshold
    is_right = real_right = None
    if classifier is not None:
        is_right = _classify(classifier, array, report_progress) == classes
        real_right = _mean(_classify(classifier, split.test_data.array[split.test], report_progress) == split.test_labels)
        if by != "critic":
            accepted &= is_right
    figures: dict[str, Any] = {
        "generated": _count(np.ones_like(accepted), classes, split.names),
        "kept": _count(accepted, classes, split.names),
        "right": None if is_right is None else {"generated": _mean(is_right), "kept": _mean(is_right[accepted])},
        "real_right": real_right,
        "threshold": threshold,
    }
    figures |= _train_classifiers(split, numbers, repeats, seed, array, classes, accepted, report_progress)
    figures |= {
        "chance": split.chance,
        "tested": len(split.test),
        "test_held_out": split.is_held_out,
        "test": split.test_origin,
    }
    return Finding(
        figures,
        _words(figures, numbers, by),
        {
            "sifted": _sheet(array, classes, accepted, split.names, by),
            "learning": accuracy_chart("Samples as training data of a classifier", "real images per class", figures, ARMS),
        },
        arrays={"samples": array[accepted], "labels": classes[accepted]},
    )


def check(
    model: Model,
    *,
    conditions: Conditions,
    reader: Reader | None,
    by: str,
    n: int,
    quantile: float,
    shots: str,
    repeats: int,
    test: int,
    seed: int,
) -> None:
    """Raises LeafwingError for invalid options."""
    if "label" in conditions:
        raise LeafwingError("sift generates samples of all classes, so no label can be set")
    parse_shots(shots, repeats, test, seed)
    require_counts(n=n)
    if not 0 <= quantile < 1:
        raise InvalidOption("quantile", quantile, "must be at least 0 and less than 1, as in --quantile 0.1")
    if n * len(model.labels) * model.spec.size > LIMIT:
        raise InvalidOption("n", n, f"more than {LIMIT / 1e9:.0f} GB of memory needed; use fewer")
    if by != "classifier":
        CRITIC.check(model, f"sift --by {by}", "use --by classifier")
    if by != "critic" and _classifier(model, reader) is None:
        raise LeafwingError("no classifier for this run's images: use --by critic")
    require_charts()


class _Classifier:
    """Predicts the class index of images, (n,); -1 where it is not sure."""

    def __init__(self, names: Sequence[str], model: Model, reader: Reader | None, property_: str) -> None:
        self.names, self.model, self.reader, self.property = np.asarray(names), model, reader, property_

    def __call__(self, images: Tensor) -> np.ndarray:
        if self.reader is None:
            probabilities = self.model.classify(images)
            return np.where(probabilities.amax(1).cpu().numpy() >= SURE, probabilities.argmax(1).cpu().numpy(), -1)
        values = self.reader.read(images)[self.property]
        matches = values[:, None] == self.names
        return np.where(matches.any(1) & (values != UNREAD), matches.argmax(1), -1)


def _classifier(model: Model, reader: Reader | None) -> _Classifier | None:
    """The classifier for a run's classes: the reader if they are all values of one property, else the model, else None."""
    for name, values in (reader.words if reader is not None else {}).items():
        if set(model.labels) <= set(values):
            return _Classifier(model.labels, model, reader, name)
    return _Classifier(model.labels, model, None, "") if model.can("classify") else None


def _generate(model: Model, inputs: Batch, seed: int, report_progress: ProgressCallback) -> np.ndarray:
    """Samples with these conditions, uint8 (n, height, width, channels)."""
    conditions: Conditions = inputs
    array = np.empty((inputs.n, model.spec.height, model.spec.width, model.spec.channels), np.uint8)
    done = 0
    for block in model.stream(model.latents(inputs.n, seed), pad=True, **conditions):
        array[done : done + len(block)] = to_pixels(block)
        done += len(block)
        report_progress("generating samples", done, len(array))
    return array


def _scores(model: Model, array: np.ndarray, inputs: Batch, report_progress: ProgressCallback) -> np.ndarray:
    """The critic's scores of images with these conditions."""
    blocks = []
    for start in range(0, len(array), CHUNK):
        part = slice(start, start + CHUNK)
        conditions: Conditions = inputs.rows(part)
        scores = model.judge(images_to_tensor(array[part]), **conditions)
        blocks.append(scores.cpu().numpy())
        report_progress("scoring with the critic", min(start + CHUNK, len(array)), len(array))
    return np.concatenate(blocks)


def _classify(classifier: _Classifier, array: np.ndarray, report_progress: ProgressCallback) -> np.ndarray:
    """The predicted classes of images."""
    blocks = []
    for start in range(0, len(array), CHUNK):
        blocks.append(classifier(images_to_tensor(array[start : start + CHUNK])))
        report_progress("classifying", min(start + CHUNK, len(array)), len(array))
    return np.concatenate(blocks)


def _train_classifiers(
    split: LabelledSplit,
    numbers: Sequence[int],
    repeats: int,
    seed: int,
    array: np.ndarray,
    classes: np.ndarray,
    accepted: np.ndarray,
    report_progress: ProgressCallback,
) -> dict[str, Any]:
    """Accuracy of classifiers trained with and without samples."""
    as_many = np.zeros_like(accepted)
    for index in range(len(split.names)):
        rows = np.flatnonzero(classes == index)
        as_many[rows[: accepted[rows].sum()]] = True
    sample_vectors = _vectors(array)
    test_vectors = _vectors(split.test_data.array[split.test])
    arms = {"labels": np.zeros_like(accepted), "unsifted": np.ones_like(accepted), "as_many": as_many, "sifted": accepted}
    accuracies = Accuracies(list(arms), numbers, repeats, split, report_progress)
    for draw in range(repeats):
        indices = split.draw(seed, draw, numbers[-1])
        real_vectors, real_labels = _vectors(split.train_data.array[indices]), split.labels(indices)
        for n in numbers:
            few = n * len(split.names)
            for arm, rows in arms.items():
                x = np.concatenate([real_vectors[:few], sample_vectors[rows]])
                accuracies.add(arm, n, rbf_svm(x, np.concatenate([real_labels[:few], classes[rows]]), test_vectors))
    return accuracies.figures("sifted")


def rbf_svm(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions for vectors (m, size) of an SVM with RBF kernel trained on vectors (n, size)."""
    from sklearn.svm import SVC

    return SVC(C=C, gamma="scale").fit(train, labels).predict(test)


def _vectors(array: np.ndarray) -> np.ndarray:
    """Images downsampled to at most 16 pixels per side, as vectors (n, size)."""
    blocks = [
        pixels(composite_on_white(images_to_tensor(array[i : i + CHUNK])))[0].numpy() for i in range(0, len(array), CHUNK)
    ]
    return np.concatenate(blocks)


def _count(mask: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Number of samples, total and by class."""
    counts = np.bincount(classes[mask], minlength=len(names))
    return {"all": int(mask.sum()), "by_class": dict(zip(names, counts.tolist(), strict=True))}


def _mean(is_right: np.ndarray) -> float | None:
    return float(is_right.mean()) if len(is_right) else None


def _sheet(array: np.ndarray, classes: np.ndarray, accepted: np.ndarray, names: Sequence[str], by: str) -> Any:
    """One row per class: accepted samples on the left, rejected ones on the right."""
    white = np.full_like(array[:1], 255)
    rows: list[tuple[str, Tensor | np.ndarray]] = []
    for index, name in enumerate(names[:ROWS]):
        of_class = classes == index
        halves = []
        for mask in (accepted, ~accepted):
            images = array[of_class & mask][:COLUMNS]
            halves.append(np.concatenate([images, np.repeat(white, COLUMNS - len(images), axis=0)]))
        title = f"{class_name(name, index)}: {accepted[of_class].sum()} of {of_class.sum()} kept"
        rows.append((title, np.concatenate([halves[0], white, halves[1]])))
    criterion = {
        "both": "the critic and a classifier accept",
        "critic": "the critic accepts",
        "classifier": "a classifier accepts",
    }[by]
    legend = f"Each row: a requested class. Left: the first samples that {criterion}. Right: the first rejected ones."
    return sheet("Sifted samples", rows, heads=["kept"] * COLUMNS + [""] + ["rejected"] * COLUMNS, legend=legend)


def _words(figures: Mapping[str, Any], numbers: Sequence[int], by: str) -> list[str]:
    n_samples, n_kept = figures["generated"]["all"], figures["kept"]["all"]
    words = [f"Of {n_samples:,} samples {n_kept:,} were kept ({n_kept / n_samples:.0%})."]
    if by == "critic" and figures["right"] is not None and figures["right"]["kept"] is not None:
        words.append(
            f"A classifier predicts the requested class for {figures['right']['generated']:.0%} of all samples and for "
            f"{figures['right']['kept']:.0%} of the kept ones."
        )
    for n in numbers:
        mean = {arm: by_number[str(n)]["mean"] for arm, by_number in figures["accuracy"].items()}
        effect, sifting_effect = (_effect(figures["gains"][arm][str(n)]) for arm in ("labels", "as_many"))
        words.append(
            f"Accuracy with {n:,} real images per class: {mean['labels']:.1%}; adding the kept samples gives {mean['sifted']:.1%}, "
            f"so this {effect}. With as many unsifted samples it is {mean['as_many']:.1%}, so the sifting itself {sifting_effect}; "
            f"adding all samples gives {mean['unsifted']:.1%}."
        )
    words.append(f"The {figures['tested']:,} test images are {figures['test']}.")
    words.append(
        "The generator was trained with all labels of its training set, the classifier only with those few: any gain comes from "
        "the labels that the generator was given."
        + (
            ""
            if figures["test_held_out"]
            else " If the test images are from the run's own data, the generator and the sifting classifier were trained on them."
        )
    )
    return words


def _effect(gain: Mapping[str, Any]) -> str:
    """The interpretation of a gain relative to its standard deviation over repeats."""
    return "helps" if gain["beats"] else "hurts" if gain["loses"] else "makes no difference beyond chance"
