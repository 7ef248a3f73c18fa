"""One sample for each of several random seeds: a folder of files, or a grid."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.first_checks import check_run
from leafwing.commands.results import Written
from leafwing.commands.sample import (
    WHAT,
    check_ending,
    check_format,
    check_name,
    check_scale,
    plan_samples,
    say_changes,
    setting_texts,
    write_sheet,
)
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.progress import Progress, counted, reporter_of
from leafwing.quantities import check_seed, whole
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    from leafwing.game import Batch
    from leafwing.pictures import Pixels

SEEDS_FILE = "seeds.json"
"""Says where the samples of a folder come from."""
MOST = 1_000_000
"""The largest number of seeds."""


def sample_seeds(
    run: str | Path | Run,
    seeds: str,
    *,
    label: str | int | None = None,
    conditions: Sequence[str] | Mapping[str, Any] = (),
    output: str | None = None,
    checkpoint: int | str | None = None,
    format: str = "folder",
    scale: int | None = None,
    animation: str = "webp",
    out: str | Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
) -> Path:
    """Writes one sample for each of several random seeds, that of `sample(n=1, seed=...)`: files named by their seeds, or a grid.

    Args:
        run, label, conditions, output, checkpoint, scale, animation, device, precision, trust, root, progress: as for `sample`.
        seeds: `1-50`, `3,5,8` or both: `0-9,100`.
        format: folder, one file each; or grid, one image with the seed below each sample.
        out: output path; None: in the run's `outputs` folder. A folder may be one of an earlier call: seeds that are there already
            are left out.

    Returns:
        The output path.

    Raises:
        LeafwingError: invalid input; nothing was written.
    """
    numbers, reporter = parse_seeds(seeds), reporter_of(progress)
    if format not in ("folder", "grid"):
        raise InvalidOption("format", format, "choose from folder, grid")
    if label == "all":
        raise InvalidOption("label", label, "--seeds makes one sample for each seed; choose a class, or none")
    check_name(format, None if out is None else Path(out))
    if scale is not None:
        whole(scale, "scale", 1)
    check_run(run, root, checkpoint=checkpoint, label=label, conditions=conditions, out=out if format == "grid" else None)
    import numpy as np
    import torch

    from leafwing import films, pictures
    from leafwing.conditions import read_settings
    from leafwing.engine import choose
    from leafwing.model import Model

    opened = Run.open(run, root=root, trust=trust)
    setup = choose(device, precision, torch.get_num_threads())
    model = Model.load(
        opened, checkpoint=opened.resolve_checkpoint(checkpoint), device=setup.device, precision=setup.precision
    )
    chosen = model.find_output(output)
    field = model.kind(chosen)
    check_format("folder", field)
    ending = check_ending(field, animation, format, None if out is None else Path(out))
    check_scale(scale, field)
    _, first, _ = plan_samples(model, 1, numbers[0], output, label, conditions, None)  # raises
    if "label" in first and "label" not in read_settings(conditions, chosen, model.spec, label):
        label = model.labels[int(first.label[0])]
        reporter.say(f"all of class {label}: --label chooses another")
    enlarged = None if scale in (None, 1) else f"x{scale}"
    texts = [str(option) for option in (label, output, *setting_texts(conditions), enlarged) if option is not None]

    def draw(seed: int) -> tuple[np.ndarray, Batch]:
        """The stored sample (1, ...) and its conditions."""
        latents, inputs, _ = plan_samples(model, 1, seed, output, label, conditions, None)
        named: dict[str, Any] = {**inputs}
        return field.to_stored(torch.cat(list(model.stream(latents, output=output, seed=seed, **named)))).numpy(), inputs

    if format == "grid":
        is_film = out is not None and Path(out).suffix.lower() in films.KINDS
        columns = pictures.columns_of(field, len(numbers), is_film)
        pictures.check_size(field, len(numbers), columns, scale, is_film)
        name = files.file_name(f"{model.images:09d}-seeds-{seeds}", *texts)
        target = Path(out) if out else files.unused(opened.outputs, name, ".png")
        with files.storage(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
        samples, conditions_of = zip(*map(draw, counted(numbers, WHAT, len(numbers), reporter.report_progress)), strict=True)
        inputs = {name: torch.cat([each[name] for each in conditions_of]) for name in conditions_of[0]}
        texts = [str(seed) for seed in numbers]
        sheet = pictures.sample_grid(field, np.concatenate(samples), columns, model.spec, inputs, texts=texts)
        write_sheet(sheet, target, scale, is_film, reporter)
        return Written(target)
    target = Path(out) if out else opened.outputs / files.file_name(f"{model.images:09d}-seeds", *texts)
    if target.exists() and not target.is_dir():
        raise LeafwingError(f"{target} is not a folder: choose another --out")
    about: dict[str, Any] = {"run": str(opened.folder.resolve()), "checkpoint": model.images, "options": texts}
    # Training may have gone back and come again.
    about["weights_hash"] = files.digest(opened.require_weights(model.images))[:16]
    refuse_other_samples(target, about)
    paths = {seed: target / f"seed{seed:06d}{ending}" for seed in numbers}
    new = [seed for seed in numbers if not paths[seed].exists()]
    if len(new) < len(numbers):
        reporter.say(
            f"{target}: {len(numbers) - len(new):,} of the {len(numbers):,} samples existed already, and are kept as they are"
        )
    with files.storage(str(target)):
        target.mkdir(parents=True, exist_ok=True)
        files.write(target / SEEDS_FILE, json.dumps(about, indent=2) + "\n")

    def images() -> Iterator[tuple[Path, Pixels]]:
        for seed in counted(new, WHAT, len(new), reporter.report_progress):
            stored, _ = draw(seed)
            yield paths[seed], pictures.enlarge_stored(field, pictures.visible(field, stored), scale or 1)[0]

    pictures.write_images(images())
    say_changes(ending, field, reporter, scale or 1)
    return Written(target)


def refuse_other_samples(folder: Path, about: Mapping[str, Any]) -> None:
    """Raises LeafwingError if a folder exists whose samples are those of another run, checkpoint or choice of conditions."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        before = files.read_json(folder / SEEDS_FILE)
    except LeafwingError:
        raise LeafwingError(f"{folder} is not a folder of `leafwing sample --seeds`: choose another --out") from None
    if before != about:
        raise LeafwingError(
            f"{folder} has samples of another run, checkpoint or condition ({SEEDS_FILE}): choose another --out"
        )


def parse_seeds(text: str) -> list[int]:
    """`1-50`, `3,5,8` or `0-9,100` -> the seeds, each once.

    Raises:
        LeafwingError: something else, or more than `MOST` in all.
    """
    numbers: dict[int, None] = {}
    for part in str(text).split(","):
        first, dash, last = (end.strip() for end in part.partition("-"))
        digits = max(len(first), len(last))
        if (
            digits > 10
            or not part.isascii()
            or not first.isdecimal()
            or (dash and (not last.isdecimal() or int(last) < int(first)))
        ):
            raise InvalidOption("seeds", text, "write 1-50, or 3,5,8")
        check_seed(int(last or first), "seeds")
        if len(numbers) + (int(last) - int(first) if dash else 0) >= MOST:
            raise InvalidOption("seeds", text, "at most a million")
        numbers |= dict.fromkeys(range(int(first), int(last) + 1) if dash else [int(first)])
    return [*numbers]
