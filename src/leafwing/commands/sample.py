"""Samples of a run: a grid, a folder of images, or an .npz file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.first_checks import check_run
from leafwing.commands.results import Written
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.fields import Attributes, Caption, Clip, Field, Label, Vector, describe_kind
from leafwing.machine import available_memory
from leafwing.progress import Progress, Reporter, counted, reporter_of
from leafwing.quantities import check_seed, real, show_bytes, whole
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from leafwing.game import Batch, DataSpec, Output
    from leafwing.model import Model
    from leafwing.pictures import Pixels, Sheet


SWEEP_VALUES = 10
"""Number of values of a continuous code in a sweep."""
WHAT = "generating samples"
"""What the progress says."""
SAMPLES = 64
"""Number of samples without a row for each class."""


def sample(
    run: str | Path | Run,
    n: int | None = None,
    *,
    seed: int = 0,
    label: str | int | None = None,
    conditions: Sequence[str] | Mapping[str, Any] = (),
    output: str | None = None,
    sweep: str | None = None,
    checkpoint: int | str | None = None,
    format: str = "grid",
    scale: int | None = None,
    animation: str = "webp",
    out: str | Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    compile: bool = False,
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
) -> Path:
    """Writes samples of a run: a grid, a folder of images, or an .npz file.

    Samples are generated in blocks: a folder needs memory for one block, a grid and an .npz file for all samples.

    Args:
        run: the run, its folder, name or number, or `last`.
        n: number of samples; with `label="all"`, of each class. None: 64; 10 of each class.
        seed: random seed.
        label: a class by name or index; or `all`: one row per class, all with the same latents. None: in a grid without `n`, one row
            for each of the first 20 classes; otherwise the classes come in turn.
        conditions: by name, attributes by their own names: `{"smiling": 1, "caption": "a red star"}`, or texts such as `smiling=1`,
            see `conditions.parse_settings`. What is not specified follows the real data, see `conditions.resolve`.
        output: the field to generate; None: the main output.
        sweep: a named part of the latent, see `Model.codes`: `code0=-2:2` takes ten values from -2 to 2, `category` every class;
            one row per latent.
        checkpoint: images shown, `last` (None) or `best`.
        format: grid, folder or npz. A grid names the classes of rows, and the other conditions in which samples differ below them.
            It shows clips as strips of frames, or animated if `out` ends with .webp, .gif or .mp4; a folder has an animation of each.
            npz:
            `samples`, uint8 (n, height, width, channels), for clips (n, frames, height, width, channels), or float32 (n, size) for
            points; the conditions by name, classes as `labels`; and the names of the `attributes` as `attribute_names`.
        scale: whole factor by which samples are enlarged, see `pictures.is_smooth`; None: small ones on a grid so that they are easily
            seen, see `layout.enlargement`; in a folder and an .npz file 1.
        animation: file type of clips in a folder: webp, which is lossless, gif or mp4, which needs PyAV (`leafwing[film]`).
        out: output path, which must not exist; None: in the run's `outputs` folder, numbered if there is one with these options.
        device: auto, cpu, cuda or mps.
        precision: fp32; bf16: nearly the same samples, faster on some devices; auto: bf16 there, else fp32.
        compile: use `torch.compile`, which is worthwhile for many samples on some GPUs.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: True or None: messages are shown; False: not; or a `leafwing.Reporter`, which receives them.

    Returns:
        The output path, which notebooks show if it is a picture or a film.

    Raises:
        LeafwingError: invalid input; nothing was written.
    """
    if format not in ("grid", "folder", "npz"):
        raise LeafwingError(f"format {format!r}: choose from grid, folder, npz")
    check_name(format, None if out is None else Path(out))
    seed = check_seed(seed)
    if n is not None:
        n = whole(n, "n", 1)
    if scale is not None:
        whole(scale, "scale", 1)
    if sweep is not None:
        parse_sweep(sweep)
    check_run(run, root, checkpoint=checkpoint, label=label, conditions=conditions, out=out)
    import torch

    from leafwing import films, pictures
    from leafwing.commands.launching import join_processes
    from leafwing.conditions import read_settings
    from leafwing.engine import choose, keep_freed_memory
    from leafwing.model import Model

    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root, trust=trust)
    with join_processes("Sample again") as processes:
        setup = choose(device, precision, torch.get_num_threads())
        reporter = reporter_of(progress) if processes.first else Reporter()
        model = Model.load(
            opened,
            checkpoint=opened.resolve_checkpoint(checkpoint),
            device=processes.device(setup.device),
            precision=setup.precision,
            compile=compile,
            notify=reporter.say,
        )
        chosen = model.find_output(output)
        field = model.kind(chosen)
        check_format(format, field)
        ending = check_ending(field, animation, format, None if out is None else Path(out))
        check_scale(scale, field)
        rows = None
        if format == "grid" and field.has_pixels and n is None and sweep is None:
            rows = default_rows(chosen, model.spec, read_settings(conditions, chosen, model.spec, label))
        if rows:
            label = "all"
            say_left_out(rows, model.spec, reporter)
        n = n or (pictures.PER_CLASS if label == "all" else SAMPLES)
        few = fewest(n, read_settings(conditions, chosen, model.spec))
        part = plan_samples(model, few, seed, output, label, conditions, sweep, rows)
        size = 0 if format == "folder" else field.to_stored(torch.zeros(1, *field.shape)).nbytes * (scale or 1) ** 2
        check_memory(n, part, size, few)
        latents, inputs, columns = plan_samples(model, n, seed, output, label, conditions, sweep, rows)
        say_notes(model, format, output, conditions, reporter)
        total = inputs.n if latents is None else len(latents)
        is_film = out is not None and Path(out).suffix.lower() in films.KINDS
        columns = columns or pictures.columns_of(field, total, is_film)
        if format == "grid":
            pictures.check_size(field, total, columns, scale, is_film)
        keep_freed_memory()
        name = file_name(model, n, seed, label, output, sweep, conditions, scale)
        target = (
            Path(out) if out else files.unused(opened.outputs, name, {"grid": ".png", "folder": "", "npz": ".npz"}[format])
        )
        processes.barrier()  # before the folder of another process exists
        with files.storage(str(target)):
            (target if format == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
        share = share_of(total, processes.rank, processes.world_size)
        named: dict[str, Any] = {**inputs}
        blocks = model.stream(latents, output=output, seed=seed, part=share, **named)
        blocks = counted(blocks, WHAT, share.stop - share.start, reporter.report_progress, len)
        if format == "folder":
            label_kind = model.spec.fields.get("label")
            names = label_kind.names if isinstance(label_kind, Label) else ()
            of_samples = [files.file_name(names[index]) for index in inputs["label"].tolist()] if "label" in inputs else []
            pictures.write_images(image_files(blocks, field, target, of_samples, ending, share.start, scale or 1))
            say_changes(ending, field, reporter, scale or 1)
            processes.barrier()
            return Written(target)
        array = collect(blocks, share.stop - share.start, field)
        array = processes.gather(torch.from_numpy(array)).numpy()
        if not processes.first:
            return Written(target)
        if format == "npz":
            arrays = {"samples": pictures.enlarge_stored(field, array, scale or 1), **condition_arrays(model, inputs)}
            files.write(target, lambda path: write_npz(path, arrays))
            return Written(target)
        if isinstance(field, Vector):
            files.write(target, pictures.png(pictures.scatter(torch.from_numpy(array))))
            return Written(target)
        titles = sweep_titles(model, sweep)
        sheet = pictures.sample_grid(field, array, columns, model.spec, inputs, titles)
        write_sheet(sheet, target, scale, is_film, reporter)
    return Written(target)


def write_sheet(sheet: Sheet, target: Path, scale: int | None, is_film: bool, reporter: Reporter) -> None:
    """Writes a grid as a PNG file, or animated; `scale` as for `sample`."""
    from leafwing import films, pictures

    if not is_film:
        files.write(target, pictures.png(sheet.image(scale=scale)))
    elif note := films.write(target, sheet.animation(scale), pictures.FRAME_MS):
        reporter.say(f"{target}: {note}")


def fewest(n: int, settings: Mapping[str, Any]) -> int:
    """The smallest part of n samples that has these conditions: several if there is a value of a condition for each."""
    sized = (value for value in settings.values() if isinstance(value, Sized) and not isinstance(value, str | Mapping))
    lengths = [len(value) for value in sized if getattr(value, "shape", True)]  # a tensor may be a single number
    return min(n, max([1, *lengths]))


def check_memory(n: int, part: tuple[Tensor | None, Batch, int | None], size: int, few: int = 1) -> None:
    """Raises LeafwingError if n samples do not fit into memory.

    Args:
        n: their number.
        part: latents and conditions of `few` of them, with their repetitions for classes and sweeps; see `plan_samples`.
        size: bytes of a sample that are kept until all are written.
        few: their number in `part`.
    """
    latents, inputs, _ = part
    tensors = [*inputs.values(), *([] if latents is None else [latents])]
    # Samples are collected, enlarged and encoded: about three copies. Latents are drawn in blocks and put together: two.
    total = sum(2 * tensor.nbytes for tensor in tensors) + 3 * size * max([len(tensor) for tensor in tensors], default=few)
    each = total // few
    free = available_memory()
    if free is not None and n * each > free / 2:
        most = int(free // each // 2)
        needs = f"needs about {show_bytes(n * each)} of memory, and {show_bytes(free)} are free"
        raise InvalidOption(
            "n", n, f"{needs}: at most {most:,} at a time; more with another --seed, or as a folder (--folder)"
        )


def say_notes(
    model: Model, format: str, output: str | None, conditions: Sequence[str] | Mapping[str, Any], progress: Reporter
) -> None:
    """Says which words of a caption are ignored, and where the captions and boxes of real samples are found."""
    from leafwing.conditions import ignored_words, open_fields, read_settings

    chosen = model.find_output(output)
    settings = read_settings(conditions, chosen, model.spec)
    for note in ignored_words(model.spec, settings):
        progress.say(note)
    if format != "npz" and (names := open_fields(chosen, model.spec, settings)):
        progress.say(f"Each sample has the {' and '.join(names)} of a real one, unless it is set; --npz stores it too.")


def check_format(format: str, field: Field) -> None:
    """Raises LeafwingError if samples of this field cannot be written as a grid or a folder of images."""
    if format == "npz" or field.has_pixels:
        return
    if isinstance(field, Vector):
        if format == "folder":
            raise LeafwingError("points cannot be written as images: choose a grid (a plot) or npz")
        if field.size < 2:
            raise LeafwingError("single numbers cannot be plotted: choose npz")
        return
    raise LeafwingError(f"{field}: samples cannot be written as images: choose npz")


def check_name(format: str, out: Path | None) -> None:
    """Raises LeafwingError if an output path has the ending of another kind of file."""
    from leafwing import films

    suffix = "" if out is None else out.suffix.lower()
    if format == "npz" and suffix not in ("", ".npz"):
        raise LeafwingError(f"--out {out}: an .npz file is written, so its name should end in .npz")
    if format == "grid" and suffix not in ("", ".png", *films.KINDS):
        raise InvalidOption("out", out, "a grid is written as .png")


def check_ending(field: Field, animation: str, format: str = "folder", out: Path | None = None) -> str:
    """The ending of the files of single samples: of clips, that of this type of animation.

    Raises:
        LeafwingError: another type of animation, or of samples that are no clips.
    """
    from leafwing import films

    grid = out.suffix.lower() if out is not None and format == "grid" else ""
    if not isinstance(field, Clip):
        if animation != "webp" or grid in films.KINDS:
            option, value = ("animation", animation) if animation != "webp" else ("out", out)
            raise InvalidOption(option, value, f"only clips are animated, and these samples are {describe_kind(field)}")
        return ".png"
    if animation != "webp" and format != "folder":
        raise InvalidOption(
            "animation", animation, "it is the file type of clips in a folder; that of a grid is the ending of --out"
        )
    films.require(out if out is not None and grid in films.KINDS else Path(f"clip.{animation}"))
    return f".{animation}"


def check_scale(scale: int | None, field: Field) -> None:
    """Raises LeafwingError for a factor of enlargement that is not a whole number from 1 on, of samples without pixels, or with which
    a single sample could not be opened; see `layout.MAX_PIXELS`."""
    if scale is None:
        return
    from leafwing.layout import MAX_PIXELS

    factor = whole(scale, "scale", 1)
    if not field.has_pixels:
        raise InvalidOption("scale", scale, f"only images are enlarged, and these samples are {describe_kind(field)}")
    pixels = getattr(field, "width", 1) * getattr(field, "height", 1)
    if factor > 1 and pixels * factor**2 > MAX_PIXELS:
        most = max(1, isqrt(MAX_PIXELS // pixels))
        raise InvalidOption("scale", scale, f"a single sample could not be opened: choose at most {most}")


def default_rows(output: Output, spec: DataSpec, settings: Mapping[str, Any]) -> int | None:
    """The number of classes to show if the user has chosen none: all, at most `CLASSES`; None for an output without classes.

    Args:
        output: what is generated.
        spec: the data's fields.
        settings: what the user has chosen, by name.
    """
    from leafwing.pictures import CLASSES

    return min(CLASSES, len(spec.labels)) if "label" in output.conditions and settings.get("label") is None else None


def say_left_out(rows: int, spec: DataSpec, reporter: Reporter) -> None:
    """Says that only some classes are shown."""
    if rows < (classes := len(spec.labels)):
        reporter.say(f"the first {rows} of {classes:,} classes are shown: choose another one with --label NAME")


def say_changes(ending: str, field: Field, progress: Reporter, scale: int) -> None:
    """Says how the films of clips differ from these in size."""
    from leafwing import films

    if ending == ".mp4" and isinstance(field, Clip) and (note := films.changes(field.width * scale, field.height * scale)):
        progress.say(note)


def plan_samples(
    model: Model,
    n: int,
    seed: int,
    output: str | None,
    label: str | int | None,
    conditions: Sequence[str] | Mapping[str, Any],
    sweep: str | None,
    classes: int | None = None,
) -> tuple[Tensor | None, Batch, int | None]:
    """The latents (None without any) and the conditions of all samples, and the number of columns of a grid if it is determined.

    With `label="all"` there are samples of every class, or of the first `classes`.

    Raises:
        LeafwingError: invalid conditions, or a sweep that the model cannot make.
    """
    from leafwing.conditions import from_settings, read_settings
    from leafwing.game import Batch

    chosen = model.find_output(output)
    settings = read_settings(conditions, chosen, model.spec, label)
    values = from_settings(chosen, model.spec, settings)
    if sweep is not None:
        if label == "all":
            raise LeafwingError(
                "--sweep and --label all are mutually exclusive: one has a row per latent, the other a row per class"
            )
        swept = model.sweep(model.latents(n, seed, output=output), *parse_sweep(sweep))
        columns = len(swept) // n
        inputs = model.conditions(n, seed, output=output, **values)
        return swept, Batch({name: value.repeat_interleave(columns, 0) for name, value in inputs.items()}), columns
    count = 1
    if label == "all":
        count = classes or len(model.spec.labels)
        values["label"] = [index for index in range(count) for _ in range(n)]
    inputs = model.conditions(n * count, seed, output=output, **values)
    latents = None if chosen.prior is None and inputs else model.latents(n, seed, output=output).repeat(count, 1)
    return latents, inputs, n if label == "all" else None


def file_name(
    model: Model,
    n: int,
    seed: int,
    label: str | int | None,
    output: str | None,
    sweep: str | None,
    conditions: Sequence[str] | Mapping[str, Any],
    scale: int | None,
) -> str:
    """The name of the file or folder without its ending, from the checkpoint and the options."""
    options = [label, output, sweep, *setting_texts(conditions), scale and f"x{scale}"]
    return files.file_name(f"{model.images:09d}-seed{seed}-n{n}", *(option for option in options if option is not None))


def setting_texts(conditions: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Conditions as texts NAME=VALUE."""
    if isinstance(conditions, Mapping):
        return [f"{name}={value}" for name, value in conditions.items()]
    return [conditions] if isinstance(conditions, str) else [*map(str, conditions)]


def parse_sweep(text: str) -> tuple[str, list[float] | None]:
    """A code and its values: `code0=-2:2` -> ten values from -2 to 2; `category` -> None, which means every class.

    Raises:
        LeafwingError: another format.
    """
    code, equals, span = text.partition("=")
    if not equals:
        return code.strip(), None
    try:
        low, high = map(real, span.split(":"))
    except ValueError:
        reason = "write NAME=FROM:TO in finite numbers, as in code0=-2:2, or the NAME of a category"
        raise InvalidOption("sweep", text, reason) from None
    return code.strip(), [low + (high - low) * i / (SWEEP_VALUES - 1) for i in range(SWEEP_VALUES)]


def sweep_titles(model: Model, sweep: str | None) -> list[str]:
    """The values of a sweep, as titles of columns."""
    if sweep is None:
        return []
    code, values = parse_sweep(sweep)
    return [f"{value:.2g}" for value in values] if values else [str(index) for index in range(model.codes[code])]


def share_of(n: int, rank: int, processes: int) -> slice:
    """The part of n samples that one process generates: whole blocks, so that images do not depend on the number of processes."""
    from leafwing.latents import BLOCK

    blocks = -(-n // BLOCK)
    return slice(*(min(n, BLOCK * (number * blocks // processes)) for number in (rank, rank + 1)))


def image_files(
    blocks: Iterator[Tensor],
    field: Field,
    folder: Path,
    classes: list[str],
    ending: str,
    first: int = 0,
    scale: int = 1,
) -> Iterator[tuple[Path, Pixels]]:
    """The path of each image, with its number and its class if there is one, and its pixels as `pictures.to_image` takes them."""
    from leafwing import pictures

    images = (image for block in blocks for image in pictures.visible(field, field.to_stored(block).numpy()))
    for i, image in enumerate(images, first):
        path = folder / (f"{i:06d}-{classes[i]}{ending}" if classes else f"{i:06d}{ending}")
        yield path, pictures.enlarge_stored(field, image[None], scale)[0]


def collect(blocks: Iterator[Tensor], n: int, field: Field) -> np.ndarray:
    """The n samples of blocks in one array, in the format of data sets."""
    import numpy as np
    import torch

    one = field.to_stored(torch.zeros(1, *field.shape)).numpy()
    samples = np.empty((n, *one.shape[1:]), one.dtype)
    start = 0
    for block in blocks:
        samples[start : start + len(block)] = field.to_stored(block).numpy()
        start += len(block)
    return samples


def condition_arrays(model: Model, inputs: Batch) -> dict[str, np.ndarray]:
    """The conditions of samples as arrays by name: `labels`, `attributes` and `attribute_names`, captions as text, numbers."""
    import numpy as np

    arrays: dict[str, np.ndarray] = {}
    for name, value in inputs.items():
        kind, array = model.spec.fields[name], value.cpu().numpy()
        if isinstance(kind, Label):
            arrays["labels" if name == "label" else name] = array
        elif isinstance(kind, Attributes):
            arrays |= {name: array.astype(np.uint8), "attribute_names": np.array(kind.names)}
        else:
            arrays[name] = np.array(kind.to_plain(array)) if isinstance(kind, Caption) else array
    return arrays


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a compressed .npz file; the path may have any suffix."""
    import numpy as np

    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
