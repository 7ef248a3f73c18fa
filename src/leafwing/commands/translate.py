"""Pictures generated from pictures: a file, a folder or an archive, with names and sizes kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.first_checks import check_run
from leafwing.commands.originals import Original, Reading, find_pictures, open_pictures, read_pictures
from leafwing.commands.writing import Writer
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import check_seed, check_tile
from leafwing.runs import ROOT, TRANSLATIONS, Run

if TYPE_CHECKING:
    import numpy as np

    from leafwing.data import RejectedFile
    from leafwing.game import Output
    from leafwing.model import Model

RESOLUTIONS = ("own", "training")


@dataclass
class Translation:
    """What `translate` wrote.

    Args:
        folder: the output folder.
        written: number of pictures.
        rejected: files that are not usable pictures, with reasons.
        notes: what was done differently from what one may expect.
    """

    folder: Path
    written: int = 0
    rejected: list[RejectedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def translate(
    run: str | Path | Run,
    pictures: str | Path,
    *,
    output: str | None = None,
    back: bool = False,
    conditions: Sequence[str] | Mapping[str, Any] = (),
    seed: int = 0,
    samples: int = 1,
    resolution: str = "own",
    tile: int | str = "auto",
    derive: bool | None = None,
    checkpoint: int | str | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
) -> Translation:
    """Translates pictures with a run that generates images from images; names, sub-folders, sizes and transparency are kept.

    Fully convolutional networks translate each picture in its own size; an upscaler makes pictures larger by its factor. For
    others each picture is stretched to the size of the model's input, and what is generated to the size of the picture. Large
    pictures are computed in tiles, with the same result. The type of file is kept where it can hold the result, else it is PNG (for
    clips WebP). Only a few pictures are in memory at a time.

    Args:
        run: the run, its folder, name or number, or `last`.
        pictures: an image file, a folder (with its sub-folders) or an archive, as `train` reads them. Of masks, grey values above 127
            are 1; segmentations are grey or palette images of class indices.
        output: the field to generate; None: the first one that is generated from images.
        back: the reverse direction of a two-way run.
        conditions: further conditions by name, or as texts; see `sample`.
        seed: random seed of what is random, if anything is.
        samples: results for each picture, of the seeds from `seed` on: `name-1.png`, `name-2.png`, ...
        resolution: own: each picture in its own size, where the network allows it; training: stretched to the training size, and back.
        tile: auto: whole pictures where memory allows, else tiles; whole; or the side of tiles in pixels.
        derive: whether the input is derived from each picture, or is a half of it, if it was in training; None: only if pictures are
            not such inputs already, see `data.derive.derives`; a half of those that are twice as wide (or high) as the input.
        checkpoint: images shown, `last` (None) or `best`.
        out: output folder, which must not exist; None: in the run's `translations` folder.
        device: auto, cpu, cuda or mps.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.

    Raises:
        LeafwingError: invalid input, or not one usable picture; nothing was written.
        StorageError: the output folder or a temporary file cannot be written; pictures written before stay.
    """
    if not isinstance(samples, int) or samples < 1:
        raise InvalidOption("samples", samples, "at least 1")
    if resolution not in RESOLUTIONS:
        raise InvalidOption("resolution", resolution, f"choose from {', '.join(RESOLUTIONS)}")
    seed, tile = check_seed(seed), check_tile(tile)
    check_seed(seed + samples - 1)
    check_run(run, root, checkpoint=checkpoint, conditions=conditions, out=out)
    path = find_pictures(pictures)
    import torch

    from leafwing.conditions import edits, from_settings, pixel_conditions, read_settings, settable
    from leafwing.data.loading import describe_files
    from leafwing.data.pictures import strict
    from leafwing.engine import choose
    from leafwing.model import Model

    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root, trust=trust)
    device = choose(device, "fp32", torch.get_num_threads()).device
    progress, messages = reporter_of(progress), list[str]()
    report = progress

    def say(text: str) -> None:
        report.warn(text)
        messages.append(text)

    model = Model.load(opened, checkpoint=opened.resolve_checkpoint(checkpoint), device=device, notify=say)
    chosen = find_output(model, output, back)
    if not model.kind(chosen).has_pixels:
        raise LeafwingError(f"{chosen.field} is {model.kind(chosen)}, not a picture: use model.translate from Python")
    settings = read_settings(conditions, chosen, model.spec)
    values = from_settings(chosen, model.spec, settings)
    if edits(chosen) and not settings:
        raise LeafwingError(
            "this run edits pictures: say what changes, with --set (from Python conditions=): "
            + ", ".join(settable(chosen, model.spec))
        )
    names = pixel_conditions(chosen, model.spec)
    reading = Reading(opened, model, chosen, any_size=resolution == "own" and model.any_size(chosen), derive=derive)
    if tile != "auto" and not reading.any_size:
        raise InvalidOption("tile", tile, "pictures are stretched to the size of training, so there are no tiles")
    blank: dict[str, Any] = {name: torch.zeros(1, *model.spec.fields[name].shape) for name in names}
    model.conditions(1, seed, output=chosen.field, **blank, **values)  # raises: invalid conditions
    if samples > 1 and not is_random(model, chosen, names, values, seed):
        raise LeafwingError(
            f"--samples {samples}: this run makes one {chosen.field} of each picture: its result is not random"
        )
    texts = [f"{key}={value}" for key, value in settings.items()]
    options = [
        chosen.field if output or back else "",
        f"seed{seed}" if seed else "",
        f"samples{samples}" if samples > 1 else "",
    ]
    options += [
        "stretched" if resolution == "training" else "",
        "" if derive is None else f"{'' if derive else 'not-'}derived",
        *texts,
    ]
    name = files.file_name(f"{model.images:09d}", path.resolve().name, *filter(None, options))
    target = Path(out) if out is not None else opened.folder / TRANSLATIONS / name
    if target.exists():
        raise LeafwingError(f"{target} exists: choose another --out")
    with strict(), open_pictures(path) as source:
        writer = Writer(target, model.kind(chosen), [entry.name for entry in source.entries], samples)
        result = Translation(target, rejected=[*source.rejects], notes=[] if source.raw else [*source.notes])
        if source.side_files:
            result.notes.append(f"Not used, because they are not images: {describe_files(sorted(source.side_files))}.")
        result.notes += reading.notes
        try:
            for originals in read_pictures(source, reading, result.rejected, progress):
                for _, alike in groupby(originals, lambda original: [column.shape for column in original.columns.values()]):
                    group = [*alike]
                    for number in range(samples):
                        images = translate_pictures(
                            model,
                            group,
                            chosen,
                            seed + number,
                            result.written,
                            values,
                            tile if reading.any_size else None,
                            progress,
                        )
                        writer.write_all([original.origin for original in group], images, number)
                    result.written += len(group)
            result.notes += reading.conversions()
        except BaseException:
            writer.remove_empty_folders()
            raise
    if not result.written:
        raise LeafwingError(f"{path} has no usable pictures{'' if not result.rejected else ': ' + reasons(result.rejected)}")
    if writer.replaced and not source.raw:
        result.notes.append(f"Written as {writer.suffix}, not as their own type of file: {len(writer.replaced)}.")
    if writer.opaque:
        result.notes.append(f"Written without their transparency, which 16-bit files cannot hold: {writer.opaque}.")
    progress.say(f"pictures translated: {result.written}")
    for note in result.notes:
        progress.say(note)
    result.notes += messages
    if result.rejected:
        progress.warn(
            f"not translated: {len(result.rejected)} of {len(result.rejected) + result.written}: {reasons(result.rejected)}"
        )
    return result


def find_output(model: Model, name: str | None, back: bool) -> Output:
    """The output that pictures are translated to.

    Args:
        model: the model.
        name: its field; None: the first one that is generated from images.
        back: the reverse direction of a two-way run.

    Raises:
        LeafwingError: there is none.
    """
    from leafwing.conditions import pixel_conditions

    chosen, _ = model.translation(name)
    if not back:
        return chosen
    if name is not None:
        raise LeafwingError(f"--back and --output {name}: choose one of them")
    sources = pixel_conditions(chosen, model.spec)
    for other in model.game.abilities.outputs:
        if other.field in sources and chosen.field in other.conditions:
            return other
    raise LeafwingError(f"--back: this run makes {chosen.field} from {' and '.join(sources)}, but not the reverse")


def is_random(model: Model, output: Output, names: Sequence[str], values: Mapping[str, Any], seed: int) -> bool:
    """Whether the result for a picture depends on the seed."""
    import torch

    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.rand(1, *model.spec.fields[name].shape, generator=generator) for name in names}
    first, second = (
        model.translate(inputs[names[0]], output=output.field, seed=number, **{**values, **inputs})
        for number in (seed, seed + 1)
    )
    return not torch.equal(first, second)


def reasons(rejected: Sequence[RejectedFile], limit: int = 20) -> str:
    """The names of rejected files with the reasons, as text."""
    shown = "; ".join(f"{reject.name}: {reject.reason}" for reject in rejected[:limit])
    return shown + (f"; and {len(rejected) - limit} more" if len(rejected) > limit else "")


def translate_pictures(
    model: Model,
    originals: Sequence[Original],
    output: Output,
    seed: int,
    first: int,
    values: Mapping[str, Any],
    tile: int | str | None,
    progress: Reporter,
) -> Sequence[np.ndarray]:
    """The stored samples generated from some pictures of one size.

    Args:
        model, output, seed: as for `Model.translate`.
        originals: the pictures.
        first: the number of the first one.
        values: further conditions.
        tile: as for `Model.translate`; None if pictures have the size of training.
        progress: receives the progress of a picture in tiles.
    """
    import numpy as np
    import torch

    from leafwing.conditions import pixel_conditions
    from leafwing.engine.sizes import assemble

    fields, names, n = model.spec.fields, pixel_conditions(output, model.spec), len(originals)
    inputs = {name: torch.from_numpy(np.stack([original.columns[name] for original in originals])) for name in names}
    options: dict[str, Any] = {"output": output.field, "seed": seed, "first": first}
    if tile is None:
        networks = {name: fields[name].to_network(stored) for name, stored in inputs.items()}
        samples = model.translate(networks[names[0]], **options, **{**values, **networks})
        return [*model.kind(output).to_stored(samples).numpy()]

    def report(done: int, total: int) -> None:
        progress.report_progress(f"{originals[0].origin.name}, percent", 100 * done // total, 100)

    pieces = model.translate_pieces(inputs, **options, tile=tile, stored=True, report=report, **values)
    images = assemble(pieces, n, model.kind(output).to_stored, 1).numpy()
    width, height = originals[0].origin.size
    return [*images[:, :height, :width]]
