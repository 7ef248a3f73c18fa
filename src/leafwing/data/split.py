"""Choice of the images held out of training for evaluation, and of the few that keep their labels (semi-supervised training).

Images are chosen by a hash of their content. The choice is therefore the same in every run, does not depend on names or order,
changes little when images are added, and puts identical images on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from leafwing.errors import InvalidOption
from leafwing.quantities import ungrouped

SHARE, MIN_COUNT, MAX_SHARE = 0.1, 1_000, 0.25
"""A tenth of a data set is held out, but at least a thousand unless that is more than a quarter."""
MIN_SIZE = 500
"""Smaller data sets hold out nothing: training needs all samples, and so few are uninformative."""
MIN_PAIRS = 10
"""Smaller data sets of pairs hold out nothing."""


def default_count(n: int) -> int:
    """The default number of held-out images out of n.

    >>> [default_count(n) for n in (499, 500, 1_797, 9_304, 70_000)]
    [0, 125, 449, 1000, 7000]
    """
    return 0 if n < MIN_SIZE else min(max(round(SHARE * n), MIN_COUNT), int(MAX_SHARE * n))


def pairs_count(n: int) -> int:
    """The default number of held-out pairs or inputs out of n: a tenth, because they are needed to look at and to compare with. Below
    10 none.

    >>> [pairs_count(n) for n in (9, 10, 25, 400, 70_000)]
    [0, 1, 2, 40, 7000]
    """
    return round(SHARE * n) if n >= MIN_PAIRS else 0


def hold_out_count(value: str | int, n: int, points: bool = False, pairs: bool = False) -> int:
    """Parses the number of samples to hold out of n: `auto` or a number.

    Args:
        value: as given.
        n: number of samples.
        points: whether these are points; `auto` is then 0, because their distribution is known.
        pairs: whether images are generated from images; `auto` is then `pairs_count`.

    Raises:
        LeafwingError: neither of these, or not less than n.
    """
    text = ungrouped(str(value))
    if text == "auto":
        return 0 if points else pairs_count(n) if pairs else default_count(n)
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidOption("hold_out", value, "give auto, or the number of images to hold out of training")
    if int(text) >= n:
        what = "points" if points else "images"
        raise InvalidOption("hold_out", int(text), f"the data set has only {n:,} {what}; choose a smaller number or auto")
    return int(text)


def held_out(
    samples: Iterable[np.ndarray], number: int, groups: np.ndarray | None = None, inputs: np.ndarray | None = None
) -> np.ndarray:
    """Mask of held-out samples: those with the smallest hashes, and all duplicates of the last one.

    Args:
        samples: n arrays, which are hashed one by one.
        number: minimum number to hold out, 1 to n - 1.
        groups: int64 (n,), the group of each sample, which is held out as a whole: all tiles of a picture; None: none belong together.
        inputs: uint64 (n,), the hashes of the samples' inputs: those with equal ones are a group, and so are equal samples. A group of
            more than a quarter of all, such as those of an empty map, is none.

    Returns:
        bool (n,).
    """
    values = hashes(samples)
    if inputs is not None:
        groups = _connected(values, inputs)
        sizes = np.bincount(groups)[groups]
        groups = np.where(sizes > max(number, MAX_SHARE * len(values)), np.arange(len(values)), groups)
    if groups is not None:
        _, groups = np.unique(groups, return_inverse=True)
        totals = np.zeros(int(groups.max()) + 1, np.uint64)
        np.add.at(totals, groups, values)  # modulo 2**64
        values = totals[groups]
    return values <= np.partition(values, number - 1)[number - 1]


def _connected(*keys: np.ndarray) -> np.ndarray:
    """Groups of the items that have a key in common, also through others: int64 (n,), the first item of each one's group."""
    indices = [np.unique(key, return_inverse=True)[1] for key in keys]
    groups = np.arange(len(keys[0]))
    while True:
        before = groups
        for index in indices:
            first = np.full(int(index.max()) + 1, len(groups))
            np.minimum.at(first, index, groups)
            groups = first[index]
        if np.array_equal(groups, before):
            return groups


def choose_per_class(
    samples: Iterable[np.ndarray], labels: np.ndarray, names: Sequence[str], number: int, seed: int = 0
) -> np.ndarray:
    """Chooses equally many samples of each class: those with the smallest hashes.

    Args:
        samples: n arrays, which are hashed one by one.
        labels: int64 (n,), indices in `names`.
        names: class names.
        number: total number to choose.
        seed: other seeds choose other samples.

    Returns:
        int64 (number,), indices in `samples`, ascending.

    Raises:
        LeafwingError: the number is not divisible by the number of classes, or a class has too few samples.
    """
    each, remainder = divmod(number, len(names))
    if remainder or not each:
        nearest = sorted({max(each, 1) * len(names), (each + 1) * len(names)})
        raise InvalidOption(
            "labelled",
            number,
            f"must be divisible by the number of classes ({len(names)}), such as {' or '.join(map(str, nearest))}",
        )
    counts = [int(count) for count in np.bincount(labels, minlength=len(names))]
    count, name = min(zip(counts, names, strict=True))
    if count < each and len(names) == 1:
        raise InvalidOption("labelled", number, f"there are only {count} training images")
    if count < each:
        raise InvalidOption(
            "labelled", number, f"that is {each} images per class, but class {name} has only {count} training images"
        )
    # Other hashes than for holding out: the two choices must be independent.
    order = np.argsort(hashes(samples, seed.to_bytes(8, "big"), b"labelled"), kind="stable")
    return np.sort(np.concatenate([order[labels[order] == index][:each] for index in range(len(names))]))


def hashes(samples: Iterable[np.ndarray], salt: bytes = b"", purpose: bytes = b"") -> np.ndarray:
    """A hash of each sample's content, uint64 (n,)."""
    digests = (
        hashlib.blake2b(np.ascontiguousarray(sample).tobytes(), digest_size=8, salt=salt, person=purpose)
        for sample in samples
    )
    return np.fromiter((int.from_bytes(value.digest(), "big") for value in digests), np.uint64)
