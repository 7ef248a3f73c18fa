"""Files that are not read say what they are; small faults of JPEG and PNG files are repaired; colour profiles are converted."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import encoded, picture
from PIL import Image, ImageCms

from leafwing.data import formats, load, pictures
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path_factory.mktemp("cache")))


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def fill(count: int = 8) -> dict[str, bytes]:
    return {f"{i}.png": encoded(picture(i, 40, 40)) for i in range(count)}


def reasons(path: Path) -> dict[str, str]:
    return {reject.name: reject.reason for reject in load(path, size=40).rejects}


KINDS: dict[str, tuple[bytes, str]] = {
    "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC, .*pillow-heif"),
    "b.jxl": (b"\xff\x0a" + bytes(20), "JPEG XL, .*pillow-jxl-plugin"),
    "c.dcm": (bytes(128) + b"DICM" + bytes(20), "DICOM"),
    "d.nii.gz": (b"\x1f\x8b" + bytes(20), "NIfTI"),
    "e.psd": (b"8BPS\0\1" + bytes(20), "Photoshop"),
    "f.mp4": (b"\0\0\0\x18ftypmp42" + bytes(20), "a film, .* ffmpeg -i"),
    "g.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), "a camera's raw file"),
    "h.tga": (b"\0\0\2" + bytes(20), "TGA"),
    "i.svg": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "SVG"),
    "j.exr": (b"v/1\x01" + bytes(20), "OpenEXR"),
    "k.jpg": (b"<!DOCTYPE html><html></html>", "a web page instead of the file"),
    "l.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "m.hdf": (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
    "n.zip": (b"PK\3\4" + bytes(20), "an archive inside the source: give it as the source"),
    "n.xlsx": (b"PK\3\4" + bytes(26) + b"[Content_Types].xml", "an Office document"),
    "data_batch_1": (b"\x80\x03}q" + bytes(20), "a Python pickle, which is not read because it could run code"),
    "data.mdb": (bytes(16) + b"\xde\xc0\xef\xbe" + bytes(20), "LMDB"),
    "_n.jpg": (b"\0\5\x16\7" + bytes(20), "a file of macOS"),
    "o.tif": (b"II*\0" + bytes(20), "a TIFF of a kind that is not read"),
    "p.jpg": (b"", "empty file"),
    "q.jpg": (b"nothing", "^not an image$"),
    "r.png": (b"\x89PNG\r\n\x1a\n", "broken header"),
}


def test_files_that_are_not_read_say_what_they_are(tmp_path: Path) -> None:
    plugins = {"a.heic": "pillow_heif", "b.jxl": "pillow_jxl"}
    kinds = {name: kind for name, kind in KINDS.items() if name not in plugins or not find_spec(plugins[name])}
    found = reasons(put(tmp_path / "set", fill(40) | {name: content for name, (content, _) in kinds.items()}))
    assert found.keys() == kinds.keys()
    for name, (_, reason) in kinds.items():
        assert re.search(reason, found[name]), (name, found[name])


@pytest.mark.parametrize("name", ["data_batch_1", "data.rar", "c.dcm"])
def test_a_source_that_is_not_read_says_what_it_is(tmp_path: Path, name: str) -> None:
    content, what = KINDS.get(name, (b"Rar!\x1a\7\0", "a compressed file: unpack it"))
    with pytest.raises(LeafwingError, match=f"{what}.*or give a folder of images"):
        load(put(tmp_path / "set", {name: content}) / name)


def test_a_refusal_names_each_reason_once(tmp_path: Path) -> None:
    heic = {f"{i}.HEIC": KINDS["a.heic"][0] for i in range(9)}
    with pytest.raises(LeafwingError, match=r"0\.HEIC and 8 more: HEIC") as refusal:
        load(put(tmp_path / "set", fill(4) | heic))
    assert str(refusal.value).count("pillow-heif") == 1


def test_pictures_that_are_not_read_count_as_lost(tmp_path: Path) -> None:
    heic = {f"{i}.HEIC": KINDS["a.heic"][0] for i in range(9)}
    report = doctor(put(tmp_path / "set", fill(8) | heic))
    assert any("9 of 17 images cannot be read, more than half" in text for text in report.advice)
    films = {f"{i}.mp4": KINDS["f.mp4"][0] for i in range(9)}
    assert len(load(put(tmp_path / "films", fill(8) | films), size=40)) == 8


def test_rejects_are_listed_by_reason(tmp_path: Path) -> None:
    small = {f"small{i}.png": encoded(picture(i, 8 + i, 9)) for i in range(5)}
    text = doctor(put(tmp_path / "set", fill() | small | {"x.jpg": b"", "y.jpg": b""}), size=40).text()
    assert "    5 files: small0.png, small1.png, small2.png and 2 more: too small: 8x9" in text
    assert "    2 files: x.jpg, y.jpg: empty file" in text


# --- repairs -----------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body) if checksum is None else checksum)
    )


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed, 61, 75)).save(file, "JPEG", quality=95)
    return file.getvalue()


PNG, JPEG = encoded(picture(99, 40, 40)), jpeg(99)
START = 33
"""Bytes of a PNG file up to the end of its header."""


@pytest.mark.parametrize(
    "content",
    [
        PNG[:START] + chunk(b"iCCP", b"x\0\0" + zlib.compress(np.random.default_rng(0).bytes(1_500_000))) + PNG[START:],
        PNG[:START] + chunk(b"zTXt", b"c\0\0" + zlib.compress(b"A" * 3_000_000)) + PNG[START:],
        PNG[:START] + chunk(b"tEXt", b"c\0hello", 1) + PNG[START:],
        PNG + b"\0\0",
    ],
    ids=["large profile", "large text", "wrong checksum of a text", "more bytes"],
)  # fmt: skip
def test_png_files_whose_pixels_are_intact_are_read(tmp_path: Path, content: bytes) -> None:
    data = load(put(tmp_path / "set", {"a.png": content, **fill(2)}), size=40)
    assert not data.rejects
    assert np.array_equal(data.array[data_index(data, "a.png", tmp_path)], picture(99, 40, 40))


def data_index(data: Any, name: str, folder: Path) -> int:
    return sorted(path.name for path in (folder / "set").iterdir()).index(name)


@pytest.mark.parametrize("missing", [1, 2])
def test_jpeg_files_without_an_end_marker_are_read(tmp_path: Path, missing: int) -> None:
    data = load(put(tmp_path / "set", {"a.jpg": JPEG[:-missing], "b.jpg": JPEG}), size=(61, 75))
    assert not data.rejects
    assert np.array_equal(data.array[0], data.array[1])


@pytest.mark.parametrize(
    "content", [JPEG[:-20], JPEG[: len(JPEG) // 2], JPEG[:300], PNG[: len(PNG) // 2], PNG[:-40] + b"xxxx" + PNG[-36:]]
)
def test_damaged_pixels_are_not_repaired(tmp_path: Path, content: bytes) -> None:
    found = reasons(put(tmp_path / "set", {"bad": content, **fill(4)}))
    assert found.keys() == {"bad"}
    assert "truncated or corrupt" in found["bad"]


def test_a_truncated_file_that_claims_to_be_large_is_not_decoded() -> None:
    assert formats.repair(JPEG[:-2], 61 * 75) == JPEG
    assert formats.repair(JPEG[:-2], 61 * 75 - 1) is None


def test_large_jpeg_files_are_decoded_at_a_reduced_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafwing.data.pictures.LARGEST_PIXELS", 300 * 300)
    ramp = np.tile(np.linspace(0, 255, 800).astype(np.uint8), (600, 1))
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "JPEG", quality=95)
    path = put(tmp_path / "set", {"large.jpg": file.getvalue(), "large.png": encoded(np.dstack([ramp] * 3)), **fill(4)})
    data = load(path, size=(30, 40))
    assert {reject.name for reject in data.rejects} == {"large.png"}
    assert "a decompression bomb, or too large" in data.rejects[0].reason
    expected = np.asarray(Image.fromarray(ramp).resize((40, 30), Image.Resampling.LANCZOS))
    assert np.abs(data.array[-1, :, :, 0].astype(int) - expected).max() <= 4
    assert "large.jpg" in {reject.name for reject in load(path, size=(30, 40), fit="tiles").rejects}


# --- colour profiles -----------------------------------------------------------------------------------------------------------


def swapped_profile() -> bytes:
    """sRGB with red and green exchanged."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {}
    for index in range(struct.unpack(">I", plain[128:132])[0]):
        place = 132 + 12 * index
        tags[plain[place : place + 4]] = place
    swapped = bytearray(plain)
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(swapped)


def test_colour_profiles_are_converted_to_srgb(tmp_path: Path) -> None:
    pixels = picture(5, 40, 40)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = {}
    for name, profile in (("a.png", None), ("b.png", srgb), ("c.png", swapped_profile()), ("d.png", b"garbage")):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", icc_profile=profile)
        files[name] = file.getvalue()
    data = load(put(tmp_path / "set", files), size=40)
    assert "Images with a colour profile other than sRGB: 1; they are converted to sRGB." in data.notes
    for index in (0, 1, 3):
        assert np.array_equal(data.array[index], pixels)
    assert np.abs(data.array[2].astype(int) - pixels[..., [1, 0, 2]]).max() <= 3


@pytest.mark.parametrize(("mode", "channels", "kept"), [("RGBA", 3, 4), ("LA", 1, 2)])
def test_transparency_that_is_lost_is_mentioned(tmp_path: Path, mode: str, channels: int, kept: int) -> None:
    see_through = np.full((40, 40, kept), 90, np.uint8)
    path = put(tmp_path / "set", {"a.png": encoded(see_through), "b.png": encoded(see_through[..., :channels].squeeze())})
    text = f"Images with transparency: 1; they are put on white, and --channels {kept} keeps it."
    assert text in load(path).notes
    assert text in doctor(path).notes
    for chosen in (channels, kept):
        assert "transparency" not in "".join([*load(path, channels=chosen).notes, *doctor(path, channels=chosen).advice])


def test_a_profile_changes_neither_orientation_nor_transparency(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, clear = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture(5, 40, 60)).save(turned, "JPEG", exif=exif, icc_profile=swapped_profile(), quality=95)
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[:, 20:] = 90
    Image.fromarray(pixels).save(clear, "PNG", transparency=(0, 0, 0), icc_profile=swapped_profile())
    data = load(put(tmp_path / "set", {"a.jpg": turned.getvalue(), "b.png": clear.getvalue()}), size=(60, 40))
    upright = np.rot90(picture(5, 40, 60), -1)[..., [1, 0, 2]]
    assert np.abs(data.array[0].astype(int) - upright).mean() < 12
    assert data.array[1, :, :20].min() == 255, "transparent on white"


def test_grey_images_in_colour_are_mentioned(tmp_path: Path) -> None:
    grey = {f"{i}.png": encoded(np.dstack([picture(i, 40, 40)[..., 0]] * 3)) for i in range(4)}
    note = "All images are grey, but stored in colour"
    assert any(note in text for text in load(put(tmp_path / "set", grey), size=40).notes)
    assert not any(note in text for text in load(tmp_path / "set", size=40, channels=1).notes)
    assert not any(note in text for text in load(put(tmp_path / "colour", grey | {"x.png": PNG}), size=40).notes)


def test_plugins_are_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them nothing fails, and the files that need them say which."""
    for plugin in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, plugin, None)
    monkeypatch.setattr(Image, "OPEN", {name: how for name, how in Image.OPEN.items() if name not in ("HEIF", "JXL")})
    pictures._formats.cache_clear()
    try:
        found = reasons(put(tmp_path / "set", fill() | {name: KINDS[name][0] for name in ("a.heic", "b.jxl")}))
    finally:
        pictures._formats.cache_clear()
    assert "pip install pillow-heif" in found["a.heic"]
    assert "pip install pillow-jxl-plugin" in found["b.jxl"]


@pytest.mark.parametrize(("plugin", "format"), [("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")])
def test_files_are_read_with_their_plugin(tmp_path: Path, plugin: str, format: str) -> None:
    pytest.importorskip(plugin)
    formats.register_plugins()
    turned = Image.Exif()
    turned[0x0112] = 6
    image, low = Image.fromarray(picture(1, 40, 80)), Image.fromarray(picture(2, 40, 80, 1))
    files = {
        "plain": encoded(image, format, quality=95), "renamed.jpg": encoded(image, format, quality=95),
        "grey": encoded(low, format, quality=95), "turned": encoded(image, format, quality=95, exif=turned.tobytes()),
    }  # fmt: skip
    files["cut"] = files["plain"][: len(files["plain"]) // 2]
    data = load(put(tmp_path / "set", fill(4) | files), size="40x80", fit="stretch")
    assert [reject.name for reject in data.rejects] == ["cut"]
    report = doctor(tmp_path / "set")
    assert report.formats[format] == 4
    names = [*(f"{i}.png" for i in range(4)), "grey", "plain", "renamed.jpg", "turned"]
    assert np.abs(data.array[names.index("plain")].astype(int) - picture(1, 40, 80)).mean() < 16
    upright = [80, 40] if format == "HEIF" else [40, 80]  # in JPEG XL the pixels, not EXIF, say what is up
    with pictures.strict(), pictures.opened(files["turned"]) as opened:
        assert [opened.height, opened.width] == upright
        header = pictures.header(files["turned"])
        assert [header.height, header.width] == upright


@pytest.mark.parametrize(("format", "plugins"), [("WEBP", ("WEBP",)), ("AVIF", pictures.PLUGINS)])
def test_a_format_that_can_be_read_later_is_read_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, plugins: tuple[str, ...]
) -> None:
    """Whether the files have the same times as before or not, and whether a plugin reads it or Pillow itself."""
    source = put(tmp_path / "set", fill(6) | {f"x.{format.lower()}": encoded(picture(9, 40, 40), format)})
    every = pictures._formats()
    monkeypatch.setattr(pictures, "PLUGINS", plugins)
    with monkeypatch.context() as before:
        before.setattr(pictures, "_formats", lambda: tuple(name for name in every if name != format))
        assert (len(load(source, size=40)), len(load(source, size=40).rejects)) == (6, 1)
    assert (len(load(source, size=40)), load(source, size=40).rejects) == (7, [])
    os.utime(source / "0.png", (0, 0))
    assert len(load(source, size=40)) == 7
