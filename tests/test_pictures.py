"""Samples as images: rounding, order and layout of grids, every number of channels, the reel, progress sheets."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from leafwing import fields, files, model_sheet, pictures
from leafwing.conditions import Examples
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import Abilities, Batch, Clock, DataSpec, Game, Nets, Output
from leafwing.layout import GAP, LINE, PAPER
from leafwing.model import Model
from leafwing.parts.priors import Normal

STEP = 128 + GAP
"""From one image of 16 or 32 pixels on a sheet to the next."""


def test_minus_1_is_black_and_1_is_white() -> None:
    samples = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    assert pictures.to_pixels(samples).flatten().tolist() == [0, 128, 255]


def test_every_pixel_value_survives_the_conversion_to_floats_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    samples = (values.float() / 127.5 - 1).reshape(1, 1, 16, 16)
    assert np.array_equal(pictures.to_pixels(samples).flatten(), values.numpy())


def test_values_are_rounded_and_clipped() -> None:
    samples = torch.tensor([100.7, 100.2, 300.0, -20.0]).div(127.5).sub(1).reshape(4, 1, 1, 1)
    assert pictures.to_pixels(samples).flatten().tolist() == [101, 100, 255, 0]


def test_channels_come_last_and_rows_stay_rows() -> None:
    samples = torch.linspace(-1, 1, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    pixels = pictures.to_pixels(samples)
    assert pixels.shape == (2, 4, 5, 3)
    assert pixels.dtype == np.uint8
    for n, c, y, x in ((0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 2, 3), (1, 0, 3, 1)):
        assert pixels[n, y, x, c] == round((samples[n, c, y, x].item() + 1) * 127.5)


def test_half_precision_and_gradients_are_accepted() -> None:
    samples = torch.ones(1, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    assert pictures.to_pixels(samples).min() == 255


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_one_to_four_channels_are_grey_grey_alpha_rgb_and_rgba(channels: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, channels), np.uint8)
    image = pictures.to_image(pixels)
    assert (image.mode, image.size) == (mode, (6, 4))
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    with Image.open(io.BytesIO(pictures.png(image))) as read:
        assert read.format == "PNG"
        assert np.array_equal(np.asarray(read).reshape(pixels.shape), pixels)


def many(folder: Path, n: int) -> list[tuple[Path, np.ndarray]]:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 4, 6, 3), np.uint8)
    return [(folder / f"{i:06d}.png", picture) for i, picture in enumerate(pixels)]


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_many_images_are_written_like_single_ones(tmp_path: Path, threads: int | None) -> None:
    shown = many(tmp_path, 200)
    pictures.write_images(iter(shown), threads)
    assert sorted(tmp_path.iterdir()) == [path for path, _ in shown]
    for path, pixels in shown:
        assert path.read_bytes() == pictures.png(pictures.to_image(pixels))
    pictures.write_images([])


def test_images_are_written_by_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)
    monkeypatch.setattr(files, "write", lambda path, content: both.wait())
    pictures.write_images(many(tmp_path, 2), threads=2)


@pytest.mark.parametrize(
    ("limit", "most"), [("MAX_QUEUED", 5), ("MAX_QUEUED_BYTES", 5 * 4 * 6 * 3), ("MAX_QUEUED_BYTES", 1)]
)
def test_images_are_generated_no_faster_than_they_are_written(
    limit: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, limit, most)
    write, written, ahead = files.write, [0], []

    def counting(path: Path, content: bytes) -> None:
        write(path, content)
        written[0] += 1

    def made() -> Iterator[tuple[Path, np.ndarray]]:
        for i, one in enumerate(many(tmp_path, 50)):
            ahead.append(i - written[0])
            yield one

    monkeypatch.setattr(files, "write", counting)
    pictures.write_images(made(), threads=1)
    assert written == [50]
    assert max(ahead) <= 5


def test_a_full_disk_stops_writing_and_keeps_the_written_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_QUEUED", 3)
    shown = many(tmp_path, 60)
    shown[10] = (tmp_path / "no such folder" / "x.png", shown[10][1])
    with pytest.raises(StorageError, match="no such folder"):
        pictures.write_images(shown, threads=1)
    left = sorted(tmp_path.iterdir())
    assert left[:10] == [path for path, _ in shown[:10]]
    assert len(left) < 20
    assert not [path for path in left if path.suffix != ".png"]


def test_an_error_while_generating_images_is_raised(tmp_path: Path) -> None:
    def made() -> Iterator[tuple[Path, np.ndarray]]:
        yield from many(tmp_path, 3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        pictures.write_images(made())


def shades(n: int, height: int = 4, width: int = 6, channels: int = 1) -> torch.Tensor:
    """n images; all pixels of the i-th are 10 (i + 1)."""
    return (torch.arange(1, n + 1) * 10 / 127.5 - 1).reshape(n, 1, 1, 1).expand(n, channels, height, width)


def test_a_grid_is_in_row_major_order_with_gaps() -> None:
    sheet = np.asarray(pictures.tile(pictures.to_pixels(shades(5)), columns=3, gap=2))
    assert sheet.shape == (2 * (4 + 2) + 2, 3 * (6 + 2) + 2, 3)
    for i in range(5):
        top, left = 2 + (i // 3) * 6, 2 + (i % 3) * 8
        assert (sheet[top : top + 4, left : left + 6] == 10 * (i + 1)).all()
    outside = (sheet == PAPER).all(2)
    assert outside.sum() == sheet[:, :, 0].size - 5 * 4 * 6, "the gaps and the sixth place are not light grey"


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (5, 3, 2), (64, 8, 8)])
def test_a_grid_is_as_square_as_possible(n: int, columns: int, rows: int) -> None:
    assert pictures.tile(pictures.to_pixels(shades(n)), gap=0).size == (columns * 6, rows * 4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_grid_is_in_colour_with_transparency_on_white(channels: int) -> None:
    sheet = pictures.grid(torch.full((1, channels, 4, 4), -1.0), gap=0)
    assert sheet.mode == "RGB"
    assert {*np.unique(sheet)} == {255 if channels in (2, 4) else 0}


def test_small_images_are_enlarged_in_a_grid() -> None:
    """By whole factors, so that all pixels have the same size; larger images are not enlarged."""
    for height, width, size in ((16, 16, (128, 128)), (8, 16, (128, 64)), (28, 28, (112, 112)), (65, 65, (65, 65))):
        assert pictures.grid(shades(1, height, width), gap=0).size == size
    assert pictures.grid(shades(1, 16, 16), gap=0, scale=2).size == (32, 32)
    assert pictures.grid(shades(1, 16, 16), gap=0, scale=1).size == (16, 16)
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    grown = pictures.upscale(noise, 2)
    assert all((grown[:, y::2, x::2] == noise).all() for y in (0, 1) for x in (0, 1))
    large = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    assert (pictures.upscale(large, 2) == pictures.enlarge_stored(fields.Image(32, 32), large, 2)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_photographs_are_enlarged_smoothly_and_everything_else_pixel_by_pixel(dtype: type) -> None:
    noise = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (2, 32, 48, 3), dtype=dtype)
    smooth = pictures.enlarge_stored(fields.Image(32, 48, 3), noise, 3)
    assert (smooth.shape, smooth.dtype) == ((2, 96, 144, 3), noise.dtype)
    assert (
        abs(np.diff(smooth[0, :, :, 0].astype(float), axis=1)).mean()
        < 0.5 * abs(np.diff(noise[0, :, :, 0].astype(float), axis=1)).mean()
    )
    step = np.zeros((1, 32, 32, 1), dtype)
    step[:, :, 16:] = np.iinfo(dtype).max
    grown = pictures.enlarge_stored(fields.Image(32, 32, 1), step, 4)
    assert (grown[0, :, :32].max() < grown[0, :, 96:].min(), grown[0, :, 0].max(), grown[0, :, -1].min()) == (
        True,
        0,
        step.max(),
    )
    for kind in (fields.Image(16, 48, 3), fields.Image(32, 32, 4), fields.Clip(2, 32, 32, 3), fields.Mask(32, 32)):
        assert not pictures.is_smooth(kind)
    repeated = noise.repeat(3, 1).repeat(3, 2)
    assert (pictures.enlarge_stored(fields.Image(16, 48, 3), noise, 3) == repeated).all()


def test_a_grid_of_many_images_enlarges_them_less() -> None:
    assert pictures.grid(shades(100 * 100, 16, 16), gap=0).size == (3_200, 3_200)


def dark(image: Image.Image) -> set[tuple[int, int]]:
    ys, xs = np.nonzero(np.asarray(image) == 0)
    return set(zip(xs.tolist(), ys.tolist(), strict=True))


def test_points_are_a_plot_with_x_to_the_right_and_y_upwards() -> None:
    image = pictures.grid(torch.tensor([[0.7, 0.35]]))
    assert image.size == (512, 512)
    found = dark(image)
    assert found
    x, y = (sum(p[i] for p in found) / len(found) for i in (0, 1))
    # the range is the smallest 1.5 * 2^k that contains the point: 0.75
    assert x == pytest.approx(256 * (1 + 0.7 / 0.75), abs=2)
    assert y == pytest.approx(256 * (1 - 0.35 / 0.75), abs=2)


def test_a_point_is_three_pixels_wide_and_high() -> None:
    found = dark(pictures.scatter(torch.tensor([[0.25, 0.5]])))
    assert ({x for x, _ in found}, {y for _, y in found}) == ({340, 341, 342}, {84, 85, 86}), "the range is 0.75"


def test_the_range_of_a_plot_is_stable() -> None:
    few, more = (pictures.scatter(torch.tensor([[0.4, 0.4], [scale, -scale]])) for scale in (1.0, 1.2))
    assert len(dark(few) & dark(more)) >= 4, "the same point moved because another one did"


def test_outliers_and_empty_plots_are_accepted() -> None:
    cloud = torch.cat([torch.randn(500, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([[1e9, -1e9]])])
    assert len(dark(pictures.scatter(cloud))) > 500
    assert pictures.scatter(torch.zeros(0, 2)).size == (512, 512)
    assert dark(pictures.scatter(torch.zeros(3, 2)))


@pytest.fixture
def frames(tmp_path: Path) -> list[Path]:
    """Three images of 16x16 in red, green and blue."""
    made = []
    for i, colour in enumerate(("red", "lime", "blue")):
        made.append(tmp_path / f"{i:09d}.png")
        Image.new("RGB", (16, 16), colour).save(made[-1])
    return made


@pytest.mark.parametrize("kind", ["webp", "gif", "GIF"])
def test_a_reel_shows_every_image_in_order_with_its_caption(tmp_path: Path, frames: list[Path], kind: str) -> None:
    out = tmp_path / f"reel.{kind}"
    pictures.reel(frames, ["0 images", "100 images", "200 images"], out, seconds=3)
    with Image.open(out) as reel:
        assert reel.format == kind.upper()
        assert reel.size == (512, 512 + LINE)
        shown = [frame.convert("RGB") for frame in ImageSequence.Iterator(reel)]
    assert len(shown) == 3
    strongest = [int(np.argmax(frame.getpixel((256, 256)))) for frame in shown]
    assert strongest == [0, 1, 2]
    strips = [np.asarray(frame)[-LINE:].astype(int) for frame in shown]
    assert all(strip.min() < 100 and strip.max() > 200 for strip in strips), "a caption is missing"
    assert np.abs(strips[0] - strips[1]).max() > 100, "the captions are the same"


def test_a_gif_reel_has_the_requested_duration_and_a_longer_last_frame(tmp_path: Path, frames: list[Path]) -> None:
    pictures.reel(frames, ["a", "b", "c"], tmp_path / "reel.gif", seconds=3)
    with Image.open(tmp_path / "reel.gif") as reel:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(reel)]
        assert reel.info["loop"] == 0
    assert durations == [750, 750, 1500]


def test_a_reel_of_more_images_than_fit_says_how_long_it_lasts(tmp_path: Path, frames: list[Path]) -> None:
    assert pictures.reel(frames, ["a", "b", "c"], tmp_path / "a.gif", seconds=0.12) == ""
    assert "it lasts 0.12 s instead of 0.1: 3 images" in pictures.reel(
        frames, ["a", "b", "c"], tmp_path / "b.gif", seconds=0.1
    )


def test_a_reel_of_one_image_and_of_grey_images(tmp_path: Path) -> None:
    Image.new("L", (300, 400), 90).save(tmp_path / "one.png")
    pictures.reel([tmp_path / "one.png"], ["only"], tmp_path / "reel.webp")
    with Image.open(tmp_path / "reel.webp") as reel:
        assert reel.size == (300, 400 + LINE)


def test_images_with_odd_sides_are_shown_pixel_for_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (303, 601, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    pictures.reel([tmp_path / "one.png"], ["only"], tmp_path / "reel.webp")
    with Image.open(tmp_path / "reel.webp") as reel:
        assert reel.size == (602, 304 + LINE)
    shown = np.asarray(pictures._captioned(tmp_path / "one.png", "only", (601, 303), is_smooth=False))
    assert np.array_equal(shown[:303, :601], pixels)


def test_a_reel_has_the_chosen_size_also_with_images_of_an_earlier_version(tmp_path: Path) -> None:
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    Image.new("RGB", (20, 20), "red").save(paths[0])
    Image.new("RGB", (1400, 700), "blue").save(paths[1])
    for size, expected in ((None, (1080, 540 + LINE)), (512, (512, 256 + LINE)), (2000, (2000, 1000 + LINE))):
        pictures.reel(paths, ["a", "b"], tmp_path / f"{size}.webp", size=size)
        with Image.open(tmp_path / f"{size}.webp") as reel:
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(reel)]
        assert [frame.size for frame in frames] == [expected] * 2
        assert [int(np.argmax(frame.getpixel((20, 20)))) for frame in frames] == [0, 2]


@pytest.mark.parametrize("is_smooth", [False, True])
def test_a_reel_enlarges_as_grids_do(tmp_path: Path, is_smooth: bool) -> None:
    noise = np.random.default_rng(0).integers(64, 192, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "0.png")
    shown = np.asarray(pictures._captioned(tmp_path / "0.png", "", (96, 96), is_smooth), int)[:96]
    kind = fields.Image(32, 32) if is_smooth else fields.Image(16, 16)
    assert abs(shown - pictures.enlarge_stored(kind, noise[None], 3)[0]).max() <= 1


def test_another_file_type_of_a_reel_is_an_error_that_lists_the_supported_ones(tmp_path: Path, frames: list[Path]) -> None:
    with pytest.raises(LeafwingError, match=r"reel\.avi: .*\.webp, \.gif, \.mp4"):
        pictures.reel(frames, ["a", "b", "c"], tmp_path / "reel.avi")


def test_an_mp4_reel_has_the_requested_duration_and_a_longer_last_frame(tmp_path: Path, frames: list[Path]) -> None:
    av = pytest.importorskip("av")
    assert pictures.reel(frames, ["a", "b", "c"], tmp_path / "reel.mp4", seconds=3) == ""
    with av.open(str(tmp_path / "reel.mp4")) as film:
        shown = [frame.to_ndarray(format="rgb24")[128, 128] for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == Fraction(32, 3)  # each of 750 ms is repeated, see `films.MAX_STEP`
    assert [int(colour.argmax()) for colour in shown] == [0] * 8 + [1] * 8 + [2] * 16


# --- progress sheets ------------------------------------------------------------------------------------------------------


def model_of(spec: DataSpec, *outputs: Output, examples: Examples | None = None) -> Model:
    return Model(Game({}, [], Abilities(outputs)), spec, examples=examples)


def shade(*values: float, channels: int = 3, side: int = 32) -> torch.Tensor:
    """Images of one shade each, in [-1, 1]."""
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, channels, side, side)


def cells(image: Image.Image, *points: tuple[int, int]) -> list[int]:
    """The red value at some points."""
    return [image.convert("RGB").getpixel(point)[0] for point in points]  # type: ignore[index]


PLAIN = DataSpec.images(32, 32)


def test_the_sheet_of_a_model_of_latents_has_64_samples() -> None:
    output = Output(
        "image", lambda nets, inputs, clock: inputs.latent[:, :1, None, None].expand(-1, 3, 32, 32), prior=Normal(2)
    )
    model = model_of(PLAIN, output)
    sheet = model_sheet.sample_sheet(model)
    assert pictures.png(sheet) == pictures.png(pictures.grid(model.sample(64), 8))
    assert model_sheet.progress_sheet(model).frames == 0


def test_a_sheet_with_labels_has_a_row_per_class_with_the_same_latents() -> None:
    spec = DataSpec.images(32, 32, labels=("a", "b", "c"))

    def make(nets: Nets, inputs: Batch, clock: Clock) -> torch.Tensor:
        return (inputs.label - 1)[:, None, None, None] + 0.2 * inputs.latent[:, :1, None, None].expand(
            -1, 3, 32, 32
        ).sigmoid()

    model = model_of(spec, Output("image", make, ("label",), Normal(2)))
    sheet = model_sheet.sample_sheet(model)
    names = sheet.width - (10 * STEP + GAP)
    assert names > 8
    assert sheet.height == 3 * STEP + GAP
    assert np.asarray(sheet)[GAP : GAP + 128, :names].min() < 100, "the name of the class is missing"
    columns = [cells(sheet, *[(names + 10 + STEP * i, 10 + STEP * row) for i in range(10)]) for row in range(2)]
    assert len({*columns[0]}) > 5
    assert max(abs(b - a - 127.5) for a, b in zip(*columns, strict=True)) <= 1


def test_a_sheet_with_attributes_has_a_row_per_value_all_else_being_the_same() -> None:
    names = ("smiling", "colour=red", "colour=blue")
    spec = DataSpec.images(16, 16, attributes=names)

    def make(nets: Nets, inputs: Batch, clock: Clock) -> torch.Tensor:
        shades = [inputs.latent[:, 0].tanh() * 0.1 + 0.9 * inputs.attributes[:, i] for i in range(3)]
        return torch.stack(shades, 1)[:, :, None, None].expand(-1, 3, 16, 16)

    examples = Examples.from_plain(spec, {"attributes": ["010", "101"]})
    sheet = model_sheet.progress_sheet(model_of(spec, Output("image", make, ("attributes",), Normal(2)), examples=examples))
    assert list(sheet.names) == ["smiling=0", "smiling=1", "colour=red", "colour=blue"]
    shades = np.array([[cell.stored[0, 0] for cell in row] for row in sheet.rows], np.float64)
    assert shades.shape == (4, 10, 3)
    for row, channel, is_set in ((0, 0, False), (1, 0, True), (2, 1, True), (2, 2, False), (3, 1, False), (3, 2, True)):
        assert ((shades[row, :, channel] > 190) == is_set).all()
    assert np.array_equal(shades[0, :, 1:], shades[1, :, 1:]), "the latents and other attributes of a column are the same"
    assert len({*shades[0, :, 1]}) > 5, "latents differ"


def test_points_stay_a_plot() -> None:
    model = model_of(DataSpec.vectors(2), Output("image", lambda nets, inputs, clock: inputs.latent, prior=Normal(2)))
    assert pictures.png(model_sheet.sample_sheet(model)) == pictures.png(pictures.scatter(model.sample(2_000)))


PAIRED = DataSpec.images(32, 32, input=fields.Image(16, 16, 1))


def test_a_translator_shows_input_output_and_reality_of_each_row() -> None:
    output = Output("image", lambda nets, inputs, clock: -inputs.input.repeat(1, 3, 2, 2), ("input",))
    rows = Batch(input=shade(-1, 0.5, channels=1, side=16), image=shade(0.2, -0.6))
    sheet = model_sheet.progress_sheet(model_of(PAIRED, output), rows)
    assert sheet.titles == ["input", "generated", "real"]
    image = sheet.image()
    lefts = [GAP + i * STEP for i in range(3)]
    assert image.size == (3 * STEP + GAP, LINE + 2 * STEP + GAP)
    for row, shades in enumerate(((0, 255, 153), (191, 64, 51))):
        y = LINE + GAP + 10 + STEP * row
        assert cells(image, *[(left + 5, y) for left in lefts]) == pytest.approx(shades, abs=1)
    titles = np.asarray(image.convert("L"))[: LINE + GAP]
    assert all(titles[:, left : left + 20].min() < 100 for left in lefts), "a title is missing"


def test_a_translator_needs_rows() -> None:
    output = Output("image", lambda nets, inputs, clock: inputs.input, ("input",))
    with pytest.raises(LeafwingError, match="generated from images: a sheet needs some real samples"):
        model_sheet.sample_sheet(model_of(PAIRED, output))


def test_a_two_way_translator_shows_both_directions_there_and_back() -> None:
    spec = DataSpec.images(32, 32, input=fields.Image(32, 32, 3))
    to_image = Output("image", lambda nets, inputs, clock: inputs.input + 0.5, ("input",))
    to_input = Output("input", lambda nets, inputs, clock: inputs.image - 0.25, ("image",))
    rows = Batch(input=shade(-1.0), image=shade(0.5))
    sheet = model_sheet.progress_sheet(model_of(spec, to_image, to_input), rows)
    assert sheet.titles == ["input", "generated", "and back", "image", "generated", "and back"]
    (row,) = sheet.rows
    assert [int(cell.stored[0, 0, 0]) for cell in row] == pytest.approx([0, 64, 32, 191, 159, 223], abs=1)


def test_a_sheet_of_an_output_that_edits_gives_each_image_the_attributes_of_the_next() -> None:
    spec = DataSpec.images(4, 4, 1, attributes=("light",))

    def light(nets: Nets, inputs: Batch, clock: Clock) -> torch.Tensor:
        return inputs.image + inputs.attributes[:, :, None, None]

    rows = Batch(image=torch.zeros(2, 1, 4, 4), attributes=torch.tensor([[0.0], [1.0]]))
    sheet = model_sheet.progress_sheet(model_of(spec, Output("image", light, ("image", "attributes"))), rows)
    assert list(sheet.titles) == ["image", "generated"]
    assert [row[1].stored.max() for row in sheet.rows] == [255, 128]
    assert list(sheet.captions) == ["light", ""]


DESCRIBED = DataSpec.images(64, 64, caption=fields.Caption(("a", "red", "blue", "star"), 4), box=fields.Box())


def described(*conditions: str) -> Output:
    def make(nets: Nets, inputs: Batch, clock: Clock) -> torch.Tensor:
        return inputs.latent[:, :1, None, None].expand(-1, 3, 64, 64).tanh() * 0.1

    return Output("image", make, conditions, Normal(2))


def is_yellow(image: np.ndarray) -> np.ndarray:
    """Which pixels have the colour of boxes."""
    return (image[:, :, 0] > 200) & (image[:, :, 1] > 200) & (image[:, :, 2] < 50)


def test_captions_are_below_the_samples_and_boxes_around_them() -> None:
    rows = Batch(
        image=shade(0.0, 0.0, side=64),
        caption=torch.tensor([[1, 2, 4, 0], [3, 4, 0, 0]]),
        box=torch.tensor([[0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1]]),
    )
    sheet = model_sheet.progress_sheet(model_of(DESCRIBED, described("caption", "box")), rows)
    assert sheet.titles == ["real", "generated"]
    assert sheet.captions == ["a red star", "blue star"]
    assert [len(row) for row in sheet.rows] == [7, 7]
    stored = np.stack([[cell.stored for cell in row[1:]] for row in sheet.rows])
    assert (stored[0] == stored[1]).all(), "the rows have different latents"
    image = np.asarray(sheet.image()).astype(int)
    outline = is_yellow(image)
    rows_with_outline = np.flatnonzero(outline.any(1))
    top = rows_with_outline[0] - 32
    assert rows_with_outline[-1] == top + (image.shape[0] - top) // 2 + 127, "the second box does not end with its image"
    first = outline[top : top + 128, GAP : GAP + 128]
    assert (first.any(1).nonzero()[0][[0, -1]] == [32, 95]).all()
    assert (first.any(0).nonzero()[0][[0, -1]] == [32, 95]).all()
    assert image[top + 129 : top + 129 + LINE].min() < 100, "the caption is missing"
    plain = model_sheet.progress_sheet(model_of(DESCRIBED, described("caption")), rows)
    assert not is_yellow(np.asarray(plain.image())).any()


def test_without_rows_conditions_are_those_of_the_examples() -> None:
    examples = Examples({"caption": np.array([[1, 2, 4, 0]]), "box": np.array([[0, 0, 0.5, 0.5]], np.float32)})
    sheet = model_sheet.progress_sheet(model_of(DESCRIBED, described("caption", "box"), examples=examples))
    assert sheet.titles == ["generated"]
    assert {*sheet.captions} == {"a red star"}


def test_key_points_are_drawn_where_they_are_visible() -> None:
    spec = DataSpec.images(64, 64, keypoints=fields.Keypoints(("nose", "tail")))
    rows = Batch(image=shade(-1.0, side=64), keypoints=torch.tensor([[[0.25, 0.75, 1], [0.75, 0.25, 0]]]))
    sheet = model_sheet.progress_sheet(model_of(spec, described("keypoints")), rows)
    image = np.asarray(sheet.image())
    ys, xs = np.nonzero((image == pictures.PALETTE[1]).all(2)[:, : STEP + GAP])
    top = image.shape[0] - STEP
    assert (ys.mean() - top, xs.mean() - GAP) == pytest.approx((96, 32), abs=1)


def clips(frames: int = 3) -> Output:
    """Clips whose frames get lighter."""

    def make(nets: Nets, inputs: Batch, clock: Clock) -> torch.Tensor:
        steps = torch.linspace(-1, 1, frames)[None, None, :, None, None]
        return steps.expand(inputs.n, 3, frames, 32, 32)

    return Output("image", make, prior=Normal(2), kind=fields.Clip(frames, 32, 32, 3))


def test_clips_are_strips_and_an_animation() -> None:
    sheet = model_sheet.progress_sheet(model_of(PLAIN, clips()))
    image = sheet.image()
    assert image.size == (3 * 128 + 2 * GAP, 8 * STEP + GAP)
    assert cells(image, (15, 15), (150, 15), (280, 15)) == [0, 128, 255]
    assert sheet.frames == 3
    animation = [*sheet.animation()]
    assert {frame.size for frame in animation} == {(STEP + GAP, 8 * STEP + GAP)}
    assert [frame.getpixel((15, 15)) for frame in animation] == [(level, level, level) for level in (0, 128, 255)]


def test_masks_and_segmentations_are_visible_on_sheets() -> None:
    mask, classes = fields.Mask(2, 2), fields.Segmentation(2, 2, ("a", "b", "c"))
    stored = mask.to_stored(torch.tensor([[[[0.0, 1], [0.4, 0.6]]]])).numpy()
    assert pictures.draw(mask, stored)[0, :, :, 0].tolist() == [[0, 255], [0, 255]]
    stored = classes.to_stored(torch.eye(3)[[0, 1, 2, 1]].T.reshape(1, 3, 2, 2)).numpy()
    assert stored.tolist() == [[[0, 1], [2, 1]]]
    drawn = pictures.draw(classes, stored)
    assert drawn.shape == (1, 2, 2, 3)
    assert len({tuple(colour) for colour in drawn.reshape(-1, 3).tolist()}) == 3
    image = pictures.to_image(stored[0])
    assert image.mode == "P"
    assert np.asarray(image).tolist() == stored[0].tolist()


def test_outputs_without_pixels_are_text() -> None:
    spec = DataSpec.images(8, 8, label=fields.Label(("ant", "bee")))
    output = Output("label", lambda nets, inputs, clock: torch.ones(inputs.n, dtype=torch.int64), prior=Normal(2))
    image = model_sheet.sample_sheet(model_of(spec, output))
    assert np.asarray(image).min() < 100


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (fields.Image(2, 3, 3), np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3)),
        (fields.Clip(2, 2, 3, 1), np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3, 1)),
        (fields.Mask(2, 2), np.array([[[[0], [1]], [[1], [0]]]], np.uint8)),
        (fields.Segmentation(1, 3, ("a", "b", "c")), np.array([[[0, 2, 1]]], np.uint8)),
        (fields.Attributes(("a", "b")), np.array([[0, 1], [1, 1]], np.uint8)),
        (fields.Vector(2), np.array([[0.5, -3]], np.float32)),
    ],
)
def test_the_format_of_networks_and_back(kind: fields.Field, stored: np.ndarray) -> None:
    back = kind.to_stored(kind.to_network(torch.from_numpy(stored))).numpy()
    assert back.dtype == stored.dtype
    assert (back == stored).all()


def test_clips_are_written_as_animations(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    pictures.write_images([(tmp_path / "a.webp", pixels)])
    with Image.open(tmp_path / "a.webp") as clip:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(clip)]
    assert np.array_equal(np.stack(frames), pixels)


def test_classes_whose_names_the_font_cannot_draw_have_their_number() -> None:
    """It draws the same box for both: only the numbers tell them apart."""
    spec = DataSpec.images(4, 4, 1, labels=("cat", "猫", "犬"))
    stored = np.zeros((3, 4, 4, 1), np.uint8)
    inputs = {"label": torch.arange(3)}
    names = ["cat", "#1 猫", "#2 犬"]
    assert pictures.sample_grid(spec.fields["image"], stored, 1, spec, inputs).names == names
    (row,) = pictures.sample_grid(spec.fields["image"], stored, 3, spec, inputs).rows
    assert [cell.text for cell in row] == names
