"""A walk through latent space between samples of a run, as a film."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.commands.first_checks import check_run
from leafwing.commands.results import Written
from leafwing.commands.sample import default_rows, say_left_out, setting_texts
from leafwing.commands.seeds import parse_seeds
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.fields import Clip, describe_kind
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import whole
from leafwing.runs import ROOT, Run

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from leafwing.game import Batch
    from leafwing.model import Model

SIDE = 512
"""A single image is enlarged by the largest whole factor that keeps its longer side within this, in pixels."""
MIN_SIZE, MAX_SIZE = 16, 4_096
"""The longer side of a film, in pixels."""
MAX_MEMORY = 4 << 30
"""Bytes of the images of a WebP or GIF file, which are all in memory."""


def walk(
    run: str | Path | Run,
    seeds: str | Sequence[int] = "0-5",
    *,
    seconds: float = 6.0,
    fps: float = 25,
    size: int | None = None,
    loop: bool = True,
    label: str | int | None = None,
    conditions: Sequence[str] | Mapping[str, Any] = (),
    output: str | None = None,
    checkpoint: int | str | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
) -> Path:
    """Writes a film in which one sample of a run changes into the next, and the last one back into the first.

    Latents move along arcs from seed to seed (see `latents.interpolate_latents`), in equal times. Conditions and the noise
    inside networks do not change.

    Args:
        run: the run, its folder, name or number, or `last`.
        seeds: the samples of these seeds, as of `sample_seeds`, in this order: at least two, as a sequence, `3,5,8` or `0-5`.
        seconds: duration, more than 0 and less than 3600.
        fps: images per second.
        size: the longer side of the film in pixels. None: small images are enlarged by a whole factor, alone to at most 512 pixels, in
            a grid of classes to at most 128.
        loop: return to the first seed, so that the film can be repeated without a jump; else it ends at the last one, and WebP and GIF
            files are shown once.
        label: a class by name or index; or `all` (None): one image for each class, of at most 20, from the same latents.
        conditions: as for `sample`; what is not specified is that of the first seed's sample.
        output: the field to generate; None: the main output.
        checkpoint: images shown, `last` (None) or `best`.
        out: a .webp, .gif or .mp4 file (.mp4 needs PyAV, `leafwing[film]`) that must not exist; None: a new .webp file in the run's
            `outputs` folder. Transparent samples without classes stay so in .webp and .gif, and are on white in .mp4.
        device: auto, cpu, cuda or mps.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        root: folder of the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.

    Returns:
        The file, which notebooks show.

    Raises:
        LeafwingError: invalid input, or a run that does not generate images from latents; nothing was written.
    """
    from leafwing import films

    seeds = seeds if isinstance(seeds, str) else ",".join(map(str, seeds))
    numbers = parse_seeds(seeds)
    if len(numbers) < 2:
        raise InvalidOption("seeds", seeds, "a walk goes between at least two different seeds: write 3,5,8 or 0-5")
    ending = Path(out).suffix.lower() if out else ".webp"
    films.require(Path(out or "walk.webp"))
    films.check_seconds(seconds)
    films.check_rate(fps, ending)
    count = round(seconds * fps)
    if count < 2:
        raise InvalidOption("seconds", seconds, f"at {fps:g} images per second a film of at least two images takes longer")
    if size is not None and not MIN_SIZE <= whole(size, "size", 1) <= MAX_SIZE:
        raise InvalidOption("size", size, f"choose from {MIN_SIZE} to {MAX_SIZE} pixels for the longer side")
    check_run(run, root, checkpoint=checkpoint, label=label, conditions=conditions, out=out)
    import torch

    from leafwing import latents
    from leafwing.conditions import from_settings, ignored_words, read_settings
    from leafwing.engine import choose
    from leafwing.model import Model

    opened = Run.open(run, root=root, trust=trust)
    reporter = reporter_of(progress)
    setup = choose(device, "fp32", torch.get_num_threads())
    model = Model.load(opened, checkpoint=opened.resolve_checkpoint(checkpoint), device=setup.device, notify=reporter.say)
    chosen = model.find_output(output)
    field = model.kind(chosen)
    ends = torch.cat([model.latents(1, seed, output=output) for seed in numbers])
    if not field.has_pixels or isinstance(field, Clip):
        raise LeafwingError(f"a walk shows images that change, and a sample of this run is {describe_kind(field)}")
    named = read_settings(conditions, chosen, model.spec, label)
    for note in ignored_words(model.spec, named):
        reporter.say(note)
    settings = from_settings(chosen, model.spec, named)
    if label == "all":
        del settings["label"]
    if rows := default_rows(chosen, model.spec, settings):
        settings["label"] = [*range(rows)]
        say_left_out(rows, model.spec, reporter)
    scene = Scene(model, output, numbers[0], model.conditions(rows or 1, numbers[0], output=output, **settings), size)
    images = scene.draw_all(latents.walk(ends, count, loop), reporter)
    first = next(images)
    if ending != ".mp4" and count * first.width * first.height * len(first.getbands()) > MAX_MEMORY:
        raise InvalidOption(
            "seconds",
            seconds,
            f"{count:,} images of {first.width}x{first.height} are too much memory for a {ending} file: choose an .mp4 file",
        )
    texts = [seeds, *([] if label is None else [str(label)]), *setting_texts(conditions)]
    name = files.file_name(f"{model.images:09d}-walk", *texts)
    target = Path(out) if out else files.unused(opened.outputs, name, ending)
    with files.storage(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
    if note := films.write(target, chain([first], images), 1_000 / fps, loop=loop):
        reporter.say(f"{target}: {note}")
    return Written(target)


@dataclass
class Scene:
    """What a walk shows: one image, or one for each class.

    Args:
        model: the model.
        output: the field to generate; None: the main output.
        seed: that of the noise inside networks, which is the same in all images of the film.
        conditions: of the images that are shown together.
        size: the longer side in pixels; None: see `walk`.
    """

    model: Model
    output: str | None
    seed: int
    conditions: Batch
    size: int | None

    def __post_init__(self) -> None:
        self.kind = self.model.kind(self.model.find_output(self.output))
        self.n = self.conditions.n if self.conditions else 1
        side = ceil(sqrt(self.n))
        self.columns = next((columns for columns in range(side, 2 * side + 1) if self.n % columns == 0), side)
        self.scale = 1

    def draw_all(self, latents: Tensor, reporter: Reporter) -> Iterator[Image]:
        """The images of the film that belong to latents (n, size), one after the other."""
        for i, latent in enumerate(latents):
            yield self.draw(latent[None])
            reporter.report_progress("images of the film", i + 1, len(latents))

    def draw(self, latent: Tensor) -> Image:
        """The image of the film that belongs to a latent (1, size)."""
        from leafwing import layout, pictures

        named: dict[str, Any] = {**self.conditions}
        samples = next(self.model.stream(latent.repeat(self.n, 1), output=self.output, seed=self.seed, **named))
        stored = self.kind.to_stored(samples).numpy()
        if self.n == 1:
            image = pictures.to_image(pictures.draw(self.kind, stored)[0])
            image = image.convert("RGBA") if image.has_transparency_data else layout.flat(image)
            side = self.size or max(image.size) * max(1, SIDE // max(image.size))
            return layout.fit(image, side, side, pictures.is_smooth(self.kind))
        sheet = pictures.sample_grid(self.kind, stored, self.columns, self.model.spec, self.conditions)
        if self.size is None:
            return sheet.image()
        image = sheet.image(scale=self.scale)
        while max(image.size) < self.size:  # then it is reduced, and texts stay sharp
            # Titles do not grow, so this is never too much.
            self.scale = max(self.scale + 1, int(self.scale * self.size / max(image.size)))
            image = sheet.image(scale=self.scale)
        return layout.fit(image, self.size, self.size)
