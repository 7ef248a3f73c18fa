"""The doctor's report: counts, duplicates and advice; it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import encoded, picture, write
from PIL import Image

from leafwing.data import duplicates, load
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError


def test_counts(tmp_path: Path) -> None:
    source = write(tmp_path, ["a.png", "b.png", "c.png"])
    (source / "d.jpg").write_bytes(encoded(picture(8, 60, 80), "JPEG"))
    (source / "e.png").write_bytes(encoded(picture(9, 50, 20, 1)))
    (source / "f.png").write_bytes(b"broken")
    report = doctor(source, size=16)
    assert (report.kind, report.pictures, report.accepted) == ("folder", 6, 5)
    assert [(reject.name, reject.reason) for reject in report.rejected] == [("f.png", "not an image")]
    assert report.sizes == {"min": [40, 20], "median": [40, 40], "max": [60, 80]}
    assert report.modes == {"RGB": 4, "L": 1}
    assert report.formats == {"PNG": 4, "JPEG": 1}
    assert (report.classes, report.balance) == ({}, None)
    assert report.exact_duplicates == report.near_duplicates == []
    assert any("memorisation" in line for line in report.advice)
    assert report.rejected == load(source, size=16).rejects
    plain = report.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert {"source", "kind", "pictures", "accepted", "rejected", "sizes", "modes", "formats", "classes", "balance"} <= set(
        plain
    )
    assert {"exact_duplicates", "near_duplicates", "notes", "advice"} <= set(plain)
    assert "f.png: not an image" in report.text()


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes | bool]]:
    """Modification time and content of everything in a folder."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_it_changes_nothing(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path, ["a/a.png", "b/b.png"])
    before = snapshot(source)
    steps: list[tuple[int, int]] = []
    doctor(source, progress=lambda done, total: steps.append((done, total)))
    assert snapshot(source) == before
    assert list(cache.iterdir()) == []
    assert steps[-1] == (2, 2)


def test_duplicates(tmp_path: Path) -> None:
    source = write(tmp_path, [f"{index:02d}.png" for index in range(30)], height=128, width=128)
    (source / "same.png").write_bytes((source / "03.png").read_bytes())
    (source / "jpeg.jpg").write_bytes(encoded(picture(5, 128, 128), "JPEG", quality=60))
    (source / "large.png").write_bytes(encoded(Image.fromarray(picture(7, 128, 128)).resize((200, 200))))
    brighter = np.clip(picture(9, 128, 128).astype(int) + 8, 0, 255).astype(np.uint8)
    (source / "bright.webp").write_bytes(encoded(brighter, "WEBP"))
    report = doctor(source)
    assert report.exact_duplicates == [["03.png", "same.png"]]
    assert sorted(map(sorted, report.near_duplicates)) == [
        ["05.png", "jpeg.jpg"],
        ["07.png", "large.png"],
        ["09.png", "bright.webp"],
    ]
    assert any("distinct" in line and "30" in line for line in report.advice)
    assert "03.png = same.png" in report.text()


def test_plain_images_are_not_duplicates(tmp_path: Path) -> None:
    for index in range(12):
        (tmp_path / f"{index}.png").write_bytes(encoded(Image.new("RGB", (64, 64), (index * 20, 100, 255 - index * 20))))
    report = doctor(tmp_path)
    assert report.exact_duplicates == report.near_duplicates == []


def test_the_same_drawing_in_another_colour_is_another_picture() -> None:
    shape = np.zeros((64, 64, 3), np.uint8) + 255
    red, blue = shape.copy(), shape.copy()
    red[16:48, 16:48] = (220, 30, 30)
    blue[16:48, 16:48] = (30, 30, 220)
    assert duplicates.near([duplicates.sketch(red), duplicates.sketch(blue)]) == []
    assert duplicates.near([duplicates.sketch(red), duplicates.sketch(red)]) == [[0, 1]]
    assert duplicates.near([]) == []


def test_every_pair_within_four_bits_is_compared() -> None:
    thumbnail = duplicates.sketch(picture(1)).thumbnail
    random = np.random.default_rng(0)
    base = int(random.integers(0, 2**63))
    for _ in range(200):
        flips = random.choice(64, 4, replace=False)
        other = base
        for bit in flips.tolist():
            other ^= 1 << bit
        pair = [duplicates.Sketch(bits, thumbnail, False) for bits in (base, other)]
        assert duplicates.near(pair) == [[0, 1]]


def test_many_pictures_are_compared_with_few_others_each(monkeypatch: pytest.MonkeyPatch) -> None:
    compare, numbers = np.bitwise_count, list[int]()

    def counting(bits: np.ndarray) -> np.ndarray:
        numbers.append(len(bits))
        return compare(bits)

    monkeypatch.setattr(np, "bitwise_count", counting)
    most = len(duplicates._BANDS) * duplicates._NEIGHBOURS
    random = np.random.default_rng(0)
    thumbnails = random.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
    sketches = [
        duplicates.Sketch(int(bits), thumbnails[index % 50], False)
        for index, bits in enumerate(random.integers(0, 2**63, 20_000).tolist())
    ]
    assert duplicates.near(sketches) == []
    assert 0 < sum(numbers) <= 20_000 * most
    numbers.clear()
    similar = [duplicates.Sketch(7, thumbnails[index % 50], False) for index in range(2_000)]
    assert sum(len(group) for group in duplicates.near(similar)) == 2_000
    assert 0 < sum(numbers) <= 2_000 * most


def test_advice_on_inputs(tmp_path: Path) -> None:
    source, other = (write(tmp_path / name, ["a.png", "b.png"], height=32, width=32) for name in ("source", "other"))
    for input in ("edges", str(other)):
        advice = " ".join(doctor(source, size=16, input=input).advice)
        assert "recipe pix2pix learns one from the other" in advice
        assert "start with recipe" not in advice


def test_advice_on_labels(tmp_path: Path) -> None:
    def classes(name: str, **counts: int) -> str:
        folder = tmp_path / name
        files = [f"{label}/{index}.png" for label, count in counts.items() for index in range(count)]
        return " ".join(doctor(write(folder, files, height=32, width=32), size=16).advice)

    assert "imbalanced" not in classes("even", a=60, b=50)
    assert "b has 10" in classes("uneven", a=120, b=10)
    report = doctor(tmp_path / "uneven")
    assert report.classes == {"a": 120, "b": 10}
    assert report.balance == pytest.approx(10 / 120, abs=1e-4)


def test_sources_without_anything_usable_are_reported(tmp_path: Path) -> None:
    empty = doctor(tmp_path)
    assert (empty.pictures, empty.accepted) == (0, 0)
    assert "should contain picture files" in empty.text()
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(b"bad" * index)
    bad = doctor(tmp_path)
    assert (bad.pictures, bad.accepted) == (3, 0)
    assert "none of its files can be used (3 rejected)" in bad.text()
    json.dumps(bad.as_dict())
    with pytest.raises(LeafwingError):
        doctor(tmp_path / "gone")
    with pytest.raises(LeafwingError):
        doctor(tmp_path, fit="cover")


@pytest.mark.parametrize(
    "options", [{"labels": "none"}, {"levels": "0:1"}, {"input_levels": "0:1"}, {"bits": 16}, {"fit": "tiles"}]
)
def test_options_of_files_are_refused_for_built_in_data_as_in_training(options: dict[str, Any]) -> None:
    for read in (doctor, load):
        with pytest.raises(LeafwingError, match="applies only to your own files; digits is built in"):
            read("digits", **options)


def test_built_in_data_sets() -> None:
    digits = doctor("digits")
    assert (digits.kind, digits.pictures, len(digits.classes)) == ("built-in image data set", 1797, 10)
    ring = doctor("ring")
    assert ring.kind == "built-in 2-D points"
    assert "Points with 8" in ring.text()
    for report in (digits, ring):
        assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


def test_the_same_picture_in_two_classes_is_an_error_of_the_labels(tmp_path: Path) -> None:
    source = write(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "b/2.png"], height=32, width=32)
    assert doctor(source, size=16).contradictions == []
    (source / "b" / "3.png").write_bytes((source / "a" / "1.png").read_bytes())
    report = doctor(source, size=16)
    assert report.contradictions == [["a/1.png", "b/3.png"]]
    assert any("a/1.png = b/3.png" in line and "labels" in line for line in report.advice)


def test_a_list_of_pairs_is_found_by_its_path_as_in_training(tmp_path: Path) -> None:
    source = write(tmp_path / "set", ["A/0.png", "A/1.png", "B/0.png", "B/1.png"])
    for folder in (source, tmp_path):
        (folder / "pairs.csv").write_text("input,image\nA/0.png,B/0.png\nA/1.png,B/1.png\n")
    assert doctor(source, input=source / "pairs.csv").pairs["count"] == 2
    with pytest.raises(LeafwingError, match="a list of pairs lies in SOURCE"):
        doctor(source, input=tmp_path / "pairs.csv")


def test_the_first_of_two_sources_is_read_as_in_training(tmp_path: Path) -> None:
    """The levels of inputs are not its own, and its images keep 16 bits by default."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = np.arange(1600, dtype=np.uint16).reshape(40, 40) * (i + 1)
            (tmp_path / name / f"{i}.png").write_bytes(encoded(pixels))
    how: dict[str, Any] = {"input": tmp_path / "b", "input_levels": "0:4000", "size": 40}
    report, data = doctor(tmp_path / "a", **how), load(tmp_path / "a", **how)
    assert str(data.spec.fields["image"]).endswith("16 bits")
    assert report.options["bits"] == 16
    assert any("their 16 bits are kept" in note for note in report.notes)
