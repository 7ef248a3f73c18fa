"""Pictures generated from pictures: a file, a folder or an archive, with names and sizes kept."""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.fields import Clip, Field, Image, Mask, Segmentation
from leafwing.machine import cores
from leafwing.progress import Reporter
from leafwing.quantities import check_seed
from leafwing.runs import ROOT, TRANSLATIONS, Run

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image as Pillow

    from leafwing.data import RejectedFile
    from leafwing.data.sources import Source, Task
    from leafwing.game import Output
    from leafwing.model import Model

QUALITY = 95
"""Quality of JPEG and other lossy files, 0 to 100."""


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


@dataclass(frozen=True)
class Original:
    """One decoded picture.

    Args:
        name: its name in the source.
        size: width and height in pixels, upright.
        frames: whether its file has several frames or pages.
        columns: the picture as the inputs of the model, one stored sample of each.
        alpha: its alpha channel, compressed; None without transparency.
    """

    name: str
    size: tuple[int, int]
    frames: bool
    columns: Columns
    alpha: bytes | None


def translate(
    run: str | Path,
    pictures: str | Path,
    *,
    output: str | None = None,
    conditions: Sequence[str] | Mapping[str, Any] = (),
    seed: int = 0,
    checkpoint: int | str | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Reporter | None = None,
) -> Translation:
    """Translates pictures with a run that generates images from images; names, sub-folders, sizes and transparency are kept.

    Each picture is stretched to the size of the model's input, and what is generated to the size of the picture. The type of file is
    kept where it can hold the result, else it is PNG (for clips WebP). Only a few pictures are in memory at a time.

    Args:
        run: folder, name, number or `last`.
        pictures: an image file, a folder (with its sub-folders) or an archive, as `train` reads them. Of masks, grey values above 127
            are 1; segmentations are grey or palette images of class indices.
        output: the field to generate; None: the first one that is generated from images.
        conditions: further conditions by name, or as texts; see `sample`.
        seed: random seed of what is random, if anything is.
        checkpoint: images shown, `last` (None) or `best`.
        out: output folder, which must not exist; None: in the run's `translations` folder.
        device: auto, cpu, cuda or mps.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: receives messages and progress; None: nothing is shown.

    Raises:
        LeafwingError: invalid input, or not one usable picture; nothing was written.
        StorageError: the output folder cannot be written; pictures written before stay.
    """
    import torch

    from leafwing.conditions import edits, from_settings, pixel_conditions, read_settings, settable
    from leafwing.data.pictures import strict
    from leafwing.engine import choose
    from leafwing.model import Model

    seed, path = check_seed(seed), find_pictures(pictures)
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists: choose another --out")
    opened = Run.open(run, root=root, trust=trust)
    device = choose(device, "fp32", torch.get_num_threads()).device
    model = Model.load(opened, checkpoint=opened.resolve_checkpoint(checkpoint), device=device)
    chosen, _ = model.translation(output)
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
    prepare = preparation(opened, model, names)
    blank: dict[str, Any] = {name: torch.zeros(1, *model.spec.fields[name].shape) for name in names}
    model.conditions(1, seed, output=chosen.field, **blank, **values)  # raises: invalid conditions
    texts = [f"{key}={value}" for key, value in settings.items()]
    options = [*([output] if output else []), *([f"seed{seed}"] if seed else []), *texts]
    suffix = "".join(f"-{files.file_name(option)[:60]}" for option in options)
    default = opened.folder / TRANSLATIONS / f"{model.images:09d}-{files.file_name(path.resolve().name)}{suffix}"
    target = Path(out) if out is not None else default
    if target.exists():
        raise LeafwingError(f"{target} exists: choose another --out")
    progress = progress or Reporter()
    with strict(), open_pictures(path) as source:
        writer = Writer(target, model.kind(chosen), [entry.name for entry in source.entries])
        result = Translation(target, rejected=[*source.rejects], notes=[] if source.raw else [*source.notes])
        if source.side_files:
            result.notes.append(f"Ignored files that are not images (text, lists, annotations): {len(source.side_files)}.")
        if "input" in names and (how := derived_input(opened)):
            result.notes.append(f"The input was derived from each picture, as in training: {how}.")
        try:
            for originals in read_pictures(source, prepare, result, progress):
                images = translate_pictures(model, originals, chosen, seed, result.written, values)
                writer.write_all(originals, images)
                result.written += len(originals)
        except BaseException:
            writer.remove_empty_folders()
            raise
    if not result.written:
        raise LeafwingError(f"{path} has no usable pictures{'' if not result.rejected else ': ' + reasons(result.rejected)}")
    if writer.replaced and not source.raw:
        result.notes.append(f"Written as {writer.suffix}, not as their own type of file: {len(writer.replaced)}.")
    progress.say(f"pictures translated: {result.written}")
    for note in result.notes:
        progress.say(note)
    if result.rejected:
        progress.warn(
            f"not translated: {len(result.rejected)} of {len(result.rejected) + result.written}: {reasons(result.rejected)}"
        )
    return result


def reasons(rejected: Sequence[RejectedFile], limit: int = 20) -> str:
    """The names of rejected files with the reasons, as text."""
    shown = "; ".join(f"{reject.name}: {reject.reason}" for reject in rejected[:limit])
    return shown + (f"; and {len(rejected) - limit} more" if len(rejected) > limit else "")


def find_pictures(pictures: str | Path) -> Path:
    """The path of the pictures.

    Raises:
        LeafwingError: there is no such file or folder.
    """
    path = Path(pictures).expanduser()
    if not str(pictures) or not os.path.exists(path):
        raise LeafwingError(
            f"{str(pictures)!r}: no such file or folder; give an image file, a folder of images or an archive"
        )
    return path


def open_pictures(path: Path) -> Source:
    """An image file, a folder, an archive or an IDX file as a source of images."""
    from leafwing.data import sources
    from leafwing.data.pictures import SUFFIXES

    if path.is_file() and path.suffix.lower() in SUFFIXES:
        entry = sources.Entry(path.name, path, path.stat().st_size)
        return sources.Source("file", path, [entry], lambda location: Path(location).read_bytes())
    return sources.open_source(path, *sources.list_files(path))


Columns = Mapping[str, "np.ndarray"]
"""Stored samples by field."""
Prepare = Callable[["Pillow.Image"], Columns]
"""From an upright picture to one stored sample of each input of the model; raises UnusableImageError with the reason."""


def preparation(run: Run, model: Model, names: Sequence[str]) -> Prepare:
    """How pictures become the inputs of a model: fitted to their size, and derived as in training.

    Args:
        run: the run.
        model: its model.
        names: the inputs with pixels.

    Raises:
        LeafwingError: pictures cannot be this input.
    """
    import numpy as np

    from leafwing.data import options
    from leafwing.data.pictures import UnusableImageError, render

    name, *further = names
    kind, how = model.spec.fields[name], derived_input(run)
    background = run.data.options.get("background", "white")
    rgb = options.check(None, None, "stretch", background).rgb

    def stretched(image: Pillow.Image, height: int, width: int, channels: int) -> np.ndarray:
        return render(image, options.Target(height, width, channels, "stretch", background, rgb))

    if how and name == "input" and isinstance(source := model.spec.fields["image"], Image):
        return lambda image: derive(stretched(image, source.height, source.width, source.channels), how)
    if further:
        raise LeafwingError(f"this run needs {' and '.join(names)} of each picture: use model.translate from Python")
    if isinstance(kind, Image):
        return lambda image: {name: stretched(image, kind.height, kind.width, kind.channels)}
    if isinstance(kind, Mask):
        return lambda image: {name: (stretched(image, kind.height, kind.width, 1) > 127).astype(np.uint8)}
    if not isinstance(kind, Segmentation):
        raise LeafwingError(f"this run generates from {kind}, which pictures cannot be: use model.translate from Python")

    def as_classes(image: Pillow.Image) -> Columns:
        if image.mode not in ("L", "P", "1"):
            raise UnusableImageError(f"mode {image.mode}: a segmentation is a grey or palette image of class indices")
        if (highest := int(np.asarray(image).max())) >= len(kind.names):
            raise UnusableImageError(
                f"value {highest} is not a class: this run has {len(kind.names)}, 0 to {len(kind.names) - 1}"
            )
        return {name: np.asarray(image.resize((kind.width, kind.height), 0)).astype(np.uint8)}

    return as_classes


def derived_input(run: Run) -> str | None:
    """How the input of a run was derived from its images; None if it was not."""
    if not isinstance(how := run.data.options.get("input"), str):
        return None
    from leafwing.data.built_in import own_inputs
    from leafwing.data.derive import DERIVED

    return how if how in DERIVED and how not in own_inputs(run.data.source) else None


def derive(pixels: np.ndarray, how: str) -> Columns:
    """The inputs derived from one image (height, width, channels), as in training."""
    from leafwing.data.derive import DERIVED

    return {name: column[0] for name, column in DERIVED[how](pixels[None]).items()}


def read_pictures(source: Source, prepare: Prepare, result: Translation, progress: Reporter) -> Iterator[list[Original]]:
    """Decodes the pictures of a source, a few at a time; adds those that cannot be used, and notes, to the result."""
    done = frames = 0
    with ThreadPoolExecutor(cores()) as pool:
        for chunk in source.chunks(source.entries):
            outcomes = [*pool.map(lambda task: read_original(task, source, prepare), chunk)]
            originals = [outcome for outcome in outcomes if isinstance(outcome, Original)]
            result.rejected += [outcome for outcome in outcomes if not isinstance(outcome, Original)]
            if originals:
                yield originals
            done += len(chunk)
            frames += sum(original.frames for original in originals)
            progress.report_progress("translating pictures", done, len(source.entries))
    if frames:
        result.notes.append(f"Files with several frames or pages: {frames}; only the first was translated.")


def read_original(task: Task, source: Source, prepare: Prepare) -> Original | RejectedFile:
    """Decodes one picture, or returns why it cannot be used."""
    import numpy as np

    from leafwing.data import RejectedFile
    from leafwing.data.pictures import UnusableImageError, header, opened

    entry, load = task[:2]
    try:
        data = load()
        frames = header(data, source.raw).frames
        with opened(data, source.raw) as image:
            alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
            compressed = None if alpha is None else zlib.compress(np.asarray(alpha).tobytes(), 1)
            return Original(entry.name, image.size, frames, prepare(image), compressed)
    except UnusableImageError as reason:
        return RejectedFile(entry.name, str(reason))


def translate_pictures(
    model: Model, originals: Sequence[Original], output: Output, seed: int, first: int, values: Mapping[str, Any]
) -> np.ndarray:
    """The stored samples generated from some pictures; `first` is the number of the first one."""
    import numpy as np
    import torch

    from leafwing.conditions import pixel_conditions

    inputs: dict[str, Any] = {}
    for name in pixel_conditions(output, model.spec):
        stored = torch.from_numpy(np.stack([original.columns[name] for original in originals]))
        inputs[name] = model.spec.fields[name].to_network(stored)
    images, *_ = inputs.values()
    samples = model.translate(images, output=output.field, seed=seed, first=first, **{**values, **inputs})
    return model.kind(output).to_stored(samples).numpy()


class Writer:
    """Writes what was generated in the size of each picture, under its name; thread-safe.

    Args:
        folder: the output folder, which is created with the first picture.
        kind: the field of what is generated.
        names: the names of all pictures.
    """

    def __init__(self, folder: Path, kind: Field, names: Sequence[str]) -> None:
        self.folder, self.kind = folder, kind
        self.suffix = ".webp" if isinstance(kind, Clip) else ".png"
        self.replaced: list[str] = []
        self.missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        self.paths: dict[str, PurePosixPath] = {}
        used = {parent for name in names for parent in safe_path(name).parents}  # an archive may have x.png and x.png/y.png
        for name in names:
            self.paths[name] = unused(safe_path(name), used)
            used.add(self.paths[name])
        # Other names, for results that need another type of file; two pictures may differ in their suffix only.
        self.others: dict[str, PurePosixPath] = {}
        for name, path in self.paths.items():
            other = path.with_name(shortened(path.with_suffix(self.suffix).name))
            self.others[name] = path if other == path else unused(other, used)
            used.add(self.others[name])

    def write_all(self, originals: Sequence[Original], samples: np.ndarray) -> None:
        """Writes stored samples, in parallel.

        Raises:
            StorageError: for the first file that cannot be written.
        """
        with ThreadPoolExecutor(cores()) as pool:
            [*pool.map(self.write, originals, samples)]

    def write(self, original: Original, sample: np.ndarray) -> None:
        """Writes one stored sample."""
        from leafwing.pictures import FRAME_MS, animation, png

        frames = [self.resized(frame, original) for frame in self.frames(sample)]
        path = self.folder / self.paths[original.name]
        if isinstance(self.kind, Clip):
            path, content = self.folder / self.others[original.name], animation(frames, FRAME_MS, lossless=True)
        elif encoded := encode(frames[0], path.suffix.lower(), lossy=isinstance(self.kind, Image)):
            content = encoded
        else:
            path, content = self.folder / self.others[original.name], png(frames[0])
            self.replaced.append(original.name)
        with files.storage(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content)

    def frames(self, sample: np.ndarray) -> list[Pillow.Image]:
        """A stored sample as images in its own size: one, or the frames of a clip."""
        from leafwing import pictures

        pixels = pictures.visible(self.kind, sample)
        if isinstance(self.kind, Segmentation):
            return [pictures.to_image(pixels)]
        return [pictures.to_image(frame) for frame in (pixels if isinstance(self.kind, Clip) else pixels[None])]

    def resized(self, image: Pillow.Image, original: Original) -> Pillow.Image:
        """An image in the size of the picture, with its alpha channel if it has one and the image has none."""
        from PIL import Image as Pillow

        smooth = isinstance(self.kind, Image | Clip)
        image = image.resize(original.size, Pillow.Resampling.LANCZOS if smooth else Pillow.Resampling.NEAREST)
        if original.alpha is not None and smooth and image.mode in ("L", "RGB"):
            image.putalpha(Pillow.frombytes("L", original.size, zlib.decompress(original.alpha)))
        return image

    def remove_empty_folders(self) -> None:
        """Removes the folders that were created, if nothing was written into them."""
        for folder in self.missing:
            with suppress(OSError):
                folder.rmdir()


def safe_path(name: str) -> PurePosixPath:
    """A name in a source as a path below the output folder: archives may contain any name."""
    parts = [re.sub(r"[:\\]", "_", part) for part in PurePosixPath(name).parts if part not in ("/", "//", "..", ".")]
    return PurePosixPath(*map(shortened, parts or ["picture"]))


def shortened(name: str) -> str:
    """The name of a file or folder in at most 255 bytes, the limit of file systems; the extension is kept."""
    stem, suffix = os.path.splitext(name)
    return (
        name
        if len(os.fsencode(name)) <= 255
        else os.fsencode(stem)[: 240 - len(os.fsencode(suffix))].decode(errors="ignore") + suffix
    )


def unused(path: PurePosixPath, used: Collection[PurePosixPath]) -> PurePosixPath:
    """The path, with a number if it is in use."""
    candidates = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return path if path not in used else next(candidate for candidate in candidates if candidate not in used)


def encode(image: Pillow.Image, suffix: str, *, lossy: bool) -> bytes | None:
    """The content of an image file; None if this type of file cannot be written, cannot hold the mode or changes the values.

    Args:
        image: the image.
        suffix: the file's extension, in lower case.
        lossy: whether the values may be changed by compression.
    """
    from PIL import Image as Pillow

    Pillow.init()
    kind = Pillow.EXTENSION.get(suffix, "")
    modes = {".pgm": ("L",), ".ppm": ("RGB",), ".pnm": ("L", "RGB"), ".pbm": (), ".jpg": ("L", "RGB")}
    if kind not in Pillow.SAVE or image.mode not in modes.get(".jpg" if kind == "JPEG" else suffix, (image.mode,)):
        return None
    if kind in ("JPEG", "JPEG2000", "WEBP", "AVIF") and not lossy:
        return None
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **({"quality": QUALITY} if kind in ("JPEG", "WEBP", "AVIF") else {}))
    except (OSError, KeyError, ValueError):  # how Pillow's plugins refuse a mode
        return None
    return buffer.getvalue()
