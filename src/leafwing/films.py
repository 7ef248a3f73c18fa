"""Animations as files: WebP, GIF, and MP4 films in H.264. What they show is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leafwing import files, optional
from leafwing.errors import InvalidOption, LeafwingError

Kind = Literal["webp", "gif", "mp4"]
KINDS = tuple(f".{kind}" for kind in get_args(Kind))
MAX_STEP = 100
"""A film repeats images that are shown longer than this, in milliseconds: players handle lower frame rates badly."""
MAX_SIDE, MAX_PIXELS = 4_096, 4_096 * 2_304
"""Largest film: that of level 5.1 of H.264, which phones and browsers decode."""
QUALITY = {"crf": "18", "preset": "medium"}
"""Constant quality without visible artefacts, where chroma at half resolution allows that."""


def require(path: Path) -> None:
    """Raises LeafwingError if an animation of this file type cannot be written; called before the computation, not after it."""
    if path.suffix.lower() not in KINDS:
        raise LeafwingError(f"{path}: unsupported file type of animations; choose one of {', '.join(KINDS)}")
    if path.suffix.lower() == ".mp4":
        _av()


def check_seconds(seconds: float) -> None:
    """Raises LeafwingError for a duration that is not between 0 and an hour."""
    if not 0 < seconds < 3600:
        raise InvalidOption("seconds", seconds, "must be more than 0 and less than 3600")


def timing(seconds: float, count: int, least: int, last: int) -> tuple[float, float]:
    """How long each image of an animation is shown, and the last one, in milliseconds: together the time it should last, if that is
    enough.

    Args:
        seconds: how long it should last.
        count: its images.
        least: how long each is shown at least, in milliseconds.
        last: how long the last one is shown, if longer, but no more than half of the time.
    """
    whole = 1_000 * seconds
    step = whole / count
    if step < (final := min(last, whole / 2)):
        step = (whole - final) / (count - 1)
    step = max(least, step)
    return step, max(step, min(last, whole - (count - 1) * step))


def longer(seconds: float, count: int, least: int) -> str:
    """That an animation lasts longer than it should, in words; empty if it does not.

    Args:
        seconds: how long it should last.
        count: its images.
        least: how long each is shown at least, in milliseconds.
    """
    if (real := count * least / 1_000) <= seconds:
        return ""
    return f"it lasts {real:.3g} s instead of {seconds:g}: {count:,} images are shown for at least {least} ms each"


def check_rate(fps: float, ending: str) -> None:
    """Raises LeafwingError for a frame rate that players do not show: more than 60 images a second, of GIF files more than 50."""
    most = 50 if ending == ".gif" else 60
    if not 1 <= fps <= most:
        raise InvalidOption("fps", fps, f"choose from 1 to {most} images a second for a {ending} file")


def write(
    path: Path, frames: Iterable[Image.Image], step: float, *, last: float = 0, lossless: bool = False, loop: bool = True
) -> str:
    """Writes an animation; its type follows from the file's ending.

    MP4 files are H.264 with yuv420p at a constant frame rate; images are encoded as they arrive, so that
    their number does not matter for memory.

    Args:
        path: the file.
        frames: at least one image; all of the same size. Transparency is on white in MP4.
        step: how long each is shown, in milliseconds. WebP files have whole ones, GIF files tens, whose sum is right.
        last: how long the last one is shown, if longer.
        lossless: write WebP without loss.
        loop: whether WebP and GIF files start again at their end. Of MP4 files, the player decides.

    Returns:
        What was changed to make a film of the images: their size. Empty if nothing was.

    Raises:
        LeafwingError: another file type, no images or some of another size, or PyAV, which MP4 needs, is not installed.
        StorageError: the file cannot be written.
    """
    kind, notes = path.suffix.lower(), list[str]()
    require(path)
    frames = _alike(frames)
    if kind == ".mp4":
        files.write(path, lambda temporary: notes.append(_film(temporary, frames, step, max(step, last))))
        return notes[0]
    images = [image.convert("RGBA") if image.mode == "LA" else image for image in frames]  # GIF files lose the alpha of LA
    options: dict[str, Any] = {} if kind == ".gif" else {"lossless": True} if lossless else {"quality": 85}
    options |= {"duration": _durations(len(images), step, last, 10 if kind == ".gif" else 1)}
    if kind == ".gif" and any(image.has_transparency_data for image in images):
        options["disposal"] = 2  # each frame replaces the one before, which would be seen through it
    if kind == ".webp" or loop:
        options["loop"] = 0 if loop else 1  # a GIF file without this number is shown once

    def save(temporary: Path) -> None:
        images[0].save(temporary, kind[1:].upper(), save_all=True, append_images=images[1:], **options)

    files.write(path, save)
    return ""


def _durations(count: int, step: float, last: float, unit: int) -> list[int]:
    """How long each image is shown, in milliseconds: multiples of a unit whose sum is that of equal steps."""
    ends = [round(i * step / unit) * unit for i in range(count)]
    return [b - a for a, b in pairwise([*ends, ends[-1] + round(max(step, last) / unit) * unit])]


def _alike(frames: Iterable[Image.Image]) -> Iterator[Image.Image]:
    """The images of an animation.

    Raises:
        LeafwingError: there are none, or some of another size.
    """
    size = None
    for image in frames:
        size = size or image.size
        if image.size != size:
            raise LeafwingError(
                f"an animation has images of one size, not of {size[0]}x{size[1]} and {image.width}x{image.height}"
            )
        yield image
    if size is None:
        raise LeafwingError("an animation needs at least one image")


def _film(path: Path, frames: Iterable[Image.Image], step: float, last: float) -> str:
    """Encodes an MP4 file; durations as for `write`. Returns how the size was changed."""
    av = _av()
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    repeats = ceil(step / MAX_STEP)
    rate = 1_000 * repeats / Fraction(step).limit_denominator(1_000)
    source = iter(frames)
    first = next(source)
    before, size = first.size, film_size(*first.size)
    try:
        # The index is at the beginning, so that browsers need not load the whole file before they play it.
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate, options=QUALITY)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            # Said in the file, because players assume different colours for small and for large films.
            codec = stream.codec_context
            codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
            codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

            def encode(image: Image.Image, times: int) -> None:
                frame = av.VideoFrame.from_ndarray(_pixels(image, size), format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
                for _ in range(times):
                    frame.pts = None
                    container.mux(stream.encode(frame))

            image = first
            for following in source:
                encode(image, repeats)
                image = following
            encode(image, max(repeats, round(last * float(rate) / 1_000)))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise  # the disk; see files.storage
        raise LeafwingError(f"the film could not be encoded: {error}") from None
    return changes(*before)


def changes(width: int, height: int) -> str:
    """How a film of images of this size differs from them, in words; empty if it has their size."""
    across, down = film_size(width, height)
    if (across, down) == (width, height):
        return ""
    how = "reduced" if across < width else "padded by one pixel to an even size"
    return f"the film has {across}x{down} pixels, {how} from {width}x{height}: other films do not play everywhere"


def film_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a film of images of this size: even, by one more pixel, and no larger than most devices play."""
    scale = min(1.0, MAX_SIDE / max(width, height), sqrt(MAX_PIXELS / (width * height)))
    if scale < 1:
        width, height = (max(2, int(scale * side) // 2 * 2) for side in (width, height))
    return width + width % 2, height + height % 2


def _pixels(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image as uint8 (height, width, 3), enlarged at the right and below by one pixel if needed, or reduced."""
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    width, height = size
    if image.width > width or image.height > height:
        image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image.convert("RGB"))
    return np.pad(pixels, ((0, height - image.height), (0, width - image.width), (0, 0)), "edge")


def _av() -> Any:
    """PyAV: FFmpeg's libraries with an encoder of H.264, for Python.

    Raises:
        LeafwingError: it is not installed, too old, or built without that encoder.
    """
    try:
        import av
    except ImportError:
        raise optional.not_installed("av") from None
    try:
        from av.video import reformatter

        _ = (reformatter.ColorPrimaries.BT709, reformatter.ColorTrc.BT709)
        _ = (reformatter.Colorspace.ITU709, reformatter.ColorRange.MPEG)
        av.Codec("libx264", "w")
    except (ImportError, AttributeError, ValueError) as error:
        version = getattr(av, "__version__", "of an unknown version")
        raise LeafwingError(
            f"MP4 files require another PyAV than {version}, which lacks a part ({error}): {optional.FILM}"
        ) from None
    return av
