"""A contact sheet of a source as training will see it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.augment_option import parse
from leafwing.commands.first_checks import check_source
from leafwing.commands.results import ContactSheet
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.option_names import refuse_unknown
from leafwing.pixels import eight_bits
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import check_seed
from leafwing.settings import READING_OPTIONS, all_settings, split_keywords

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from leafwing.data import Dataset

SHOWN_P = 0.5
"""The probability of changes on a sheet of `ada`, whose own depends on the training."""
CLASSES, PER_CLASS, UNLABELLED, POINTS = 20, 10, 64, 2_000
"""The most classes on a sheet, images of each class, images of a source without classes, and points."""


def show(
    source: Any,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    augment: str | None = None,
    progress: Progress = None,
    **options: Any,
) -> ContactSheet:
    """Draws a contact sheet of a source: a row for each class, 8 x 8 images without classes, a plot for points.

    With further fields, such as captions or boxes, there are fewer samples, each with all of its fields.

    Args:
        source: a folder, an archive, a built-in name, several paths to join, or images from Python; see `leafwing.data.load`. Its
            images are read into the cache, as for `train`.
        seed: random seed of the choice of images.
        out: a .png file, which must not exist; None: in the current folder, named after the source, with a number if that exists.
        augment: show some images and what critics see of them with this `augment` of `train`: the image, then seven times changed.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        **options: `settings.READING_OPTIONS` but mirror, as for `train`.

    Returns:
        The file, and the content of the source: `samples`, `size`, `fields` with their kinds in words, `classes` and `attributes` with
        their numbers of samples.

    Raises:
        LeafwingError: invalid input, or the file exists.
    """
    import numpy as np

    from leafwing import data
    from leafwing.data.memory import PREFIX

    refuse_unknown("show", options, {name: all_settings()[name].help for name in READING_OPTIONS if name != "mirror"})
    reading, _ = split_keywords(options)
    seed = check_seed(seed)
    if augment is not None and parse(augment) is None:
        raise InvalidOption("augment", augment, "there is nothing to show")
    place = check_source(source, reading)
    places = [*place.values()] if isinstance(place, dict) else [place]
    names = [str(item).removeprefix(PREFIX) for item in places]
    name = "-".join(Path(name).name.split(".")[0] for name in names)
    target = Path(out) if out else files.unused(Path(), files.file_name(name) or "source", ".png")
    if target.exists():
        raise LeafwingError(f"{target} exists: choose another --out")
    if target.suffix.lower() != ".png":
        raise InvalidOption("out", target, "must be a .png file")
    for item in places:
        if isinstance(item, Path) and item.is_dir() and target.resolve().is_relative_to(item.resolve()):
            raise InvalidOption(
                "out", target, f"lies inside {item}, of which it would become an image; name a file elsewhere"
            )
    from leafwing import pictures  # imports torch

    progress = reporter_of(progress)
    dataset = data.load(place, **reading, progress=progress.report_reading)
    image = _draw(dataset, seed) if augment is None else _draw_augmented(dataset, augment, seed, progress)
    with files.storage(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
    files.write(target, pictures.png(image))
    spec = dataset.spec
    classes = {} if dataset.labels is None else dict(zip(spec.labels, np.bincount(dataset.labels).tolist(), strict=False))
    counts = () if dataset.attributes is None else dataset.attributes.sum(0, dtype=np.int64).tolist()
    size = "points" if spec.points else f"{spec.height}x{spec.width}"
    attributes = dict(zip(spec.attributes, counts, strict=True))
    content = {
        "samples": len(dataset),
        "size": size,
        "fields": spec.describe(),
        "classes": classes,
        "attributes": attributes,
    }
    return ContactSheet(target, content)


def _draw(dataset: Dataset, seed: int) -> Image:
    """The sheet; unpaired fields, which come from other samples, are beside the others."""
    import numpy as np

    from leafwing import field_sheet, pictures

    spec = dataset.spec
    if spec.points:
        return pictures.scatter(dataset.batch(seed, 0, min(POINTS, len(dataset))).image)

    def order(data: Dataset) -> np.ndarray:
        return np.random.Generator(np.random.Philox(seed)).permutation(len(data))

    if {*dataset.columns} <= {"image", "label", "attributes"}:
        first = _grid(dataset, order(dataset))
    else:
        rows = order(dataset)[: field_sheet.MAX_SAMPLES]
        samples = {name: dataset.stored(name, rows) for name in dataset.columns}
        first = field_sheet.sheet({name: spec.fields[name] for name in samples}, samples)
    others = [
        (f"{name} (unpaired)", pictures.tile(pictures.upscale(stream.data.stored(key, order(stream.data)[:UNLABELLED])), 8))
        for stream in dataset.streams.values()
        for key, name in stream.names.items()
        if name in spec.unpaired
    ]
    return field_sheet.side_by_side([(", ".join(dataset.columns), first), *others]) if others else first


def _draw_augmented(dataset: Dataset, augment: str, seed: int, progress: Reporter) -> Image:
    """A row for each of eight images: as it is, and seven times as critics see it."""
    import torch

    from leafwing import pictures
    from leafwing.commands.plan import build_augmentation
    from leafwing.engine.setup import seeded

    augmentation = build_augmentation(augment, dataset.spec, planned=1)
    assert augmentation is not None, "`show` refuses none"
    if augmentation.option.kind == "ada":
        augmentation.p.fill_(SHOWN_P)
        progress.say(f"ada: shown with a probability of {SHOWN_P:g} for each change; in training it adapts")
    elif augmentation.changes:
        augmentation.p.fill_(augmentation.option.end)
    images = dataset.to_network(dataset.batch(seed, 0, min(8, len(dataset)))).image
    with seeded(seed):
        columns = [images, *(augmentation(images).clamp(-1, 1) for _ in range(7))]
    return pictures.grid(torch.stack(columns, 1).flatten(0, 1), 8)


def _grid(dataset: Dataset, order: np.ndarray) -> Image:
    """Images without further fields: a row for each class that has some, or 8 x 8 images without classes."""
    from leafwing import layout, pictures

    if dataset.labels is None:
        return pictures.tile(pictures.upscale(dataset.pictures(order[:UNLABELLED]), columns=8), 8)
    labels = dataset.labels[order]
    rows = (
        (pictures.class_name(name, index), order[labels == index][:PER_CLASS])
        for index, name in enumerate(dataset.spec.labels)
    )
    shown = {name: dataset.pictures(row) for name, row in islice(((name, row) for name, row in rows if len(row)), CLASSES)}
    height, width = next(iter(shown.values())).shape[1:3]
    scale = layout.enlargement(width, height, PER_CLASS, len(shown))
    images = [[pictures.to_image(image) for image in pictures.upscale(eight_bits(row), scale)] for row in shown.values()]
    return layout.arrange(images, names=[*shown])
