"""The grammar of sprites: evenly spread, the same for ever, and captions that say what is there and can be read back."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from leafwing.errors import LeafwingError
from leafwing.sprites.scene import BETWEEN_SIZES, COMBINATIONS, RADII, THIRDS, Scenes, place_of, scenes
from leafwing.sprites.words import ATTRIBUTES, BACKGROUND_RGB, COLOUR_RGB, TEMPLATES, WORDS, parse, parse_all


@pytest.fixture(scope="module")
def every() -> Scenes:
    """Every combination twice."""
    return scenes(2 * COMBINATIONS, seed=3)


def test_every_combination_appears_equally_often(every: Scenes) -> None:
    assert COMBINATIONS == 6 * 6 * 2 * 9 * 4
    assert set(np.bincount(every.combination, minlength=COMBINATIONS)) == {2}
    first, second = every.combination[:COMBINATIONS], every.combination[COMBINATIONS:]
    assert len(set(first)) == COMBINATIONS
    assert not np.array_equal(first, second), "each run has an order of its own"
    for part, words in WORDS.items():
        assert set(np.bincount(getattr(every, part))) == {2 * COMBINATIONS // len(words)}


def test_scenes_are_the_same_for_ever() -> None:
    some = scenes(500, seed=7)
    raw = b"".join(
        getattr(some, name).tobytes() for name in ("combination", "x", "y", "radius", "angle", "template", "chance")
    )
    assert hashlib.sha256(raw).hexdigest() == "65a4be21085f09d3a6799e84efce43d00d925455258bf281ce2a6b22ca25c4c2"
    assert not np.array_equal(some.combination, scenes(500, seed=8).combination)


def test_a_longer_row_begins_with_a_shorter_one() -> None:
    short, long = scenes(40, seed=1), scenes(3000, seed=1).rows(slice(40))
    for name in ("combination", "x", "y", "radius", "angle", "template", "chance"):
        assert np.array_equal(getattr(short, name), getattr(long, name)), name
    assert len(scenes(0)) == 0


def test_numbers_stay_inside_their_words(every: Scenes) -> None:
    low, high = np.array([RADII[word] for word in WORDS["size"]])[every.size].T
    assert ((every.radius >= low) & (every.radius <= high)).all()
    assert np.array_equal(every.size, every.radius > BETWEEN_SIZES)
    assert np.array_equal(every.place, place_of(every.x, every.y))
    for edge in THIRDS:
        assert np.abs(np.stack([every.x, every.y]) - edge).min() > 0.049
    assert np.abs(every.angle).max() < 20
    assert np.abs(every.angle[every.shape > 0]).max() > 19
    assert not every.angle[every.shape == 0].any()
    # Nothing in a scene gives away the rest: radius and angle do not follow the place, chance nothing.
    assert np.abs(np.corrcoef(every.chance.T) - np.eye(4)).max() < 0.05
    assert abs(np.corrcoef(every.angle[every.shape > 0], every.place[every.shape > 0])[0, 1]) < 0.05


def test_colours_are_told_apart_from_any_background() -> None:
    for ground in BACKGROUND_RGB:
        away = COLOUR_RGB - ground
        long = np.linalg.norm(away, axis=1)
        assert long.min() > 100
        cosines = away @ away.T / long / long[:, None] - 2 * np.eye(len(long))
        assert cosines.max() < np.cos(np.radians(25))


def test_attributes_name_every_word(every: Scenes) -> None:
    found = every.attributes
    assert (found.shape, found.dtype) == ((len(every), 23), np.uint8)
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 23
    for number in range(0, len(every), 97):
        one = every[number]
        true = {word for word, is_so in zip(ATTRIBUTES, found[number], strict=True) if is_so}
        assert true == {one.shape, one.colour, one.size, one.background, *one.place.split()}


def test_captions_say_all_words_and_can_be_read_back(every: Scenes) -> None:
    captions = every.captions
    assert set(every.template) == set(range(len(TEMPLATES)))
    read = parse_all(captions)
    for part in WORDS:
        assert np.array_equal(read[part], getattr(every, part)), part
    one = every[5]
    assert one.caption == captions[5]
    assert parse(one.caption) == {part: getattr(one, part) for part in WORDS}


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_says_every_word(template: str) -> None:
    for number in range(9):
        said = {part: words[number % len(words)] for part, words in WORDS.items()}
        assert parse(template.format(**said)) == said


def test_less_than_a_sentence_fixes_less() -> None:
    assert parse("A red star.") == {"shape": "star", "colour": "red"}
    assert parse("bottom left") == {"place": "bottom left"}
    assert parse("a heart on the left of a brown background") == {"shape": "heart", "place": "left", "background": "brown"}
    found = parse_all(["a red star", "a large star"])
    assert {part: codes.tolist() for part, codes in found.items()} == {
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
def test_captions_outside_the_grammar_are_refused(caption: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        parse(caption)


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (3, -1)])
def test_negative_numbers_are_refused(n: int, seed: int) -> None:
    with pytest.raises(LeafwingError, match=f"n={n}, seed={seed}"):
        scenes(n, seed)
