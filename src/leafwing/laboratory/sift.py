"""Sifting: filter samples and use them as training data of a classifier. Man et al. 2018, SiftingGAN, arXiv:1809.04985.

A class-conditional generator produces labelled pictures at no cost, but some are bad or show another class. In the paper only those
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
from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.labelled import Labelled, asked, curve, parted, summed, told, versus
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.reading import SURE, UNREAD, Reader
from leafwing.laboratory.sheet import need_charts, sheet
from leafwing.metrics.features import SIDE, shrunk
from leafwing.metrics.own import opaque
from leafwing.metrics.samples import to_floats
from leafwing.model import Model
from leafwing.pictures import to_pixels
from leafwing.progress import Progress, no_progress

CHUNK = 64
SHOWN, CLASSES = 6, 20
"""Pictures of each kind per row of the sheet, and maximum number of rows."""
REAL = 1000
"""Number of real pictures used for the critic's threshold."""
LIMIT = 1_000_000_000
"""Memory limit for samples, in bytes."""
PRICE = 10.0
ARMS = {
    "labels": "real pictures only",
    "unsifted": "plus all samples",
    "as_many": "plus as many unsifted samples as were kept",
    "sifted": "plus the kept samples",
}


def sift(
    model: Model,
    *,
    data: Dataset,
    held: Dataset,
    reader: Reader | None = None,
    report_progress: Progress = no_progress,
    by: Literal["both", "critic", "classifier"] = "both",
    samples: int = 100,
    quantile: float = 0.1,
    labels: str = "5,20",
    draws: int = 5,
    test: int = 1000,
    seed: int = 0,
) -> Finding:
    """Keeps the samples accepted by the critic and a classifier, and trains a classifier with and without them.

    Args:
        model: a class-conditional model of pictures.
        data: labelled pictures to train on.
        held: labelled pictures to test on; if it is `data`, a part of it is split off.
        reader: classifies pictures; default: the model's own classifier.
        report_progress: progress callback.
        by: acceptance criterion: critic (a score comparable to real pictures), classifier (a confident prediction of the requested
            class), or both.
        samples: number of samples per class.
        quantile: quantile of the scores of real pictures used as the critic's threshold.
        labels: numbers of real training pictures per class: 5,20.
        draws: number of random draws of these, for mean and standard deviation.
        test: maximum number of test pictures, at most half of the available ones.
        seed: random seed of samples, test split and draws.

    Returns:
        `made`, `kept`: numbers of samples, total and per class. `right`: accuracy of the sifting classifier on `made` and `kept`
        samples. `real_right`: the same on the test pictures. `accuracy`: of a classifier (RBF-SVM on small pictures) trained on
        `labels` (real pictures only), and additionally on `unsifted` (all samples), `as_many` (unsifted, as many per class as were
        kept) and `sifted` samples: `mean` and `sd` over draws by number of labels. `gains`: of sifted over each alternative, by
        number of labels: the mean paired `gain`, its `sd`, and whether it `beats` the alternative by more than that, or `loses`.
        `test_held_out`: whether the test pictures were unseen by both the run and the sifting classifier.

    Raises:
        LeafwingError: points, no labels in the run, no critic or classifier to sift with, or too few labelled pictures.
    """
    need_pictures(model)
    if not model.labels:
        raise LeafwingError(
            "this run lacks the ability `label`: it cannot generate samples of a given class. See `leafwing recipes` for "
            "class-conditional recipes"
        )
    numbers = asked(labels, draws, seed)
    if samples < 1:
        raise LeafwingError(f"--samples {samples}: must be at least 1")
    if not 0 <= quantile < 1:
        raise LeafwingError(f"--quantile {quantile}: must be at least 0 and less than 1, as in --quantile 0.1")
    if samples * len(model.labels) * model.spec.size > LIMIT:
        raise LeafwingError(f"--samples {samples}: more than {LIMIT / 1e9:.0f} GB of memory needed; use fewer")
    if by not in ("both", "critic", "classifier"):
        raise LeafwingError(f"--by {by}: choose from both, critic, classifier")
    if by != "classifier" and not model.can("judge"):
        raise LeafwingError("this run has no critic of single samples: use --by classifier")
    named = _namer(model, reader)
    if named is None and by != "critic":
        raise LeafwingError("no classifier for this run's pictures: use --by critic")
    need_charts()
    parts = parted(data, held, test, seed, numbers, rest=True)
    if parts.names != model.labels:
        raise LeafwingError(f"the classes of {data.source} are not those of this run: {', '.join(model.labels)}")
    asked_for = np.repeat(np.arange(len(model.labels)), samples)
    array = _made(model, asked_for, seed, report_progress)
    kept = np.ones(len(array), bool)
    threshold: float | None = None
    if by != "classifier":
        real = parts.rest[:REAL]
        own = parts.testing.attributes if parts.testing.spec.attributes == model.attributes else None
        theirs = _scores(
            model, parts.testing.array[real], told(parts.testing)[real], None if own is None else own[real], report_progress
        )
        threshold = float(np.quantile(theirs, quantile))
        kept &= _scores(model, array, asked_for, None, report_progress) >= threshold
    right = None
    if named is not None:
        right = _told(named, array, report_progress) == asked_for
        if by != "critic":
            kept &= right
    figures: dict[str, Any] = {
        "made": _counted(np.ones_like(kept), asked_for, parts.names),
        "kept": _counted(kept, asked_for, parts.names),
        "right": None if right is None else {"made": _mean(right), "kept": _mean(right[kept])},
        "real_right": None
        if named is None
        else _mean(_told(named, parts.testing.array[parts.test], report_progress) == parts.answers),
        "threshold": threshold,
    }
    figures |= _taught(parts, numbers, draws, seed, array, asked_for, kept, report_progress)
    figures |= {"chance": parts.chance, "tested": len(parts.test), "test_held_out": parts.apart, "test": parts.where}
    return Finding(
        figures,
        _words(figures, numbers, by),
        {
            "sifted": _sheet(array, asked_for, kept, parts.names, by),
            "learning": curve("Samples as training data of a classifier", "real pictures per class", figures, ARMS),
        },
        arrays={"samples": array[kept], "labels": asked_for[kept]},
    )


class _Namer:
    """Predicts the class index of pictures; -1 where it is not sure."""

    def __init__(self, names: Sequence[str], model: Model, reader: Reader | None, word: str) -> None:
        self.names, self.model, self.reader, self.word = np.asarray(names), model, reader, word

    def __call__(self, pictures: Tensor) -> np.ndarray:
        if self.reader is None:
            said = self.model.classify(pictures)
            return np.where(said.amax(1).cpu().numpy() >= SURE, said.argmax(1).cpu().numpy(), -1)
        read = self.reader.read(pictures)[self.word]
        seen = read[:, None] == self.names
        return np.where(seen.any(1) & (read != UNREAD), seen.argmax(1), -1)


def _namer(model: Model, reader: Reader | None) -> _Namer | None:
    """The classifier for a run's classes: the reader if they are all values of one property, else the model, else None."""
    for word, words in (reader.words if reader is not None else {}).items():
        if set(model.labels) <= set(words):
            return _Namer(model.labels, model, reader, word)
    return _Namer(model.labels, model, None, "") if model.can("classify") else None


def _made(model: Model, classes: np.ndarray, seed: int, report_progress: Progress) -> np.ndarray:
    """Samples of classes, uint8 (n, height, width, channels)."""
    array = np.empty((len(classes), model.spec.height, model.spec.width, model.spec.channels), np.uint8)
    done = 0
    for block in model.stream(model.latents(len(classes), seed), label=classes.tolist()):
        array[done : done + len(block)] = to_pixels(block)
        done += len(block)
        report_progress("generating samples", done, len(array))
    return array


def _scores(
    model: Model, array: np.ndarray, classes: np.ndarray, attributes: np.ndarray | None, report_progress: Progress
) -> np.ndarray:
    """The critic's scores of pictures, conditioned on class and attributes; default: the attributes of generated samples."""
    beside = attributes if attributes is not None else model.attribute_rows(None, len(array), 0, classes.tolist())
    found = []
    for start in range(0, len(array), CHUNK):
        part = slice(start, start + CHUNK)
        score = model.judge(
            to_floats(array[part]), label=classes[part].tolist(), attributes=beside[part] if model.attributes else None
        )
        found.append(score.cpu().numpy())
        report_progress("scoring with the critic", min(start + CHUNK, len(array)), len(array))
    return np.concatenate(found)


def _told(named: _Namer, array: np.ndarray, report_progress: Progress) -> np.ndarray:
    """The predicted classes of pictures."""
    found = []
    for start in range(0, len(array), CHUNK):
        found.append(named(to_floats(array[start : start + CHUNK])))
        report_progress("classifying", min(start + CHUNK, len(array)), len(array))
    return np.concatenate(found)


def _taught(
    parts: Labelled,
    numbers: Sequence[int],
    draws: int,
    seed: int,
    array: np.ndarray,
    asked_for: np.ndarray,
    kept: np.ndarray,
    report_progress: Progress,
) -> dict[str, Any]:
    """Accuracy of classifiers trained with and without samples."""
    as_many = np.zeros_like(kept)
    for index in range(len(parts.names)):
        own = np.flatnonzero(asked_for == index)
        as_many[own[: kept[own].sum()]] = True
    small = _small(array)
    tested = _small(parts.testing.array[parts.test])
    beside = {"labels": np.zeros_like(kept), "unsifted": np.ones_like(kept), "as_many": as_many, "sifted": kept}
    found: dict[str, dict[int, list[float]]] = {arm: {n: [] for n in numbers} for arm in beside}
    done, total = 0, len(beside) * len(numbers) * draws
    for draw in range(draws):
        places = parts.draw(seed, draw, numbers[-1])
        real, answers = _small(parts.teaching.array[places]), parts.told(places)
        for n in numbers:
            few = n * len(parts.names)
            for arm, rows in beside.items():
                x = np.concatenate([real[:few], small[rows]])
                said = machine(x, np.concatenate([answers[:few], asked_for[rows]]), tested)
                found[arm][n].append(float((said == parts.answers).mean()))
                done += 1
                report_progress("training classifiers", done, total)
    return {
        "accuracy": {arm: {str(n): summed(by[n]) for n in numbers} for arm, by in found.items()},
        "gains": {
            arm: {str(n): versus(found["sifted"][n], by[n]) for n in numbers} for arm, by in found.items() if arm != "sifted"
        },
        "draws": draws,
    }


def machine(taught: np.ndarray, answers: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Predictions for pictures (m, size) of an SVM with RBF kernel trained on pictures (n, size)."""
    from sklearn.svm import SVC

    return SVC(C=PRICE, gamma="scale").fit(taught, answers).predict(tested)


def _small(array: np.ndarray) -> np.ndarray:
    """Pictures downsampled to at most 16 pixels per side, as vectors."""
    found = [
        shrunk(opaque(to_floats(array[i : i + CHUNK])), SIDE).flatten(1).numpy() for i in range(0, len(array), CHUNK)
    ]  # fmt: skip
    return np.concatenate(found)


def _counted(rows: np.ndarray, asked_for: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Number of samples, total and by class."""
    counts = np.bincount(asked_for[rows], minlength=len(names))
    return {"all": int(rows.sum()), "by_class": dict(zip(names, counts.tolist(), strict=True))}


def _mean(right: np.ndarray) -> float | None:
    return float(right.mean()) if len(right) else None


def _sheet(array: np.ndarray, asked_for: np.ndarray, kept: np.ndarray, names: Sequence[str], by: str) -> Any:
    """One row per class: kept samples on the left, rejected ones on the right."""
    white = np.full_like(array[:1], 255)
    rows: list[tuple[str, Tensor | np.ndarray]] = []
    for index, name in enumerate(names[:CLASSES]):
        halves = []
        for which in (kept, ~kept):
            own = array[(asked_for == index) & which][:SHOWN]
            halves.append(np.concatenate([own, np.repeat(white, SHOWN - len(own), axis=0)]))
        own = asked_for == index
        rows.append((f"{name}: {kept[own].sum()} of {own.sum()} kept", np.concatenate([halves[0], white, halves[1]])))
    who = {
        "both": "the critic and a classifier accept",
        "critic": "the critic accepts",
        "classifier": "a classifier accepts",
    }[by]
    legend = f"Each row: a requested class. Left: the first samples that {who}. Right: the first rejected ones."
    return sheet("Sifted samples", rows, heads=["kept"] * SHOWN + [""] + ["rejected"] * SHOWN, legend=legend)


def _words(figures: Mapping[str, Any], numbers: Sequence[int], by: str) -> list[str]:
    made, kept = figures["made"]["all"], figures["kept"]["all"]
    said = [f"Of {made:,} samples {kept:,} were kept ({kept / made:.0%})."]
    if by == "critic" and figures["right"] is not None and figures["right"]["kept"] is not None:
        said.append(
            f"A classifier predicts the requested class for {figures['right']['made']:.0%} of all samples and for "
            f"{figures['right']['kept']:.0%} of the kept ones."
        )
    for n in numbers:
        mean = {arm: by_number[str(n)]["mean"] for arm, by_number in figures["accuracy"].items()}
        verdict, of_sifting = (_verdict(figures["gains"][arm][str(n)]) for arm in ("labels", "as_many"))
        said.append(
            f"Accuracy with {n:,} real pictures per class: {mean['labels']:.1%}; adding the kept samples gives {mean['sifted']:.1%}, "
            f"so this {verdict}. With as many unsifted samples it is {mean['as_many']:.1%}, so the sifting itself {of_sifting}; "
            f"adding all samples gives {mean['unsifted']:.1%}."
        )
    said.append(f"The {figures['tested']:,} test pictures are {figures['test']}.")
    said.append(
        "The generator was trained with all labels of its training set, the classifier only with those few: any gain comes from "
        "the labels that the generator was given."
        + (
            ""
            if figures["test_held_out"]
            else " If the test pictures are from the run's own data, the generator and the sifting classifier were trained on them."
        )
    )
    return said


def _verdict(gain: Mapping[str, Any]) -> str:
    """The interpretation of a gain relative to its standard deviation over draws."""
    return "helps" if gain["beats"] else "hurts" if gain["loses"] else "makes no difference beyond chance"
