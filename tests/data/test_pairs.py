"""`--input`: halves, pairs of files in every layout, and second sources; what is rejected, and what every error lists."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_helpers import encoded, picture, write
from PIL import Image as PillowImage

from leafwing.data import Dataset, joining, load, load_pack, pairs
from leafwing.data.doctor import doctor
from leafwing.data.loading import join_sources
from leafwing.data.sources import Entry, Source
from leafwing.errors import LeafwingError, StorageError
from leafwing.fields import Image


def solid(colour: tuple[int, ...] | int, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> bytes:
    """A PNG file of one colour; the size is (width, height)."""
    return encoded(PillowImage.new(mode, size, colour))


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def shades(data: Dataset) -> list[tuple[int, int]]:
    """The first value of each image and of its input."""
    return [(int(a.flat[0]), int(b.flat[0])) for a, b in zip(data.array, data.columns["input"], strict=True)]


def without_tones(notes: list[str]) -> list[str]:
    """The notes without those about images of one colour, which these are."""
    return [note for note in notes if " images are " not in note and " inputs are " not in note]


def pair_files(image: Callable[[int], str], inputs: Callable[[int], str], n: int = 4) -> dict[str, bytes]:
    """n pairs of grey files: image i has the value 10 i, its input 10 i + 5."""
    files = {image(i): solid(10 * i, mode="L") for i in range(n)}
    return files | {inputs(i): solid(10 * i + 5, mode="L") for i in range(n)}


EXPECTED = [(10 * i, 10 * i + 5) for i in range(4)]
LAYOUTS = {
    "folders": ("A", lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"),
    "other extensions": ("A", lambda i: f"B/{i}.bmp", lambda i: f"A/{i}.png"),
    "splits below": ("in", lambda i: f"out/train/{i}.png", lambda i: f"in/train/{i}.png"),
    "splits above": ("A", lambda i: f"{'tv'[i % 2]}/B/{i}.png", lambda i: f"{'tv'[i % 2]}/A/{i}.png"),
    "beside": ("A", lambda i: f"{i}.png", lambda i: f"A/{i}.png"),
    "names with dots": ("A", lambda i: f"B/a.{i}.png", lambda i: f"A/a.{i}.png"),
    "a trailing slash": ("edges/", lambda i: f"B/{i}.png", lambda i: f"edges/{i}.png"),
    "suffix": ("_A", lambda i: f"{i}_B.png", lambda i: f"{i}_A.png"),
    "letter": ("A", lambda i: f"{i}_B.png", lambda i: f"{i}_A.png"),
    "no suffix": ("_mask", lambda i: f"x/{i}.png", lambda i: f"x/{i}_mask.png"),
    "prefixes of others": ("_A", lambda i: f"{'1' * (i + 1)}_B.png", lambda i: f"{'1' * (i + 1)}_A.png"),
}


@pytest.mark.parametrize(("option", "image", "inputs"), LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_layout_pairs_the_same_files(
    tmp_path: Path, option: str, image: Callable[[int], str], inputs: Callable[[int], str]
) -> None:
    data = load(put(tmp_path / "set", pair_files(image, inputs)), input=option)
    assert sorted(shades(data)) == EXPECTED
    assert data.spec.fields == {"image": Image(32, 32, 1), "input": Image(32, 32, 1)}
    assert not data.rejects
    assert data.spec.unpaired == ()
    assert any(note.startswith("input: ") for note in data.notes)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("layout", ["folders", "suffix"])
def test_pairs_in_archives(tmp_path: Path, kind: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    option, image, inputs = LAYOUTS[layout]
    files = pair_files(image, inputs)
    path = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"set/{name}", content)
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"set/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    data = load(path, input=option)
    assert sorted(shades(data)) == EXPECTED
    monkeypatch.setattr(joining, "open_source", lambda *_: pytest.fail("the source was opened again"))
    assert shades(load(path, input=option)) == shades(data)


@pytest.mark.parametrize(
    ("option", "files"),
    [
        *((option, pair_files(image, inputs)) for option, image, inputs in LAYOUTS.values()),
        (
            "pairs.csv",
            {"pairs.csv": b"image,input\n" + b"".join(b"B/%d.png,A/%d.png\n" % (i, i) for i in range(4))}
            | pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"),
        ),
    ],
    ids=[*LAYOUTS, "a list"],
)
def test_pairs_in_a_tar_of_the_current_folder(tmp_path: Path, option: str, files: dict[str, bytes]) -> None:
    packed = shutil.make_archive(str(tmp_path / "set"), "tar", put(tmp_path / "set", {**files}))
    with tarfile.open(packed) as archive:
        assert f"./{next(iter(files))}" in archive.getnames()
    assert sorted(shades(load(packed, input=option))) == EXPECTED


def test_a_list_of_pairs(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {**pair_files(lambda i: f"x/{i}.png", lambda i: f"y/{9 - i}.png")}
    files["x/pairs.csv"] = "input,image\n" + "".join(f"../y/{9 - i}.png,{i}.png\n" for i in range(4))
    with pytest.raises(LeafwingError, match="no line names two images that exist; paths are relative"):
        load(put(tmp_path / "nested", {**files, "x/pairs.csv": "input,image\ny/1.png,0.png\n"}), input="pairs.csv")
    del files["x/pairs.csv"]
    rows = "".join(f"x/{i}.png,y/{9 - i}.png\n" for i in range(3))
    files["pairs.csv"] = f"file,input\n{rows}x/absent.png,y/9.png\n"
    data = load(put(tmp_path / "set", files), input="pairs.csv")
    assert shades(data) == EXPECTED[:3]
    assert {reject.name for reject in data.rejects} == {"x/3.png", "y/6.png"}
    assert {reject.reason for reject in data.rejects} == {"no pair in pairs.csv"}
    assert without_tones(data.notes) == [
        "input: as listed in pairs.csv",
        "Files in pairs.csv that do not exist: 1 (x/absent.png).",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "must name the columns input,image or file,input; it is: a,b"),
        ("file,input\nB/0.png,\n", "line 2: an input is needed"),
        ("file,input\nB/0.png,A/0.png\nB/0.png,A/1.png\n", "line 3: B/0.png is listed twice"),
        (
            "file,input\nB/00.png,A/0.png\n",
            "no line names two images that exist; .*pairs.csv. B/00.png does not exist; the nearest image is B/0.png.",
        ),
        (
            "file,input\nB/0.png,0.png\n",
            "no line names two images that exist; .* 0.png is the name of several images; the nearest image is [AB]/0.png.",
        ),
        ('file,input\nB/0.png,A/0.png\nB/1.png,"A/1.png\nB/2.png,A/2.png\n', "pairs.csv, line 3: not a readable csv file"),
    ],
)
def test_invalid_lists_of_pairs(tmp_path: Path, text: str, message: str) -> None:
    files: dict[str, bytes | str] = {**pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"), "pairs.csv": text}
    with pytest.raises(LeafwingError, match=message.replace("(", r"\(")):
        load(put(tmp_path / "set", files), input="pairs.csv")


COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"
FORMS: dict[str, Callable[[Path], str]] = {
    "absolute paths": lambda path: "input,image\n" + "".join(f"{path}/A/{i}.png,{path}/B/{i}.png\n" for i in range(4)),
    "as Excel saves it": lambda path: "sep=;\ninput;image\n" + "".join(f"A/{i}.png;B/{i}.png\n" for i in range(4)),
    "semicolons": lambda path: "Input;Image\n" + "".join(f"A/{i}.png; B/{i}.png\n" for i in range(4)),
    "a further column": lambda path: "input,image,split\n" + "".join(f"A/{i}.png,B/{i}.png,x\n" for i in range(4)),
    "another case": lambda path: "input,image\n" + "".join(f"a/{i}.PNG,b/{i}.PNG\n" for i in range(4)),
    "Windows paths": lambda path: "input,image\n" + "".join(f"A\\{i}.png,B\\{i}.png\n" for i in range(4)),
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_pairs_are_read_like_other_lists(tmp_path: Path, form: str) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"))
    put(source, {"pairs.csv": FORMS[form](source)})
    assert shades(load(source, input="pairs.csv")) == EXPECTED


def test_lists_of_pairs_with_composed_accents(tmp_path: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{DECOMPOSED}{i}.png", lambda i: f"A/{DECOMPOSED}{i}.png"))
    rows = "".join(f"A/{COMPOSED}{i}.png,B/{COMPOSED}{i}.png\n" for i in range(4))
    assert shades(load(put(source, {"pairs.csv": f"input,image\n{rows}"}), input="pairs.csv")) == EXPECTED


def test_a_list_of_pairs_in_a_folder_names_files_elsewhere_from_there(tmp_path: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"))
    rows = "".join(f"../A/{i}.png,{i}.png\n" for i in range(4))
    assert shades(load(put(source, {"B/pairs.csv": f"input,image\n{rows}"}), input="pairs.csv")) == EXPECTED


def test_a_list_of_pairs_by_its_path_as_shells_complete_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"))
    rows = "".join(f"A/{i}.png,B/{i}.png\n" for i in range(4))
    put(tmp_path, {"set/pairs.csv": f"input,image\n{rows}", "other.csv": f"input,image\n{rows}", "here/pairs.csv": "x"})
    monkeypatch.chdir(tmp_path)
    named = load("set", input="pairs.csv")
    for option in ("set/pairs.csv", "./set/pairs.csv", str(source / "pairs.csv"), source / "pairs.csv"):
        data = load("set", input=option)
        assert (data.fingerprint, data.options) == (named.fingerprint, named.options)
    monkeypatch.chdir(tmp_path / "here")
    assert load(source, input="pairs.csv").fingerprint == named.fingerprint, "not the one here"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LeafwingError, match=r"set has no folder and no CSV file of this name .* CSV files: pairs.csv"):
        load("set", input="other.csv")
    for option in ("./other.csv", tmp_path / "other.csv"):
        with pytest.raises(LeafwingError, match=r"other.csv.*a list of pairs lies in SOURCE.*copy it into .*set"):
            load(source, input=option)


def test_an_input_that_is_missing_is_not_the_image_itself(tmp_path: Path) -> None:
    source = put(tmp_path / "set", {**pair_files(lambda i: f"{i}.png", lambda i: f"{i}.bmp"), "pairs.csv": "image,input\n"})
    with (source / "pairs.csv").open("a") as file:
        file.writelines(f"{i}.png,{i}.bmp\n" for i in range(4))
    (source / "3.bmp").unlink()
    data = load(source, input="pairs.csv")
    assert shades(data) == EXPECTED[:3]
    assert "Files in pairs.csv that do not exist: 1 (3.bmp)." in data.notes


@pytest.mark.parametrize(
    ("option", "image", "inputs"),
    [
        ("A", lambda i: f"B/img{i}.png", lambda i: f"A/IMG{i}.PNG"),
        ("_A", lambda i: f"img{i}_B.png", lambda i: f"IMG{i}_A.png"),
    ],
)
def test_partners_may_differ_in_case(
    tmp_path: Path, option: str, image: Callable[[int], str], inputs: Callable[[int], str]
) -> None:
    source = put(tmp_path / "set", pair_files(image, inputs))
    data = load(source, input=option)
    assert sorted(shades(data)) == EXPECTED
    assert f"Pairs whose names differ in case: 4, such as {inputs(0)} for {image(0)}." in data.notes
    put(
        source, {inputs(0).lower().replace("a/", "A/").replace("_a", "_A"): solid(77, mode="L")}
    )  # which is then the partner
    assert sorted(shades(load(source, input=option))) == [(0, 77), *EXPECTED[1:]]


def test_the_nearest_names_of_many_images_without_a_partner_are_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []

    def record(name: str, names: dict[str, str], number: int) -> list[str]:
        searched.append(len(names))
        return []

    monkeypatch.setattr(pairs.difflib, "get_close_matches", record)
    entries = [Entry(f"{side}/{i}{side}.png", None, 1) for side in "AB" for i in range(3000)]
    entries += [Entry("A/0.png", None, 1), Entry("B/0.png", None, 1)]
    pairs.find_input(Source("folder", tmp_path, entries, lambda location: b""), "A")
    assert len(searched) == 20
    assert max(searched) == 500


def test_lists_without_labels_are_not_offered_as_labels(tmp_path: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png", 12))
    rows = "".join(f"A/{i}.png,B/{i}.png\n" for i in range(12))
    points = "".join(f"A/{i}.png,{i}.5,{2 * i}\n" for i in range(12))
    put(
        source,
        {"couples.csv": f"input,image\n{rows}", "list_landmarks_align_celeba.csv": f"image_id,nose_x,nose_y\n{points}"},
    )
    assert not any("lists images" in note for note in load(source).notes)


def test_a_list_of_pairs_is_not_ignored_silently(tmp_path: Path) -> None:
    source = put(tmp_path / "set", {"a.png": solid(1, mode="L"), "pairs.csv": "file,input\na.png,a.png\n"})
    assert without_tones(load(source).notes) == ["pairs.csv is not used; --input pairs.csv reads the pairs that it lists."]


def test_files_without_a_partner_are_rejected_with_the_reason(tmp_path: Path) -> None:
    files = pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png")
    files |= {"A/only.png": solid(1), "B/alone.png": solid(2), "C/else.png": solid(3), "A/0.tiff": solid(4)}
    files["A/3.png"] = b"bad"
    data = load(put(tmp_path / "set", files), input="A")
    assert shades(data) == EXPECTED[:3]
    assert data.spec.labels == ()
    assert {reject.name: reject.reason for reject in data.rejects} == {
        "A/0.tiff": "same name as A/0.png, apart from the extension",
        "A/only.png": "no partner in the folder B",
        "B/3.png": "its input A/3.png cannot be used: not an image",
        "B/alone.png": "no partner in the folder A",
        "C/else.png": "neither in the folder A nor in the folder B",
    }


def test_a_pair_is_rejected_if_its_input_is_too_small(tmp_path: Path) -> None:
    files = pair_files(lambda i: f"{i}_B.png", lambda i: f"{i}_A.png") | {"2_A.png": solid(3, (8, 8), "L")}
    data = load(put(tmp_path / "set", files), input="_A", size=32)
    assert shades(data) == [EXPECTED[0], EXPECTED[1], EXPECTED[3]]
    assert data.columns["input"].shape == data.array.shape
    assert data.rejects[0].name == "2_B.png"
    assert data.rejects[0].reason.startswith("its input 2_A.png cannot be used: too small: 8x8")


def test_ambiguous_partners_are_an_error(tmp_path: Path) -> None:
    files = pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png") | {"C/0.png": solid(1)}
    with pytest.raises(LeafwingError, match="the images could be the folder B or the folder C"):
        load(put(tmp_path / "folders", files), input="A")
    files = pair_files(lambda i: f"{i}_B.png", lambda i: f"{i}_A.png") | {f"{i}_C.png": solid(1) for i in range(3)}
    with pytest.raises(LeafwingError, match="the images could be file names that end in '_B' or in '_C'"):
        load(put(tmp_path / "suffixes", files), input="_A")


@pytest.mark.parametrize("half", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("odd", [0, 1])
def test_halves(tmp_path: Path, half: str, odd: int) -> None:
    first, second = picture(1, 40, 44), picture(2, 40, 44)
    across = half in ("left", "right")
    middle = np.zeros((40, odd, 3) if across else (odd, 44, 3), np.uint8)
    whole = np.concatenate([first, middle, second], axis=1 if across else 0)
    source = put(tmp_path / "set", {"a.png": encoded(whole)})
    data = load(source, input=half, size="40x44")
    expected = (first, second) if half in ("left", "top") else (second, first)
    assert np.array_equal(data.columns["input"][0], expected[0])
    assert np.array_equal(data.array[0], expected[1])
    assert data.notes == [f"input: the {half} half of each image"]
    index = json.loads((Path(data_folder(data)) / "index.json").read_text())
    assert index["size"] == [list(whole.shape[:2])]
    corner = index["box"][0]
    assert (corner[2] - corner[0], corner[3] - corner[1]) == (44, 40)


def data_folder(data: Dataset) -> Path:
    filename = getattr(data.array.base, "filename", None) or data.array.filename  # type: ignore[attr-defined]
    return Path(filename).parent


def test_both_halves_are_fitted_alone_and_the_default_size_is_chosen_for_a_half(tmp_path: Path) -> None:
    files = {f"{i}.jpg": encoded(np.concatenate([picture(i, 160, 128), picture(9, 160, 128)], 1), "JPEG") for i in range(2)}
    data = load(put(tmp_path / "set", files), input="right")
    assert data.spec.fields["image"] == Image(64, 64, 3)
    single = load(put(tmp_path / "single", {"0.png": encoded(picture(0, 160, 128))}), size=64)
    assert np.abs(data.array[0].astype(int) - single.array[0]).mean() < 6  # JPEG, and decoded at a lower resolution
    small = put(tmp_path / "small", {"a.png": encoded(picture(0, 60, 120))})
    assert load(small, input="left").spec.height == 32


def test_square_images_are_probably_not_pairs(tmp_path: Path) -> None:
    source = write(tmp_path / "set", ["a.png", "b.png"], height=64, width=64)
    with pytest.raises(
        LeafwingError, match=r"typical image has 64x64 pixels .* Are these pairs, two images side by side.*--size 64x32"
    ):
        load(source, input="left")
    assert load(source, input="left", size="64x32").spec.fields["input"] == Image(64, 32, 3)


def test_modes_may_differ_and_the_input_has_channels_of_its_own(tmp_path: Path) -> None:
    deep = PillowImage.fromarray(np.full((50, 60), 257 * 130, np.uint16))
    files = {
        "A/0.png": encoded(deep),
        "A/1.png": solid(9, (33, 47), "L"),
        "B/0.png": solid((9, 8, 7, 255), mode="RGBA"),
        "B/1.webp": encoded(PillowImage.new("RGB", (90, 41), (10, 20, 30)), "WEBP", lossless=True),
    }
    source = put(tmp_path / "set", files)
    data = load(source, input="A", channels=4)
    assert data.spec.fields == {"image": Image(32, 32, 4), "input": Image(32, 32, 1)}
    assert data.columns["input"][:, 0, 0, 0].tolist() == [130, 9]
    assert data.array[:, 0, 0].tolist() == [[9, 8, 7, 255], [10, 20, 30, 255]]
    assert load(source, input="B").spec.fields == {"image": Image(32, 32, 1), "input": Image(32, 32, 3)}


def test_the_pack_is_found_again_and_its_options_load_the_same(tmp_path: Path, cache: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"))
    data = load(source, input="A", mirror=True)
    assert data.options["input"] == "A"
    again, packed = load(source, **json.loads(json.dumps(data.options))), load_pack(data.fingerprint, mirror=True)
    assert packed is not None
    for other in (again, packed):
        assert (other.spec, other.options, other.fingerprint) == (data.spec, data.options, data.fingerprint)
        assert np.array_equal(other.columns["input"], data.columns["input"])
        assert not other.columns["input"].flags.writeable
    (cache / "packs" / data.fingerprint / "input.npy").unlink()
    assert load_pack(data.fingerprint) is None
    assert shades(load(source, input="A")) == EXPECTED


def test_the_fingerprint_covers_the_input_and_is_unchanged_without_one(tmp_path: Path) -> None:
    files = {"0.png": encoded(picture(0, 40, 80)), "1.png": encoded(picture(1, 40, 80))}
    source = put(tmp_path / "set", files)
    plain = load(source).fingerprint
    prints = {plain, *(load(source, input=name).fingerprint for name in ("left", "right", "grey", "edges", "blur", "hole"))}
    assert len(prints) == 7
    pairs = put(tmp_path / "pairs", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"))
    before = load(pairs, input="A").fingerprint
    put(pairs, {"A/1.png": solid(99, mode="L")})
    assert load(pairs, input="A").fingerprint != before
    single = put(tmp_path / "single", {"a.ppm": b"P6\n40 40\n255\n" + bytes(range(240)) * 20})
    assert load(single).fingerprint == "c3b13309d6509e10157851637e181b0ce9f6467c804a74cbaad7e6a11b8166ec"


def test_labels_and_attributes_of_a_list_stay(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {**pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png")}
    files["labels.csv"] = "file,label,old\n" + "".join(f"B/{i}.png,{'xy'[i % 2]},{i // 2}\n" for i in range(4))
    data = load(put(tmp_path / "set", files), input="A")
    assert data.spec.labels == ("x", "y")
    assert data.spec.attributes == ("old",)
    assert shades(data) == EXPECTED


def test_folders_remain_classes_of_halves_and_derived_inputs(tmp_path: Path) -> None:
    source = write(tmp_path / "set", ["a/1.png", "b/2.png"], height=40, width=80)
    assert load(source, input="left").spec.labels == load(source, input="grey").spec.labels == ("a", "b")


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_keep_pairs_together(tmp_path: Path, resident: bool, world_size: int) -> None:
    ramp = np.arange(0, 160, 4, dtype=np.uint8)
    files = {}
    for i in range(6):
        files[f"B/{i}.png"] = encoded(np.tile(ramp + i, (40, 1)))
        files[f"A/{i}.png"] = encoded(np.tile(ramp + i + 90, (40, 1)))
    data = load(put(tmp_path / "set", files), input="A", size=40, mirror=True)
    training, held_out = data.split(2)
    assert len(held_out) >= 2
    flipped = set()
    for rank in range(world_size):
        batch = training.batches(0, "cpu", resident=resident, rank=rank, world_size=world_size)(5, 12)
        image, inputs = ((batch[name] + 1) * 127.5 for name in ("image", "input"))
        assert ((inputs - image).round() == 90).all()
        flipped |= {bool(row[0, 0, 0] > row[0, 0, -1]) for row in image}
    assert flipped == {True, False}


def test_inputs_belong_to_the_labelled_stream_too(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {**pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png")}
    files["labels.csv"] = "file,label\n" + "".join(f"B/{i}.png,{'xy'[i % 2]}\n" for i in range(4))
    data = load(put(tmp_path / "set", files), input="A").with_labelled_stream(2)
    batch = data.batch(0, 0, 8)
    assert (batch.labelled_input.int() - batch.labelled_image.int() == 5).all()


def test_a_second_source_is_unpaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "horses", {f"{i}.png": solid((i, 0, 0)) for i in range(6)})
    put(tmp_path / "zebras", {f"{i}.png": solid(100 + i, (50, 60), "L") for i in range(9)})
    put(tmp_path / "zebras", {"bad.png": b"bad"})
    monkeypatch.chdir(tmp_path)
    data = load("horses", input="zebras", size=16, mirror=True)
    assert data.spec.fields == {"image": Image(16, 16, 3), "input": Image(16, 16, 1)}
    assert data.spec.unpaired == ("input",)
    assert data.options["input"] == str(tmp_path / "zebras")
    assert without_tones(data.notes) == [f"input: 9 images of {tmp_path / 'zebras'}, unpaired"]
    assert [reject.name for reject in data.rejects] == [f"{tmp_path / 'zebras'}: bad.png"]
    batch = data.batch(0, 0, 18)
    assert sorted(batch.input[:9, 0, 0, 0].tolist()) == list(range(100, 109))
    assert sorted(batch.image[:6, 0, 0, 0].tolist()) == list(range(6))
    monkeypatch.chdir("/")
    again = load(tmp_path / "horses", **json.loads(json.dumps(data.options)))
    assert (again.fingerprint, again.parts, again.spec) == (data.fingerprint, data.parts, data.spec)
    parts = [load_pack(data.parts[name], mirror=True) for name in ("image", "input")]
    assert parts[0]
    assert parts[1]
    joined = join_sources(*parts)
    assert joined.fingerprint == data.fingerprint
    assert all(bool((value == batch[name]).all()) for name, value in joined.batch(0, 0, 18).items())
    put(tmp_path / "zebras", {"new.png": solid(1)})
    assert load(tmp_path / "horses", **data.options).fingerprint != data.fingerprint


def test_held_out_images_of_both_sources(tmp_path: Path) -> None:
    put(tmp_path / "a", {f"{i}.png": encoded(picture(i)) for i in range(10)})
    put(tmp_path / "b", {f"{i}.png": encoded(picture(50 + i)) for i in range(20)})
    data = load(tmp_path / "a", input=tmp_path / "b", size=32)
    training, held_out = data.split(3)
    assert (len(training), len(held_out)) == (7, 3)
    parts = [part.streams["input"].data for part in (training, held_out)]
    assert [len(part) for part in parts] == [14, 6]
    assert not {*parts[0].to_rows(np.arange(14))} & {*parts[1].to_rows(np.arange(6))}
    assert data.split(0)[0] is data


def test_a_folder_of_the_source_comes_before_a_second_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png"))
    put(tmp_path / "A", {"x.png": solid(1)})
    monkeypatch.chdir(tmp_path)
    assert load("set", input="A").spec.unpaired == ()
    assert load("set", input="./A").spec.unpaired == ("input",)


@pytest.mark.parametrize("here", ["above", "inside"])
def test_the_path_of_a_folder_of_the_source_is_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    files = pair_files(lambda i: f"train/B/{i}.png", lambda i: f"train/A/{i}.png") | {"test/A/9.png": solid(1)}
    source = put(tmp_path / "set", files | {"test/B/9.png": solid(2), "test/C/z.png": solid(3)})
    monkeypatch.chdir(tmp_path if here == "above" else source)
    given, prefix = ("set", "set/") if here == "above" else (".", "")
    for option in (f"{prefix}train/A", f"./{prefix}train/A/", source / "train" / "A"):
        assert shades(load(given, input=option)) == EXPECTED
        assert doctor(given, input=option).accepted == 4
    assert len(load(given, input="A")) == 5
    for option in (f"{prefix}test/C", f"./{prefix}test/C"):
        for read in (load, doctor):
            with pytest.raises(LeafwingError, match=r"no file in the folder test/C .*the path of the other as --input"):
                read(given, input=option)
    data = load([source, put(tmp_path / "more", {"A/1.png": solid(4), "B/1.png": solid(5)})], input=tmp_path / "more" / "A")
    assert data.spec.unpaired == ()


def test_a_word_comes_before_a_folder_and_a_note_says_so(tmp_path: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"hole/{i}.png"))
    data = load(source, input="hole")
    assert "--input hole is not the folder hole; for that write --input hole/" in data.notes
    assert sorted(shades(load(source, input="hole/"))) == EXPECTED


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("rigth", "did you mean right"),
        ("C", "has folders: A, B; images: 0.png"),
        ("other.csv", "no CSV file of this name"),
        ("./missing", "input='?./missing'?: no such file or folder"),
        ("", "no such file or folder"),
    ],
)
def test_errors_list_what_there_is(tmp_path: Path, cache: Path, option: str, message: str) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/b{i}.png" if i else "B/0.png", lambda i: f"A/{i}.png"))
    with pytest.raises(LeafwingError, match=message) as error:
        load(source, input=option)
    assert error.value.exit_code == 2
    assert not cache.exists() or not any(cache.iterdir())


def test_a_folder_without_partners_is_an_error_that_says_how_to_use_it_unpaired(tmp_path: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"trainB/b{i}.png", lambda i: f"trainA/a{i}.png"))
    with pytest.raises(
        LeafwingError, match=r"no file in the folder trainA .*has a partner.*and in trainB.*the path of the other as"
    ):
        load(source, input="trainA")
    assert load(source / "trainB", input=source / "trainA").spec.unpaired == ("input",)


@pytest.mark.parametrize(("name", "option"), [("digits", "left"), ("digits", "A"), ("ring", "edges"), ("digits", "grey")])
def test_inputs_that_built_in_data_do_not_have(name: str, option: str) -> None:
    with pytest.raises(LeafwingError, match=f"input='?{option}'?: "):
        load(name, input=option)


def test_derived_inputs_and_second_sources_of_built_in_data(tmp_path: Path) -> None:
    data = load("digits", input="edges")
    assert data.spec.fields["input"] == Image(32, 32, 1)
    assert data.fingerprint != load("digits").fingerprint
    assert load("digits", **data.options).fingerprint == data.fingerprint
    joined = load("digits", input=write(tmp_path / "set", ["a.png"]))
    assert joined.spec.fields["input"] == Image(32, 32, 3)
    assert load(tmp_path / "set", input="digits", size=16).spec.fields["input"] == Image(16, 16, 1)
    for first, second in (("ring", "digits"), ("digits", "ring")):
        with pytest.raises(LeafwingError, match=r"input='?.*'?: both sources must be images, and ring has points"):
            load(first, input=second)


def test_the_doctor_reads_pairs_and_mentions_a_second_source(tmp_path: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/{i}.png", lambda i: f"A/{i}.png") | {"A/x.png": solid(1)})
    report = doctor(source, input="A")
    assert (report.accepted, [item.name for item in report.rejected]) == (4, ["A/x.png"])
    assert report.options["input"] == "A"
    assert report.fields == {"input": {"kind": "image", "field": "image 32x32x1"}}
    assert "  input:     image 32x32x1\n" in report.text()
    assert "input: the folder A; image: the folder B" in report.notes
    assert doctor(source).accepted == 9
    report = doctor(source / "B", input=source / "A")
    assert report.accepted == 4
    assert any("a second source, unpaired" in note for note in report.notes)
    with pytest.raises(LeafwingError, match=r"input='?C'?: "):
        doctor(source, input="C")


def test_names_in_two_unicode_forms_are_partners(tmp_path: Path) -> None:
    source = put(tmp_path / "set", pair_files(lambda i: f"B/e\u0301{i}.png", lambda i: f"A/\u00e9{i}.png"))
    assert shades(load(source, input="A")) == EXPECTED


def test_a_damaged_compressed_tar_of_pairs_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    option, image, inputs = LAYOUTS["folders"]
    path = tmp_path / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in pair_files(image, inputs).items():
            info = tarfile.TarInfo(f"set/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF  # the checksum at the end, which listing does not read
    path.write_bytes(content)
    with pytest.raises(LeafwingError, match="damaged or truncated") as caught:
        load(path, input=option)
    assert not isinstance(caught.value, StorageError)
