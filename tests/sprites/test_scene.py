"""Scenes and words: uniform and reproducible; captions describe the scene and can be parsed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from leafwing.errors import LeafwingError
from leafwing.sprites.scene import BETWEEN_SIZES, COMBINATIONS, RADII, THIRDS, Scenes, place_of, scenes
from leafwing.sprites.words import ATTRIBUTES, BACKGROUND_RGB, COLOUR_RGB, TEMPLATES, WORDS, parse, parse_all


@pytest.fixture(scope="module")
def combinations() -> Scenes:
    """Every combination twice."""
    return scenes(2 * COMBINATIONS, seed=3)


def test_every_combination_appears_equally_often(combinations: Scenes) -> None:
    assert COMBINATIONS == 6 * 6 * 2 * 9 * 4
    assert set(np.bincount(combinations.combination, minlength=COMBINATIONS)) == {2}
    first, second = combinations.combination[:COMBINATIONS], combinations.combination[COMBINATIONS:]
    assert len(set(first)) == COMBINATIONS
    assert not np.array_equal(first, second), "each block has its own order"
    for part, words in WORDS.items():
        assert set(np.bincount(getattr(combinations, part))) == {2 * COMBINATIONS // len(words)}


def test_scenes_never_change() -> None:
    sample = scenes(500, seed=7)
    raw = b"".join(
        getattr(sample, name).tobytes() for name in ("combination", "x", "y", "radius", "angle", "template", "chance")
    )
    assert hashlib.sha256(raw).hexdigest() == "65a4be21085f09d3a6799e84efce43d00d925455258bf281ce2a6b22ca25c4c2"
    assert not np.array_equal(sample.combination, scenes(500, seed=8).combination)


def test_a_longer_sequence_starts_with_a_shorter_one() -> None:
    short, long = scenes(40, seed=1), scenes(3000, seed=1).rows(slice(40))
    for name in ("combination", "x", "y", "radius", "angle", "template", "chance"):
        assert np.array_equal(getattr(short, name), getattr(long, name)), name
    assert len(scenes(0)) == 0


def test_numbers_stay_in_the_ranges_of_their_words(combinations: Scenes) -> None:
    low, high = np.array([RADII[word] for word in WORDS["size"]])[combinations.size].T
    assert ((combinations.radius >= low) & (combinations.radius <= high)).all()
    assert np.array_equal(combinations.size, combinations.radius > BETWEEN_SIZES)
    assert np.array_equal(combinations.place, place_of(combinations.x, combinations.y))
    for edge in THIRDS:
        assert np.abs(np.stack([combinations.x, combinations.y]) - edge).min() > 0.049
    assert np.abs(combinations.angle).max() < 20
    assert np.abs(combinations.angle[combinations.shape > 0]).max() > 19
    assert not combinations.angle[combinations.shape == 0].any()
    # The random numbers of a scene are independent.
    assert np.abs(np.corrcoef(combinations.chance.T) - np.eye(4)).max() < 0.05
    assert (
        abs(np.corrcoef(combinations.angle[combinations.shape > 0], combinations.place[combinations.shape > 0])[0, 1]) < 0.05
    )


def test_colours_are_distinct_from_any_background() -> None:
    for ground in BACKGROUND_RGB:
        offsets = COLOUR_RGB - ground
        length = np.linalg.norm(offsets, axis=1)
        assert length.min() > 100
        cosines = offsets @ offsets.T / length / length[:, None] - 2 * np.eye(len(length))
        assert cosines.max() < np.cos(np.radians(25))


def test_attributes_name_every_word(combinations: Scenes) -> None:
    attributes = combinations.attributes
    assert (attributes.shape, attributes.dtype) == ((len(combinations), 23), np.uint8)
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 23
    for number in range(0, len(combinations), 97):
        scene = combinations[number]
        true = {word for word, present in zip(ATTRIBUTES, attributes[number], strict=True) if present}
        assert true == {scene.shape, scene.colour, scene.size, scene.background, *scene.place.split()}


def test_captions_contain_all_words_and_can_be_parsed(combinations: Scenes) -> None:
    captions = combinations.captions
    assert set(combinations.template) == set(range(len(TEMPLATES)))
    parsed = parse_all(captions)
    for part in WORDS:
        assert np.array_equal(parsed[part], getattr(combinations, part)), part
    scene = combinations[5]
    assert scene.caption == captions[5]
    assert parse(scene.caption) == {part: getattr(scene, part) for part in WORDS}


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_contains_every_word(template: str) -> None:
    for number in range(9):
        words_by_part = {part: words[number % len(words)] for part, words in WORDS.items()}
        assert parse(template.format(**words_by_part)) == words_by_part


def test_a_partial_caption_determines_fewer_words() -> None:
    assert parse("A red star.") == {"shape": "star", "colour": "red"}
    assert parse("bottom left") == {"place": "bottom left"}
    assert parse("a heart on the left of a brown background") == {"shape": "heart", "place": "left", "background": "brown"}
    parsed = parse_all(["a red star", "a large star"])
    assert {part: codes.tolist() for part, codes in parsed.items()} == {
        "shape": [3, 3],
        "colour": [0, -1],
        "size": [-1, 1],
        "place": [-1, -1],
        "background": [-1, -1],
    }


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("a red hexagon", "'hexagon' .*there are: circle"),
        ("a red blue star", "one colour, not both red and blue"),
        ("a star at the left right", "'left right' .*there are: top left"),
        ("left top star", "'left top' .*there are: top left"),
        ("a picture", "says nothing about a sprite"),
        ("", "says nothing about a sprite"),
    ],
)
def test_captions_that_cannot_be_parsed_are_refused(caption: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        parse(caption)


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (3, -1)])
def test_negative_numbers_are_refused(n: int, seed: int) -> None:
    with pytest.raises(LeafwingError, match=f"n={n}, seed={seed}"):
        scenes(n, seed)
