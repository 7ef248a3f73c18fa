"""The kinds of fields: the format that networks see, mirroring, values that users write, and plain JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.fields import (
    KINDS,
    Attributes,
    Box,
    Caption,
    Clip,
    Field,
    Image,
    Keypoints,
    Label,
    Mask,
    Segmentation,
    Vector,
    describe_kind,
    plural,
)
from leafwing.pixels import Window

N = 6
CAPTION = Caption(("a", "left", "red", "right", "star"), 4)
POSE = Keypoints(("left_eye", "right_eye", "beak"))
random = np.random.default_rng(0)
STORED: dict[Field, np.ndarray] = {
    Image(4, 6, 3): random.integers(0, 256, (N, 4, 6, 3)).astype(np.uint8),
    Clip(3, 4, 6, 1): random.integers(0, 256, (N, 3, 4, 6, 1)).astype(np.uint8),
    Mask(4, 6): random.integers(0, 2, (N, 4, 6, 1)).astype(np.uint8),
    Segmentation(4, 6, ("sky", "sea", "sand")): random.integers(0, 3, (N, 4, 6)).astype(np.uint8),
    Vector(3): random.normal(size=(N, 3)).astype(np.float32),
    Label(("a", "b", "c")): random.integers(0, 3, N),
    Attributes(("old", "colour=red", "colour=blue")): random.integers(0, 2, (N, 3)).astype(np.uint8),
    CAPTION: np.array([[1, 3, 5, 0], [2, 0, 0, 0], [4, 2, 4, 2], [1, 1, 1, 1], [5, 0, 0, 0], [3, 4, 0, 0]]),
    Box(): (random.random((N, 4)) / 2).astype(np.float32),
    POSE: random.random((N, 3, 3)).astype(np.float32),
}
every_kind = pytest.mark.parametrize("field", STORED, ids=lambda field: field.kind)


def stored(field: Field) -> Tensor:
    return torch.from_numpy(STORED[field].copy())


def test_every_kind_is_tested() -> None:
    assert {type(field) for field in STORED} == {*KINDS.values()}
    assert all(KINDS[kind].kind == kind for kind in KINDS)


@every_kind
def test_networks_see_samples_of_the_fields_shape_and_range(field: Field) -> None:
    samples = field.to_network(stored(field))
    assert samples.shape == (N, *field.shape)
    assert samples.dtype == (torch.int64 if isinstance(field, Label | Caption) else torch.float32)
    assert torch.equal(field.clamp(samples), samples)
    if field.has_pixels:
        low = -1 if isinstance(field, Image | Clip) else 0
        assert low <= samples.min() < samples.max() <= 1
        assert torch.equal(field.clamp(samples * 9), (samples * 9).clamp(low, 1))


@every_kind
def test_mirroring_twice_changes_nothing(field: Field) -> None:
    before = stored(field)
    once = field.mirror(before)
    assert torch.equal(before, stored(field)), "the stored samples were overwritten"
    assert torch.allclose(field.mirror(once).double(), before.double(), atol=1e-6)
    assert (once.dtype, once.shape) == (before.dtype, before.shape)
    unchanged = isinstance(field, Vector | Label | Attributes)
    assert torch.equal(once, before) == unchanged


def test_pixels_masks_and_classes_keep_their_values() -> None:
    """A mask of bytes is no image: 0 and 1 stay 0 and 1."""
    mask = torch.tensor([0, 1, 1, 0], dtype=torch.uint8).view(1, 2, 2, 1)
    assert Mask(2, 2).to_network(mask).tolist() == [[[[0, 1], [1, 0]]]]
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1)
    assert Image(1, 2, 1).to_network(image).tolist() == [[[[-1, 1]]]]
    classes = torch.tensor([[[2, 0]]], dtype=torch.uint8)
    assert Segmentation(1, 2, ("a", "b", "c")).to_network(classes).tolist() == [[[[0, 1]], [[0, 0]], [[1, 0]]]]
    frames = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2, 1)
    assert ((Clip(3, 2, 2, 1).to_network(frames) + 1) * 127.5).round().flatten().tolist() == list(range(12))


def test_in_a_mirrored_image_left_is_right() -> None:
    pixels = torch.arange(6, dtype=torch.uint8)
    assert Image(2, 3, 1).mirror(pixels.view(1, 2, 3, 1)).flatten().tolist() == [2, 1, 0, 5, 4, 3]
    assert Clip(2, 1, 3, 1).mirror(pixels.view(1, 2, 1, 3, 1)).flatten().tolist() == [2, 1, 0, 5, 4, 3]
    assert Segmentation(2, 3, ("a",)).mirror(pixels.view(1, 2, 3)).flatten().tolist() == [2, 1, 0, 5, 4, 3]
    assert Box().mirror(torch.tensor([[0.1, 0.2, 0.3, 0.4]])).tolist() == [pytest.approx([0.6, 0.2, 0.3, 0.4])]
    left, right, beak = POSE.mirror(torch.tensor([[[0.1, 0.5, 1], [0.8, 0.6, 0], [0.4, 0.7, 1]]]))[0].tolist()
    assert left == pytest.approx([0.2, 0.6, 0]), "the right eye is on the left now"
    assert right == pytest.approx([0.9, 0.5, 1])
    assert beak == pytest.approx([0.6, 0.7, 1])
    text = torch.tensor([CAPTION.encode("a red star left")])
    assert CAPTION.decode(CAPTION.mirror(text)[0].tolist()) == "a red star right"
    without = Caption(("left", "star"), 2)
    assert torch.equal(without.mirror(torch.tensor([[1, 2]])), torch.tensor([[1, 2]])), "no word for right"


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("left_eye", "right_eye", "beak"), [1, 0, 2]),
        (("LeftEye", "RightEye"), [1, 0]),
        (("LEFT_EYE", "beak", "RIGHT_EYE"), [2, 1, 0]),
        (("Left eye", "right eye"), [1, 0]),
        (("LeftEye", "beak"), [0, 1]),
        (("left", "LEFT", "right"), [2, 1, 0]),
    ],
)
def test_mirroring_exchanges_points_whose_names_differ_in_left_and_right(names: tuple[str, ...], order: list[int]) -> None:
    points = torch.rand(2, len(names), 3)
    expected = points[:, order]
    expected[..., 0] = 1 - expected[..., 0]
    assert torch.equal(Keypoints(names).mirror(points), expected)


@pytest.mark.parametrize(
    ("place", "cropped", "is_visible"),
    [((4, 4), (0.5, 0.5), 1), ((0, 8), (0, 1), 1), ((9, 4), (1, 0.5), 0), ((4, -1), (0.5, 0), 0), ((-2, 12), (0, 1), 0)],
)
def test_points_outside_of_a_window_are_at_its_edge_and_invisible(
    place: tuple[float, float], cropped: tuple[float, float], is_visible: int
) -> None:
    """Places in pixels of a window of 8x8 whose corner is at (4, 4) of an image of 16x16."""
    window = Window(torch.tensor([4]), torch.tensor([4]), 8, 8, (16, 16))
    point = torch.tensor([[[(4 + place[0]) / 16, (4 + place[1]) / 16, 1]]])
    assert Keypoints(("beak",)).crop(point, window).flatten().tolist() == pytest.approx([*cropped, is_visible])


def test_one_of_several_captions_is_chosen() -> None:
    """Samples may have fewer captions than others: the rest is padding, which is never chosen."""
    alternatives = torch.tensor([[[1, 0], [2, 0], [3, 0]], [[4, 5], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]]])
    field = Caption(("a", "b", "c", "d", "e"), 2)
    random = torch.tensor([4, 5, 6])
    assert field.choose(alternatives, random).tolist() == [[2, 0], [4, 5], [0, 0]]
    seen = {field.choose(alternatives, torch.full((3,), number))[0, 0].item() for number in range(9)}
    assert seen == {1, 2, 3}
    assert field.to_network(alternatives).tolist() == [[1, 0], [4, 5], [0, 0]]


# --- values ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (Vector(2), "1, -2.5", [1, -2.5]),
        (Vector(2), [1, 2], [1, 2]),
        (Label(("ant", "7", "bee")), "bee", 2),
        (Label(("ant", "7", "bee")), "7", 1),
        (Label(("ant", "7", "bee")), "#0", 0),
        (Label(("ant", "bee")), "1", 1),
        (Label(("ant", "7", "bee")), np.int64(2), 2),
        (CAPTION, "A red, RED star!", [1, 3, 3, 5]),
        (CAPTION, "the star", [5, 0, 0, 0]),
        (CAPTION, "a a a a a a", [1, 1, 1, 1]),
        (Box(), ".2,.3,.5,.25", [0.2, 0.3, 0.5, 0.25]),
        (Box(), (0, 0, 1, 1), [0, 0, 1, 1]),
        (POSE, ".1,.2,.3,.4,.5,.6", [[0.1, 0.2, 1], [0.3, 0.4, 1], [0.5, 0.6, 1]]),
    ],
    ids=str,
)
def test_values_are_parsed(field: Field, value: Any, expected: Any) -> None:
    sample = field.parse(value)
    assert sample.shape == field.shape
    torch.testing.assert_close(sample, torch.tensor(expected).to(sample.dtype))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (Vector(2), "1", "give 2 numbers"),
        (Vector(2), "1,x", "give 2 numbers"),
        (Vector(2), "1,nan", "give 2 numbers"),
        (Vector(2), 3, "give 2 numbers"),
        (Label(("ant", "bee")), "bea", "no class 'bea'; did you mean bee"),
        (Label(("ant", "bee")), 2, "no class 2: there are 2 classes, 0 to 1"),
        (Label(("1", "2", "10", "20")), "3", "no class is named 3; '#3' is class 20"),
        (Label(("1", "2")), "#2", "no class 2: there are 2 classes"),
        (Label(("ant", "bee")), -1, "no class -1"),
        (Label(("ant", "bee")), 0.5, "no class 0.5"),
        (CAPTION, "un chat", "'un chat': this run knows none of its words, but 5 others: a, left, red"),
        (CAPTION, "", "knows none"),
        (Box(), ".2,.2,.5", "left, top, width and height"),
        (Box(), ".2,.2,.9,.5", "must lie inside the image"),
        (Box(), ".2,.2,0,.5", "must lie inside the image"),
        (Box(), "-.2,.2,.3,.5", "must lie inside the image"),
        (POSE, ".1,.2", "x and y of left_eye, right_eye, beak"),
        (Image(4, 4), "cat.png", "an image cannot be written as a value"),
        (Mask(4, 4), "1", "a mask cannot be written as a value"),
        (Clip(2, 4, 4), "x", "a clip cannot"),
        (Segmentation(4, 4, ("a",)), "x", "a segmentation cannot"),
    ],
    ids=str,
)
def test_wrong_values_say_what_is_expected(field: Field, value: Any, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        field.parse(value)


def test_a_category_determines_all_of_its_attributes() -> None:
    field = Attributes(("old", "colour=red", "colour=blue"))
    assert field.settable == ["old", "colour"]
    assert field.columns({"old": "yes", "colour": "blue"}) == {0: 1, 1: 0, 2: 1}
    assert field.columns({"old": 0}) == {0: 0}
    for settings, message in (
        ({"young": 1}, "no attribute 'young'.*old, colour"),
        ({"colour": "green"}, "colour has no value 'green'.*red, blue"),
        ({"old": 2}, "old must be 0 or 1"),
    ):
        with pytest.raises(LeafwingError, match=message):
            field.columns(settings)


# --- plain JSON ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [field for field in STORED if not field.has_pixels], ids=lambda field: field.kind)
def test_samples_survive_plain_json(field: Field) -> None:
    import json

    values = STORED[field]
    plain = json.loads(json.dumps(field.to_plain(values)))
    assert len(plain) == N
    again = field.from_plain(plain)
    assert again.dtype == values.dtype
    assert np.array_equal(again, values)
    assert field.to_network(torch.from_numpy(field.from_plain([]))).shape == (0, *field.shape)


def test_the_first_of_several_captions_is_stored() -> None:
    assert CAPTION.to_plain(np.array([[[1, 3, 5, 0], [2, 0, 0, 0]]])) == ["a red star"]


@every_kind
def test_a_field_is_described_by_its_kind_and_its_attributes(field: Field) -> None:
    plain = field.as_dict()
    kind = KINDS[plain.pop("kind")]
    assert kind(**plain) == field
    assert plural(kind).endswith("s")
    assert field.kind in str(field)


def test_kinds_in_words() -> None:
    words = [describe_kind(kind) for kind in (Image, Attributes, Keypoints, Box, Label)]
    assert words == ["an image", "attributes", "keypoints", "a box", "a label"]
    assert [plural(kind) for kind in (Image, Box, Keypoints)] == ["images", "boxes", "keypoints"]
