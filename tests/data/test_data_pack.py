"""Packs: written once, shared, found again, repaired, and never incomplete."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from data_helpers import encoded, picture, python, write
from PIL import Image

from ending import ending
from leafwing.data import Dataset, joining, load, load_pack, pack, reading
from leafwing.errors import LeafwingError, StorageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "set", [f"{'ab'[index % 2]}/{index:02d}.png" for index in range(10)])


def packs(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "packs").iterdir())


def same(a: Dataset, b: Dataset) -> bool:
    labels = (a.labels is None and b.labels is None) or np.array_equal(a.labels, b.labels)
    return a.fingerprint == b.fingerprint and a.spec == b.spec and labels and np.array_equal(a.array, b.array)


def test_content_of_a_pack(source: Path, cache: Path) -> None:
    (source / "a" / "bad.png").write_bytes(b"bad")
    steps: list[tuple[int, int]] = []
    data = load(source, size="16x24", progress=lambda done, total: steps.append((done, total)))
    assert packs(cache) == [data.fingerprint]
    index = json.loads((cache / "packs" / data.fingerprint / "index.json").read_text())
    assert index["name"] == [f"a/{i:02d}.png" for i in range(0, 10, 2)] + [f"b/{i:02d}.png" for i in range(1, 10, 2)]
    assert index["label"] == ["a"] * 5 + ["b"] * 5
    assert index["size"] == [[40, 40]] * 10
    assert index["box"] == [[0, 7, 40, 33]] * 10
    assert all(len(digest) == 64 for digest in index["sha256"])
    assert isinstance(data.array, np.ndarray)
    assert not data.array.flags.writeable
    assert data.array.shape == (10, 16, 24, 3)
    assert [reject.name for reject in data.rejects] == ["a/bad.png"]
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (11, 11)


def test_the_second_time_nothing_is_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "a" / "bad.png").write_bytes(b"bad")
    (source / "note.txt").write_text("x")
    first = load(source)
    monkeypatch.setattr(joining, "open_source", lambda *_: pytest.fail("the source was opened again"))
    second = load(source)
    assert same(first, second)
    assert (first.rejects, first.notes, first.options) == (second.rejects, second.notes, second.options)


def test_options_say_how_to_load_the_same(source: Path) -> None:
    for options in ({}, {"size": (16, 24), "fit": "pad", "background": "#ff0000"}, {"channels": 4, "mirror": True}):
        first = load(source, **options)
        again = load(source, **json.loads(json.dumps(first.options)))
        assert same(first, again)
        assert first.options == again.options


def test_defaults_follow_the_data(tmp_path: Path) -> None:
    assert load(write(tmp_path / "small", ["a.png"])).options["size"] == "32x32"
    large = load(write(tmp_path / "large", ["a.png"], height=64, width=70))
    assert (large.options["size"], large.spec.channels) == ("64x64", 3)
    grey = write(tmp_path / "grey", ["a.png", "b.png"], channels=1)
    assert load(grey).spec.channels == 1
    (grey / "c.png").write_bytes(encoded(Image.new("RGB", (40, 40))))
    assert load(grey).spec.channels == 3


def test_a_changed_source_or_option_is_another_pack(source: Path, cache: Path) -> None:
    keys = {load(source).fingerprint, load(source, size=16).fingerprint, load(source, fit="pad").fingerprint}
    keys |= {load(source, background="red").fingerprint, load(source, channels=1).fingerprint}
    first = source / "a" / "00.png"
    first.write_bytes(encoded(picture(77)))
    keys.add(load(source).fingerprint)
    first.rename(source / "b" / "00.png")
    keys.add(load(source).fingerprint)
    (source / "b" / "01.png").unlink()
    keys.add(load(source).fingerprint)
    assert len(keys) == len(packs(cache)) == 8
    assert load(source, mirror=True).fingerprint in keys
    assert load(source, background="#ffffff").fingerprint in keys


def test_another_location_or_time_is_the_same_pack(source: Path, cache: Path, tmp_path: Path) -> None:
    first = load(source)
    os.utime(source / "a" / "00.png", (1, 1))
    source.rename(tmp_path / "moved")
    second = load(tmp_path / "moved")
    assert same(first, second)
    assert second.source == str(tmp_path / "moved")
    assert len(packs(cache)) == 1


@pytest.mark.parametrize("name", ["pictures.npy", "labels.npy", "index.json", "pack.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_pack_is_repaired(source: Path, cache: Path, name: str, damage: str) -> None:
    first = load(source)
    expected = first.array.copy()
    part = cache / "packs" / first.fingerprint / name
    if damage == "missing":
        part.unlink()
    else:
        os.truncate(part, part.stat().st_size // 2)
    assert load_pack(first.fingerprint) is None
    assert np.array_equal(load(source).array, expected)
    assert load_pack(first.fingerprint) is not None
    assert packs(cache) == [first.fingerprint]


@pytest.mark.parametrize("name", ["pictures.npy", "labels.npy", "index.json", "pack.json", "checksums.json"])
def test_a_flipped_bit_in_a_pack_is_noticed_and_said(source: Path, cache: Path, name: str) -> None:
    first = load(source)
    expected = first.array.copy()
    part = cache / "packs" / first.fingerprint / name
    content = bytearray(part.read_bytes())
    content[-9] ^= 1
    part.write_bytes(content)
    assert load_pack(first.fingerprint) is None
    again = load(source)
    assert np.array_equal(again.array, expected)
    assert f"The decoded images in the cache ({cache}) were damaged, and were made anew from the source." in again.notes
    assert not any("damaged" in note for note in load(source).notes)


@pytest.mark.parametrize("value", [-1, 2])
def test_labels_outside_of_the_classes_are_damage(source: Path, cache: Path, value: int) -> None:
    first = load(source)
    folder = cache / "packs" / first.fingerprint
    labels = np.load(folder / "labels.npy")
    labels[0] = value
    np.save(folder / "labels.npy", labels)
    (folder / "checksums.json").unlink()  # as of an earlier version
    assert load_pack(first.fingerprint) is None
    again = load(source).labels
    assert again is not None
    assert {*again.tolist()} == {0, 1}


def test_packs_of_earlier_versions_get_checksums(source: Path, cache: Path) -> None:
    first = load(source)
    record = cache / "packs" / first.fingerprint / "checksums.json"
    before = record.read_bytes()
    record.unlink()
    assert load_pack(first.fingerprint) is not None
    assert record.read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"fingerprint": "../../x", "rejects": [], "notes": []}'])
def test_a_damaged_listing_does_no_harm(source: Path, cache: Path, content: str) -> None:
    first = load(source)
    for listing in (cache / "listings").iterdir():
        listing.write_text(content)
    assert same(load(source), first)


def test_a_pack_outlives_its_source(source: Path) -> None:
    first = load(source, mirror=True)
    for path in sorted(source.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    again = load_pack(first.fingerprint, mirror=True)
    assert again is not None
    assert same(first, again)
    assert again.options == first.options
    assert load_pack("0" * 64) is None
    assert load_pack("../" + first.fingerprint) is None


def test_an_unwritable_cache_is_an_error(source: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StorageError, match=r"file.*LEAFWING_CACHE="):
        load(source, cache=blocked / "cache")
    with pytest.raises(StorageError, match="LEAFWING_CACHE="):
        load(source, cache=blocked)
    assert blocked.read_text() == "in the way"


def test_a_full_disk(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        load(source)
    assert packs(cache) == []


def test_a_file_that_changes_while_it_is_read(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = reading.survey

    def then_change(*arguments: object) -> object:
        infos = survey(*arguments)  # type: ignore[arg-type]
        (source / "a" / "00.png").write_bytes(encoded(picture(500)))
        return infos

    monkeypatch.setattr(reading, "survey", then_change)
    with pytest.raises(LeafwingError, match=r"a/00\.png changed"):
        load(source)
    assert packs(cache) == []


def test_killed_while_packing(source: Path, cache: Path) -> None:
    code = (
        "import sys, time; from leafwing.data import load, pictures; decode = pictures.decode\n"
        "def slow(*a): print('decoding', flush=True); time.sleep(60)\n"
        f"pictures.decode = slow; load({str(source)!r})"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with ending(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert [name for name in packs(cache) if name.endswith(".partial")]
    other = load(source, size=16)  # another pack: packing removes incomplete packs first
    assert packs(cache) == [other.fingerprint]
    assert len(load(source)) == 10
    assert len(packs(cache)) == 2


def test_two_processes_pack_once(source: Path, cache: Path, tmp_path: Path) -> None:
    """The first one that decodes waits until the other wants to."""
    code = (
        "import sys, time; from pathlib import Path; from leafwing.data import load, pack, pictures\n"
        "decode, write, (source, mine, other) = pictures.decode, pack.Store.pack, sys.argv[1:]\n"
        "def slow(*a):\n"
        "    print('decoding', flush=True)\n"
        "    while not Path(other).exists(): time.sleep(0.02)\n"
        "    time.sleep(0.02); return decode(*a)\n"
        "def announced(*a): Path(mine).touch(); return write(*a)\n"
        "pictures.decode, pack.Store.pack = slow, announced; print(load(source).array.sum())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    places = [str(tmp_path / name) for name in ("first", "second")]
    with ExitStack() as stack:
        both = []
        for mine, other in (places, places[::-1]):
            command = [sys.executable, "-c", code, str(source), mine, other]
            started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            both.append(stack.enter_context(ending(started)))
        out = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(text.count("decoding") for text in out) == 10
    assert out[0].split()[-1] == out[1].split()[-1]
    assert len(packs(cache)) == 1


def test_importing_and_the_doctor_need_no_torch(source: Path) -> None:
    code = (
        "import sys, leafwing.data; from leafwing.data.doctor import doctor\n"
        "assert 'sklearn' not in sys.modules\n"
        f"doctor({str(source)!r}).text(); leafwing.data.load({str(source)!r})\n"
        "doctor('ring').text(); doctor('digits').text()\n"
        "assert 'torch' not in sys.modules"
    )
    result = python(code)
    assert (result.returncode, result.stderr) == (0, "")
