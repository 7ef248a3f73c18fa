"""Greyscale images with more than 8 bits, and dark ones: one mapping for all files of a data set, and what is said about it."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_helpers import encoded, negative
from PIL import Image as PillowImage

import leafwing
from leafwing.data import levels, load, pictures, reading
from leafwing.data.doctor import doctor
from leafwing.data.options import check
from leafwing.data.reading import EntryInfo
from leafwing.data.sources import Entry
from leafwing.errors import LeafwingError

SIZE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(folder: Path, arrays: list[np.ndarray], suffix: str = ".tif") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(arrays):
        PillowImage.fromarray(array).save(folder / f"{index}{suffix}")
    return folder


def slices(low: float, high: float, dtype: Any, count: int = 4) -> list[np.ndarray]:
    """Images that use different parts of the range from low to high, which all of them use together."""
    ramp = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE)
    parts = [low + (high - low) * (index + ramp) / count for index in range(count)]
    return [np.rint(part).astype(dtype) if np.issubdtype(dtype, np.integer) else part.astype(dtype) for part in parts]


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (-1024, 3071, np.int32, (-1024, 3071)),
        (0, 4080, np.uint16, (0, 4095)),
        (0, 200, np.uint16, (0, 255)),
        (0, 1000, np.uint16, (0, 1023)),
        (0, 60000, np.uint16, None),
        (0, 100_000, np.int32, (0, 100_000)),
        (0, 1, np.float32, None),
        (0, 1.00390625, np.float32, (0, 1.00390625)),
        (0, 16, np.float32, (0, 16)),
        (0, 255, np.float32, (0, 255)),
        (-2.5, 7.5, np.float32, (-2.5, 7.5)),
    ],
)
def test_all_files_of_a_set_are_mapped_in_one_way(
    tmp_path: Path, low: float, high: float, dtype: Any, expected: tuple[float, float] | None
) -> None:
    arrays = slices(low, high, dtype)
    data = load(write(tmp_path / "set", arrays), size=SIZE)
    black, white = expected or ((0, 1) if dtype is np.float32 else (0, 65535))
    values = np.stack(arrays).astype(float)
    assert np.abs(data.array[..., 0] - (values - black) / (white - black) * 255).max() <= 0.51
    assert data.options.get("levels") == (None if expected is None else levels.show(expected))
    assert any(f"{levels.describe((black, white))} in all of them" in note for note in data.notes)
    again = load(tmp_path / "set", **data.options)
    assert again.fingerprint == data.fingerprint
    assert any(levels.describe((black, white)) in note for note in doctor(tmp_path / "set", size=SIZE).notes)


def test_files_in_which_0_is_white_are_inverted_also_for_the_levels(tmp_path: Path) -> None:
    arrays = slices(0, 65535, np.uint16)
    write(tmp_path / "positive", arrays)
    (tmp_path / "mixed").mkdir()
    for index, array in enumerate(arrays):
        (tmp_path / "mixed" / f"{index}.tif").write_bytes(negative(array) if index % 2 else encoded(array, "TIFF"))
    for bits in (8, 16):
        expected, mixed = (load(tmp_path / name, size=SIZE, bits=bits, levels="10%:90%") for name in ("positive", "mixed"))
        assert np.array_equal(expected.array, mixed.array)
        assert expected.options["levels"] == mixed.options["levels"]
    files = [PillowImage.open(tmp_path / "mixed" / f"{index}.tif") for index in range(len(arrays))]
    assert np.array_equal(load(files, size=SIZE).array, load(tmp_path / "mixed", size=SIZE).array)


def test_packs_of_versions_that_did_not_invert_are_not_used_again(tmp_path: Path) -> None:
    header = pictures.header(negative(slices(0, 9, np.uint16)[0]))
    assert header.negative
    infos = [EntryInfo(Entry("a.tif", None, 1), "0" * 64, header) for header in (header, replace(header, negative=False))]
    target = check(SIZE, 1, "crop", "white").target((1, 1), 1)
    first, second = (reading.fingerprint([info], target, 1) for info in infos)
    assert first != second


def grey_with_alpha(values: np.ndarray, alpha: np.ndarray) -> bytes:
    """A PNG file of grey and alpha with 16 bits, which Pillow cannot write."""
    rows = np.dstack([values, alpha]).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 4, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.parametrize("high", [4080, 60000])
def test_grey_with_alpha_is_mapped_too(tmp_path: Path, high: int) -> None:
    arrays = slices(0, high, np.uint16)
    alpha = np.full((SIZE, SIZE), 65535)
    alpha[:4] = 0
    for index, values in enumerate(arrays):
        values[:4] = 65535  # invisible
        (tmp_path / f"{index}.png").write_bytes(grey_with_alpha(values, alpha))
    white = 4095 if high == 4080 else 65535
    data = load(tmp_path, size=SIZE)
    assert data.array.shape == (4, SIZE, SIZE, 1)
    visible = np.stack(arrays)[:, 4:] * (255 / white)
    assert np.abs(data.array[:, 4:, :, 0] - visible).max() <= 1
    assert (data.array[:, :4] == 255).all(), "the background"
    both = load(tmp_path, size=SIZE, channels=2, levels="0:8000").array
    assert (both[:, :4, :, 1] == 0).all()
    assert np.abs(both[:, 4:, :, 0] - (np.stack(arrays)[:, 4:] * (255 / 8000)).clip(0, 255)).max() <= 1
    report = doctor(tmp_path, size=SIZE)
    assert report.modes == {"LA;16": 4}
    assert report.transparent == 4
    assert f"0 becomes black and {white:,} white" in " ".join(report.notes)


def test_outliers_are_mentioned_with_the_way_out(tmp_path: Path) -> None:
    arrays = slices(0, 1, np.float32)
    arrays[2][0, 0] = 1e6
    path = write(tmp_path, arrays)
    (note,) = [note for note in load(path, size=SIZE).notes if "nearly black" in note]
    assert note.endswith("--levels 1%:99% leaves out the most extreme values.")
    assert not any("nearly black" in note and "4 of 4" in note for note in load(path, size=SIZE, levels="1%:99%").notes)


def test_what_is_nearly_white_is_mentioned_with_the_way_out(tmp_path: Path) -> None:
    path = write(tmp_path, slices(65535 - 4095, 65535, np.uint16))
    (note,) = [note for note in load(path, size=SIZE).notes if "nearly white" in note]
    assert note.endswith("--levels 1%:99% leaves out the most extreme values.")
    assert not any("nearly white" in note for note in load(path, size=SIZE, levels="1%:99%").notes)


def test_levels_can_be_chosen(tmp_path: Path) -> None:
    arrays = slices(-1024, 3071, np.int32)
    path = write(tmp_path / "set", arrays)
    values = np.stack(arrays).astype(float)
    window = load(path, size=SIZE, levels="-160:240").array[..., 0]
    assert np.abs(window - ((values + 160) / 400).clip(0, 1) * 255).max() <= 0.51
    shares = load(path, size=SIZE, levels="25%:75%")
    low, high = (float(text) for text in shares.options["levels"].split(":"))
    assert (low, high) == pytest.approx(np.percentile(values, (25, 75)), abs=4095 / 128)
    assert load(path, **shares.options).fingerprint == shares.fingerprint


@pytest.mark.parametrize("text", ["4095", "5:5", "9:1", "1%:99", "a:b", "-5%:50%", "0-4095"])
def test_levels_that_mean_nothing_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LeafwingError, match=r"levels=.*give the values that become black and white"):
        load(write(tmp_path / "set", slices(0, 4000, np.uint16)), size=SIZE, levels=text)


def test_16_bits_that_are_kept_are_stretched_only_on_request(tmp_path: Path) -> None:
    arrays = slices(0, 4095, np.uint16)
    path = write(tmp_path / "set", arrays, ".png")
    assert np.array_equal(load(path, size=SIZE, bits=16).array[..., 0], np.stack(arrays))
    stretched = load(path, size=SIZE, bits=16, levels="0:4095").array[..., 0]
    assert np.abs(stretched - np.stack(arrays) * (65535 / 4095)).max() <= 0.51


def test_images_and_inputs_have_levels_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "set/A", slices(-100, 100, np.int32))
    write(tmp_path / "set/B", slices(0, 4000, np.uint16))
    data = load(tmp_path / "set", size=SIZE, input="A", bits=8)
    assert (data.options["levels"], data.options["input_levels"]) == ("0:4095", "-100:100")
    assert (data.columns["input"].min(), data.columns["input"].max()) == (0, 255)
    assert load(tmp_path / "set", **data.options).fingerprint == data.fingerprint
    chosen = load(tmp_path / "set", size=SIZE, input="A", bits=8, input_levels="0:100")
    assert chosen.columns["input"].min() == 0
    assert np.array_equal(chosen.array, data.array)
    with pytest.raises(LeafwingError, match="use --levels"):
        load(tmp_path / "set/B", size=SIZE, input="blur", input_levels="0:100")


def test_a_second_source_has_levels_of_its_own(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", slices(-100, 100, np.int32)), write(tmp_path / "b", slices(0, 4000, np.uint16))
    data = load(first, size=SIZE, input=second, bits=8)
    assert (data.options["levels"], data.options["input_levels"]) == ("-100:100", "0:4095")
    assert load(first, **data.options).fingerprint == data.fingerprint


def test_translated_pictures_are_mapped_as_in_training(tmp_path: Path) -> None:
    write(tmp_path / "set/A", slices(-1000, 3000, np.int32, 8))
    write(tmp_path / "set/B", [np.full((SIZE, SIZE, 3), 20 * index, np.uint8) for index in range(8)])
    run = leafwing.train(
        tmp_path / "set",
        "pix2pix",
        size=SIZE,
        input="A",
        images=8,
        batch=4,
        width=4,
        max_width=8,
        hold_out=0,
        out=tmp_path / "run",
    )
    model, said = leafwing.Model.load(run), []
    original = leafwing.Model.translate_pieces

    def listen(self: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        said.append(inputs["input"])
        return original(self, inputs, *args, **options)

    dark = write(tmp_path / "dark", [np.full((SIZE, SIZE), -500, np.int32)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leafwing.Model, "translate_pieces", listen)
        leafwing.translate(run.folder, dark, out=tmp_path / "out")
    assert model.spec.fields["input"].shape == (1, SIZE, SIZE)
    assert [int(value) for value in torch.as_tensor(said[0]).unique()] == [round(500 / 4000 * 255)]


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ([np.eye(SIZE, dtype=np.uint8)] * 4, r"4 of 4 images are nearly black: .* the brightest of all is 1; --levels 0:1 "),
        ([np.full((SIZE, SIZE, 3), 250, np.uint8)] * 4, r"4 of 4 images are nearly white: .* the darkest of all is 250\."),
        ([np.full((SIZE, SIZE), 90 + index, np.uint8) for index in range(4)], r"4 of 4 images are flat"),
    ],
)
def test_dark_white_and_flat_sets_are_mentioned(tmp_path: Path, arrays: list[np.ndarray], text: str) -> None:
    path = write(tmp_path / "set", arrays, ".png")
    for notes in (load(path, size=SIZE).notes, load(path, size=SIZE).notes, doctor(path, size=SIZE).notes):
        assert len([note for note in notes if " of 4 images are " in note]) == 1
        assert any(re.search(text, note) for note in notes)


def test_the_advice_about_dark_masks_works(tmp_path: Path) -> None:
    data = load(write(tmp_path / "set", [np.eye(SIZE, dtype=np.uint8)] * 4, ".png"), size=SIZE, levels="0:1")
    assert np.array_equal(data.array[0, :, :, 0], 255 * np.eye(SIZE))
    assert not any(" of 4 images are " in note for note in data.notes)


@pytest.mark.parametrize("options", [{"levels": "0:4095"}, {"levels": "1%:99%"}, {"input_levels": "0:1"}])
def test_levels_that_change_nothing_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    path = write(tmp_path / "set", [np.full((SIZE, SIZE, 3), 20 * index, np.uint8) for index in range(4)], ".png")
    with pytest.raises(LeafwingError, match=r"no image has such values|there are no inputs"):
        load(path, size=SIZE, **options)  # type: ignore[arg-type]


def test_levels_and_labels_do_not_pass_to_other_data(tmp_path: Path) -> None:
    path = write(tmp_path / "set", slices(0, 4000, np.uint16, 8))
    tiny: dict[str, Any] = {"size": SIZE, "width": 4, "max_width": 8, "batch": 4, "images": 8, "threads": 1}
    run = leafwing.train(path, out=tmp_path / "run", **tiny)
    assert run.data.options["levels"] == "0:4095"
    other = leafwing.train("digits", replay=run.folder, out=tmp_path / "other", recipe="dcgan")
    assert "levels" not in other.data.options


def test_other_data_are_evaluated_with_the_levels_of_the_run(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"size": SIZE, "width": 4, "max_width": 8, "batch": 4, "images": 8, "threads": 1}
    run = leafwing.train(write(tmp_path / "set", slices(0, 4000, np.uint16, 8)), out=tmp_path / "run", **tiny)
    dark = write(tmp_path / "dark", slices(0, 200, np.uint16, 8))
    bytes_only = write(tmp_path / "bytes", slices(0, 255, np.uint8, 8), ".png")
    expected = {dark: "0:4095", bytes_only: None}
    for path, levels_of_run in expected.items():
        real = other_data(run, path)
        assert real.options.get("levels") == levels_of_run


def test_the_data_of_a_run_are_evaluated_alike_under_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "set", slices(0, 4000, np.uint16, 8))
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{index}.tif,{'ab'[index % 2]}\n" for index in range(8)))
    tiny: dict[str, Any] = {"size": SIZE, "width": 4, "max_width": 8, "batch": 4, "images": 8, "threads": 1}
    run = leafwing.train(folder, out=tmp_path / "run", labels="none", **tiny)
    monkeypatch.chdir(folder)
    for spelling in (folder, str(folder), "../set", Path(), tmp_path / "set" / ".." / "set"):
        real = other_data(run, spelling)
        assert real.labels is None
        assert real.fingerprint == run.data.fingerprint


def other_data(run: leafwing.Run, path: str | Path) -> Any:
    from leafwing.commands.real_data import load_real_data
    from leafwing.progress import Reporter

    return load_real_data(run, path, Reporter()).real


def test_inputs_that_are_nearly_black_are_mentioned_and_the_remedy_works(tmp_path: Path) -> None:
    """Such as label maps of class indices, which networks see as nearly one value."""
    for number in range(6):
        for name, pixels in {"A": np.full((16, 16), 40 * number), "B": np.tile(np.arange(16) * 11 // 15, (16, 1))}.items():
            (tmp_path / name).mkdir(exist_ok=True)
            PillowImage.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    expected = "6 of 6 inputs are nearly black: no value is above 25 of 255, the brightest of all is 11; --input-levels 0:11 makes 11 "
    expected += "white."
    assert expected in load(tmp_path, input="B").notes
    assert expected in doctor(str(tmp_path), input="B").notes
    data = load(tmp_path, input="B", input_levels="0:11")
    assert data.columns["input"].max() == 255
    assert not any("inputs are" in note for note in data.notes)
    assert not any("inputs are" in note for note in load(tmp_path, input="edges").notes), "derived ones are as they are made"
