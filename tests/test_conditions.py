"""Conditions: from what users say to the inputs of an output; what they leave open follows real samples."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from leafwing.commands.sample import setting_texts
from leafwing.conditions import (
    UNSET,
    Examples,
    from_settings,
    parse_settings,
    pixel_conditions,
    read_settings,
    resolve,
    samples_to_network,
    settable,
)
from leafwing.errors import LeafwingError
from leafwing.fields import Attributes, Box, Caption, Field, Image, Keypoints, Label, Mask, Vector
from leafwing.game import Batch, DataSpec, Output
from leafwing.latents import check_latents
from leafwing.runs import Run

NAMES = ("smiling", "colour=blue", "colour=green", "colour=red", "old")
FIELDS: dict[str, Field] = {
    "image": Image(8, 8, 3),
    "label": Label(("ant", "bee", "2")),
    "attributes": Attributes(NAMES),
    "caption": Caption(("a", "red", "blue", "star", "left"), 4),
    "box": Box(),
    "keypoints": Keypoints(("left_eye", "right_eye")),
    "style": Vector(3),
    "input": Image(8, 8, 1),
    "hole": Mask(8, 8),
}
SPEC = DataSpec(FIELDS)
REAL = Examples(
    {
        "label": np.array([0, 0, 1, 1]),
        "attributes": np.array([[1, 0, 0, 1, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 1], [1, 0, 0, 1, 1]], np.uint8),
        "caption": np.array([[1, 2, 4, 0], [1, 3, 4, 0], [4, 0, 0, 0], [2, 4, 0, 0]]),
        "box": np.array([[0.1 * i, 0, 0.5, 0.5] for i in range(4)], np.float32),
    }
)


def output(*conditions: str) -> Output:
    return Output("image", lambda nets, inputs, clock: inputs[conditions[0]], conditions)


def values(name: str, value: Any, n: int = 2) -> list[Any]:
    """The values of one condition of n samples."""
    result = resolve(output(name), SPEC, REAL, n, 0, {name: value})
    assert list(result) == [name]
    assert result[name].shape == (n, *FIELDS[name].shape)
    return result[name].tolist()


WORDS = [
    "ant",
    "bee",
    "2",
    "smiling",
    "colour",
    "red",
    "star",
    "left_eye",
    "nan",
    "inf",
    "#1",
    "-0",
    "9" * 400,
    "\x1b[2J",
    "٣",
]
"""What users write, and what they might."""


@given(
    st.sampled_from([*FIELDS][1:7]),
    st.one_of(st.text(max_size=20), st.lists(st.sampled_from([*WORDS, *"=, :-/;"])).map("".join)),
)
@example("box", "nan,0,1,1")
@example("style", "1e400,0,0")
@example("style", "٣,0,0")
@example("box", "0,0,-0,1")
@example("label", "٠")
@example("label", "#-0")
def test_a_text_is_a_value_of_a_condition_or_an_error(name: str, text: str) -> None:
    with suppress(LeafwingError):
        settings = parse_settings([f"{name}={text}"], output(name), SPEC)
        value = resolve(output(name), SPEC, REAL, 2, 0, from_settings(output(name), SPEC, settings))[name]
        assert value.shape == (2, *FIELDS[name].shape)
        assert value.isfinite().all()
        assert name in ("attributes", "caption") or not re.search("[٣６]|-0(?![.1-9])", text)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("label", "bee", [1, 1]),
        ("label", 1, [1, 1]),
        ("label", "#1", [1, 1]),
        ("label", "2", [2, 2]),
        ("label", ["bee", 0], [1, 0]),
        ("label", np.array([1, 0]), [1, 0]),
        ("label", np.array(["bee", "ant"]), [1, 0]),
        ("label", torch.tensor([2, 1]), [2, 1]),
        ("label", torch.tensor(2), [2, 2]),
        ("label", np.int64(2), [2, 2]),
        ("attributes", [[1, 0, 0, 1, 0], [0, 1, 0, 0, 1]], [[1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]),
        ("attributes", np.array([[1, 0, 0, 1, 0]] * 2), [[1, 0, 0, 1, 0]] * 2),
        ("attributes", torch.tensor([1, 0, 0, 1, 0]), [[1, 0, 0, 1, 0]] * 2),
        ("caption", "A red, unknown star!", [[1, 2, 4, 0]] * 2),
        ("caption", ["a star", "blue"], [[1, 4, 0, 0], [3, 0, 0, 0]]),
        ("caption", np.array(["a star", "blue"]), [[1, 4, 0, 0], [3, 0, 0, 0]]),
        ("caption", "a red star left of a blue star", [[1, 2, 4, 5]] * 2),
        ("caption", torch.tensor([[1, 4, 0, 0], [3, 0, 0, 0]]), [[1, 4, 0, 0], [3, 0, 0, 0]]),
        ("box", ".25,.25,.5,.5", [[0.25, 0.25, 0.5, 0.5]] * 2),
        ("box", (0.25, 0, 0.5, 0.5), [[0.25, 0, 0.5, 0.5]] * 2),
        ("box", [".25,.25,.5,.5", "0,0,1,1"], [[0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1]]),
        ("box", np.array([[0, 0, 0.5, 0.5]] * 2), [[0, 0, 0.5, 0.5]] * 2),
        ("keypoints", "0,.5,1,.5", [[[0, 0.5, 1], [1, 0.5, 1]]] * 2),
        ("style", "1,2,3", [[1, 2, 3]] * 2),
        ("style", [1, 2, 3], [[1, 2, 3]] * 2),
        ("style", torch.tensor([[1, 2, 3], [4, 5, 6]]), [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_every_kind_of_condition(name: str, value: Any, expected: list[Any]) -> None:
    assert values(name, value) == expected


def test_images_are_passed_on_as_they_are() -> None:
    images = torch.rand(2, 1, 8, 8)
    result = resolve(output("input", "label"), SPEC, REAL, 2, 0, {"input": images, "label": 1})
    assert torch.equal(result.input, images)
    assert list(result) == ["input", "label"], "in the order of the output's conditions"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("label", "bea", "no class 'bea'; did you mean bee.*[Aa]vailable: ant, bee, 2"),
        ("label", 3, "no class 3: there are 3 classes, 0 to 2"),
        ("label", torch.tensor([0, -1]), "no class -1"),
        ("label", ["ant"], "1 values of label for 2 samples: give one, or one per sample"),
        (
            "label",
            torch.zeros(3, dtype=torch.int64),
            r"label of shape \(3,\): 2 samples need shape \(2,\) \(label \(3 classes\)\)",
        ),
        ("attributes", np.zeros((3, 4)), r"\(2, 5\)"),
        ("attributes", np.full((2, 5), 0.5), "zeros and ones, in the order smiling, colour=blue"),
        ("caption", "purple haze", "this run knows none of its words, but 5 others: a, red, blue, star, left"),
        ("caption", ["a star"], "1 values of caption for 2 samples"),
        ("caption", torch.zeros(2, 5), r"2 samples need shape \(2, 4\)"),
        ("box", "1,2,3", "left, top, width and height"),
        ("box", ".5,.5,.7,.2", "must lie inside the image"),
        ("box", "a,b,c,d", "left, top, width and height"),
        ("box", [".25,.25,.5,.5"], "1 values of box for 2 samples: give one, or one per sample"),
        ("box", torch.zeros(2, 3), r"2 samples need shape \(2, 4\) \(box\)"),
        ("keypoints", "0,0", "left_eye, right_eye"),
        ("style", "1,2", "3 numbers"),
        ("style", torch.zeros(3, 3), r"2 samples need shape \(2, 3\)"),
        ("input", torch.zeros(2, 3, 8, 8), r"2 samples need shape \(2, 1, 8, 8\) \(image 8x8x1\)"),
        ("input", "cat.png", "an image cannot be written as a value"),
    ],
)
def test_values_that_do_not_fit_are_errors_that_say_what_is_needed(name: str, value: Any, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        values(name, value)


def test_an_unknown_condition_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(LeafwingError, match="does not generate its image from 'box'; it takes label, caption"):
        resolve(output("label", "caption"), SPEC, REAL, 2, 0, {"box": "0,0,1,1"})
    with pytest.raises(LeafwingError, match="it takes no conditions"):
        resolve(Output("image", lambda nets, inputs, clock: inputs.latent), SPEC, REAL, 2, 0, {"label": 1})


def test_images_have_to_be_specified() -> None:
    with pytest.raises(
        LeafwingError, match=r"from input and hole \(image 8x8x1\).*leafwing translate RUN PICTURES.*model.translate"
    ):
        resolve(output("input", "hole"), SPEC, REAL, 2, 0, {})


def test_a_condition_without_examples_has_to_be_specified() -> None:
    with pytest.raises(LeafwingError, match=r"no examples of caption to choose from: set one \(caption \(5 words"):
        resolve(output("caption"), SPEC, Examples(), 2, 0, {})


# --- what is not specified ------------------------------------------------------------------------------------------------


def rows(
    n: int, seed: int = 0, examples: Examples = REAL, names: tuple[str, ...] = ("attributes",), **conditions: Any
) -> Batch:
    return resolve(output(*names), SPEC, examples, n, seed, conditions)


def attributes(n: int, seed: int = 0, examples: Examples = REAL, **conditions: Any) -> np.ndarray:
    return rows(n, seed, examples, **conditions).attributes.numpy().astype(int)


REAL_ROWS = {tuple(row) for row in REAL.columns["attributes"].tolist()}


def test_labels_come_in_turn() -> None:
    assert rows(5, names=("label",)).label.tolist() == [0, 1, 2, 0, 1]
    assert resolve(output("label"), SPEC, REAL, 3, 0, {}, first=4).label.tolist() == [1, 2, 0]


def test_unspecified_attributes_follow_the_examples() -> None:
    assert {tuple(row) for row in attributes(200).tolist()} == REAL_ROWS
    smiling = {tuple(row) for row in attributes(200, attributes={"smiling": 1}).tolist()}
    assert smiling == {row for row in REAL_ROWS if row[0] == 1}
    green = attributes(50, attributes={"colour": "green"})
    assert {tuple(row) for row in green.tolist()} == {(0, 0, 1, 0, 1)}


def test_unspecified_conditions_are_those_of_one_example() -> None:
    def described(columns: Any) -> set[str]:
        """Label, caption, left side of the box and attributes of each row; no example has the third class."""
        names = ("label", "caption", "box", "attributes")
        rows = zip(*(columns[name].tolist() for name in names), strict=True)
        return {f"{label} {caption} {box[0]:.1f} {[*map(int, bits)]}" for label, caption, box, bits in rows if label < 2}

    assert described(rows(300, names=("label", "attributes", "caption", "box"))) == described(REAL.columns)


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["label", "caption"])
def test_indices_in_arrays_are_whole_numbers(kind: str, value: float) -> None:
    output = Output("image", lambda nets, inputs, clock: inputs.latent, (kind,))
    spec = DataSpec({"image": Image(8, 8), "label": Label(("a", "b", "c")), "caption": Caption(("a", "b"), 1)})
    for array in (np.array([1.0, value]), torch.tensor([value, 1.0])):
        shaped = array if kind == "label" else array[:, None]
        with pytest.raises(LeafwingError, match=rf"{kind}: give whole numbers, which are indices, not {value:g}"):
            resolve(output, spec, Examples(), 2, 0, {kind: shaped})
    if kind == "label":
        with pytest.raises(LeafwingError, match="label: give whole numbers"):
            resolve(output, spec, Examples(), 2, 0, {kind: np.float64(value)})
    whole = np.array([1.0, 2.0]) if kind == "label" else np.array([[1.0], [2.0]])
    assert resolve(output, spec, Examples(), 2, 0, {kind: whole})[kind].flatten().tolist() == [1, 2]


@pytest.mark.filterwarnings("error")
def test_arrays_may_be_read_only() -> None:
    """PyTorch warns of tensors that share memory which nobody may write to."""
    labels, images, latents = np.array([1, 0]), np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 4))
    for array in (labels, images, latents):
        array.flags.writeable = False
    spec = DataSpec.images(8, 8, labels=("a", "b"))
    output = Output("image", lambda nets, inputs, clock: inputs.latent, ("label",))
    assert resolve(output, spec, Examples(), 2, 0, {"label": labels}).label.tolist() == [1, 0]
    assert samples_to_network(images, spec.fields["image"], (3, 8, 8)).shape == (2, 3, 8, 8)
    assert check_latents(latents, None).shape == (2, 4)


def test_captions_match_the_specified_label_and_attributes() -> None:
    names = ("label", "attributes", "caption")
    result = rows(60, names=names, label="bee")
    assert {tuple(row) for row in result.caption.tolist()} == {(4, 0, 0, 0), (2, 4, 0, 0)}
    result = rows(60, names=names, label="bee", attributes={"smiling": 1})
    assert {tuple(row) for row in result.caption.tolist()} == {(2, 4, 0, 0)}
    result = rows(60, names=("attributes", "caption"), attributes={"colour": "green"})
    assert {tuple(row) for row in result.caption.tolist()} == {(4, 0, 0, 0)}


def test_attributes_match_the_class() -> None:
    result = attributes(100, names=("label", "attributes"), label=[i % 2 for i in range(100)])
    assert {tuple(row) for row in result[::2].tolist()} == {(1, 0, 0, 1, 0), (1, 1, 0, 0, 0)}
    assert {tuple(row) for row in result[1::2].tolist()} == {(0, 0, 1, 0, 1), (1, 0, 0, 1, 1)}


def test_boolean_values_have_several_spellings() -> None:
    for yes in (1, "1", True, "yes", "True"):
        assert (attributes(9, attributes={"smiling": yes}) == attributes(9, attributes={"smiling": 1})).all()
    assert not attributes(9, attributes={"smiling": "no"})[:, 0].any()


def test_unseen_combinations_can_be_requested() -> None:
    result = attributes(50, attributes={"smiling": 1, "colour": "green"})
    assert (result[:, :4] == [1, 0, 1, 0]).all()
    assert set(result[:, 4].tolist()) == {0, 1}
    assert REAL.columns["attributes"][2].tolist() == [0, 0, 1, 0, 1], "the examples themselves were changed"


def test_without_examples_attributes_are_random_and_categories_valid() -> None:
    result = attributes(400, examples=Examples(), attributes={"old": 1})
    assert (result[:, 1:4].sum(1) == 1).all()
    assert (result[:, 4] == 1).all()
    for share in (result[:, 0].mean() * 2 / 3, *result[:, 1:4].mean(0)):
        assert 0.25 < share < 0.42


@pytest.mark.parametrize("first", [0, 1, 63, 100])
def test_the_choice_depends_only_on_the_seed_and_the_number_of_the_sample(first: int) -> None:
    names = ("label", "caption", "box")
    whole = rows(150, 3, names=names)
    part = resolve(output(*names), SPEC, REAL, 20, 3, {}, first=first)
    assert all(torch.equal(part[name], whole[name][first : first + 20]) for name in names)
    assert not torch.equal(rows(150, 4, names=names).caption, whole.caption)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smilng": 1}, "did you mean smiling.*[Aa]vailable: smiling, colour, old"),
        ({"smiling": 2}, "smiling must be 0 or 1"),
        ({"smiling": "maybe"}, "smiling must be 0 or 1"),
        ({"colour": "rad"}, "no value 'rad'; did you mean red.*blue, green, red"),
    ],
)
def test_unknown_attributes_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        rows(2, attributes=settings)


# --- settings -------------------------------------------------------------------------------------------------------------

EVERYTHING = output("label", "attributes", "caption", "box", "input")


def test_what_can_be_set() -> None:
    assert settable(EVERYTHING, SPEC) == ["label", "caption", "box", "smiling", "colour", "old"]
    assert settable(output("label"), SPEC) == ["label"]
    assert pixel_conditions(EVERYTHING, SPEC) == ["input"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["label=7"], {"label": "7"}),
        (["smiling=1,colour=red"], {"smiling": "1", "colour": "red"}),
        (["smiling=1", "colour=dark, red"], {"smiling": "1", "colour": "dark, red"}),
        (["caption=a red star, left"], {"caption": "a red star, left"}),
        (["caption=size=big, colour=red"], {"caption": "size=big, colour=red"}),
        (["box=.2,.2,.5,.5", "caption=a star"], {"box": ".2,.2,.5,.5", "caption": "a star"}),
        (["label=a,b=c"], {"label": "a,b=c"}),
        ([" smiling = 1 ", "smiling=1"], {"smiling": "1"}),
        ([], {}),
    ],
)
def test_settings_are_read_from_text(texts: list[str], expected: dict[str, str]) -> None:
    assert parse_settings(texts, EVERYTHING, SPEC) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["smiling"], "write NAME=VALUE"),
        (["=1"], "write NAME=VALUE"),
        (["smiling="], "write NAME=VALUE"),
        (["smiling=1", "smiling=0"], "--set smiling is given twice, as 1 and as 0"),
        (["smiling=1,smiling=0"], "given twice"),
    ],
)
def test_settings_that_cannot_be_read_are_errors(texts: list[str], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        parse_settings(texts, EVERYTHING, SPEC)


def test_a_single_text_is_one_setting() -> None:
    assert read_settings("label=3", EVERYTHING, SPEC) == read_settings(["label=3"], EVERYTHING, SPEC) == {"label": "3"}
    assert setting_texts("label=3") == ["label=3"]
    for wrong in ("label", ["label", 3], [3], ""):
        with pytest.raises(LeafwingError, match=r"conditions='(label|3|)': write NAME=VALUE"):
            read_settings(wrong, EVERYTHING, SPEC)


def test_settings_become_conditions_by_field() -> None:
    settings = {"smiling": "1", "caption": "a star", "colour": "red"}
    assert from_settings(EVERYTHING, SPEC, settings) == {
        "caption": "a star",
        "attributes": {"smiling": "1", "colour": "red"},
    }


@pytest.mark.parametrize(
    ("conditions", "fields", "option", "message"),
    [
        ((), (), {"label": "all"}, "--label all: this run was trained without labels. Labels come from a folder for each class"),
        ((), ("label",), {"label": 1}, "--label 1: this run was trained without labels: the data have labels, which its recipe does"),
        (("caption",), ("label",), {"label": 1}, "--label 1: this run was trained without labels; --set can set caption"),
        (("input",), (), {"label": 1}, "--label 1: this run was trained without labels: its image is generated from input"),
        ((), (), {"settings": ["label=3"]}, "--set label=3: this run was trained without labels, attributes or captions. Labels"),
        ((), ("caption",), {"settings": {"smiling": 1}}, "--set smiling=1: this run was trained without labels, attributes or capt"),
        (("caption",), (), {"settings": ["captoin=a"]}, "--set captoin=a: no condition 'captoin'; did you mean caption?"),
    ],
)  # fmt: skip
def test_a_condition_that_a_run_lacks_is_named_as_typed(
    conditions: tuple[str, ...], fields: tuple[str, ...], option: dict[str, Any], message: str
) -> None:
    generated = Output("image", lambda nets, inputs, clock: inputs.latent, conditions)
    spec = DataSpec({name: SPEC.fields[name] for name in ("image", *conditions, *fields)})
    with pytest.raises(LeafwingError) as error:
        from_settings(generated, spec, read_settings(**{"settings": (), **option}, output=generated, spec=spec))
    assert error.value.for_command_line().startswith(message)


def test_an_unknown_setting_lists_what_the_run_takes() -> None:
    with pytest.raises(LeafwingError, match=r"no condition 'captoin'; did you mean caption.*label, caption, box, smiling"):
        from_settings(EVERYTHING, SPEC, {"captoin": "a star"})
    with pytest.raises(LeafwingError, match="no condition 'input'"):  # images are not written as values
        from_settings(EVERYTHING, SPEC, {"input": "cat.png"})
    with pytest.raises(
        LeafwingError, match=r"conditions='label=3': this run was trained without labels, attributes or captions"
    ):
        from_settings(Output("image", lambda nets, inputs, clock: inputs.latent), SPEC, {"label": 3})


# --- run.json -------------------------------------------------------------------------------------------------------------


def test_examples_survive_run_json() -> None:
    plain = {name: FIELDS[name].to_plain(column) for name, column in REAL.columns.items()}
    restored = Examples.from_plain(SPEC, plain)
    assert len(restored) == 4
    for name, column in REAL.columns.items():
        assert restored.columns[name].dtype == column.dtype
        assert (restored.columns[name] == column).all()
    assert restored.columns.keys() == REAL.columns.keys()


def test_examples_of_fields_that_the_data_do_not_have_are_ignored() -> None:
    assert Examples.from_plain(DataSpec.images(8, 8), {"box": [[0, 0, 1, 1]]}).columns == {}


def test_old_runs_with_combinations_have_examples(tmp_path: Path) -> None:
    import json

    config = json.loads((Path(__file__).parent / "old_run" / "run.json").read_text())
    config["data"]["spec"] |= {
        "labels": ["a", "b"],
        "attributes": ["smiling", "colour=blue", "colour=red"],
        "fields": ["image", "label", "attributes"],
    }
    config["data"]["combinations"] = "0:110 1:001"
    (tmp_path / "run.json").write_text(json.dumps(config))
    run = Run(tmp_path)
    examples = Examples.from_plain(run.spec, run.data.examples or {})
    assert examples.columns["attributes"].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert examples.columns["label"].tolist() == [0, 1]
    result = resolve(output("label", "attributes"), run.spec, examples, 4, 0, {})
    assert result.attributes.tolist() == [[1, 1, 0], [0, 0, 1]] * 2


def test_an_output_that_edits_leaves_unset_attributes_alone() -> None:
    images = torch.zeros(2, 3, 8, 8)
    attributes = resolve(output("image", "attributes"), SPEC, REAL, 2, 0, {"image": images})["attributes"]
    assert attributes.tolist() == [[UNSET] * 5] * 2
    chosen = {"image": images, "attributes": {"colour": "red", "old": 0}}
    attributes = resolve(output("image", "attributes"), SPEC, REAL, 2, 0, chosen)["attributes"]
    assert attributes.tolist() == [[UNSET, 0, 0, 1, 0]] * 2
    whole = torch.tensor([1.0, 0, 1, 0, 1])
    attributes = resolve(output("image", "attributes"), SPEC, REAL, 2, 0, {"image": images, "attributes": whole})[
        "attributes"
    ]
    assert attributes.tolist() == [whole.tolist()] * 2
    with pytest.raises(LeafwingError, match="no attribute"):
        resolve(output("image", "attributes"), SPEC, REAL, 2, 0, {"image": images, "attributes": {"grey": 1}})
