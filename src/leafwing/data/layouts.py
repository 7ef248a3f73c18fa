"""Recognises data for translators that are given without `--input`: which layout this is, and the option that reads it.

Only the doctor uses `recognise`: a source of images may look like pairs by accident. `pairs` reads them. Masks, which are known by
their names, are mentioned before training too.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leafwing.data.lists import read_text
from leafwing.data.pairs import SPLITS, strip_extension
from leafwing.data.reading import EntryInfo
from leafwing.data.sources import Source
from leafwing.errors import LeafwingError

SHARE = 0.9
"""At least this share of the images must fit a layout."""
MASKS = ("mask", "masks", "segmentation", "segmentations", "segmentationclass", "segmentationobject", "labelmaps", "trimaps")
"""Names of folders of masks, in lower case."""
_MASK = re.compile(r"(.+?)([-_. ](?:mask|masks|seg|segmentation|labelids|trimap)(?:_\d+)?)", re.IGNORECASE)
_SIDE = re.compile(rf"({SPLITS})[-_]?([AB])", re.IGNORECASE)


@dataclass(frozen=True)
class RecognisedLayout:
    """A layout of inputs.

    Args:
        kind: `list`, `folders`, `domains`, `suffixes` or `halves`.
        options: the values of `--input` that read it; of `domains` the folder that is the second source.
        text: what it looks like and what to do, for the user.
    """

    kind: str
    options: tuple[str, ...]
    text: str


def describe_masks(names: Sequence[str]) -> str:
    """A note about images that are masks of other images, by their names: `x_mask.png` beside `x.jpg`, or a folder `masks`.

    Args:
        names: of all images of a source that is read without `--input`.

    Returns:
        Empty without any.
    """
    bare = {name: strip_extension([name]) for name in names}
    stems = {*bare.values()}
    beside: dict[str, list[str]] = defaultdict(list)
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for name, whole in bare.items():
        if (match := _MASK.fullmatch(whole)) and match[1] in stems:
            beside[match[2]].append(name)
        folder, _, file = whole.rpartition("/")
        folders[folder.rpartition("/")[2].lower()][file] = name
    images = {file for folder, files in folders.items() if folder not in MASKS for file in files}
    masks = [name for suffix in beside for name in beside[suffix]]
    masks += [name for folder in MASKS for file, name in folders.get(folder, {}).items() if file in images]
    if not masks:
        return ""
    how = next(iter(beside), "") or masks[0].rpartition("/")[0].rpartition("/")[2]
    return (
        f"Masks are among the images, and are trained on like them: {len(masks):,}, such as {masks[0]}. Move them out of the source, "
        f"or use them as inputs with --input {how}."
    )


def recognise(source: Source, infos: Sequence[EntryInfo]) -> list[RecognisedLayout]:
    """The layouts that the images of a source fit, most certain first.

    Args:
        source: an open source, read without `--input`.
        infos: its survey.
    """
    names = [info.entry.name for info in infos]
    layouts = [*_lists(source), *_folders(source, names), *_suffixes(names), *_halves(infos)]
    return layouts if names else []


def _lists(source: Source) -> list[RecognisedLayout]:
    layouts = []
    for file in source.side_files:
        if not file.lower().endswith(".csv"):
            continue
        try:
            text = read_text(source, file)
        except LeafwingError:  # not a list
            continue
        header = {cell.strip().strip('"').lower() for cell in text.split("\n", 1)[0].split(",")}
        if "input" in header and header & {"image", "file"}:
            layouts.append(RecognisedLayout("list", (file,), f"{file} lists pairs: --input {file} reads them."))
    return layouts


def _folders(source: Source, names: Sequence[str]) -> list[RecognisedLayout]:
    """Two folders beside each other, possibly in each split: pairs if names are equal; trainA and trainB may be unpaired."""
    sides: dict[str, set[str]] = defaultdict(set)
    joined: dict[str, str] = {}
    for name in names:
        *folders, file = name.split("/")
        split = ""
        for folder in folders:
            if match := _SIDE.fullmatch(folder):
                split, folder = match[1].lower(), match[2].upper()
                if split.startswith("train") or folder not in joined:  # rather than testA
                    joined[folder] = match[0]
            elif re.fullmatch(SPLITS, folder, re.IGNORECASE):
                split = folder.lower()
                continue
            sides[folder].add(f"{split}/{strip_extension([file])}")
    counts = {folder: len(files) for folder, files in sides.items()}
    candidates = [folder for folder, count in counts.items() if count < len(names)]
    if len(candidates) != 2 or sum(counts[folder] for folder in candidates) < SHARE * len(names):
        return []
    first, second = sorted(candidates)
    equal = len(sides[first] & sides[second])
    if equal >= SHARE * max(counts[first], counts[second]):
        text = (
            f"{first} and {second} look like pairs, with {equal:,} equal names: --input {first} translates {first} into {second}, "
            f"--input {second} the other way."
        )
        return [RecognisedLayout("folders", (first, second), text)]
    if {*joined} == {first, second}:
        paths = [f"{source.path}/{joined[side]}" for side in (first, second)]
        text = (
            f"{joined[first]} and {joined[second]} look like two unpaired domains: give {paths[1]} as the source and "
            f"--input {paths[0]}, or the other way."
        )
        return [RecognisedLayout("domains", (paths[0], paths[1]), text)]
    return []


def _suffixes(names: Sequence[str]) -> list[RecognisedLayout]:
    """Names that end in one of two words: x_A and x_B."""
    ends: dict[str, set[str]] = defaultdict(set)
    for name in names:
        folder, _, file = name.rpartition("/")
        if match := re.fullmatch(r"(.+?)[-_. ]([^-_. ]+)", strip_extension([file])):
            ends[match[2]].add(f"{folder}/{match[1]}")
    best = Counter({end: len(bases) for end, bases in ends.items()}).most_common(2)
    if len(best) < 2 or best[1][1] < 2 or 2 * len(ends[best[0][0]] & ends[best[1][0]]) < SHARE * len(names):
        return []
    first, second = sorted(end for end, _ in best)
    text = (
        f"File names that end in {first} and {second} look like pairs: --input {first} translates {first} into {second}, "
        f"--input {second} the other way."
    )
    return [RecognisedLayout("suffixes", (first, second), text)]


def _halves(infos: Sequence[EntryInfo]) -> list[RecognisedLayout]:
    """Images of twice the width, as pix2pix's combine_A_and_B.py makes them."""
    ratios = np.array([info.header.width / info.header.height for info in infos if info.header])
    if not len(ratios) or (np.abs(ratios / 2 - 1) < 0.02).mean() < SHARE:
        return []
    text = (
        "The images are twice as wide as high. If each is two images side by side, --input left translates the left half into the "
        "right one, --input right the other way."
    )
    return [RecognisedLayout("halves", ("left", "right"), text)]
