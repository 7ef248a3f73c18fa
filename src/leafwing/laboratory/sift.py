"""Sifting: keep the samples that a judge accepts; do they help a classifier? Man et al. 2018, SiftingGAN, arXiv:1809.04985.

A generator that is told classes makes labelled pictures for nothing, and some of them are bad or show another class. In the paper
those are kept of which the critic and a classifier are sure, and a classifier learns from them beside real pictures. Whether that
helps is measured here, whatever comes out. The comparison flatters the samples: the generator learnt from the labels of all pictures
it was trained on, of which the classifier beside it is given a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.labelled import Labelled, asked, curve, parted, summed, told, versus
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.reading import SURE, UNREAD, Reader
from leafwing.laboratory.sheet import need_charts, sheet
from leafwing.metrics.features import SIDE, shrunk
from leafwing.metrics.own import opaque
from leafwing.metrics.samples import to_floats
from leafwing.model import Model
from leafwing.pictures import to_pixels

CHUNK = 64
SHOWN, CLASSES = 6, 20
"""Pictures of each kind in a row of the sheet, and rows."""
REAL = 1000
"""Real pictures whose scores the critic's threshold is taken from."""
LIMIT = 1_000_000_000
"""Bytes that samples may take in memory."""
PRICE = 10.0
ARMS = {
    "labels": "real pictures alone",
    "unsifted": "and all samples",
    "as_many": "and as many samples as were kept, unsifted",
    "sifted": "and the kept samples",
}


def sift(
    model: Model,
    *,
    data: Dataset,
    held: Dataset,
    reader: Reader | None = None,
    counting: Counting = quiet,
    by: Literal["both", "critic", "classifier"] = "both",
    samples: int = 100,
    quantile: float = 0.1,
    labels: str = "5,20",
    draws: int = 5,
    test: int = 1000,
    seed: int = 0,
) -> Finding:
    """Keeps the samples that the critic and a classifier accept, and teaches a classifier with and without them.

    Args:
        model: pictures of a run that is told labels.
        data: labelled pictures from which labels are drawn.
        held: labelled pictures to test on; where it is `data`, a part of it that is split off.
        reader: reads the class of a picture; where there is none, the model's own classifier.
        counting: told how far it is.
        by: who accepts a sample: the critic, which must score it as high as real pictures; a classifier, which must be sure to see the
            class that was asked for; or both.
        samples: how many of each class are made.
        quantile: the share of real pictures that score lower than what the critic accepts.
        labels: how many real pictures of each class the taught classifier has: 5,20.
        draws: how often they are drawn anew, for a mean and its spread.
        test: how many pictures are tested on, at most, and at most a half of those there are.
        seed: of the samples, and which pictures are tested on and drawn.

    Returns:
        `made`, `kept`: samples, all and by class. `right`: how often the classifier that sifts sees the asked class, of `made` and of
        `kept` samples. `real_right`: the same of the test pictures. `accuracy`: of a classifier (RBF-SVM on small pictures) taught
        `labels` (real pictures alone), and beside them `unsifted` (all samples), `as_many` (the first ones, as many of each class as
        were kept) and `sifted`: by number of labels `mean` and `sd` over draws. `gains`: of sifted over each other way, by number of
        labels: the mean `gain` in the same draws, its `sd`, and whether it `beats` the other by more than that, or `loses`.
        `test_held_out`: whether neither the run nor the classifier that sifts was trained on the test pictures.

    Raises:
        LeafwingError: points, a run without labels, without the critic or classifier that is to sift, or labels that are too few.
    """
    need_pictures(model)
    if not model.labels:
        raise LeafwingError(
            "this run lacks the ability `label`: it makes no samples of a class that is asked for, so nobody can say which are right. "
            "`leafwing recipes` says which recipes are told labels"
        )
    numbers = asked(labels, draws, seed)
    if samples < 1:
        raise LeafwingError(f"--samples {samples}: one of each class is needed at least")
    if not 0 <= quantile < 1:
        raise LeafwingError(f"--quantile {quantile}: from 0 to less than 1, as in --quantile 0.1")
    if samples * len(model.labels) * model.spec.size > LIMIT:
        raise LeafwingError(f"--samples {samples}: these need more than {LIMIT / 1e9:.0f} GB of memory; ask for fewer")
    if by not in ("both", "critic", "classifier"):
        raise LeafwingError(f"--by {by}: choose from both, critic, classifier")
    if by != "classifier" and not model.can("judge"):
        raise LeafwingError("this run has no critic of single samples: --by classifier sifts without it")
    named = _namer(model, reader)
    if named is None and by != "critic":
        raise LeafwingError("nobody reads the classes of this run's pictures: --by critic sifts without a classifier")
    need_charts()
    parts = parted(data, held, test, seed, numbers, rest=True)
    if parts.names != model.labels:
        raise LeafwingError(f"the classes of {data.source} are not those of this run: {', '.join(model.labels)}")
    asked_for = np.repeat(np.arange(len(model.labels)), samples)
    array = _made(model, asked_for, seed, counting)
    kept = np.ones(len(array), bool)
    threshold: float | None = None
    if by != "classifier":
        real = parts.rest[:REAL]
        own = parts.testing.attributes if parts.testing.spec.attributes == model.attributes else None
        theirs = _scores(
            model, parts.testing.array[real], told(parts.testing)[real], None if own is None else own[real], counting
        )
        threshold = float(np.quantile(theirs, quantile))
        kept &= _scores(model, array, asked_for, None, counting) >= threshold
    right = None
    if named is not None:
        right = _told(named, array, counting) == asked_for
        if by != "critic":
            kept &= right
    figures: dict[str, Any] = {
        "made": _counted(np.ones_like(kept), asked_for, parts.names),
        "kept": _counted(kept, asked_for, parts.names),
        "right": None if right is None else {"made": _mean(right), "kept": _mean(right[kept])},
        "real_right": None
        if named is None
        else _mean(_told(named, parts.testing.array[parts.test], counting) == parts.answers),
        "threshold": threshold,
    }
    figures |= _taught(parts, numbers, draws, seed, array, asked_for, kept, counting)
    figures |= {"chance": parts.chance, "tested": len(parts.test), "test_held_out": parts.apart, "test": parts.where}
    return Finding(
        figures,
        _words(figures, numbers, by),
        {
            "sifted": _sheet(array, asked_for, kept, parts.names, by),
            "learning": curve("Do samples help a classifier?", "real pictures of each class", figures, ARMS),
        },
        arrays={"samples": array[kept], "labels": asked_for[kept]},
    )


class _Namer:
    """Says which class of a run pictures show, as a number; -1 where it is not sure."""

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
    """Who reads the classes of a run: the reader, if it knows all of them as words of one property; else the model; else nobody."""
    for word, words in (reader.words if reader is not None else {}).items():
        if set(model.labels) <= set(words):
            return _Namer(model.labels, model, reader, word)
    return _Namer(model.labels, model, None, "") if model.can("classify") else None


def _made(model: Model, classes: np.ndarray, seed: int, counting: Counting) -> np.ndarray:
    """Samples of classes, uint8 (n, height, width, channels)."""
    array = np.empty((len(classes), model.spec.height, model.spec.width, model.spec.channels), np.uint8)
    done = 0
    for block in model.stream(model.latents(len(classes), seed), label=classes.tolist()):
        array[done : done + len(block)] = to_pixels(block)
        done += len(block)
        counting("making samples", done, len(array))
    return array


def _scores(
    model: Model, array: np.ndarray, classes: np.ndarray, attributes: np.ndarray | None, counting: Counting
) -> np.ndarray:
    """The critic's scores of pictures, each told its class, and its attributes; those that samples are made with if not given."""
    beside = attributes if attributes is not None else model.attribute_rows(None, len(array), 0, classes.tolist())
    found = []
    for start in range(0, len(array), CHUNK):
        part = slice(start, start + CHUNK)
        score = model.judge(
            to_floats(array[part]), label=classes[part].tolist(), attributes=beside[part] if model.attributes else None
        )
        found.append(score.cpu().numpy())
        counting("asking the critic", min(start + CHUNK, len(array)), len(array))
    return np.concatenate(found)


def _told(named: _Namer, array: np.ndarray, counting: Counting) -> np.ndarray:
    """The classes that are read in pictures."""
    found = []
    for start in range(0, len(array), CHUNK):
        found.append(named(to_floats(array[start : start + CHUNK])))
        counting("asking the classifier", min(start + CHUNK, len(array)), len(array))
    return np.concatenate(found)


def _taught(
    parts: Labelled,
    numbers: Sequence[int],
    draws: int,
    seed: int,
    array: np.ndarray,
    asked_for: np.ndarray,
    kept: np.ndarray,
    counting: Counting,
) -> dict[str, Any]:
    """How often classifiers are right that were taught with and without samples."""
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
                counting("teaching classifiers", done, total)
    return {
        "accuracy": {arm: {str(n): summed(by[n]) for n in numbers} for arm, by in found.items()},
        "gains": {
            arm: {str(n): versus(found["sifted"][n], by[n]) for n in numbers} for arm, by in found.items() if arm != "sifted"
        },
        "draws": draws,
    }


def machine(taught: np.ndarray, answers: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """What a support vector machine with Gaussian kernels says of pictures (m, size) after it was taught others (n, size)."""
    from sklearn.svm import SVC

    return SVC(C=PRICE, gamma="scale").fit(taught, answers).predict(tested)


def _small(array: np.ndarray) -> np.ndarray:
    """Pictures averaged down to at most 16 pixels a side, as vectors."""
    found = [
        shrunk(opaque(to_floats(array[i : i + CHUNK])), SIDE).flatten(1).numpy() for i in range(0, len(array), CHUNK)
    ]  # fmt: skip
    return np.concatenate(found)


def _counted(rows: np.ndarray, asked_for: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """How many samples, all and by class."""
    counts = np.bincount(asked_for[rows], minlength=len(names))
    return {"all": int(rows.sum()), "by_class": dict(zip(names, counts.tolist(), strict=True))}


def _mean(right: np.ndarray) -> float | None:
    return float(right.mean()) if len(right) else None


def _sheet(array: np.ndarray, asked_for: np.ndarray, kept: np.ndarray, names: Sequence[str], by: str) -> Any:
    """A row a class: kept samples on the left, rejected ones on the right."""
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
    legend = f"A row is the class that was asked for. Left: samples that {who}. Right: those that were rejected. The first of each."
    return sheet("Sifted samples", rows, heads=["kept"] * SHOWN + [""] + ["rejected"] * SHOWN, legend=legend)


def _words(figures: Mapping[str, Any], numbers: Sequence[int], by: str) -> list[str]:
    made, kept = figures["made"]["all"], figures["kept"]["all"]
    said = [f"Of {made:,} samples {kept:,} were kept ({kept / made:.0%})."]
    if by == "critic" and figures["right"] is not None and figures["right"]["kept"] is not None:
        said.append(
            f"A classifier sees the asked class in {figures['right']['made']:.0%} of all samples and in "
            f"{figures['right']['kept']:.0%} of the kept ones."
        )
    for n in numbers:
        mean = {arm: by_number[str(n)]["mean"] for arm, by_number in figures["accuracy"].items()}
        verdict, of_sifting = (_verdict(figures["gains"][arm][str(n)]) for arm in ("labels", "as_many"))
        said.append(
            f"With {n:,} real pictures a class a classifier is right in {mean['labels']:.1%}; with the kept samples beside them in "
            f"{mean['sifted']:.1%}, which {verdict}. With as many samples that nobody sifted it is {mean['as_many']:.1%}, so the "
            f"sifting itself {of_sifting}; with all samples {mean['unsifted']:.1%}."
        )
    said.append(f"The {figures['tested']:,} test pictures are {figures['test']}.")
    said.append(
        "The generator learnt from the labels of everything it was trained on, the classifier beside it from those few: what it gains "
        "is knowledge that the generator was given, not made."
        + (
            ""
            if figures["test_held_out"]
            else " Where the test pictures are of the run's own data, the generator and who sifts saw them too."
        )
    )
    return said


def _verdict(gain: Mapping[str, Any]) -> str:
    """What a gain means, beside its spread between draws."""
    return "helps" if gain["beats"] else "harms" if gain["loses"] else "makes no difference beyond chance"
