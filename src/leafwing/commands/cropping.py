"""From one picture to its crops: the rules by which they are used or not, and what is measured of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leafwing.data import align, positions
from leafwing.data.align import Crop
from leafwing.data.pictures import UnusableImageError, opened

if TYPE_CHECKING:
    from PIL import Image as Pillow

    from leafwing.data.annotations import Landmark

MOST_OUTSIDE = 0.25
"""A crop is rejected if more of its area than this lies outside its picture: too much of it would be invented."""
NEAREST = 2.0
"""Two points by which a picture is aligned are at least this many pixels apart."""
FEWEST, TYPICAL, LOWEST = 12, 0.2, 0.1
"""Landmarks are out of place if their surroundings resemble those of other pictures less than `LOWEST`, which is common by chance, but
only where there are `FEWEST` pictures and half of them reach `TYPICAL`."""


@dataclass(frozen=True)
class Rules:
    """What is cropped, and what is rejected.

    Args:
        size: side of the crops.
        smallest: the smallest side of a crop in pixels of its picture.
        outside: as for `align.OUTSIDE`.
        names: two points that get `places`, and a third one for `frontal` if there is one; none: crops around boxes.
        places: as for `align.by_points`.
        scale: side of a crop in longer sides of its box.
        every_box: crops of all boxes, instead of the largest of each picture.
        frontal: the largest turn, see `align.turn`; None: any.
        sharp: the lowest sharpness; None: any.
    """

    size: int
    smallest: float
    outside: str
    names: tuple[str, ...] = ()
    places: align.Places = (0, 0, 0, 0)
    scale: float = 1.0
    every_box: bool = False
    frontal: float | None = None
    sharp: float | None = None

    def describe(self) -> dict[str, str]:
        """The rules in the order in which they are applied: what is true of pictures that are not used."""
        what = "landmarks" if self.names else "box"
        outside = "crops that reach over the edge (--outside reject)"
        return {
            "missing": f"without a usable {what}" if what == "box" else f"without usable {what}",
            "picture": "not readable as pictures",
            "place": f"with {what} out of place",
            "outside": outside
            if self.outside == "reject"
            else f"more than {MOST_OUTSIDE:.0%} of the crop outside the picture",
            "smallest": f"crops with less than {self.smallest:g} pixels a side in their picture (--smallest)",
            "frontal": f"turned by more than {self.frontal} (--frontal)",
            "sharp": f"less sharp than {self.sharp} (--sharp)",
        }


@dataclass
class Outcome:
    """A crop of a picture, or why there is none.

    Args:
        source: name of the picture.
        rule: the rule by which it is rejected, a key of `Rules.describe`; empty: it is used.
        reason: the same in words.
        crop: the crop, if its place is known, also of what is rejected.
        points: landmarks, or the corners of the box, in pixels of the picture (n, 2); NaN where a point is missing.
        file: the file that was written, in the output folder.
        outside: fraction of the crop outside the picture.
        turn, sharpness, resemblance: as in `align`; None where not measured.
        stray: names of landmarks outside the picture.
        patches: what lies around the points, for `find_strays`.
    """

    source: str
    rule: str = ""
    reason: str = ""
    crop: Crop | None = None
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    file: str = ""
    outside: float | None = None
    turn: float | None = None
    sharpness: float | None = None
    resemblance: float | None = None
    stray: list[str] = field(default_factory=list)
    patches: np.ndarray | None = None

    def reject(self, rule: str, reason: str) -> None:
        """Marks it as not used, unless it already is."""
        if not self.rule:
            self.rule, self.reason = rule, reason


class Cropper:
    """Crops pictures; thread-safe.

    Args:
        rules: the rules.
        names: the names of all landmarks.
        side: the sign of `align.side_of` the third point in most pictures; 0 if unknown.
    """

    def __init__(self, rules: Rules, names: Sequence[str] = (), side: float = 0.0) -> None:
        self.rules, self.names, self.side = rules, names, side

    def crop(self, name: str, data: bytes, values: Sequence[Any]) -> list[tuple[Outcome, Pillow.Image | None]]:
        """The crops of a picture, and those that are rejected.

        Args:
            name: its name.
            data: its file.
            values: its landmarks, or its boxes.
        """
        try:
            with opened(data) as image:
                picture = align.plain(image)
        except UnusableImageError as reason:
            return [(Outcome(name, "picture", str(reason)), None)]
        if self.rules.names:
            outcomes = [self._by_points(name, picture, values)]
        else:
            boxes = values if self.rules.every_box else [max(values, key=lambda box: box[2] * box[3])]
            outcomes = [self._by_box(name, picture, box) for box in boxes]
        return [(outcome, self._finish(outcome, picture)) for outcome in outcomes]

    def _by_points(self, name: str, picture: Pillow.Image, values: Sequence[Landmark]) -> Outcome:
        """The crop in which two landmarks have their places."""
        outcome, rules = Outcome(name), self.rules
        visible = {title: (x, y) for title, x, y, is_visible in values if is_visible}
        points = np.array([visible.get(title, (np.nan, np.nan)) for title in self.names], float)
        inside = np.all((points >= 0) & (points <= picture.size), axis=1)
        far = (points < -np.array(picture.size)) | (points > 2 * np.array(picture.size))
        outcome.points = np.where(far.any(1, keepdims=True), np.nan, points)
        outcome.stray = [
            title for title, is_inside in zip(self.names, inside, strict=True) if title in visible and not is_inside
        ]
        reason = self._misplaced(visible, outcome.stray, picture.size)
        if reason:
            rule = "missing" if reason.startswith("no ") else "place"
            outcome.reject(rule, reason)
            return outcome
        first, second, *third = (visible.get(title) for title in rules.names)
        assert first is not None  # _misplaced says so otherwise
        assert second is not None
        outcome.crop = align.by_points(first, second, rules.places, rules.size)
        outcome.patches = align.surroundings(picture, outcome.points, first, second)
        if third and third[0] is not None and third[0] not in (first, second):
            outcome.turn = align.turn(first, second, third[0])
        return outcome

    def _misplaced(self, visible: Mapping[str, align.Point], stray: Sequence[str], size: tuple[int, int]) -> str:
        """Why landmarks cannot be right; empty if nothing is wrong."""
        picture = f"the picture of {size[0]}x{size[1]} pixels"
        first, second, *third = self.rules.names
        if missing := [title for title in (first, second) if title not in visible]:
            return f"no {' and no '.join(missing)}"
        if wrong := [title for title in (first, second) if title in stray]:
            return f"{' and '.join(wrong)} outside {picture}"
        if 2 * len(stray) > len(visible):
            return f"{len(stray)} of {len(visible)} landmarks outside {picture}, as if they were for another size"
        one, two = visible[first], visible[second]
        if math.dist(one, two) < NEAREST:
            return f"{first} and {second} are at one place"
        if third and third[0] in visible and self.side:
            if align.side_of(one, two, visible[third[0]]) * self.side < 0 and third[0] not in stray:
                return f"{first} and {second} are exchanged, or {third[0]} is wrong: it lies on the other side of them than elsewhere"
        elif (two[0] - one[0]) * (self.rules.places[2] - self.rules.places[0]) < 0:
            return f"{first} and {second} are exchanged, or the picture is upside down"
        return ""

    def _by_box(self, name: str, picture: Pillow.Image, box: Sequence[float]) -> Outcome:
        """The square around a box."""
        outcome = Outcome(name)
        width, height = picture.size
        try:
            across, down = positions.scale((box[4], box[5]), width, height)
            left, top, wide, high = align.clip_box(
                [box[0] * across, box[1] * down, box[2] * across, box[3] * down], width, height
            )
        except UnusableImageError as reason:
            outcome.reject("place", str(reason))
            return outcome
        outcome.points = np.array([[left, top], [left + wide, top], [left + wide, top + high], [left, top + high]])
        outcome.crop = align.by_box((left, top, wide, high), width, height, self.rules.scale, self.rules.size)
        return outcome

    def _finish(self, outcome: Outcome, picture: Pillow.Image) -> Pillow.Image | None:
        """The pixels of a crop, if it follows the rules."""
        rules, crop = self.rules, outcome.crop
        if crop is None:
            return None
        outcome.outside = align.share_outside(crop, *picture.size)
        limit = 0.0 if rules.outside == "reject" else MOST_OUTSIDE
        if outcome.outside > limit:
            outcome.reject("outside", f"{outcome.outside:.1%} of its crop lies outside the picture")
        if crop.side < rules.smallest - 1e-6:
            outcome.reject("smallest", f"its crop has {crop.side:.0f} pixels a side")
        if rules.frontal is not None and (outcome.turn is None or outcome.turn > rules.frontal):
            turned = f"no {rules.names[2]}" if outcome.turn is None else f"turned by {outcome.turn:.2f}"
            outcome.reject("frontal", turned)
        if outcome.rule:
            return None
        image = align.warp(picture, crop, rules.outside)
        outcome.sharpness = align.sharpness(image)
        if rules.sharp is not None and outcome.sharpness < rules.sharp:
            outcome.reject("sharp", f"sharpness {outcome.sharpness:.3g}")
        return None if outcome.rule else image


def reject_strays(outcomes: Sequence[Outcome]) -> str:
    """Rejects pictures whose landmarks do not lie on what those of the other pictures lie on, as when they are for another picture.

    Returns:
        Why this was not examined; empty if it was.
    """
    examined = [outcome for outcome in outcomes if outcome.patches is not None]
    if len(examined) < FEWEST:
        return f"fewer than {FEWEST} pictures"
    values = align.resemblance([outcome.patches for outcome in examined if outcome.patches is not None])
    for outcome, value in zip(examined, values.tolist(), strict=True):
        outcome.resemblance, outcome.patches = value, None
    typical = float(np.median(values))
    if typical < TYPICAL:
        return (
            f"what lies around landmarks differs from picture to picture (their correlation with the mean is {typical:.2f})"
        )
    for outcome in examined:
        if outcome.resemblance is not None and outcome.resemblance < LOWEST:
            outcome.rule = "place"
            outcome.reason = (
                "its landmarks lie on other things than those of the other pictures, as if they were for another picture or size "
                f"(resemblance {outcome.resemblance:.2f}, usually {typical:.2f})"
            )
    return ""
