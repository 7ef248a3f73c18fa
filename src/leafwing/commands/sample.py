"""Samples of a run: a grid picture, a folder of pictures or an .npz file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.progress import Silent
from leafwing.quantities import whole
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

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
    checkpoint: int | str | None = None,
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
        seed: random seed.
        label: a class by name or index, or `all`: a row per class with the same latents.
        attributes: settings such as `smiling=1` or `colour=red`, several also as one with commas between; what is not set is as real
            samples have it, see `Model.attribute_rows`.
        sweep: a named part of the latent: `code0=-2:2` sets it to ten values from -2 to 2, `category` to each class; a row each of n
            latents. See `Model.codes`.
        checkpoint: images shown, `last` (None) or `best`.
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
    shown = opened.shown(checkpoint)
    setup = choose(device, precision, torch.get_num_threads())
    how: dict[str, Any] = {"device": setup.device, "precision": setup.precision, "compile": compile}
    model = Model.load(opened, checkpoint=shown, **how, say=(progress or Silent()).say)
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
    named = "".join(f"-{files.file_name(one)}" for one in (label, sweep, *attributes) if one is not None)
    ending = {"grid": ".png", "folder": "", "npz": ".npz"}[kind]
    target = Path(out) if out else opened.samples / f"{model.images:09d}-seed{seed}-n{n}{named}{ending}"
    with together("Sample again") as processes:
        with files.storage(str(target)):
            (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
        own = share_of(len(latents), processes.rank, processes.world)
        told: dict[str, Any] = {"label": classes[own] or None, "attributes": rows[own] if rows.size else None}
        blocks = model.stream(latents[own], **told) if len(latents[own]) else iter(())
        if kind == "folder":
            names = [files.file_name(model.labels[index]) for index in classes]
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
