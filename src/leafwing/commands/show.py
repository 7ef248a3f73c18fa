"""A contact sheet of a source as training will see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.progress import Reporter
from leafwing.quantities import check_seed
from leafwing.settings import split_keywords

CLASSES, PER_CLASS, UNLABELLED, POINTS = 20, 10, 64, 2_000
"""The most classes on a sheet, images of each class, images of a source without classes, and points."""


def show(
    source: str | Path,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Reporter | None = None,
    **options: Any,
) -> tuple[Path, dict[str, Any]]:
    """Draws a contact sheet of a source: a row for each class, 8 x 8 images without classes, a plot for points.

    Args:
        source: a folder, an archive or a built-in name. Its images are read into the cache, as for `train`.
        seed: random seed of the choice of images.
        out: a .png file, which must not exist; None: named after the source, in the current folder.
        progress: receives messages and progress; None: nothing is shown.
        **options: size, channels, fit, background, as for `train`.

    Returns:
        The file, and the content of the source: `samples`, `size`, `classes` and `attributes`, each name with its number of samples.

    Raises:
        LeafwingError: invalid input, or the file exists.
    """
    import numpy as np

    from leafwing import data, pictures

    reading, other = split_keywords(options)
    seed = check_seed(seed)
    target = Path(out) if out else Path(f"{files.file_name(Path(str(source)).name.split('.')[0]) or 'source'}.png")
    if target.exists():
        raise LeafwingError(f"{target} exists: choose another --out")
    if target.suffix.lower() != ".png":
        raise LeafwingError(f"--out {target}: must be a .png file")
    dataset = data.load(source, **reading, **other, progress=(progress or Reporter()).report_reading)
    if dataset.spec.points:
        image = pictures.scatter(dataset.batch(seed, 0, min(POINTS, len(dataset))).image)
    else:
        order, columns = np.random.Generator(np.random.Philox(seed)).permutation(len(dataset)), 8
        if dataset.labels is not None:
            labels, columns = dataset.labels[order], PER_CLASS
            rows = [order[labels == index][:columns] for index in range(min(CLASSES, len(dataset.spec.labels)))]
            pixels = dataset.pictures(np.concatenate([np.resize(row, columns) for row in rows]))
        else:
            pixels = dataset.pictures(order[:UNLABELLED])
        image = pictures.tile(pictures.upscale(pixels), columns)
    with files.storage(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
    files.write(target, pictures.png(image))
    spec = dataset.spec
    classes = {} if dataset.labels is None else dict(zip(spec.labels, np.bincount(dataset.labels).tolist(), strict=False))
    counts = () if dataset.attributes is None else dataset.attributes.sum(0, dtype=np.int64).tolist()
    size = "points" if spec.points else f"{spec.height}x{spec.width}"
    attributes = dict(zip(spec.attributes, counts, strict=True))
    return target, {"samples": len(dataset), "size": size, "classes": classes, "attributes": attributes}
