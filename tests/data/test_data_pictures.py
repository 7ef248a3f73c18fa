"""Decoding every format and mode, and refusals."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from data_helpers import FORMATS, encoded, negative, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from leafwing.data import pictures
from leafwing.data.options import Target, check
from leafwing.data.pictures import UnreadableImageError, UnusableImageError
from leafwing.errors import LeafwingError


def target(height: int = 16, width: int = 16, channels: int = 3, fit: str = "crop", background: str = "white") -> Target:
    return check((height, width), channels, fit, background).target((1, 1), 1)


def read(data: bytes, to: Target | None = None) -> np.ndarray:
    with pictures.strict():
        pictures.header(data)
        return pictures.decode(data, to or target()).pixels


def flat(colour: object, mode: str = "RGB", size: tuple[int, int] = (24, 24)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def palette_with_hole() -> bytes:
    image = flat(0, "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 12, 24, 24))
    return encoded(image, "PNG", transparency=0)


SIXTEEN = Image.fromarray(np.full((24, 24), 51400, np.uint16))
COLOURS = {
    "rgb": (encoded(flat((200, 100, 50))), (200, 100, 50)),
    "grey": (encoded(flat(77, "L")), (77, 77, 77)),
    "one bit": (encoded(flat(1, "1")), (255, 255, 255)),
    "palette": (encoded(flat((200, 100, 50)).quantize(4)), (200, 100, 50)),
    "clear": (encoded(flat((200, 100, 50, 0), "RGBA")), (255, 255, 255)),
    "half clear": (encoded(flat((200, 100, 50, 128), "RGBA")), (227, 177, 152)),
    "grey and alpha": (encoded(flat((0, 128), "LA")), (127, 127, 127)),
    "colour key": (encoded(flat((9, 9, 9)), transparency=(9, 9, 9)), (255, 255, 255)),
    "16-bit png": (encoded(SIXTEEN), (200, 200, 200)),
    "16-bit tiff": (encoded(SIXTEEN, "TIFF"), (200, 200, 200)),
    "16-bit tiff, 0 is white": (negative(np.asarray(SIXTEEN)), (200, 200, 200)),
    "32-bit tiff": (encoded(Image.fromarray(np.full((24, 24), 51400, np.int32)), "TIFF"), (200, 200, 200)),
    "float tiff": (encoded(flat(0.4, "F"), "TIFF"), (102, 102, 102)),
    "cmyk jpeg": (encoded(flat((0, 255, 255, 0), "CMYK"), "JPEG", quality=95), (255, 0, 0)),
    "cmyk tiff": (encoded(flat((0, 0, 0, 255), "CMYK"), "TIFF"), (0, 0, 0)),
    "ycbcr": (encoded(flat((200, 100, 50)).convert("YCbCr"), "TIFF"), (200, 100, 50)),
}


@pytest.mark.parametrize("name", COLOURS)
def test_modes_preserve_colours(name: str) -> None:
    data, expected = COLOURS[name]
    assert np.abs(read(data).reshape(-1, 3).astype(int) - expected).max() <= 3


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format: str) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 16:] = (255, 0, 0)
    result = read(encoded(pixels, format)).astype(int)
    assert np.abs(result[:, :6] - (0, 0, 0)).max() < 40
    assert np.abs(result[:, 10:] - (255, 0, 0)).max() < 40


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", COLOURS)
def test_every_mode_to_every_number_of_channels(name: str, channels: int) -> None:
    result = read(COLOURS[name][0], target(channels=channels))
    assert result.shape == (16, 16, channels)
    assert result.dtype == np.uint8


def test_16_bit_never_saturates_and_32_bit_is_stretched() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    result = read(encoded(Image.fromarray(ramp)), target(64, 64, 1))
    assert np.abs(result[:, :, 0].astype(int) - ramp // 257).max() <= 1
    wide = np.array([[-1000, 99_000]] * 2, np.int32).repeat(16, 0).repeat(32, 1)
    assert set(np.unique(read(encoded(Image.fromarray(wide), "TIFF"), target(32, 64, 1)))) >= {0, 255}
    floats = np.array([[-3.0, 7.0]] * 2, np.float32).repeat(16, 0).repeat(32, 1)
    assert set(np.unique(read(encoded(Image.fromarray(floats), "TIFF"), target(32, 64, 1)))) >= {0, 255}
    floats[0, 0] = np.nan
    with pytest.raises(UnusableImageError, match="NaN"):
        read(encoded(Image.fromarray(floats), "TIFF"))


def test_alpha_is_preserved_or_composited_on_the_background() -> None:
    data = encoded(flat((200, 100, 50, 0), "RGBA"))
    assert (read(data, target(background="#102030")) == (16, 32, 48)).all()
    assert (read(data, target(channels=4))[:, :, 3] == 0).all()
    half = read(palette_with_hole(), target(24, 24))
    assert (half[2, 2] == 255).all()
    assert tuple(half[20, 2]) == (0, 255, 0)


def test_colours_of_invisible_pixels_do_not_bleed() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, ::2] = (255, 0, 0, 255)
    pixels[:, 1::2] = (0, 255, 0, 0)
    result = read(encoded(pixels), target(channels=4))
    assert result[4:12, 4:12, 0].min() > 240
    assert result[4:12, 4:12, 1].max() < 10


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation: int, format: str) -> None:
    upright = Image.fromarray(np.kron(np.array([[0, 90, 180], [255, 130, 40]], np.uint8), np.ones((32, 32), np.uint8)))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the stored image is the upright one, rotated back
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored.convert("RGB"), format, exif=exif)
    with pictures.strict():
        header = pictures.header(data)
        decoded = pictures.decode(data, target(32, 48, 1, "stretch"))
    if format != "PNG":  # the survey does not search a PNG for trailing EXIF
        assert (header.height, header.width) == (64, 96)
    assert (decoded.height, decoded.width) == (64, 96)
    centres = decoded.pixels[8::16, 8::16, 0].astype(int)
    assert np.abs(centres - [[0, 90, 180], [255, 130, 40]]).max() < 12


def test_first_frame_of_animations() -> None:
    frames = [flat((255, 0, 0)), flat((0, 0, 255))]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        with pictures.strict():
            assert pictures.header(data).frames
        assert np.abs(read(data).astype(int) - (255, 0, 0)).max() <= 6
    with pictures.strict():
        assert not pictures.header(encoded(frames[0], "GIF")).frames


def test_fits() -> None:
    pixels = np.zeros((30, 90, 3), np.uint8)
    pixels[:, 30:60] = (0, 255, 0)
    data = encoded(pixels)
    assert (read(data, target(30, 30))[:, 3:27] == (0, 255, 0)).all()
    padded = read(data, target(30, 30, fit="pad", background="red"))
    assert (padded[:9] == (255, 0, 0)).all()
    assert (padded[21:] == (255, 0, 0)).all()
    assert tuple(padded[15, 15]) == (0, 255, 0)
    clear = read(data, target(30, 30, 4, fit="pad"))
    assert clear[0, 0, 3] == 0
    assert clear[15, 15, 3] == 255
    stretched = read(data, target(30, 30, fit="stretch"))
    assert tuple(stretched[15, 2]) == (0, 0, 0)
    assert tuple(stretched[15, 15]) == (0, 255, 0)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_large_jpeg_in_draft_mode_equals_full_decoding(fit: str) -> None:
    pixels = picture(3, 600, 900)
    data = encoded(pixels, "JPEG", quality=95)
    plain = read(encoded(pixels), target(32, 24, fit=fit)).astype(int)
    assert np.abs(read(data, target(32, 24, fit=fit)).astype(int) - plain).mean() < 3


def test_box_in_pixels_of_the_upright_picture() -> None:
    with pictures.strict():
        decoded = pictures.decode(encoded(picture(1, 100, 300), "JPEG"), target(20, 20))
    assert decoded.box == (100, 0, 200, 100)


REFUSED = {
    "empty": (b"", "empty file"),
    "text": (b"hello, this is a text and no picture", "not an image"),
    "broken header": (b"\x89PNG\r\n\x1a\nnonsense", "truncated or corrupt"),
    "half a jpeg": (encoded(picture(1, 200, 200), "JPEG")[:3000], "truncated"),
    "half a png": (encoded(picture(1, 200, 200))[:2000], "truncated"),
    "small": (encoded(picture(1, 7, 40)), "too small"),
    "bomb": (encoded(Image.new("1", (20_000, 10_000))), "million pixels"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "PostScript, which is not read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(UnusableImageError, match=reason) as error:
        read(data)
    assert isinstance(error.value, UnreadableImageError) == (name not in ("small", "bomb"))


def test_truncated_files_are_refused_even_if_another_library_allows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnreadableImageError):
        read(REFUSED["half a jpeg"][0])


VALID = [encoded(picture(5, 48, 40), format) for format in FORMATS]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_never_crash(data: bytes) -> None:
    with pytest.raises(UnusableImageError):
        read(data)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(VALID), st.data())
def test_damaged_files_never_crash(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data[: draw.draw(st.integers(1, len(data)))])
    for position in draw.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=8)):
        damaged[position] ^= draw.draw(st.integers(1, 255))
    with suppress(UnusableImageError):
        assert read(bytes(damaged)).shape == (16, 16, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["crop", "pad", "stretch"]), st.sampled_from([1, 4]))
def test_any_shape_gives_the_target_or_is_too_small(height: int, width: int, fit: str, channels: int) -> None:
    small = target(9, 17, channels, fit)
    data = encoded(Image.new("RGB", (width, height)))
    if pictures.enlargement(width, height, small) > 2:
        with pytest.raises(UnusableImageError, match="too small"):
            read(data, small)
    else:
        assert read(data, small).shape == (9, 17, channels)


@pytest.mark.parametrize(
    "size", ["64x", "x", "", "0", 0, -4, "-4", "64x0", (1, 2, 3), (4,), True, 1.5, "9999999", 5000, None.__class__]
)
def test_bad_sizes(size: object) -> None:
    with pytest.raises(LeafwingError, match="size="):
        check(size, None, "crop", "white")  # type: ignore[arg-type]


def test_good_and_bad_options() -> None:
    assert check("64x96", None, "crop", "white").size == (64, 96)
    assert check("64", 3, "pad", "#f80").rgb == (255, 136, 0)
    assert check((8, 9), 3, "pad", "black").size == (8, 9)
    for options in ((64, 5, "crop", "white"), (64, True, "crop", "white"), (64, 3, "cover", "white")):
        with pytest.raises(LeafwingError, match=r"channels=|fit="):
            check(*options)
    for background in ("whit", "#ff880080", "", "rgba(1,2,3,4)"):
        with pytest.raises(LeafwingError, match="background="):
            check(64, 3, "crop", background)
