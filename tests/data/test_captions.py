"""Captions beside images: every layout, the vocabulary, what is not used, damaged lists, and that they stay with their images."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import write

from leafwing.data import Dataset, captions, joining, load, load_pack, sources
from leafwing.data.captions import MAX_CAPTIONS, MAX_LENGTH, encode
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError
from leafwing.fields import Caption

NAMES = ["0.png", "1.png", "2.png", "3.png"]
TEXTS = ["a red star", "a blue disc", "the green ring", "a red disc"]


def write_with(folder: Path, files: dict[str, str | bytes], names: list[str] = NAMES) -> Path:
    """Different images, and files beside them."""
    write(folder, names)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def texts(data: Dataset) -> list[list[str]]:
    """The captions of every stored image, in words."""
    field = data.spec.fields["caption"]
    assert isinstance(field, Caption)
    rows = data.columns["caption"].tolist()
    return [[field.decode(caption) for caption in row if caption[0]] for row in rows]


def notes(data: Dataset) -> str:
    return "\n".join(data.notes)


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


CSV = lines("file,caption", *(f"{name},{text}" for name, text in zip(NAMES, TEXTS, strict=True)))
COCO = {
    "images": [{"id": 10 + i, "file_name": name} for i, name in enumerate(NAMES)],
    "annotations": [{"image_id": 10 + i, "caption": text} for i, text in enumerate(TEXTS)],
}
PAIRS = [*zip(NAMES, TEXTS, strict=True)]
LAYOUTS: dict[str, dict[str, str | bytes]] = {
    "comma": {"captions.csv": CSV},
    "semicolon": {"captions.csv": CSV.replace(",", ";")},
    "tab": {"captions.tsv": CSV.replace(",", "\t")},
    "bar": {"captions.csv": CSV.replace(",", " | ")},
    "flickr": {"captions.txt": CSV.replace("file,", "image,")},
    "excel": {"captions.csv": b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()},
    "order of columns": {"captions.csv": lines("Caption,File_Name", *(f'"{t}",{n}' for n, t in PAIRS))},
    "without extensions": {"captions.csv": CSV.replace(".png", "")},
    "absolute paths": {"captions.csv": lines("file,caption", *(f"/home/me/set/{n},{t}" for n, t in PAIRS))},
    "json of texts": {"captions.json": json.dumps(dict(PAIRS))},
    "json of lists": {"captions.json": json.dumps({n: [t] for n, t in PAIRS})},
    "json of objects": {"captions.json": json.dumps({n: {"name": t, "category": "x"} for n, t in PAIRS})},
    "json list": {"captions.json": json.dumps([{"filename": n, "sentences": [{"raw": t}]} for n, t in PAIRS])},
    "coco": {"annotations/captions_train2017.json": json.dumps(COCO)},
    "json lines": {"metadata.jsonl": lines(*(json.dumps({"file_name": n, "text": t}) for n, t in PAIRS))},
    "metadata.csv": {"metadata.csv": CSV.replace("file,caption", "file_name,text")},
    "text files": {f"{name[:1]}.txt": text for name, text in PAIRS},
    "text files with both extensions": {f"{name}.txt": text for name, text in PAIRS},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path: Path, layout: str) -> None:
    source = write_with(tmp_path, LAYOUTS[layout])
    data = load(source, size=40)
    assert texts(data) == [[text] for text in TEXTS]
    assert "Caption: 4 images, from " in notes(data)
    assert "Ignored files" not in notes(data)
    assert data.rejects == []
    report = doctor(source, size=40)
    assert report.notes == data.notes
    assert report.fields["caption"]["examples"] == [TEXTS[0], TEXTS[1], TEXTS[3]]


def test_a_tree_of_text_files_beside_a_tree_of_images(tmp_path: Path) -> None:
    names = ["images/001.Gull/a.png", "images/001.Gull/b.png", "images/002.Wren/a.png"]
    files: dict[str, str | bytes] = {
        f"text_c10/{name[7:-4]}.txt": f"this is {index}\nwith two lines\n" for index, name in enumerate(names)
    }
    data = load(write_with(tmp_path, files, names), size=40)
    assert texts(data) == [[f"this is {index}", "with two lines"] for index in range(3)]
    assert data.spec.labels == ("001.Gull", "002.Wren")


def test_lists_below_the_top_refer_to_their_folder(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{part}/metadata.jsonl": lines(*(json.dumps({"file_name": f"{i}.png", "text": f"{part} {i}"}) for i in range(2)))
        for part in ("train", "test")
    }
    data = load(write_with(tmp_path, files, [f"{part}/{i}.png" for part in ("train", "test") for i in range(2)]), size=40)
    assert texts(data) == [["test 0"], ["test 1"], ["train 0"], ["train 1"]]


def test_several_captions_of_an_image_are_alternatives(tmp_path: Path) -> None:
    source = write_with(tmp_path, {"captions.csv": CSV + '0.png,"a star, which is red"\n0.png,one more\n'})
    data = load(source, size=40)
    assert data.columns["caption"].shape == (4, 3, 5)
    assert data.columns["caption"].dtype == np.int64
    assert texts(data) == [["a red star", "a star which is red", "one more"], *([text] for text in TEXTS[1:])]
    assert data.batch(0, 0, 4).caption.shape == (4, 5)
    field = data.spec.fields["caption"]
    assert isinstance(field, Caption)
    several = {field.decode(row.tolist()) for epoch in range(20) for row in data.batch(0, 4 * epoch, 4).caption}
    assert several == {caption for row in texts(data) for caption in row}


def test_captions_stay_with_their_images(tmp_path: Path) -> None:
    data = load(write_with(tmp_path, {"captions.csv": CSV}), size=40)
    batch, field = data.batch(3, 0, 8), data.spec.fields["caption"]
    assert isinstance(field, Caption)
    for image, caption in zip(batch.image, batch.caption, strict=True):
        index = next(i for i in range(4) if torch.equal(image, torch.from_numpy(data.array[i].copy())))
        assert field.decode(caption.tolist()) == TEXTS[index]


def test_archives(tmp_path: Path) -> None:
    source = write_with(tmp_path / "set", {f"{name[:1]}.txt": text for name, text in zip(NAMES, TEXTS, strict=True)})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(source.iterdir()):
            archive.write(file, f"pets/{file.name}")
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
        for file in sorted(source.iterdir(), reverse=True):
            tar.add(file, f"pets/{file.name}")
    assert sorted(texts(load(tmp_path / "set.zip", size=40))) == sorted(texts(load(tmp_path / "set.tar.gz", size=40)))
    assert texts(load(tmp_path / "set.zip", size=40)) == [[text] for text in TEXTS]


# --- what is not used ----------------------------------------------------------------------------------------------------------


def test_images_without_a_caption_are_rejected_and_named(tmp_path: Path) -> None:
    source = write_with(
        tmp_path, {"captions.csv": lines(*CSV.split("\n")[:3], "gone.png,a ghost", "4.png,")}, [*NAMES[:3], "4.png"]
    )
    data = load(source, size=40)
    assert len(data) == 2
    assert [(reject.name, reject.reason) for reject in data.rejects] == [
        (name, "no caption in captions.csv") for name in ("2.png", "4.png")
    ]
    assert (
        "Images without a caption in captions.csv: 2 (2.png, 4.png); they are not used, as they would be without captions.csv."
        in data.notes
    )
    assert "Entries of captions.csv without an image: 1 (gone.png)." in data.notes
    assert "Captions without a word in captions.csv: 1; they are not used." in data.notes
    assert [reject.name for reject in doctor(source, size=40).rejected] == ["2.png", "4.png"]


def test_captions_of_fewer_than_half_of_the_images_are_not_used(tmp_path: Path) -> None:
    source = write_with(
        tmp_path, {"captions.csv": lines("file,caption", "0.png,a star", *(f"gone{i}.png,x" for i in range(5)))}
    )
    data = load(source, size=40)
    assert (len(data), [*data.spec.fields], data.rejects) == (4, ["image"], [])
    assert data.notes == [
        "Not used: captions.csv, with a caption for 1 of 4 images, fewer than half; entries without an image: 5 "
        "(gone0.png, gone1.png, gone2.png ...)."
    ]


@pytest.mark.parametrize("files", [{"0.txt": "a star"}, {"readme.txt": "hello"}, {"classes.txt": "cat\ndog"}])
def test_stray_text_files_are_not_captions(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    data = load(write_with(tmp_path, files), size=40)
    assert (len(data), [*data.spec.fields]) == (4, ["image"])
    assert ("Not used: text files" in notes(data)) == ("0.txt" in files)


def test_text_files_of_numbers_are_not_captions(tmp_path: Path) -> None:
    data = load(write_with(tmp_path, {f"{i}.txt": "0 0.5 0.5 0.1 0.25\n" for i in range(4)}), size=40)
    assert (len(data), [*data.spec.fields]) == (4, ["image"])
    assert "contain only numbers" in notes(data)


def test_one_layout_is_chosen_and_the_others_are_named(tmp_path: Path) -> None:
    data = load(write_with(tmp_path, LAYOUTS["comma"] | LAYOUTS["json lines"] | LAYOUTS["text files"]), size=40)
    assert "Not used: metadata.jsonl, because the caption of each image comes from captions.csv." in data.notes
    assert "Not used: text files beside the images, because the caption of each image comes from captions.csv." in data.notes


def test_a_layout_that_covers_too_little_leaves_the_choice_to_the_next(tmp_path: Path) -> None:
    data = load(write_with(tmp_path, {"captions.csv": "file,caption\n0.png,x\n"} | LAYOUTS["json of texts"]), size=40)
    assert texts(data) == [[text] for text in TEXTS]
    assert "Not used: captions.csv, with a caption for 1 of 4 images, fewer than half." in data.notes


def test_further_columns_and_keys_are_named(tmp_path: Path) -> None:
    table = lines("file,caption,likes", *(f"{name},{text},3" for name, text in zip(NAMES, TEXTS, strict=True)))
    assert "Not used in captions.csv: likes." in notes(load(write_with(tmp_path / "a", {"captions.csv": table}), size=40))
    records = {n: {"name": t, "category": "x", "keywords": ["sky", "night"]} for n, t in zip(NAMES, TEXTS, strict=True)}
    data = load(write_with(tmp_path / "b", {"captions.json": json.dumps(records)}), size=40)
    assert "Not used in captions.json: category." in notes(data)
    assert texts(data) == [[text, "sky night"] for text in TEXTS]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_without_captions_is_not_used(tmp_path: Path, name: str) -> None:
    records = [json.dumps({"file_name": f"{i}.png", "licence": i}) for i in range(4)]
    rows = ["file_name,licence", *(f"{i}.png,{i}" for i in range(4))]
    data = load(write_with(tmp_path, {name: lines(*(rows if name.endswith("csv") else records))}), size=40)
    assert (len(data), [*data.spec.fields]) == (4, ["image"])
    assert name in notes(data)


# --- damaged lists -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.csv", "name,words\n0.png,x\n", r"csv: the first line must name the columns file,caption; it is: name,words"),
        ("captions.csv", "", r"captions.csv: the first line must name the columns .* \(empty\)"),
        ("captions.csv", "caption,file\na star, red,0.png\n", r"captions.csv, line 2: 3 cells, but the first line names 2 columns"),
        ("captions.csv", "file,caption\n0.png,x\n,y\n", r"captions.csv, line 3: a file is needed"),
        ("captions.csv", b"file,caption\n0.png,\x81\n", "captions.csv is not text; save it as UTF-8"),
        ("captions.json", '{"0.png": "x",\n}', r"captions.json: not readable JSON \(.*line [12]"),
        ("captions.json", "[" * 100_000, r"captions.json: not readable JSON"),
        ("captions.json", '"x"', r"captions.json: must be an object such as"),
        ("captions.json", '{"0.png": 3}', r"captions.json: the value of 0.png must be a text, a list of texts"),
        ("captions.json", '{"0.png": ' + "[" * 900 + '"x"' + "]" * 900 + "}", r"the value of 0.png must be a text, a list of texts"),
        ("captions.json", '[{"text": "x"}]', r"captions.json, item 1: must be an object that names its file"),
        ("captions.json", '{"images": [{}], "annotations": []}', r"every item of images needs an id and a file_name"),
        ("captions.json", '{"images": [], "annotations": [{"image_id": 1}]}', r"item 1 of annotations needs the image_id"),
        ("metadata.jsonl", '{"file_name": "0.png", "text": "x"}\n{"file_name"\n', r"metadata.jsonl, line 2: not readable JSON"),
        ("metadata.jsonl", '{"file_name": "0.png", "text": 5}\n', r"metadata.jsonl, line 1: the caption of 0.png must be a text"),
    ],
)  # fmt: skip
def test_damaged_lists_are_errors_that_name_file_and_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    source = write_with(tmp_path, {name: content})
    for read in (load, doctor):
        with pytest.raises(LeafwingError, match=message):
            read(source, size=40)


def test_damaged_text_files_reject_their_image(tmp_path: Path) -> None:
    files = LAYOUTS["text files"] | {"1.txt": b"\x81\xfe\x00", "2.txt": "\n \n"}
    data = load(write_with(tmp_path, files), size=40)
    assert [(reject.name, reject.reason) for reject in data.rejects] == [
        ("1.png", "1.txt is not text; save it as UTF-8"),
        ("2.png", "no caption in 2.txt"),
    ]


def test_names_that_could_mean_several_images_mean_none(tmp_path: Path) -> None:
    names = ["a/0.png", "b/0.png", "a/1.png", "b/2.png"]
    text = lines(
        "file,caption", "0.png,both", "a/0.png,this", "b/0.png,that", "1.png,one", "x/2.png,elsewhere", "a\\1.png,again"
    )
    data = load(write_with(tmp_path, {"captions.csv": text}, names), size=40)
    assert texts(data) == [["this"], ["one", "again"], ["that"]]
    assert "Entries of captions.csv without an image: 2 (0.png, x/2.png)." in data.notes


# --- the vocabulary ------------------------------------------------------------------------------------------------------------


def test_words_are_in_lower_case_by_frequency_then_alphabetical() -> None:
    field, codes, failures = encode({0: ["A cat, a CAT!", "the dog"], 1: ["Ein Bär", "猫 と 犬"], 5: ["l'été: dog"]}, [])
    assert field.words == ("a", "cat", "dog", "bär", "ein", "l", "the", "été", "と", "犬", "猫")
    assert field.length == 4
    assert codes == {0: [[1, 2, 1, 2], [7, 3]], 1: [[5, 4], [11, 9, 10]], 5: [[6, 8, 3]]}
    assert failures == {}
    for index, text in ((0, "A cat, a CAT!"), (5, "l'été: dog")):
        assert field.encode(text) == codes[index][0]


def test_long_captions_and_many_captions_are_cut_and_counted() -> None:
    report: list[str] = []
    field, codes, _ = encode({0: ["w " * (MAX_LENGTH + 5)], 1: ["v"] * (MAX_CAPTIONS + 2)}, report)
    assert field.length == MAX_LENGTH == len(codes[0][0])
    assert len(codes[1]) == MAX_CAPTIONS
    assert report == [
        f"Images with more than {MAX_CAPTIONS} captions: 1; the first {MAX_CAPTIONS} are used.",
        f"Captions with more than {MAX_LENGTH} words: 1; the first {MAX_LENGTH} are used.",
    ]


def test_rare_words_are_left_out_of_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "LARGE", 3)
    report: list[str] = []
    field, codes, _ = encode({0: ["a cat"], 1: ["a dog"], 2: ["a cat"], 3: ["unheard words"], 4: ["rare"]}, report)
    assert field.words == ("a", "cat", "rare", "unheard", "words")  # those of images that would be left without any stay
    assert codes == {0: [[1, 2]], 1: [[1]], 2: [[1, 2]], 3: [[4, 5]], 4: [[3]]}
    assert report == ["Words of captions that are left out: 1 of 6 (dog), which appear only once."]


def test_the_vocabulary_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "MAX_WORDS", 2)
    report: list[str] = []
    field, codes, failures = encode({0: ["a b c"], 1: ["a b"], 2: ["c"], 3: ["b d d"]}, report)
    assert field.words == ("b", "a")
    assert codes == {0: [[2, 1]], 1: [[2, 1]], 3: [[1]]}
    assert failures == {2: "none of the words of its caption is among the 2 most frequent"}
    assert report == ["Words of captions that are left out: 2 of 4 (c, d), all but the 2 most frequent."]


# --- cache, fingerprint, names ---------------------------------------------------------------------------------------------------


def test_the_fingerprint_covers_captions_and_nothing_changes_without_them(tmp_path: Path) -> None:
    source = write_with(tmp_path / "set", {})
    plain = load(source, size=40)
    (source / "captions.csv").write_text(CSV)
    captioned = load(source, size=40)
    (source / "captions.csv").write_text(CSV.replace("star", "moon"))
    other = load(source, size=40)
    (source / "captions.csv").unlink()
    assert len({plain.fingerprint, captioned.fingerprint, other.fingerprint}) == 3
    assert load(source, size=40).fingerprint == plain.fingerprint


def test_a_pack_is_opened_without_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_with(tmp_path, {"captions.csv": CSV})
    data = load(source, size=40)
    monkeypatch.setattr(joining, "open_source", lambda *_: pytest.fail("the source was opened again"))
    for again in (load(source, size=40), load_pack(data.fingerprint)):
        assert again is not None
        assert again.spec == data.spec
        assert texts(again) == texts(data)


def test_mirrored_captions_exchange_left_and_right(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "captions.csv": lines("file,caption", *(f"{name},cat left of dog right" for name in NAMES))
    }
    data = load(write_with(tmp_path, files), size=40, mirror=True)
    field = data.spec.fields["caption"]
    assert isinstance(field, Caption)
    assert {field.decode(row.tolist()) for row in data.batch(0, 0, 32).caption} == {
        "cat left of dog right",
        "cat right of dog left",
    }


@pytest.mark.parametrize(
    ("caption", "note"),
    [
        ("cat on the left", "Captions have the word left, but not right: in mirrored images it stays, and is wrong."),
        ("right of a dog", "Captions have the word right, but not left: in mirrored images it stays, and is wrong."),
        ("cat left of dog right", ""),
        ("a cat", ""),
    ],
)
def test_a_side_that_cannot_be_exchanged_is_noted(tmp_path: Path, caption: str, note: str) -> None:
    source = write_with(tmp_path, {"captions.csv": lines("file,caption", *(f"{name},{caption}" for name in NAMES))})
    for mirror in (False, True):
        about = [text for text in load(source, size=40, mirror=mirror).notes if "mirrored" in text]
        assert [text.partition(" Omit")[0] for text in about] == [note] * (mirror and bool(note))


def test_names_in_lists() -> None:
    from leafwing.data.lists import Names

    entries = [sources.Entry(f"train/{i // 1000}/{i}.jpg", None, 1) for i in range(20_000)]
    names = Names(entries)
    assert [names.find(f"{i}.jpg") for i in (0, 19_999)] == [0, 19_999]
    assert names.find("/data/train/3/3005.jpg") == 3005
    assert names.find("3/3005") == 3005
    assert names.find("4/3005.jpg") is None
