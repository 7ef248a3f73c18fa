"""Tables as text: quotes that are not closed are errors, and every list is read with the same separators."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_helpers import write

from leafwing.data import load
from leafwing.errors import LeafwingError

NAMES = [f"{i}.png" for i in range(4)]


def put(folder: Path, name: str, content: str) -> Path:
    (write(folder, NAMES) / name).write_text(content)
    return folder


@pytest.mark.parametrize("name", ["labels.csv", "captions.csv"])
@pytest.mark.parametrize(
    "values",
    [
        ["a", '"b', "a", "b"],  # to the end of the file
        ["a", '"b', '"a"', "b"],
        ["a", '"red ""b""', '"a" thing', "b"],
    ],
)
def test_a_quote_that_is_not_closed_is_an_error_that_names_its_line(tmp_path: Path, name: str, values: list[str]) -> None:
    table = f"\nfile,{name[:-5]}\n" + "".join(f"{file},{value}\n" for file, value in zip(NAMES, values, strict=True))
    with pytest.raises(LeafwingError, match=rf"{name}, line 4: not a readable csv file .* quote"):
        load(put(tmp_path / "set", name, table))


def test_neither_names_nor_labels_have_several_lines(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"labels.csv, line 3: b\\n2.png,a ends in another line; is a double quote not"):
        load(put(tmp_path / "label", "labels.csv", 'file,label\n0.png,a\n1.png,"b\n2.png,a"\n3.png,b\n'))
    with pytest.raises(LeafwingError, match=r"captions.csv, line 2: 0.png,a star\\n1.png ends in another line"):
        load(put(tmp_path / "file", "captions.csv", 'file,caption\n"0.png,a star\n1.png",a\n2.png,b\n3.png,c\n'))


def test_captions_may_have_several_lines(tmp_path: Path) -> None:
    text = "file,caption\n" + "".join(f'{name},"a\nstar, {i} ""big"""\n' for i, name in enumerate(NAMES))
    assert load(put(tmp_path / "set", "captions.csv", text)).spec.fields["caption"].length == 4


def test_quotes_after_a_space(tmp_path: Path) -> None:
    data = load(put(tmp_path / "set", "labels.csv", "file, label\n" + "".join(f'{name}, "red, a"\n' for name in NAMES)))
    assert data.spec.labels == ("red, a",)


def test_captions_as_excel_saves_them(tmp_path: Path) -> None:
    text = "sep=;\nfile;caption\n" + "".join(f"{name};a star, red\n" for name in NAMES)
    assert load(put(tmp_path / "set", "captions.csv", text)).spec.fields["caption"].words == ("a", "red", "star")
