"""Animations as files: what was written, decoded again; sizes, durations, colours, transparency; what cannot be written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from leafwing import films
from leafwing.errors import LeafwingError, StorageError
from leafwing.laboratory.sheet import Animation

COLOURS = [(200, 30, 30), (30, 160, 60), (20, 40, 220), (128, 128, 128), (250, 240, 20)]


def images(width: int = 64, height: int = 48, count: int = 5) -> Iterator[Image.Image]:
    """Images of one colour each."""
    return (Image.new("RGB", (width, height), COLOURS[i % len(COLOURS)]) for i in range(count))


def decode(path: Path) -> tuple[list[np.ndarray], Any]:
    """The frames of a film, uint8 (height, width, 3), and what its file says about it."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        codec = stream.codec_context
        assert len({packet.duration for packet in film.demux(stream) if packet.size}) <= 1, "the frame rate is not constant"
        about = {"name": codec.name, "pixels": codec.pix_fmt, "rate": stream.average_rate, "matrix": int(codec.colorspace)}
        return frames, about


def test_a_film_has_all_images_in_their_colours_at_a_constant_rate(tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert films.write(tmp_path / "a.mp4", images(), 40) == ""
    frames, about = decode(tmp_path / "a.mp4")
    assert about == {"name": "h264", "pixels": "yuv420p", "rate": 25, "matrix": 1}
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    for frame, colour in zip(frames, COLOURS, strict=True):  # the matrix of small films, BT.601, would be off by 12 and more
        assert np.abs(frame.astype(int).mean((0, 1)) - colour).max() < 6


@pytest.mark.parametrize(("step", "rate", "each"), [(21, Fraction(1000, 21), 1), (100, 10, 1), (250, 12, 3), (1000, 10, 10)])
def test_images_that_are_shown_long_are_repeated(tmp_path: Path, step: int, rate: Fraction, each: int) -> None:
    pytest.importorskip("av")
    films.write(tmp_path / "a.mp4", images(count=3), step)
    frames, about = decode(tmp_path / "a.mp4")
    assert len(frames) == 3 * each
    assert about["rate"] == rate
    changes = [i for i in range(1, len(frames)) if np.abs(frames[i].astype(int) - frames[i - 1]).max() > 60]
    assert changes == [each, 2 * each]


def test_the_last_image_is_shown_longer(tmp_path: Path) -> None:
    pytest.importorskip("av")
    films.write(tmp_path / "a.mp4", images(count=2), 50, last=1_000)
    assert len(decode(tmp_path / "a.mp4")[0]) == 1 + 20


def test_odd_sizes_are_padded_by_a_pixel_of_the_edge_and_that_is_said(tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert "64x48 pixels, padded by one pixel to an even size from 63x47" in films.write(
        tmp_path / "a.mp4", images(63, 47), 40
    )
    frames, _ = decode(tmp_path / "a.mp4")
    assert frames[0].shape == (48, 64, 3)
    assert np.abs(frames[0][-1, -1].astype(int) - COLOURS[0]).max() < 6


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 48), (64, 48)),
        ((1, 1), (2, 2)),
        ((4096, 2304), (4096, 2304)),
        ((8194, 8210), (3068, 3074)),
        ((10_000, 100), (4096, 40)),
        ((20_000, 1), (4096, 2)),
    ],
)
def test_films_have_even_sizes_that_devices_play(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert films.film_size(*size) == expected
    assert bool(films.changes(*size)) == (size != expected)


def test_large_images_are_reduced(tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert "reduced from 5000x100" in films.write(tmp_path / "a.mp4", images(5000, 100, 1), 40)
    (frame,), _ = decode(tmp_path / "a.mp4")
    assert frame.shape == (80, 4096, 3)
    assert np.abs(frame.astype(int).mean((0, 1)) - COLOURS[0]).max() < 3


def test_transparency_is_on_white_in_a_film(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for mode, colour in (("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))):
        films.write(tmp_path / f"{mode}.mp4", [Image.new(mode, (16, 16), colour)], 40)
        assert decode(tmp_path / f"{mode}.mp4")[0][0].min() > 250


def test_images_are_encoded_as_they_arrive(tmp_path: Path) -> None:
    pytest.importorskip("av")
    alive = most = 0

    class Counted(Image.Image):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def made() -> Iterator[Image.Image]:
        nonlocal alive, most
        for image in images(count=50):
            image.__class__ = Counted
            alive += 1
            most = max(most, alive)
            yield image

    films.write(tmp_path / "a.mp4", made(), 40)
    assert most <= 4
    assert len(decode(tmp_path / "a.mp4")[0]) == 50


def test_a_film_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    films.write(path, images(), 40)
    before = path.read_bytes()

    def broken() -> Iterator[Image.Image]:
        yield from images()
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        films.write(path, broken(), 40)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
    with pytest.raises(StorageError, match="cannot write"):
        films.write(tmp_path / "missing" / "a.mp4", images(), 40)


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_other_animations_loop_and_have_durations(tmp_path: Path, kind: str) -> None:
    films.write(tmp_path / f"a.{kind}", images(count=3), 40, last=1_000)
    with Image.open(tmp_path / f"a.{kind}") as animation:
        assert animation.info["loop"] == 0
        frames = [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(animation)]
    assert [duration for _, duration in frames] == [40, 40, 1_000]
    for (frame, _), colour in zip(frames, COLOURS, strict=False):
        assert np.abs(np.asarray(frame).astype(int).mean((0, 1)) - colour).max() < 6


def test_another_type_is_an_error_that_lists_the_types(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"\.avi: .*\.webp, \.gif, \.mp4"):
        films.write(tmp_path / "a.avi", images(), 40)


@pytest.mark.parametrize("kind", ["webp", "gif", "mp4"])
def test_no_images_and_images_of_two_sizes_are_errors(tmp_path: Path, kind: str) -> None:
    if kind == "mp4":
        pytest.importorskip("av")
    with pytest.raises(LeafwingError, match="needs at least one image"):
        films.write(tmp_path / f"a.{kind}", [], 40)
    with pytest.raises(LeafwingError, match="not of 64x48 and 64x50"):
        films.write(tmp_path / f"a.{kind}", [*images(), *images(64, 50)], 40)
    assert not [*tmp_path.iterdir()]


@given(st.floats(0.01, 60), st.integers(1, 300), st.integers(1, 100), st.integers(0, 3_000))
def test_an_animation_lasts_as_long_as_it_should_or_says_how_long(seconds: float, count: int, least: int, last: int) -> None:
    step, final = films.timing(seconds, count, least, last)
    assert least <= step <= final * (1 + 1e-9)
    real = ((count - 1) * step + final) / 1_000
    assert real == pytest.approx(max(seconds, count * least / 1_000))
    assert bool(films.longer(seconds, count, least)) == (count * least / 1_000 > seconds)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_frames_with_transparent_parts_replace_each_other(tmp_path: Path, kind: str, channels: int) -> None:
    clip = np.zeros((4, 16, 16, channels), np.uint8)
    clip[..., 0] = 40  # or libwebp says that the file has no alpha
    for i in range(4):
        clip[i, :, 4 * i : 4 * i + 4, -1] = 255
    films.write(tmp_path / f"a.{kind}", [Image.fromarray(frame) for frame in clip], 100, lossless=True)
    with Image.open(tmp_path / f"a.{kind}") as film:
        alpha = [np.asarray(frame.convert("RGBA"))[..., 3] for frame in ImageSequence.Iterator(film)]
    assert np.array_equal(alpha, clip[..., -1])


def test_an_animation_that_lasts_longer_than_it_should_says_so() -> None:
    assert films.longer(2, 100, 20) == ""
    assert films.longer(2, 101, 20).startswith("it lasts 2.02 s instead of 2: 101 images")
    animation = Animation([np.zeros((8, 8, 3), np.uint8)] * 101, 2.0)
    assert (animation.step, animation.note) == (20, films.longer(2, 101, 20))


def test_a_pyav_without_the_encoder_or_the_names_of_colours_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av = pytest.importorskip("av")

    def missing(name: str, mode: str) -> None:
        raise ValueError(name)

    with monkeypatch.context() as patch:
        patch.setattr(av, "Codec", missing)
        with pytest.raises(LeafwingError, match=r"another PyAV than .*libx264.*leafwing\[film\]"):
            films.require(tmp_path / "a.mp4")
    monkeypatch.delattr("av.video.reformatter.ColorTrc")
    with pytest.raises(LeafwingError, match=r"another PyAV than .*ColorTrc"):
        films.require(tmp_path / "a.mp4")


def test_without_pyav_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(LeafwingError, match=r"leafwing\[film\]"):
        films.write(tmp_path / "a.mp4", images(), 40)
    assert not [*tmp_path.iterdir()]
