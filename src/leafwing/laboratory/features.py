"""The critic's feature maps as input of a linear classifier. Radford et al. 2015, arXiv:1511.06434, section 5.1.

As in the paper, the feature maps of every convolution are max-pooled to 4x4, flattened and concatenated, and a linear L2-SVM is
trained on them with few labels. Baselines: raw pixels, a critic of the same architecture with random weights, and a network of that
architecture trained on the same labels alone.
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
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.labelled import Labelled, asked, curve, parted, summed, versus
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import need_charts
from leafwing.metrics.samples import to_floats
from leafwing.model import Model, evaluating
from leafwing.progress import Progress, no_progress

CHUNK = 64
SIDE = 4
"""Side to which maps are max-pooled; smaller ones are unchanged."""
PRICES = (0.1, 1.0, 10.0, 100.0)
"""Values of the SVM's C, selected by cross-validation, for features of mean squared norm 1."""
FOLDS = 3
LIMIT = 1_000_000_000
"""Memory limit for all features, in bytes."""
WAYS = {
    "critic": "the critic's feature maps",
    "random": "feature maps of a critic with random weights",
    "pixels": "raw pixels",
    "supervised": "a network of that architecture trained on these labels",
}
BATCH, RATE, CHECK, PATIENCE = 32, 3e-4, 25, 3


def features(
    model: Model,
    *,
    data: Dataset,
    held: Dataset,
    report_progress: Progress = no_progress,
    labels: str = "10,100",
    draws: int = 5,
    test: int = 2000,
    steps: int = 200,
    seed: int = 0,
) -> Finding:
    """Trains a linear classifier on the critic's feature maps with few labels per class, and tests it on other pictures.

    Args:
        model: pictures, with a convolutional critic.
        data: labelled pictures to train on.
        held: labelled pictures to test on; if it is `data`, a part of it is split off.
        report_progress: progress callback.
        labels: numbers of labels per class: 10,100.
        draws: number of random draws of the labels, for mean and standard deviation.
        test: maximum number of test pictures; at most half if split off from the same data.
        steps: maximum number of Adam steps of the supervised network; 0 to skip it.
        seed: random seed of test split, draws and random weights.

    Returns:
        `accuracy`: for `critic`, `random` (the same network with random weights), `pixels` and `supervised`, by number of labels, the
        `mean` over draws and its standard deviation `sd`. `gains`: of the critic over each baseline, by number of labels: the mean
        paired `gain`, its `sd`, and whether the critic `beats` the baseline by more than that, or `loses`. `chance`: accuracy of
        always predicting the most frequent class. `size`: dimension of the critic's features. `critic_saw_labels`: whether the run
        was trained with labels. `tested`, `test`: number and origin of the test pictures.

    Raises:
        LeafwingError: a run that generates points, no convolutional critic, too few labels, or too large features.
    """
    need_pictures(model)
    numbers = asked(labels, draws, seed)
    if steps < 0:
        raise LeafwingError(f"--steps {steps}: must be at least 0")
    need_charts()
    critic = critic_of(model)
    parts = parted(data, held, test, seed, numbers)
    with evaluating(critic.nets), torch.no_grad():
        size = pooled(critic, parts.shown(parts.pool[:1])).shape[1]
    most = numbers[-1] * len(parts.names)
    need = 4 * (size * (len(parts.test) + 4 * most) + 4 * most * (most + len(parts.test)))
    if need > LIMIT:
        raise LeafwingError(
            f"features of dimension {size:,} for {len(parts.test):,} test pictures and {most:,} others need {need / 1e9:.1f} GB of "
            "memory: reduce --labels or --test"
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
        tested = _made(make, parts.testing.array, parts.test, report_progress)
        for places in drawn:
            taught = _made(make, parts.teaching.array, places)
            for n in numbers:
                few = n * len(parts.names)
                said = linear(taught[:few], parts.told(places[:few]), tested, seed)
                found[way][n].append(float((said == parts.answers).mean()))
                done += 1
                report_progress("training classifiers", done, all_told)
        del tested
    for i, places in enumerate(drawn if steps else ()):
        for n in numbers:
            said = supervised(fresh, parts, places[: n * len(parts.names)], steps, seed + i)
            found["supervised"][n].append(float((said == parts.answers).mean()))
            done += 1
            report_progress("training classifiers", done, all_told)
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
        {"learning": curve("Linear classifier with few labels", "labels per class", figures, WAYS)},
    )


def pooled(critic: Critic, pictures: Tensor) -> Tensor:
    """The features of pictures, (n, size): all maps, max-pooled to 4x4 if larger, flattened and concatenated."""
    seen = [F.adaptive_max_pool2d(one, [min(SIDE, side) for side in one.shape[2:]]) for one in critic.maps(pictures)]
    return torch.cat([one.flatten(1).float() for one in seen], dim=1)


def _maps(critic: Critic) -> Callable[[Tensor], Tensor]:
    """`pooled` of a critic in evaluation mode."""

    def make(pictures: Tensor) -> Tensor:
        with evaluating(critic.nets), torch.no_grad():
            return pooled(critic, pictures).cpu()

    return make


def _made(
    make: Callable[[Tensor], Tensor], array: np.ndarray, places: np.ndarray, report_progress: Progress = no_progress
) -> np.ndarray:
    """Features of pictures by index, float32 (n, size), computed in chunks."""
    made: np.ndarray | None = None
    for start in range(0, len(places), CHUNK):
        part = make(to_floats(array[places[start : start + CHUNK]])).numpy()
        if made is None:
            made = np.empty((len(places), part.shape[1]), np.float32)
        made[start : start + len(part)] = part
        report_progress("extracting features", start + len(part), len(places))
    assert made is not None, "there are no pictures"
    return made


def linear(taught: np.ndarray, answers: np.ndarray, tested: np.ndarray, seed: int) -> np.ndarray:
    """Predictions of a linear L2-SVM, with C selected by cross-validation on the training data.

    The solution lies in the span of the training data, so the SVM is trained in a basis of it, which is equivalent and much faster
    for many features and few pictures.

    Args:
        taught: training features (n, size), standardised here.
        answers: their classes (n,).
        tested: test features (m, size); not modified.
        seed: random seed of the folds and of the solver.

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
    """Test predictions of a network of the critic's architecture, trained with Adam on these labels alone.

    The head is global average pooling, batch normalisation and a linear layer. With at least five labels per class, a fifth of them is
    the validation set for early stopping, with a patience of three checks.

    Args:
        fresh: a critic with random weights; not modified.
        parts: the pictures.
        places: indices of the training pictures; see `Labelled.draw`.
        steps: maximum number of steps.
        seed: random seed of the linear layer and of the order.
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
    """Endless shuffled mini-batches of indices."""
    while True:
        yield from torch.randperm(n).split(BATCH)


def _said(own: Critic, head: nn.Module, array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The classes predicted by a supervised network."""
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
        said.append(f"Accuracy with {n:,} labels per class: the critic's feature maps {means['critic']:.1%}; {others}.")
    ahead = [
        f"{name} (at {', '.join(won)} labels)"
        for way, name in (("pixels", "raw pixels"), ("random", "random weights"))
        if (won := [n for n, gain in figures["gains"][way].items() if gain["beats"]])
    ]
    said.append(
        "The critic's feature maps are better, by more than the standard deviation over draws, than "
        + " and ".join(ahead)
        + "."
        if ahead
        else "The critic's feature maps are not better than raw pixels or random weights beyond the standard deviation over draws."
    )
    said.append(f"The {figures['tested']:,} test pictures are {figures['test']}.")
    if figures["critic_saw_labels"]:
        said.append("This run was trained with labels, so this does not show what its critic learns without supervision.")
    return said
