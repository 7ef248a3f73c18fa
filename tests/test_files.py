"""Atomic writes: after every failure the old file is intact, and there are no temporary files."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import pytest

from leafwing import files
from leafwing.errors import LeafwingError, StorageError


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("content", ["naïve", "naïve".encode(), lambda path: path.write_text("naïve", encoding="utf-8")])
def test_text_bytes_or_a_writing_function(tmp_path: Path, content: object) -> None:
    files.write(tmp_path / "a.txt", content)  # type: ignore[arg-type]
    assert (tmp_path / "a.txt").read_bytes() == "naïve".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a long old text")
    files.write(path, "new")
    assert path.read_text() == "new"


def test_the_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def slowly(temporary: Path) -> None:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("whole")

    files.write(path, slowly)
    assert path.read_text() == "whole"


def test_a_failing_writer_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fails(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        files.write(path, fails)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_interrupted_writer_leaves_no_temporary_file(tmp_path: Path) -> None:
    def interrupted(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a", interrupted)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_is_a_storage_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, where, full)
    with pytest.raises(StorageError, match=r"cannot write .*a\.txt: No space left on device.*intact") as caught:
        files.write(path, "new")
    assert caught.value.exit_code == 4
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_inside_a_writing_function_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left"):
        files.write(tmp_path / "a", full)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="its folder does not exist"):
        files.write(tmp_path / "missing" / "a", "new")


def test_another_file_that_is_missing_is_not_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"cannot write .*out: No such file or directory"),
        files.storage(str(tmp_path / "out")),
    ):
        (tmp_path / "picture.png").read_bytes()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "full"), "full. Files saved earlier are intact: free some disk space"),
        (
            OSError(errno.EROFS, "read-only"),
            "read-only. Files saved earlier are intact: make the folder writable, or choose another",
        ),
        (OSError("no error of the system"), "no error of the system. Files saved earlier are intact"),
    ],
)
def test_only_a_full_disk_is_called_full(error: OSError, words: str) -> None:
    with pytest.raises(StorageError) as caught, files.storage("x"):
        raise error
    assert str(caught.value).startswith(f"cannot write x: {words}")
    assert ("space" in str(caught.value)) == (error.errno == errno.ENOSPC)


def test_a_name_that_is_too_long_is_invalid_input() -> None:
    longer = r"cannot write x{30}.*: longer than the names of files may be"
    with pytest.raises(LeafwingError, match=longer) as caught, files.storage("x" * 5_000):
        raise OSError(errno.ENAMETOOLONG, "too long")
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 200


def test_other_errors_pass_through() -> None:
    with pytest.raises(ValueError, match="mine"), files.storage("x"):
        raise ValueError("mine")


def test_a_storage_error_is_a_user_facing_error() -> None:
    assert issubclass(StorageError, LeafwingError)
    with pytest.raises(StorageError, match=r"cannot write x: .*disk space"), files.storage("x"):
        full()


def test_the_longest_name_of_a_file_system(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".json")
    files.write(path, "{}")
    assert path.read_text() == "{}"


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (["000000500-seed0-n64"], "000000500-seed0-n64"),
        (["n64", "colour=red", "x3"], "n64-colour_red-x3"),
        (["a red / blue star: 5%?"], "a_red_blue_star_5_"),
        (["猫", "犬", "हिन्दी", "cafe\u0301", "🐈"], "猫-犬-हिन्दी-café-🐈"),
        (["two\nlines", "caf\udce9", "a\u2028b\u200bc"], "two_lines-caf_-a_b_c"),
    ],
)
def test_texts_as_a_file_name(texts: list[str], name: str) -> None:
    assert files.file_name(*texts) == name


def test_a_long_file_name_fits_and_is_different_for_different_texts(tmp_path: Path) -> None:
    names = {files.file_name("n64", letter * 300, *["a_long_attribute=1"] * 14, end) for letter in "a猫🐈" for end in "xy"}
    assert len(names) == 6
    for name in names:
        path = files.unused(tmp_path, name, ".webp")
        files.write(path, "content")
        files.write(files.unused(tmp_path, name, ".webp"), "content")
        assert name.startswith("n64-")
    assert len(os.listdir(tmp_path)) == 12
    assert "caf\ud800" * 90 not in files.file_name("caf\ud800" * 90)


def test_numbered_files_are_ordered_by_their_numbers(tmp_path: Path) -> None:
    for name in (
        "resume-1000000000.pt",
        "resume-999999999.pt",
        "resume-000000064.pt",
        "resume.pt",
        "resume-x.pt",
        "weights-1.pt",
    ):
        (tmp_path / name).touch()
    assert [*files.numbered(tmp_path, "resume-", ".pt")] == [64, 999_999_999, 1_000_000_000]
    assert files.numbered(tmp_path / "none", "", ".png") == {}


def test_the_blocks_of_checksums_are_part_of_the_format(tmp_path: Path) -> None:
    """Caches of earlier versions have them."""
    content = bytes(range(256)) * (5 << 12)
    (tmp_path / "x").write_bytes(content)
    assert files.checksums(tmp_path / "x") == [zlib.crc32(content[: 4 << 20]), zlib.crc32(content[4 << 20 :])]
