"""A source that lacks what a recipe needs is refused before any image is read, and the message says what would provide it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data_helpers import encoded, picture, write

import leafwing
from leafwing import recipes
from leafwing.commands.feeding import data_check
from leafwing.data import load, reading
from leafwing.data.lacking import Accept
from leafwing.errors import LeafwingError
from leafwing.fields import Attributes, Image, Label
from leafwing.game import DataSpec, MissingField


def needs(**kinds: type) -> Accept:
    def accept(spec: DataSpec) -> None:
        spec.need("some", **kinds)

    return accept


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an image fails the test."""

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("an image is read")

    monkeypatch.setattr(reading, "survey", fail)


@pytest.mark.usefixtures("unread")
def test_labels_are_missing_before_images_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["a/1.png", "a/b/2.png", "c/3.png"])
    message = r"needs labels: put .*\. \S+set has 3 images and no further fields\. The folder names are not used as labels, because "
    with pytest.raises(MissingField, match=message):
        load(folder, accept=needs(label=Label))
    (folder / "a" / "b" / "2.png").unlink()
    with pytest.raises(MissingField, match=r"needs attributes: add .* has 2 images, with label\."):
        load(folder, accept=needs(attributes=Attributes))
    with pytest.raises(AssertionError, match="an image is read"):
        load(folder, accept=needs(label=Label))


@pytest.mark.usefixtures("unread")
def test_a_list_that_is_not_used_is_mentioned(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["1.png", "2.png"])
    (folder / "kinds.csv").write_text("name,kind\n1.png,a\n2.png,b\n")
    with pytest.raises(MissingField, match=r"kinds.csv lists images: --labels kinds.csv reads labels"):
        load(folder, accept=needs(label=Label))


def test_a_missing_input_is_suggested(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", [f"{side}/{i}.png" for side in ("A", "B") for i in range(4)])
    with pytest.raises(
        MissingField, match=r"has 8 images, with label\. A and B look like pairs.*--input A translates A into B"
    ):
        load(folder, accept=needs(input=Image))
    for i in range(4):
        (tmp_path / "wide").mkdir(exist_ok=True)
        (tmp_path / "wide" / f"{i}.png").write_bytes(encoded(picture(i, 40, 80)))
    with pytest.raises(MissingField, match=r"The images are twice as wide as high\..*--input left"):
        load(tmp_path / "wide", accept=needs(input=Image))


def test_an_unpaired_input_is_refused_where_pairs_are_needed(tmp_path: Path) -> None:
    folder, other = write(tmp_path / "set", ["1.png", "2.png"]), write(tmp_path / "other", ["3.png", "4.png"])
    with pytest.raises(MissingField, match="comes from a second source and is unpaired"):
        load(folder, input=str(other), accept=needs(input=Image))
    accepted: list[DataSpec] = []
    data = load(folder, input=str(other), accept=accepted.append)
    assert [spec.unpaired for spec in accepted] == [("input",)]
    assert data.spec.unpaired == ("input",)


@pytest.mark.parametrize("input", [None, "grey", "left"])
def test_the_expected_fields_are_those_of_the_data_set(tmp_path: Path, input: str | None) -> None:
    folder = write(tmp_path / "set", [f"{side}/{i}.png" for side in ("cat", "dog") for i in range(3)])
    captions = "".join(f"{path.relative_to(folder)},a picture\n" for path in folder.rglob("*.png"))
    (folder / "captions.csv").write_text(f"file,caption\n{captions}")
    accepted: list[DataSpec] = []
    data = load(folder, size="20x10", input=input, accept=accepted.append)
    assert accepted[0].describe().keys() == data.spec.describe().keys()
    assert accepted[0].labels == data.spec.labels
    assert load(folder, size="20x10", input=input, accept=accepted.append).fingerprint == data.fingerprint
    assert len(accepted) == 1, "nothing is asked of data in the cache"


def test_a_recipe_decides_by_its_options() -> None:
    card = recipes.describe("cgan")
    labels, both = DataSpec.images(64, 64, labels=("a", "b")), DataSpec.images(64, 64, labels=("a", "b"), attributes=("c",))
    for options, spec, missing in (
        ({}, DataSpec.images(64, 64), "label"),
        ({"condition_on": "attributes"}, labels, "attributes"),
        ({"condition_on": "both"}, labels, "attributes"),
        ({"condition_on": "both"}, both, ""),
        ({"width": 4, "max_width": 8}, labels, ""),
    ):
        accept = data_check(card, "cgan", card.resolve(options))
        assert accept is not None
        if missing:
            with pytest.raises(MissingField) as caught:
                accept(spec)
            assert caught.value.field == missing
        else:
            accept(spec)
    assert data_check(recipes.describe("dcgan"), "dcgan", {}) is None, "it needs images only"


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 100}, r"size 100x100: .*Nearest: --size 96x96"),
        ({"size": 100, "recipe": "dcgan"}, r"size 100x100: .*Nearest: --size 96x96"),
        ({"augment": "dif"}, "choose from none, diff"),
        ({"augment": "dif", "recipe": "dcgan"}, "choose from none, diff"),
        ({"hold_out": "some", "recipe": "dcgan"}, "must be a whole number of at least 0, or auto"),
        ({"device": "mps"}, "not available on this machine"),
        ({"device": "mps", "recipe": "dcgan"}, "not available on this machine"),
        ({"threads": "two"}, "must be a whole number of at least 1"),
        ({"capture": True, "device": "cpu"}, "only CUDA captures turns"),
        ({"recipe": "srgan", "input": "low4", "pretrain": 2.0}, "must be from 0 to 1"),
    ],
)
def test_what_options_alone_decide_is_refused_before_images_are_read(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "set", ["1.png", "2.png"])
    with pytest.raises(LeafwingError, match=message):
        leafwing.train(folder, out=tmp_path / "run", **{"threads": 1, **options})


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipes": "dcgan,cgan"}, "recipe cgan needs"),
        ({"recipes": "dcgan,fastgan", "size": 20}, "size 20x20"),
        ({"recipes": "dcgan", "device": "mps"}, "not available on this machine"),
    ],
)
def test_what_any_of_the_compared_recipes_lacks_is_refused_before_images_are_read(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "set", ["1.png", "2.png"])
    with pytest.raises(LeafwingError, match=message):
        leafwing.compare(folder, out=tmp_path / "comparison", **options)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("options", [{"augment": "dif"}, {"augment": "none"}, {"size": "64x"}, {"levels": "a"}])
def test_a_sheet_with_a_bad_option_is_refused_before_images_are_read(options: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["1.png", "2.png"])
    with pytest.raises(LeafwingError, match=next(iter(options))):
        leafwing.show(folder, out=tmp_path / "sheet.png", **options)
