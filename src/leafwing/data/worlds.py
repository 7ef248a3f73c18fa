"""Built-in data that needs no download: `digits`, `sprites`, `stacked` (pictures), `ring` and `grid` (points whose modes are known).

Every world is made in memory from a fixed seed and goes through the same `Dataset` as a folder of pictures. How digits are stacked is
the business of `stacked`, what sprites are that of the room `sprites`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from leafwing.data import pictures
from leafwing.data.dataset import Dataset
from leafwing.data.options import Wanted
from leafwing.data.stacked import is_stacked
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec

WORLDS = {
    "digits": "1,797 scanned handwritten digits in grey, 10 classes, 32x32 (scikit-learn's, from UCI)",
    "sprites": "10,368 coloured shapes, 6 classes, 32x32 (16 to 128), with an oracle that reads them back",
    "ring": "100,000 points: 8 Gaussians on a circle of radius 1, sigma 0.01",
    "grid": "100,000 points: 25 Gaussians at -4 to 4 in steps of 2, sigma 0.05",
    "stacked": "50,000 pictures of three digits in red, green and blue, 1,000 classes, 32x32; stacked:FOLDER stacks your own",
}
"""Built-in names and what they are."""
POINTS = 100_000
SPRITES = 10_368
"""Pictures of sprites: every combination of words four times."""
_SIGMA = {"ring": 0.01, "grid": 0.05}
_VERSION = 1
_SEED = 20_141_107


def modes(name: str) -> np.ndarray:
    """The centres of a world of points: float64 (8, 2) for `ring`, (25, 2) for `grid`.

    Raises:
        LeafwingError: the name is no world of points.
    """
    if name == "ring":
        # Eighths of a turn. Including the end point, as published code does, gives seven modes, one of them doubled.
        turns = np.arange(8) * (2 * np.pi / 8)
        return np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if name == "grid":
        steps = np.arange(-4.0, 5.0, 2.0)
        return np.array([(x, y) for x in steps for y in steps])
    raise LeafwingError(f"{name!r} is not a world of points; those are: {', '.join(_SIGMA)}.")


def sigma(name: str) -> float:
    """The standard deviation of every mode, in each direction.

    Raises:
        LeafwingError: the name is no world of points.
    """
    if name not in _SIGMA:
        raise LeafwingError(f"{name!r} is not a world of points; those are: {', '.join(_SIGMA)}.")
    return _SIGMA[name]


def is_world(source: str) -> bool:
    """Whether this names a built-in world: a key of `WORLDS`, or `stacked:` and a source of digits."""
    return source in WORLDS or is_stacked(source)


def load_world(name: str, wanted: Wanted, mirror: bool) -> Dataset:
    """Makes a built-in data set.

    Args:
        name: `digits`, `sprites`, `ring` or `grid`; what is stacked is loaded first, so `load` does that.
        wanted: the checked options.
        mirror: as for `load`.

    Raises:
        LeafwingError: options of pictures were given for points, or options that sprites cannot have.
    """
    if name in _SIGMA:
        return _points(name, wanted, mirror)
    return _sprites(wanted, mirror) if name == "sprites" else _digits(wanted, mirror)


def _points(name: str, wanted: Wanted, mirror: bool) -> Dataset:
    if wanted.size is not None or wanted.channels is not None or mirror:
        raise LeafwingError(f"{name} is a world of points: size, channels and mirror are for pictures; leave them out.")
    centres = modes(name)
    random = np.random.Generator(np.random.Philox(_SEED))
    points = centres[np.arange(POINTS) % len(centres)] + _SIGMA[name] * random.standard_normal((POINTS, 2))
    options = {"size": None, "channels": None, "fit": wanted.fit, "background": wanted.background, "mirror": False}
    return Dataset(
        DataSpec(height=0, width=0, channels=2), points.astype(np.float32), None, _fingerprint(name, None), name, options
    )


def _digits(wanted: Wanted, mirror: bool) -> Dataset:
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    target = wanted.target((32, 32), 1)
    rows = []
    for picture in found.images:
        small = Image.fromarray(np.rint(picture * (255 / 16)).astype(np.uint8))
        canvas = Image.new("L", (32, 32), 0)
        canvas.paste(small.resize((24, 24), Image.Resampling.BICUBIC), (4, 4))
        rows.append(pictures.render(canvas, target))
    names = tuple(str(name) for name in found.target_names)
    spec = DataSpec(target.height, target.width, target.channels, labels=names, fields=("image", "label"))
    options = target.as_dict() | {"mirror": mirror}
    array, labels = np.stack(rows), found.target.astype(np.int64)
    return Dataset(spec, array, labels, _fingerprint("digits", target.as_dict()), "digits", options)


def _sprites(wanted: Wanted, mirror: bool) -> Dataset:
    from leafwing.sprites import NAMED, SHAPES, pictures

    target = wanted.target((32, 32), 3)
    if target.height != target.width or target.channels != 3:
        raise LeafwingError("sprites are square pictures in three channels: leave channels out, and give one number as size")
    array, scenes = pictures(SPRITES, target.height, _SEED)
    fields = ("image", "label", "attributes")
    # A mirrored picture shows its sprite on the other side, so those two words would be wrong of half of the pictures.
    kept = [place for place, name in enumerate(NAMED) if not (mirror and name in ("left", "right"))]
    attributes = tuple(NAMED[place] for place in kept)
    spec = DataSpec(target.height, target.width, 3, labels=SHAPES, fields=fields, attributes=attributes)
    options = target.as_dict() | {"mirror": mirror}
    fingerprint = _fingerprint("sprites", target.as_dict())
    return Dataset(spec, array, scenes.shape, fingerprint, "sprites", options, attributes=scenes.attributes[:, kept])


def _fingerprint(name: str, options: dict[str, Any] | None) -> str:
    return hashlib.sha256(json.dumps(["world", _VERSION, name, options]).encode()).hexdigest()
