"""What files are that Pillow does not open; small repairs of JPEG and PNG files; colour profiles.

Only first bytes and extensions are looked at: nothing here decodes an image, except with Pillow.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

FILM = "a film, not an image: make images of it first, such as ffmpeg -i FILM -r 2 images/%05d.png"
CONVERT = "convert it to JPEG or PNG"
PICTURES: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (4, (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1"),
     "HEIC, the format of iPhones, which is read only with a plugin: pip install pillow-heif; or convert it to JPEG"),
    (0, (b"\xff\x0a", b"\0\0\0\x0cJXL "), "JPEG XL, which is read only with a plugin: pip install pillow-jxl-plugin; or convert it"),
    (128, (b"DICM",), "DICOM, which is not read: convert it to 16-bit PNG or TIFF"),
    (0, (b"8BPS",), f"a Photoshop file, which is not read: {CONVERT}"),
    (0, (b"II*\0\x10\0\0\0CR",), f"a camera's raw file, which is not read: {CONVERT}"),
    (4, (b"ftypcrx",), f"a camera's raw file, which is not read: {CONVERT}"),
    (0, (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS"), f"a camera's raw file, which is not read: {CONVERT}"),
    (0, (b"v/1\x01",), "OpenEXR, which is not read: convert it to floating-point TIFF or PNG"),
    (0, (b"\0\0\1\0",), f"an icon, which is not read: {CONVERT}"),
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), f"PostScript, which is not read: {CONVERT}"),
    (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
     "a TIFF of a kind that is not read (floating-point colours, 16 bits with alpha, a camera's raw file), or a corrupt one: save it "
     "with 8 bits a colour, or as 16-bit greyscale"),
)  # fmt: skip
"""Pictures that are not read: position, first bytes there, and what they are."""
OTHERS: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (0, (b"version https://git-lfs",), "a Git LFS pointer instead of the file: run `git lfs pull`"),
    (4, (b"ftypqt", b"ftypisom", b"ftypmp4", b"ftypM4V", b"ftypavc", b"ftyp3gp"), FILM),
    (0, (b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3"), FILM),
    (0, (b"PK\3\4", b"PK\5\6"), "an archive inside the source: give it as the source, or unpack it"),
    (257, (b"ustar",), "an archive inside the source: give it as the source, or unpack it"),
    (0, (b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x1f\x8b", b"BZh", b"\xfd7zXZ"), "a compressed file: unpack it"),
    (0, (b"\x89HDF",), "an HDF5 file: rename it to .h5 and give it as the source"),
    (0, (b"PAR1",), "a Parquet file: rename it to .parquet and give it as the source"),
    (0, (b"\x93NUMPY",), "a NumPy array: give an array of images (n, height, width, channels) as the source"),
    (0, (b"MATLAB",), "a MATLAB file: export its images as PNG files"),
    (0, (b"%PDF",), "a PDF, not an image"),
    (0, (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
     "a Python pickle, which is not read because it could run code: save its images with numpy.savez"),
    (16, (b"\xde\xc0\xef\xbe",), "an LMDB database: export its images as files"),
    (0, (b"\0\5\x16\7", b"\0\0\1\0\0\0"), "a file of macOS without an image (resource fork)"),
)  # fmt: skip
"""Other files: position, first bytes there, and what they are."""
BY_SUFFIX = {
    ".tga": f"a TGA file, which is not read: {CONVERT}",
    ".nii": "NIfTI, which is not read: export its slices as 16-bit PNG or TIFF",
    ".nii.gz": "NIfTI, which is not read: export its slices as 16-bit PNG or TIFF",
    **dict.fromkeys((".nef", ".arw", ".dng", ".orf", ".rw2"), f"a camera's raw file, which is not read: {CONVERT}"),
}
"""Pictures that are not read, by extension."""


def describe(data: bytes) -> tuple[str, bool]:
    """What a file is that Pillow does not open, and whether it is a picture of a kind that is not read; ("", False) if not known."""
    if data.startswith(b"PK\3\4") and any(name in data[:4096] for name in (b"[Content_Types].xml", b"xl/", b"word/")):
        return "an Office document (.xlsx, .docx), not an image: save tables as CSV", False
    for kinds, is_picture in ((OTHERS, False), (PICTURES, True)):
        for position, starts, what in kinds:
            if any(data.startswith(start, position) for start in starts):
                return what, is_picture
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head):
        return f"SVG, a drawing, which is not read: {CONVERT}", True
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page instead of the file: the download failed", False
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return FILM, False
    return "", False


def describe_name(name: str) -> str:
    """What a file is by its extension, if its content does not tell; empty if not known."""
    lower = name.lower()
    return next((what for suffix, what in BY_SUFFIX.items() if lower.endswith(suffix)), "")


def register_plugins() -> None:
    """Lets Pillow open HEIC and JPEG XL if their plugins are installed."""
    with suppress(ImportError):
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]

        pillow_heif.register_heif_opener()
    with suppress(ImportError):
        import pillow_jxl  # type: ignore[import-not-found,unused-ignore]  # noqa: F401  # registers itself


# --- repairs ----------------------------------------------------------------------------------------------------------------


def repair(data: bytes, largest: int) -> bytes | None:
    """A file that Pillow refuses for no good reason, as one that it opens; None if it is really damaged.

    A JPEG file may lack its end marker, and a PNG file may have large or damaged chunks that are no pixels.

    Args:
        data: the file.
        largest: number of pixels above which nothing is decoded.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _with_end(data, largest)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _pixels_only(data)
    return None


def _with_end(data: bytes, largest: int) -> bytes | None:
    """A JPEG file with an end marker, if nothing but that is missing: then further bytes before the marker change no pixel."""
    if data.endswith(b"\xff\xd9"):
        return None
    scan = data.rstrip(b"\xff") if data.endswith(b"\xff") else data
    pixels = set()
    for filler in (b"", b"\x55" * 64, b"\xaa" * 64):
        image = Image.open(io.BytesIO(scan + filler + b"\xff\xd9"), formats=("JPEG",))
        if image.width * image.height > largest:
            return None
        pixels.add(hashlib.sha256(np.asarray(image).tobytes()).digest())
    return scan + b"\xff\xd9" if len(pixels) == 1 else None


def _pixels_only(data: bytes) -> bytes | None:
    """A PNG file with only those chunks that determine its pixels; None if one of them is damaged."""
    parts = [data[:8]]
    for kind, body, checksum in _chunks(data):
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"IEND"):
            if zlib.crc32(kind + body) != checksum:
                return None
            parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum))
    return b"".join(parts) if parts[-1][4:8] == b"IEND" else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Type, content and checksum of the complete chunks of a PNG file."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            return
        yield kind, data[position + 8 : end - 4], struct.unpack_from(">I", data, end - 4)[0]
        position = end


# --- grey with alpha and 16 bits ----------------------------------------------------------------------------------------------

SPLIT = "leafwing.split"
"""Key of `Image.info` in images whose four channels are the high and the low bytes of grey and of alpha."""


def split_bytes(data: bytes) -> bytes | None:
    """A PNG file of grey and alpha with 16 bits as one with four channels of 8 bits, which are their bytes; None for other files.

    Pillow drops the low bytes of such files. A pixel has four bytes in both, so that filters and interlacing are the same.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or data[24:26] != b"\x10\x04" or len(data) < 33:
        return None
    header = data[12:24] + b"\x08\x06" + data[26:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def join_bytes(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The values and the alpha of such an image: (height, width), uint16 and uint8."""
    parts = np.asarray(image)
    return parts[..., 0].astype(np.uint16) << 8 | parts[..., 1], parts[..., 2]


# --- white is zero ------------------------------------------------------------------------------------------------------------

_PHOTOMETRIC = 262


def is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a greyscale TIFF with 16 bits, as scanners and X-ray machines write it; Pillow inverts only fewer bits."""
    return image.format == "TIFF" and image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def to_positive(image: Image.Image) -> Image.Image:
    """Inverts such an image; returns others unchanged."""
    return Image.fromarray(65535 - np.asarray(image)) if is_negative(image) else image


# --- colour profiles ----------------------------------------------------------------------------------------------------------


def has_profile(image: Image.Image) -> bool:
    """Whether an image has a colour profile other than sRGB that can be converted."""
    profile = image.info.get("icc_profile")
    colours = image.mode in ("RGB", "RGBA", "CMYK") and SPLIT not in image.info
    return bool(profile) and colours and _transform(profile, image.mode) is not None


def to_srgb(image: Image.Image) -> Image.Image:
    """Converts an image with another colour profile to sRGB; returns others unchanged."""
    if not has_profile(image):
        return image
    from PIL import ImageCms

    profile = image.info["icc_profile"]
    if image.has_transparency_data and image.mode == "RGB":  # a colour that is transparent
        image = image.convert("RGBA")
    try:
        converted = ImageCms.applyTransform(image, _transform(profile, image.mode))
    except (ImageCms.PyCMSError, ValueError):
        return image
    return converted if converted is not None else image


_COLOURS = [(red, green, blue) for red in (0, 128, 255) for green in (0, 128, 255) for blue in (0, 128, 255)]
_ALIKE = 4
"""A profile that changes no colour by more than this, of 255, is sRGB."""


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> Any:
    """The transform from a profile to sRGB; None for sRGB, and for profiles that cannot be used."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != mode.removesuffix("A"):
            return None
        target = "RGBA" if mode == "RGBA" else "RGB"
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, target)
        if mode == "CMYK":
            return transform
        colours = Image.new(mode, (len(_COLOURS), 1))
        colours.putdata([(*colour, 255)[: len(mode)] for colour in _COLOURS])
        changed = ImageCms.applyTransform(colours, transform)
        difference = np.abs(np.asarray(changed, np.int16) - np.asarray(colours, np.int16)).max()
        return transform if difference > _ALIKE else None
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
