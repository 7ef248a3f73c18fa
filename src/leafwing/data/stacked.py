"""The data set `stacked`: three digits in the red, green and blue channels of an image, with 1,000 known modes.

Metz et al. 2016, Unrolled Generative Adversarial Networks, arXiv:1611.02163, section 3.3.1, who stack MNIST. Here the digits are
the built-in ones or those of any source with ten classes, and every triple is equally frequent: the data is exactly uniform
over its modes.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from leafwing.data.dataset import Dataset
from leafwing.data.options import Options
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import DataSpec

NAME = "stacked"
STACKS = 50_000
"""Number of images, 50 of each triple; 154 MB at 32 px."""
CLASSES = tuple(f"{number:03}" for number in range(1_000))
"""Labels: the digits of the red, the green and the blue channel."""
_DIGITS = tuple("0123456789")
_VERSION = 1
_SEED = 20_161_107


def is_stacked(source: str) -> bool:
    """Whether this names a stacked data set: `stacked`, or `stacked:` and a source of digits."""
    return source.partition(":")[0] == NAME


def digits_of(source: str) -> str:
    """The source of the single digits of a stacked data set: `stacked` -> `digits`, `stacked:FOLDER` -> FOLDER.

    Raises:
        LeafwingError: nothing after the colon, or another stacked data set.
    """
    _, colon, digits = source.partition(":")
    if (colon and not digits) or is_stacked(digits):
        raise LeafwingError(f"{source!r}: after the colon give a source of digits, as in stacked:mnist.")
    return digits or "digits"


def stacks(digits: Dataset, options: Options, mirror: bool) -> Dataset:
    """The stacked data set of single digits.

    Args:
        digits: greyscale images with the classes 0 to 9.
        options: the validated options of the stacked data set.
        mirror: as for `load`.

    Raises:
        LeafwingError: not digits, or a number of channels other than three was requested.
    """
    if options.channels not in (None, 3):
        raise InvalidOption(
            "channels", options.channels, "a stacked image has a digit in each of three channels; omit this option"
        )
    if digits.labels is None or digits.spec.labels != _DIGITS:
        raise LeafwingError(
            f"{digits.source} is not a source of digits: its classes must be 0 to 9, as IDX files or one sub-folder each. "
            f"It has {', '.join(digits.spec.labels[:12]) or 'none'}."
        )
    array, labels = stack(digits.array, digits.labels)
    spec = DataSpec.images(digits.spec.height, digits.spec.width, 3, labels=CLASSES)
    source = NAME if digits.source == "digits" else f"{NAME}:{digits.source}"
    target = options.target((digits.spec.height, digits.spec.width), 3)
    window = [target.window] if target.window else []
    fingerprint = hashlib.sha256(json.dumps([NAME, _VERSION, digits.fingerprint, *window]).encode()).hexdigest()
    arguments = digits.options | target.as_dict() | {"mirror": mirror}
    columns = {"image": array, "label": labels}
    return Dataset(spec, columns, fingerprint, source, arguments, digits.rejects, digits.notes)


def stack(digits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stacks single digits at random, with a fixed seed; digits of a class are drawn with replacement.

    Args:
        digits: uint8 (n, height, width, 1).
        labels: int64 (n,), 0 to 9, each at least once.

    Returns:
        Images uint8 (50,000, height, width, 3), and their labels int64 (50,000,), indices in `CLASSES`.
    """
    triples = np.arange(STACKS) % len(CLASSES)
    bits = np.random.Philox(_SEED).random_raw(3 * STACKS).reshape(3, STACKS)
    images = np.empty((STACKS, *digits.shape[1:3], 3), np.uint8)
    for plane, unit in enumerate((100, 10, 1)):
        for digit in range(10):
            rows = np.flatnonzero(triples // unit % 10 == digit)
            candidates = np.flatnonzero(labels == digit)
            images[rows, :, :, plane] = digits[candidates[bits[plane, rows] % np.uint64(len(candidates))], :, :, 0]
    return images, triples
