"""Choice of the images held out of training for evaluation, and of the few that are shown with labels.

Both are chosen by the hash of the content. The choice is therefore the same in every run, does not depend on names or order,
changes little when images are added, and puts identical images on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from leafwing.errors import LeafwingError

SHARE, LEAST, MOST = 0.1, 1_000, 0.25
"""A tenth of a data set is held out, but at least a thousand unless that is more than a quarter."""
FEWEST = 500
"""Below this number nothing is held out: training needs all samples, and so few are uninformative."""


def usual(n: int) -> int:
    """The default number of held-out images out of n.

    >>> [usual(n) for n in (499, 500, 1_797, 9_304, 70_000)]
    [0, 125, 449, 1000, 7000]
    """
    return 0 if n < FEWEST else min(max(round(SHARE * n), LEAST), int(MOST * n))


def asked(value: str | int, n: int, points: bool = False) -> int:
    """The number of samples to hold out of n, from `auto` or a number. For points `auto` is 0: their distribution is known.

    Raises:
        LeafwingError: neither, or not less than n.
    """
    text = str(value).strip().replace("_", "").replace(",", "")
    if text == "auto":
        return 0 if points else usual(n)
    if not text.isdecimal():
        raise LeafwingError(f"hold-out {value!r}: give auto, or the number of images to keep out of training")
    if int(text) >= n:
        raise LeafwingError(f"hold-out {int(text):,}: there are {n:,} samples, and some must be left to train on")
    return int(text)


def held(samples: np.ndarray, number: int) -> np.ndarray:
    """Which samples are held out: those with the smallest hashes, and all duplicates of the last one.

    Args:
        samples: (n, ...), hashed sample by sample.
        number: minimum number to choose, 0 to n - 1.

    Returns:
        bool (n,).
    """
    if not number:
        return np.zeros(len(samples), bool)
    hashes = _hashes(samples)
    return hashes <= np.partition(hashes, number - 1)[number - 1]


def of_each_class(samples: np.ndarray, labels: np.ndarray, names: Sequence[str], number: int, seed: int = 0) -> np.ndarray:
    """Some samples, equally many per class: those with the smallest hashes of each class.

    Args:
        samples: (n, ...), hashed sample by sample.
        labels: int64 (n,), indices in `names`.
        names: of the classes.
        number: in total.
        seed: other seeds choose other samples.

    Returns:
        int64 (number,), indices in `samples`, ascending.

    Raises:
        LeafwingError: the number is not divisible by the number of classes, or a class has too few samples.
    """
    each, over = divmod(number, len(names))
    if over or not each:
        near = sorted({max(each, 1) * len(names), (each + 1) * len(names)})
        raise LeafwingError(
            f"labelled {number}: each of the {len(names)} classes gets the same number, so give {' or '.join(map(str, near))}"
        )
    few = [(int(count), name) for count, name in zip(np.bincount(labels, minlength=len(names)), names, strict=True)]
    if min(few)[0] < each:
        count, name = min(few)
        raise LeafwingError(
            f"labelled {number}: that is {each} of each class, and class {name} has {count} samples to train on"
        )
    # Separate hashes: the held-out choice must not determine the labelled one.
    order = np.argsort(_hashes(samples, seed.to_bytes(8, "big"), b"labelled"), kind="stable")
    return np.sort(np.concatenate([order[labels[order] == index][:each] for index in range(len(names))]))


def _hashes(samples: np.ndarray, salt: bytes = b"", purpose: bytes = b"") -> np.ndarray:
    """A hash of each sample's content, uint64 (n,)."""
    made = (
        hashlib.blake2b(np.ascontiguousarray(one).tobytes(), digest_size=8, salt=salt, person=purpose) for one in samples
    )
    return np.fromiter((int.from_bytes(one.digest(), "big") for one in made), np.uint64, len(samples))
