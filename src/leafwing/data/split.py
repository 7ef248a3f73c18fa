"""Which pictures are held out of training, for numbers that training has not seen: chosen by the hash of their content.

So the choice is the same in every run, does not depend on names or order, changes little when pictures are added, and equal
pictures are on one side. Where the pictures come from is another file's business.
"""

from __future__ import annotations

import hashlib

import numpy as np

from leafwing.errors import LeafwingError

SHARE, LEAST, MOST = 0.1, 1_000, 0.25
"""Of a data set the tenth is held out, but at least a thousand where that is no more than a quarter."""
FEWEST = 500
"""Of fewer samples none is held out: training needs them all, and so few say little."""


def usual(n: int) -> int:
    """How many of n pictures are held out when nobody says how many.

    >>> [usual(n) for n in (499, 500, 1_797, 9_304, 70_000)]
    [0, 125, 449, 1000, 7000]
    """
    return 0 if n < FEWEST else min(max(round(SHARE * n), LEAST), int(MOST * n))


def asked(value: str | int, n: int, points: bool = False) -> int:
    """How many of n samples to hold out, from `auto` or a number. Of points `auto` is none: their distribution is known.

    Raises:
        LeafwingError: neither, or as many as there are.
    """
    text = str(value).strip().replace("_", "").replace(",", "")
    if text == "auto":
        return 0 if points else usual(n)
    if not text.isdecimal():
        raise LeafwingError(f"hold-out {value!r}: auto, or how many pictures to keep out of training")
    if int(text) >= n:
        raise LeafwingError(f"hold-out {int(text):,}: there are {n:,} samples, and some must be left to train on")
    return int(text)


def held(samples: np.ndarray, number: int) -> np.ndarray:
    """Which samples are held out: those with the smallest hashes; all that equal the last of them go with it.

    Args:
        samples: (n, ...), hashed sample by sample.
        number: at least so many are chosen, 0 to n - 1.

    Returns:
        bool (n,).
    """
    if not number:
        return np.zeros(len(samples), bool)
    digests = (hashlib.blake2b(np.ascontiguousarray(one).tobytes(), digest_size=8).digest() for one in samples)
    hashes = np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64, len(samples))
    return hashes <= np.partition(hashes, number - 1)[number - 1]
