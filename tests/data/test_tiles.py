"""`--fit tiles`: large images cut into tiles at their own resolution."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from data_helpers import encoded, picture
from PIL import Image as PillowImage

from leafwing.data import Dataset, load, pictures
from leafwing.data.derive import grey
from leafwing.data.doctor import doctor
from leafwing.data.options import check
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec


def put(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def names(data: Dataset, cache: Path) -> list[str]:
    return list(json.loads((cache / "packs" / data.fingerprint / "index.json").read_text())["name"])


def test_a_grid_in_the_centre_without_resizing(tmp_path: Path) -> None:
    image = picture(0, 45, 70)
    path = put(tmp_path / "set", {"photo.png": encoded(image), "small.png": encoded(picture(1, 15, 70))})
    data = load(path, size="20x30", fit="tiles", cache=tmp_path / "cache")
    pixels = image
    assert len(data) == 4
    expected = [pixels[2 + 20 * r : 22 + 20 * r, 5 + 30 * c : 35 + 30 * c] for r in range(2) for c in range(2)]
    assert np.array_equal(data.array, expected)
    assert names(data, tmp_path / "cache") == [f"photo.png#{i}" for i in (1, 2, 3, 4)]
    assert [reject.name for reject in data.rejects] == ["small.png"]
    assert "too small: 15x70 is less than a tile of 20x30" in data.rejects[0].reason
    assert any("Tiles: 4 of 20x30 pixels, from 1 images; 24% of their area" in note for note in data.notes)
    assert load(path, **data.options, cache=tmp_path / "cache").pictures_of.tolist() == [0, 0, 0, 0]  # type: ignore[union-attr]


def test_a_large_jpeg_is_decoded_once_and_not_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, original = [], pictures._open
    monkeypatch.setattr(pictures, "_open", lambda data, raw: opened.append(1) or original(data, raw))
    content = encoded(picture(0, 320, 480), "JPEG")
    with pictures.strict():
        tiles = pictures.decode_tiles(content, check(32, 3, "tiles", "white").target((1, 1), 3))
    assert (len(tiles), len(opened)) == (150, 1)
    whole = np.asarray(PillowImage.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(tiles[16].pixels, whole[32:64, 32:64])
    assert tiles[16].box == (32, 32, 64, 64)


@pytest.mark.parametrize("layout", ["folders", "halves", "derived"])
def test_pairs_are_cut_alike(tmp_path: Path, layout: str) -> None:
    a, b = picture(1, 41, 66), picture(2, 41, 66)
    if layout == "halves":
        both = PillowImage.new("RGB", (132, 41))
        both.paste(PillowImage.fromarray(a), (0, 0))
        both.paste(PillowImage.fromarray(b), (66, 0))
        files, option = {"x.png": encoded(both)}, "left"
    else:
        files = {"A/x.png": encoded(a), "B/x.png": encoded(b)} if layout == "folders" else {"x.png": encoded(b)}
        option = "A" if layout == "folders" else "grey"
    data = load(put(tmp_path / "set", files), size=20, fit="tiles", input=option)
    left = a
    right = b
    assert len(data) == 6
    assert np.array_equal(data.array[4], right[20:40, 23:43])
    expected = grey(b[None])["input"][0, 20:40, 23:43] if layout == "derived" else left[20:40, 23:43]
    assert np.abs(data.columns["input"][4].astype(int) - expected.astype(int)).max() == 0


def test_pairs_of_different_sizes_are_rejected(tmp_path: Path) -> None:
    files = {f"{side}/{i}.png": encoded(picture(i, 40, 40)) for side in "AB" for i in range(3)}
    files["A/2.png"] = encoded(picture(2, 60, 60))
    data = load(put(tmp_path / "set", files), size=20, fit="tiles", input="A")
    assert len(data) == 8
    assert "60x60 pixels, the image 40x40: --fit tiles needs equal sizes" in data.rejects[0].reason


def test_tiles_of_a_picture_are_never_on_both_sides_of_the_split(tmp_path: Path) -> None:
    files = {f"{i}.png": encoded(picture(i, 40 + 20 * (i % 3), 60)) for i in range(12)}
    data = load(put(tmp_path / "set", files), size=20, fit="tiles")
    assert data.pictures_of is not None
    for number in (1, 7, 30):
        training, held_out = data.split(number)
        sides = [{*data.pictures_of[part.rows].tolist()} for part in (training, held_out)]
        assert not sides[0] & sides[1]
        assert number <= len(held_out) < number + 12
    flat = Dataset(
        DataSpec.images(2, 2, 1), {"image": np.zeros((4, 2, 2, 1), np.uint8)}, "x", "x", {}, pictures_of=np.arange(4) // 2
    )
    with pytest.raises(LeafwingError, match="would hold out all"):
        flat.split(1)


def test_the_doctor_counts_tiles_and_labels_apply_to_each(tmp_path: Path) -> None:
    files = {
        f"{label}/{i}.png": encoded(picture(i + 9 * (label == "cat"), 45, 70)) for label in ("cat", "dog") for i in range(3)
    }
    path = put(tmp_path / "set", files)
    report = doctor(path, size=20, fit="tiles")
    assert (report.accepted, report.tiles) == (6, 36)
    assert "tiles:     36 of 20x20" in report.text()
    data = load(path, size=20, fit="tiles", crop_from=22)
    assert data.batch(0, 0, 5).image.shape == (5, 20, 20, 3)
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [18, 18]
    with pytest.raises(LeafwingError, match=r"--fit tiles .* digits is built in"):
        load("digits", fit="tiles")


def test_training_and_the_doctor_agree_on_whether_most_pictures_are_broken(tmp_path: Path) -> None:
    files = {f"{i}.png": encoded(picture(i, 60, 60)) for i in range(2)} | {f"x{i}.png": b"broken" for i in range(3)}
    path = put(tmp_path / "set", files)
    assert any("3 of 5 images cannot be read" in line for line in doctor(path, size=20, fit="tiles").advice)
    with pytest.raises(LeafwingError, match="3 of 5 images cannot be read"):
        load(path, size=20, fit="tiles")


def test_the_doctor_counts_no_tile_as_a_picture(tmp_path: Path) -> None:
    """Boxes in one tile of a picture, and in none of another."""
    files = {f"{i}.png": encoded(picture(i, 40, 45)) for i in range(3)} | {"x.png": b"broken"}
    rows = "file,left,top,right,bottom\n0.png,5,2,12,9\n1.png,5,2,12,9\n2.png,0,0,1,1\n"
    report = doctor(put(tmp_path / "set", files | {"boxes.csv": rows.encode()}), size=20, fit="tiles")
    assert (report.pictures, report.accepted, report.tiles, len(report.rejected)) == (4, 2, 2, 11)
    assert "4 (2 accepted, 2 rejected)" in report.text()
    assert any(line.startswith("Rejected files: 2, and tiles: 9;") for line in report.advice)
