"""Each kind of source: entries, labels and errors."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import threading
import time
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import encoded, picture, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

import leafwing
from bare_run import create
from leafwing.data import BUILT_IN, load, reading, sources
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for item in sorted(folder.rglob("*")):
            archive.write(item, item.relative_to(folder.parent))
    return path


def tarred(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a.png", "b.png"], ()),
        (["cat/a.png", "dog/b.png", "cat/c.png"], ("cat", "dog")),
        (["10/a.png", "9/b.png"], ("9", "10")),
        (["pets/cat/a.png", "pets/dog/b.png"], ("cat", "dog")),
        (["train/cat/a.png", "train/dog/b.png", "test/cat/c.png"], ("cat", "dog")),
        (["train/a.png", "test/b.png"], ()),
        (["top.png", "cat/a.png", "dog/b.png"], ()),
        (["x/y/a.png", "x/b.png"], ()),
        (["2023/01/a.png", "2024/02/b.png"], ()),
        (["only/a.png", "only/b.png"], ()),
    ],
)
def test_folder_names_are_labels_only_in_class_folders(tmp_path: Path, names: list[str], labels: tuple[str, ...]) -> None:
    source = write(tmp_path / "set", names)
    for source_path in (source, zipped(source, tmp_path / "set.zip"), tarred(source, tmp_path / "set.tar.gz")):
        data = load(source_path, size=16)
        assert len(data) == len(names)
        assert data.spec.labels == labels
        assert (data.labels is not None) == bool(labels)
        assert tuple(data.spec.fields) == (("image", "label") if labels else ("image",))
        assert not data.rejects


def test_labels_belong_to_their_pictures(tmp_path: Path) -> None:
    names = [f"{'abc'[index % 3]}/{index:02d}.png" for index in range(12)]
    source = write(tmp_path / "set", names)
    for source_path in (source, zipped(source, tmp_path / "set.zip"), tarred(source, tmp_path / "set.tar")):
        data = load(source_path, size=40)
        for pixels, label in zip(data.array, data.labels, strict=True):
            matches = [index for index in range(12) if (picture(index) == pixels).all()]
            assert [names[index][0] for index in matches] == [data.spec.labels[label]]


def test_side_and_system_files_are_ignored(tmp_path: Path) -> None:
    source = write(tmp_path / "set", ["cat/a.png", "dog/b.png"])
    for name in (".DS_Store", "__MACOSX/cat/._a.png", "cat/Thumbs.db", "README", "notes.txt", "cat/a.json", ".git/x.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"x")
    write(source, ["@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "cat/@eaDir/a.png", "#recycle/a.png", "$RECYCLE.BIN/a.png"])
    (source / "film.mp4").write_bytes(b"\0\0\0 ftypisom")
    data = load(source, size=16)
    assert data.spec.labels == ("cat", "dog")
    assert [(reject.name, reject.reason) for reject in data.rejects] == [("film.mp4", "outside the class folders")]
    flat = write(tmp_path / "flat", ["a.png"])
    (flat / "film.mp4").write_bytes(b"\0\0\0 ftypisom")
    (film,) = load(flat, size=16).rejects
    assert (film.name, film.reason.partition(":")[0]) == ("film.mp4", "a film, not an image")


def test_a_run_inside_the_source_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cd photos; leafwing train .` writes there, and the next reading finds the same images and classes."""
    source = write(tmp_path / "set", ["cat/a.png", "dog/b.png"])
    before = load(source, size=16)
    run = create(root=source / "runs")
    write(run.folder / "samples", ["000000000.png"])
    after = load(source, size=16)
    assert (after.fingerprint, after.spec.labels, after.rejects) == (before.fingerprint, ("cat", "dog"), before.rejects)
    assert len(load(run.folder / "samples", size=16)) == 1
    for archive in (zipped(source, tmp_path / "set.zip"), tarred(source, tmp_path / "set.tar")):
        assert (len(load(archive, size=16)), load(archive, size=16).spec.labels) == (2, ("cat", "dog"))
    assert len(load(zipped(run.folder, tmp_path / "run.zip"), size=16)) == 1, "as the folder itself"
    write(source / "cat" / "more", ["c.png"])
    (source / "cat" / "more" / "run.json").write_text("{}")
    assert len(load(source, size=16)) == 3, "a run.json alone may be anything"
    monkeypatch.chdir(source)
    for out in (None, "cat/sheet.png"):
        with pytest.raises(LeafwingError, match=r"lies inside .*, of which it would become an image"):
            leafwing.show(".", out=out, size=16)
    assert leafwing.show(".", out=tmp_path / "sheet.png", size=16)[0].exists()


def test_the_content_determines_the_format_not_the_name(tmp_path: Path) -> None:
    source = write(tmp_path, ["a.png"])
    (source / "b.jpg").write_bytes(encoded(picture(1)))
    (source / "c").write_bytes(encoded(picture(2), "JPEG"))
    assert len(load(source, size=16)) == 3


def test_links_that_loop_or_lead_nowhere(tmp_path: Path) -> None:
    source = write(tmp_path / "set", ["a.png", "deep/b.png"])
    (source / "deep" / "back").symlink_to(source)
    (source / "self").symlink_to("self")
    (source / "gone.png").symlink_to("nowhere.png")
    (source / "linked.png").symlink_to(source / "a.png")
    os.mkfifo(source / "pipe.png")
    data = load(source, size=16)
    assert len(data) == 3
    assert {reject.name for reject in data.rejects} == {"self", "gone.png", "pipe.png"}


def test_labels_csv(tmp_path: Path) -> None:
    source = write(tmp_path / "set", ["a.png", "sub/b.png", "c.png"])
    (source / "labels.csv").write_text("label,File\nred,a.png\nblue,b.png\nred,gone.png\n", encoding="utf-8-sig")
    for source_path in (source, zipped(source, tmp_path / "set.zip")):
        data = load(source_path, size=40)
        assert data.spec.labels == ("blue", "red")
        assert sorted(data.labels.tolist()) == [0, 1]
        assert [reject.name.rsplit("/")[-1] for reject in data.rejects] == ["c.png"]
        assert "no label" in data.rejects[0].reason
        assert any("gone.png" in note for note in data.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "first line must name the columns"),
        (b"title,year\na.png,1\n", "first line must name the columns"),
        (b"file,label\na.png\n", "line 2"),
        (b"file,label\na.png,x\na.png,y\n", "two labels"),
        (b"file,label\n\x81\xfe\n", "is not text; save it as UTF-8"),
    ],
)
def test_bad_labels_csv(tmp_path: Path, content: bytes, message: str) -> None:
    source = write(tmp_path, ["a.png"])
    (source / "labels.csv").write_bytes(content)
    with pytest.raises(LeafwingError, match=message):
        load(source)


def test_stylegan_layout(tmp_path: Path) -> None:
    names = [f"{index // 2:05d}/img{index:08d}.png" for index in range(4)]
    source = write(tmp_path / "set", names)
    (source / "dataset.json").write_text(json.dumps({"labels": [[name, 10 - index] for index, name in enumerate(names)]}))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in source.rglob("*.*"):
            archive.write(file, file.relative_to(source))
    for source_path in (source, tmp_path / "set.zip"):
        data = load(source_path, size=16)
        assert data.spec.labels == ("7", "8", "9", "10")
        assert data.labels.tolist() == [3, 2, 1, 0]
    (source / "dataset.json").write_text('{"labels": null}')
    assert load(source, size=16).labels is None
    for bad in ('{"labels": [["00000/img00000000.png", [0.1, 0.2]]]}', '{"labels": 3}', '{"labels": [["a", 1.5]]}', "{"):
        (source / "dataset.json").write_text(bad)
        with pytest.raises(LeafwingError, match=r"dataset\.json"):
            load(source, size=16)


def idx(pixels: np.ndarray) -> bytes:
    return bytes([0, 0, 8, pixels.ndim]) + struct.pack(f">{pixels.ndim}I", *pixels.shape) + pixels.tobytes()


def idx_folder(folder: Path, packed: bool = True) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", random.integers(0, 256, (count, 28, 28), dtype=np.uint8)),
            ("labels-idx1", (np.arange(count) % 3).astype(np.uint8)),
        ):
            data = idx(array)
            name = f"{part}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    folder = idx_folder(tmp_path / "mnist", packed)
    data = load(folder)
    assert len(data) == 30
    assert data.spec.shape == (1, 32, 32)
    assert data.spec.labels == ("0", "1", "2")
    assert data.labels.tolist() == [index % 3 for index in range(30)]
    ending = ".gz" if packed else ""
    test = load(folder / f"t10k-images-idx3-ubyte{ending}", size=28)
    assert len(test) == 10
    plain = (folder / f"t10k-images-idx3-ubyte{ending}").read_bytes()
    pixels = np.frombuffer((gzip.decompress(plain) if packed else plain)[16:], np.uint8).reshape(10, 28, 28, 1)
    assert (test.array == pixels).all()
    (folder / f"train-labels-idx1-ubyte{ending}").unlink()
    assert load(folder).labels is None


def test_pictures_beside_an_idx_file_are_mentioned(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "mnist", packed=False)
    assert not any("other images" in note for note in load(folder).notes)
    write(folder, ["a.png", "more/b.png"])
    notes = load(folder).notes
    assert any("Not used: 2 other images, such as a.png, because train-images-idx3-ubyte is read" in note for note in notes)


def test_damaged_idx_files(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "mnist", packed=False)
    images = folder / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    for data in (whole[:-1], whole[:10], b"\0\0\x09\x03" + whole[4:], whole[:4] + b"\xff" * 12):
        images.write_bytes(data)
        with pytest.raises(LeafwingError, match=r"IDX|declares"):
            load(folder)
    images.write_bytes(whole)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(LeafwingError, match="29 labels for 30"):
        load(folder)


def test_damaged_and_odd_archives(tmp_path: Path) -> None:
    source = write(tmp_path / "set", ["a.png", "b.png"])
    whole = zipped(source, tmp_path / "set.zip").read_bytes()
    flags = bytearray(whole)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = flags.rfind(mark)
        flags[start + offset] |= 1
    packed = tarred(source, tmp_path / "set.tar.gz").read_bytes()
    for name, data, message in (
        ("cut.zip", whole[: len(whole) // 2], "truncated"),
        ("locked.zip", bytes(flags), "encrypted"),
        ("cut.tar.gz", packed[: len(packed) // 2], "damaged|readable"),
        ("none.tar", b"not a tar at all", "not a readable tar"),
        ("one.png", encoded(picture(0)), "one picture is no data set"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(LeafwingError, match=message):
            load(tmp_path / name)


def test_nothing_is_unpacked_by_name(tmp_path: Path) -> None:
    path = tmp_path / "in" / "evil.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for index, name in enumerate(("../../up.png", "/etc/abs.png", "a\nb\x1b[31m.png", "ok.png")):
            info = tarfile.TarInfo(name)
            data = encoded(picture(index))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    data = load(path, size=16)
    assert len(data) == 4
    assert [reject.name for reject in data.rejects] == ["link.png"]
    assert [item.name for item in tmp_path.iterdir()] == ["in"]
    assert "\x1b" not in doctor(path).text()


def test_a_later_member_of_the_same_name_wins(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for index in range(2):
            data = encoded(picture(index))
            info = tarfile.TarInfo("a.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = load(tmp_path / "twice.tar", size=40)
    assert len(data) == 1
    assert (data.array[0] == picture(1)).all()


def test_unknown_sources_say_what_is_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flowers").mkdir()
    with pytest.raises(LeafwingError, match="flowers"):
        load(tmp_path / "flowres")
    with pytest.raises(LeafwingError, match=r"Did you mean digits") as error:
        load("digit")
    assert all(name in str(error.value) for name in BUILT_IN)
    for odd in ("", "a\0b", "x" * 5000, "\n"):
        with pytest.raises(LeafwingError):
            load(odd)
    with pytest.raises(LeafwingError, match="should contain picture files"):
        load(tmp_path)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "digits", ["a.png"])
    assert len(load("digits")) == 1797
    assert len(load("./digits")) == len(load(Path("digits"))) == 1


def test_more_than_half_broken_is_an_error_and_less_is_not(tmp_path: Path) -> None:
    source = write(tmp_path, ["a.png", "b.png"])
    (source / "c.png").write_bytes(b"broken")
    (source / "d.png").write_bytes(b"")
    assert len(load(source, size=16)) == 2
    (source / "e.png").write_bytes(encoded(picture(0))[:99])
    with pytest.raises(LeafwingError, match=r"3 of 5 .*more than half.*c\.png: not an image"):
        load(source, size=16)
    for name in ("a.png", "b.png"):
        (source / name).unlink()
    with pytest.raises(LeafwingError, match=r"none of its files can be used \(3 rejected"):
        load(source)


def test_videos_are_not_broken_images(tmp_path: Path) -> None:
    source = write(tmp_path, ["a.png"])
    for index in range(5):
        (source / f"{index}.mp4").write_bytes(b"film")
    assert len(load(source, size=16)) == 1


def odd_files() -> dict[str, bytes]:
    """Forty files, most of them broken, others only unusual."""
    files: dict[str, bytes] = {"empty.png": b"", "text.jpg": b"words", "html.gif": b"<html>", "zeros.bmp": bytes(500)}
    for index, format in enumerate(("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")):
        whole = encoded(picture(index, 64, 64), format)
        name = format.lower()
        files[f"whole-{name}.{name}"] = whole
        files[f"cut-{name}.{name}"] = whole[: len(whole) // 2]
        files[f"head-{name}.{name}"] = whole[:20]
        files[f"double-{name}.{name}"] = whole + whole
        files[f"wrong-{name}.xyz"] = whole
    files["line\nbreak.png"] = encoded(picture(90))
    files["名前 с пробелом ü.png"] = encoded(picture(91))
    files["tiny.png"] = encoded(picture(92, 1, 1))
    files["long.png"] = encoded(picture(93, 4, 900))
    return files


def test_a_folder_of_odd_files(tmp_path: Path) -> None:
    for name, data in odd_files().items():
        (tmp_path / name).write_bytes(data)
    data = load(tmp_path, size=32)
    report = doctor(tmp_path, size=32)
    assert data.rejects == report.rejected
    assert len(data) == report.accepted
    assert len(data) + len(data.rejects) == len(odd_files())
    refused = {reject.name for reject in data.rejects}
    assert {"empty.png", "text.jpg", "html.gif", "zeros.bmp", "tiny.png", "long.png"} <= refused
    assert not [name for name in refused if name.startswith(("whole", "wrong", "double"))]
    assert all(reject.reason and "\n" not in reject.reason for reject in data.rejects)


HOSTILE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(HOSTILE, st.one_of(st.binary(max_size=60), st.just(encoded(picture(1))))), max_size=5))
def test_hostile_archives_never_crash(tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes]]) -> None:
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in dict(members).items():
            archive.writestr(zipfile.ZipInfo(name), data)
    doctor(path).text()
    with suppress(LeafwingError):
        assert len(load(path, size=16)) >= 1


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["x.zip", "x.tar", "x.tar.gz", "x-images-idx3-ubyte", "x-images-idx3-ubyte.gz", "x"]),
)
@example(b"\x1f\x8b", "x")
@example(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x07", "x")
@example(b"BZh9", "x.tar.bz2")
@example(b"BZh91AY&SY" + bytes(40), "x")
@example(b"\xfd7zXZ\x00", "x")
@example(b"\xfd7zXZ\x00" + bytes(40), "x.tar.xz")
def test_random_bytes_as_a_source(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(data)
    with pytest.raises(LeafwingError):
        load(path)


def test_names_can_be_printed() -> None:
    assert sources.clean("a\n\x1b\udcff ü") == "a\\n\\x1b\\udcff ü"


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(LeafwingError, match=r"pipe\.zip: not a regular file"):
        load(tmp_path / "pipe.zip")


def test_folders_come_before_links_to_them(tmp_path: Path) -> None:
    source = write(tmp_path, ["a/0.png", "b/1.png"])
    (source / "a" / "again").symlink_to("../b")
    (source / "a" / "up").symlink_to("..")
    assert [file.name for file in sources.walk(source)[0]] == ["a/0.png", "b/1.png"]
    assert load(source).spec.labels == ("a", "b")


def test_files_that_an_archive_contains_twice_are_mentioned(tmp_path: Path) -> None:
    first, second, other = (encoded(picture(seed)) for seed in range(3))
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in (("a.png", first), ("a.png", second), ("b.png", other)):
            archive.writestr(name, content)
    data = load(tmp_path / "a.zip", size=40)
    assert (data.array[0] == picture(1)).all()
    assert "Files that the archive contains several times: 1, such as a.png; the last is used." in data.notes


def test_large_files_are_in_memory_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "set", [f"{number}.png" for number in range(6)])
    monkeypatch.setattr(reading, "LARGE_FILE", 100)
    monkeypatch.setattr(reading, "cores", lambda: 4)
    header, running, most = reading.pictures.header, [], []

    def slow_header(*arguments: Any) -> Any:
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        result = header(*arguments)
        running.pop()
        return result

    monkeypatch.setattr(reading.pictures, "header", slow_header)
    monkeypatch.setattr(sources, "CHUNK_BYTES", 0)  # a thread for each file
    assert len(load(tmp_path / "set", size=16)) == 6
    assert max(most) == 1
    both = threading.Barrier(2, timeout=60)  # an error unless small ones are read at the same time

    def header_of_two(*arguments: Any) -> Any:
        both.wait()
        return header(*arguments)

    monkeypatch.setattr(reading.pictures, "header", header_of_two)
    monkeypatch.setattr(reading, "LARGE_FILE", 10**9)
    assert len(load(tmp_path / "set", size=17)) == 6
