"""Samples as pictures to look at: one image of a tensor, grids of samples, and films. What they show is decided elsewhere."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from leafwing import fields, files, films, notebook, pictures
from leafwing.errors import LeafwingError
from leafwing.fields import Field, describe_kind
from leafwing.game import Batch, DataSpec
from leafwing.pixels import as_tensor
from leafwing.progress import Progress, reporter_of

SIDE = 256
"""Small images are enlarged by the largest whole factor that keeps them within this side in a film."""
RATE = 25
"""Frames of a film per second."""


def to_image(images: Tensor | np.ndarray) -> Image.Image:
    """Generated images as a picture that can be shown and saved.

    Args:
        images: floats in [-1, 1], as `Model.sample` returns them; values outside are clipped. (channels, height, width): one image,
            pixel for pixel. (n, channels, height, width): a grid of n images, as square as possible, small images enlarged by a whole
            factor; `[to_image(image) for image in images]` has one picture of each.

    Returns:
        8 bits for each of 1 to 4 channels: grey, grey and alpha, RGB, or RGBA.

    Raises:
        LeafwingError: another shape, or values that are not floating-point numbers.
    """
    tensor = as_tensor(images) if isinstance(images, np.ndarray) else torch.as_tensor(images)
    if tensor.dim() not in (3, 4) or not 1 <= tensor.shape[-3] <= 4 or not tensor.numel():
        raise LeafwingError(
            "give an image (channels, height, width) of 1 to 4 channels, or n of them (n, channels, height, width), not a tensor of "
            f"shape {tuple(tensor.shape)}"
        )
    if not tensor.is_floating_point():
        raise LeafwingError(f"give floating-point values in [-1, 1], not {tensor.dtype}")
    if tensor.dim() == 3:
        return pictures.to_image(pictures.to_pixels(tensor[None])[0])
    return pictures.tile(pictures.upscale(pictures.to_pixels(tensor)))


def grid(kind: Field, samples: Tensor, columns: int | None, spec: DataSpec, inputs: Batch) -> Image.Image:
    """Samples as a grid, small images enlarged by a whole factor; clips as strips of frames, points as a plot.

    Args:
        kind: their field.
        samples: in the format of networks, (n, *kind.shape).
        columns: images per row; None: as square as possible, or one strip of frames.
        spec: the fields of the conditions.
        inputs: the conditions; those in which samples differ are written beside or below them.

    Raises:
        LeafwingError: samples that cannot be drawn.
    """
    if isinstance(kind, fields.Vector) and kind.size > 1:
        return pictures.scatter(samples)
    if not kind.has_pixels:
        raise LeafwingError(f"{describe_kind(kind)} cannot be drawn as an image")
    columns = columns or pictures.columns_of(kind, len(samples))
    pictures.check_size(kind, len(samples), columns)
    return pictures.sample_grid(kind, kind.to_stored(samples).numpy(), columns, spec, inputs).image()


@dataclass(frozen=True)
class Film:
    """An animation, which notebooks show.

    Args:
        frames: the images, all of one size.
        step: how long each is shown, in milliseconds.
        conditions: what all frames show, as text: a class, attributes; empty without.
    """

    frames: Sequence[Image.Image]
    step: int
    conditions: str = ""

    def save(self, path: str | Path, *, progress: Progress = None) -> Path:
        """Writes the film as .webp, .gif or .mp4, which needs PyAV (`leafwing[film]`); an existing file is replaced, and a folder that
        does not exist is made.

        Args:
            path: the file.
            progress: True or None: if the size of a film is changed, that is shown; False: not; or a `leafwing.Reporter`.

        Raises:
            LeafwingError: another file type, or PyAV is not installed.
            StorageError: the file cannot be written.
        """
        reporter, path = reporter_of(progress), Path(os.path.expanduser(path))
        films.require(path)
        with files.storage(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
        if note := films.write(path, self.frames, self.step):
            reporter.say(f"{path}: {note}")
        return path

    def __repr__(self) -> str:
        width, height = self.frames[0].size
        what = f", all of {self.conditions}" if self.conditions else ""
        return f"Film({len(self.frames)} frames of {width}x{height}, {len(self.frames) * self.step / 1_000:g} s{what})"

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        first, *others = self.frames
        first.save(buffer, "WEBP", save_all=True, append_images=others, duration=self.step, loop=0, quality=85)
        return notebook.picture(buffer.getvalue(), "webp") + (
            f"<p>all of {escape(self.conditions)}</p>" if self.conditions else ""
        )


def frames(kind: Field, seconds: float) -> int:
    """Number of frames of a film of this duration.

    Raises:
        LeafwingError: samples that are not images, or a duration that is not between 0 and an hour.
    """
    if not kind.has_pixels or isinstance(kind, fields.Clip):
        raise LeafwingError(f"a film shows images, and these samples are {describe_kind(kind)}")
    films.check_seconds(seconds)
    return max(2, round(RATE * seconds))


def film(kind: Field, samples: Tensor, seconds: float, spec: DataSpec, inputs: Batch) -> Film:
    """Samples (n, *kind.shape), one after the other, as a film of this duration; small images are enlarged by a whole factor.

    The fields `spec` and values `inputs` are those of the conditions that all samples have.
    """
    pixels = pictures.draw(kind, kind.to_stored(samples).numpy())
    pixels = pictures.enlarge_stored(kind, pixels, max(1, SIDE // max(pixels.shape[1:3])), 1)
    conditions = "".join(pictures.captions_of(spec, inputs)[:1])
    return Film([pictures.to_image(image) for image in pixels], max(1, round(1_000 * seconds / len(samples))), conditions)
