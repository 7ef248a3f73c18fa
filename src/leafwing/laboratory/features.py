"""The critic's maps as features for a linear classifier. Radford et al. 2015, arXiv:1511.06434, section 5.1.

As in the paper, the maps of every convolution are max-pooled to 4x4, flattened and concatenated, and a linear L2-SVM is taught on top
with labels of a few pictures. Beside it the same is done with raw pixels, with a critic of the same shape and random weights, and with
a network of that shape taught on the same labels alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.critics import Critic, critic_of, untrained
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.labelled import Labelled, asked, curve, parted, summed, versus
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import need_charts
from leafwing.metrics.samples import to_floats
from leafwing.model import Model, evaluating

CHUNK = 64
SIDE = 4
"""Maps are max-pooled to so many places a side; smaller ones stay as they are."""
PRICES = (0.1, 1.0, 10.0, 100.0)
"""What the SVM may pay for mistakes (C), for features whose squares sum to 1 on average: one is chosen by cross-validation."""
FOLDS = 3
LIMIT = 1_000_000_000
"""Bytes that features may take in memory together."""
WAYS = {
    "critic": "the critic's maps",
    "random": "maps of a critic with random weights",
    "pixels": "raw pixels",
    "supervised": "a network of that shape taught these labels",
}
BATCH, RATE, CHECK, PATIENCE = 32, 3e-4, 25, 3


def features(
    model: Model,
    *,
    data: Dataset,
    held: Dataset,
    counting: Counting = quiet,
    labels: str = "10,100",
    draws: int = 5,
    test: int = 2000,
    steps: int = 200,
    seed: int = 0,
) -> Finding:
    """Teaches a linear classifier on the critic's maps, with a few labels of each class, and tests it on other pictures.

    Args:
        model: pictures, with a convolutional critic.
        data: labelled pictures from which labels are drawn.
        held: labelled pictures to test on; where it is `data`, a part of it that is split off.
        counting: told how far it is.
        labels: how many of each class are taught: 10,100.
        draws: how often labels are drawn anew, for a mean and its spread.
        test: how many pictures are tested on, at most; of the same data at most a half.
        steps: Adam steps that the supervised network is taught at most; 0 for none.
        seed: which pictures are tested on and drawn, and random weights.

    Returns:
        `accuracy`: for `critic`, `random` (the same network with random weights), `pixels` and `supervised` by number of labels the
        `mean` over draws and its standard deviation `sd`. `gains`: of the critic over each other way, by number of labels: the mean
        `gain` in the same draws, its `sd`, and whether it `beats` the other by more than that, or `loses`. `chance`: always saying
        the most frequent class. `size`: numbers in the critic's features. `critic_saw_labels`: whether the run was trained with
        labels. `tested`, `test`: how many pictures, and which.

    Raises:
        LeafwingError: points, no convolutional critic, no or too few labels, or features that are too large for the memory.
    """
    need_pictures(model)
    numbers = asked(labels, draws, seed)
    if steps < 0:
        raise LeafwingError(f"--steps {steps}: 0 or more")
    need_charts()
    critic = critic_of(model)
    parts = parted(data, held, test, seed, numbers)
    with evaluating(critic.nets), torch.no_grad():
        size = pooled(critic, parts.shown(parts.pool[:1])).shape[1]
    most = numbers[-1] * len(parts.names)
    need = 4 * (size * (len(parts.test) + 4 * most) + 4 * most * (most + len(parts.test)))
    if need > LIMIT:
        raise LeafwingError(
            f"features of {size:,} numbers for {len(parts.test):,} test pictures and {most:,} others need {need / 1e9:.1f} GB of "
            "memory: ask for fewer --labels or fewer --test pictures"
        )
    settling = parts.shown(parts.draw(seed, 0, numbers[0])[: 4 * CHUNK])
    fresh = untrained(critic, settling, seed)
    ways = {"critic": _maps(critic), "random": _maps(fresh), "pixels": lambda pictures: pictures.flatten(1)}
    found: dict[str, dict[int, list[float]]] = {
        way: {n: [] for n in numbers} for way in (*ways, *(["supervised"] if steps else []))
    }
    done, all_told = 0, len(found) * draws * len(numbers)
    drawn = [parts.draw(seed, i, numbers[-1]) for i in range(draws)]
    for way, make in ways.items():
        tested = _made(make, parts.testing.array, parts.test, counting)
        for places in drawn:
            taught = _made(make, parts.teaching.array, places)
            for n in numbers:
                few = n * len(parts.names)
                said = linear(taught[:few], parts.told(places[:few]), tested, seed)
                found[way][n].append(float((said == parts.answers).mean()))
                done += 1
                counting("teaching classifiers", done, all_told)
        del tested
    for i, places in enumerate(drawn if steps else ()):
        for n in numbers:
            said = supervised(fresh, parts, places[: n * len(parts.names)], steps, seed + i)
            found["supervised"][n].append(float((said == parts.answers).mean()))
            done += 1
            counting("teaching classifiers", done, all_told)
    figures: dict[str, Any] = {
        "accuracy": {way: {str(n): summed(by[n]) for n in numbers} for way, by in found.items()},
        "gains": {
            way: {str(n): versus(found["critic"][n], by[n]) for n in numbers} for way, by in found.items() if way != "critic"
        },
        "chance": parts.chance,
        "size": size,
        "critic_saw_labels": bool(model.labels) or model.can("classify"),
        "draws": draws,
        "tested": len(parts.test),
        "test": parts.where,
    }
    return Finding(
        figures,
        _words(figures, numbers),
        {"learning": curve("What a classifier learns from a few labels", "labels of each class", figures, WAYS)},
    )


def pooled(critic: Critic, pictures: Tensor) -> Tensor:
    """The features of pictures, (n, size): every map, max-pooled to 4x4 where it is larger, flattened, one after the other."""
    seen = [F.adaptive_max_pool2d(one, [min(SIDE, side) for side in one.shape[2:]]) for one in critic.maps(pictures)]
    return torch.cat([one.flatten(1).float() for one in seen], dim=1)


def _maps(critic: Critic) -> Callable[[Tensor], Tensor]:
    """`pooled` of a critic in evaluation mode."""

    def make(pictures: Tensor) -> Tensor:
        with evaluating(critic.nets), torch.no_grad():
            return pooled(critic, pictures).cpu()

    return make


def _made(make: Callable[[Tensor], Tensor], array: np.ndarray, places: np.ndarray, counting: Counting = quiet) -> np.ndarray:
    """Features of pictures by their places, float32 (n, size), a chunk of pictures at a time."""
    made: np.ndarray | None = None
    for start in range(0, len(places), CHUNK):
        part = make(to_floats(array[places[start : start + CHUNK]])).numpy()
        if made is None:
            made = np.empty((len(places), part.shape[1]), np.float32)
        made[start : start + len(part)] = part
        counting("looking at test pictures", start + len(part), len(places))
    assert made is not None, "there are no pictures"
    return made


def linear(taught: np.ndarray, answers: np.ndarray, tested: np.ndarray, seed: int) -> np.ndarray:
    """What a linear L2-SVM says of features, C chosen by cross-validation on those it was taught.

    A linear machine only uses the directions in which the pictures that it was taught differ. So it is taught in these, which is the
    same and far less work where features are many and pictures few.

    Args:
        taught: (n, size), changed to standard scores by their means and standard deviations.
        answers: their classes (n,).
        tested: (m, size); stays as it is.
        seed: of the folds and of the solver.

    Returns:
        Classes (m,).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import LinearSVC

    mean, scale = taught.mean(0), taught.std(0)
    scale = np.where(scale > 1e-6, scale, 1) * len(mean) ** 0.5
    rows = (taught - mean) / scale
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    kept = values > values[-1] * 1e-6
    turned = vectors[:, kept] / np.sqrt(values[kept])  # rows.T @ turned is an orthonormal basis of the rows
    ours = vectors[:, kept] * np.sqrt(values[kept])

    def taught_svm(x: np.ndarray, y: np.ndarray, price: float) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # on separable classes the last digits of a score take longest
            return LinearSVC(C=price, random_state=seed, max_iter=300).fit(x, y)

    folds = StratifiedKFold(min(FOLDS, int(np.bincount(answers).min())), shuffle=True, random_state=seed)
    cuts = list(folds.split(ours, answers))
    right = {
        price: sum(int((taught_svm(ours[a], answers[a], price).predict(ours[b]) == answers[b]).sum()) for a, b in cuts)
        for price in PRICES
    }
    best = taught_svm(ours, answers, max(PRICES, key=right.__getitem__))
    back = (rows.T @ turned.astype(np.float32)) / scale[:, None]
    return np.concatenate(
        [best.predict((tested[i : i + CHUNK] - mean) @ back.astype(np.float32)) for i in range(0, len(tested), CHUNK)]
    )


def supervised(fresh: Critic, parts: Labelled, places: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """What a network of the critic's shape says of the test pictures, taught by Adam on these labels alone.

    On the means of its last maps, batch-normalised, lies a linear layer. Of each class a fifth of the labels, where there are five, is
    kept to choose by: the weights are kept that were best there, and three checks without a better one end it.

    Args:
        fresh: a critic with random weights; stays as it is.
        parts: the pictures.
        places: of those taught; see `Labelled.draw`.
        steps: at most.
        seed: of the linear layer and of the order.
    """
    classes = len(parts.names)
    kept = len(places) // classes // 5 * classes
    choose, learn = places[:kept], places[kept:]
    pictures, answers = parts.shown(learn), torch.from_numpy(parts.told(learn)).to(fresh.device)
    own = copy.deepcopy(fresh)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.no_grad():
            inputs = own.maps(pictures[:1])[-1].shape[1]
        head = nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, classes)).to(own.device)
        best, worse = -1.0, 0
        state: dict[str, dict[str, Tensor]] = {}
        nets = nn.ModuleDict(vars(own.nets)).requires_grad_(True)
        moved = [*nets.parameters(), *head.parameters()]
        adam = torch.optim.Adam(moved, RATE)
        for i, rows in zip(range(steps), _batches(len(learn)), strict=False):
            nets.train()
            head.train()
            with torch.enable_grad():
                cost = F.cross_entropy(head(own.maps(pictures[rows])[-1].mean((2, 3))), answers[rows])
                adam.zero_grad()
                cost.backward()
            adam.step()
            if kept and ((i + 1) % CHECK == 0 or i + 1 == steps):
                said = _said(own, head, parts.teaching.array, choose)
                right, worse = float((said == parts.told(choose)).mean()), worse + 1
                if right > best:
                    best, worse = right, 0
                    state = copy.deepcopy({"nets": nets.state_dict(), "head": head.state_dict()})
                if worse == PATIENCE:
                    break
        if kept:
            nets.load_state_dict(state["nets"])
            head.load_state_dict(state["head"])
    return _said(own, head, parts.testing.array, parts.test)


def _batches(n: int) -> Iterator[Tensor]:
    """Rows of a few pictures at a time, in orders that the random state decides, without end."""
    while True:
        yield from torch.randperm(n).split(BATCH)


def _said(own: Critic, head: nn.Module, array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The classes that a supervised network sees in pictures."""
    head.eval()
    with evaluating(own.nets), torch.no_grad():
        found = [
            head(own.maps(to_floats(array[places[i : i + CHUNK]]))[-1].mean((2, 3))).argmax(1)
            for i in range(0, len(places), CHUNK)
        ]
    return torch.cat(found).cpu().numpy()


def _words(figures: Mapping[str, Any], numbers: Sequence[int]) -> list[str]:
    said = []
    for n in numbers:
        means = {way: by[str(n)]["mean"] for way, by in figures["accuracy"].items()}
        others = ", ".join(f"{WAYS[way]} {mean:.1%}" for way, mean in means.items() if way != "critic")
        said.append(
            f"With {n:,} labels a class a linear classifier on the critic's maps is right in {means['critic']:.1%}; {others}."
        )
    ahead = [
        f"{name} (at {', '.join(won)} labels)"
        for way, name in (("pixels", "raw pixels"), ("random", "random weights"))
        if (won := [n for n, gain in figures["gains"][way].items() if gain["beats"]])
    ]
    said.append(
        "By more than the spread between draws the critic's maps are better than " + " and than ".join(ahead) + "."
        if ahead
        else "The critic's maps are not better than raw pixels or random weights by more than the spread between draws."
    )
    said.append(f"The {figures['tested']:,} test pictures are {figures['test']}.")
    if figures["critic_saw_labels"]:
        said.append(
            "This run was trained with labels, which may have taught its critic: this does not show what a critic learns without."
        )
    return said
