"""Look at pictures before training and at runs after it: doctor, show, sample, reel, table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.progress import Silent
from leafwing.quantities import whole
from leafwing.runs import ROOT, Run, folders

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from leafwing.data.doctor import Report
    from leafwing.game import DataSpec
    from leafwing.pictures import Pixels


COLUMNS = 10
"""Values in a sweep."""


def sample(
    run: str | Path,
    n: int = 64,
    *,
    seed: int = 0,
    label: str | int | None = None,
    attributes: Sequence[str] = (),
    sweep: str | None = None,
    images: int | str | None = None,
    kind: str = "grid",
    out: str | Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    compile: bool = False,
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Silent | None = None,
) -> Path:
    """Write samples of a run: a grid picture, a folder of pictures or an .npz file.

    Samples are made in blocks, so that the memory needed hardly grows with their number: a folder holds a block at a time, a
    grid and an .npz file the bytes of all pixels.

    Args:
        run: folder, name, number or `last`.
        n: how many; with `label="all"` how many of each class.
        seed: which ones.
        label: a class by name or index, or `all`: a row per class with the same latents.
        attributes: settings such as `smiling=1` or `colour=red`, several also as one with commas between; what is not set is as real
            samples have it, see `Model.attribute_rows`.
        sweep: a named part of the latent: `code0=-2:2` sets it to ten values from -2 to 2, `category` to each class; a row each of n
            latents. See `Model.codes`.
        images: which checkpoint, or `best`; None for the newest.
        kind: grid, folder or npz (`samples` uint8 (n, height, width, channels), or float32 (n, 2) for points; `labels`;
            `attributes` uint8 (n, attributes), and their names as `attribute_names`).
        out: where to, which must not exist; None: under the run's `samples` folder.
        device: auto, cpu, cuda or mps.
        precision: fp32; bf16, faster where the hardware computes it, with nearly the same pictures; auto: bf16 there, else fp32.
        compile: pass the networks through `torch.compile`, which pays for many samples on some GPUs.
        trust: execute the folder's `recipe.py` although it is no installed recipe.
        root: where numbered run folders lie.
        progress: who is told; None for nobody.

    Returns:
        What was written.

    Raises:
        LeafwingError: bad input; nothing was written.
    """
    import torch

    from leafwing import pictures
    from leafwing.commands.launching import together
    from leafwing.engine import choose, keep_freed_memory
    from leafwing.model import Model

    if kind not in ("grid", "folder", "npz"):
        raise LeafwingError(f"no kind of output {kind!r}; choose from grid, folder, npz")
    n, seed = whole("n", n, 1), whole("seed", seed, 0)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root, trust=trust)
    shown = opened.shown(images)
    setup = choose(device, precision, torch.get_num_threads())
    how: dict[str, Any] = {"device": setup.device, "precision": setup.precision, "compile": compile}
    model = Model.load(opened, images=shown, **how, say=(progress or Silent()).say)
    if kind == "folder" and model.spec.points:
        raise LeafwingError("points are no pictures: use a grid (a plot) or npz")
    settings = settings_of(attributes)
    model.attribute_rows(settings, 1)  # raises: the model does not know one
    latents, across = model.latents(n, seed), n if label == "all" else None
    if sweep is not None:
        if label == "all":
            raise LeafwingError("--sweep has a row for each latent, --label all for each class: choose one of them")
        latents = model.sweep(latents, *swept(sweep))
        across = len(latents) // n
        classes = model.classes(label, n)
        rows = model.attribute_rows(settings, n, seed, classes).repeat(across, axis=0)
        classes = [index for index in classes for _ in range(across)]
    elif label == "all":
        classes = [index for index in range(len(model.labels)) for _ in range(n)]
        if not classes:
            model.classes(label, n)  # raises: no labels
        latents = latents.repeat(len(model.labels), 1)
        rows = model.attribute_rows(settings, len(classes), seed, classes)
    else:
        classes = model.classes(label, n)
        rows = model.attribute_rows(settings, n, seed, classes)
    keep_freed_memory()
    named = "".join(f"-{file_name(one)}" for one in (label, sweep, *attributes) if one is not None)
    ending = {"grid": ".png", "folder": "", "npz": ".npz"}[kind]
    target = Path(out) if out else opened.samples / f"{model.images:09d}-seed{seed}-n{n}{named}{ending}"
    with together("Sample again") as processes:
        with files.storage(str(target)):
            (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
        own = share_of(len(latents), processes.rank, processes.world)
        told: dict[str, Any] = {"label": classes[own] or None, "attributes": rows[own] if rows.size else None}
        blocks = model.stream(latents[own], **told) if len(latents[own]) else iter(())
        if kind == "folder":
            names = [file_name(model.labels[index]) for index in classes]
            pictures.write_pngs(one_by_one(blocks, target, names, own.start))
            processes.barrier()
            return target
        made = gathered(blocks, len(latents[own]), model.spec)
        made = processes.gather(torch.from_numpy(made)).numpy()
        if not processes.first:
            return target
        if kind == "npz":
            files.write(target, lambda path: write_npz(path, made, classes, rows, model.attributes))
        elif model.spec.points:
            files.write(target, pictures.png(pictures.scatter(torch.from_numpy(made))))
        else:
            files.write(target, pictures.png(pictures.tile(pictures.enlarged(made), across)))
    return target


def settings_of(texts: Sequence[str]) -> dict[str, str]:
    """Settings of attributes by name: `["smiling=1,colour=red"]` -> {"smiling": "1", "colour": "red"}.

    Raises:
        LeafwingError: one is not written so, or an attribute is set twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        for setting in re.split(r",(?=[^,=]+=)", text):  # a comma before no further setting belongs to the value
            name, equals, value = (part.strip() for part in setting.partition("="))
            if not (name and equals and value):
                raise LeafwingError(f"--set {setting!r}: write NAME=VALUE, as in smiling=1 or colour=red")
            if found.setdefault(name, value) != value:
                raise LeafwingError(f"--set {name} is given twice: {found[name]} and {value}")
    return found


def swept(text: str) -> tuple[str, list[float] | None]:
    """A code and its values: `category` -> all of it; `code0=-2:2` -> ten values from -2 to 2.

    Raises:
        LeafwingError: it is not written so.
    """
    code, equals, span = text.partition("=")
    if not equals:
        return code.strip(), None
    try:
        low, high = (float(end) for end in span.split(":"))
    except ValueError:
        raise LeafwingError(f"--sweep {text}: write NAME=FROM:TO, as in code0=-2:2, or the NAME of a category") from None
    return code.strip(), [low + (high - low) * i / (COLUMNS - 1) for i in range(COLUMNS)]


def share_of(n: int, rank: int, processes: int) -> slice:
    """Which of n samples one of several processes makes: whole blocks, so that no picture depends on how many processes there are."""
    from leafwing.model import BLOCK

    blocks = -(-n // BLOCK)
    return slice(*(min(n, BLOCK * (number * blocks // processes)) for number in (rank, rank + 1)))


def one_by_one(blocks: Iterator[Tensor], folder: Path, classes: list[str], first: int = 0) -> Iterator[tuple[Path, Pixels]]:
    """The file of each picture, numbered and with its class where there are any, and its pixels (height, width, channels)."""
    from leafwing import pictures

    pixels = (picture for block in blocks for picture in pictures.to_pixels(block))
    for i, picture in enumerate(pixels, first):
        yield folder / (f"{i:06d}-{classes[i]}.png" if classes else f"{i:06d}.png"), picture


def gathered(blocks: Iterator[Tensor], n: int, spec: DataSpec) -> np.ndarray:
    """All samples: uint8 (n, height, width, channels), or float32 (n, 2) for points."""
    import numpy as np

    from leafwing import pictures

    shape = (spec.channels,) if spec.points else (spec.height, spec.width, spec.channels)
    held = np.empty((n, *shape), np.float32 if spec.points else np.uint8)
    start = 0
    for block in blocks:
        held[start : start + len(block)] = block.cpu().numpy() if spec.points else pictures.to_pixels(block)
        start += len(block)
    return held


def write_npz(path: Path, samples: np.ndarray, classes: list[int], attributes: np.ndarray, names: Sequence[str]) -> None:
    """Samples and, where there are any, their class indices and attributes as a compressed .npz file, whatever its name ends with."""
    import numpy as np

    held: dict[str, Any] = {"samples": samples}
    if classes:
        held["labels"] = np.array(classes)
    if names:
        held |= {"attributes": attributes, "attribute_names": np.array(names)}
    with path.open("wb") as file:
        np.savez_compressed(file, **held)


def reel(run: str | Path, *, out: str | Path | None = None, seconds: float = 6.0, root: str | Path = ROOT) -> Path:
    """The progress of a run as an animation.

    Args:
        run: folder, name, number or `last`.
        out: a .webp, .gif or .mp4 file (.mp4 needs ffmpeg); None: `reel.webp` in the run folder.
        seconds: how long it lasts.
        root: where numbered run folders lie.

    Returns:
        The file.

    Raises:
        LeafwingError: the run has no progress pictures, or the file exists.
    """
    from leafwing import pictures

    opened = Run.open(run, root=root)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    if not 0 < seconds < 3600:
        raise LeafwingError(f"seconds {seconds}: a reel lasts more than 0 and less than 3600 seconds")
    frames = sorted(path for path in opened.samples.glob("*.png") if path.stem.isdigit())
    if not frames:
        raise LeafwingError(f"{opened.folder} has no progress pictures")
    target = Path(out) if out else opened.folder / "reel.webp"
    pictures.reel(frames, [f"{int(path.stem):,} images" for path in frames], target, seconds)
    return target


def table(root: str | Path = ROOT) -> list[dict[str, Any]]:
    """The runs under a root: name, recipe, data, size, images shown and in all, seconds, last costs, whether complete."""
    found: list[dict[str, Any]] = []
    for folder in folders(root):
        try:
            opened = Run(folder)
            last = (opened.records() or [{}])[-1]
        except LeafwingError as error:
            found.append({"run": folder.name, "error": str(error)})
            continue
        config, spec = opened.config, opened.spec
        found.append(
            {
                "run": folder.name,
                "recipe": config["recipe"],
                "data": Path(config["data"]["source"]).name,
                "size": "points" if spec.points else f"{spec.height}x{spec.width}",
                "images": last.get("images", 0),
                "of": opened.settings.schedule.images,
                "seconds": last.get("seconds", 0.0),
                "costs": last.get("costs", {}),
                "weights": list(opened.weights()),
                "seed": opened.settings.schedule.seed,
            }
        )
    return found


def doctor(source: str | Path, *, progress: Silent | None = None, **options: Any) -> Report:
    """What is in a source of pictures, what will be rejected and why, duplicates, and advice; never changes the source.

    Args:
        source: a folder, an archive or a built-in name.
        progress: who is told; None for nobody.
        **options: size, channels, fit, background, as for `train`.

    Returns:
        A report: `text()` for people, `as_dict()` for programs.
    """
    from leafwing.data.doctor import doctor as examine

    given = {name: value for name, value in options.items() if value is not None}
    return examine(source, progress=(progress or Silent()).packing, **given)


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
    target = Path(out) if out else Path(f"{file_name(Path(str(source)).name.split('.')[0]) or 'source'}.png")
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


def file_name(label: object) -> str:
    """A class name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", str(label))
