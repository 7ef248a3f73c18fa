"""A sheet of a source as training will see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.progress import Silent
from leafwing.quantities import whole

ROWS, IN_A_ROW, ON_A_SHEET = 20, 10, 64
"""How many classes a sheet shows, pictures of each, and pictures where there are no classes."""


def show(
    source: str | Path,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Silent | None = None,
    **options: Any,
) -> tuple[Path, dict[str, Any]]:
    """A sheet of a source as training will see it: a row a class, else 8 x 8 pictures; of points a plot.

    Args:
        source: a folder, an archive or a built-in name. Its pictures are read into the cache, as for `train`.
        seed: which pictures.
        out: a .png file, which must not exist; None: named after the source, in the current folder.
        progress: who is told; None for nobody.
        **options: size, channels, fit, background, as for `train`.

    Returns:
        The file, and what is in the source: `samples`, `size`, `classes` and `attributes`, each name with its number of samples.

    Raises:
        LeafwingError: bad input, or the file exists.
    """
    import numpy as np

    from leafwing import data, pictures

    given = {name: value for name, value in options.items() if value is not None}
    seed = whole("seed", seed, 0)
    target = Path(out) if out else Path(f"{files.file_name(Path(str(source)).name.split('.')[0]) or 'source'}.png")
    if target.exists():
        raise LeafwingError(f"{target} exists: choose another --out")
    if target.suffix.lower() != ".png":
        raise LeafwingError(f"--out {target}: a sheet is a .png file")
    found = data.load(source, **given, progress=(progress or Silent()).packing)
    if found.spec.points:
        image = pictures.scatter(found.batch(seed, 0, min(2_000, len(found))).image)
    else:
        order, across = np.random.Generator(np.random.Philox(seed)).permutation(len(found)), 8
        if found.labels is not None:
            labels, across = found.labels[order], IN_A_ROW
            rows = [order[labels == index][:across] for index in range(min(ROWS, len(found.spec.labels)))]
            pixels = found.pictures(np.concatenate([np.resize(row, across) for row in rows]))
        else:
            pixels = found.pictures(order[:ON_A_SHEET])
        image = pictures.tile(pictures.enlarged(pixels), across)
    with files.storage(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
    files.write(target, pictures.png(image))
    classes = {} if found.labels is None else dict(zip(found.spec.labels, np.bincount(found.labels).tolist(), strict=False))
    shares = () if found.attributes is None else found.attributes.sum(0, dtype=np.int64).tolist()
    size = "points" if found.spec.points else f"{found.spec.height}x{found.spec.width}"
    attributes = dict(zip(found.spec.attributes, shares, strict=True))
    return target, {"samples": len(found), "size": size, "classes": classes, "attributes": attributes}
