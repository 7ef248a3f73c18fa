"""The recommended training: what `train` does if no recipe is named. `choose` and the numbers above it are the whole rule.

Its main parts, augmentation, size and width, were measured by `bench/small_data.py`: docs/results/small-data.md. Where
a number was assumed, its docstring says so. `commands.recommend` applies the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from leafwing.quantities import show_count, show_duration

HOUR = 3600.0
"""Seconds of training, unless the user sets another time or a number of images."""
ENOUGH = {64: 500_000, 32: 0}
"""Widths, the widest first, and the length of training in images from which on each is preferred to the next. Measured: 64 is better
than 32 after as many images, and worse after 97,536 and 195,000 than 32 after as many as take the same time. So 500,000 is assumed."""
BATCH = 64
"""Batch size of all measurements; others were not tried."""
LEAST = 150_000
"""Length of training in images: with less at a larger size, 32 px are chosen. Measured: 68,000 images at 64 px are worse than as many
at 32 px as take the same time (300,000), 200,000 are good; the limit between them is assumed."""
RECOGNISABLE = 100_000
"""Length of training in images before which things can hardly be recognised, at 32 and 64 px."""
EXPECTATION = "expect blurs or blobs, because things can be recognised only after 100,000 images or more"
"""What is said of shorter trainings."""
MANY_RECOGNISABLE = 200_000
"""Length from which on many samples of the recommended training can be recognised. Measured on cat faces at 64 px, by eye and by
precision in the features `lite0`: 0 to .14 after 97,536 images, .35 to .47 after 200,000."""
SMALL = 32
"""The smaller size, in pixels."""
MARGIN = 0.95
"""Share of the time that is planned: the measured speed is uncertain, and checkpoints and samples take time too."""
MOST = 3_000_000
"""The longest training in images, assumed: the longest that was measured has 403,456."""
MANY_POINTS = 2_000_000
"""The longest training on points. Their networks are so small that this takes minutes."""
AVERAGED = 10_000
"""Half-life of the average of G's weights, in images. All measurements had it; neither other values nor training without it were tried
with this batch size."""
FEWEST = 67
"""The smallest number of images that was measured."""
FEW = 10_000
"""With fewer images, critics see augmented ones. Measured with 500 and 4,638; the limit is assumed."""
AUGMENT = "diff:color,translation"
"""The augmentation. Measured on 4,638 cats at 64 px: with cutout, 21% and 11% of the samples (two seeds) had grey rectangles,
and KID was higher."""
AUGMENTED = (
    f"augment {AUGMENT}: with fewer than {FEW:,} images D sees them with random changes, so that it cannot memorise them"
)
"""What is said about it."""
OF_A_CLASS = 100
"""Images of the smallest class from which on labels are used, so that one can ask for a class; assumed."""
CONDITION_SCALE = 4.0
"""Factor of labels in G's input, where a label has length 1 and 100 latents about 10. Measured on clothes and on CIFAR-10, ten classes
each: with 1 labels have little effect, with 10 the samples of a class are alike."""

Kind = Literal["images", "points", "pairs", "enlarging", "unpaired"]
"""What is trained on: images, points, images with inputs of the same size or with smaller ones, images with unpaired inputs."""
MIRROR = (
    "not mirrored, because only you know whether that is allowed: add --mirror if left and right mean the same, as in faces"
)
"""What is said about an option that would help with few images, and cannot be chosen from them."""
HOLD_OUT = "nothing is held out: add --hold-out auto (here {:,}) to measure the result on images that training has not seen"
"""What is said where nothing is: after training it is too late."""
RECIPES = ("dcgan", "cgan", "pix2pix", "srgan", "cut", "r3gan")
"""The recipes that the rule may choose."""


@dataclass(frozen=True)
class Facts:
    """What the choice depends on.

    Args:
        kind: what is trained on.
        pictures: number of images (or points).
        side: the longer side of the images, in pixels.
        smallest: number of images of the smallest class; None without classes.
        labelled: whether they have labels or attributes.
        unlabelled: number of images without, which are read because labels are not used.
        images: training length set by the user; None: as many as the time allows.
        seconds: training time.
        may_shrink: whether the size may be chosen.
        chosen: names of the settings and options that the user has set, for which nothing is recommended.
        before: images that the weights were trained on from which training starts.
    """

    kind: Kind
    pictures: int
    side: int = 64
    smallest: int | None = None
    labelled: bool = False
    unlabelled: int = 0
    images: int | None = None
    seconds: float = HOUR
    may_shrink: bool = False
    chosen: Collection[str] = ()
    before: int = 0


@dataclass(frozen=True)
class Choice:
    """A recommended training.

    Args:
        recipe: its name.
        options: its options, where they differ from the defaults.
        settings: settings, where they differ from the defaults.
        reasons: why, one line each.
        speed: images per second on this machine; None if the length was not chosen by it.
    """

    recipe: str
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    speed: float | None = None


BY_KIND: Mapping[str, Choice] = {
    "points": Choice("r3gan", reasons=["points: this recipe covered every mode in every seed"]),
    "unpaired": Choice("cut", reasons=["two sources without pairs: the cheapest recipe for them"]),
    "enlarging": Choice("srgan", reasons=["images that are larger than their inputs"]),
    "pairs": Choice("pix2pix", reasons=["images with inputs of the same size"]),
}
"""The recipes for data that are not only images."""


def choose(facts: Facts, speed: Callable[[Choice], float]) -> Choice:
    """The rule.

    Args:
        facts: what the choice depends on.
        speed: how many images per second this machine shows; not called if the user has set the length.
    """
    if facts.kind != "images":
        return with_length(by_kind(facts), facts, speed)
    choice, shown = by_kind(facts), 0
    for width, enough in ENOUGH.items():
        choice = by_kind(facts, width)
        shown = facts.images or round(speed(choice) * facts.seconds * MARGIN)
        if shown >= enough:
            break
    if shown < LEAST and facts.may_shrink and facts.side > SMALL and facts.images is None:
        why = (
            f"size {SMALL}, because at {facts.side} px this machine shows only {show_count(shown)} images in "
            f"{show_duration(facts.seconds)}"
        )
        choice = replace(choice, settings={**choice.settings, "size": SMALL}, reasons=[*choice.reasons, why])
    return with_length(choice, facts, speed)


def by_kind(facts: Facts, width: int | None = None) -> Choice:
    """The recipe for the data, without what depends on the machine; of a generator of images with networks of this width."""
    return reading_all(BY_KIND.get(facts.kind) or generation(facts, width), facts)


def reading_all(choice: Choice, facts: Facts) -> Choice:
    """A choice that does not use labels, with the images that have none."""
    if not facts.unlabelled:
        return choice
    why = f"labels none: none are used, so that the {facts.unlabelled:,} images without one are read too"
    return replace(choice, settings={**choice.settings, "labels": "none"}, reasons=[*choice.reasons, why])


def uses_labels(facts: Facts) -> bool:
    """Whether each class has so many images that one may ask for it."""
    return facts.kind == "images" and facts.smallest is not None and facts.smallest >= OF_A_CLASS


def needs_augmentation(facts: Facts) -> bool:
    """Whether there are so few images that critics should see changed ones, unless the user has decided."""
    return facts.kind == "images" and facts.pictures < FEW and "augment" not in facts.chosen


def generation(facts: Facts, width: int | None = None) -> Choice:
    """The training of a generator of images, with networks of this width."""
    labelled = uses_labels(facts)
    reasons = [f"{facts.pictures:,} images"]
    if labelled:
        reasons[0] += f", at least {facts.smallest:,} of each class: you can ask for a class"
    elif facts.smallest is not None:
        reasons[0] += f", only {facts.smallest:,} of some classes: labels are not used"
    if facts.pictures < FEWEST:
        reasons[0] += (
            f", fewer than the {FEWEST} of the smallest set that was tried: expect copies of them, or little variety"
        )
    if "ema" not in facts.chosen:
        reasons.append(
            f"ema {show_count(AVERAGED)}: samples come from a moving average of G's weights, which has less noise than they have"
        )
    options: dict[str, bool | int | float | str] = {"batch": BATCH, "ema": AVERAGED}
    if width is not None:
        options["width"] = width
    if labelled:
        options["condition_scale"] = CONDITION_SCALE
    if labelled and "condition_scale" not in facts.chosen:
        reasons.append(f"condition-scale {CONDITION_SCALE:g}: labels count more in G's input, and take effect sooner")
    settings: dict[str, Any] = {}
    if needs_augmentation(facts):
        settings["augment"] = AUGMENT
        reasons.append(AUGMENTED)
    if facts.smallest is not None and not labelled:
        with_labels = {**options, "condition_scale": CONDITION_SCALE, **settings}
        chosen = " ".join(
            f"--{name.replace('_', '-')} {value if isinstance(value, str) else show_count(value)}"
            for name, value in with_labels.items()
            if name not in facts.chosen
        )
        reasons[0] += f" (--recipe cgan {chosen} would)"
    if "mirror" not in facts.chosen:
        reasons.append(MIRROR)
    return Choice("cgan" if labelled else "dcgan", options, settings, reasons)


def repetitions(images: int, pictures: int, points: bool = False) -> str:
    """How often a training of so many images shows each of these pictures, or points, as words."""
    epochs = images / pictures
    number = f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.1f}" if epochs >= 0.1 else f"{epochs:.1g}"
    return f"each {'point' if points else 'picture'} about {number} times"


def with_length(choice: Choice, facts: Facts, speed: Callable[[Choice], float]) -> Choice:
    """A choice with the number of images, as many as the time allows if the user has not set it, and what follows from it."""
    if facts.images is None:
        most = MANY_POINTS if facts.kind == "points" else MOST
        measured = speed(choice)
        possible = max(1, round(measured * facts.seconds * MARGIN))
        images = min(most, possible)
        images -= images % 10 ** max(0, len(str(images)) - 2)
        if possible > most:
            seconds = max(1, round(facts.seconds * most / possible))
            why = (
                f"{show_count(images)} images, the most that are recommended: about {show_duration(seconds)} on this machine"
            )
        else:
            why = f"{show_duration(facts.seconds)} of training: this machine shows about {show_count(images)} images"
        why += f", {repetitions(images, facts.pictures, facts.kind == 'points')}"
        if facts.kind in ("pairs", "enlarging", "unpaired") and images + facts.before < facts.pictures:
            why += "; expect nothing useful: choose a --time in which each is shown several times"
        if facts.kind == "images" and images + facts.before < RECOGNISABLE:
            why += f"; {EXPECTATION}"
        elif facts.kind == "images" and images + facts.before < MANY_RECOGNISABLE:
            why += (
                f"; expect things that can be recognised in some samples only: in many after {show_count(MANY_RECOGNISABLE)}"
            )
        choice = replace(
            choice,
            settings={**choice.settings, "images": images, "time": facts.seconds},
            reasons=[*choice.reasons, why],
            speed=measured,
        )
    return choice
