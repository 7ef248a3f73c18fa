"""Generated samples as image files: grids, many individual files, the progress reel (an animation)."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.machine import cores
from leafwing.pixels import to_bytes

if TYPE_CHECKING:
    from leafwing.model import Model

Pixels = NDArray[np.uint8]
REEL_KINDS = (".webp", ".gif", ".mp4")
MAX_QUEUED = 128
"""Maximum number of images queued for writing: enough to keep the threads busy while the next block is generated."""


def to_pixels(samples: Tensor) -> Pixels:
    """(n, channels, height, width) in [-1, 1] -> uint8 (n, height, width, channels)."""
    return to_bytes(samples).permute(0, 2, 3, 1).cpu().numpy()


def to_image(pixels: Pixels) -> Image.Image:
    """An image (height, width, channels) with 1 to 4 channels: grey, grey + alpha, RGB or RGBA."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def png(image: Image.Image) -> bytes:
    """An image encoded as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_pngs(images: Iterable[tuple[Path, Pixels]], threads: int | None = None) -> None:
    """Writes PNG files in parallel, each atomically.

    `images` is consumed as the files are written, so an iterator of any length needs little memory.

    Args:
        images: pairs of path and pixels (height, width, channels).
        threads: number of writer threads. None: the number of cores plus two, because some wait for the disk; at
            most 8.

    Raises:
        StorageError: for the first file that cannot be written; files already written stay, no further ones are started.
    """
    threads = threads or min(8, cores() + 2)
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[None]] = deque()
    try:
        for path, pixels in images:
            pending.append(pool.submit(_write_png, path, pixels))
            if len(pending) > MAX_QUEUED:
                pending.popleft().result()
        for future in pending:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_png(path: Path, pixels: Pixels) -> None:
    files.write(path, png(to_image(pixels)))


def grid(samples: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Images (n, channels, height, width) as a grid, see `tile`, small ones enlarged; points (n, 2) as a scatter plot."""
    return scatter(samples) if samples.dim() == 2 else tile(upscale(to_pixels(samples)), columns, gap)


def tile(pixels: Pixels, columns: int | None = None, gap: int = 2) -> Image.Image:
    """A grid of images (n, height, width, channels).

    Args:
        pixels: the images, in row-major order.
        columns: images per row; default: as square as possible.
        gap: pixels between images.
    """
    n, height, width, channels = pixels.shape
    columns = columns or ceil(sqrt(n))
    rows = ceil(n / columns)
    sheet = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        sheet[top : top + height, left : left + width] = image
    return to_image(sheet)


def upscale(pixels: Pixels, minimum: int = 32) -> Pixels:
    """Images (n, height, width, channels), upscaled by pixel repetition so that the shorter side has about `minimum` pixels."""
    factor = max(1, round(minimum / min(pixels.shape[1:3])))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else pixels


def scatter(points: Tensor, side: int = 512) -> Image.Image:
    """Scatter plot of points (n, 2); the range is a round number that covers 99% of them, with the axes through the origin."""
    values = points.detach().float().cpu().numpy()
    reach = float(np.quantile(np.abs(values), 0.99)) if len(values) else 1.0
    extent = max(1.5 * 2 ** ceil(np.log2(max(reach, 1e-6) / 1.5)), 1e-3)
    sheet = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(sheet)
    draw.line([(0, side / 2), (side, side / 2)], fill=220)
    draw.line([(side / 2, 0), (side / 2, side)], fill=220)
    for x, y in (values * [1, -1] / extent + 1) * side / 2:
        if 0 <= x < side and 0 <= y < side:
            draw.ellipse([x - 1, y - 1, x + 1, y + 1], fill=0)
    draw.text((4, 4), f"±{extent:g}", fill=100)
    return sheet


def sample_sheet(model: Model, seed: int = 0) -> Image.Image:
    """A sheet of samples: one row per class, with the same latents in each; 8 x 8 without labels; a plot of 2,000 points."""
    if model.spec.points:
        return grid(model.sample(2_000, seed))
    if not model.labels:
        return grid(model.sample(64, seed), 8)
    labels = range(min(20, len(model.labels)))
    latents = model.latents(10, seed).repeat(len(labels), 1)
    return grid(model.generate(latents, label=[label for label in labels for _ in range(10)]), 10)


def reel(frames: Sequence[Path], captions: Sequence[str], out: Path, seconds: float = 6.0) -> None:
    """Writes an animation of images, each with a caption below; the last frame is shown longer.

    Args:
        frames: image files, all of the same size.
        captions: one line of text per frame.
        out: a .webp, .gif or .mp4 file; .mp4 needs the program ffmpeg.
        seconds: duration of the animation.
    """
    kind = out.suffix.lower()
    if kind not in REEL_KINDS:
        raise LeafwingError(f"{out}: unsupported file type; choose one of {', '.join(REEL_KINDS)}")
    if kind == ".mp4" and not shutil.which("ffmpeg"):
        raise LeafwingError(f"{out}: .mp4 requires the program ffmpeg, which is not installed; .webp and .gif do not")
    with Image.open(frames[0]) as first:
        scale = max(1, round(256 / min(first.size)))
    images = [_captioned(path, text, scale) for path, text in zip(frames, captions, strict=True)]
    step = max(40, round(1000 * seconds / len(images)))
    if kind == ".mp4":
        with tempfile.TemporaryDirectory() as folder:
            for i, image in enumerate(images):
                image.save(f"{folder}/{i:06d}.png")
            even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
            command = [
                "ffmpeg",
                "-v",
                "error",
                "-y",
                "-framerate",
                str(1000 / step),
                "-i",
                f"{folder}/%06d.png",
                "-vf",
                even,
            ]
            result = subprocess.run([*command, "-pix_fmt", "yuv420p", f"{folder}/reel.mp4"], capture_output=True, text=True)
            if result.returncode:
                raise LeafwingError(f"ffmpeg failed to write {out}: {result.stderr.strip()}")
            files.write(out, Path(folder, "reel.mp4").read_bytes())
        return
    buffer = io.BytesIO()
    durations = [step] * (len(images) - 1) + [max(step, 1500)]
    options = {"quality": 85} if kind == ".webp" else {}
    images[0].save(buffer, kind[1:].upper(), save_all=True, append_images=images[1:], duration=durations, loop=0, **options)
    files.write(out, buffer.getvalue())


def _captioned(path: Path, text: str, scale: int) -> Image.Image:
    with Image.open(path) as frame:
        scaled = frame.convert("RGB").resize((frame.width * scale, frame.height * scale), Image.Resampling.NEAREST)
    sheet = Image.new("RGB", (scaled.width, scaled.height + 16), "white")
    sheet.paste(scaled)
    ImageDraw.Draw(sheet).text((4, scaled.height + 2), text, fill="black")
    return sheet
