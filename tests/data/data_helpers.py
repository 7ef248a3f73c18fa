"""Small sources for the tests of `leafwing.data`."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")


def picture(seed: int, height: int = 40, width: int = 40, channels: int = 3) -> np.ndarray:
    """A smooth random image (height, width, channels), or (height, width) for one channel; a different one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, channels), dtype=np.uint8)
    image = Image.fromarray(small if channels > 1 else small[:, :, 0])
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray | Image.Image, format: str = "PNG", **how: Any) -> bytes:
    """An image file in memory."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, format, **how)
    return file.getvalue()


def negative(pixels: np.ndarray) -> bytes:
    """A greyscale TIFF file with 16 bits in which 0 is white, of pixels in which it is black."""
    data = encoded(65535 - pixels, "TIFF")
    black_is_zero = struct.pack("<HHIH", 262, 3, 1, 1)
    assert data.count(black_is_zero) == 1
    return data.replace(black_is_zero, struct.pack("<HHIH", 262, 3, 1, 0))


def write(folder: Path, names: list[str], **how: Any) -> Path:
    """Writes PNG files, all different, to these paths below a folder."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(index, **how)))
    return folder


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} | environment
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, timeout=120, check=False
    )
