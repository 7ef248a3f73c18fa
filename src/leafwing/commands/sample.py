"""Samples of a run: a grid, a folder of images, or an .npz file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.progress import Reporter
from leafwing.quantities import check_seed, whole
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from leafwing.game import DataSpec
    from leafwing.pictures import Pixels


SWEEP_VALUES = 10
"""Number of values of a continuous code in a sweep."""


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
    progress: Reporter | None = None,
) -> Path:
    """Writes samples of a run: a grid, a folder of images, or an .npz file.

    Samples are generated in blocks: a folder needs memory for one block, a grid and an .npz file for all pixels.

    Args:
        run: folder, name, number or `last`.
        n: number of samples; with `label="all"`, of each class.
        seed: random seed.
        label: a class by name or index; or `all`: one row per class, all with the same latents.
        attributes: attributes such as `smiling=1` or `colour=red`; one text may contain several, separated by commas. The others
            follow the real data, see `Model.attribute_rows`.
        sweep: a named part of the latent, see `Model.codes`: `code0=-2:2` takes ten values from -2 to 2, `category` every class;
            one row per latent.
        checkpoint: images shown, `last` (None) or `best`.
        kind: grid, folder or npz (`samples` uint8 (n, height, width, channels), or float32 (n, 2) for points; `labels`;
            `attributes` uint8 (n, attributes), and their names as `attribute_names`).
        out: output path, which must not exist; None: in the run's `samples` folder.
        device: auto, cpu, cuda or mps.
        precision: fp32; bf16: nearly the same samples, faster where the hardware supports it; auto: bf16 there, else fp32.
        compile: use `torch.compile`, which is worthwhile for many samples on some GPUs.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: receives messages; None: nothing is shown.

    Returns:
        The output path.

    Raises:
        LeafwingError: invalid input; nothing was written.
    """
    import torch

    from leafwing import pictures
    from leafwing.commands.launching import join_processes
    from leafwing.engine import choose, keep_freed_memory
    from leafwing.model import Model

    if kind not in ("grid", "folder", "npz"):
        raise LeafwingError(f"kind {kind!r}: choose from grid, folder, npz")
    n, seed = whole(n, "n", 1), check_seed(seed)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root, trust=trust)
    setup = choose(device, precision, torch.get_num_threads())
    model = Model.load(
        opened,
        checkpoint=opened.resolve_checkpoint(checkpoint),
        device=setup.device,
        precision=setup.precision,
        compile=compile,
        say=(progress or Reporter()).say,
    )
    if kind == "folder" and model.spec.points:
        raise LeafwingError("points cannot be written as images: choose a grid (a plot) or npz")
    settings = parse_attributes(attributes)
    model.attribute_rows(settings, 1)  # raises: an attribute that the model does not have
    latents, columns = model.latents(n, seed), n if label == "all" else None
    if sweep is not None:
        if label == "all":
            raise LeafwingError(
                "--sweep and --label all are mutually exclusive: one has a row per latent, the other a row per class"
            )
        latents = model.sweep(latents, *parse_sweep(sweep))
        columns = len(latents) // n
        classes = model.classes(label, n)
        rows = model.attribute_rows(settings, n, seed, classes).repeat(columns, axis=0)
        classes = [index for index in classes for _ in range(columns)]
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
    suffix = "".join(f"-{files.file_name(option)}" for option in (label, sweep, *attributes) if option is not None)
    ending = {"grid": ".png", "folder": "", "npz": ".npz"}[kind]
    target = Path(out) if out else opened.samples / f"{model.images:09d}-seed{seed}-n{n}{suffix}{ending}"
    with join_processes("Sample again") as processes:
        with files.storage(str(target)):
            (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
        share = share_of(len(latents), processes.rank, processes.world_size)
        blocks: Iterator[Tensor] = iter(())
        if len(latents[share]):
            attribute_share = rows[share] if rows.size else None
            blocks = model.stream(latents[share], label=classes[share] or None, attributes=attribute_share)
        if kind == "folder":
            names = [files.file_name(model.labels[index]) for index in classes]
            pictures.write_pngs(image_files(blocks, target, names, share.start))
            processes.barrier()
            return target
        array = collect(blocks, len(latents[share]), model.spec)
        array = processes.gather(torch.from_numpy(array)).numpy()
        if not processes.first:
            return target
        if kind == "npz":
            files.write(target, lambda path: write_npz(path, array, classes, rows, model.attributes))
        elif model.spec.points:
            files.write(target, pictures.png(pictures.scatter(torch.from_numpy(array))))
        else:
            files.write(target, pictures.png(pictures.tile(pictures.upscale(array), columns)))
    return target


def parse_attributes(texts: Sequence[str]) -> dict[str, str]:
    """Values of attributes by name: `["smiling=1,colour=red"]` -> {"smiling": "1", "colour": "red"}.

    Raises:
        LeafwingError: another format, or two values of one attribute.
    """
    values: dict[str, str] = {}
    for text in texts:
        for setting in re.split(r",(?=[^,=]+=)", text):  # other commas belong to the value
            name, equals, value = (part.strip() for part in setting.partition("="))
            if not (name and equals and value):
                raise LeafwingError(f"--set {setting!r}: write NAME=VALUE, as in smiling=1 or colour=red")
            if values.setdefault(name, value) != value:
                raise LeafwingError(f"--set {name} is given twice, as {values[name]} and as {value}")
    return values


def parse_sweep(text: str) -> tuple[str, list[float] | None]:
    """A code and its values: `code0=-2:2` -> ten values from -2 to 2; `category` -> None, which means every class.

    Raises:
        LeafwingError: another format.
    """
    code, equals, span = text.partition("=")
    if not equals:
        return code.strip(), None
    try:
        low, high = (float(end) for end in span.split(":"))
    except ValueError:
        raise LeafwingError(f"--sweep {text}: write NAME=FROM:TO, as in code0=-2:2, or the NAME of a category") from None
    return code.strip(), [low + (high - low) * i / (SWEEP_VALUES - 1) for i in range(SWEEP_VALUES)]


def share_of(n: int, rank: int, processes: int) -> slice:
    """The part of n samples that one process generates: whole blocks, so that images do not depend on the number of processes."""
    from leafwing.model import BLOCK

    blocks = -(-n // BLOCK)
    return slice(*(min(n, BLOCK * (number * blocks // processes)) for number in (rank, rank + 1)))


def image_files(blocks: Iterator[Tensor], folder: Path, classes: list[str], first: int = 0) -> Iterator[tuple[Path, Pixels]]:
    """The path of each image, with its number and its class if there is one, and its pixels (height, width, channels)."""
    from leafwing import pictures

    images = (image for block in blocks for image in pictures.to_pixels(block))
    for i, image in enumerate(images, first):
        yield folder / (f"{i:06d}-{classes[i]}.png" if classes else f"{i:06d}.png"), image


def collect(blocks: Iterator[Tensor], n: int, spec: DataSpec) -> np.ndarray:
    """All samples: uint8 (n, height, width, channels), or float32 (n, 2) for points."""
    import numpy as np

    from leafwing import pictures

    shape = (spec.channels,) if spec.points else (spec.height, spec.width, spec.channels)
    samples = np.empty((n, *shape), np.float32 if spec.points else np.uint8)
    start = 0
    for block in blocks:
        samples[start : start + len(block)] = block.cpu().numpy() if spec.points else pictures.to_pixels(block)
        start += len(block)
    return samples


def write_npz(path: Path, samples: np.ndarray, classes: list[int], attributes: np.ndarray, names: Sequence[str]) -> None:
    """Writes samples, class indices and attributes, if there are any, to a compressed .npz file; the path may have any suffix."""
    import numpy as np

    arrays: dict[str, Any] = {"samples": samples}
    if classes:
        arrays["labels"] = np.array(classes)
    if names:
        arrays |= {"attributes": attributes, "attribute_names": np.array(names)}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
