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
from leafwing.game import eval_mode
from leafwing.laboratory.critics import Critic, critic_of, untrained
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.labelled import (
    Accuracies,
    LabelledSplit,
    accuracy_chart,
    parse_shots,
    split_labelled,
)
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, fixed_words
from leafwing.laboratory.needs import CRITIC, IMAGES, needs
from leafwing.laboratory.options import require_counts
from leafwing.laboratory.sheet import require_charts
from leafwing.model import Model
from leafwing.pixels import images_to_tensor, pool
from leafwing.progress import ProgressCallback, no_progress

CHUNK = 64
SIDE = 4
"""Side to which maps are max-pooled; smaller ones are unchanged."""
C_VALUES = (0.1, 1.0, 10.0, 100.0)
"""Values of the SVM's C, selected by cross-validation, for features of mean squared norm 1."""
FOLDS = 3
LIMIT = 1_000_000_000
"""Memory limit for all features, in bytes."""
METHODS = {
    "critic": "the critic's feature maps",
    "random": "feature maps of a critic with random weights",
    "pixels": "raw pixels",
    "supervised": "a network of that architecture trained on these labels",
}
BATCH, RATE, CHECK_EVERY, PATIENCE = 32, 3e-4, 25, 3


@needs(IMAGES, CRITIC)
def features(
    model: Model,
    *,
    labelled: Dataset,
    held_out: Dataset,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    shots: str = "10,100",
    repeats: int = 5,
    test: int = 2000,
    steps: int = 200,
    seed: int = 0,
) -> Finding:
    """Train a linear classifier on the critic's feature maps with few labels per class, and test it on other images.

    Args:
        model: a model of images, with a convolutional critic.
        labelled: images to train on, with labels.
        held_out: those to test on; if it is `labelled`, a part of it is split off.
        conditions: the critic's conditions, by field: {"label": 3}; the rest is that of the first sample.
        report_progress: progress callback.
        shots: numbers of labelled training images per class: 10,100.
        repeats: number of random draws of these images, for mean and standard deviation.
        test: maximum number of test images; at most half if split off from the same data.
        steps: maximum number of Adam steps of the supervised network; 0 to skip it.
        seed: random seed of test split, repeats and random weights.

    Returns:
        `accuracy`: for `critic`, `random` (the same network with random weights), `pixels` and `supervised`, by number of labels, the
        `mean` over repeats and its standard deviation `sd`. `gains`: of the critic over each baseline, by number of labels: the mean
        paired `gain`, its `sd`, and whether the critic `beats` the baseline by more than that, or `loses`. `chance`: accuracy of
        always predicting the most frequent class. `size`: dimension of the critic's features. `critic_saw_labels`: whether the run
        was trained with labels. `tested`, `test`: number and origin of the test images.

    Raises:
        LeafwingError: no convolutional critic, too few labels, or too large features.
    """
    check(model, conditions=conditions, shots=shots, repeats=repeats, test=test, steps=steps, seed=seed)
    numbers = parse_shots(shots, repeats, test, seed)
    critic = critic_of(model, conditions, seed)
    split = split_labelled(labelled, held_out, test, seed, numbers)
    with eval_mode(critic.nets), torch.no_grad():
        size = pooled_maps(critic, split.images(split.pool[:1])).shape[1]
    n_train = numbers[-1] * len(split.names)
    memory = 4 * (size * (len(split.test) + 4 * n_train) + 4 * n_train * (n_train + len(split.test)))
    if memory > LIMIT:
        raise LeafwingError(
            f"features of dimension {size:,} for {len(split.test):,} test images and {n_train:,} others need {memory / 1e9:.1f} GB "
            "of memory: reduce --shots or --test"
        )
    baseline = untrained(critic, split.images(split.draw(seed, 0, numbers[0])[: 4 * CHUNK]), seed)
    extractors = {"critic": _extractor(critic), "random": _extractor(baseline), "pixels": lambda images: images.flatten(1)}
    methods = [*extractors, *(["supervised"] if steps else [])]
    accuracies = Accuracies(methods, numbers, repeats, split, report_progress)
    train_sets = [split.draw(seed, i, numbers[-1]) for i in range(repeats)]
    for method, extract in extractors.items():
        test_features = _extract(extract, split.test_data.array, split.test, report_progress)
        for indices in train_sets:
            train_features = _extract(extract, split.train_data.array, indices)
            for n in numbers:
                few = n * len(split.names)
                predictions = linear_svm(train_features[:few], split.labels(indices[:few]), test_features, seed)
                accuracies.add(method, n, predictions)
        del test_features
    for i, indices in enumerate(train_sets if steps else ()):
        for n in numbers:
            predictions = supervised(baseline, split, indices[: n * len(split.names)], steps, seed + i)
            accuracies.add("supervised", n, predictions)
    figures = accuracies.figures("critic") | {
        "chance": split.chance,
        "size": size,
        "critic_saw_labels": bool(model.labels) or model.can("classify"),
        "tested": len(split.test),
        "test": split.test_origin,
    }
    chart = accuracy_chart("Linear classifier with few labels", "labels per class", figures, METHODS)
    words = [*_words(figures, numbers), *fixed_words(model, critic.conditions, conditions, "To the critic, all images")]
    return Finding(figures, words, {"learning": chart})


def check(model: Model, *, conditions: Conditions, shots: str, repeats: int, test: int, steps: int, seed: int) -> None:
    """Raises LeafwingError for invalid options."""
    parse_shots(shots, repeats, test, seed)
    require_counts(0, steps=steps)
    require_charts()
    critic_of(model, conditions, seed)


def pooled_maps(critic: Critic, images: Tensor) -> Tensor:
    """The features of images, (n, size): all maps, max-pooled to 4x4 if larger, flattened and concatenated."""
    maps = [pool(x, *(min(SIDE, side) for side in x.shape[2:]), maximum=True) for x in critic.maps(images)]
    return torch.cat([x.flatten(1).float() for x in maps], dim=1)


def _extractor(critic: Critic) -> Callable[[Tensor], Tensor]:
    """`pooled_maps` of a critic in evaluation mode."""

    def extract(images: Tensor) -> Tensor:
        with eval_mode(critic.nets), torch.no_grad():
            return pooled_maps(critic, images).cpu()

    return extract


def _extract(
    extract: Callable[[Tensor], Tensor],
    array: np.ndarray,
    indices: np.ndarray,
    report_progress: ProgressCallback = no_progress,
) -> np.ndarray:
    """Features of images by index, float32 (n, size), computed in chunks."""
    rows: np.ndarray | None = None
    for start in range(0, len(indices), CHUNK):
        part = extract(images_to_tensor(array[indices[start : start + CHUNK]])).numpy()
        if rows is None:
            rows = np.empty((len(indices), part.shape[1]), np.float32)
        rows[start : start + len(part)] = part
        report_progress("extracting features", start + len(part), len(indices))
    assert rows is not None, "there are no images"
    return rows


def linear_svm(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Predictions of a linear L2-SVM, with C selected by cross-validation on the training data.

    The solution lies in the span of the training data, so the SVM is trained in a basis of it, which is equivalent and much faster
    for many features and few images.

    Args:
        train: training features (n, size); they are standardised here.
        labels: their classes (n,).
        test: test features (m, size); not modified.
        seed: random seed of the folds and of the solver.

    Returns:
        Classes (m,).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import LinearSVC

    mean, scale = train.mean(0), train.std(0)
    scale = np.where(scale > 1e-6, scale, 1) * len(mean) ** 0.5
    rows = (train - mean) / scale
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    nonzero = values > values[-1] * 1e-6
    combinations = vectors[:, nonzero] / np.sqrt(values[nonzero])  # rows.T @ combinations is an orthonormal basis
    coordinates = vectors[:, nonzero] * np.sqrt(values[nonzero])  # of the rows in that basis

    def fit_svm(x: np.ndarray, y: np.ndarray, c: float) -> Any:
        with warnings.catch_warnings():
            # Predictions on separable classes settle long before the weights do.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LinearSVC(C=c, random_state=seed, max_iter=300).fit(x, y)

    k_fold = StratifiedKFold(min(FOLDS, int(np.bincount(labels).min())), shuffle=True, random_state=seed)
    folds = list(k_fold.split(coordinates, labels))
    correct = {
        c: sum(int((fit_svm(coordinates[a], labels[a], c).predict(coordinates[b]) == labels[b]).sum()) for a, b in folds)
        for c in C_VALUES
    }
    svm = fit_svm(coordinates, labels, max(C_VALUES, key=correct.__getitem__))
    projection = (rows.T @ combinations.astype(np.float32)) / scale[:, None]
    return np.concatenate(
        [svm.predict((test[i : i + CHUNK] - mean) @ projection.astype(np.float32)) for i in range(0, len(test), CHUNK)]
    )


def supervised(untrained_critic: Critic, split: LabelledSplit, indices: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """Test predictions of a network of the critic's architecture, trained with Adam on these labels alone.

    The head is global average pooling, batch normalisation and a linear layer. With at least five labels per class, a fifth of them is
    the validation set for early stopping, with a patience of three checks.

    Args:
        untrained_critic: a critic with random weights; not modified.
        split: the images.
        indices: indices of the training images; see `LabelledSplit.draw`.
        steps: maximum number of steps.
        seed: random seed of the linear layer and of the order.
    """
    classes = len(split.names)
    n_validation = len(indices) // classes // 5 * classes
    validation, train = indices[:n_validation], indices[n_validation:]
    critic = copy.deepcopy(untrained_critic)
    images, labels = split.images(train), torch.from_numpy(split.labels(train)).to(critic.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.no_grad():
            inputs = critic.maps(images[:1])[-1].shape[1]
        head = nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, classes)).to(critic.device)
        best, checks_without_gain = -1.0, 0
        state: dict[str, dict[str, Tensor]] = {}
        nets = nn.ModuleDict(vars(critic.nets)).requires_grad_(True)
        adam = torch.optim.Adam([*nets.parameters(), *head.parameters()], RATE)
        for i, rows in zip(range(steps), _batches(len(train)), strict=False):
            nets.train()
            head.train()
            with torch.enable_grad():
                loss = F.cross_entropy(head(critic.maps(images[rows])[-1].mean((2, 3))), labels[rows])
                adam.zero_grad()
                loss.backward()
            adam.step()
            if n_validation and ((i + 1) % CHECK_EVERY == 0 or i + 1 == steps):
                predictions = _predict(critic, head, split.train_data.array, validation)
                accuracy = float((predictions == split.labels(validation)).mean())
                checks_without_gain += 1
                if accuracy > best:
                    best, checks_without_gain = accuracy, 0
                    state = copy.deepcopy({"nets": nets.state_dict(), "head": head.state_dict()})
                if checks_without_gain == PATIENCE:
                    break
        if n_validation:
            nets.load_state_dict(state["nets"])
            head.load_state_dict(state["head"])
    return _predict(critic, head, split.test_data.array, split.test)


def _batches(n: int) -> Iterator[Tensor]:
    """Endless shuffled mini-batches of indices."""
    while True:
        yield from torch.randperm(n).split(BATCH)


def _predict(critic: Critic, head: nn.Module, array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The classes predicted by a supervised network."""
    head.eval()
    with eval_mode(critic.nets), torch.no_grad():
        blocks = [
            head(critic.maps(images_to_tensor(array[indices[i : i + CHUNK]]))[-1].mean((2, 3))).argmax(1)
            for i in range(0, len(indices), CHUNK)
        ]
    return torch.cat(blocks).cpu().numpy()


def _words(figures: Mapping[str, Any], numbers: Sequence[int]) -> list[str]:
    words = []
    for n in numbers:
        means = {method: by_n[str(n)]["mean"] for method, by_n in figures["accuracy"].items()}
        others = ", ".join(f"{METHODS[method]} {mean:.1%}" for method, mean in means.items() if method != "critic")
        words.append(f"Accuracy with {n:,} labels per class: the critic's feature maps {means['critic']:.1%}; {others}.")
    beaten = [
        f"{name} (at {', '.join(wins)} labels)"
        for method, name in (("pixels", "raw pixels"), ("random", "random weights"))
        if (wins := [n for n, gain in figures["gains"][method].items() if gain["beats"]])
    ]
    words.append(
        "The critic's feature maps are better, by more than the standard deviation over draws, than "
        + " and ".join(beaten)
        + "."
        if beaten
        else "The critic's feature maps are not better than raw pixels or random weights beyond the standard deviation over draws."
    )
    words.append(f"The {figures['tested']:,} test images are {figures['test']}.")
    if figures["critic_saw_labels"]:
        words.append("This run was trained with labels, so this does not show what its critic learns without supervision.")
    return words
