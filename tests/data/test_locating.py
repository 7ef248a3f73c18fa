"""The messages about sources that do not exist: addresses, misspelt names, folders beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from leafwing.data.locating import describe_address, find
from leafwing.errors import LeafwingError


@pytest.mark.parametrize(
    ("address", "command", "name"),
    [
        ("https://example.org/a/cats.zip", "curl -L https://example.org/a/cats.zip -o cats.zip", "cats.zip"),
        ("http://example.org/cats.zip?a=1&b=2", "curl -L 'http://example.org/cats.zip?a=1&b=2' -o cats.zip", "cats.zip"),
        ("s3://bucket/set/cats", "aws s3 cp --recursive s3://bucket/set/cats cats", "cats"),
        ("s3://bucket/cats.tar", "aws s3 cp s3://bucket/cats.tar cats.tar", "cats.tar"),
        ("gs://bucket/cats", "gcloud storage cp --recursive gs://bucket/cats cats", "cats"),
        ("hf://datasets/some/cats", "hf download some/cats --repo-type dataset --local-dir cats", "cats"),
        ("https://huggingface.co/datasets/some/cats/tree/main", "hf download some/cats --repo-type dataset", "cats"),
        ("https://github.com/some/cats.git", "git clone https://github.com/some/cats.git", "cats"),
        ("https://github.com/some/cats", "git clone https://github.com/some/cats\n", "cats"),
        (
            "https://github.com/some/cats/releases/download/v1/cats.zip",
            "curl -L https://github.com/some/cats/releases/download/v1/cats.zip -o cats.zip",
            "cats.zip",
        ),
        ("git@github.com:some/cats.git", "git clone git@github.com:some/cats.git", "cats"),
    ],
)
def test_an_address_is_to_be_downloaded_first(address: str, command: str, name: str) -> None:
    with pytest.raises(LeafwingError) as caught:
        find(address)
    assert f"  {command}" in str(caught.value)
    assert f"Then the source is {name};" in str(caught.value)


def test_an_address_as_a_path_has_both_slashes_again() -> None:
    with pytest.raises(LeafwingError, match=r"curl -L https://example\.org/a/cats\.zip -o cats\.zip"):
        find(Path("https://example.org/a/cats.zip"))


def test_a_host_alone_is_no_file_to_download() -> None:
    assert describe_address("https://example.org/").endswith("Download the images first")


@pytest.mark.parametrize("path", ["cats", "C:\\cats", "git/cats", "hf", "./https"])
def test_a_path_is_no_address(path: str) -> None:
    assert describe_address(path) == ""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("digit", "Did you mean digits?"),
        ("Sprites", "Did you mean sprites"),
        ("cat", "Did you mean cats?"),
        ("CATS2", "Did you mean cats?"),
        ("cat/train", "Did you mean cats?"),
        ("cats/trian", "Did you mean cats/train?"),
        ("horses/train", "There is no horses in {here}, which has: cats, dogs, zoo trip, catt.png, notes.txt."),
        ("zoo", "Names with spaces need quotes: 'zoo trip'."),
        ("zoo tirp", "Did you mean 'zoo trip'?"),
        ("./zoo", "Names with spaces need quotes: 'zoo trip'."),
        ("some/where", "hf download some/where --repo-type dataset --local-dir where"),
    ],
)
def test_what_is_near_is_suggested(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("cats/train", "dogs", ".hidden", "zoo trip"):
        Path(folder).mkdir(parents=True)
    Path("notes.txt").touch()
    Path("catt.png").touch()  # no source of images
    with pytest.raises(LeafwingError) as caught:
        find(path)
    assert message.format(here=tmp_path.resolve()) in str(caught.value)


def test_control_characters_of_a_name_are_not_printed(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    with pytest.raises(LeafwingError) as caught:
        find(f"{tmp_path}/horses\x1b[31m/train")
    assert "There is no horses" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_folder_that_cannot_exist_is_only_named() -> None:
    for path in ("x" * 5000, "zero\0byte", ""):
        with pytest.raises(LeafwingError, match="no such file or folder"):
            find(path)
