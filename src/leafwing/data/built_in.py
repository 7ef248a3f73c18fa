"""Built-in data sets without download: `digits`, `sprites`, `stacked` (images), `ring` and `grid` (points with known modes).

Each is generated from a fixed seed and uses the same `Dataset` as a folder of images. `stacked` stacks the digits, `sprites` loads the
sprites.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leafwing.data import pictures
from leafwing.data.dataset import Dataset
from leafwing.data.options import Options
from leafwing.data.reading import DecodeProgress
from leafwing.data.sprites import COUNT, INPUTS, load_sprites
from leafwing.data.stacked import STACKS, is_stacked
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.game import DataSpec

BUILT_IN = {
    "digits": "1,797 scanned handwritten digits, greyscale, 10 classes, 32x32 (from scikit-learn / UCI)",
    "sprites": "10,368 coloured shapes, 6 classes, 32x32 (16 to 128), with an exact attribute classifier; more with --fields, --input",
    "ring": "100,000 points: 8 Gaussians on a circle of radius 1, sigma 0.01",
    "grid": "100,000 points: 25 Gaussians at -4 to 4 in steps of 2, sigma 0.05",
    "stacked": "50,000 images of three digits in red, green and blue, 1,000 classes, 32x32; stacked:FOLDER stacks your own",
}
"""Built-in names and their descriptions."""
POINTS = 100_000
COUNTS = {"digits": 1_797, "sprites": COUNT, "ring": POINTS, "grid": POINTS, "stacked": STACKS}
"""Number of samples of each."""
_SIGMA = {"ring": 0.01, "grid": 0.05}
_VERSION = 1
_SEED = 20_141_107


def modes(name: str) -> np.ndarray:
    """The mode centres of a data set of points: float64 (8, 2) for `ring`, (25, 2) for `grid`.

    Raises:
        LeafwingError: the name is not a data set of points.
    """
    if name == "ring":
        # Eighths of a turn. Including the end point, as published code does, gives seven modes, one of them doubled.
        turns = np.arange(8) * (2 * np.pi / 8)
        return np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if name == "grid":
        steps = np.arange(-4.0, 5.0, 2.0)
        return np.array([(x, y) for x in steps for y in steps])
    raise _not_points(name)


def sigma(name: str) -> float:
    """The standard deviation of every mode, per coordinate.

    Raises:
        LeafwingError: the name is not a data set of points.
    """
    if name not in _SIGMA:
        raise _not_points(name)
    return _SIGMA[name]


def has_points(name: str | Path) -> bool:
    """Whether this names a data set of points."""
    return name in _SIGMA


def _not_points(name: str) -> LeafwingError:
    return LeafwingError(f"{name!r} is not a data set of points; those are: {', '.join(_SIGMA)}.")


def is_built_in(source: str) -> bool:
    """Whether this names a built-in data set: a key of `BUILT_IN`, or `stacked:` and a source of digits."""
    return source in BUILT_IN or is_stacked(source)


def own_inputs(name: str) -> Mapping[str, str]:
    """The inputs for translators that a built-in data set itself has, with descriptions."""
    return INPUTS if name == "sprites" else {}


def load_built_in(
    name: str,
    options: Options,
    mirror: bool,
    *,
    input: str | None = None,
    fields: str | Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: DecodeProgress | None = None,
) -> Dataset:
    """Generates a built-in data set.

    Args:
        name: `digits`, `sprites`, `ring` or `grid`; `load` handles `stacked`, because it loads the digits first.
        options: the validated options.
        mirror: as for `load`.
        input: a key of `own_inputs`, or None.
        fields: only for sprites, see `load_sprites`.
        cache: as for `load`; used for sprites.
        progress: as for `load`.

    Raises:
        LeafwingError: an unknown input, image options for points, or options that sprites do not support.
        StorageError: the cache cannot be written.
    """
    inputs = own_inputs(name)
    if input is not None and input not in inputs:
        raise InvalidOption("input", input, f"{name} has no such input" + (did_you_mean(input, inputs) if inputs else ""))
    if name == "sprites":
        return load_sprites(options, mirror, input=input, fields=fields, cache=cache, progress=progress)
    return _points(name, options, mirror) if name in _SIGMA else _digits(options, mirror)


def _points(name: str, options: Options, mirror: bool) -> Dataset:
    if options.size is not None or options.channels is not None or mirror:
        raise LeafwingError(
            f"{name} is a data set of points: --size, --channels and --mirror apply only to images; omit them"
        )
    centres = modes(name)
    random = np.random.Generator(np.random.Philox(_SEED))
    points = centres[np.arange(POINTS) % len(centres)] + _SIGMA[name] * random.standard_normal((POINTS, 2))
    arguments = {"size": None, "channels": None, "fit": options.fit, "background": options.background, "mirror": False}
    columns = {"image": points.astype(np.float32)}
    return Dataset(DataSpec.vectors(2), columns, _fingerprint(name, None), name, arguments)


def _digits(options: Options, mirror: bool) -> Dataset:
    from PIL import Image
    from sklearn.datasets import load_digits

    scans = load_digits()
    target = options.target((32, 32), 1)
    rows = []
    for scan in scans.images:
        small = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
        canvas = Image.new("L", (32, 32), 0)
        canvas.paste(small.resize((24, 24), Image.Resampling.BICUBIC), (4, 4))
        rows.append(pictures.render(canvas, target))
    names = tuple(str(name) for name in scans.target_names)
    spec = DataSpec.images(target.height, target.width, target.channels, labels=names)
    arguments = target.as_dict() | {"mirror": mirror}
    columns = {"image": np.stack(rows), "label": scans.target.astype(np.int64)}
    return Dataset(spec, columns, _fingerprint("digits", target.as_dict()), "digits", arguments)


def _fingerprint(name: str, options: dict[str, Any] | None) -> str:
    return hashlib.sha256(json.dumps(["world", _VERSION, name, options]).encode()).hexdigest()
